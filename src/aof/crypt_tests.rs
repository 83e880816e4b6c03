//! Encrypted logs against a disk in memory: nothing is readable, nothing is lost, and no bytes but the log's own are taken.

use super::archive::image::archive_segment;
use super::archive::object::ObjectReader;
use super::archive::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use super::crypt::{KeyRing, segment_key};
use super::format::{FRAME_BYTES, FormatVersion, FrameHeader, HEADER_BYTES, SegmentHeader, TAG_BYTES, frame_bytes};
use super::index::format::Footer;
use super::names::segment_name;
use super::read::{ReadAt, SegmentReader};
use super::test_env::TestEnv;
use super::*;
use crate::base::checksum::{Crc64, crc32c};
use crate::base::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "log";

fn ring(current: u32, ids: &[u32]) -> KeyRing {
    KeyRing::new(current, ids.iter().map(|id| (*id, [*id as u8; 32]))).unwrap()
}

fn path(number: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(number))
}

type Payload = (FrameKind, Vec<u8>);

fn open(env: &TestEnv, keys: Option<KeyRing>) -> Result<(Log<TestEnv>, Vec<Payload>)> {
    open_with(env, LogOptions { segment_bytes: 8192, keys, ..LogOptions::default() })
}

fn open_with(env: &TestEnv, options: LogOptions) -> Result<(Log<TestEnv>, Vec<Payload>)> {
    let mut found = Vec::new();
    let (log, _) = Log::open(env.clone(), Path::new(DIR), options, &mut |frame| {
        found.push((frame.kind, frame.payload.to_vec()));
        Ok(())
    })?;
    Ok((log, found))
}

fn secret(number: usize) -> Vec<u8> {
    format!("the secret of number {number:04} ").repeat(1 + number * 7 % 40).into_bytes()
}

fn append(log: &Log<TestEnv>, kind: FrameKind, payload: &[u8]) -> Result<Appended> {
    let (one, two) = payload.split_at(payload.len() / 3);
    log.append(&Append { kind, count: 1, first_id: Some(7), tag: 3, parts: &[one, two] })
}

/// Appends and syncs the records `numbers`, of each kind in turn.
fn write(log: &Log<TestEnv>, numbers: Range<usize>) -> Vec<Payload> {
    let kinds = [FrameKind::Data, FrameKind::Meta, FrameKind::Rewrite];
    numbers
        .map(|number| {
            let (kind, payload) = (kinds[number % 3], secret(number));
            let end = append(log, kind, &payload).unwrap().end;
            log.sync_to(end).unwrap();
            (kind, payload)
        })
        .collect()
}

fn header_of(env: &TestEnv, number: u64) -> SegmentHeader {
    SegmentHeader::decode(&env.read(&path(number))).unwrap()
}

fn key_ids(log: &Log<TestEnv>) -> Vec<u32> {
    log.segments().iter().map(|segment| segment.key_id).collect()
}

fn damage_of(error: Error) -> (PathBuf, u64, String) {
    match error.kind() {
        ErrorKind::Corruption { file, offset } => (file.clone(), *offset, error.to_string()),
        kind => panic!("{kind:?}"),
    }
}

#[test]
fn frames_come_back_and_no_file_shows_them() {
    let env = TestEnv::default();
    let (log, _) = open(&env, Some(ring(1, &[1]))).unwrap();
    let mut all = write(&log, 0..40);
    // Longer than what goes to the system without a copy, in a log that is not encrypted.
    let large = (FrameKind::Data, b"the secret ".repeat(40_000));
    let appended = append(&log, large.0, &large.1).unwrap();
    assert_eq!(appended.end.0 - appended.lsn.0, frame_bytes((large.1.len() + TAG_BYTES) as u64));
    all.push(large);
    log.close().unwrap();
    assert!(log.stats().rolls > 3);
    for file in env.files() {
        assert!(!env.read(&file).windows(6).any(|bytes| bytes == b"secret"), "{}", file.display());
    }
    assert_eq!((header_of(&env, 1).key_id, header_of(&env, 1).version), (1, FormatVersion::V2));
    drop(log);
    env.lose_power();
    assert!(open(&env, Some(ring(1, &[1]))).unwrap().1 == all);
}

#[test]
fn a_log_without_keys_is_of_version_one() {
    let env = TestEnv::default();
    write(&open(&env, None).unwrap().0, 0..3);
    assert_eq!((header_of(&env, 1).key_id, header_of(&env, 1).version), (0, FormatVersion::V1));
}

#[test]
fn a_missing_key_and_a_wrong_one_are_named_and_change_nothing() {
    let env = TestEnv::default();
    let all = write(&open(&env, Some(ring(5, &[5]))).unwrap().0, 0..30);
    let wrong = KeyRing::new(5, [(5, [6; 32])]).unwrap();
    let before = env.operations();
    for (keys, expected) in [
        (None, "no keys were given"),
        (Some(ring(4, &[4])), "is not in the key ring"),
        (Some(wrong), "is not the key this file was written with"),
    ] {
        let error = open(&env, keys).map(drop).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Key);
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("key 5") && text.contains(".log"), "{text}");
        assert!(matches!(AofError::of(&error), Some(AofError::EncryptionError { key_id: 5, .. })));
    }
    assert_eq!(env.operations(), before, "nothing was written");
    assert!(open(&env, Some(ring(5, &[5]))).unwrap().1 == all);
}

#[test]
fn keys_rotate_at_an_open_and_old_segments_keep_theirs() {
    let env = TestEnv::default();
    let mut all = Vec::new();
    for current in 1..5u32 {
        let ids: Vec<u32> = (1..=current).collect();
        let (log, found) = open(&env, Some(ring(current, &ids))).unwrap();
        assert!(found == all);
        let from = all.len();
        all.extend(write(&log, from..from + 20));
        let keys = key_ids(&log);
        assert!(keys.is_sorted() && *keys.last().unwrap() == current && keys[0] == 1, "{keys:?}");
        env.lose_power();
    }
    // Once its last segment is gone an old key is needed no more.
    let (log, found) = open(&env, Some(ring(4, &[1, 2, 3, 4]))).unwrap();
    assert!(found == all);
    let keep = log.segments().iter().find(|segment| segment.key_id >= 3).unwrap().base_lsn;
    log.truncate_before(keep).unwrap();
    drop(log);
    assert_eq!(open(&env, Some(ring(4, &[2, 4]))).map(drop).unwrap_err().kind(), &ErrorKind::Key);
    assert!(all.ends_with(&open(&env, Some(ring(4, &[3, 4]))).unwrap().1));
}

#[test]
fn a_plain_log_becomes_encrypted_from_the_next_segment_on() {
    for closed in [true, false] {
        let env = TestEnv::default();
        let (log, _) = open(&env, None).unwrap();
        let mut all = write(&log, 0..25);
        if closed {
            log.close().unwrap();
        }
        drop(log);
        for _ in 0..3 {
            env.lose_power();
            let (log, found) = open(&env, Some(ring(2, &[2]))).unwrap();
            assert!(found == all);
            let from = all.len();
            all.extend(write(&log, from..from + 10));
            let keys = key_ids(&log);
            assert!(keys.is_sorted() && keys[0] == 0 && *keys.last().unwrap() == 2, "{keys:?}");
        }
        assert_eq!(open(&env, None).map(drop).unwrap_err().kind(), &ErrorKind::Key);
    }
}

/// Runs through three lives of a log: plain, encrypted, rotated. Returns what was acknowledged and what was issued.
fn lives(env: &TestEnv) -> (usize, usize) {
    let (mut acknowledged, mut issued) = (0, 0);
    let _ = (|| -> Result<()> {
        for keys in [None, Some(ring(1, &[1])), Some(ring(2, &[1, 2]))] {
            let (log, _) = open(env, keys)?;
            for step in 0..9 {
                issued += 1;
                append(&log, FrameKind::Data, &secret(issued))?;
                if step % 4 == 2 {
                    log.write_out()?;
                }
                if step % 3 == 2 {
                    log.sync_to(log.end())?;
                    acknowledged = issued;
                }
            }
        }
        Ok(())
    })();
    (acknowledged, issued)
}

#[test]
fn a_crash_at_any_operation_of_three_lives_loses_nothing() {
    let calm = TestEnv::default();
    lives(&calm);
    let full = || Some(ring(2, &[1, 2]));
    for power in [true, false] {
        for at in 0..calm.operations() {
            let env = TestEnv::default();
            env.die_at(Some(at));
            let (acknowledged, issued) = lives(&env);
            for again in 0.. {
                assert!(again < 80, "crash at {at}, power {power}: it never opens again");
                if power || again % 2 == 1 {
                    env.lose_power();
                }
                env.die_at(Some(env.operations() + again));
                let opened = open(&env, full()).is_ok();
                env.die_at(None);
                if opened {
                    break;
                }
            }
            env.lose_power();
            let found = open(&env, full()).unwrap_or_else(|error| panic!("crash at {at}, power {power}: {error}")).1;
            let whole = found.iter().zip(1..).all(|((_, payload), number)| *payload == secret(number));
            let count = found.len();
            assert!(whole && (acknowledged..=issued).contains(&count), "{acknowledged}..={issued}: {count}");
        }
    }
}

/// Changes the frame at the start of segment 1 and gives it good checksums.
fn forge(env: &TestEnv, change: impl FnOnce(&mut FrameHeader, &mut Vec<u8>)) {
    let header = header_of(env, 1);
    env.damage(&path(1), |bytes| {
        let frame = &bytes[HEADER_BYTES..];
        let mut forged = FrameHeader::decode(frame, &header.place(0)).unwrap();
        let length = forged.stored_bytes() as usize;
        let mut stored = frame[FRAME_BYTES..FRAME_BYTES + length].to_vec();
        change(&mut forged, &mut stored);
        assert_eq!(stored.len(), length);
        forged.payload_crc = crc32c(&[], &[&stored]);
        bytes[HEADER_BYTES..HEADER_BYTES + FRAME_BYTES].copy_from_slice(&forged.encode(&header.place(0)));
        bytes[HEADER_BYTES + FRAME_BYTES..][..length].copy_from_slice(&stored);
    });
}

#[test]
fn forged_frames_are_damage_and_never_a_torn_tail() {
    type Forgery = fn(&mut FrameHeader, &mut Vec<u8>);
    let forgeries: [(&str, Forgery); 6] = [
        ("is not encrypted", |header, _| {
            // A plain frame of the same length: what stood for the tag is payload.
            header.tagged = false;
            header.len += TAG_BYTES as u32;
        }),
        ("fails its authentication", |_, stored| stored[0] ^= 1),
        ("fails its authentication", |_, stored| *stored.last_mut().unwrap() ^= 0x80),
        ("fails its authentication", |header, _| header.first_id += 1),
        ("fails its authentication", |header, _| header.kind = FrameKind::Rewrite),
        ("fails its authentication", |header, _| header.tag += 1),
    ];
    for (expected, forgery) in forgeries {
        // In the last segment, and in one before.
        for records in [1, 30] {
            let env = TestEnv::default();
            let (log, _) = open(&env, Some(ring(1, &[1]))).unwrap();
            write(&log, 0..records);
            drop(log);
            forge(&env, forgery);
            let (file, offset, text) = damage_of(open(&env, Some(ring(1, &[1]))).map(drop).unwrap_err());
            assert_eq!((file, offset), (path(1), HEADER_BYTES as u64));
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn readers_need_the_key_too() {
    let env = TestEnv::default();
    let (log, _) = open(&env, Some(ring(1, &[1]))).unwrap();
    let all = write(&log, 0..30);
    let reader = log.open_segment(1).unwrap();
    let end = reader.end_lsn().unwrap();
    let mut frames = reader.frames(0, end.0);
    let mut found = Vec::new();
    while let Some(frame) = frames.advance().unwrap() {
        let frame = frame.unwrap();
        if frame.kind.is_callers() {
            found.push((frame.kind, frames.payload().to_vec()));
        }
    }
    assert!(!found.is_empty() && all.starts_with(&found));
    for keys in [None, Some(ring(2, &[2]))] {
        let error = SegmentReader::open_local(&env, Path::new(DIR), 1, Some(end), keys.as_ref()).map(drop);
        assert_eq!(error.unwrap_err().kind(), &ErrorKind::Key);
    }
}

#[derive(Debug)]
struct One(Vec<u8>);

impl ArchiveStorage for One {
    fn put_new(&self, _: &str, _: &dyn ObjectSource) -> Result<PutOutcome> {
        Ok(PutOutcome::Exists)
    }
    fn head(&self, _: &str) -> Result<Option<u64>> {
        Ok(Some(self.0.len() as u64))
    }
    fn read(&self, _: &str, range: Range<u64>) -> Result<Vec<u8>> {
        Ok(self.0[range.start as usize..range.end as usize].to_vec())
    }
    fn list(&self, _: &str) -> Result<Vec<ObjectInfo>> {
        Ok(Vec::new())
    }
    fn delete(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

/// Archives segment 1 and opens the object.
fn archived(env: &TestEnv, log: &Log<TestEnv>, level: Option<i32>, keys: Option<&KeyRing>) -> ObjectReader {
    let segment = log.open_segment(1).unwrap();
    let file = archive_segment(env, &segment, Path::new("log/1.upload"), level, keys).unwrap();
    let mut bytes = vec![0; file.bytes() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let length = file.bytes();
    file.remove(env).unwrap();
    let reader = ObjectReader::open(Arc::new(One(bytes)), "1.seg", length, keys).unwrap();
    reader.verify().unwrap();
    reader
}

#[test]
fn an_archived_segment_reads_as_the_local_one() {
    let rings = [None, Some(ring(1, &[1]))];
    let ways = [(&rings[0], None), (&rings[1], None), (&rings[0], Some(3)), (&rings[1], Some(3))];
    for ((keys, level), index) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let env = TestEnv::default();
        let options = LogOptions { segment_bytes: 8192, keys: keys.clone(), index, ..LogOptions::default() };
        let (log, _) = open_with(&env, options).unwrap();
        let all = write(&log, 0..30);
        let local = log.segments().remove(0);
        let object = archived(&env, &log, level, keys.as_ref());
        let end = local.end_lsn.unwrap();
        assert_eq!(object.bytes(), HEADER_BYTES as u64 + end.0);
        let summary = object.summary();
        assert_eq!((summary.base_lsn, summary.end_lsn, summary.base_id), (0, end.0, local.base_id));
        let mut image = vec![0; object.bytes() as usize];
        object.read_at(&mut image, 0).unwrap();
        if keys.is_none() {
            assert!(image == env.read(&path(1))[..image.len()], "a plain segment's image is its file");
        }
        // Read without any key: the object was decrypted by its own reader.
        let remote = Arc::new(SegmentReader::new(env.clone(), Box::new(object), 1, Some(end), None).unwrap());
        let segment = log.open_segment(1).unwrap();
        let (mut ours, mut theirs) = (segment.frames(0, end.0), remote.frames(0, end.0));
        let (mut count, mut footers) = (0, 0);
        while let Some(local) = ours.advance().unwrap() {
            let (local, remote) = (local.unwrap(), theirs.advance().unwrap().unwrap().unwrap());
            let same = FrameHeader { payload_crc: local.payload_crc, ..remote };
            if local.kind == FrameKind::Footer {
                let of = |payload| Footer::decode(payload, 0).unwrap();
                let (ours, theirs) = (of(ours.payload()), of(theirs.payload()));
                let mut crc = Crc64::new();
                crc.update(&image[..image.len() - frame_bytes(u64::from(local.len)) as usize]);
                assert_eq!((ours.index, theirs.crc64), (theirs.index, crc.value()));
                footers += 1;
                continue;
            }
            assert_eq!((local, ours.payload(), ours.lsn()), (same, theirs.payload(), theirs.lsn()));
            if local.kind.is_callers() {
                assert!(ours.payload() == all[count].1);
                count += 1;
            }
        }
        assert!(count > 5 && theirs.advance().unwrap().is_none());
        assert_eq!(footers, usize::from(index));
    }
}

#[test]
fn a_damaged_segment_is_not_archived() {
    let env = TestEnv::default();
    let (log, _) = open(&env, Some(ring(1, &[1]))).unwrap();
    write(&log, 0..30);
    let (segment, before) = (log.open_segment(1).unwrap(), env.files());
    assert!(segment_key(Some(&ring(1, &[1])), segment.header(), segment.name()).unwrap().is_some());
    env.damage(&path(1), |bytes| bytes[HEADER_BYTES + FRAME_BYTES] ^= 1);
    let made = archive_segment(&env, &segment, Path::new("log/1.upload"), Some(3), None);
    let (file, offset, _) = damage_of(made.map(drop).unwrap_err());
    assert_eq!((file, offset), (path(1), HEADER_BYTES as u64));
    assert_eq!(env.files(), before, "no temporary file stays");
}
