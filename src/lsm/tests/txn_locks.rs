//! Pessimistic transactions over the operating system: who waits for whom, and for how long.
#![allow(clippy::disallowed_types, reason = "these tests use real threads")]

use super::open;
use crate::lsm::{DB, KeyspaceOptions, Transaction, TransactionOptions};
use crate::{ErrorKind, Result};
use std::sync::mpsc;
use std::thread::Scope;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far longer than any test: whoever waits so long has missed a wake-up or a deadlock.
const LONG: Duration = Duration::from_secs(60);

fn options(lock_timeout: Duration) -> TransactionOptions {
    TransactionOptions { pessimistic: true, lock_timeout, ..TransactionOptions::default() }
}

fn begin(db: &DB) -> Transaction {
    db.transaction(options(LONG))
}

fn impatient(db: &DB) -> Transaction {
    db.transaction(options(Duration::ZERO))
}

fn database() -> (TempDir, DB) {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    for key in ["a", "b", "c"] {
        db.put(key, "0").unwrap();
    }
    (dir, db)
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: Result<T>, kind: &ErrorKind) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.is_retryable());
}

/// Waits until `count` transactions wait for locks, or have done so and not ended yet.
fn wait_for_waiters(db: &DB, count: usize) {
    let begun = Instant::now();
    while db.core().locks.len().1 < count {
        assert!(begun.elapsed() < LONG, "nobody waits");
        std::thread::yield_now();
    }
}

/// Runs `action` on `transaction` on another thread, and returns once it waits for a lock.
fn waiting<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    db: &DB,
    mut transaction: Transaction,
    action: impl FnOnce(&mut Transaction) -> Result<T> + Send + 'scope,
) -> mpsc::Receiver<(Result<T>, Transaction)> {
    let (sender, receiver) = mpsc::channel();
    let before = db.core().locks.len().1;
    scope.spawn(move || {
        let result = action(&mut transaction);
        sender.send((result, transaction)).unwrap();
    });
    wait_for_waiters(db, before + 1);
    receiver
}

#[test]
fn locks_go_together_or_not() {
    let (_dir, db) = database();
    let (mut first, mut second) = (impatient(&db), impatient(&db));
    assert_eq!(first.get_for_share("a").unwrap().unwrap(), b"0");
    assert_eq!(second.get_for_share("a").unwrap().unwrap(), b"0");
    assert_kind(second.get_for_update("a"), &ErrorKind::TimedOut);
    assert_kind(first.put("a", "1"), &ErrorKind::TimedOut);
    first.get_for_update("b").unwrap();
    assert_kind(second.get_for_share("b"), &ErrorKind::TimedOut);
    assert_kind(second.delete("b"), &ErrorKind::TimedOut);
    // Others than the lock's key, and reads without locks, are free.
    second.put("c", "2").unwrap();
    assert_eq!(second.get("b").unwrap().unwrap(), b"0");
    first.rollback();
    second.get_for_update("a").unwrap();
    second.put("b", "2").unwrap();
    second.commit().unwrap();
    assert_eq!(db.core().locks.len(), (0, 0));
    assert_eq!(db.get("b").unwrap().unwrap(), b"2");
}

#[test]
fn a_lock_is_of_one_keyspace() {
    let (_dir, db) = database();
    let keyspace = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    let (mut first, mut second) = (impatient(&db), impatient(&db));
    first.put("key", "").unwrap();
    second.put_in(&keyspace, "key", "").unwrap();
    assert!(first.get_for_share_in(&keyspace, "other").unwrap().is_none());
    assert!(second.get_for_share_in(&keyspace, "other").unwrap().is_none());
    assert_kind(first.get_for_update_in(&keyspace, "key"), &ErrorKind::TimedOut);
}

#[test]
fn who_waits_reads_what_was_committed_meanwhile() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let mut first = begin(&db);
        first.get_for_update("a").unwrap();
        let second = waiting(scope, &db, begin(&db), |transaction| transaction.get_for_update("a"));
        first.put("a", "1").unwrap();
        first.commit().unwrap();
        let (value, mut second) = second.recv().unwrap();
        assert_eq!(value.unwrap().unwrap(), b"1");
        assert_eq!(second.get("a").unwrap().unwrap(), b"1", "what is locked is read as it is");
        second.put("a", "2").unwrap();
        second.commit().unwrap();
    });
    assert_eq!(db.get("a").unwrap().unwrap(), b"2");
    assert_eq!(db.core().locks.len(), (0, 0));
}

#[test]
fn a_deadlock_of_two_is_found_at_once() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let (mut first, mut second) = (begin(&db), begin(&db));
        first.put("a", "first").unwrap();
        second.put("b", "second").unwrap();
        let first = waiting(scope, &db, first, |transaction| transaction.put("b", "first"));
        assert_kind(second.get_for_share("a"), &ErrorKind::Deadlock);
        second.rollback();
        let (result, first) = first.recv().unwrap();
        result.unwrap();
        first.commit().unwrap();
    });
    assert_eq!(db.get("b").unwrap().unwrap(), b"first");
}

#[test]
fn a_deadlock_of_three_takes_one_victim() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let mut all = [begin(&db), begin(&db), begin(&db)];
        for (transaction, key) in all.iter_mut().zip(["a", "b", "c"]) {
            transaction.get_for_update(key).unwrap();
        }
        let [first, second, mut third] = all;
        let first = waiting(scope, &db, first, |transaction| transaction.get_for_share("b"));
        let second = waiting(scope, &db, second, |transaction| transaction.get_for_update("c"));
        assert_kind(third.get_for_update("a"), &ErrorKind::Deadlock);
        drop(third);
        let (result, second) = second.recv().unwrap();
        result.unwrap();
        drop(second);
        first.recv().unwrap().0.unwrap();
    });
    assert_eq!(db.core().locks.len(), (0, 0));
}

#[test]
fn two_that_share_and_both_want_to_write_are_a_deadlock() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let (mut first, mut second) = (begin(&db), begin(&db));
        first.get_for_share("a").unwrap();
        second.get_for_share("a").unwrap();
        let first = waiting(scope, &db, first, |transaction| transaction.put("a", "1"));
        // The one who wants it exclusively stands before those who come later.
        assert_kind(impatient(&db).get_for_share("a"), &ErrorKind::TimedOut);
        assert_kind(second.put("a", "2"), &ErrorKind::Deadlock);
        second.rollback();
        let (result, first) = first.recv().unwrap();
        result.unwrap();
        first.commit().unwrap();
    });
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
}

#[test]
fn an_only_reader_upgrades_before_those_who_wait() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let mut first = begin(&db);
        first.get_for_share("a").unwrap();
        let second = waiting(scope, &db, begin(&db), |transaction| transaction.put("a", "2"));
        first.put("a", "1").unwrap();
        first.commit().unwrap();
        let (result, second) = second.recv().unwrap();
        result.unwrap();
        second.commit().unwrap();
    });
    assert_eq!(db.get("a").unwrap().unwrap(), b"2");
}

#[test]
fn locks_are_given_in_the_order_they_were_asked_for() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let mut holder = begin(&db);
        holder.get_for_share("a").unwrap();
        let (sender, order) = mpsc::channel();
        let writer = waiting(scope, &db, begin(&db), {
            let sender = sender.clone();
            move |transaction| transaction.put("a", "w").inspect(|()| sender.send("writer").unwrap())
        });
        let reader = waiting(scope, &db, begin(&db), move |transaction| {
            transaction.get_for_share("a").inspect(|_| sender.send("reader").unwrap())
        });
        assert!(order.try_recv().is_err(), "a reader does not overtake a writer that waits");
        holder.rollback();
        let (result, writer) = writer.recv().unwrap();
        result.unwrap();
        assert_eq!(order.recv().unwrap(), "writer");
        writer.commit().unwrap();
        let (value, _reader) = reader.recv().unwrap();
        assert_eq!(value.unwrap().unwrap(), b"w");
    });
}

#[test]
fn waiting_ends_with_the_time_and_frees_those_behind() {
    let (_dir, db) = database();
    std::thread::scope(|scope| {
        let mut holder = begin(&db);
        holder.get_for_share("a").unwrap();
        let timeout = Duration::from_millis(300);
        let begun = Instant::now();
        let writer = waiting(scope, &db, db.transaction(options(timeout)), |transaction| transaction.put("a", ""));
        let mut reader = begin(&db);
        reader.get_for_share("a").unwrap();
        assert!(begun.elapsed() >= timeout, "it stood behind the writer");
        let (result, mut writer) = writer.recv().unwrap();
        assert_kind(result, &ErrorKind::TimedOut);
        // It may go on with what it has.
        writer.put("b", "1").unwrap();
        writer.commit().unwrap();
    });
    assert_eq!(db.get("b").unwrap().unwrap(), b"1");
}

#[test]
fn a_savepoint_gives_back_the_locks_taken_since() {
    let (_dir, db) = database();
    let (mut first, mut second) = (impatient(&db), impatient(&db));
    first.get_for_share("a").unwrap();
    first.put("b", "1").unwrap();
    let savepoint = first.savepoint();
    first.put("a", "1").unwrap();
    first.get_for_update("b").unwrap();
    first.get_for_update("c").unwrap();
    assert_kind(second.get_for_share("a"), &ErrorKind::TimedOut);
    first.rollback_to(savepoint).unwrap();
    second.get_for_share("a").unwrap();
    assert_kind(second.get_for_update("a"), &ErrorKind::TimedOut);
    assert_kind(second.get_for_share("b"), &ErrorKind::TimedOut);
    // What was read under the lock that is gone does not count.
    second.put("c", "2").unwrap();
    second.commit().unwrap();
    first.commit().unwrap();
    assert_eq!((db.get("b").unwrap().unwrap(), db.get("c").unwrap().unwrap()), (b"1"[..].into(), b"2"[..].into()));
    assert_eq!(db.core().locks.len(), (0, 0));
}

#[test]
fn who_heeds_no_lock_makes_it_conflict() {
    let (_dir, db) = database();
    for writes in [true, false] {
        let mut transaction = begin(&db);
        transaction.get_for_share("a").unwrap();
        if writes {
            transaction.put("c", "").unwrap();
        }
        db.put("a", "in between").unwrap();
        assert_kind(transaction.commit(), &ErrorKind::Conflict);
    }
    // What it only writes, or reads under a lock taken later, does not.
    let mut transaction = begin(&db);
    transaction.put("b", "blind").unwrap();
    db.put("a", "before").unwrap();
    db.put("b", "overwritten").unwrap();
    assert_eq!(transaction.get_for_update("a").unwrap().unwrap(), b"before");
    transaction.commit().unwrap();
    assert_eq!(db.get("b").unwrap().unwrap(), b"blind");
}

#[test]
fn plain_reads_of_a_pessimistic_transaction_are_checked() {
    let (_dir, db) = database();
    let mut transaction = begin(&db);
    assert_eq!(transaction.get("a").unwrap().unwrap(), b"0");
    db.put("a", "1").unwrap();
    // Too late: what it has acted on is gone.
    assert_eq!(transaction.get_for_update("a").unwrap().unwrap(), b"1");
    transaction.put("a", "2").unwrap();
    assert_kind(transaction.commit(), &ErrorKind::Conflict);
    let transaction = begin(&db);
    assert_eq!(transaction.get("a").unwrap().unwrap(), b"1");
    db.put("a", "2").unwrap();
    transaction.commit().unwrap();
}

#[test]
fn transfers_keep_the_total_and_never_conflict() {
    const ACCOUNTS: u64 = 6;
    let (_dir, db) = database();
    let name = |account: u64| format!("account {account}");
    let amount = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<i64>().unwrap();
    for account in 0..ACCOUNTS {
        db.put(name(account), "100").unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let db = &db;
            scope.spawn(move || {
                for round in 0..150u64 {
                    let (from, to) = ((thread + round) % ACCOUNTS, (thread * 3 + round * 7 + 1) % ACCOUNTS);
                    loop {
                        let mut transaction = begin(db);
                        let mut transfer = || {
                            let left = amount(&transaction.get_for_update(name(from))?.unwrap());
                            transaction.put(name(from), (left - 1).to_string())?;
                            let more = amount(&transaction.get_for_update(name(to))?.unwrap());
                            transaction.put(name(to), (more + 1).to_string())
                        };
                        match transfer() {
                            Ok(()) => {
                                transaction.commit().unwrap();
                                break;
                            }
                            Err(error) => assert_eq!(*error.kind(), ErrorKind::Deadlock, "{error}"),
                        }
                    }
                }
            });
        }
    });
    let total: i64 = (0..ACCOUNTS).map(|account| amount(&db.get(name(account)).unwrap().unwrap())).sum();
    assert_eq!(total, 100 * ACCOUNTS as i64);
    assert_eq!(db.core().locks.len(), (0, 0));
}
