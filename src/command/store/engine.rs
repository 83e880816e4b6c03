//! [`EngineStore`]: a [`Store`] over the AiDb engine.
//!
//! **Durability:** each write is handed to the operating system before it returns, so that it survives the end of the
//! process; the caller decides when it must also survive a power loss.

use super::{Position, Store, Visit, Writes};
use crate::base::Result;
use crate::env::{Env, StdEnv};
use crate::lsm::{Durability, Engine, WriteBatch, WriteOptions};

/// Keeps databases in an engine.
pub struct EngineStore<E: Env = StdEnv> {
    engine: Engine<E>,
}

impl<E: Env> EngineStore<E> {
    /// Stands on `engine`, which belongs to the databases from here on: other keys in it would be taken for theirs.
    pub fn new(engine: Engine<E>) -> EngineStore<E> {
        EngineStore { engine }
    }

    /// Returns the engine, for its statistics.
    pub fn engine(&self) -> &Engine<E> {
        &self.engine
    }
}

impl Writes for WriteBatch {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        WriteBatch::put(self, key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        WriteBatch::delete(self, key);
    }

    fn is_empty(&self) -> bool {
        WriteBatch::is_empty(self)
    }
}

impl<E: Env> Store for EngineStore<E> {
    type Env = E;
    type Value = crate::lsm::Value;
    type Writes = WriteBatch;
    const PERSISTENT: bool = true;

    fn get(&self, key: &[u8]) -> Result<Option<Self::Value>> {
        self.engine.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        for entry in self.engine.scan(from, to) {
            let entry = entry?;
            if visit(entry.key.as_ref(), entry.value.as_ref()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, writes: &mut WriteBatch) -> Result<Position> {
        let options = WriteOptions { durability: Some(Durability::Os) };
        Ok(Position(self.engine.write_opt(std::mem::take(writes), options)?))
    }

    fn sync_to(&self, position: Position) -> Result<()> {
        self.engine.sync_to(position.0.lsn)
    }

    fn sync(&self) -> Result<()> {
        self.engine.persist(Durability::Sync)
    }
}
