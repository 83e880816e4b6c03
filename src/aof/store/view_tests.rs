//! Tests of the read-only open beside a live writer, and of verify: what is truncated stays hidden, what is archived is read,
//! and a changed byte is named.

use super::super::archive::ArchiveStorage;
use super::super::archive::test_storage::TestStorage;
use super::super::cursor::From;
use super::super::names::{MANIFEST_DIR, segment_name};
use super::super::test_env::TestEnv;
use super::super::verify::VerifyReport;
use super::super::{AofError, Damage};
use super::*;
use std::time::Duration;

const DIR: &str = "aof";

fn config(storage: Option<&Arc<TestStorage>>) -> AofConfig {
    AofConfig {
        segment_bytes: 64 << 10,
        // Rounds are made by hand.
        background_interval: Duration::from_secs(3600),
        preallocate: false,
        archive: storage.map(|storage| ArchiveConfig::new(storage.clone() as Arc<dyn ArchiveStorage>)),
        ..AofConfig::default()
    }
}

fn open(env: &TestEnv, storage: Option<&Arc<TestStorage>>) -> Aof<TestEnv> {
    Aof::open(env.clone(), DIR, config(storage)).unwrap().0
}

fn reader(env: &TestEnv, storage: Option<&Arc<TestStorage>>) -> AofReader<TestEnv> {
    Aof::open_read_only(env.clone(), DIR, config(storage)).unwrap()
}

fn fill(aof: &Aof<TestEnv>, ids: std::ops::Range<u64>) {
    for id in ids {
        drop(aof.append(format!("{id:01000}").as_bytes()).unwrap());
    }
    aof.flush().unwrap();
    // Frames say so then.
    aof.shared.log.mark().unwrap();
}

/// Reads everything; checks the bytes and returns the ids.
fn shown(reader: &AofReader<TestEnv>) -> Vec<u64> {
    let records = reader.cursor(From::First).unwrap().map(|record| record.unwrap());
    records
        .map(|record| {
            assert_eq!(&record.bytes[..], format!("{:01000}", record.id).as_bytes());
            record.id
        })
        .collect()
}

/// Archives all that is due, and drops from the disk what can go.
fn archive(aof: &Aof<TestEnv>) -> usize {
    aof.shared.archive_once();
    assert!(aof.background_errors().is_empty(), "{:?}", aof.background_errors());
    let gone = aof.segments().iter().filter(|entry| entry.status == super::super::SegmentStatus::LocalDeleted).count();
    assert!(gone > 2, "{gone} segments have left the disk");
    gone
}

fn named(report: &VerifyReport) -> Vec<(&Path, u64)> {
    report.faults.iter().map(|Damage { file, offset, .. }| (file.as_path(), *offset)).collect()
}

#[test]
fn a_reader_hides_what_the_writer_truncates() {
    let env = TestEnv::default();
    let aof = open(&env, None);
    fill(&aof, 1..301);
    let (before, reader) = (env.operations(), reader(&env, None));
    assert_eq!(shown(&reader), (1..301).collect::<Vec<_>>());
    assert_eq!(env.operations(), before, "nothing was written");
    let mut cursor = reader.cursor(From::Id(20)).unwrap();
    assert_eq!(cursor.next_ref().unwrap().unwrap().id, 20);
    for first in [10, 150, 151, 290] {
        assert_eq!(aof.truncate_before(first).unwrap(), first);
        assert_eq!(shown(&reader), (first..301).collect::<Vec<_>>());
        let error = reader.read(first - 1).unwrap_err();
        assert_eq!(AofError::of(&error), Some(&AofError::Truncated { id: first - 1, first }));
    }
    // Enough commits for the manifest to be written anew, again and again.
    for round in 0..3000 {
        aof.pin("a pin with a name that is not short at all, so that the manifest grows", 290 + round % 10).unwrap();
    }
    aof.unpin("a pin with a name that is not short at all, so that the manifest grows").unwrap();
    assert_eq!(aof.truncate_before(295).unwrap(), 295);
    assert_eq!(shown(&reader), (295..301).collect::<Vec<_>>());
    aof.close().unwrap();
    let aof = open(&env, None);
    fill(&aof, 301..311);
    aof.truncate_before(299).unwrap();
    assert_eq!(shown(&reader), (299..311).collect::<Vec<_>>());
    assert!(reader.verify().unwrap().is_clean());
    aof.close().unwrap();
}

#[test]
fn a_reader_follows_the_writer_into_the_archive() {
    let env = TestEnv::default();
    let storage = Arc::new(TestStorage::default());
    let aof = open(&env, Some(&storage));
    fill(&aof, 1..501);
    let beside = reader(&env, Some(&storage));
    let mut cursor = beside.cursor(From::First).unwrap();
    for id in 1..6 {
        assert_eq!(cursor.next_ref().unwrap().unwrap().id, id);
    }
    archive(&aof);
    // The files that were dropped are written over.
    fill(&aof, 501..901);
    archive(&aof);
    assert_eq!(cursor.map(|record| record.unwrap().id).collect::<Vec<_>>(), (6..901).collect::<Vec<_>>());
    assert_eq!(shown(&beside), (1..901).collect::<Vec<_>>());
    assert_eq!(shown(&reader(&env, Some(&storage))), (1..901).collect::<Vec<_>>());
    assert_eq!(beside.read(3).unwrap().id, 3);
    for report in [beside.verify().unwrap(), aof.verify().unwrap()] {
        assert!(report.is_clean() && report.records == 900, "{report:?}");
    }
    let without = reader(&env, None);
    let local = shown(&without);
    assert!(local[0] > 100 && local.last() == Some(&900), "the archive is not known: local segments");
    aof.truncate_before(450).unwrap();
    archive(&aof);
    assert_eq!(shown(&beside), (450..901).collect::<Vec<_>>());
    assert_eq!(AofError::of(&beside.read(3).unwrap_err()), Some(&AofError::Truncated { id: 3, first: 450 }));
    aof.close().unwrap();
    assert_eq!(shown(&beside), (450..901).collect::<Vec<_>>());
}

#[test]
fn an_object_that_the_writer_deletes_under_a_reader_is_truncated_and_one_that_is_lost_is_damage() {
    let env = TestEnv::default();
    let storage = Arc::new(TestStorage::default());
    let aof = open(&env, Some(&storage));
    fill(&aof, 1..501);
    archive(&aof);
    let beside = reader(&env, Some(&storage));
    // Both stand in the first segment and have read a part of it; one begins anew when it is asked.
    let mut cursors: Vec<_> = (0..2).map(|_| beside.cursor(From::First).unwrap()).collect();
    for cursor in &mut cursors {
        assert_eq!(cursor.next_ref().unwrap().unwrap().id, 1);
    }
    let read_all = |cursor: &mut super::super::Cursor<TestEnv>| loop {
        match cursor.next_ref() {
            Some(Ok(record)) => assert!(record.id < 501),
            Some(Err(error)) => return Some(error),
            None => return None,
        }
    };
    aof.truncate_before(450).unwrap();
    aof.shared.archive_once();
    let entries = aof.segments();
    assert!(entries[0].base_id > 300, "objects are deleted: {entries:?}");
    let error = read_all(&mut cursors[0]).expect("the next segment is gone");
    assert!(matches!(AofError::of(&error), Some(AofError::Truncated { first: 450, .. })), "{error}");
    cursors[1].seek(From::First);
    assert_eq!(cursors[1].next_ref().unwrap().unwrap().id, 450);
    // Nobody has asked for this one to go.
    let entry = entries.iter().find(|entry| entry.status == super::super::SegmentStatus::LocalDeleted);
    if let Some(entry) = entry {
        storage.change(|objects| drop(objects.remove(&entry.archived_key)));
        let error = reader(&env, Some(&storage)).read(entry.base_id.max(450)).unwrap_err();
        assert!(error.is_corruption() && error.to_string().contains(&entry.archived_key), "{error}");
    }
    aof.close().unwrap();
}

#[test]
fn a_changed_byte_of_an_object_or_of_the_manifest_is_named() {
    let env = TestEnv::default();
    let storage = Arc::new(TestStorage::default());
    let aof = open(&env, Some(&storage));
    fill(&aof, 1..301);
    archive(&aof);
    let reader = reader(&env, Some(&storage));
    let entries = aof.segments();
    let of_archive: Vec<_> = entries.iter().filter(|entry| !entry.archived_key.is_empty()).collect();
    for entry in [of_archive[1], of_archive[of_archive.len() - 1]] {
        let key = &entry.archived_key;
        for at in [0, 100, 5000, entry.archived_bytes / 2, entry.archived_bytes - 1] {
            storage.change(|objects| objects.get_mut(key).unwrap()[at as usize] ^= 0x10);
            for report in [reader.verify().unwrap(), aof.verify().unwrap()] {
                let named = named(&report);
                assert_eq!(named, [(Path::new(key), at)], "{report:?}");
            }
            storage.change(|objects| objects.get_mut(key).unwrap()[at as usize] ^= 0x10);
        }
        let object = entry.archived_key.clone();
        let mut bytes = Vec::new();
        storage.change(|objects| bytes = objects.remove(&object).unwrap());
        for report in [reader.verify().unwrap(), aof.verify().unwrap()] {
            assert_eq!(named(&report), [(Path::new(key), 0)], "the object is missing");
        }
        storage.change(|objects| drop(objects.insert(object, bytes)));
    }
    aof.close().unwrap();
    let path = &Path::new(DIR).join(MANIFEST_DIR).join(segment_name(1));
    for at in [20, 4096, 4100, 4096 + 70] {
        env.damage(path, |bytes| bytes[at] ^= 0x10);
        let report = reader.verify().unwrap();
        assert_eq!(named(&report), [(path.as_path(), at as u64)], "{report:?}");
        let opened = Aof::open_read_only(env.clone(), DIR, config(Some(&storage))).unwrap_err();
        assert!(opened.is_corruption() && opened.to_string().contains(&path.display().to_string()), "{opened}");
        env.damage(path, |bytes| bytes[at] ^= 0x10);
    }
    assert!(reader.verify().unwrap().is_clean());
}
