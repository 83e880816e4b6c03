//! The engine under test and, in some cases, a second keyspace that holds the second half of the keys.

use super::Shared;
use super::case::Workload;
use crate::SimEnv;
use crate::profile::database::DIR;
use crate::profile::engine::value::{KeyId, Keys};
use crate::profile::walk::bounds;
use aidb::lsm::{DbIterator, Engine, Keyspace, KeyspaceOptions, Snapshot, Transaction, WriteBatch};

/// What a process has open.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) engine: Engine<SimEnv>,
    second: Option<Keyspace<SimEnv>>,
    border: KeyId,
}

impl Opened {
    pub(super) fn open(env: &SimEnv, workload: &Workload) -> aidb::Result<Opened> {
        let engine = Engine::open_in(env.clone(), DIR, workload.options.options())?;
        let second = match workload.options.twin_memtable_bytes {
            0 => None,
            bytes => {
                let own = KeyspaceOptions { memtable_bytes: Some(bytes), ..KeyspaceOptions::default() };
                Some(engine.keyspace("second", own)?)
            }
        };
        Ok(Opened { engine, second, border: workload.border() })
    }

    /// Returns the keyspace that a key is in; `None` is the default one.
    pub(super) fn of(&self, key: KeyId) -> Option<&Keyspace<SimEnv>> {
        self.second.as_ref().filter(|_| key >= self.border)
    }

    /// Adds a put, or a delete, to a batch.
    pub(super) fn push(&self, batch: &mut WriteBatch, keys: &Keys, key: KeyId, value: Option<&[u8]>) {
        let bytes = keys.bytes(key);
        match (self.of(key), value) {
            (None, Some(value)) => batch.put(bytes, value),
            (None, None) => batch.delete(bytes),
            (Some(of), Some(value)) => batch.put_in(of, bytes, value),
            (Some(of), None) => batch.delete_in(of, bytes),
        }
    }

    /// Adds to a batch that the range is deleted that holds `key` alone.
    pub(super) fn push_range(&self, batch: &mut WriteBatch, keys: &Keys, key: KeyId) {
        let bounds = bounds(keys, (key, key + 1));
        match self.of(key) {
            None => batch.delete_range::<&[u8]>(bounds),
            Some(of) => batch.delete_range_in::<_, &[u8]>(of, bounds),
        }
    }

    /// Cuts a range at the border of the keyspaces.
    pub(super) fn parts(&self, (start, end): (KeyId, KeyId)) -> Vec<(KeyId, KeyId)> {
        let parts = [(start, end.min(self.border)), (start.max(self.border), end)];
        parts.into_iter().filter(|(start, end)| start < end).collect()
    }

    /// Returns what a snapshot shows of a range in one keyspace.
    pub(super) fn seen(
        &self,
        shared: &Shared,
        snapshot: &Snapshot<SimEnv>,
        range: (KeyId, KeyId),
    ) -> aidb::Result<DbIterator> {
        let bounds = bounds(shared.keys(), range);
        Ok(match self.of(range.0) {
            None => snapshot.range::<&[u8]>(bounds),
            Some(of) => snapshot.of(of)?.range::<&[u8]>(bounds),
        })
    }

    /// Returns what a transaction shows of a range in one keyspace.
    pub(super) fn seen_by(&self, shared: &Shared, txn: &Transaction<SimEnv>, range: (KeyId, KeyId)) -> DbIterator {
        let bounds = bounds(shared.keys(), range);
        match self.of(range.0) {
            None => txn.range::<&[u8]>(bounds),
            Some(of) => txn.range_in::<&[u8]>(of, bounds),
        }
    }
}
