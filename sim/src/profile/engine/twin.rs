//! The engine under test and, in some cases, a second keyspace that is given every write too.
//!
//! **Invariant:** the two hold the same at every moment, whichever of them a step reads: what one of them is recovered to
//! without the other is half a batch. They differ in the size of their memtables, so that they are flushed at different times.

use super::case::EngineOptions;
use super::value::StepId;
use crate::SimEnv;
use crate::profile::database::DIR;
use aidb::lsm::{DbIterator, Engine, Keyspace, KeyspaceOptions, Options, Snapshot, Value, WriteBatch};
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

/// What a process has open.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) engine: Engine<SimEnv>,
    pub(super) twin: Option<Keyspace<SimEnv>>,
}

/// What an operation does.
pub(super) enum Change<'a> {
    /// Sets a key.
    Put(&'a [u8], Vec<u8>),
    /// Sets a key for a while.
    Expiring(&'a [u8], Vec<u8>, Duration),
    /// Merges onto it.
    Merge(&'a [u8], Vec<u8>),
    /// Removes it.
    Delete(&'a [u8]),
    /// Removes all keys of a range.
    DeleteRange((Bound<&'a [u8]>, Bound<&'a [u8]>)),
}

impl Opened {
    pub(super) fn open(env: &SimEnv, options: &EngineOptions) -> aidb::Result<Opened> {
        Opened::open_at(env, options, Path::new(DIR), true)
    }

    /// Opens what lies in `dir`, or makes it if `create`.
    pub(super) fn open_at(env: &SimEnv, options: &EngineOptions, dir: &Path, create: bool) -> aidb::Result<Opened> {
        let engine = Engine::open_in(env.clone(), dir, Options { create_if_missing: create, ..options.options() })?;
        let twin = match options.twin_memtable_bytes {
            0 => None,
            bytes => {
                let own = KeyspaceOptions { memtable_bytes: Some(bytes), ..KeyspaceOptions::default() };
                Some(engine.keyspace("twin", own)?)
            }
        };
        Ok(Opened { engine, twin })
    }

    /// Returns a batch of changes for both keyspaces, and its number of operations.
    pub(super) fn batch<'a>(&self, changes: impl IntoIterator<Item = Change<'a>>) -> (WriteBatch, u64) {
        let mut batch = WriteBatch::new();
        for change in changes {
            match &change {
                Change::Put(key, value) => batch.put(key, value),
                Change::Expiring(key, value, ttl) => batch.put_with_ttl(key, value, *ttl),
                Change::Merge(key, operand) => batch.merge(key, operand),
                Change::Delete(key) => batch.delete(key),
                Change::DeleteRange(range) => batch.delete_range::<&[u8]>(*range),
            }
            let Some(twin) = &self.twin else { continue };
            match &change {
                Change::Put(key, value) => batch.put_in(twin, key, value),
                Change::Expiring(key, value, ttl) => batch.put_with_ttl_in(twin, key, value, *ttl),
                Change::Merge(key, operand) => batch.merge_in(twin, key, operand),
                Change::Delete(key) => batch.delete_in(twin, key),
                Change::DeleteRange(range) => batch.delete_range_in::<_, &[u8]>(twin, *range),
            }
        }
        let operations = batch.len() as u64;
        (batch, operations)
    }

    /// Returns the keyspace that step `id` reads; `None` is the default one.
    fn read_by(&self, id: StepId) -> Option<&Keyspace<SimEnv>> {
        self.twin.as_ref().filter(|_| id % 2 == 1)
    }

    /// Returns what step `id` sees of `snapshot`.
    pub(super) fn view(&self, id: StepId, snapshot: &Snapshot<SimEnv>) -> aidb::Result<Snapshot<SimEnv>> {
        self.read_by(id).map_or_else(|| Ok(snapshot.clone()), |twin| snapshot.of(twin))
    }

    pub(super) fn get(&self, id: StepId, key: &[u8]) -> aidb::Result<Option<Value>> {
        self.read_by(id).map_or_else(|| self.engine.get(key), |twin| twin.get(key))
    }

    pub(super) fn prefix(&self, id: StepId, held: Option<&Snapshot<SimEnv>>, prefix: &[u8]) -> DbIterator {
        match (held.and_then(|held| self.view(id, held).ok()), self.read_by(id)) {
            (Some(view), _) => view.prefix(prefix),
            (None, Some(twin)) => twin.prefix(prefix),
            (None, None) => self.engine.prefix(prefix),
        }
    }

    pub(super) fn range(
        &self,
        id: StepId,
        held: Option<&Snapshot<SimEnv>>,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> DbIterator {
        match (held.and_then(|held| self.view(id, held).ok()), self.read_by(id)) {
            (Some(view), _) => view.range::<&[u8]>(range),
            (None, Some(twin)) => twin.range::<&[u8]>(range),
            (None, None) => self.engine.range::<&[u8]>(range),
        }
    }
}
