//! Looking at a directory while a writer rolls, drops, recycles and dies.

use super::super::AofError;
use super::super::cursor::{Cursor, From};
use super::super::format::{FrameKind, HEADER_BYTES};
use super::super::log::Log;
use super::super::readers::Readers;
use super::super::record::format::Length;
use super::super::test_env::TestEnv;
use super::super::types::{Append, LogOptions};
use super::*;

const DIR: &str = "log";

fn open(env: &TestEnv) -> Log<TestEnv> {
    let options = LogOptions { segment_bytes: 8192, ids_contiguous: true, ..LogOptions::default() };
    Log::open(env.clone(), Path::new(DIR), options, &mut |_| Ok(())).unwrap().0
}

/// Appends one record of `len` bytes that all say `byte`.
fn append(log: &Log<TestEnv>, byte: u8, len: usize) {
    let (length, record) = (Length::encode(len), vec![byte; len]);
    let parts = [length.as_slice(), &record];
    let append = Append { kind: FrameKind::Data, count: 1, first_id: None, tag: 0, parts: &parts };
    log.append(&append).unwrap();
}

fn view(env: &TestEnv) -> Arc<ViewChain<TestEnv>> {
    Arc::new(ViewChain::open(env.clone(), Path::new(DIR), None).unwrap())
}

fn shown(cursor: Cursor<TestEnv>) -> Vec<u8> {
    cursor.map(|record| record.unwrap().bytes[0]).collect()
}

#[test]
fn a_view_changes_nothing_and_sees_what_frames_say_is_durable() {
    let env = TestEnv::default();
    let log = open(&env);
    for byte in 0..20 {
        append(&log, byte, 900);
        log.sync_to(log.end()).unwrap();
    }
    append(&log, 20, 900);
    log.write_out().unwrap();
    let (operations, files) = (env.operations(), env.files());
    let chain = view(&env);
    // The last frame vouches for those before it, none for itself.
    assert_eq!(shown(Cursor::new(chain.clone(), From::First)), (0..20).collect::<Vec<_>>());
    let written = Cursor::new(chain.clone(), From::First).visibility(Visibility::Written);
    assert_eq!(shown(written), (0..21).collect::<Vec<_>>());
    assert_eq!((env.operations(), env.files()), (operations, files));
    let mut tail = Cursor::new(chain.clone(), From::TailMinus(1));
    assert_eq!(tail.next_ref().unwrap().unwrap().bytes[0], 19);
    assert!(tail.next_ref().is_none());
    for byte in 21..60 {
        append(&log, byte, 900);
    }
    log.close().unwrap();
    assert_eq!(shown(tail), (20..60).collect::<Vec<_>>());
    let mut all = Cursor::new(chain, From::First);
    assert_eq!(all.by_ref().count(), 60);
    // The writer comes again, and the log goes on.
    let log = open(&env);
    append(&log, 60, 10);
    log.close().unwrap();
    assert_eq!(shown(all), [60]);
}

#[test]
fn a_segment_that_is_written_over_under_a_view_is_reported_as_truncated_and_never_shown_wrong() {
    for keep in 1..12 {
        let env = TestEnv::default();
        let log = open(&env);
        for byte in 0..30 {
            append(&log, byte, 900);
            log.sync_to(log.end()).unwrap();
        }
        let readers = Readers::new(view(&env), 8, 8);
        let mut cursor = readers.cursor(From::First).unwrap();
        for byte in 0..keep {
            assert_eq!(cursor.next_ref().unwrap().unwrap().bytes, vec![byte; 900]);
        }
        log.truncate_before(log.durable()).unwrap();
        for byte in 30..90 {
            append(&log, byte, 900);
            log.sync_to(log.end()).unwrap();
        }
        log.mark().unwrap();
        let mut next = keep;
        let error = loop {
            match cursor.next_ref() {
                Some(Ok(record)) => {
                    assert_eq!(record.bytes, vec![next; 900]);
                    next += 1;
                }
                Some(Err(error)) => break error,
                None => panic!("the segments behind are gone"),
            }
        };
        assert!(matches!(AofError::of(&error), Some(AofError::Truncated { .. })), "{error}");
        cursor.seek(From::First);
        let first = cursor.next_ref().unwrap().unwrap().bytes[0];
        assert_eq!(shown(cursor), (first + 1..90).collect::<Vec<_>>());
    }
}

#[test]
fn a_view_follows_a_writer_that_dies_and_comes_back() {
    let env = TestEnv::default();
    let log = open(&env);
    let readers = Readers::new(view(&env), 2, 8);
    let mut cursor = readers.cursor(From::First).unwrap();
    assert!(cursor.next_ref().is_none());
    let mut log = Some(log);
    let mut next = 0;
    for round in 0..60u8 {
        let writer = log.get_or_insert_with(|| open(&env));
        append(writer, round, 500);
        writer.sync_to(writer.end()).unwrap();
        writer.mark().unwrap();
        while let Some(record) = cursor.next_ref() {
            assert_eq!(record.unwrap().bytes[0], next);
            next += 1;
        }
        assert_eq!(next, round + 1);
        match round % 5 {
            0 => log = None,
            3 => {
                env.lose_power();
                log = None;
            }
            _ => {}
        }
    }
}

#[test]
fn damage_in_a_sealed_segment_is_damage() {
    let env = TestEnv::default();
    let log = open(&env);
    for byte in 0..20 {
        append(&log, byte, 900);
        log.sync_to(log.end()).unwrap();
    }
    let path = Path::new(DIR).join(segment_name(1));
    env.damage(&path, |bytes| bytes[HEADER_BYTES + 100] ^= 1);
    let error = Cursor::new(view(&env), From::First).next_ref().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corruption { file: path, offset: HEADER_BYTES as u64 });
}
