//! Opening, closing, and what is refused; threads that write together.

use super::{key, open, tiny, value};
use crate::base::ErrorKind;
use crate::base::limits::KEY_BYTES_MAX;
use crate::lsm::{DB, DbIterator, Durability, Options, WriteBatch, WriteOptions};
use std::fs;
use std::path::{Path, PathBuf};

fn fill(db: &DB, keys: std::ops::Range<u64>) {
    for number in keys {
        db.put(key(number), value(number)).unwrap();
    }
}

fn count(iter: DbIterator) -> usize {
    iter.collect::<crate::Result<Vec<_>>>().unwrap().len()
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(suffix));
    paths.sort();
    paths
}

fn corrupt_file(result: crate::Result<DB>) -> PathBuf {
    match result.unwrap_err().kind() {
        ErrorKind::Corruption { file, .. } => file.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn second_open_is_locked_until_the_first_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    assert_eq!(DB::open(dir.path(), tiny()).unwrap_err().kind(), &ErrorKind::Locked);
    drop(db);
    open(&dir).close().unwrap();
}

#[test]
fn closed_engine_refuses_and_its_iterators_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..500);
    let iter = db.iter();
    db.close().unwrap();
    db.close().unwrap();
    assert_eq!(db.put("k", "v").unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(db.get("k").unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(db.flush().unwrap_err().kind(), &ErrorKind::Closed);
    let mut refused = db.iter();
    assert_eq!(refused.next().unwrap().unwrap_err().kind(), &ErrorKind::Closed);
    assert!(refused.next().is_none() && refused.next_back().is_none());
    assert_eq!(count(iter), 500);
}

#[test]
fn options_decide_about_creating() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Options { create_if_missing: false, ..tiny() };
    assert_eq!(DB::open(dir.path(), missing.clone()).unwrap_err().kind(), &ErrorKind::InvalidArgument);
    open(&dir).close().unwrap();
    DB::open(dir.path(), missing).unwrap().close().unwrap();
    let exists = Options { error_if_exists: true, ..tiny() };
    assert_eq!(DB::open(dir.path(), exists).unwrap_err().kind(), &ErrorKind::InvalidArgument);
}

#[test]
fn missing_current_with_tables_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..500);
    db.flush().unwrap();
    db.close().unwrap();
    let tables = files(dir.path(), ".sst");
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    corrupt_file(DB::open(dir.path(), tiny()));
    assert_eq!(files(dir.path(), ".sst"), tables, "nothing was removed");
}

#[test]
fn missing_table_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..500);
    db.force_compaction().unwrap();
    db.close().unwrap();
    let victim = files(dir.path(), ".sst").remove(0);
    fs::remove_file(&victim).unwrap();
    assert_eq!(corrupt_file(DB::open(dir.path(), tiny())), victim);
}

#[test]
fn missing_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..500);
    db.flush().unwrap();
    db.close().unwrap();
    fs::remove_dir_all(dir.path().join("wal")).unwrap();
    corrupt_file(DB::open(dir.path(), tiny()));
}

#[test]
fn orphans_go_and_unknown_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).close().unwrap();
    fs::write(dir.path().join("000900.sst"), "half a table").unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let db = open(&dir);
    assert!(files(dir.path(), ".sst").is_empty());
    assert_eq!(files(dir.path(), "notes.txt").len(), 1);
    fill(&db, 0..100);
    db.flush().unwrap();
    let tables = files(dir.path(), ".sst");
    assert!(tables[0] > dir.path().join("000900.sst"), "numbers go on behind the orphan: {tables:?}");
}

#[test]
fn damaged_table_is_reported_and_never_returned() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..500);
    db.force_compaction().unwrap();
    db.close().unwrap();
    let victim = files(dir.path(), ".sst").remove(0);
    let mut bytes = fs::read(&victim).unwrap();
    bytes[100] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let db = open(&dir);
    let report = db.validate_integrity().unwrap();
    assert!(matches!(report.problems[0].kind(), ErrorKind::Corruption { file, .. } if *file == victim), "{report}");
    let mut iter = db.iter();
    assert!(iter.by_ref().find_map(|entry| entry.err()).unwrap().is_corruption());
    assert!(iter.next().is_none() && iter.next_back().is_none());
    for number in 0..500 {
        match db.get(key(number)) {
            Ok(found) => assert_eq!(found.unwrap(), value(number)),
            Err(error) => assert!(error.is_corruption()),
        }
    }
}

#[test]
fn damaged_manifest_is_refused_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { manifest_bytes_max: 1 << 20, ..tiny() };
    let db = DB::open(dir.path(), options.clone()).unwrap();
    fill(&db, 0..100);
    db.flush().unwrap();
    fill(&db, 100..200);
    db.flush().unwrap();
    db.close().unwrap();
    let name = fs::read_to_string(dir.path().join("CURRENT")).unwrap();
    let manifest = dir.path().join(name.split(' ').next().unwrap());
    let bytes = fs::read(&manifest).unwrap();
    // Bytes 45 to 48 are padding behind the first record.
    for at in (0..64).step_by(5).filter(|at| !(45..48).contains(at)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        fs::write(&manifest, damaged).unwrap();
        match DB::open(dir.path(), options.clone()) {
            Err(error) => assert!(error.is_corruption(), "{error}"),
            Ok(_) => panic!("byte {at} was not noticed"),
        }
    }
    fs::write(&manifest, bytes).unwrap();
    assert_eq!(DB::open(dir.path(), options).unwrap().iter().count(), 200);
}

#[test]
fn limits_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut batch = WriteBatch::new();
    batch.put("fine", "v");
    batch.put(vec![0; KEY_BYTES_MAX + 1], "v");
    assert_eq!(db.write(batch).unwrap_err().kind(), &ErrorKind::InvalidArgument);
    assert!(db.get("fine").unwrap().is_none());
    db.put("", "empty keys and values are fine").unwrap();
    db.put(vec![7; KEY_BYTES_MAX], "").unwrap();
    db.force_compaction().unwrap();
    assert_eq!(db.get("").unwrap().unwrap(), b"empty keys and values are fine");
    assert_eq!(db.get(vec![7; KEY_BYTES_MAX]).unwrap().unwrap(), b"");
}

#[test]
fn batch_larger_than_a_memtable_commits_whole() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut batch = WriteBatch::new();
    (0..5_000).for_each(|number| batch.put(key(number), value(number)));
    db.write(batch).unwrap();
    db.put("last", vec![1; 100_000]).unwrap();
    drop(db);
    let db = open(&dir);
    assert_eq!(db.iter().count(), 5_001);
    db.force_compaction().unwrap();
    assert_eq!(db.iter().rev().count(), 5_001);
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn writers_and_readers_together_keep_batches_whole() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let (writers, rounds) = (4u64, 200u64);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let db = db.clone();
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut batch = WriteBatch::new();
                    for part in 0..3 {
                        batch.put(format!("{writer}-{part}"), round.to_string());
                    }
                    let durability = if round % 50 == 0 { Durability::Sync } else { Durability::Os };
                    let info = db.write_opt(batch, WriteOptions { durability: Some(durability) }).unwrap();
                    assert!(info.seq <= db.visible_seq());
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let snapshot = db.snapshot();
                    for writer in 0..writers {
                        let parts: Vec<_> =
                            (0..3).map(|part| snapshot.get(format!("{writer}-{part}")).unwrap()).collect();
                        assert!(parts.iter().all(|part| *part == parts[0]), "half a batch: {parts:?}");
                        let entries: Vec<_> =
                            db.prefix(format!("{writer}-")).map(|entry| entry.unwrap().value).collect();
                        assert!(entries.iter().all(|entry| *entry == entries[0]), "half a batch: {entries:?}");
                    }
                }
            });
        }
    });
    let statistics = db.statistics();
    assert_eq!(statistics.write_operations, writers * rounds * 3);
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn obsolete_tables_live_as_long_as_their_iterators() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..500);
    db.force_compaction().unwrap();
    let mut iter = db.iter();
    iter.next().unwrap().unwrap();
    fill(&db, 0..500);
    db.force_compaction().unwrap();
    assert_eq!(count(iter), 499);
    assert!(db.validate_integrity().unwrap().is_sound());
    let live: u64 = db.statistics().levels.iter().map(|level| level.files).sum();
    assert_eq!(files(dir.path(), ".sst").len() as u64, live, "what nobody reads is gone");
}
