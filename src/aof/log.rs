//! The physical log: [`Log`].

use super::types::{Append, Frame, LogOptions, LogStats, Lsn, RecoveryReport};
use crate::base::{Error, Result};
use crate::env::Env;
use std::path::Path;
use std::sync::Arc;

/// The physical log in one directory. Cheap to clone; clones are the same log.
#[derive(Clone)]
pub struct Log<E: Env>(Arc<E>);

#[expect(clippy::todo, reason = "signatures land before their bodies")]
impl<E: Env> Log<E> {
    /// Opens the log in `dir`, creating it if the directory is empty, and hands every frame to `replay` in order.
    pub fn open(
        _env: E,
        _dir: &Path,
        _options: LogOptions,
        _replay: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<(Log<E>, RecoveryReport)> {
        todo!()
    }

    /// Stages a frame and returns where it ends.
    pub fn append(&self, _append: &Append<'_>) -> Result<Lsn> {
        todo!()
    }

    /// Hands everything staged to the operating system.
    pub fn write_out(&self) -> Result<()> {
        todo!()
    }

    /// Returns once everything before `end` is durable.
    pub fn sync_to(&self, _end: Lsn) -> Result<()> {
        todo!()
    }

    /// Writes a MARK if everything is durable and no frame says so yet; call it when idle. Does not sync.
    pub fn mark(&self) -> Result<()> {
        todo!()
    }

    /// Returns where the next frame will begin.
    pub fn end(&self) -> Lsn {
        todo!()
    }

    /// Returns up to where the log survives a power loss. Positions kept elsewhere must not be above it.
    pub fn durable(&self) -> Lsn {
        todo!()
    }

    /// Drops whole segments that end at or before `lsn`.
    pub fn truncate_before(&self, _lsn: Lsn) -> Result<()> {
        todo!()
    }

    /// Returns why the log refuses writes, if it does.
    pub fn poisoned(&self) -> Option<Error> {
        todo!()
    }

    /// Returns the counters.
    pub fn stats(&self) -> LogStats {
        todo!()
    }

    /// Makes everything durable, writes a MARK and refuses further appends.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}
