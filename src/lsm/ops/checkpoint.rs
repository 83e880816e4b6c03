//! Checkpoints: a second directory that opens as an engine holding what was committed, in every keyspace, at one moment.
//!
//! On the caller's thread; writers, flushes and compactions go on:
//!
//! 1. Take a `Moment`: tables and the log behind them, up to one sequence number.
//! 2. Link each table, which never changes, under its own number; copy it where links are refused, and sync the copy.
//! 3. Copy the log's records that no table holds into a log of its own.
//! 4. Write the MANIFEST and make the directory an engine's (`Fresh`).

use super::files::{Shared, link_or_copy};
use super::fresh::Fresh;
use super::moment::Moment;
use crate::base::Result;
use crate::base::key::SeqNum;
use crate::env::Env;
use crate::lsm::db::Engine;
use crate::lsm::files::table_path;
use crate::lsm::state::Core;
use std::fmt;
use std::path::Path;

/// What [`Engine::checkpoint`] made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// The sequence number of the newest commit in it.
    pub seq: SeqNum,
    /// Tables in it.
    pub tables: u64,
    /// Bytes of these tables.
    pub bytes: u64,
    /// Tables that had to be copied, because the file system refused to link them.
    pub copied: u64,
    /// Records that were copied from the log, because no table holds them yet.
    pub records: u64,
}

impl fmt::Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckpointReport { seq, tables, bytes, copied, records } = self;
        write!(
            f,
            "sequence number {seq}, {tables} tables ({copied} copied), {bytes} bytes, {records} records of the log"
        )
    }
}

impl<E: Env> Engine<E> {
    /// Makes `dir` an engine of its own that holds what is committed, and perhaps some of what is committed during the call:
    /// in all keyspaces the same prefix in commit order.
    ///
    /// Tables are shared through hard links where the file system allows it, so that this takes hardly any space and time;
    /// else they are copied. What no table holds yet is copied from the log: call [`flush`](Engine::flush) before, if
    /// that is to be little. `dir` must not exist or be empty. It may be opened as soon as this has returned.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let db = aidb::DB::open(dir.path().join("db"), aidb::Options::default())?;
    /// db.put("key", "then")?;
    /// db.checkpoint(dir.path().join("then"))?;
    /// db.put("key", "now")?;
    /// let then = aidb::DB::open(dir.path().join("then"), aidb::Options::default())?;
    /// assert_eq!(then.get("key")?.unwrap(), b"then");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `dir` holds anything, [`Locked`](crate::ErrorKind::Locked) if
    /// it is in use, or an I/O error: what was made in `dir` is then removed as far as possible, and what is left is not
    /// opened. The engine itself is unharmed, unless its own log could not be written.
    ///
    /// # Durability
    /// The checkpoint survives a power loss once this returned. A power loss before that leaves a directory that is opened
    /// whole or refused.
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<CheckpointReport> {
        let core = self.core();
        core.check_running()?;
        let made = Fresh::fill(&core.env, dir.as_ref(), |fresh| core.fill_checkpoint(fresh));
        // What was compacted away meanwhile was kept for the links.
        core.purge_obsolete();
        made
    }
}

impl<E: Env> Core<E> {
    fn fill_checkpoint(&self, fresh: &Fresh<'_, E>) -> Result<CheckpointReport> {
        let moment = self.moment()?;
        if self.env.planted("checkpoint_current_first") {
            fresh.finish(moment.next_file, &moment.as_edit())?;
            return self.link_tables(&moment, fresh);
        }
        let mut report = self.link_tables(&moment, fresh)?;
        if moment.has_records() && !self.env.planted("checkpoint_without_log") {
            fresh.write_log(self.options.wal_segment_bytes, |take| {
                moment.records(&mut |frame| {
                    report.records += 1;
                    self.check_open()?;
                    take(frame)
                })
            })?;
        }
        fresh.finish(moment.next_file, &moment.as_edit())?;
        self.env.reached("lsm.checkpoint");
        Ok(report)
    }

    fn link_tables(&self, moment: &Moment<E>, fresh: &Fresh<'_, E>) -> Result<CheckpointReport> {
        let mut report = CheckpointReport { seq: moment.seq, ..CheckpointReport::default() };
        for table in moment.tables() {
            self.check_open()?;
            let info = table.info();
            let shared =
                link_or_copy(&self.env, table.path(), &table_path(fresh.dir(), info.file_no), info.file_bytes)?;
            if shared == Shared::Copied {
                self.env.reached("lsm.checkpoint_copied");
                report.copied += 1;
            }
            report.tables += 1;
            report.bytes += info.file_bytes;
        }
        Ok(report)
    }
}
