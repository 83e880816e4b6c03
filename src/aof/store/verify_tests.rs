//! Tests of a store with everything switched on: each changed byte is named, looking beside commits finds nothing, and
//! encryption, compression, archive, retention and rebuilding go together.

use super::super::archive::ArchiveStorage;
use super::super::archive::test_storage::TestStorage;
use super::super::cursor::From;
use super::super::format::HEADER_BYTES;
use super::super::names::{MANIFEST_DIR, segment_name};
use super::super::test_env::TestEnv;
use super::super::{AofError, Damage, KeyRing, SegmentStatus};
use super::*;
use crate::base::coding::put_u64;
use std::collections::BTreeSet;
use std::time::Duration;

const DIR: &str = "aof";
const HOUR: u64 = 3_600_000_000;

/// Level of compression, and keys.
type Way = (Option<i32>, Option<KeyRing>);

fn ring(current: u32) -> KeyRing {
    KeyRing::new(current, (1..=current).map(|id| (id, [id as u8; 32]))).unwrap()
}

fn ways() -> [Way; 4] {
    [(None, None), (Some(3), None), (None, Some(ring(1))), (Some(3), Some(ring(1)))]
}

fn config(storage: &Arc<TestStorage>, segment_bytes: u64, way: &Way) -> AofConfig {
    let storage = storage.clone() as Arc<dyn ArchiveStorage>;
    AofConfig {
        segment_bytes,
        // Rounds are made by hand.
        background_interval: Duration::from_secs(3600),
        preallocate: false,
        compression_level: way.0,
        encryption: way.1.clone(),
        archive: Some(ArchiveConfig::new(storage)),
        ..AofConfig::default()
    }
}

fn open(env: &TestEnv, config: &AofConfig) -> Aof<TestEnv> {
    Aof::open(env.clone(), DIR, config.clone()).unwrap().0
}

/// A record that becomes smaller by compression, but not by much.
fn record(id: u64) -> Vec<u8> {
    let mut record = vec![id as u8; 180 + id as usize % 7];
    (0..90).for_each(|at| put_u64(&mut record, crate::base::hash::hash64(b"record", id * 100 + at)));
    record
}

fn fill(aof: &Aof<TestEnv>, ids: std::ops::Range<u64>) {
    for id in ids {
        drop(aof.append(&record(id)).unwrap());
    }
    aof.flush().unwrap();
    // Frames say so then.
    aof.shared.log.mark().unwrap();
}

fn archive(aof: &Aof<TestEnv>) {
    aof.shared.archive_once();
    assert!(aof.background_errors().is_empty(), "{:?}", aof.background_errors());
}

/// Reads everything; returns the first id and the one after the last.
fn shown(cursor: crate::aof::Cursor<TestEnv>) -> (u64, u64) {
    let mut ids: Option<(u64, u64)> = None;
    for read in cursor {
        let read = read.unwrap();
        assert!(ids.is_none_or(|(_, next)| next == read.id));
        assert!(read.bytes[..] == record(read.id), "record {}", read.id);
        ids = Some((ids.map_or(read.id, |(first, _)| first), read.id + 1));
    }
    ids.unwrap()
}

/// Offsets in a file or object of `len` bytes: all borders of its parts, and some everywhere.
fn sample(len: u64) -> BTreeSet<u64> {
    let around = |at: u64| at.saturating_sub(1)..at + 1;
    let mut sample: BTreeSet<u64> = (0..len).step_by(len as usize / 13 + 1).collect();
    // Fields of headers; a frame; blocks.
    sample.extend((0..128).step_by(19));
    [4, 11, 32, 64, 128, 256, HEADER_BYTES as u64, 4096 + 40, 64 << 10]
        .map(around)
        .into_iter()
        .for_each(|at| sample.extend(at));
    sample.extend((4096..4200).step_by(23));
    // Footer; index, summary, seal and trailer.
    sample.extend((len.saturating_sub(160)..len).step_by(17));
    sample.extend(around(len - 1));
    sample.retain(|at| *at < len);
    sample
}

#[test]
fn each_changed_byte_is_named_exactly() {
    for (number, way) in ways().into_iter().enumerate() {
        let (env, storage) = (TestEnv::default(), Arc::new(TestStorage::default()));
        let segment_bytes = if number == 3 { 72 << 10 } else { 8 << 10 };
        let config = config(&storage, segment_bytes, &way);
        let aof = open(&env, &config);
        fill(&aof, 1..segment_bytes / 1000 * 3);
        archive(&aof);
        let reader = Aof::open_read_only(env.clone(), DIR, config.clone()).unwrap();
        let looks = |what: &str, at: u64, file: &Path| {
            let looked = match at % 3 {
                0 => aof.verify(),
                1 => reader.verify(),
                _ => Aof::verify_read_only(env.clone(), DIR, &config),
            };
            let faults = looked.unwrap().faults;
            let named: Vec<_> = faults.iter().map(|Damage { file, offset, .. }| (file.as_path(), *offset)).collect();
            assert_eq!(named, [(file, at)], "way {number}, {what}: {faults:?}");
        };
        for segment in aof.shared.log.segments() {
            let end = segment.end_lsn.unwrap_or(aof.shared.log.written());
            for at in sample(HEADER_BYTES as u64 + end.0 - segment.base_lsn.0) {
                env.damage(&segment.path, |bytes| bytes[at as usize] ^= 0x41);
                looks("segment", at, &segment.path);
                env.damage(&segment.path, |bytes| bytes[at as usize] ^= 0x41);
            }
        }
        let path = Path::new(DIR).join(MANIFEST_DIR).join(segment_name(1));
        let end = env.read(&path).iter().rposition(|byte| *byte != 0).unwrap();
        for at in sample(end as u64) {
            env.damage(&path, |bytes| bytes[at as usize] ^= 0x80);
            looks("manifest", at, &path);
            env.damage(&path, |bytes| bytes[at as usize] ^= 0x80);
        }
        let keys = storage.keys();
        assert!(keys.len() > 1);
        for key in [&keys[0], &keys[keys.len() - 1]] {
            let mut len = 0;
            storage.change(|objects| len = objects[key].len() as u64);
            for at in sample(len) {
                storage.change(|objects| objects.get_mut(key).unwrap()[at as usize] ^= 1);
                looks("object", at, Path::new(key));
                storage.change(|objects| objects.get_mut(key).unwrap()[at as usize] ^= 1);
            }
        }
        let clean = aof.verify().unwrap();
        assert!(clean.is_clean() && clean.objects == keys.len() as u64, "{clean:?}");
        assert_eq!((reader.verify().unwrap().records, clean.records), (clean.records, aof.next_id() - 1));
        aof.close().unwrap();
    }
}

#[test]
fn all_damage_of_an_object_is_named() {
    let (env, storage) = (TestEnv::default(), Arc::new(TestStorage::default()));
    let config = config(&storage, 200 << 10, &ways()[3]);
    let aof = open(&env, &config);
    fill(&aof, 1..600);
    archive(&aof);
    let key = storage.keys().remove(0);
    let mut len = 0;
    // Header, a block, another block, summary, trailer.
    let places = |len: usize| [20, 500, 120_000, len - 64 - 16 - 3, len - 5];
    storage.change(|objects| {
        let object = objects.get_mut(&key).unwrap();
        len = object.len();
        places(len).into_iter().for_each(|at| object[at] ^= 0x22);
    });
    let faults = aof.verify().unwrap().faults;
    let named: Vec<_> = faults.iter().map(|Damage { file, offset, .. }| (file.to_str().unwrap(), *offset)).collect();
    assert_eq!(named, places(len).map(|at| (key.as_str(), at as u64)), "{faults:?}");
    storage.change(|objects| objects.get_mut(&key).unwrap().truncate(len - 100));
    let faults = aof.verify().unwrap().faults;
    assert!(faults.len() == 1 && faults[0].offset == len as u64 - 100, "{faults:?}");
    aof.close().unwrap();
}

#[test]
fn looking_beside_commits_and_appends_finds_nothing() {
    let (env, storage) = (TestEnv::default(), Arc::new(TestStorage::default()));
    let config = config(&storage, 16 << 10, &ways()[3]);
    let aof = open(&env, &config);
    fill(&aof, 1..100);
    let reader = Aof::open_read_only(env.clone(), DIR, config).unwrap();
    let (writer, done) = (aof.clone(), Arc::new(AtomicBool::new(false)));
    let is_done = done.clone();
    let thread = env.clone().spawn("writer", move || {
        let name = "n".repeat(256);
        for id in 100..1600 {
            writer.pin(&name, id - 50).unwrap();
            drop(writer.append(&record(id)).unwrap());
            if id % 20 == 0 {
                writer.flush().unwrap();
                writer.truncate_before(id - 60).unwrap();
                writer.shared.archive_once();
            }
        }
        is_done.store(true, Ordering::Release);
    });
    let mut looks = 0;
    while !done.load(Ordering::Acquire) || looks < 3 {
        let report = aof.verify().unwrap();
        assert!(report.is_clean() && report.objects < 100, "{report:?}");
        let report = reader.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
        looks += 1;
    }
    assert!(thread.unwrap().join());
    assert!(aof.background_errors().is_empty(), "{:?}", aof.background_errors());
    aof.close().unwrap();
}

#[test]
fn everything_goes_together() {
    for way in ways() {
        let (env, storage) = (TestEnv::default(), Arc::new(TestStorage::default()));
        let config = AofConfig {
            retention: Retention { age: Some(Duration::from_secs(3600)), bytes: None },
            ..config(&storage, 16 << 10, &way)
        };
        env.set_wall(100 * HOUR);
        let aof = open(&env, &config);
        fill(&aof, 1..200);
        archive(&aof);
        let before = storage.keys();
        env.set_wall(102 * HOUR);
        fill(&aof, 200..400);
        aof.shared.retain_once().unwrap();
        archive(&aof);
        let first = aof.first_id();
        // What is left of the segment that has records of both times.
        assert!((150..200).contains(&first), "{first}");
        assert!(!storage.keys().contains(&before[0]), "expired objects go");
        assert_eq!(shown(aof.cursor(From::First).unwrap()), (first, 400));
        assert_eq!(
            AofError::of(&aof.read(first - 1).unwrap_err()),
            Some(&AofError::Truncated { id: first - 1, first })
        );
        aof.close().unwrap();
        // Another key from here on.
        let config = AofConfig { encryption: way.1.as_ref().map(|_| ring(2)), ..config };
        let aof = open(&env, &config);
        aof.seal().unwrap();
        fill(&aof, 400..600);
        archive(&aof);
        assert_eq!(shown(aof.cursor(From::First).unwrap()), (first, 600));
        let entries = aof.segments();
        let archived = entries.iter().filter(|entry| entry.status == SegmentStatus::LocalDeleted).count() as u64;
        assert!(archived > 10, "{archived}");
        aof.close().unwrap();
        for path in env.files().iter().filter(|path| path.starts_with(Path::new(DIR).join(MANIFEST_DIR))) {
            env.forget(path);
        }
        let (aof, report) = Aof::open(env.clone(), DIR, config.clone()).unwrap();
        assert!(report.archive.rebuilt);
        let again = aof.segments();
        for entry in entries.iter().filter(|entry| entry.status == SegmentStatus::LocalDeleted) {
            assert_eq!(again.iter().find(|other| other.number == entry.number), Some(entry), "both checksums and all");
        }
        // Where the first id lay in its segment is lost with the manifest.
        let first = again[0].base_id;
        assert_eq!(shown(aof.cursor(From::First).unwrap()), (first, 600));
        let looks = [aof.verify(), Aof::verify_read_only(env.clone(), DIR, &config)];
        for report in looks.map(|report| report.unwrap()) {
            assert!(report.is_clean() && report.records == 600 - first && report.objects >= archived, "{report:?}");
        }
        let reader = Aof::open_read_only(env.clone(), DIR, config.clone()).unwrap();
        assert_eq!(shown(reader.cursor(From::First).unwrap()), (first, 600));
        aof.close().unwrap();
        if way.1.is_some() {
            let without = AofConfig { encryption: Some(KeyRing::new(2, [(2, [2; 32])]).unwrap()), ..config };
            let aof = open(&env, &without);
            assert_eq!(aof.read(599).unwrap().bytes[..], record(599)[..]);
            let error = aof.read(first).unwrap_err().to_string();
            assert!(error.contains("is not in the key ring"), "{error}");
            assert!(aof.verify().unwrap_err().to_string().contains("is not in the key ring"));
            aof.close().unwrap();
        }
    }
}

#[test]
fn a_scan_of_the_archive_takes_few_requests_and_bounded_memory() {
    let (env, storage) = (TestEnv::default(), Arc::new(TestStorage::default()));
    let mut config = config(&storage, 2 << 20, &ways()[0]);
    let aof = open(&env, &config);
    fill(&aof, 1..8001);
    archive(&aof);
    let local = |entry: &SegmentEntry| entry.status != SegmentStatus::LocalDeleted;
    let remote = aof.segments().iter().filter(|entry| !local(entry)).count() as u64;
    assert!(remote >= 2, "{remote}");
    aof.close().unwrap();
    let blocks = remote * 32;
    for (cache_bytes, most) in [(64 << 20, 12), (1 << 20, 14), (256 << 10, 24)] {
        let chosen = ArchiveConfig::new(storage.clone() as Arc<dyn ArchiveStorage>);
        config.archive = Some(ArchiveConfig { cache_bytes, ..chosen });
        let aof = open(&env, &config);
        let before = storage.reads();
        assert_eq!(shown(aof.cursor(From::First).unwrap()), (1, 8001));
        let requests = storage.reads() - before;
        assert!(
            requests <= remote * most && requests < blocks,
            "{requests} requests for {blocks} blocks, {cache_bytes}"
        );
        assert!(aof.shared.archive.cache_stats().bytes <= cache_bytes as u64);
        if cache_bytes == 64 << 20 {
            let before = storage.reads();
            assert_eq!(shown(aof.cursor(From::First).unwrap()), (1, 8001));
            assert!(storage.reads() - before <= remote * 2, "the second time only what opens them");
        }
        // One record of many: what finds it, and its block.
        let before = storage.reads();
        assert_eq!(aof.read(1000).unwrap().id, 1000);
        assert!(storage.reads() - before <= 4);
        aof.close().unwrap();
    }
}
