//! [`Snapshot`]: the engine as it was at one sequence number.
//!
//! Taken and read on any thread. The registry keeps, for each sequence number in use, a counter that its snapshots share;
//! dropping a snapshot only decrements it, so that a drop never blocks, and the next reader of the registry forgets it.
//!
//! - A registered sequence number was visible when it was registered, and the registry is read under the same lock:
//!   what a compaction drops is seen neither by a snapshot it was told of nor by one taken later.

use super::db::Engine;
use super::iterator::{Bounds, DbIterator};
use super::keyspace::Keyspace;
use super::tree::Tree;
use super::ttl::At;
use super::value::Value;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Env, Mutex, StdEnv};
use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sequence numbers that snapshots hold, each with the moment of the first of them and a count of all.
pub(super) struct SnapshotRegistry<E: Env>(Mutex<E, BTreeMap<SeqNum, (u64, Arc<AtomicU64>)>>);

impl<E: Env> SnapshotRegistry<E> {
    pub(super) fn new() -> SnapshotRegistry<E> {
        SnapshotRegistry(Mutex::<E, _>::new(BTreeMap::new()))
    }

    /// Registers what `now` returns and counts one holder of it.
    fn register(&self, now: impl FnOnce() -> At) -> (At, Arc<AtomicU64>) {
        let mut held = self.0.lock();
        let at = now();
        let (_, holders) = held.entry(at.seq).or_insert_with(|| (at.moment, Arc::default()));
        holders.fetch_add(1, Ordering::Relaxed);
        (at, Arc::clone(holders))
    }

    /// Returns the sequence numbers in use, oldest first, each with the earliest moment by which one of its readers judges, and
    /// last what `now` returns: that of every later reader, or earlier than that.
    pub(super) fn readers(&self, now: impl FnOnce() -> At) -> Vec<At> {
        let mut held = self.0.lock();
        held.retain(|_, (_, holders)| holders.load(Ordering::Acquire) > 0);
        let mut readers: Vec<At> = held.iter().map(|(seq, (moment, _))| At { seq: *seq, moment: *moment }).collect();
        let now = now();
        if readers.last().is_none_or(|last| last.seq != now.seq) {
            readers.push(now);
        }
        readers
    }

    /// Returns how many snapshots are alive.
    pub(super) fn len(&self) -> u64 {
        self.0.lock().values().map(|(_, holders)| holders.load(Ordering::Relaxed)).sum()
    }
}

/// A consistent view of the engine; keeps it open and its entries from being dropped. What expires after it was taken is there
/// for it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// db.put("key", "old")?;
/// let snapshot = db.snapshot();
/// db.put("key", "new")?;
/// assert_eq!(snapshot.get("key")?.unwrap(), b"old");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Snapshot<E: Env = StdEnv> {
    engine: Engine<E>,
    /// The keyspace it reads.
    tree: Arc<Tree<E>>,
    at: At,
    holders: Arc<AtomicU64>,
}

impl<E: Env> Snapshot<E> {
    pub(super) fn new(engine: Engine<E>) -> Snapshot<E> {
        let (at, holders) = engine.core().snapshots.register(|| engine.core().at());
        let tree = Arc::clone(&engine.core().tree);
        Snapshot { engine, tree, at, holders }
    }

    pub(super) fn at(&self) -> At {
        self.at
    }

    /// Returns the view of `keyspace`, a keyspace of the same engine, at the same moment.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is a keyspace of another engine.
    pub fn of(&self, keyspace: &Keyspace<E>) -> Result<Snapshot<E>> {
        if !Arc::ptr_eq(keyspace.identity(), &self.engine.core().identity) {
            return Err(Error::invalid_argument("a snapshot of one engine, asked for a keyspace of another"));
        }
        let mut snapshot = self.clone();
        snapshot.tree = Arc::clone(keyspace.tree());
        Ok(snapshot)
    }

    /// Returns the sequence number of the newest commit it sees.
    pub fn seq(&self) -> SeqNum {
        self.at.seq
    }

    /// Returns the value `key` had.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.engine.core().get_at(&self.tree, key.as_ref(), Some(self.at))
    }

    /// Tells whether `key` had a value.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Walks every key in order.
    pub fn iter(&self) -> DbIterator {
        self.range::<[u8; 0]>(..)
    }

    /// Walks the keys in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> DbIterator {
        self.engine.core().iter_at(&self.tree, Bounds::from_range(&range), Some(self.at))
    }

    /// Walks the keys from `low` to below `high`.
    pub fn scan(&self, low: impl AsRef<[u8]>, high: impl AsRef<[u8]>) -> DbIterator {
        self.range(low.as_ref()..high.as_ref())
    }

    /// Walks the keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> DbIterator {
        self.engine.core().iter_at(&self.tree, Bounds::from_prefix(prefix.as_ref()), Some(self.at))
    }
}

impl<E: Env> Clone for Snapshot<E> {
    fn clone(&self) -> Snapshot<E> {
        self.holders.fetch_add(1, Ordering::Relaxed);
        let (tree, holders) = (Arc::clone(&self.tree), Arc::clone(&self.holders));
        Snapshot { engine: self.engine.clone(), tree, at: self.at, holders }
    }
}

impl<E: Env> Drop for Snapshot<E> {
    fn drop(&mut self) {
        self.holders.fetch_sub(1, Ordering::Release);
    }
}

impl<E: Env> std::fmt::Debug for Snapshot<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("seq", &self.at.seq).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_the_held_numbers_and_the_visible_one() {
        let registry = SnapshotRegistry::<StdEnv>::new();
        let at = |seq, moment| At { seq: SeqNum(seq), moment };
        let (_, five) = registry.register(|| at(5, 50));
        let (again_at, again) = registry.register(|| at(5, 55));
        let (_, seven) = registry.register(|| at(7, 70));
        assert_eq!(again_at, at(5, 55));
        assert_eq!(registry.readers(|| at(9, 90)), [at(5, 50), at(7, 70), at(9, 90)]);
        five.fetch_sub(1, Ordering::Release);
        assert_eq!(registry.readers(|| at(7, 90)), [at(5, 50), at(7, 70)]);
        again.fetch_sub(1, Ordering::Release);
        seven.fetch_sub(1, Ordering::Release);
        assert_eq!(registry.readers(|| at(9, 90)), [at(9, 90)]);
        assert_eq!(registry.len(), 0);
    }
}
