//! [`Moment`]: everything that was committed at one moment, held readable: tables of every keyspace and the log behind them.
//!
//! Taken on the caller's thread while writers, flushes and compactions go on; nothing is flushed for it.
//!
//! - Tables are held by their versions, so that their files stay; segments of the log are held open.
//! - Taken under the MANIFEST's lock: keyspaces, tables and log position agree, and the log is not given back meanwhile.
//! - No table holds a commit after [`Moment::seq`], which is read after the versions; the log is followed up to it.

use super::fresh::TakeFrame;
use crate::aof::Lsn;
use crate::aof::tail::LogTail;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::Env;
use crate::lsm::batch::format::decode_record;
use crate::lsm::files::WAL_DIR;
use crate::lsm::manifest::format::{TreeEdit, VersionEdit};
use crate::lsm::state::{Core, whole};
use crate::lsm::table::Table;
use crate::lsm::tree::Position;
use crate::lsm::version::Version;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What was committed at one moment.
pub(super) struct Moment<E: Env> {
    /// The newest commit in it.
    pub(super) seq: SeqNum,
    /// No file of the engine had this number.
    pub(super) next_file: u64,
    /// Tables hold everything before.
    position: Position,
    next_keyspace: u32,
    clock: Option<u64>,
    trees: Vec<TreeEdit>,
    versions: Vec<Arc<Version<E>>>,
    tail: LogTail<E>,
    wal_dir: PathBuf,
}

impl<E: Env> Core<E> {
    /// Holds what is committed now.
    ///
    /// # Errors
    /// The engine is closed or poisoned, or what is in memory could not be handed to the operating system.
    pub(super) fn moment(&self) -> Result<Moment<E>> {
        let manifest = self.manifest.lock();
        self.check_running()?;
        let (seq, lsn) = manifest.position();
        let position = Position { lsn, seq };
        let (trees, versions, next_keyspace) = {
            let state = self.state.lock();
            let versions: Vec<_> = state.trees.values().map(|of| Arc::clone(&of.version)).collect();
            (whole(&state.trees), versions, state.next_keyspace)
        };
        let seq = self.visible();
        self.wal(self.log.write_out())?;
        let tail = self.log.tail(lsn)?;
        let newest = versions.iter().flat_map(|version| version.tables()).map(|(_, table)| table.info().seq_max).max();
        assert!(newest.is_none_or(|newest| newest <= seq), "tables hold {newest:?}, committed is {seq}");
        assert!(position.seq <= seq, "the MANIFEST says {}, committed is {seq}", position.seq);
        let next_file = self.next_file.load(Ordering::Relaxed);
        let wal_dir = self.dir.join(WAL_DIR);
        let clock = self.clock.to_record(&self.env);
        Ok(Moment { seq, next_file, position, next_keyspace, clock, trees, versions, tail, wal_dir })
    }
}

impl<E: Env> Moment<E> {
    /// Returns its tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<Table<E>>> {
        self.versions.iter().flat_map(|version| version.tables()).map(|(_, table)| table)
    }

    /// Returns the MANIFEST of a directory that holds these tables, and a log of these records that begins at 0.
    pub(super) fn as_edit(&self) -> VersionEdit {
        VersionEdit {
            next_file: Some(self.next_file + 1),
            last_seq: Some(self.position.seq),
            wal_lsn: Some(Lsn(0)),
            next_keyspace: Some(self.next_keyspace),
            clock: self.clock,
            trees: self.trees.clone(),
        }
    }

    /// Returns true if there are records.
    pub(super) fn has_records(&self) -> bool {
        self.position.seq < self.seq
    }

    /// Hands the log's records that tables do not hold to `take`, oldest first.
    pub(super) fn records(&self, take: TakeFrame<'_>) -> Result<()> {
        let mut last = self.position.seq;
        self.tail.replay(&mut |frame| {
            if last >= self.seq {
                return Ok(());
            }
            let corruption = |what: &str| Error::corruption(&self.wal_dir, frame.lsn.0, what);
            let record = decode_record(frame.payload).map_err(corruption)?;
            if record.first.0 != last.0 + 1 {
                let what = format!("log record {} follows sequence number {last}", record.first);
                return Err(corruption(&what));
            }
            last.0 += u64::from(record.count);
            take(frame)
        })?;
        assert_eq!(last, self.seq, "the log holds what is committed, and a commit is one record");
        Ok(())
    }
}
