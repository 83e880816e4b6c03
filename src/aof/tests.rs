//! The log against a disk in memory: each rule holds, and breaks when its bug is planted.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests start threads of their own")]

use super::names::segment_name;
use super::test_env::TestEnv;
use super::*;
use crate::base::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

const DIR: &str = "wal";

fn options() -> LogOptions {
    LogOptions { segment_bytes: 8192, ..LogOptions::default() }
}

fn path(number: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(number))
}

/// Opens and returns the payloads.
fn open(env: &TestEnv) -> Result<(Log<TestEnv>, Vec<Vec<u8>>, RecoveryReport)> {
    open_with(env, options())
}

fn open_with(env: &TestEnv, options: LogOptions) -> Result<(Log<TestEnv>, Vec<Vec<u8>>, RecoveryReport)> {
    let mut payloads = Vec::new();
    let (log, report) = Log::open(env.clone(), Path::new(DIR), options, &mut |frame| {
        payloads.push(frame.payload.to_vec());
        Ok(())
    })?;
    Ok((log, payloads, report))
}

fn append(log: &Log<TestEnv>, payload: &[u8]) -> Result<Lsn> {
    log.append(&Append { kind: FrameKind::Data, count: 1, first_id: 0, tag: 0, parts: &[payload] })
}

/// Appends and syncs each payload by itself.
fn append_synced(log: &Log<TestEnv>, payloads: &[Vec<u8>]) {
    for payload in payloads {
        let end = append(log, payload).unwrap();
        log.sync_to(end).unwrap();
    }
}

fn payloads(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| vec![at as u8 + 1; len]).collect()
}

fn recover(env: &TestEnv) -> Vec<Vec<u8>> {
    open(env).unwrap().1
}

fn damage_of(error: Error) -> (PathBuf, u64) {
    match error.kind() {
        ErrorKind::Corruption { file, offset } => (file.clone(), *offset),
        kind => panic!("not a corruption: {kind:?}"),
    }
}

#[test]
fn synced_frames_survive_a_power_loss_and_staged_ones_do_not() {
    let env = TestEnv::default();
    let (log, _, report) = open(&env).unwrap();
    assert_eq!((report.first_lsn, report.end, report.segments), (Lsn(0), Lsn(0), 0));
    append_synced(&log, &payloads(100, 5));
    append(&log, b"not synced").unwrap();
    assert!(log.durable() < log.end());
    env.lose_power();
    assert_eq!(recover(&env), payloads(100, 5));
}

#[test]
fn written_frames_survive_the_process() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    for payload in payloads(3, 700) {
        append(&log, &payload).unwrap();
    }
    log.write_out().unwrap();
    append(&log, b"staged only").unwrap();
    drop(log);
    assert_eq!(recover(&env), payloads(3, 700));
}

#[test]
fn segments_roll_and_positions_go_on() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    // Rolls while staging and while syncing.
    for chunk in payloads(50, 1000).chunks(7) {
        let ends: Vec<Lsn> = chunk.iter().map(|payload| append(&log, payload).unwrap()).collect();
        log.sync_to(ends[ends.len() - 1]).unwrap();
    }
    assert_eq!(log.end(), Lsn(50 * 1040));
    assert!(log.stats().rolls > 10);
    env.lose_power();
    let (log, found, report) = open(&env).unwrap();
    assert_eq!(found, payloads(50, 1000));
    assert_eq!((report.first_lsn, report.frames), (Lsn(0), 50));
    assert!(log.end() >= Lsn(50 * 1040));
}

#[test]
fn frames_larger_than_a_segment_get_one_of_their_own() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    let sizes = [10, 5000, 10, 300 << 10, 8, 8192, 1, (256 << 10) + 3];
    let all: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, len)| vec![at as u8; *len]).collect();
    for payload in &all {
        append(&log, payload).unwrap();
    }
    log.sync_to(log.end()).unwrap();
    assert!(env.was_reached("aof.direct"));
    env.lose_power();
    assert_eq!(recover(&env), all);
    assert_eq!(recover(&env), all);
}

#[test]
fn close_is_idempotent_marks_the_end_and_refuses_appends() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append(&log, b"a").unwrap();
    log.close().unwrap();
    log.close().unwrap();
    assert_eq!(log.stats().marks, 1);
    assert_eq!(append(&log, b"b").unwrap_err().kind(), &ErrorKind::Closed);
    env.lose_power();
    for _ in 0..5 {
        let (log, found, _) = open(&env).unwrap();
        assert_eq!(found, [b"a"]);
        log.close().unwrap();
    }
    // An idle log does not grow.
    assert!(env.files().len() <= 4, "{:?}", env.files());
}

#[test]
fn arguments_out_of_range_are_refused() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    assert_eq!(append(&log, b"").unwrap_err().kind(), &ErrorKind::InvalidArgument);
    let mark = Append { kind: FrameKind::Mark, count: 0, first_id: 0, tag: 0, parts: &[b"x"] };
    assert_eq!(log.append(&mark).unwrap_err().kind(), &ErrorKind::InvalidArgument);
    for segment_bytes in [0, 4096, 8191, 1 << 33] {
        assert!(LogOptions { segment_bytes, ..options() }.validate().is_err());
    }
}
