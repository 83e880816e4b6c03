//! Optimistic transactions over the operating system: what they see, and what makes their commits fail.

use super::{key, open, tiny, value};
use crate::base::Error;
use crate::lsm::{Cursor, DB, DbIterator, Durability, Entry, KeyspaceOptions, Transaction, TransactionOptions};
use crate::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::ops::Bound;
use tempfile::TempDir;

fn begin(db: &DB) -> Transaction {
    db.transaction(TransactionOptions::default())
}

fn database() -> (TempDir, DB) {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    (dir, db)
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T>, key: &str) -> Error {
    let error = result.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.is_retryable() && error.to_string().contains(key), "{error}");
    error
}

fn pairs(iter: impl Iterator<Item = Result<Entry>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    iter.map(|entry| entry.map(|entry| (entry.key, entry.value.into_vec()))).collect::<Result<_>>().unwrap()
}

#[test]
fn own_writes_are_read_and_nobody_else_sees_them() {
    let (_dir, db) = database();
    for key in ["a", "b", "c"] {
        db.put(key, "old").unwrap();
    }
    let mut transaction = begin(&db);
    transaction.put("b", "new").unwrap();
    transaction.delete("c").unwrap();
    transaction.put("d", "new").unwrap();
    db.put("a", "later").unwrap();
    db.put("e", "later").unwrap();
    assert_eq!(transaction.get("b").unwrap().unwrap(), b"new");
    assert!(!transaction.contains_key("c").unwrap() && !transaction.contains_key("e").unwrap());
    let wanted = [("a", "old"), ("b", "new"), ("d", "new")].map(|(key, value)| (key.into(), value.into()));
    assert_eq!(pairs(transaction.iter()), wanted);
    assert_eq!(pairs(transaction.iter().rev()), wanted.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(db.get("b").unwrap().unwrap(), b"old");
    transaction.rollback();
    assert_eq!(db.get("b").unwrap().unwrap(), b"old");
    assert_eq!(db.statistics().snapshots, 0);
}

#[test]
fn an_update_is_not_lost() {
    let (_dir, db) = database();
    db.put("counter", "1").unwrap();
    let (mut first, mut second) = (begin(&db), begin(&db));
    for transaction in [&mut first, &mut second] {
        assert_eq!(transaction.get("counter").unwrap().unwrap(), b"1");
        transaction.put("counter", "2").unwrap();
    }
    let info = first.commit().unwrap();
    assert_eq!(info.seq, db.visible_seq());
    assert_conflict(second.commit(), "\"counter\"");
    assert_eq!(db.visible_seq(), info.seq, "a refused commit leaves nothing");
}

#[test]
fn writes_are_not_skewed() {
    let (_dir, db) = database();
    for doctor in ["ann", "bob"] {
        db.put(doctor, "on call").unwrap();
    }
    let (mut first, mut second) = (begin(&db), begin(&db));
    for (transaction, own) in [(&mut first, "ann"), (&mut second, "bob")] {
        assert!(["ann", "bob"].iter().all(|doctor| transaction.contains_key(doctor).unwrap()));
        transaction.delete(own).unwrap();
    }
    second.commit().unwrap();
    assert_conflict(first.commit(), "\"bob\"");
}

#[test]
fn a_missing_key_that_appears_conflicts() {
    let (_dir, db) = database();
    let mut transaction = begin(&db);
    assert!(transaction.get("name").unwrap().is_none());
    transaction.put("other", "").unwrap();
    db.put("name", "taken").unwrap();
    assert_conflict(transaction.commit(), "\"name\"");
}

#[test]
fn blind_writes_and_pure_reads_do_not_conflict() {
    let (_dir, db) = database();
    let (mut blind, reader) = (begin(&db), begin(&db));
    blind.put("key", "blind").unwrap();
    assert_eq!(blind.get("key").unwrap().unwrap(), b"blind", "its own write is not a read of others");
    assert!(reader.get("key").unwrap().is_none());
    db.put("key", "other").unwrap();
    let info = reader.commit().unwrap();
    assert!(info.seq < db.visible_seq());
    blind.commit_with(Durability::Sync).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), b"blind");
    let undone = {
        let mut transaction = begin(&db);
        let savepoint = transaction.savepoint();
        transaction.get("key").unwrap();
        transaction.put("key", "").unwrap();
        transaction.rollback_to(savepoint).unwrap();
        transaction
    };
    db.put("key", "again").unwrap();
    undone.commit().unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), b"again");
}

/// Reads in a transaction, has `interfere` write, and returns how the commit ends.
fn commit_after(db: &DB, read: impl FnOnce(&Transaction), interfere: impl FnOnce()) -> Result<()> {
    let mut transaction = begin(db);
    read(&transaction);
    transaction.put("result", "x").unwrap();
    interfere();
    transaction.commit().map(|_| ())
}

/// Keys `d`, `h`, `l`, `p` are there.
fn ladder() -> (TempDir, DB) {
    let (dir, db) = database();
    for key in ["d", "h", "l", "p"] {
        db.put(key, "old").unwrap();
    }
    (dir, db)
}

fn take(mut iter: DbIterator, front: usize, back: usize) {
    for _ in 0..front {
        iter.next().transpose().unwrap();
    }
    for _ in 0..back {
        iter.next_back().transpose().unwrap();
    }
}

#[test]
fn what_an_iterator_has_passed_is_read_and_no_more() {
    // (entries from the front, from the back, keys that conflict, keys that do not)
    let cases: [(usize, usize, &[&str], &[&str]); 5] = [
        (0, 0, &[], &["a", "d", "z"]),
        (1, 0, &["c", "d"], &["b", "e", "h", "z"]),
        (2, 0, &["c", "d", "e", "h"], &["i", "l"]),
        (0, 1, &["l", "m", "nn"], &["k", "o", "p"]),
        (9, 0, &["c", "e", "l", "nn"], &["b", "o", "p"]),
    ];
    for (front, back, touched, free) in cases {
        for key in touched.iter().chain(free) {
            let (_dir, db) = ladder();
            let read = |transaction: &Transaction| take(transaction.range("c".."o"), front, back);
            let result = commit_after(&db, read, || db.put(key, "new").unwrap());
            match touched.contains(key) {
                true => drop(assert_conflict(result, &format!("\"{key}\""))),
                false => result.unwrap_or_else(|error| panic!("{front} {back}: {error}")),
            }
        }
    }
}

#[test]
fn a_cursor_is_recorded_in_both_directions() {
    type Movement = fn(&mut Cursor) -> Result<()>;
    let moves: [(Movement, &str, &str); 6] = [
        (|cursor| cursor.seek(b"i"), "k", "m"),
        (|cursor| cursor.seek_for_prev(b"k"), "i", "g"),
        (|cursor| cursor.seek_to_last(), "q", "o"),
        (|cursor| cursor.seek(b"q"), "z", "p"),
        (|cursor| cursor.seek(b"h").and_then(|()| cursor.next()), "k", "m"),
        (|cursor| cursor.seek(b"l").and_then(|()| cursor.prev()), "i", "g"),
    ];
    for (number, (movement, touched, free)) in moves.into_iter().enumerate() {
        for key in [touched, free] {
            let (_dir, db) = ladder();
            let read = |transaction: &Transaction| movement(&mut transaction.iter().into_cursor().unwrap()).unwrap();
            let result = commit_after(&db, read, || db.put(key, "new").unwrap());
            assert_eq!(result.is_err(), key == touched, "movement {number}, {key}: {result:?}");
        }
    }
}

#[test]
fn a_phantom_conflicts_in_memory_in_level_0_and_further_down() {
    let settle: [fn(&DB); 3] = [|_| {}, |db| db.flush().unwrap(), |db| db.force_compaction().unwrap()];
    for settle in settle {
        let (_dir, db) = ladder();
        settle(&db);
        let read = |transaction: &Transaction| take(transaction.prefix("h"), 9, 0);
        let interfere = || {
            db.put("hh", "phantom").unwrap();
            settle(&db);
        };
        assert_conflict(commit_after(&db, read, interfere), "\"hh\"");
        let read = |transaction: &Transaction| take(transaction.prefix("l"), 9, 0);
        commit_after(&db, read, || db.put("m", "").unwrap()).unwrap();
    }
}

#[test]
fn a_deletion_conflicts_even_if_its_tombstone_has_reached_the_bottom() {
    let read: [fn(&Transaction); 2] =
        [|transaction| drop(transaction.get("h").unwrap()), |transaction| take(transaction.range("g".."i"), 9, 0)];
    for read in read {
        let (_dir, db) = ladder();
        db.force_compaction().unwrap();
        let interfere = || {
            db.delete("h").unwrap();
            db.force_compaction().unwrap();
            db.force_compaction().unwrap();
        };
        assert_conflict(commit_after(&db, read, interfere), "\"h\"");
        // Only the transaction's snapshot held the tombstone back.
        db.force_compaction().unwrap();
        let tombstones: u64 = db.statistics().levels.iter().map(|level| level.tombstones).sum();
        assert_eq!(tombstones, 0);
    }
}

#[test]
fn a_key_that_was_written_and_deleted_again_conflicts() {
    let (_dir, db) = database();
    let read = |transaction: &Transaction| assert!(transaction.get("key").unwrap().is_none());
    let interfere = || {
        db.put("key", "").unwrap();
        db.delete("key").unwrap();
        db.force_compaction().unwrap();
    };
    assert_conflict(commit_after(&db, read, interfere), "\"key\"");
}

#[test]
fn keyspaces_are_read_and_written_apart() {
    let (_dir, db) = database();
    let (users, mails) = ("users", "mails");
    let [users, mails] = [users, mails].map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap());
    users.put("1", "ann").unwrap();
    let mut transaction = begin(&db);
    assert_eq!(transaction.get_in(&users, "1").unwrap().unwrap(), b"ann");
    assert!(!transaction.contains_key_in(&mails, "ann").unwrap() && !transaction.contains_key("1").unwrap());
    transaction.put_in(&mails, "ann", "1").unwrap();
    transaction.delete_in(&users, "1").unwrap();
    assert_eq!(pairs(transaction.range_in(&mails, "a"..)).len(), 1);
    assert!(pairs(transaction.range_in(&users, "0".."9")).is_empty());
    assert!(pairs(transaction.prefix_in(&mails, "b")).is_empty());
    mails.put("1", "of another keyspace").unwrap();
    transaction.commit().unwrap();
    assert!(users.get("1").unwrap().is_none() && mails.contains_key("ann").unwrap());

    let mut transaction = begin(&db);
    transaction.get_in(&users, "1").unwrap();
    transaction.put("key", "").unwrap();
    users.put("1", "bob").unwrap();
    assert_conflict(transaction.commit(), "of keyspace \"users\"");

    let mut transaction = begin(&db);
    transaction.get_in(&users, "1").unwrap();
    transaction.put("key", "").unwrap();
    db.drop_keyspace("users").unwrap();
    assert!(transaction.get_in(&users, "1").is_err() && transaction.put_in(&users, "1", "").is_err());
    assert!(transaction.iter_in(&users).next().unwrap().is_err());
    assert_eq!(*transaction.commit().unwrap_err().kind(), ErrorKind::InvalidArgument);

    let (_elsewhere, other) = database();
    let foreign = other.keyspace("mails", KeyspaceOptions::default()).unwrap();
    let mut transaction = begin(&db);
    assert!(transaction.put_in(&foreign, "1", "").is_err() && transaction.get_in(&foreign, "1").is_err());
}

#[test]
fn savepoints_take_back_what_came_after() {
    let (_dir, db) = database();
    let mut transaction = begin(&db);
    transaction.put("a", "1").unwrap();
    let first = transaction.savepoint();
    transaction.put("a", "2").unwrap();
    let second = transaction.savepoint();
    transaction.delete("a").unwrap();
    transaction.put("b", "2").unwrap();
    let before = transaction.iter();
    transaction.rollback_to(second).unwrap();
    assert_eq!(pairs(before), [(b"b".to_vec(), b"2".to_vec())], "an iterator keeps what it has seen");
    assert_eq!(transaction.get("a").unwrap().unwrap(), b"2");
    transaction.rollback_to(first).unwrap();
    transaction.rollback_to(first).unwrap();
    assert!(transaction.rollback_to(second).is_err(), "set after the one returned to");
    assert!(begin(&db).rollback_to(first).is_err());
    assert_eq!(transaction.get("a").unwrap().unwrap(), b"1");
    let before = db.visible_seq().0;
    assert_eq!(transaction.commit().unwrap().seq.0, before + 1);
    assert_eq!(pairs(db.iter()), [(b"a".to_vec(), b"1".to_vec())]);
}

#[test]
fn memory_is_bounded_for_writes_and_for_reads() {
    let (_dir, db) = database();
    for number in 0..2_000 {
        db.put(key(number), value(number)).unwrap();
    }
    let options = TransactionOptions { bytes_max: 64 << 10, ..TransactionOptions::default() };
    let mut transaction = db.transaction(options);
    let refused = (0..).find_map(|number| transaction.put(key(number), vec![0; 1000]).err()).unwrap();
    assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
    assert!(refused.to_string().contains("bytes_max is 65536"), "{refused}");
    // What was written up to there is whole, and can still be committed.
    assert!(transaction.contains_key(key(0)).unwrap());
    transaction.commit().unwrap();

    let transaction = db.transaction(options);
    let mut gaps = (0..2_000).filter(|number| number % 2 == 0);
    assert!(gaps.any(|number| transaction.get(key(number)).is_err()));
    let transaction = db.transaction(options);
    assert_eq!(transaction.iter().map(|entry| entry.map(|_| 1)).sum::<Result<u64>>().unwrap(), 2_000, "one range");
}

#[test]
fn a_refused_write_leaves_the_transaction_as_it_was() {
    let (_dir, db) = database();
    let mut transaction = begin(&db);
    transaction.put("key", "value").unwrap();
    let long = vec![0; crate::base::limits::KEY_BYTES_MAX + 1];
    assert_eq!(*transaction.put(&long, "").unwrap_err().kind(), ErrorKind::InvalidArgument);
    transaction.commit().unwrap();
    assert!(db.contains_key("key").unwrap());
}

/// Small deterministic random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn compare_views(random: &mut Random, transaction: &Transaction, model: &Model) {
    let (a, b) = (key(random.below(60)), key(random.below(60)));
    let (low, high) = (a.clone().min(b.clone()), a.max(b));
    let wanted: Vec<_> =
        model.range(low.clone()..high.clone()).map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(pairs(transaction.range(low.as_slice()..high.as_slice())), wanted);
    let back: Vec<_> = wanted.iter().rev().cloned().collect();
    assert_eq!(pairs(transaction.scan(&low, &high).rev()), back);
    let mut both = transaction.range(low.as_slice()..high.as_slice());
    let (mut front, mut rest) = (Vec::new(), Vec::new());
    loop {
        let entry = if random.below(2) == 0 {
            both.next().map(|entry| (true, entry))
        } else {
            both.next_back().map(|entry| (false, entry))
        };
        match entry {
            Some((true, entry)) => front.push(entry.unwrap().key),
            Some((false, entry)) => rest.push(entry.unwrap().key),
            None => break,
        }
    }
    front.extend(rest.into_iter().rev());
    assert_eq!(front, wanted.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
    let mut cursor = transaction.iter().into_cursor().unwrap();
    let mut at: Option<Vec<u8>> = None;
    for _ in 0..20 {
        let target = key(random.below(60));
        let next = |key: &Vec<u8>| model.range((Bound::Excluded(key.clone()), Bound::Unbounded)).next();
        let prev = |key: &Vec<u8>| model.range(..key.clone()).next_back();
        let found = match random.below(6) {
            0 => cursor.seek(&target).map(|()| model.range(target..).next()),
            1 => cursor.seek_for_prev(&target).map(|()| model.range(..=target).next_back()),
            2 => cursor.seek_to_last().map(|()| model.last_key_value()),
            3 | 4 => cursor.next().map(|()| at.as_ref().and_then(next)),
            _ => cursor.prev().map(|()| at.as_ref().and_then(prev)),
        };
        let found = found.unwrap();
        assert_eq!(
            cursor.valid().then(|| (cursor.key(), cursor.value())),
            found.map(|(key, value)| (&key[..], &value[..]))
        );
        at = found.map(|(key, _)| key.clone());
    }
}

#[test]
fn merged_view_matches_a_map() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), tiny()).unwrap();
    let (mut random, mut committed) = (Random(7), Model::new());
    for round in 0..60 {
        for _ in 0..random.below(40) {
            let (key, value) = (key(random.below(60)), value(random.below(100)));
            db.put(&key, &value).unwrap();
            committed.insert(key, value);
        }
        let mut transaction = begin(&db);
        let mut model = committed.clone();
        let mut savepoints = Vec::new();
        for step in 0..40 {
            let (key, value) = (key(random.below(60)), value(random.below(100)));
            match random.below(8) {
                0 => savepoints.push((transaction.savepoint(), model.clone())),
                1 if !savepoints.is_empty() => {
                    savepoints.truncate(1 + random.below(savepoints.len() as u64) as usize);
                    let (savepoint, then) = savepoints.last().unwrap();
                    transaction.rollback_to(*savepoint).unwrap();
                    model.clone_from(then);
                }
                2 | 3 => {
                    transaction.delete(&key).unwrap();
                    model.remove(&key);
                }
                4 => assert_eq!(transaction.get(&key).unwrap().as_deref(), model.get(&key).map(Vec::as_slice)),
                _ => {
                    transaction.put(&key, &value).unwrap();
                    model.insert(key, value);
                }
            }
            if step % 5 == 0 {
                compare_views(&mut random, &transaction, &model);
            }
        }
        let interferes = round % 3 == 0;
        if interferes {
            // The views above have passed everything there is.
            take(transaction.iter(), 100, 0);
            let (key, value) = (key(random.below(60)), value(random.below(100)));
            db.put(&key, &value).unwrap();
            committed.insert(key, value);
            compare_views(&mut random, &transaction, &model);
        }
        let result = transaction.commit();
        match interferes {
            // It may have nothing to commit; what the engine holds is compared below.
            true => drop(result.is_err().then(|| assert_conflict(result, "key"))),
            false => {
                result.unwrap();
                committed = model;
            }
        }
        assert_eq!(pairs(db.iter()), committed.clone().into_iter().collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn concurrent_increments_add_up() {
    let (_dir, db) = database();
    let conflicts = std::thread::scope(|scope| {
        let increment = |number: u64| {
            let mut conflicts = 0u64;
            for round in 0..200u64 {
                let name = format!("counter {}", (number + round) % 3);
                loop {
                    let mut transaction = begin(&db);
                    let before = transaction.get(&name).unwrap();
                    let count: u64 = before.map_or(0, |value| std::str::from_utf8(&value).unwrap().parse().unwrap());
                    transaction.put(&name, (count + 1).to_string()).unwrap();
                    match transaction.commit() {
                        Ok(_) => break,
                        Err(error) => drop(assert_conflict(Err::<(), _>(error), "counter")),
                    }
                    conflicts += 1;
                }
            }
            conflicts
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || increment(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
    });
    let total: u64 =
        pairs(db.iter()).iter().map(|(_, value)| std::str::from_utf8(value).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(total, 800, "after {conflicts} conflicts");
}

#[test]
fn concurrent_appends_behind_the_last_entry_leave_no_hole() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let db = &db;
            scope.spawn(move || {
                let mut appended = 0;
                while appended < 100 {
                    let mut transaction = begin(db);
                    let next = pairs(transaction.prefix("key")).len() as u64;
                    transaction.put(key(next), thread.to_string()).unwrap();
                    match transaction.commit() {
                        Ok(_) => appended += 1,
                        Err(error) => drop(assert_conflict(Err::<(), _>(error), "key")),
                    }
                }
            });
        }
    });
    let all: Vec<_> = pairs(db.iter()).into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, (0..400).map(key).collect::<Vec<_>>());
}
