//! [`Aof`]: the log as a store of records, and the handle a user holds.
//!
//! Called on any thread. Each record has an id, counted from 1 without a gap; a batch is one frame of the log underneath.
//!
//! | file | job |
//! |---|---|
//! | `config` | what a user chooses |
//! | `ticket` | waiting for one batch |
//!
//! **Invariants**
//! - The store has the directory to itself from open to close.
//! - An append takes one lock, the log's own, and reads no clock.

mod config;
#[cfg(test)]
mod tests;
mod ticket;

pub use config::{AofConfig, AofConfigBuilder, ArchiveConfig, FlushStrategy, Retention};
pub use ticket::Ticket;

use super::format::FrameKind;
use super::log::Log;
use super::record::format::{Length, RECORD_BYTES_MAX, RECORDS_MAX};
use super::types::{self, Append, Lsn};
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Disk, Env, Mutex, StdEnv};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A durable sequence of records in one directory. Cheap to clone; clones are the same store.
///
/// ```
/// use aidb::aof::{Aof, AofConfig};
/// use aidb::env::StdEnv;
/// # let dir = tempfile::tempdir()?;
/// let (aof, _report) = Aof::open(StdEnv, dir.path(), AofConfig::default())?;
/// let ticket = aof.append(b"first")?;
/// aof.append_batch(&["second", "third"])?.wait()?;
/// assert!(ticket.is_durable());
/// aof.close()?;
/// # Ok::<(), aidb::Error>(())
/// ```
///
/// # Durability
/// What a [`Ticket`] was waited for, and what was appended before it, survives a power loss; of the rest a prefix does, in
/// whole batches. [`FlushStrategy`] says how soon that happens unasked.
pub struct Aof<E: Env = StdEnv>(Arc<Shared<E>>);

impl<E: Env> Clone for Aof<E> {
    fn clone(&self) -> Aof<E> {
        Aof(Arc::clone(&self.0))
    }
}

impl<E: Env> std::fmt::Debug for Aof<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aof").field("path", &self.0.dir).finish_non_exhaustive()
    }
}

type DirLockOf<E> = <<E as Env>::Disk as Disk>::DirLock;

/// What handles and tickets share.
struct Shared<E: Env> {
    dir: PathBuf,
    log: Log<E>,
    dir_lock: Mutex<E, Option<DirLockOf<E>>>,
}

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Of the local segments.
    pub log: types::RecoveryReport,
}

fn lock<E: Env>(env: &E, dir: &Path) -> Result<DirLockOf<E>> {
    let disk = env.disk();
    disk.create_dir_all(dir).map_err(|error| Error::io("create directory", dir, error))?;
    disk.lock_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::locked(dir),
        _ => Error::io("lock", dir, error),
    })
}

impl<E: Env> Aof<E> {
    /// Opens the store in directory `dir` of `env`, creating it if there is none.
    ///
    /// # Errors
    /// [`Locked`](crate::ErrorKind::Locked) if it is open already, [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
    /// field out of range, [`Corruption`](crate::ErrorKind::Corruption) naming file and offset, or what the disk met. Nothing
    /// is lost by a failed open: it may be tried again.
    pub fn open(env: E, dir: impl AsRef<Path>, config: AofConfig) -> Result<(Aof<E>, RecoveryReport)> {
        config.validate()?;
        let dir = dir.as_ref();
        let dir_lock = lock(&env, dir)?;
        // Sealed segments are taken by their headers: cursors check what they read.
        let options = types::LogOptions { replay_from: Lsn(u64::MAX), ..config.log_options() };
        let (log, report) = Log::open(env, dir, options, &mut |_| Ok(()))?;
        let dir_lock = Mutex::<E, _>::new(Some(dir_lock));
        let shared = Shared { dir: dir.to_path_buf(), log, dir_lock };
        Ok((Aof(Arc::new(shared)), RecoveryReport { log: report }))
    }

    /// Appends one record, at most 2 GiB less 4101 bytes; an empty one is a record too.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a record that is too long; [`Poisoned`](crate::ErrorKind::Poisoned);
    /// [`Closed`](crate::ErrorKind::Closed); or what a write met.
    ///
    /// # Durability
    /// As the [`FlushStrategy`] says, or when the ticket was waited for.
    pub fn append(&self, record: &[u8]) -> Result<Ticket<E>> {
        self.append_tagged(0, record)
    }

    /// Appends one record with the caller's mark `tag`, which cursors return.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_tagged(&self, tag: u32, record: &[u8]) -> Result<Ticket<E>> {
        if record.len() > RECORD_BYTES_MAX {
            let what = format_args!("record of {} bytes, at most {RECORD_BYTES_MAX}", record.len());
            return Err(Error::invalid_argument(what));
        }
        self.append_parts(tag, 1, &[Length::encode(record.len()).as_slice(), record])
    }

    /// Appends up to 65,535 records, which are recovered together or not at all.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) also for no records, or too many.
    pub fn append_batch(&self, records: &[impl AsRef<[u8]>]) -> Result<Ticket<E>> {
        if records.is_empty() || records.len() > RECORDS_MAX {
            let what = format_args!("batch of {} records, 1 to {RECORDS_MAX}", records.len());
            return Err(Error::invalid_argument(what));
        }
        let bytes = records.iter().fold(0usize, |sum, record| sum.saturating_add(record.as_ref().len()));
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::invalid_argument(format_args!("batch of {bytes} bytes, at most {BATCH_BYTES_MAX}")));
        }
        let lengths: Vec<Length> = records.iter().map(|record| Length::encode(record.as_ref().len())).collect();
        let parts = lengths.iter().zip(records).flat_map(|(length, record)| [length.as_slice(), record.as_ref()]);
        self.append_parts(0, records.len() as u16, &parts.collect::<Vec<_>>())
    }

    fn append_parts(&self, tag: u32, count: u16, parts: &[&[u8]]) -> Result<Ticket<E>> {
        let append = Append { kind: FrameKind::Data, count, first_id: None, tag, parts };
        let appended = self.0.log.append(&append)?;
        Ok(Ticket::new(&self.0, appended, count.into()))
    }

    /// Appends one record and blocks until it survives a power loss; returns its id as a range of one.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`Ticket::wait`].
    pub fn append_sync(&self, record: &[u8]) -> Result<Range<u64>> {
        let ticket = self.append(record)?;
        ticket.wait()?;
        Ok(ticket.ids())
    }

    /// Blocks until everything appended before the call survives a power loss.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn flush(&self) -> Result<()> {
        self.0.log.sync_to(self.0.log.end())
    }

    /// Returns up to where the log survives a power loss.
    pub fn durable(&self) -> Lsn {
        self.0.log.durable()
    }

    /// Returns the id that the next record will get.
    pub fn next_id(&self) -> u64 {
        self.0.log.position().1
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.0.dir
    }

    /// Makes everything durable, refuses further appends and gives the directory back. Closing again does nothing.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(&self) -> Result<()> {
        let Some(lock) = self.0.dir_lock.lock().take() else { return Ok(()) };
        let closed = self.0.log.close();
        drop(lock);
        closed
    }
}
