//! Manual compactions of a range: what they reach, what they leave, and what goes on beside them.

use super::{key, open, tiny, value};
use crate::lsm::{DB, Durability, KeyspaceOptions, Options};
use crate::{ErrorKind, Result};
use std::ops::RangeBounds;
use tempfile::TempDir;

fn tombstones(db: &DB) -> u64 {
    db.statistics().levels.iter().map(|level| level.tombstones).sum()
}

/// Files of each level.
fn files(db: &DB) -> Vec<u64> {
    db.statistics().levels.iter().map(|level| level.files).collect()
}

fn keys(db: &DB, range: impl RangeBounds<Vec<u8>>) -> usize {
    db.range(range).map(|entry| entry.map(|_| ())).collect::<Result<Vec<_>>>().unwrap().len()
}

/// Nothing is compacted unless it is asked for.
fn still() -> Options {
    Options { l0_compaction_files: 64, l0_stall_files: 200, table_bytes: 4 << 10, levels_max: 4, ..tiny() }
}

#[test]
fn tombstones_of_the_range_go_and_others_stay() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), Options { memtable_bytes: 1 << 20, background_threads: 1, ..still() }).unwrap();
    for number in 0..1000 {
        db.put(key(number), value(number)).unwrap();
    }
    db.force_compaction().unwrap();
    let before = files(&db);
    assert!(before[..3].iter().all(|files| *files == 0) && before[3] > 4, "{before:?}");
    for number in 100..200 {
        db.delete(key(number)).unwrap();
    }
    // What does not meet the range is not even flushed.
    db.compact_range(key(500)..).unwrap();
    assert_eq!(files(&db), before);
    db.compact_range(key(100)..key(200)).unwrap();
    assert_eq!((tombstones(&db), files(&db)[0], keys(&db, key(100)..key(200))), (0, 0, 0));
    assert_eq!(keys(&db, ..), 900);
    let numbers: Vec<u64> = (0..3).map(|number| 900 + number).collect();
    for number in numbers {
        db.delete(key(number)).unwrap();
        db.flush().unwrap();
    }
    db.compact_range(..=key(100)).unwrap();
    assert_eq!((files(&db)[0], tombstones(&db)), (3, 3), "none of the tables meets the range");
    db.compact_range::<Vec<u8>>(..).unwrap();
    assert_eq!((files(&db)[0], tombstones(&db), keys(&db, ..)), (0, 0, 897));
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn only_the_keyspace_that_is_meant_is_compacted() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), still()).unwrap();
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    for number in 0..300 {
        db.put(key(number), value(number)).unwrap();
        other.put(key(number), value(number)).unwrap();
    }
    db.flush().unwrap();
    let before = db.statistics().flushes;
    other.compact_range::<Vec<u8>>(..).unwrap();
    assert!(other.levels()[0].files == 0 && db.statistics().flushes == before);
    assert!(files(&db)[0] > 0);
    db.drop_keyspace("other").unwrap();
    assert_eq!(other.compact_range::<Vec<u8>>(..).unwrap_err().kind(), &ErrorKind::InvalidArgument);
}

#[test]
fn writers_and_background_compactions_go_on_beside_it() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let db = &db;
            scope.spawn(move || (0..2000).for_each(|at| db.put(key(at * 2 + writer), value(at)).unwrap()));
        }
        for begin in [0u64, 1500] {
            let db = &db;
            scope.spawn(move || (0..20).for_each(|_| db.compact_range(key(begin)..key(begin + 2000)).unwrap()));
        }
        scope.spawn(|| (0..3).for_each(|_| db.force_compaction().unwrap()));
    });
    assert_eq!(keys(&db, ..), 4000);
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn closing_ends_it() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), Options { durability: Durability::Buffered, ..still() }).unwrap();
    for number in 0..5000 {
        db.put(key(number), value(number)).unwrap();
    }
    std::thread::scope(|scope| {
        let compactor = scope.spawn(|| {
            loop {
                if let Err(error) = db.compact_range::<Vec<u8>>(..) {
                    return error;
                }
            }
        });
        while db.statistics().compactions == 0 {
            std::thread::yield_now();
        }
        db.close().unwrap();
        assert_eq!(compactor.join().unwrap().kind(), &ErrorKind::Closed);
    });
    assert_eq!(keys(&open(&dir), ..), 5000);
}
