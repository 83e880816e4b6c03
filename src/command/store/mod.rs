//! What the databases stand on: an ordered map of byte strings that takes batches.
//!
//! [`EngineStore`] is the AiDb engine; [`MemoryStore`] keeps everything in memory and nothing after the process ends. Called
//! by `db` on whichever thread runs a session, under the key locks of `db`: two writers never touch one key at a time.
//!
//! **Contract:** a batch is applied whole or not at all, and in order within itself (the last operation on a key wins); a
//! completed write is seen by every later read.

mod engine;
mod memory;

pub use engine::EngineStore;
pub use memory::MemoryStore;

use crate::base::Result;
use crate::env::Env;
use crate::lsm::CommitInfo;
use std::ops::ControlFlow;

/// Where a write stands in the store's log; later writes compare greater. The default stands before every write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position(pub(super) CommitInfo);

impl Position {
    /// Returns the later of two.
    pub fn max(self, other: Position) -> Position {
        if other.0.lsn > self.0.lsn { other } else { self }
    }
}

/// Collects the operations of one write.
pub trait Writes: Default + Send {
    /// Sets `key` to `value`.
    fn put(&mut self, key: &[u8], value: &[u8]);
    /// Removes `key`.
    fn delete(&mut self, key: &[u8]);
    /// Returns true if there is nothing to write.
    fn is_empty(&self) -> bool;
}

/// Visits one entry of a scan: key and value.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// An ordered map of byte strings.
pub trait Store: Send + Sync + 'static {
    /// The world it lives in, whose locks the databases use too.
    type Env: Env;
    /// A value as read.
    type Value: AsRef<[u8]>;
    /// The batch it takes.
    type Writes: Writes;
    /// Whether what is written outlives the process: counters are then part of each batch.
    const PERSISTENT: bool;

    /// Reads one value.
    ///
    /// # Errors
    /// The device failed or the data is damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Value>>;

    /// Visits the entries from `from` to below `to` in order until told to stop.
    ///
    /// # Errors
    /// The device failed or the data is damaged; entries before were visited.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()>;

    /// Applies `writes` and leaves it empty.
    ///
    /// # Durability
    /// Survives the end of the process; survives a power loss once [`sync_to`](Self::sync_to) of the position returned.
    ///
    /// # Errors
    /// Nothing was applied.
    fn write(&self, writes: &mut Self::Writes) -> Result<Position>;

    /// Waits until everything up to `position` survives a power loss.
    ///
    /// # Errors
    /// The device failed: what was written since the last success may be lost.
    fn sync_to(&self, position: Position) -> Result<()>;

    /// Makes everything written so far survive a power loss.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    fn sync(&self) -> Result<()>;
}
