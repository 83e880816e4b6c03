//! Tests of the store with an archive in a directory: what leaves the disk is read back, and goes when it expires.

use super::super::archive::filesystem::FilesystemArchiveStorage;
use super::super::cursor::From;
use super::super::manifest::SegmentStatus;
use super::super::{AofError, KeyRing};
use super::*;
use std::time::Duration;

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if done() {
            return;
        }
        StdEnv.sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen in twenty seconds");
}

fn config(archive: &Path) -> AofConfig {
    let storage = FilesystemArchiveStorage::new(StdEnv, archive).unwrap();
    AofConfig {
        segment_bytes: 64 << 10,
        background_interval: Duration::from_millis(5),
        archive: Some(ArchiveConfig::new(Arc::new(storage))),
        ..AofConfig::default()
    }
}

fn fill(aof: &Aof, from: u64, to: u64) {
    for number in from..to {
        drop(aof.append(format!("{number:0900}").as_bytes()).unwrap());
    }
    aof.flush().unwrap();
}

fn check(aof: &Aof, first: u64, next: u64) {
    let mut want = first;
    for record in aof.cursor(From::First).unwrap() {
        let record = record.unwrap();
        assert_eq!((record.id, &record.bytes[..]), (want, format!("{want:0900}").as_bytes()));
        want += 1;
    }
    assert_eq!(want, next);
}

fn local_segments(aof: &Aof) -> usize {
    aof.segments().iter().filter(|entry| entry.status != SegmentStatus::LocalDeleted).count()
}

#[test]
fn archived_segments_are_read_back_across_opens_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (at, archive) = (dir.path().join("log"), dir.path().join("archive"));
    let keys = KeyRing::new(1, [(1, [7; 32])]).unwrap();
    let config = AofConfig { compression_level: Some(3), encryption: Some(keys), ..config(&archive) };
    let (aof, _) = Aof::open(StdEnv, &at, config.clone()).unwrap();
    fill(&aof, 1, 1001);
    // The active one, and the newest archived one.
    eventually("the archive has all but two", || local_segments(&aof) == 2);
    check(&aof, 1, 1001);
    let segments = aof.segments();
    assert!(segments.len() > 10 && segments.windows(2).all(|pair| pair[0].next_id == pair[1].base_id));
    aof.close().unwrap();
    let (aof, report) = Aof::open(StdEnv, &at, config.clone()).unwrap();
    assert_eq!((report.first_id, report.next_id, report.archive.rebuilt), (1, 1001, false));
    assert!(report.archive.archived_segments > 9);
    fill(&aof, 1001, 1101);
    check(&aof, 1, 1101);
    aof.truncate_before(500).unwrap();
    check(&aof, 500, 1101);
    eventually("expired objects go", || aof.shared.archive.stats().remote_deleted > 5);
    assert!(aof.segments()[0].base_id > 400);
    assert_eq!(AofError::of(&aof.read(499).unwrap_err()), Some(&AofError::Truncated { id: 499, first: 500 }));
    let bytes = 300_000;
    aof.retain(Retention { bytes: Some(bytes), age: None }).unwrap();
    eventually("retention reaches into the archive", || aof.first_id() > 700);
    aof.close().unwrap();
    assert!(aof.background_errors().is_empty(), "{:?}", aof.background_errors());
    let without = AofConfig { archive: None, ..config };
    let error = Aof::open(StdEnv, &at, without).unwrap_err();
    assert!(error.to_string().contains("archive is not configured"), "{error}");
}

#[test]
fn appends_wait_for_the_archive_when_they_are_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let config = AofConfig {
        unarchived_segments_max: 1,
        // Nothing is archived before somebody waits.
        background_interval: Duration::from_secs(3600),
        ..config(&dir.path().join("archive"))
    };
    let (aof, _) = Aof::open(StdEnv, dir.path().join("log"), config).unwrap();
    fill(&aof, 1, 501);
    assert!(aof.shared.counters.pressure_waits.load(Ordering::Relaxed) > 3);
    assert!(aof.shared.archive.unarchived(&aof.shared.log) <= 1);
    check(&aof, 1, 501);
    aof.close().unwrap();
}
