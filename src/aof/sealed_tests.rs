//! Sealed segments: what a FOOTER says is what a scan of the file finds, whatever happened to the log before.

use super::format::{FRAME_BYTES, FormatVersion, FrameHeader, HEADER_BYTES, SegmentHeader};
use super::index::format::{FOOTER_LEN_BYTES, Footer, footer_start};
use super::index::{Noted, SegmentIndex};
use super::test_env::TestEnv;
use super::tests::crash_everywhere;
use super::*;
use crate::base::Result;
use crate::base::checksum::Crc64;
use std::path::Path;

const DIR: &str = "log";

fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, index: true, ids_contiguous: true, ..LogOptions::default() }
}

fn open(env: &TestEnv, segment_bytes: u64) -> (Log<TestEnv>, RecoveryReport) {
    Log::open(env.clone(), Path::new(DIR), options(segment_bytes), &mut |_| Ok(())).unwrap()
}

fn append(log: &Log<TestEnv>, kind: FrameKind, count: u16, len: usize) -> Result<Appended> {
    let first_id = (kind != FrameKind::Data).then_some(0);
    log.append(&Append { kind, count, first_id, tag: 0, parts: &[&vec![7; len]] })
}

/// Returns the footer of a closed segment, if it has one, and what a scan finds.
fn sealed(env: &TestEnv, info: &SegmentInfo) -> (Option<Footer>, Footer) {
    let bytes = env.read(&info.path);
    let header = SegmentHeader::decode(&bytes).unwrap();
    assert_eq!(header.version, FormatVersion::V2);
    let mut index = SegmentIndex::new(info.base_id);
    let mut at = HEADER_BYTES;
    let end = HEADER_BYTES + (info.end_lsn.unwrap().0 - info.base_lsn.0) as usize;
    let mut last = at;
    while at < end {
        let lsn = info.base_lsn.0 + (at - HEADER_BYTES) as u64;
        let FrameHeader { kind, count, len, first_id, ts, .. } =
            FrameHeader::decode(&bytes[at..], &header.place(lsn)).unwrap();
        index.note(&Noted { lsn, kind, count, len, first_id, ts });
        last = at;
        at += FrameHeader::decode(&bytes[at..], &header.place(lsn)).unwrap().frame_bytes() as usize;
    }
    let mut crc = Crc64::new();
    crc.update(&bytes[..last]);
    let found = footer_start(*bytes[..end].last_chunk::<FOOTER_LEN_BYTES>().unwrap(), end as u64);
    let place = header.place(info.base_lsn.0 + (last - HEADER_BYTES) as u64);
    let frame = FrameHeader::decode(&bytes[last..], &place).unwrap();
    let footer = (frame.kind == FrameKind::Footer).then(|| {
        assert_eq!(found, Some(last as u64), "a footer is found from the segment's end");
        Footer::decode(&bytes[last + FRAME_BYTES..end], info.base_lsn.0).unwrap()
    });
    (footer, Footer { index, crc64: crc.value() })
}

/// Appends frames of all kinds and sizes, syncs some, and dies now and then; returns how many segments have a footer.
fn live(env: &TestEnv, segment_bytes: u64) -> usize {
    let mut footers = 0;
    let mut random = 1u64;
    let mut draw = |n: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % n
    };
    for round in 0..12 {
        let (log, _) = open(env, segment_bytes);
        for step in 0..40 {
            env.set_wall(round * 1000 + step);
            let kind = if draw(6) == 0 { FrameKind::Meta } else { FrameKind::Data };
            let len = if draw(40) == 0 { 300 << 10 } else { 1 + draw(1500) as usize };
            let appended = append(&log, kind, 1 + draw(3) as u16, len).unwrap();
            match draw(5) {
                0 => log.sync_to(appended.end).unwrap(),
                1 => log.write_out().unwrap(),
                2 if draw(4) == 0 => drop(log.seal().unwrap()),
                3 => log.mark().unwrap(),
                _ => {}
            }
        }
        for info in log.segments() {
            if info.end_lsn.is_some() {
                let (footer, scanned) = sealed(env, &info);
                footers += usize::from(footer.is_some());
                assert_eq!(footer.unwrap_or_else(|| scanned.clone()), scanned, "segment {}", info.number);
            }
        }
        if draw(2) == 0 {
            env.lose_power();
        }
    }
    footers
}

#[test]
fn a_footer_says_what_a_scan_finds() {
    for segment_bytes in [8192, 65536, 1 << 20] {
        let footers = live(&TestEnv::default(), segment_bytes);
        assert!(footers > 5, "{segment_bytes}: {footers}");
    }
}

#[test]
fn an_index_that_points_past_its_frames_is_noticed() {
    let env = TestEnv::default();
    env.plant("aof_index_points_past");
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(&env, 65536)));
    assert!(lived.is_err());
}

#[test]
fn segments_end_where_they_should_and_hold_their_footer() {
    let env = TestEnv::default();
    let (log, _) = open(&env, 65536);
    for _ in 0..3000 {
        append(&log, FrameKind::Data, 1, 100).unwrap();
    }
    log.sync_to(log.end()).unwrap();
    let closed: Vec<_> = log.segments().into_iter().filter(|info| info.end_lsn.is_some()).collect();
    assert!(closed.len() > 4);
    for info in &closed {
        assert_eq!(env.read(&info.path).len(), 65536, "a footer lies within its segment");
        assert!(sealed(&env, info).0.is_some());
    }
}

#[test]
fn records_of_the_active_segment_are_found() {
    let env = TestEnv::default();
    let (log, _) = open(&env, 1 << 20);
    let mut ends = Vec::new();
    for number in 0..500 {
        env.set_wall(10 + number);
        let appended = append(&log, FrameKind::Data, 2, 200).unwrap();
        log.write_out().unwrap();
        assert_eq!((appended.first_id, appended.ts), (1 + 2 * number, 10 + number));
        ends.push(appended.lsn);
    }
    for number in 0..500 {
        for found in [log.find(Find::Id(1 + 2 * number)), log.find(Find::Time(10 + number))] {
            let found = found.unwrap_or(Lsn(0));
            let before = ends.partition_point(|lsn| *lsn <= found);
            assert!(ends.contains(&found) && found <= ends[number as usize], "{number}: {found}");
            assert!(number as usize - (before - 1) <= 18, "a step is 4 KiB");
        }
    }
    log.seal().unwrap();
    assert_eq!(log.find(Find::Id(7)), None);
    assert!(log.find(Find::Id(1001)).is_some());
}

#[test]
fn a_crash_at_any_operation_loses_nothing_of_a_log_with_footers() {
    let options = LogOptions { segment_bytes: 8192, index: true, ..LogOptions::default() };
    assert_eq!(crash_everywhere(&options, None), None);
}
