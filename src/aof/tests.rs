//! The log against a disk in memory: each rule holds, and breaks when its bug is planted.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests start threads of their own")]

use super::format::HEADER_BYTES;
use super::names::segment_name;
use super::test_env::TestEnv;
use super::*;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, StdEnv};
use proptest::prelude::*;
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
    let append = Append { kind: FrameKind::Data, count: 1, first_id: Some(0), tag: 0, parts: &[payload] };
    log.append(&append).map(|appended| appended.end)
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
fn appends_go_on_while_a_segment_is_begun() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append(&log, &[1; 100]).unwrap();
    log.prepare_spare().unwrap();
    let other = log.clone();
    // The sync that ends the first segment; the thread in it holds the I/O lock.
    env.during_sync(move || {
        for number in 2..=20u8 {
            append(&other, &[number; 100]).unwrap();
        }
        assert!(other.written() < other.end(), "nothing was handed over meanwhile");
    });
    let base = log.seal().unwrap();
    assert_eq!(log.stats().rolls, 1);
    assert!(base < log.end(), "the frames lie in the second segment");
    log.sync_to(log.end()).unwrap();
    assert!(survives(&env, &payloads(20, 100)));
}

#[test]
fn a_segment_ends_early_only_if_it_ends_soon() {
    let env = TestEnv::default();
    let (log, ..) = open_with(&env, LogOptions { segment_bytes: 64 << 10, ..options() }).unwrap();
    let fill = |to: u64| {
        while log.end().0 < to {
            append(&log, &[1; 100]).unwrap();
        }
        log.roll_ahead().unwrap();
        log.stats().rolls
    };
    assert_eq!(fill(40 << 10), 0);
    assert_eq!(fill(56 << 10), 1);
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
    assert!(env.files().len() <= 5, "{:?}", env.files());
}

#[test]
fn arguments_out_of_range_are_refused() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    assert_eq!(append(&log, b"").unwrap_err().kind(), &ErrorKind::InvalidArgument);
    let mark = Append { kind: FrameKind::Mark, count: 0, first_id: Some(0), tag: 0, parts: &[b"x"] };
    assert_eq!(log.append(&mark).unwrap_err().kind(), &ErrorKind::InvalidArgument);
    for segment_bytes in [0, 4096, 8191, 1 << 33] {
        assert!(LogOptions { segment_bytes, ..options() }.validate().is_err());
    }
}

/// Runs `holds` without and with `bug`: it must hold, and must not.
fn rule(bug: &'static str, holds: impl Fn(&TestEnv) -> bool) {
    assert!(holds(&TestEnv::default()), "broken without any bug");
    let env = TestEnv::default();
    env.plant(bug);
    assert!(!holds(&env), "{bug} goes unnoticed");
}

/// Returns true if a recovery after a power loss yields `expected`.
fn survives(env: &TestEnv, expected: &[Vec<u8>]) -> bool {
    env.lose_power();
    env.unplant();
    open(env).is_ok_and(|(_, found, _)| found == expected)
}

#[test]
fn r1_nothing_is_appended_behind_a_recovered_tail() {
    rule("aof_append_after_torn_tail", |env| {
        let all = payloads(3, 100);
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &all[..1]);
        append(&log, &all[1]).unwrap();
        append(&log, &all[2]).unwrap();
        log.write_out().unwrap();
        // Of two writes in flight, the second made it.
        env.damage(&path(1), |bytes| bytes[HEADER_BYTES + 144..HEADER_BYTES + 2 * 144].fill(0));
        let (log, found, report) = open(env).unwrap();
        assert_eq!(found, all[..1]);
        assert!(report.torn_bytes > 0);
        append_synced(&log, &[vec![9; 100]]);
        survives(env, &[all[0].clone(), vec![9; 100]])
    });
}

#[test]
fn r2_damage_below_a_mark_is_named_and_not_taken_for_a_torn_tail() {
    for bug in ["aof_marks_ignored", "aof_marks_never_advance"] {
        rule(bug, |env| {
            let (log, ..) = open(env).unwrap();
            append_synced(&log, &payloads(3, 100));
            let second = HEADER_BYTES + 144;
            env.damage(&path(1), |bytes| bytes[second + 60] ^= 4);
            match open(env) {
                Err(error) => {
                    assert_eq!(damage_of(error), (path(1), second as u64));
                    true
                }
                Ok((_, found, _)) => {
                    assert_eq!(found, payloads(1, 100));
                    false
                }
            }
        });
    }
}

#[test]
fn r2_damage_in_any_but_the_last_segment_is_named() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append_synced(&log, &payloads(10, 1000));
    env.damage(&path(2), |bytes| bytes[HEADER_BYTES + 1040 + 3] ^= 1);
    assert_eq!(damage_of(open(&env).map(|_| ()).unwrap_err()), (path(2), (HEADER_BYTES + 1040) as u64));
}

#[test]
fn r2_the_last_frame_is_covered_once_a_mark_is_behind_it() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append_synced(&log, &payloads(2, 100));
    log.mark().unwrap();
    log.mark().unwrap();
    assert_eq!(log.stats().marks, 1);
    env.damage(&path(1), |bytes| bytes[HEADER_BYTES + 144] ^= 1);
    assert_eq!(damage_of(open(&env).map(|_| ()).unwrap_err()), (path(1), (HEADER_BYTES + 144) as u64));
}

#[test]
fn r3_what_recovery_shows_is_durable() {
    for sync_fails in [false, true] {
        rule("aof_no_tail_rewrite", |env| {
            let (log, ..) = open(env).unwrap();
            append_synced(&log, &payloads(1, 100));
            let end = append(&log, &[2; 100]).unwrap();
            if sync_fails {
                // The page is clean from now on, and not on the disk.
                env.fail_sync_in(0);
                log.sync_to(end).unwrap_err();
            } else {
                log.write_out().unwrap();
            }
            assert_eq!(recover(env), payloads(2, 100));
            survives(env, &payloads(2, 100))
        });
    }
}

#[test]
fn r3_a_recovered_tail_is_covered_by_a_mark() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append_synced(&log, &payloads(1, 100));
    append(&log, &[2; 100]).unwrap();
    log.write_out().unwrap();
    open(&env).unwrap();
    assert!(env.was_reached("aof.tail_copied"));
    let last = env.files().into_iter().rfind(|file| file.extension().unwrap() == "log").unwrap();
    env.damage(&last, |bytes| bytes[HEADER_BYTES + 45] ^= 1);
    assert_eq!(damage_of(open(&env).map(|_| ()).unwrap_err()).0, last);
}

#[test]
fn r4_a_segment_is_durable_before_the_next() {
    rule("aof_roll_without_sync", |env| {
        let (log, ..) = open(env).unwrap();
        let all = payloads(4, 1000);
        for payload in &all {
            append(&log, payload).unwrap();
        }
        log.sync_to(log.end()).unwrap();
        survives(env, &all)
    });
}

#[test]
fn r5_a_segment_is_named_before_it_is_acknowledged() {
    rule("aof_no_dir_sync_on_roll", |env| {
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &payloads(4, 1000));
        survives(env, &payloads(4, 1000))
    });
}

#[test]
fn r6_a_missing_segment_is_named() {
    rule("aof_gap_ignored", |env| {
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &payloads(10, 1000));
        env.forget(&path(2));
        match open(env) {
            Err(error) => damage_of(error) == (path(2), 0),
            Ok(_) => false,
        }
    });
}

#[test]
fn r6_ids_continue_if_asked_for() {
    let env = TestEnv::default();
    let counted = LogOptions { ids_contiguous: true, ..options() };
    let append = |log: &Log<TestEnv>, first_id| {
        log.append(&Append { kind: FrameKind::Data, count: 3, first_id: Some(first_id), tag: 0, parts: &[&[7; 900]] })
    };
    let (log, ..) = open_with(&env, counted.clone()).unwrap();
    for first_id in (1..31).step_by(3) {
        assert_eq!(append(&log, first_id + 1).unwrap_err().kind(), &ErrorKind::Conflict);
        log.sync_to(append(&log, first_id).unwrap().end).unwrap();
    }
    log.truncate_before(Lsn(5000)).unwrap();
    append(&log, 31).unwrap();
    log.write_out().unwrap();
    for _ in 0..3 {
        let (log, found, _) = open_with(&env, counted.clone()).unwrap();
        assert!(found.len() < 11);
        // Only the recovered tail is left: the next open knows its first id.
        log.truncate_before(log.end()).unwrap();
    }
    let (log, ..) = open_with(&env, counted).unwrap();
    assert!(append(&log, 31).is_err());
    append(&log, 34).unwrap();
}

#[test]
fn r7_a_failed_sync_poisons_the_log() {
    rule("aof_ignore_sync_error", |env| {
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &payloads(1, 100));
        let end = append(&log, &[2; 100]).unwrap();
        env.fail_sync_in(0);
        if log.sync_to(end).is_ok() {
            return survives(env, &payloads(2, 100));
        }
        assert_eq!(append(&log, b"x").unwrap_err().kind(), &ErrorKind::Poisoned);
        for refused in [log.sync_to(end), log.write_out(), log.mark(), log.truncate_before(end), log.close()] {
            assert_eq!(refused.unwrap_err().kind(), &ErrorKind::Poisoned);
        }
        assert!(log.poisoned().unwrap().to_string().contains("lost a write"));
        // What was acknowledged before stays so.
        log.sync_to(Lsn(144)).unwrap();
        survives(env, &payloads(1, 100))
    });
}

#[test]
fn r8_a_sync_covers_only_what_was_written_before_it() {
    rule("aof_ack_later_appends", |env| {
        let (log, ..) = open(env).unwrap();
        let end = append(&log, &[1; 100]).unwrap();
        let other = log.clone();
        env.during_sync(move || {
            append(&other, &[2; 100]).unwrap();
            other.write_out().unwrap();
        });
        log.sync_to(end).unwrap();
        log.sync_to(log.end()).unwrap();
        survives(env, &payloads(2, 100))
    });
}

#[test]
fn a_sync_comes_before_its_acknowledgement() {
    rule("aof_ack_before_sync", |env| {
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &payloads(1, 100));
        survives(env, &payloads(1, 100))
    });
}

#[test]
fn r9_a_full_disk_opens_keeps_everything_and_goes_on_once_there_is_room() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append_synced(&log, &payloads(3, 1000));
    env.set_room(Some(0));
    let mut written = 3;
    while append(&log, &[written as u8 + 1; 1000]).is_ok() {
        written += 1;
    }
    log.write_out().unwrap();
    drop(log);
    for _ in 0..5 {
        let (log, found, _) = open(&env).unwrap();
        assert_eq!(found, payloads(written, 1000));
        drop(log);
        env.lose_power();
    }
    assert!(env.was_reached("aof.full_disk_open"));
    env.set_room(None);
    let (log, ..) = open(&env).unwrap();
    append_synced(&log, &[vec![written as u8 + 1; 1000]]);
    assert!(survives(&env, &payloads(written + 1, 1000)));
}

#[test]
fn r11_a_segment_that_is_read_is_not_written_over() {
    rule("aof_recycle_under_reader", |env| {
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &payloads(8, 1000));
        let reader = log.open_segment(1).unwrap();
        assert!(std::sync::Arc::ptr_eq(&reader, &log.open_segment(1).unwrap()));
        let end = reader.end_lsn().unwrap();
        log.truncate_before(log.durable()).unwrap();
        assert_eq!(log.open_segment(1).unwrap_err().kind(), &ErrorKind::NotFound);
        append_synced(&log, &payloads(30, 1000));
        let mut frames = reader.frames(0, end.0);
        let mut found = Vec::new();
        while let Ok(scan::Step::Frame { header, payload, .. }) = frames.next() {
            if header.kind.is_callers() {
                found.push(payload.to_vec());
            }
        }
        found == payloads(8, 1000)[..found.len()] && frames.lsn() == end.0
    });
}
/// Fills the device and makes room again; returns true if every acknowledged record survives a power loss.
fn full_and_room_again(env: &TestEnv, options: &LogOptions, room: u64, len: usize) -> bool {
    let (log, ..) = open_with(env, options.clone()).unwrap();
    env.set_room(Some(room));
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for round in 0..3u8 {
        // Some that nobody waits for stand before the one that is refused.
        let refused = loop {
            let payload = vec![(kept.len() + 1) as u8; len];
            match append(&log, &payload) {
                Ok(_) => kept.push(payload),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), &ErrorKind::NoSpace);
        let before = log.end();
        assert_eq!(append(&log, &vec![0; len]).unwrap_err().kind(), &ErrorKind::NoSpace);
        assert_eq!((log.end(), log.poisoned().is_none()), (before, true), "a refusal changes nothing");
        if let Err(error) = log.seal() {
            assert_eq!((error.kind(), log.poisoned().is_none()), (&ErrorKind::NoSpace, true));
        }
        if round > 0 && log.sync_to(log.end()).is_err() {
            return false;
        }
        env.set_room(Some(options.segment_bytes + 3 * len as u64));
    }
    let payload = vec![(kept.len() + 1) as u8; len];
    let Ok(end) = append(&log, &payload) else { return false };
    kept.push(payload);
    if log.sync_to(end).is_err() {
        return false;
    }
    env.lose_power();
    env.unplant();
    env.set_room(None);
    open_with(env, options.clone()).is_ok_and(|(_, found, _)| found == kept)
}

#[test]
fn a_full_device_refuses_and_the_same_handle_goes_on_once_there_is_room() {
    for segment_bytes in [8192, 65536, 1 << 20] {
        for (room, len) in [(0, 1000), (100, 1000), (5000, 1), (100_000, 3000), (0, 300 << 10)] {
            let options = LogOptions { segment_bytes, ..options() };
            let result = std::panic::catch_unwind(|| full_and_room_again(&TestEnv::default(), &options, room, len));
            assert!(result.is_ok_and(|kept| kept), "{segment_bytes} {room} {len}");
        }
    }
}

#[test]
fn frames_that_wait_survive_a_refusal() {
    let env = TestEnv::default();
    env.plant("aof_refusal_drops_batch");
    let run = || full_and_room_again(&env, &LogOptions { segment_bytes: 65536, ..options() }, 0, 1000);
    assert!(!std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(false));
}

#[test]
fn a_log_that_is_full_closes_and_opens_clean() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    env.set_room(Some(0));
    let mut kept = 0;
    while append(&log, &[kept as u8 + 1; 900]).is_ok() {
        kept += 1;
    }
    assert!(env.was_reached("aof.refused"));
    log.close().unwrap();
    assert_eq!(log.stats().marks, 1, "room for a MARK is held back");
    env.lose_power();
    let (_, found, report) = open(&env).unwrap();
    assert_eq!(found, payloads(kept, 900));
    assert_eq!((report.tail_bytes, report.torn_bytes), (48, 0), "nothing but the MARK itself");
}

#[test]
fn seal_ends_a_segment_that_holds_something() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    assert_eq!(log.seal().unwrap(), Lsn(0));
    append(&log, &[1; 100]).unwrap();
    assert_eq!(log.seal().unwrap(), Lsn(144));
    assert_eq!((log.durable(), log.written(), log.seal().unwrap()), (Lsn(144), Lsn(144), Lsn(144)));
    append(&log, &[2; 100]).unwrap();
    let infos = log.segments();
    assert_eq!(
        infos.iter().map(|info| (info.number, info.end_lsn)).collect::<Vec<_>>(),
        [(1, Some(Lsn(144))), (2, None)]
    );
    assert!(infos.iter().all(|info| env.files().contains(&info.path)));
    env.lose_power();
    assert_eq!(recover(&env), payloads(1, 100));
}

#[test]
fn a_prepared_spare_is_the_next_segment() {
    let env = TestEnv::default();
    let options = LogOptions { segment_bytes: 1 << 20, ..options() };
    let (log, ..) = open_with(&env, options.clone()).unwrap();
    env.set_room(Some(100_000));
    let files = env.files();
    assert_eq!(log.prepare_spare().unwrap_err().kind(), &ErrorKind::NoSpace);
    assert_eq!((env.files(), log.poisoned().is_none()), (files, true));
    env.set_room(None);
    assert_eq!((log.prepare_spare().unwrap(), log.prepare_spare().unwrap()), (true, false));
    append(&log, &[1; 100]).unwrap();
    log.seal().unwrap();
    // The whole segment is there already.
    env.set_room(Some(0));
    let all: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 50_000]).collect();
    append_synced(&log, &all);
    assert_eq!(log.stats().recycled, 1);
    env.lose_power();
    env.set_room(None);
    assert_eq!(open_with(&env, options).unwrap().1[1..], all);
}

#[test]
fn r10_unknown_files_are_reported_and_left_alone() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    append_synced(&log, &payloads(1, 10));
    let strange = Path::new(DIR).join("notes.txt");
    env.disk().open(&strange, OpenMode::CreateNew).unwrap();
    for _ in 0..3 {
        let (_, found, report) = open(&env).unwrap();
        assert_eq!(found, payloads(1, 10));
        assert_eq!(report.unknown, ["notes.txt"]);
    }
    assert!(env.files().contains(&strange));
}

#[test]
fn r10_a_dropped_segment_whose_name_comes_back_is_removed() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    let all = payloads(10, 1000);
    append_synced(&log, &all);
    let first = env.read(&path(1));
    log.truncate_before(log.durable()).unwrap();
    assert!(!env.files().contains(&path(1)));
    drop(log);
    // This one says from which segment on the log begins.
    let kept = recover(&env);
    env.disk().open(&path(1), OpenMode::CreateNew).unwrap().write_at(&first, 0).unwrap();
    assert_eq!(recover(&env), kept);
    assert!(env.was_reached("aof.stale_name") && !env.files().contains(&path(1)));
}

#[test]
fn recycled_frames_do_not_come_back() {
    rule("aof_no_lsn_in_crc", |env| {
        let (log, ..) = open(env).unwrap();
        let all = payloads(7, 1000);
        append_synced(&log, &all[..6]);
        log.truncate_before(log.durable()).unwrap();
        append_synced(&log, &all[6..7]);
        assert!(log.stats().recycled > 0);
        open(env).unwrap().1 == all[3..7]
    });
}

#[test]
fn truncation_keeps_what_is_not_below() {
    rule("aof_truncate_too_far", |env| {
        let (log, ..) = open(env).unwrap();
        let all = payloads(10, 1000);
        append_synced(&log, &all);
        // The fourth record of ten, three to a segment.
        log.truncate_before(Lsn(4 * 1040)).unwrap();
        survives(env, &all[3..])
    });
}

#[test]
fn checksums_are_compared() {
    rule("aof_no_crc", |env| {
        let (log, ..) = open(env).unwrap();
        append_synced(&log, &payloads(2, 100));
        env.damage(&path(1), |bytes| bytes[HEADER_BYTES + 60] ^= 1);
        open(env).is_err()
    });
}

#[test]
fn no_record_is_later_than_the_base_of_the_segment_behind_it() {
    for close in [true, false] {
        let env = TestEnv::default();
        env.set_wall(100);
        let (log, ..) = open(&env).unwrap();
        append_synced(&log, &payloads(1, 20));
        env.set_wall(500);
        append_synced(&log, &payloads(1, 20));
        if close {
            log.close().unwrap();
        }
        drop(log);
        env.set_wall(900);
        let (log, ..) = open(&env).unwrap();
        let segments = log.segments();
        let last = segments.last().unwrap();
        assert!(segments.len() > 1 && last.base_ts >= 100, "{last:?}");
        assert!(!close || last.base_ts >= 500, "{last:?}");
        append_synced(&log, &payloads(1, 20));
    }
}

#[test]
fn time_never_goes_back_along_the_log() {
    let env = TestEnv::default();
    let mut last = 0;
    for wall in [50, 90, 20, 70, 95] {
        env.set_wall(wall);
        let mut times = Vec::new();
        let (log, _) = Log::open(env.clone(), Path::new(DIR), options(), &mut |frame| {
            times.push(frame.ts);
            Ok(())
        })
        .unwrap();
        assert!(times.is_sorted());
        assert!(times.last().copied().unwrap_or(0) >= last);
        last = times.last().copied().unwrap_or(0);
        append_synced(&log, &payloads(1, 10));
    }
}

/// A workload over every kind of operation; returns what was acknowledged, issued, and below which number records may be gone.
fn workload(env: &TestEnv, options: &LogOptions, first: usize) -> (usize, usize, usize) {
    let (mut acknowledged, mut issued, mut dropped) = (first, first, 0);
    let _ = (|| -> Result<()> {
        let (log, ..) = open_with(env, options.clone())?;
        let mut ends = Vec::new();
        for step in 0..24 {
            issued += 1;
            ends.push(append(&log, &record(issued))?);
            if step % 5 == 3 {
                log.write_out()?;
            }
            if step % 3 == 2 {
                log.sync_to(log.end())?;
                acknowledged = issued;
            }
            if step % 8 == 7 {
                dropped = dropped.max(first + step - 3);
                log.truncate_before(ends[step - 4])?;
            }
        }
        log.close()?;
        acknowledged = issued;
        Ok(())
    })();
    (acknowledged, issued, dropped)
}

fn record(number: usize) -> Vec<u8> {
    let mut record = number.to_string().into_bytes();
    record.resize(8 + number * 397 % 1700, b'.');
    record
}

/// Returns why a recovery does not match, or nothing.
fn judge(env: &TestEnv, options: &LogOptions, acknowledged: usize, issued: usize, dropped: usize) -> Option<String> {
    let found = match open_with(env, options.clone()) {
        Ok((_, found, _)) => found,
        Err(error) => return Some(error.to_string()),
    };
    let numbers: Vec<usize> = found
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('.').parse().unwrap_or(usize::MAX))
        .collect();
    let first = numbers.first().copied().unwrap_or(issued + 1);
    let last = numbers.last().copied().unwrap_or(0);
    let whole = found.iter().zip(&numbers).all(|(bytes, number)| *bytes == record(*number));
    let fine = whole && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let begins_well = first <= dropped + 1 || numbers.is_empty() && acknowledged <= dropped;
    let ends_well = last <= issued && (last >= acknowledged || acknowledged <= dropped);
    if fine && begins_well && ends_well {
        return None;
    }
    Some(format!("acknowledged {acknowledged}, issued {issued}, dropped {dropped}, found {numbers:?}"))
}

/// Crashes the workload at every operation, by power loss and by kill, and the recovery from that at every operation.
pub(super) fn crash_everywhere(options: &LogOptions, bug: Option<&'static str>) -> Option<String> {
    let calm = TestEnv::default();
    workload(&calm, options, 0);
    for power in [true, false] {
        for at in 0..calm.operations() {
            let env = TestEnv::default();
            if let Some(bug) = bug {
                env.plant(bug);
            }
            env.die_at(Some(at));
            let (acknowledged, issued, dropped) = workload(&env, options, 0);
            for again in 0.. {
                if power || again % 2 == 1 {
                    env.lose_power();
                }
                let start = env.operations();
                env.die_at(Some(start + again));
                let opened = open_with(&env, options.clone()).is_ok();
                env.die_at(None);
                if opened {
                    break;
                }
                if again == 60 {
                    return Some(format!("crash at {at}, power {power}: it never opens again"));
                }
            }
            env.lose_power();
            if let Some(violation) = judge(&env, options, acknowledged, issued, dropped) {
                return Some(format!("crash at {at}, power {power}: {violation}"));
            }
            let (acknowledged, issued, dropped) = workload(&env, options, 24.min(issued));
            let _ = (acknowledged, issued, dropped);
        }
    }
    None
}

#[test]
fn a_crash_at_any_operation_and_again_in_recovery_loses_nothing() {
    assert_eq!(crash_everywhere(&options(), None), None);
}

#[test]
fn crashes_everywhere_find_a_file_that_is_written_over_under_its_old_name() {
    assert!(crash_everywhere(&options(), Some("aof_recycle_before_dir_sync")).is_some());
}

#[test]
fn any_flipped_bit_is_named_or_harmless() {
    let env = TestEnv::default();
    let (log, ..) = open(&env).unwrap();
    let all: Vec<Vec<u8>> = (1..9).map(record).collect();
    append_synced(&log, &all);
    log.close().unwrap();
    for file in env.files() {
        let bits = env.read(&file).len() * 8;
        let near = |bit: usize| bit < 96 * 8 || (HEADER_BYTES * 8..HEADER_BYTES * 8 + 80 * 8).contains(&bit);
        for bit in (0..bits).filter(|bit| near(*bit) || bit % 41 == 0) {
            let fork = env.fork_durable();
            fork.damage(&file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match open(&fork) {
                Ok((_, found, _)) => assert_eq!(found, all, "{} bit {bit}", file.display()),
                Err(error) => assert_eq!(damage_of(error).0, file),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_damage_yields_a_prefix_or_a_named_error(
        patches in proptest::collection::vec((0usize..3, 0usize..9000, proptest::collection::vec(any::<u8>(), 0..40)), 1..4),
        cut in proptest::option::of((0usize..3, 0usize..9000)),
    ) {
        let env = TestEnv::default();
        let (log, ..) = open(&env).unwrap();
        let all: Vec<Vec<u8>> = (1..16).map(record).collect();
        append_synced(&log, &all);
        let files: Vec<PathBuf> = env.files().into_iter().filter(|file| file.extension().unwrap() == "log").collect();
        for (file, at, with) in patches {
            env.damage(&files[file % files.len()], |bytes| {
                for (byte, new) in bytes.iter_mut().skip(at).zip(with) {
                    *byte = new;
                }
            });
        }
        if let Some((file, len)) = cut {
            env.damage(&files[file % files.len()], |bytes| bytes.truncate(len));
        }
        match open(&env) {
            Ok((_, found, _)) => prop_assert!(all.starts_with(&found)),
            Err(error) => prop_assert!(error.is_corruption(), "{error}"),
        }
        // And a second time: what the first open left behind is no worse.
        let _ = open(&env);
    }
}

#[test]
fn threads_share_syncs_and_every_acknowledged_record_is_there() {
    const THREADS: u64 = 8;
    const RECORDS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 16384, buffer_bytes: 1000, ..LogOptions::default() };
    let (log, _) = Log::open(StdEnv, dir.path(), options.clone(), &mut |_| Ok(())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = log.clone();
            scope.spawn(move || {
                for number in 0..RECORDS {
                    let payload = [thread as u8; 50];
                    let append = Append {
                        kind: FrameKind::Data,
                        count: 1,
                        first_id: Some(number),
                        tag: thread as u32,
                        parts: &[&payload, &[number as u8]],
                    };
                    let end = log.append(&append).unwrap().end;
                    if number % 3 != 0 {
                        log.sync_to(end).unwrap();
                        assert!(log.durable() >= end);
                    }
                }
            });
        }
    });
    assert!(log.stats().syncs - log.stats().rolls <= THREADS * RECORDS);
    log.sync_to(log.end()).unwrap();
    drop(log);
    let mut next = [0; THREADS as usize];
    Log::open(StdEnv, dir.path(), options, &mut |frame| {
        assert_eq!(frame.first_id, next[frame.tag as usize]);
        assert_eq!(frame.payload[50], frame.first_id as u8);
        next[frame.tag as usize] += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(next, [RECORDS; THREADS as usize]);
}

#[test]
fn appends_share_writes_and_small_parts_do_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { ids_contiguous: true, ..LogOptions::default() };
    let (log, _) = Log::open(StdEnv, dir.path(), options, &mut |_| Ok(())).unwrap();
    let append = |parts: &[&[u8]]| {
        let append = Append { kind: FrameKind::Data, count: 1, first_id: None, tag: 0, parts };
        log.append(&append).unwrap().end
    };
    let mut end = Lsn(0);
    for _ in 0..10_000 {
        end = append(&[&[7; 60]]);
    }
    log.sync_to(end).unwrap();
    // A frame of 60 bytes takes 104; each write takes 128 KiB of them, the last one the rest.
    let staged = log.stats();
    assert_eq!((staged.appends, staged.writes, staged.syncs), (10_000, 8, 1));
    // Half a mebibyte that is not copied: what was staged and the header, eight pieces, and the rest.
    let parts = vec![&[7; 1_000][..]; 524];
    log.sync_to(append(&parts)).unwrap();
    let direct = log.stats();
    assert_eq!((direct.writes - staged.writes, direct.syncs - staged.syncs), (10, 1));
}

#[test]
fn declared_names_are_sorted_and_unique() {
    assert!(MARKS.is_sorted() && MARKS.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(PLANTED_BUGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(STORE_MARKS.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(STORE_PLANTED_BUGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
}
