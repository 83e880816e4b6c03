//! Merges over the operating system: operators by name, what fails and what does not, transactions, copies.

use super::{key, tiny};
use crate::base::coding::put_u64;
use crate::lsm::merge::{AddI64, Append, Max, MergeOperator};
use crate::lsm::{DB, KeyspaceOptions, Options, TransactionOptions, WriteBatch};
use crate::{ErrorKind, Result};
use std::sync::Arc;
use tempfile::TempDir;

fn with(operator: impl MergeOperator) -> Options {
    Options { merge_operator: Some(Arc::new(operator)), ..tiny() }
}

fn commas() -> Options {
    with(Append::new(","))
}

fn open(dir: &TempDir, options: Options) -> Result<DB> {
    DB::open(dir.path(), options)
}

fn number_bytes(number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_u64(&mut bytes, number as u64);
    bytes
}

fn refused<T: std::fmt::Debug>(result: Result<T>, what: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    let shown = error.to_string();
    assert!(what.iter().all(|part| shown.contains(part)), "{shown}");
}

/// Fails to merge "bad" and panics at "panic".
struct Picky;

impl MergeOperator for Picky {
    fn name(&self) -> &str {
        "picky"
    }
    fn full(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        assert!(!operands.contains(&&b"panic"[..]), "told to");
        if operands.contains(&&b"bad"[..]) { None } else { Append::new(",").full(key, base, operands) }
    }
}

#[test]
fn merges_are_read_wherever_they_lie() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir, commas()).unwrap();
    db.put("a", "0").unwrap();
    db.merge("a", "1").unwrap();
    db.flush().unwrap();
    db.merge("a", "2").unwrap();
    db.merge("b", "x").unwrap();
    let snapshot = db.snapshot();
    db.merge("a", "3").unwrap();
    db.flush().unwrap();
    let mut batch = WriteBatch::new();
    batch.merge("a", "4");
    batch.merge("a", "5");
    batch.delete("b");
    batch.merge("b", "y");
    db.write(batch).unwrap();
    let check = |db: &DB| {
        assert_eq!(db.get("a").unwrap().unwrap(), b"0,1,2,3,4,5");
        assert_eq!(db.get("b").unwrap().unwrap(), b"y");
        let values = |back: bool| {
            let mut iter = db.iter();
            let mut next = || if back { iter.next_back() } else { iter.next() };
            let values: Vec<_> = std::iter::from_fn(|| next().map(|entry| entry.unwrap().value.to_vec())).collect();
            values
        };
        assert_eq!(values(false), [b"0,1,2,3,4,5".to_vec(), b"y".to_vec()]);
        assert_eq!(values(true), [b"y".to_vec(), b"0,1,2,3,4,5".to_vec()]);
    };
    check(&db);
    db.force_compaction().unwrap();
    check(&db);
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"0,1,2");
    assert_eq!(snapshot.get("b").unwrap().unwrap(), b"x");
    drop(snapshot);
    drop(db);
    let db = open(&dir, commas()).unwrap();
    check(&db);
    let view = DB::open_read_only(dir.path(), commas()).unwrap();
    assert_eq!(view.get("a").unwrap().unwrap(), b"0,1,2,3,4,5");
    refused(DB::open_read_only(dir.path(), tiny()).unwrap().get("a"), &["\"aidb.append \\\",\\\"\"", "not given"]);
}

#[test]
fn force_compaction_leaves_puts() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir, with(AddI64)).unwrap();
    for round in 0..30 {
        for number in 0..50 {
            db.merge(key(number), number_bytes(round)).unwrap();
        }
    }
    db.force_compaction().unwrap();
    let entries: u64 = db.statistics().levels.iter().map(|level| level.entries).sum();
    assert_eq!(entries, 50);
    drop(db);
    // Puts can be read without the operator.
    let db = open(&dir, tiny()).unwrap();
    assert_eq!(db.get(key(7)).unwrap().unwrap(), number_bytes(435));
}

#[test]
fn the_operator_is_known_by_its_name() {
    let dir = TempDir::new().unwrap();
    {
        let db = open(&dir, tiny()).unwrap();
        refused(db.merge("a", "1"), &["default keyspace", "no merge operator"]);
        assert_eq!(db.visible_seq().0, 0, "nothing was written");
    }
    // Given and never used, it is not known yet.
    drop(open(&dir, with(Max)).unwrap());
    {
        let db = open(&dir, commas()).unwrap();
        db.put("put", "1").unwrap();
        db.merge("a", "1").unwrap();
    }
    refused(open(&dir, with(Max)), &["aidb.append", "aidb.max", "default keyspace"]);
    let db = open(&dir, tiny()).unwrap();
    assert_eq!(db.get("put").unwrap().unwrap(), b"1");
    refused(db.get("a"), &["aidb.append", "not given"]);
    assert!(db.iter().next().unwrap().is_err() && db.iter().next_back().unwrap().is_ok());
    refused(db.merge("a", "2"), &["no merge operator"]);
    db.force_compaction().unwrap();
    drop(db);
    let db = open(&dir, commas()).unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
}

#[test]
fn each_keyspace_has_its_operator() {
    let dir = TempDir::new().unwrap();
    let own = |operator: Option<Arc<dyn MergeOperator>>| KeyspaceOptions {
        merge_operator: operator,
        ..KeyspaceOptions::default()
    };
    {
        let db = open(&dir, commas()).unwrap();
        let peaks = db.keyspace("peaks", own(Some(Arc::new(Max)))).unwrap();
        let lists = db.keyspace("lists", own(None)).unwrap();
        for operand in ["b", "c", "a"] {
            peaks.merge("k", operand).unwrap();
            lists.merge("k", operand).unwrap();
            peaks.flush().unwrap();
        }
        assert_eq!(peaks.get("k").unwrap().unwrap(), b"c");
        assert_eq!(lists.get("k").unwrap().unwrap(), b"b,c,a");
        refused(db.keyspace("peaks", own(None)), &["keyspace \"peaks\"", "aidb.max", "aidb.append"]);
        peaks.merge("k", "d").unwrap();
    }
    let copy = dir.path().join("copy");
    let db = open(&dir, commas()).unwrap();
    db.checkpoint(&copy).unwrap();
    // Before anyone has asked for the keyspace, its merges are left alone.
    db.force_compaction().unwrap();
    let peaks = db.keyspace("peaks", own(Some(Arc::new(Max)))).unwrap();
    assert_eq!(peaks.get("k").unwrap().unwrap(), b"d");
    let copied = DB::open(&copy, commas()).unwrap();
    refused(copied.keyspace("peaks", own(None)), &["aidb.max"]);
    assert_eq!(copied.keyspace("lists", own(None)).unwrap().get("k").unwrap().unwrap(), b"b,c,a");
}

#[test]
fn what_cannot_be_merged_fails_reads_of_its_key_alone() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir, with(Picky)).unwrap();
    for (name, operand) in [("bad", "bad"), ("panic", "panic"), ("good", "good")] {
        db.put(name, "0").unwrap();
        db.merge(name, "1").unwrap();
        db.merge(name, operand).unwrap();
    }
    for round in 0..3 {
        for name in ["bad", "panic"] {
            refused(db.get(name), &["\"picky\" cannot merge the 2 operands", name]);
        }
        assert_eq!(db.get("good").unwrap().unwrap(), b"0,1,good");
        assert_eq!(db.range("c".."h").count(), 1);
        match round {
            0 => db.flush().unwrap(),
            _ => db.force_compaction().unwrap(),
        }
    }
    db.put("panic", "now").unwrap();
    assert_eq!(db.get("panic").unwrap().unwrap(), b"now");
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn a_transaction_merges_without_reading() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir, commas()).unwrap();
    db.put("a", "0").unwrap();
    let begin = |pessimistic| db.transaction(TransactionOptions { pessimistic, ..TransactionOptions::default() });
    let (mut first, mut second) = (begin(false), begin(false));
    first.merge("a", "1").unwrap();
    second.merge("a", "2").unwrap();
    first.commit().unwrap();
    second.commit().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"0,1,2");

    let mut reader = begin(false);
    reader.merge("a", "3").unwrap();
    let savepoint = reader.savepoint();
    reader.merge("a", "4").unwrap();
    reader.delete("b").unwrap();
    reader.merge("b", "x").unwrap();
    db.merge("c", "unseen").unwrap();
    assert_eq!(reader.get("a").unwrap().unwrap(), b"0,1,2,3,4");
    let all: Vec<_> = reader.iter().map(|entry| entry.unwrap().value.to_vec()).collect();
    assert_eq!(all, [b"0,1,2,3,4".to_vec(), b"x".to_vec()]);
    let back: Vec<_> = reader.iter().rev().map(|entry| entry.unwrap().value.to_vec()).collect();
    assert_eq!(back, [b"x".to_vec(), b"0,1,2,3,4".to_vec()]);
    reader.rollback_to(savepoint).unwrap();
    assert_eq!(reader.get("a").unwrap().unwrap(), b"0,1,2,3");
    db.merge("a", "between").unwrap();
    assert_eq!(*reader.commit().unwrap_err().kind(), ErrorKind::Conflict, "it has read what it merged onto");

    let mut locking = begin(true);
    locking.merge("a", "5").unwrap();
    assert_eq!(locking.get_for_update("a").unwrap().unwrap(), b"0,1,2,between,5");
    locking.commit().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"0,1,2,between,5");
}

#[test]
fn operands_that_stay_apart_are_merged_by_the_transaction() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir, with(Picky)).unwrap();
    db.put("a", "0").unwrap();
    let mut transaction = db.transaction(TransactionOptions::default());
    transaction.merge("a", "1").unwrap();
    transaction.merge("a", "2").unwrap();
    refused(transaction.merge("a", "bad"), &["cannot merge"]);
    transaction.commit().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"0,1,2");
}
