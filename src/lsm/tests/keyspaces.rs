//! Keyspaces over the operating system: commits over several of them, their log, and what is left of a dropped one.

use super::{key, open, tiny, value};
use crate::lsm::{DB, DbIterator, Keyspace, KeyspaceOptions, Options, WriteBatch};
use crate::{ErrorKind, Result};
use tempfile::TempDir;

fn keyspace(db: &DB, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::default()).unwrap()
}

fn keys(iter: DbIterator) -> Vec<Vec<u8>> {
    iter.map(|entry| Ok(entry?.key)).collect::<Result<_>>().unwrap()
}

#[test]
fn maps_are_apart_and_survive_reopening() {
    let dir = TempDir::new().unwrap();
    {
        let db = open(&dir);
        let (users, events) = (keyspace(&db, "users"), keyspace(&db, "events"));
        let mut batch = WriteBatch::new();
        batch.put("key", "default");
        batch.put_in(&users, "key", "users");
        batch.put_in(&events, "key", "events");
        batch.put_in(&events, "gone", "");
        batch.delete_in(&events, "gone");
        db.write(batch).unwrap();
        // Only one of them has its part in a table when the engine closes.
        users.flush().unwrap();
        assert_eq!((users.levels()[0].files, events.levels()[0].files), (1, 0));
    }
    let db = open(&dir);
    assert_eq!(db.keyspaces(), ["users", "events"]);
    let (users, events) = (keyspace(&db, "users"), keyspace(&db, "events"));
    assert_eq!(db.get("key").unwrap().unwrap(), b"default");
    assert_eq!(users.get("key").unwrap().unwrap(), b"users");
    assert_eq!(events.get("key").unwrap().unwrap(), b"events");
    assert_eq!(keys(events.iter()), [b"key"]);
    assert!(db.validate_integrity().unwrap().is_sound());
}

#[test]
fn every_keyspace_finds_its_operations_in_one_log() {
    let dir = TempDir::new().unwrap();
    for round in 0..4 {
        let db = open(&dir);
        let names = ["a", "b", "c"];
        let spaces: Vec<Keyspace> = names.iter().map(|name| keyspace(&db, name)).collect();
        // The third is written so seldom that the others are flushed many times over what it holds back.
        for number in 0..400u64 {
            let mut batch = WriteBatch::new();
            batch.put_in(&spaces[0], key(number), value(number + round));
            batch.put_in(&spaces[1], key(number / 3), value(number + round));
            if number % 100 == 7 {
                batch.put_in(&spaces[2], key(number), value(number + round));
            }
            db.write(batch).unwrap();
        }
        assert!(db.statistics().flushes > 3);
        drop((spaces, db));
        let db = open(&dir);
        for number in 0..400 {
            assert_eq!(keyspace(&db, "a").get(key(number)).unwrap().unwrap(), value(number + round));
            let newest = (number / 3 * 3 + 2).min(399);
            assert_eq!(keyspace(&db, "b").get(key(number / 3)).unwrap().unwrap(), value(newest + round));
            let seldom = keyspace(&db, "c").get(key(number)).unwrap();
            assert_eq!(seldom.as_deref(), (number % 100 == 7).then(|| value(number + round)).as_deref());
        }
    }
}

#[test]
fn a_keyspace_that_holds_back_the_log_is_flushed() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), Options { wal_bytes_max: 64 << 10, ..tiny() }).unwrap();
    let seldom = keyspace(&db, "seldom");
    seldom.put("key", "value").unwrap();
    for number in 0..2_000 {
        db.put(key(number), value(number)).unwrap();
    }
    assert_eq!(seldom.levels()[0].files, 1);
    db.flush().unwrap();
    assert_eq!(seldom.get("key").unwrap().unwrap(), b"value");
}

#[test]
fn a_dropped_keyspace_is_gone_and_a_new_one_of_its_name_is_empty() {
    let dir = TempDir::new().unwrap();
    {
        let db = open(&dir);
        let old = keyspace(&db, "name");
        for number in 0..300 {
            old.put(key(number), value(number)).unwrap();
        }
        let mut late = WriteBatch::new();
        late.put("other", "value");
        late.put_in(&old, "late", "value");
        let iter = old.iter();
        assert!(db.drop_keyspace("name").unwrap());
        assert!(!db.drop_keyspace("name").unwrap());
        assert_eq!(keys(iter).len(), 300, "what was handed out before stays good");
        for result in [old.get(key(1)).map(|_| ()), old.put("key", "").map(|_| ()), db.write(late).map(|_| ())] {
            let error = result.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
        assert!(old.iter().next().unwrap().is_err());
        assert!(db.get("other").unwrap().is_none(), "a refused batch leaves nothing");
        assert!(keys(keyspace(&db, "name").iter()).is_empty());
        assert_ne!(keyspace(&db, "name").id(), old.id());
    }
    let db = open(&dir);
    let new = keyspace(&db, "name");
    assert!(keys(new.iter()).is_empty());
    new.put("key", "value").unwrap();
    drop((new, db));
    let db = open(&dir);
    assert_eq!(keys(keyspace(&db, "name").iter()), [b"key"]);
    db.flush().unwrap();
    assert!(db.validate_integrity().unwrap().is_sound());
    assert_eq!(db.statistics().table_bytes(), keyspace(&db, "name").levels()[0].bytes);
}

#[test]
fn one_snapshot_sees_all_keyspaces_at_one_moment() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let db = open(&dir);
    let (left, right) = (keyspace(&db, "left"), keyspace(&db, "right"));
    for number in 0..50 {
        let mut batch = WriteBatch::new();
        batch.put_in(&left, "key", value(number));
        batch.put_in(&right, "key", value(number));
        db.write(batch).unwrap();
    }
    let snapshot = db.snapshot();
    let (left_then, right_then) = (snapshot.of(&left).unwrap(), snapshot.of(&right).unwrap());
    left.delete("key").unwrap();
    db.force_compaction().unwrap();
    assert_eq!(left_then.get("key").unwrap(), right_then.get("key").unwrap());
    assert_eq!(left_then.get("key").unwrap().unwrap(), value(49));
    assert!(left.get("key").unwrap().is_none());
    let other = open(&elsewhere);
    assert!(snapshot.of(&keyspace(&other, "left")).is_err());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (db, other) = (open(&dir), open(&elsewhere));
    let (own, foreign) = (keyspace(&db, "name"), keyspace(&other, "name"));
    let mut batch = WriteBatch::new();
    batch.put_in(&foreign, "key", "value");
    assert!(db.write(batch.clone()).unwrap_err().to_string().contains("another engine"));
    batch.put_in(&own, "key", "value");
    assert!(other.write(batch).unwrap_err().to_string().contains("two engines"));
    for name in ["", &"n".repeat(256)] {
        let error = db.keyspace(name, KeyspaceOptions::default()).unwrap_err();
        assert!(error.to_string().contains("must have 1 to 255"), "{error}");
    }
    let options = KeyspaceOptions { block_bytes: Some(1), ..KeyspaceOptions::default() };
    assert!(db.keyspace("name", options).unwrap_err().to_string().contains("block_bytes"));
}

#[test]
fn a_keyspace_has_its_own_memtable_size() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let options = KeyspaceOptions { memtable_bytes: Some(1 << 20), ..KeyspaceOptions::default() };
    let (large, small) = (db.keyspace("large", options).unwrap(), keyspace(&db, "small"));
    for number in 0..500 {
        let mut batch = WriteBatch::new();
        batch.put_in(&large, key(number), value(number));
        batch.put_in(&small, key(number), value(number));
        db.write(batch).unwrap();
    }
    assert_eq!(large.levels().iter().map(|level| level.files).sum::<u64>(), 0);
    assert!(db.statistics().flushes > 3);
}
