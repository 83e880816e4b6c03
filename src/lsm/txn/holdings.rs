//! [`Holdings`]: the locks of one pessimistic transaction, and what it has read under them.
//!
//! Belongs to the transaction; dropping it gives every lock back.
//!
//! - A read under a lock sees the newest commit. Other pessimistic transactions cannot change it before the lock is given
//!   back; whoever else does is found out when the transaction commits, because the sequence number of the first such read
//!   of a key is kept.
//! - The log holds what each change of a lock or its read replaced: taking changes back from the end gives each earlier state.

use super::locks::{LockKey, LockTable, Mode};
use crate::base::Result;
use crate::base::key::SeqNum;
use crate::env::Env;
use crate::lsm::tree::Tree;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a lock takes beside its key, roughly, here and in the table.
pub(super) const LOCK_BYTES: usize = 320;

/// What is held of one key.
#[derive(Clone, Copy)]
struct Held {
    mode: Mode,
    /// The moment of the first read under the lock.
    read: Option<SeqNum>,
}

struct Change {
    key: Arc<LockKey>,
    before: Option<Held>,
}

/// Locks held by a transaction.
pub(super) struct Holdings<E: Env> {
    table: Arc<LockTable<E>>,
    number: u64,
    timeout: Duration,
    held: BTreeMap<Arc<LockKey>, Held>,
    trees: BTreeMap<u32, Arc<Tree<E>>>,
    log: Vec<Change>,
    has_waited: bool,
    bytes: usize,
}

impl<E: Env> Holdings<E> {
    pub(super) fn new(table: &Arc<LockTable<E>>, timeout: Duration) -> Holdings<E> {
        Holdings {
            table: Arc::clone(table),
            number: table.number(),
            timeout,
            held: BTreeMap::new(),
            trees: BTreeMap::new(),
            log: Vec::new(),
            has_waited: false,
            bytes: 0,
        }
    }

    /// Locks `key` of `tree`, unless it is locked so already.
    ///
    /// # Errors
    /// As [`LockTable::lock`]; what was held is held.
    pub(super) fn lock(&mut self, tree: &Arc<Tree<E>>, key: &[u8], mode: Mode) -> Result<()> {
        let wanted = LockKey { keyspace: tree.id, key: key.to_vec() };
        let (key, before) = match self.held.get_key_value(&wanted) {
            Some((_, held)) if held.mode >= mode => return Ok(()),
            Some((key, held)) => (Arc::clone(key), Some(*held)),
            None => (Arc::new(wanted), None),
        };
        let locked = self.table.lock(self.number, &key, mode, self.timeout, tree);
        self.has_waited |= !matches!(locked, Ok(false));
        locked?;
        if before.is_none() {
            self.bytes += key.key.len() + LOCK_BYTES;
            self.trees.entry(tree.id).or_insert_with(|| Arc::clone(tree));
        }
        let read = before.and_then(|held| held.read);
        self.held.insert(Arc::clone(&key), Held { mode, read });
        self.log.push(Change { key, before });
        Ok(())
    }

    /// Notes that `key`, which is locked, was read at `seq`.
    pub(super) fn note_read(&mut self, keyspace: u32, key: &[u8], seq: SeqNum) {
        let wanted = LockKey { keyspace, key: key.to_vec() };
        let Some((key, held)) = self.held.get_key_value(&wanted) else { return };
        if held.read.is_none() {
            let (key, before) = (Arc::clone(key), *held);
            self.held.insert(Arc::clone(&key), Held { read: Some(seq), ..before });
            self.log.push(Change { key, before: Some(before) });
        }
    }

    /// Returns true if `key` was read under its lock.
    pub(super) fn has_read(&self, keyspace: u32, key: &[u8]) -> bool {
        let wanted = LockKey { keyspace, key: key.to_vec() };
        self.held.get(&wanted).is_some_and(|held| held.read.is_some())
    }

    /// Returns the keys that were read under their locks, with keyspace and moment.
    pub(super) fn reads(&self) -> impl Iterator<Item = (&Arc<Tree<E>>, &[u8], SeqNum)> {
        let read = self.held.iter().filter_map(|(key, held)| held.read.map(|seq| (key, seq)));
        read.filter_map(|(key, seq)| self.trees.get(&key.keyspace).map(|tree| (tree, key.key.as_slice(), seq)))
    }

    /// Returns how many changes there were so far.
    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    /// Takes back all but the first `len` changes: gives back locks taken since, and keeps shared what was shared before.
    pub(super) fn truncate(&mut self, len: usize) {
        while self.log.len() > len {
            let Some(Change { key, before }) = self.log.pop() else { return };
            let Some(held) = self.held.get_mut(&key) else { continue };
            match before {
                Some(before) => {
                    let weaker = before.mode < held.mode;
                    *held = before;
                    if weaker {
                        self.table.unlock(self.number, &key, Some(before.mode));
                    }
                }
                None => {
                    self.held.remove(&key);
                    self.bytes -= key.key.len() + LOCK_BYTES;
                    if !self.table.env.planted("txn_rollback_keeps_lock") {
                        self.table.unlock(self.number, &key, None);
                    }
                }
            }
        }
    }

    /// Returns how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<E: Env> Drop for Holdings<E> {
    fn drop(&mut self) {
        for key in self.held.keys() {
            self.table.unlock(self.number, key, None);
        }
        if self.has_waited {
            self.table.forget(self.number);
        }
    }
}
