//! [`Transaction`]: reads from one moment and writes kept aside, committed together or not at all.
//!
//! Used by one thread at a time; its iterators may be on others. Nothing of it is in the engine before it commits but its
//! snapshot, so that dropping it undoes it.
//!
//! | file | job |
//! |---|---|
//! | `writes` | own writes by key, savepoints, the cursor over them |
//! | `reads` | which keys and ranges were looked at |
//! | `check`, `recent` | whether one of them has changed; the newest commits |
//! | `locks`, `holdings` | the locks of an engine, those of a transaction |
//!
//! **Isolation: serializable**, of both kinds and together. Every key that the transaction looked for, found or not, and every
//! stretch that an iterator passed, is compared at its commit with what others have committed since: if nothing of it was
//! written, the transaction may as well have run at the moment of its commit, alone. Else the commit fails with
//! [`Conflict`](crate::ErrorKind::Conflict) and nothing of it is written. One that writes nothing and locks nothing has run at
//! the moment of its snapshot, and never conflicts; nor does one that has read nothing.
//!
//! A pessimistic transaction avoids conflicts by locking: the keys that it writes, and those that it reads with
//! [`get_for_update`](Transaction::get_for_update) and [`get_for_share`](Transaction::get_for_share), which return the newest
//! committed value. No other pessimistic transaction changes such a key before this one has ended, so that its commit does
//! not fail for what it read so. Its other reads see the moment of its beginning, like an optimistic one's, and
//! are checked like those. Writes outside transactions, and optimistic ones, heed no lock: they go through, and it is the
//! pessimistic transaction that has read their key which conflicts. Locks do not cover ranges.
//!
//! Source: Kung and Robinson, "On Optimistic Methods for Concurrency Control" (1981); for ranges FoundationDB's resolver.

mod check;
mod holdings;
mod locks;
mod reads;
mod recent;
mod writes;

pub(super) use check::Check;
pub(super) use locks::LockTable;
pub(super) use recent::Recent;

use self::holdings::{Holdings, LOCK_BYTES};
use self::locks::Mode;
use self::reads::{ReadSet, Recorded};
use self::recent::Checking;
use self::writes::{OwnWrites, Writes};
use super::batch::format::Operation;
use super::commit::Commit;
use super::db::{CommitInfo, Engine};
use super::iter::MergingIterator;
use super::iterator::{Bounds, DbIterator, OWN, Source, View};
use super::keyspace::Keyspace;
use super::options::Durability;
use super::ranges::{Covering, Edge, Layer, span_of};
use super::snapshot::Snapshot;
use super::tree::{DEFAULT_KEYSPACE, Tree};
use super::ttl;
use super::value::Value;
use super::version::SuperVersion;
use crate::base::key::{SeqNum, ValueKind};
use crate::base::{Error, Result};
use crate::env::{Env, Mutex, StdEnv};
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

/// Coverage marks of transactions, for the campaigns that run some.
pub const TXN_MARKS: &[&str] = &[
    "txn.commit",
    "txn.conflict_group",
    "txn.conflict_key",
    "txn.conflict_range",
    "txn.conflict_recent",
    "txn.deadlock",
    "txn.lock_timeout",
    "txn.read_only",
    "txn.upgrade",
    "txn.wait",
];

/// Bugs of transactions that the simulator can switch on: name and what goes wrong.
pub const TXN_PLANTED_BUGS: &[(&str, &str)] = &[
    ("txn_deadlock_unseen", "transactions that wait for each other do so until their time is out"),
    ("txn_group_unchecked", "what a transaction has read is not compared with the batches before it in its group"),
    ("txn_lock_not_taken", "a lock is given to whoever asks for it"),
    ("txn_lock_released_early", "locks are given back before the commit is visible"),
    ("txn_misses_unrecorded", "a key that was looked for and not found may be written by another"),
    (
        "txn_range_end_unrecorded",
        "an iterator that has come to its end has not looked at the gap behind the last entry",
    ),
    ("txn_range_deletes_unchecked", "what others have deleted as a range does not count as written"),
    ("txn_ranges_unchecked", "what an iterator has passed may be changed by another"),
    (
        "txn_rollback_keeps_lock",
        "a lock taken after a savepoint is nobody's when the transaction returns to it, and never free",
    ),
    ("txn_second_check_skipped", "what was committed while a transaction checked its reads is not compared with them"),
    ("txn_tables_unchecked", "what was flushed since the transaction began is not looked at"),
    ("txn_upgrade_ignores_readers", "a shared lock becomes exclusive although others hold it shared"),
    ("txn_validation_skipped", "a transaction commits whatever others have written since it began"),
];

/// Choices for one transaction; see [`Engine::transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
    /// Locks the keys that are written, and those read for update or for share, so that others wait instead of failing.
    /// Default false: right where conflicts are rare.
    pub pessimistic: bool,
    /// Longest wait for one lock. Default 1 s; zero does not wait at all.
    pub lock_timeout: Duration,
    /// Bytes of memory that its writes, its locks and the notes of what it has read may take, roughly. Default 256 MiB; a commit takes
    /// less than 2 GiB of writes in any case.
    pub bytes_max: usize,
}

impl Default for TransactionOptions {
    fn default() -> TransactionOptions {
        TransactionOptions { pessimistic: false, lock_timeout: Duration::from_secs(1), bytes_max: 256 << 20 }
    }
}

/// A moment in a transaction to which its writes can be taken back; see [`Transaction::savepoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    number: u64,
    operations: usize,
    locks: usize,
}

/// Reads at one moment and writes that commit together; dropping it undoes it. Keeps the engine open.
///
/// Reads see the engine as it was when the transaction began, and its own writes. Iterators see what was written before
/// they were made.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// db.put("stock", "3")?;
/// let mut buyer = db.transaction(aidb::TransactionOptions::default());
/// let mut other = db.transaction(aidb::TransactionOptions::default());
/// for transaction in [&mut buyer, &mut other] {
///     let stock: u32 = std::str::from_utf8(&transaction.get("stock")?.unwrap())?.parse()?;
///     transaction.put("stock", (stock - 1).to_string())?;
/// }
/// buyer.commit()?;
/// let error = other.commit().unwrap_err(); // it has read what is no longer so
/// assert_eq!(*error.kind(), aidb::ErrorKind::Conflict);
/// assert_eq!(db.get("stock")?.unwrap(), b"2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transaction<E: Env = StdEnv> {
    engine: Engine<E>,
    snapshot: Snapshot<E>,
    writes: Arc<Writes>,
    reads: Arc<Mutex<E, ReadSet<E>>>,
    /// Numbers of the savepoints that can still be returned to, in the order they were set.
    savepoints: Vec<u64>,
    /// `None` for an optimistic one.
    holdings: Option<Holdings<E>>,
}

impl<E: Env> Engine<E> {
    /// Begins a transaction: what it reads is the engine at this moment.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// db.put("from", "100")?;
    /// let mut transaction = db.transaction(aidb::TransactionOptions::default());
    /// transaction.put("from", "90")?;
    /// transaction.put("to", "10")?;
    /// assert_eq!(transaction.get("to")?.unwrap(), b"10");
    /// assert_eq!(db.get("to")?, None);
    /// transaction.commit()?;
    /// assert_eq!(db.get("to")?.unwrap(), b"10");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transaction(&self, options: TransactionOptions) -> Transaction<E> {
        let TransactionOptions { pessimistic, lock_timeout, bytes_max } = options;
        let snapshot = self.snapshot();
        let reads = Arc::new(Mutex::<E, _>::new(ReadSet::new(bytes_max)));
        let holdings = pessimistic.then(|| Holdings::new(&self.core().locks, lock_timeout));
        let (writes, savepoints) = (Arc::default(), Vec::new());
        Transaction { engine: self.clone(), snapshot, writes, reads, savepoints, holdings }
    }
}

impl<E: Env> Transaction<E> {
    /// Returns the sequence number of the newest commit it sees.
    pub fn seq(&self) -> SeqNum {
        self.snapshot.seq()
    }

    /// Returns the value of `key`: its own, or the one at its beginning. A key that was read under a lock is read anew.
    ///
    /// # Errors
    /// As [`Engine::get`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the transaction would take more memory
    /// than [`TransactionOptions::bytes_max`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.get_at(self.default_tree(), key.as_ref())
    }

    /// Returns the value of `key` in `keyspace`; see [`get`](Transaction::get).
    ///
    /// # Errors
    /// As [`get`](Transaction::get), and if the keyspace was dropped or is one of another engine.
    pub fn get_in(&self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.get_at(self.tree_of(keyspace)?, key.as_ref())
    }

    /// Locks `key` for this transaction alone and returns its newest committed value, or its own.
    ///
    /// In an optimistic transaction this is [`get`](Transaction::get).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// # db.put("stock", "3")?;
    /// let options = aidb::TransactionOptions { pessimistic: true, ..aidb::TransactionOptions::default() };
    /// let mut buyer = db.transaction(options);
    /// let stock: u32 = std::str::from_utf8(&buyer.get_for_update("stock")?.unwrap())?.parse()?;
    /// buyer.put("stock", (stock - 1).to_string())?;
    /// buyer.commit()?; // nobody else who locks it has had the stock in between
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if others hold the lock for longer than [`TransactionOptions::lock_timeout`];
    /// [`Deadlock`](crate::ErrorKind::Deadlock), at once, if they wait for locks of this transaction: then it should be
    /// rolled back, to a savepoint before its locks at least, so that they can go on. What it holds is as before. Else as
    /// [`get`](Transaction::get).
    pub fn get_for_update(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.get_locked(&self.default_tree().clone(), key.as_ref(), Mode::Exclusive)
    }

    /// Locks `key` of `keyspace`; see [`get_for_update`](Transaction::get_for_update).
    ///
    /// # Errors
    /// As [`get_for_update`](Transaction::get_for_update) and [`get_in`](Transaction::get_in).
    pub fn get_for_update_in(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.get_locked(self.tree_of(keyspace)?, key.as_ref(), Mode::Exclusive)
    }

    /// Locks `key` against changes by others, who may do the same, and returns its newest committed value, or its own.
    ///
    /// In an optimistic transaction this is [`get`](Transaction::get). Two that then write what both have locked so wait
    /// for each other: read with [`get_for_update`](Transaction::get_for_update) what is to be written.
    ///
    /// # Errors
    /// As [`get_for_update`](Transaction::get_for_update).
    pub fn get_for_share(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.get_locked(&self.default_tree().clone(), key.as_ref(), Mode::Shared)
    }

    /// Locks `key` of `keyspace`; see [`get_for_share`](Transaction::get_for_share).
    ///
    /// # Errors
    /// As [`get_for_update_in`](Transaction::get_for_update_in).
    pub fn get_for_share_in(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.get_locked(self.tree_of(keyspace)?, key.as_ref(), Mode::Shared)
    }

    /// Tells whether `key` has a value.
    ///
    /// # Errors
    /// As [`get`](Transaction::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Tells whether `key` has a value in `keyspace`.
    ///
    /// # Errors
    /// As [`get_in`](Transaction::get_in).
    pub fn contains_key_in(&self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_in(keyspace, key)?.is_some())
    }

    /// Walks every key in order, from either end; see [`Engine::iter`]. What it passes counts as read, no more.
    pub fn iter(&self) -> DbIterator {
        self.range::<[u8; 0]>(..)
    }

    /// Walks the keys in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> DbIterator {
        self.iter_at(Ok(self.default_tree()), Bounds::from_range(&range))
    }

    /// Walks the keys from `low` to below `high`.
    pub fn scan(&self, low: impl AsRef<[u8]>, high: impl AsRef<[u8]>) -> DbIterator {
        self.range(low.as_ref()..high.as_ref())
    }

    /// Walks the keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> DbIterator {
        self.iter_at(Ok(self.default_tree()), Bounds::from_prefix(prefix.as_ref()))
    }

    /// Walks every key of `keyspace` in order; see [`iter`](Transaction::iter).
    pub fn iter_in(&self, keyspace: &Keyspace<E>) -> DbIterator {
        self.range_in::<[u8; 0]>(keyspace, ..)
    }

    /// Walks the keys of `keyspace` in `range`.
    pub fn range_in<K: AsRef<[u8]>>(&self, keyspace: &Keyspace<E>, range: impl RangeBounds<K>) -> DbIterator {
        self.iter_at(self.tree_of(keyspace), Bounds::from_range(&range))
    }

    /// Walks the keys of `keyspace` that begin with `prefix`.
    pub fn prefix_in(&self, keyspace: &Keyspace<E>, prefix: impl AsRef<[u8]>) -> DbIterator {
        self.iter_at(self.tree_of(keyspace), Bounds::from_prefix(prefix.as_ref()))
    }

    /// Sets `key` to `value`, for itself until it commits. A pessimistic transaction locks the key.
    ///
    /// # Errors
    /// A pessimistic transaction's as [`get_for_update`](Transaction::get_for_update).
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the key, the value or all writes together are over a
    /// [limit](crate::base::limits), or the transaction would take more memory than [`TransactionOptions::bytes_max`].
    /// The transaction is as before.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let operation = Operation { keyspace: DEFAULT_KEYSPACE, kind: ValueKind::Put, key, value };
        self.write(&self.default_tree().clone(), operation)
    }

    /// Sets `key` to `value` in `keyspace`; see [`put`](Transaction::put).
    ///
    /// # Errors
    /// As [`put`](Transaction::put), and if the keyspace was dropped or is one of another engine.
    pub fn put_in(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let operation = Operation { keyspace: keyspace.id(), kind: ValueKind::Put, key, value };
        self.write(self.tree_of(keyspace)?, operation)
    }

    /// Removes `key`, whether it exists or not, for itself until it commits.
    ///
    /// # Errors
    /// As [`put`](Transaction::put).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), &[][..]);
        let operation = Operation { keyspace: DEFAULT_KEYSPACE, kind: ValueKind::Delete, key, value };
        self.write(&self.default_tree().clone(), operation)
    }

    /// Removes `key` in `keyspace`; see [`delete`](Transaction::delete).
    ///
    /// # Errors
    /// As [`put_in`](Transaction::put_in).
    pub fn delete_in(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), &[][..]);
        let operation = Operation { keyspace: keyspace.id(), kind: ValueKind::Delete, key, value };
        self.write(self.tree_of(keyspace)?, operation)
    }

    /// Sets `key` to `value` until `ttl` after its commit; see [`Engine::put_with_ttl`]. Until then it does not expire.
    ///
    /// # Errors
    /// As [`put`](Transaction::put).
    pub fn put_with_ttl(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> Result<()> {
        let (keyspace, kind) = (DEFAULT_KEYSPACE, ValueKind::PutTtl);
        let value = ttl::format::encode(ttl, value.as_ref());
        let operation = Operation { keyspace, kind, key: key.as_ref(), value: &value };
        self.write(&self.default_tree().clone(), operation)
    }

    /// Sets `key` to `value` in `keyspace` until `ttl` after its commit; see [`put_with_ttl`](Transaction::put_with_ttl).
    ///
    /// # Errors
    /// As [`put_in`](Transaction::put_in).
    pub fn put_with_ttl_in(
        &mut self,
        keyspace: &Keyspace<E>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let value = ttl::format::encode(ttl, value.as_ref());
        let operation =
            Operation { keyspace: keyspace.id(), kind: ValueKind::PutTtl, key: key.as_ref(), value: &value };
        self.write(self.tree_of(keyspace)?, operation)
    }

    /// Merges `operand` onto the value of `key`; see [`Engine::merge`].
    ///
    /// This reads nothing, and so never conflicts, unless the transaction has merged onto the key before and the operator leaves the
    /// two operands apart. Reading the key afterwards reads what lies below.
    ///
    /// # Errors
    /// As [`put`](Transaction::put) and [`Engine::merge`]. Where the transaction has written the key before, what the operator
    /// makes of that is known at once, and an error if it cannot, or if that expires.
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_at(&self.default_tree().clone(), key.as_ref(), operand.as_ref())
    }

    /// Merges `operand` onto the value of `key` in `keyspace`; see [`merge`](Transaction::merge).
    ///
    /// # Errors
    /// As [`merge`](Transaction::merge) and [`put_in`](Transaction::put_in).
    pub fn merge_in(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_at(self.tree_of(keyspace)?, key.as_ref(), operand.as_ref())
    }

    /// Removes every key in `range`, for itself until it commits; a range without keys is nothing. What it writes there afterwards
    /// is kept.
    ///
    /// This reads nothing, and so never makes the transaction conflict; others that have read a key in the range do, when they
    /// commit later. It takes no locks, for locks do not cover ranges: a pessimistic transaction of another that has locked
    /// a key in the range is not waited for, and its commit fails if it has read the key.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) as [`put`](Transaction::put).
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        self.write_range(&self.default_tree().clone(), &range)
    }

    /// Removes every key of `keyspace` in `range`; see [`delete_range`](Transaction::delete_range).
    ///
    /// # Errors
    /// As [`delete_range`](Transaction::delete_range), and if the keyspace was dropped or is one of another engine.
    pub fn delete_range_in<K: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace<E>,
        range: impl RangeBounds<K>,
    ) -> Result<()> {
        self.write_range(self.tree_of(keyspace)?, &range)
    }

    /// Marks a moment to which [`rollback_to`](Transaction::rollback_to) can return, more than once.
    pub fn savepoint(&mut self) -> Savepoint {
        let number = self.engine.core().locks.number();
        self.savepoints.push(number);
        let locks = self.holdings.as_ref().map_or(0, Holdings::len);
        Savepoint { number, operations: self.writes.len(), locks }
    }

    /// Undoes the writes since `savepoint`, and gives back locks taken since; one that was shared before is shared again.
    ///
    /// Reads under a lock that is given back count as never made. All others still count: a program may have acted on them.
    /// Savepoints set after it are gone.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is gone, or one of another transaction.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Some(at) = self.savepoints.iter().position(|number| *number == savepoint.number) else {
            return Err(Error::invalid_argument("a savepoint that is gone, or of another transaction"));
        };
        self.savepoints.truncate(at + 1);
        if self.writes.len() > savepoint.operations {
            Arc::make_mut(&mut self.writes).truncate(savepoint.operations);
        }
        if let Some(holdings) = &mut self.holdings {
            holdings.truncate(savepoint.locks);
        }
        self.note_bytes();
        Ok(())
    }

    /// Undoes everything, as dropping the transaction does.
    pub fn rollback(self) {
        drop(self);
    }

    /// Commits with the durability of [`Options::durability`](super::Options::durability).
    ///
    /// # Errors
    /// As [`commit_with`](Transaction::commit_with).
    pub fn commit(self) -> Result<CommitInfo> {
        let durability = self.engine.core().options.durability;
        self.commit_with(durability)
    }

    /// Makes its writes visible, all at once, if nothing that it has read was changed since.
    ///
    /// A transaction that has written nothing commits without any I/O of the log, and always if it has locked nothing; its
    /// [`CommitInfo`] is the moment it read. Locks are given back once the writes are visible, before they are durable:
    /// what others commit then is never found without them.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) names a key that it has read, or the absence of which it has seen, and that
    /// another has written since: nothing was written, and running the transaction again may succeed. Else as
    /// [`Engine::write_opt`], or an I/O error of a table that has to be looked at.
    ///
    /// # Durability
    /// As [`Engine::write_opt`].
    pub fn commit_with(self, durability: Durability) -> Result<CommitInfo> {
        let Transaction { engine, snapshot, writes, reads, mut holdings, .. } = self;
        let core = engine.core();
        let writes = Arc::try_unwrap(writes).unwrap_or_else(|shared| (*shared).clone());
        let has_locked = holdings.as_ref().is_some_and(|holdings| holdings.reads().next().is_some());
        if writes.len() == 0 && !has_locked {
            core.check_open()?;
            core.env.reached("txn.read_only");
            return Ok(CommitInfo { seq: snapshot.seq(), lsn: core.log.end() });
        }
        let checking = Checking::begin(&core.checking);
        // Iterators that are still alive may go on; what they pass from now on matters to nobody.
        let reads = std::mem::replace(&mut *reads.lock(), ReadSet::new(usize::MAX));
        let check = match has_locked || !reads.is_empty() {
            true => Some(Box::new(Check::new(core, reads, snapshot.seq(), holdings.as_ref())?)),
            false => None,
        };
        if writes.len() == 0 {
            core.check_open()?;
            let seq = check.map_or(snapshot.seq(), |check| check.since());
            return Ok(CommitInfo { seq, lsn: core.log.end() });
        }
        let batch = writes.into_batch(&core.identity)?;
        if core.env.planted("txn_lock_released_early") {
            holdings = None;
        }
        let info = core.make_visible(Commit { batch, durability, check })?;
        drop((checking, holdings, snapshot));
        core.make_durable(info, durability)?;
        core.env.reached("txn.commit");
        Ok(info)
    }

    fn default_tree(&self) -> &Arc<Tree<E>> {
        &self.engine.core().tree
    }

    fn tree_of<'a>(&self, keyspace: &'a Keyspace<E>) -> Result<&'a Arc<Tree<E>>> {
        if !Arc::ptr_eq(keyspace.identity(), &self.engine.core().identity) {
            return Err(Error::invalid_argument("a transaction of one engine, asked for a keyspace of another"));
        }
        Ok(keyspace.tree())
    }

    /// Returns what the transaction's own writes leave of `key`, or what `below` reads if they say nothing of it.
    fn own_or(
        &self,
        tree: &Arc<Tree<E>>,
        key: &[u8],
        below: impl FnOnce() -> Result<Option<Value>>,
    ) -> Result<Option<Value>> {
        let below = || if self.writes.is_deleted(tree.id, key) { Ok(None) } else { below() };
        let Some(own) = self.writes.get(tree.id, key) else { return below() };
        let value = Value::copy_from_slice(own.value);
        match own.kind {
            ValueKind::Put => Ok(Some(value)),
            ValueKind::Delete | ValueKind::RangeDelete => Ok(None),
            // It will not expire before it is committed.
            ValueKind::PutTtl => Ok(Some(value.slice_from(ttl::format::EXPIRY_BYTES..))),
            ValueKind::Merge => tree.given_merger().full(key, below()?.as_deref(), &[value]).map(Some),
        }
    }

    fn merge_at(&mut self, tree: &Arc<Tree<E>>, key: &[u8], operand: &[u8]) -> Result<()> {
        self.lock(tree, key, Mode::Exclusive)?;
        tree.check_merges()?;
        let merger = tree.given_merger();
        let (kind, value) = match self.writes.get(tree.id, key) {
            None => (ValueKind::Merge, Value::copy_from_slice(operand)),
            Some(own) => match own.kind {
                ValueKind::Put => (ValueKind::Put, merger.full(key, Some(own.value), &[operand.into()])?),
                ValueKind::PutTtl => {
                    let what = "a merge onto a value that expires, written by the same transaction";
                    return Err(Error::invalid_argument(format_args!("{what}: {}", shown(key, tree))));
                }
                ValueKind::Delete | ValueKind::RangeDelete => {
                    (ValueKind::Put, merger.full(key, None, &[operand.into()])?)
                }
                ValueKind::Merge => match merger.partial(key, own.value, operand) {
                    Some(both) => (ValueKind::Merge, both.into()),
                    None => {
                        let base = match self.writes.is_deleted(tree.id, key) {
                            true => None,
                            false => self.get_committed(tree, key)?,
                        };
                        let operands = [own.value.into(), operand.into()];
                        (ValueKind::Put, merger.full(key, base.as_deref(), &operands)?)
                    }
                },
            },
        };
        self.write(tree, Operation { keyspace: tree.id, kind, key, value: &value })
    }

    fn get_at(&self, tree: &Arc<Tree<E>>, key: &[u8]) -> Result<Option<Value>> {
        tree.check_there()?;
        self.own_or(tree, key, || self.get_committed(tree, key))
    }

    fn get_committed(&self, tree: &Arc<Tree<E>>, key: &[u8]) -> Result<Option<Value>> {
        let core = self.engine.core();
        if self.holdings.as_ref().is_some_and(|holdings| holdings.has_read(tree.id, key)) {
            return core.get_at(tree, key, None);
        }
        let value = core.get_at(tree, key, Some(self.snapshot.at()))?;
        if value.is_some() || !core.env.planted("txn_misses_unrecorded") {
            self.reads.lock().cover(tree, key, Edge::Through(key))?;
        }
        Ok(value)
    }

    fn get_locked(&mut self, tree: &Arc<Tree<E>>, key: &[u8], mode: Mode) -> Result<Option<Value>> {
        if self.holdings.is_none() {
            return self.get_at(tree, key);
        }
        self.lock(tree, key, mode)?;
        let core = self.engine.core();
        // Before the value is looked for: nothing that comes between goes unnoticed.
        let seq = core.visible();
        let mut has_read = false;
        let value = self.own_or(tree, key, || {
            has_read = true;
            core.get_at(tree, key, None)
        })?;
        if let Some(holdings) = self.holdings.as_mut().filter(|_| has_read) {
            holdings.note_read(tree.id, key, seq);
        }
        Ok(value)
    }

    /// Locks `key`, if this is a pessimistic transaction.
    fn lock(&mut self, tree: &Arc<Tree<E>>, key: &[u8], mode: Mode) -> Result<()> {
        tree.check_there()?;
        if self.holdings.is_none() {
            return Ok(());
        }
        self.check_room(key.len() + LOCK_BYTES)?;
        if let Some(holdings) = &mut self.holdings {
            holdings.lock(tree, key, mode)?;
        }
        self.note_bytes();
        Ok(())
    }

    fn iter_at(&self, tree: Result<&Arc<Tree<E>>>, bounds: Bounds) -> DbIterator {
        let core = self.engine.core();
        let there = tree.and_then(|tree| core.check_open().and_then(|()| tree.check_there()).map(|()| tree));
        let tree = match there {
            Ok(tree) => tree,
            Err(error) => return DbIterator::failed(error, bounds),
        };
        let forgets_end = core.env.planted("txn_range_end_unrecorded");
        let recorder = Arc::new(Recorded { reads: Arc::clone(&self.reads), tree: Arc::clone(tree), forgets_end });
        let merger = if self.writes.merges(tree.id) { tree.given_merger() } else { tree.merger() };
        let view = View { own: true, recorder: Some(recorder), ..View::at(self.snapshot.at(), merger) };
        let source = MergedSource { current: tree.current(), writes: Arc::clone(&self.writes), keyspace: tree.id };
        DbIterator::new(Box::new(source), view, bounds)
    }

    fn write_range<K: AsRef<[u8]>>(&mut self, tree: &Arc<Tree<E>>, range: &impl RangeBounds<K>) -> Result<()> {
        tree.check_there()?;
        let Some((key, value)) = span_of(range) else { return Ok(()) };
        self.add(Operation { keyspace: tree.id, kind: ValueKind::RangeDelete, key: &key, value: &value })
    }

    fn write(&mut self, tree: &Arc<Tree<E>>, operation: Operation<'_>) -> Result<()> {
        self.lock(tree, operation.key, Mode::Exclusive)?;
        self.add(operation)
    }

    fn add(&mut self, operation: Operation<'_>) -> Result<()> {
        self.check_room(Writes::cost(&operation))?;
        Arc::make_mut(&mut self.writes).push(&self.engine.core().identity, operation)?;
        self.note_bytes();
        Ok(())
    }

    /// Fails if there is no room for `more` bytes.
    fn check_room(&self, more: usize) -> Result<()> {
        self.reads.lock().check(more)
    }

    /// Notes how many bytes writes and locks take.
    fn note_bytes(&self) {
        let bytes = self.writes.bytes() + self.holdings.as_ref().map_or(0, Holdings::bytes);
        self.reads.lock().beside = bytes;
    }
}

impl<E: Env> fmt::Debug for Transaction<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.writes.len();
        f.debug_struct("Transaction").field("seq", &self.seq()).field("operations", &operations).finish_non_exhaustive()
    }
}

/// What a transaction's iterator reads: its writes, then memtables and tables.
struct MergedSource<E: Env> {
    current: Arc<SuperVersion<E>>,
    writes: Arc<Writes>,
    keyspace: u32,
}

impl<E: Env> Source for MergedSource<E> {
    fn open(&self, seq: SeqNum) -> Result<MergingIterator> {
        let own = OwnWrites::new(Arc::clone(&self.writes), self.keyspace);
        let mut first: Vec<Covering> = vec![(Box::new(own), Vec::new())];
        if let Some(tombstones) = self.writes.tombstones(self.keyspace) {
            // Behind the index, all of which is newer.
            let layer = Layer { sets: vec![Arc::new(tombstones)], seq: OWN };
            first.push((Box::new(MergingIterator::new(Vec::new())), vec![layer]));
        }
        Ok(MergingIterator::new(self.current.cursors(seq, first)))
    }
}

/// Bytes of a key that an error shows.
const SHOWN_BYTES_MAX: usize = 40;

/// Names `key` of `tree` for people, long ones cut.
fn shown<E: Env>(key: &[u8], tree: &Tree<E>) -> String {
    let head = key[..key.len().min(SHOWN_BYTES_MAX)].escape_ascii();
    let more = if key.len() > SHOWN_BYTES_MAX { format!("... ({} bytes)", key.len()) } else { String::new() };
    match tree.id {
        DEFAULT_KEYSPACE => format!("key \"{head}\"{more}"),
        _ => format!("key \"{head}\"{more} of keyspace {:?}", tree.name),
    }
}

fn too_large(bytes: usize, bytes_max: usize) -> Error {
    Error::invalid_argument(format_args!(
        "the transaction would take {bytes} bytes for its writes and what it has read, \
         TransactionOptions::bytes_max is {bytes_max}"
    ))
}
