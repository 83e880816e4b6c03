//! Values that expire and compaction filters, over the operating system. The clock stepping back is the simulator's part.

use super::{key, tiny};
use crate::lsm::merge::Append;
use crate::lsm::{CompactionFilter, DB, KeyspaceOptions, Options, TransactionOptions, Verdict, WriteBatch};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_millis(40);
const LATER: Duration = Duration::from_secs(3600);

fn wait() {
    std::thread::sleep(SOON + Duration::from_millis(5));
}

fn entries(db: &DB) -> u64 {
    db.statistics().levels.iter().map(|level| level.entries).sum()
}

#[test]
fn a_value_is_there_until_it_expires() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), tiny()).unwrap();
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    db.put("a", "old").unwrap();
    db.flush().unwrap();
    let mut batch = WriteBatch::new();
    batch.put_with_ttl("a", "new", SOON);
    batch.put_with_ttl("b", "stays", LATER);
    batch.put_with_ttl_in(&other, "a", "other", SOON);
    db.write(batch).unwrap();
    let (snapshot, held) = (db.snapshot(), db.iter());
    let all = |iter: crate::lsm::DbIterator| iter.map(|entry| entry.unwrap().value.to_vec()).collect::<Vec<_>>();
    let both = [b"new".to_vec(), b"stays".to_vec()];
    assert_eq!(all(db.iter()), both);
    wait();
    for round in 0..3 {
        assert_eq!((db.get("a").unwrap(), other.get("a").unwrap()), (None, None), "round {round}");
        assert_eq!(all(db.iter()), both[1..]);
        assert_eq!(db.iter().rev().count(), 1);
        assert_eq!(snapshot.get("a").unwrap().unwrap(), b"new");
        assert_eq!(snapshot.of(&other).unwrap().get("a").unwrap().unwrap(), b"other");
        assert_eq!(all(snapshot.iter()), both);
        match round {
            0 => db.flush().unwrap(),
            _ => db.force_compaction().unwrap(),
        }
    }
    assert_eq!(all(held), both, "an iterator judges by when it was made");
    drop(snapshot);
    db.force_compaction().unwrap();
    assert_eq!(entries(&db), 1);
    db.close().unwrap();
    let db = DB::open(dir.path(), tiny()).unwrap();
    assert_eq!((db.get("a").unwrap(), db.get("b").unwrap().unwrap().to_vec()), (None, both[1].clone()));
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn the_log_and_read_only_views_know_what_expires() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), tiny()).unwrap();
    db.put_with_ttl("a", "1", SOON).unwrap();
    db.persist(crate::lsm::Durability::Os).unwrap();
    let view = DB::open_read_only(dir.path(), tiny()).unwrap();
    wait();
    assert_eq!(view.get("a").unwrap().unwrap(), b"1", "as of when it looked");
    view.refresh().unwrap();
    assert_eq!((view.get("a").unwrap(), view.iter().count()), (None, 0));
    drop(db);
    let db = DB::open(dir.path(), tiny()).unwrap();
    assert_eq!(db.get("a").unwrap(), None);
}

#[test]
fn what_is_merged_onto_a_value_outlives_it() {
    let dir = TempDir::new().unwrap();
    let options = Options { merge_operator: Some(Arc::new(Append::new(","))), ..tiny() };
    let db = DB::open(dir.path(), options).unwrap();
    db.put_with_ttl("a", "0", SOON).unwrap();
    db.merge("a", "1").unwrap();
    let snapshot = db.snapshot();
    db.force_compaction().unwrap();
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"0,1");
    db.merge("a", "2").unwrap();
    wait();
    for _ in 0..2 {
        assert_eq!(db.get("a").unwrap().unwrap(), b"1,2");
        assert_eq!(snapshot.get("a").unwrap().unwrap(), b"0,1");
        db.force_compaction().unwrap();
    }
    drop(snapshot);
    db.force_compaction().unwrap();
    assert_eq!((entries(&db), db.get("a").unwrap().unwrap().to_vec()), (1, b"1,2".to_vec()));
}

#[test]
fn a_transaction_sees_its_own_until_it_commits() {
    let dir = TempDir::new().unwrap();
    let options = Options { merge_operator: Some(Arc::new(Append::new(","))), ..tiny() };
    let db = DB::open(dir.path(), options).unwrap();
    let mut transaction = db.transaction(TransactionOptions::default());
    transaction.put_with_ttl("a", "1", SOON).unwrap();
    wait();
    assert_eq!(transaction.get("a").unwrap().unwrap(), b"1");
    assert_eq!(transaction.iter().next().unwrap().unwrap().value, b"1");
    assert!(transaction.merge("a", "2").unwrap_err().to_string().contains("expires"));
    transaction.commit().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"1", "counted from the commit");
    wait();
    assert_eq!(db.get("a").unwrap(), None);
}

/// Removes every other key and marks the rest once.
struct Odd;

impl CompactionFilter for Odd {
    fn name(&self) -> &str {
        "odd"
    }
    fn filter(&self, _level: usize, key: &[u8], value: &[u8]) -> Verdict {
        match key.last() {
            Some(last) if last % 2 == 1 => Verdict::Remove,
            _ if value.ends_with(b"!") => Verdict::Keep,
            _ => Verdict::Change([value, b"!"].concat()),
        }
    }
}

#[test]
fn a_filter_removes_and_changes_what_no_snapshot_sees() {
    let dir = TempDir::new().unwrap();
    let own = KeyspaceOptions { compaction_filter: Some(Arc::new(Odd)), ..KeyspaceOptions::default() };
    let db = DB::open(dir.path(), tiny()).unwrap();
    let filtered = db.keyspace("filtered", own).unwrap();
    let mut batch = WriteBatch::new();
    for number in 0..100 {
        batch.put(key(number), "default");
        batch.put_in(&filtered, key(number), "value");
    }
    db.write(batch).unwrap();
    let snapshot = db.snapshot();
    filtered.put(key(100), "later").unwrap();
    filtered.put(key(101), "later").unwrap();
    db.force_compaction().unwrap();
    assert_eq!((filtered.iter().count(), snapshot.of(&filtered).unwrap().iter().count()), (101, 100));
    assert_eq!(filtered.get(key(7)).unwrap().unwrap(), b"value");
    assert_eq!(filtered.get(key(100)).unwrap().unwrap(), b"later!");
    drop(snapshot);
    for _ in 0..2 {
        db.force_compaction().unwrap();
        let left: Vec<_> = filtered.iter().map(|entry| entry.unwrap()).collect();
        assert_eq!((left.len(), &left[3].value[..]), (51, &b"value!"[..]));
        assert_eq!((left[3].key.clone(), left[50].value.to_vec()), (key(6), b"later!".to_vec()));
    }
    assert_eq!(db.iter().count(), 100, "the default keyspace has no filter");
    assert!(db.validate_integrity().unwrap().is_sound());
}
