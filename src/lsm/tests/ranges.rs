//! Range deletes in the whole engine: who sees them, what survives, what reading past them costs, and what takes them away.

use super::{key, open, tiny, value};
use crate::base::coding::get_u64;
use crate::lsm::ops::backup::restore;
use crate::lsm::{DB, DbIterator, KeyspaceOptions, Options, TransactionOptions, WriteBatch};
use crate::{ErrorKind, Result};
use std::ops::Bound;
use tempfile::TempDir;

fn fill(db: &DB, numbers: std::ops::Range<u64>) {
    let mut batch = WriteBatch::new();
    numbers.for_each(|number| batch.put(key(number), value(number)));
    db.write(batch).unwrap();
}

fn numbers(iter: DbIterator) -> Vec<u64> {
    let number = |key: Vec<u8>| String::from_utf8(key[3..].to_vec()).unwrap().parse().unwrap();
    iter.map(|entry| number(entry.unwrap().key)).collect()
}

fn backward(iter: DbIterator) -> Vec<u64> {
    let mut found: Vec<Vec<u8>> = iter.rev().map(|entry| entry.unwrap().key).collect();
    found.reverse();
    found.into_iter().map(|key| String::from_utf8(key[3..].to_vec()).unwrap().parse().unwrap()).collect()
}

/// Checks reads of every kind against the numbers that are there.
fn check(db: &DB, wanted: &[u64], below: u64) {
    assert_eq!(numbers(db.iter()), wanted);
    assert_eq!(backward(db.iter()), wanted);
    for number in 0..below {
        assert_eq!(db.contains_key(key(number)).unwrap(), wanted.contains(&number), "key {number}");
    }
    let report = db.validate_integrity().unwrap();
    assert!(report.is_sound(), "{report}");
}

#[test]
fn a_range_is_gone_in_memory_in_tables_and_after_each_way_to_go_on() {
    let dir = TempDir::new().unwrap();
    let mut db = open(&dir);
    fill(&db, 0..300);
    let before = db.snapshot();
    db.delete_range(key(50)..key(250)).unwrap();
    db.put(key(100), "again").unwrap();
    let wanted: Vec<u64> = (0..50).chain([100]).chain(250..300).collect();
    let steps: [fn(&DB) -> Result<()>; 4] = [|_| Ok(()), DB::flush, DB::force_compaction, DB::force_compaction];
    for (number, step) in steps.iter().enumerate() {
        step(&db).unwrap();
        check(&db, &wanted, 300);
        assert_eq!(numbers(before.iter()).len(), 300, "in step {number}");
        assert!(before.contains_key(key(60)).unwrap());
    }
    drop(before);
    for _ in 0..2 {
        db.close().unwrap();
        db = open(&dir);
        check(&db, &wanted, 300);
    }
    db.force_compaction().unwrap();
    let statistics = db.statistics();
    let left: u64 = statistics.levels.iter().map(|level| level.entries + level.range_tombstones).sum();
    assert_eq!(left, 101, "nothing is kept of what nobody sees: {statistics}");
}

#[test]
fn ends_of_every_kind() {
    let bounds = |low: Bound<u64>, high: Bound<u64>| (low.map(key), high.map(key));
    let cases = [
        (bounds(Bound::Included(3), Bound::Excluded(5)), vec![0, 1, 2, 5, 6, 7]),
        (bounds(Bound::Excluded(3), Bound::Included(5)), vec![0, 1, 2, 3, 6, 7]),
        (bounds(Bound::Unbounded, Bound::Excluded(5)), vec![5, 6, 7]),
        (bounds(Bound::Excluded(5), Bound::Unbounded), vec![0, 1, 2, 3, 4, 5]),
        (bounds(Bound::Unbounded, Bound::Unbounded), vec![]),
        (bounds(Bound::Included(5), Bound::Excluded(3)), (0..8).collect()),
        (bounds(Bound::Included(5), Bound::Excluded(5)), (0..8).collect()),
    ];
    for (range, wanted) in cases {
        let dir = TempDir::new().unwrap();
        let db = open(&dir);
        fill(&db, 0..8);
        db.flush().unwrap();
        db.delete_range(range).unwrap();
        check(&db, &wanted, 8);
        db.flush().unwrap();
        check(&db, &wanted, 8);
    }
}

#[test]
fn a_key_over_its_limit_is_refused_and_nothing_written() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    fill(&db, 0..3);
    let error = db.delete_range(..vec![b'z'; 1 << 16]).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
    check(&db, &[0, 1, 2], 3);
}

#[test]
fn operations_of_a_batch_apply_in_order_in_each_keyspace() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put("a", "before");
    batch.put_in(&other, "a", "before");
    batch.delete_range("a".."c");
    batch.put("b", "after");
    db.write(batch).unwrap();
    assert_eq!((db.get("a").unwrap(), db.get("b").unwrap().unwrap().to_vec()), (None, b"after".to_vec()));
    assert_eq!(other.get("a").unwrap().unwrap(), b"before");
    other.delete_range::<&str>(..).unwrap();
    db.close().unwrap();
    let db = open(&dir);
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    assert!(other.iter().next().is_none());
    assert_eq!(db.iter().count(), 1);
}

#[test]
fn a_range_tombstone_alone_is_flushed() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    fill(&db, 0..20);
    db.flush().unwrap();
    db.delete_range(key(5)..).unwrap();
    db.flush().unwrap();
    let statistics = db.statistics();
    assert_eq!((statistics.flushes, statistics.levels[0].range_tombstones), (2, 1), "{statistics}");
    check(&db, &[0, 1, 2, 3, 4], 20);
    db.close().unwrap();
    check(&open(&dir), &[0, 1, 2, 3, 4], 20);
}

#[test]
fn a_copy_and_a_read_only_view_have_the_range_tombstones() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    fill(&db, 0..20);
    db.flush().unwrap();
    db.delete_range(..key(10)).unwrap();
    for flush in [false, true] {
        if flush {
            db.flush().unwrap();
        }
        let copies = TempDir::new().unwrap();
        let (checkpoint, backup, restored) =
            (copies.path().join("checkpoint"), copies.path().join("backup"), copies.path().join("restored"));
        db.checkpoint(&checkpoint).unwrap();
        let wanted: Vec<u64> = (10..20).collect();
        check(&DB::open(&checkpoint, tiny()).unwrap(), &wanted, 20);
        db.backup(&backup).unwrap();
        restore(&backup, None, &restored).unwrap();
        check(&DB::open(&restored, tiny()).unwrap(), &wanted, 20);
        let view = DB::open_read_only(dir.path(), tiny()).unwrap();
        assert_eq!((numbers(view.iter()), view.get(key(3)).unwrap()), (wanted, None));
    }
}

#[test]
fn reading_seeks_past_what_is_covered() {
    let dir = TempDir::new().unwrap();
    let options = Options { block_cache_bytes: 64 << 20, ..Options::default() };
    let db = DB::open(dir.path(), options).unwrap();
    for from in (0..100_000).step_by(1000) {
        fill(&db, from..from + 1000);
    }
    db.force_compaction().unwrap();
    let misses = || db.statistics().cache_misses;
    let blocks = |walk: &dyn Fn() -> usize| {
        let before = misses();
        (walk(), misses() - before)
    };
    for from in (0..100_000).step_by(1000) {
        db.delete_range(key(from + 5)..key(from + 1000)).unwrap();
    }
    let (entries, read) = blocks(&|| db.iter().count());
    assert_eq!(entries, 500);
    assert!(read <= 250, "{read} blocks for 100 islands of 5 keys");
    let (entries, read) = blocks(&|| db.iter().rev().count());
    assert_eq!(entries, 500);
    assert!(read <= 100, "{read} more blocks the other way");
}

#[test]
fn a_transaction_sees_its_own_and_conflicts_for_others() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    fill(&db, 0..10);
    let mut own = db.transaction(TransactionOptions::default());
    own.put(key(4), "gone").unwrap();
    let savepoint = own.savepoint();
    own.delete_range(key(2)..key(6)).unwrap();
    own.put(key(5), "new").unwrap();
    assert_eq!(numbers(own.iter()), [0, 1, 5, 6, 7, 8, 9]);
    assert_eq!(backward(own.iter()), [0, 1, 5, 6, 7, 8, 9]);
    assert_eq!((own.get(key(4)).unwrap(), own.get(key(5)).unwrap().unwrap().to_vec()), (None, b"new".to_vec()));
    own.rollback_to(savepoint).unwrap();
    assert_eq!(numbers(own.iter()).len(), 10);
    assert_eq!(own.get(key(4)).unwrap().unwrap(), b"gone");
    own.delete_range(key(2)..key(6)).unwrap();
    own.put(key(5), "new").unwrap();

    let reader = |read: &dyn Fn(&crate::lsm::Transaction)| {
        let mut reader = db.transaction(TransactionOptions::default());
        read(&reader);
        reader.put("read", "").unwrap();
        reader
    };
    let of_key = reader(&|reader| drop(reader.get(key(3)).unwrap()));
    let of_range = reader(&|reader| assert_eq!(reader.range(key(3)..key(5)).count(), 2));
    let of_others = reader(&|reader| assert_eq!(reader.range(key(6)..).count(), 4));
    let later = reader(&|reader| drop(reader.get(key(2)).unwrap()));
    own.commit().unwrap();
    assert_eq!(numbers(db.iter()), [0, 1, 5, 6, 7, 8, 9]);
    assert_eq!(of_key.commit().unwrap_err().kind(), &ErrorKind::Conflict);
    assert_eq!(of_range.commit().unwrap_err().kind(), &ErrorKind::Conflict);
    of_others.commit().unwrap();
    db.force_compaction().unwrap();
    assert_eq!(later.commit().unwrap_err().kind(), &ErrorKind::Conflict, "what was compacted away is noticed too");
}

#[test]
fn a_damaged_block_of_range_tombstones_is_corruption_of_its_file() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    fill(&db, 0..5);
    db.delete_range(key(1)..key(3)).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let table = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let table = table.into_iter().find(|path| path.extension().is_some_and(|of| of == "sst")).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    let offset = get_u64(&bytes, bytes.len() - 152 + 48).unwrap();
    bytes[offset as usize + 2] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    match DB::open(dir.path(), tiny()).unwrap_err().kind() {
        ErrorKind::Corruption { file, offset: at } => assert_eq!((file, *at), (&table, offset)),
        other => panic!("{other:?}"),
    }
}
