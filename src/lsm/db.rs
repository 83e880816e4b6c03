//! [`Engine`]: the handle a user holds, and the wiring of everything behind it.
#![allow(clippy::todo, unused_variables, dead_code, missing_docs)]

use super::batch::WriteBatch;
use super::integrity::IntegrityReport;
use super::iterator::{Bounds, DbIterator};
use super::options::{Durability, Options, WriteOptions};
use super::snapshot::{Snapshot, SnapshotRegistry};
use super::stats::Statistics;
use super::value::Value;
use crate::aof::Lsn;
use crate::base::Result;
use crate::base::key::SeqNum;
use crate::env::{Env, StdEnv};
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

/// An engine over the operating system.
pub type DB = Engine<StdEnv>;

/// A handle to an open engine. Cheap to clone; clones are the same engine, which closes with the last of them.
pub struct Engine<E: Env>(Arc<Core<E>>);

impl<E: Env> Clone for Engine<E> {
    fn clone(&self) -> Engine<E> {
        Engine(Arc::clone(&self.0))
    }
}

/// Where a write stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitInfo {
    /// The sequence number of the last operation; a snapshot at or after it sees the write.
    pub seq: SeqNum,
    /// The end of the write in the log; it is durable once [`Engine::sync_to`] of this position returned.
    pub lsn: Lsn,
}

pub(super) struct Core<E: Env> {
    pub(super) snapshots: SnapshotRegistry<E>,
}

impl<E: Env> Core<E> {
    pub(super) fn visible(&self) -> SeqNum {
        todo!()
    }
    pub(super) fn get_at(&self, key: &[u8], seq: Option<SeqNum>) -> Result<Option<Value>> {
        todo!()
    }
    pub(super) fn iter_at(&self, bounds: Bounds, seq: Option<SeqNum>) -> DbIterator {
        todo!()
    }
}

impl Engine<StdEnv> {
    /// Opens the engine in directory `path`.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<DB> {
        Engine::open_in(StdEnv, path, options)
    }
}

impl<E: Env> Engine<E> {
    pub(super) fn core(&self) -> &Core<E> {
        &self.0
    }
    /// Opens the engine in directory `path` of `env`.
    pub fn open_in(env: E, path: impl AsRef<Path>, options: Options) -> Result<Engine<E>> {
        todo!()
    }
    /// Sets `key` to `value`.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        todo!()
    }
    /// Removes `key`.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        todo!()
    }
    /// Returns the value of `key`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.0.get_at(key.as_ref(), None)
    }
    /// Tells whether `key` has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }
    /// Commits `batch` with the durability of [`Options::durability`].
    pub fn write(&self, batch: WriteBatch) -> Result<CommitInfo> {
        self.write_opt(batch, WriteOptions::default())
    }
    /// Commits `batch`.
    pub fn write_opt(&self, batch: WriteBatch, options: WriteOptions) -> Result<CommitInfo> {
        todo!()
    }
    /// Makes everything committed so far as durable as asked.
    pub fn persist(&self, durability: Durability) -> Result<()> {
        todo!()
    }
    /// Returns once the log is durable up to `lsn`, a [`CommitInfo::lsn`].
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        todo!()
    }
    /// Walks every key in order.
    pub fn iter(&self) -> DbIterator {
        self.range::<[u8; 0]>(..)
    }
    /// Walks the keys in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> DbIterator {
        self.0.iter_at(Bounds::from_range(&range), None)
    }
    /// Walks the keys from `low` to below `high`.
    pub fn scan(&self, low: impl AsRef<[u8]>, high: impl AsRef<[u8]>) -> DbIterator {
        self.range(low.as_ref()..high.as_ref())
    }
    /// Walks the keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> DbIterator {
        self.0.iter_at(Bounds::from_prefix(prefix.as_ref()), None)
    }
    /// Takes a consistent view.
    pub fn snapshot(&self) -> Snapshot<E> {
        Snapshot::new(self.clone())
    }
    /// Writes the memtable to a table and waits for it.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }
    /// Compacts everything into the last level and waits for it.
    pub fn force_compaction(&self) -> Result<()> {
        todo!()
    }
    /// Reads every table and checks the structure.
    pub fn validate_integrity(&self) -> Result<IntegrityReport> {
        todo!()
    }
    /// Returns the counters.
    pub fn statistics(&self) -> Statistics {
        todo!()
    }
    /// Returns the newest sequence number that readers see.
    pub fn visible_seq(&self) -> SeqNum {
        self.0.visible()
    }
    /// Flushes the log, stops the background threads and refuses further calls, through every handle.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
    /// Returns the directory.
    pub fn path(&self) -> &Path {
        todo!()
    }
}
