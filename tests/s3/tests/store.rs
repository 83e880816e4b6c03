//! The log over S3: segments are archived, leave the disk and are read back as if nothing had happened.
#![allow(clippy::disallowed_methods, reason = "tests of the real world")]

use aidb::aof::archive::ArchiveStorage;
use aidb::aof::manifest::SegmentStatus;
use aidb::aof::{Aof, AofConfig, AofError, ArchiveConfig, From, KeyRing};
use aidb::env::StdEnv;
use aidb::{ErrorKind, Result};
use aidb_s3_tests::proxy::Action;
use aidb_s3_tests::target::{Target, noise};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What every record begins with, to be looked for in objects.
const PLAIN: &[u8] = b"plain text of a record ";

/// A directory for a log, and the server it archives to.
struct Place {
    target: Target,
    dir: TempDir,
    compression: Option<i32>,
    keys: Option<KeyRing>,
}

impl Place {
    fn new() -> Place {
        Place { target: Target::start(), dir: tempfile::tempdir().unwrap(), compression: None, keys: None }
    }

    fn config(&self) -> AofConfig {
        let storage: Arc<dyn ArchiveStorage> = Arc::new(self.target.storage());
        let archive = ArchiveConfig { local_segments: 0, cache_bytes: 1 << 20, ..ArchiveConfig::new(storage) };
        AofConfig {
            segment_bytes: 128 << 10,
            compression_level: self.compression,
            encryption: self.keys.clone(),
            archive: Some(archive),
            background_interval: Duration::from_millis(10),
            ..AofConfig::default()
        }
    }

    fn try_open(&self) -> Result<Aof> {
        Aof::open(StdEnv, self.dir.path(), self.config()).map(|(aof, _)| aof)
    }

    fn open(&self) -> Aof {
        self.try_open().unwrap()
    }

    /// Returns the objects of the log.
    fn objects(&self) -> Vec<String> {
        self.target.storage().list("").unwrap().into_iter().map(|object| object.key).collect()
    }
}

fn record(id: u64) -> Vec<u8> {
    let mut record = PLAIN.to_vec();
    record.extend_from_slice(&noise(id, id as usize * 37 % 2000));
    record
}

/// Appends records up to, not including, the id `end`.
fn fill(aof: &Aof, end: u64) {
    for id in aof.next_id()..end {
        assert_eq!(aof.append(&record(id)).unwrap().ids(), id..id + 1);
    }
    aof.flush().unwrap();
}

/// Waits until `done`, for at most a minute.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Seals the log and waits until only the active segment is on the disk.
fn archive_all(aof: &Aof) {
    aof.seal().unwrap();
    wait_until("archived", || {
        let kept = |status: SegmentStatus| matches!(status, SegmentStatus::Active | SegmentStatus::LocalDeleted);
        aof.segments().iter().all(|entry| kept(entry.status))
    });
}

fn count(aof: &Aof, status: SegmentStatus) -> usize {
    aof.segments().iter().filter(|entry| entry.status == status).count()
}

/// Reads the log from `from` to its end.
fn check_from(aof: &Aof, from: From, first: u64) {
    let mut expected = first;
    for found in aof.cursor(from).unwrap() {
        let found = found.unwrap();
        assert_eq!(found.id, expected);
        assert_eq!(found.bytes, record(expected));
        expected += 1;
    }
    assert_eq!(expected, aof.next_id());
}

fn check_all(aof: &Aof) {
    check_from(aof, From::First, 1);
    let end = aof.next_id();
    for id in [1, 2, end / 3, end / 2, end - 1] {
        assert_eq!(aof.read(id).unwrap().bytes, record(id));
        check_from(aof, From::Id(id), id);
    }
    check_from(aof, From::TailMinus(5), end - 5);
    let middle = aof.read(end / 2).unwrap();
    check_from(aof, From::Lsn(middle.lsn), middle.id);
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file() && path.metadata().unwrap().len() > 4096).collect()
}

fn lifecycle(place: &Place) {
    let aof = place.open();
    fill(&aof, 1_000);
    archive_all(&aof);
    let archived = count(&aof, SegmentStatus::LocalDeleted);
    assert!(archived >= 4, "{archived} segments of a megabyte");
    assert!(segment_files(place.dir.path()).len() < archived, "they left the disk");
    assert_eq!(place.objects().len(), archived);
    check_all(&aof);
    fill(&aof, 1_500);
    check_all(&aof);
    aof.close().unwrap();

    let aof = place.open();
    assert_eq!(aof.next_id(), 1_500);
    check_all(&aof);
    archive_all(&aof);
    assert!(count(&aof, SegmentStatus::LocalDeleted) > archived);
    check_all(&aof);
    aof.close().unwrap();

    std::fs::remove_dir_all(place.dir.path().join("manifest")).unwrap();
    let aof = place.open();
    assert_eq!(aof.next_id(), 1_500);
    check_all(&aof);
    fill(&aof, 2_000);
    archive_all(&aof);
    check_all(&aof);
    aof.close().unwrap();
}

#[test]
fn archived_segments_are_read_back() {
    lifecycle(&Place::new());
}

#[test]
fn compressed_segments_are_read_back() {
    lifecycle(&Place { compression: Some(3), ..Place::new() });
}

#[test]
fn encrypted_segments_are_read_back() {
    lifecycle(&Place { keys: Some(KeyRing::new(1, [(1, [7; 32])]).unwrap()), ..Place::new() });
}

#[test]
fn compressed_and_encrypted_segments_are_read_back_and_show_nothing() {
    let keys = KeyRing::new(1, [(1, [7; 32])]).unwrap();
    let mut place = Place { compression: Some(3), keys: Some(keys), ..Place::new() };
    lifecycle(&place);
    let storage = place.target.storage();
    for key in place.objects() {
        let bytes = storage.head(&key).unwrap().unwrap();
        let object = storage.read(&key, 0..bytes).unwrap();
        assert!(!object.windows(PLAIN.len()).any(|window| window == PLAIN), "{key}");
    }
    // Another key goes on; the old one is still needed to read.
    place.keys = Some(KeyRing::new(2, [(1, [7; 32]), (2, [8; 32])]).unwrap());
    let aof = place.open();
    fill(&aof, 2_500);
    archive_all(&aof);
    check_all(&aof);
    aof.close().unwrap();
    place.keys = Some(KeyRing::new(2, [(2, [8; 32])]).unwrap());
    let refused = place.try_open().and_then(|aof| aof.read(1).map(|_| ()));
    assert_eq!(refused.unwrap_err().kind(), &ErrorKind::Key);
}

#[test]
fn a_broken_network_delays_and_loses_nothing() {
    let place = Place::new();
    let aof = place.open();
    let proxy = &place.target.proxy;
    proxy.plant("PUT", "", 3, Action::DoThenDrop);
    proxy.plant("PUT", "", 2, Action::Answer(409, "ConditionalRequestConflict"));
    proxy.plant("PUT", "", 2, Action::DoThenAnswer(500, "InternalError"));
    proxy.plant("HEAD", "", 3, Action::Answer(503, "SlowDown"));
    proxy.plant("GET", "", 2, Action::CutBody(70_000));
    proxy.plant("GET", "", 2, Action::Drop);
    fill(&aof, 1_000);
    archive_all(&aof);
    check_all(&aof);
    aof.close().unwrap();
    let aof = place.open();
    check_all(&aof);
    wait_until("collected", || place.objects().len() == count(&aof, SegmentStatus::LocalDeleted));
    aof.close().unwrap();
}

/// Calls until it succeeds, and counts how often it was told of the archive instead.
fn through<T>(told: &mut u32, mut call: impl FnMut() -> aidb::Result<T>) -> T {
    loop {
        match call() {
            Ok(done) => return done,
            Err(error) => {
                assert!(matches!(AofError::of(&error), Some(AofError::RemoteStorage { .. })), "{error}");
                *told += 1;
            }
        }
    }
}

#[test]
fn without_the_archive_the_log_goes_on_and_says_so() {
    let place = Place::new();
    let aof = place.open();
    place.target.proxy.plant("PUT", "", usize::MAX, Action::Answer(403, "AccessDenied"));
    // Whichever call comes next after an upload has failed is the one that is told.
    let mut told = 0;
    for id in 1..300 {
        let _ = through(&mut told, || aof.append(&record(id)));
    }
    through(&mut told, || aof.seal());
    wait_until("reported", || !aof.background_errors().is_empty());
    assert!(
        aof.background_errors().iter().any(|error| error.kind() == &ErrorKind::Remote),
        "{:?}",
        aof.background_errors()
    );
    for id in 300..1_000 {
        let _ = through(&mut told, || aof.append(&record(id)));
    }
    assert!(told > 0, "nobody was told of it");
    place.target.proxy.heal();
    wait_until("archived", || count(&aof, SegmentStatus::LocalDeleted) > 0);
    // Cursors show what is durable.
    through(&mut told, || aof.flush());
    check_all(&aof);
    aof.close().unwrap();
}

#[test]
fn a_missing_object_is_named() {
    let place = Place::new();
    let aof = place.open();
    fill(&aof, 1_000);
    archive_all(&aof);
    aof.close().unwrap();
    let key = place.objects().remove(1);
    place.target.storage().delete(&key).unwrap();
    let said = match place.try_open() {
        Err(error) => error.to_string(),
        Ok(aof) => {
            let error = aof.cursor(From::First).unwrap().find_map(Result::err).expect("a segment is missing");
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corruption { .. }), "{error:?}");
            error.to_string()
        }
    };
    assert!(said.contains(&key), "{said}");
}

#[test]
fn truncation_reaches_the_archive() {
    let place = Place::new();
    let aof = place.open();
    fill(&aof, 1_000);
    archive_all(&aof);
    let before = place.objects().len();
    aof.truncate_before(700).unwrap();
    wait_until("deleted", || place.objects().len() < before - 1);
    check_from(&aof, From::First, 700);
    let gone = aof.read(1).unwrap_err();
    assert!(matches!(AofError::of(&gone), Some(AofError::Truncated { .. })), "{gone}");
    aof.close().unwrap();
    let aof = place.open();
    check_from(&aof, From::First, 700);
}
