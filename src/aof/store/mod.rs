//! [`Aof`]: the log as a store of records, and the handle a user holds.
//!
//! Called on any thread. Each record has an id, counted from 1 without a gap; a batch is one frame of the log underneath.
//!
//! | file | job |
//! |---|---|
//! | `config` | what a user chooses |
//! | `append` | appending |
//! | `ticket` | waiting for one batch |
//! | `durable` | following how far the store is durable |
//! | `flush` | the flusher's thread and the strategies |
//! | `pressure` | appends that wait for room |
//! | `background` | the background thread |
//! | `keep` | truncation, pins, retention |
//! | `archiving` | the archive, if there is one |
//! | `ledger` | which segments there are, here and in the archive |
//! | `reading` | cursors |
//! | `view` | what a read-only open reads |
//! | `verify` | looking at every byte |
//! | `observe` | counters |
//! | `errors` | errors of both threads on their way to a caller |
//!
//! **Invariants**
//! - The store has the directory to itself from open to close; no thread of it writes there afterwards, whoever still holds
//!   a ticket.
//! - An append takes one lock, the log's own, and reads no clock.
//! - Records become durable in the order of their ids.

mod append;
#[cfg(test)]
mod archive_tests;
mod archiving;
mod background;
mod config;
mod durable;
mod errors;
mod flush;
mod keep;
#[cfg(test)]
mod keep_tests;
mod ledger;
mod observe;
mod pressure;
mod reading;
#[cfg(test)]
mod tests;
mod ticket;
mod verify;
#[cfg(test)]
mod verify_tests;
mod view;
#[cfg(test)]
mod view_tests;

pub use config::{AofConfig, AofConfigBuilder, ArchiveConfig, FlushStrategy, Retention};
pub use durable::{Changed, DurableWatch};
pub use observe::PerformanceMetrics;
pub use reading::AofReader;
pub use ticket::Ticket;

use super::archive::rebuild::{self, ReconcileReport};
use super::log::Log;
use super::manifest::{Edit, Manifest, SegmentEntry};
use super::metrics::FlushCause;
use super::readers::Readers;
use super::types::{self, Lsn};
use crate::base::{Error, Result};
use crate::env::{Disk, Env, EnvJoin, Mono, Mutex, StdEnv};
use archiving::Archive;
use background::Background;
use errors::Errors;
use flush::Flusher;
use keep::Keeping;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
/// What a [`Ticket`] was waited for, and what was appended before it, survives a power loss; of the rest a prefix does, in
/// whole batches. [`FlushStrategy`] says how soon that happens unasked. Dropping the last handle without
/// [`close`](Aof::close) makes nothing durable.
pub struct Aof<E: Env = StdEnv> {
    shared: Arc<Shared<E>>,
    owner: Arc<Owner<E>>,
}

impl<E: Env> Clone for Aof<E> {
    fn clone(&self) -> Aof<E> {
        Aof { shared: Arc::clone(&self.shared), owner: Arc::clone(&self.owner) }
    }
}

impl<E: Env> std::fmt::Debug for Aof<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aof").field("path", &self.shared.dir).finish_non_exhaustive()
    }
}

type DirLockOf<E> = <<E as Env>::Disk as Disk>::DirLock;

/// What handles, tickets and threads share.
struct Shared<E: Env> {
    env: E,
    dir: PathBuf,
    config: AofConfig,
    log: Log<E>,
    readers: Arc<Readers<E>>,
    manifest: Arc<Manifest<E>>,
    archive: Archive<E>,
    flusher: Flusher<E>,
    background: Background<E>,
    errors: Errors<E>,
    counters: Counters,
    /// How a flush is counted that a waiting thread leads.
    wait_cause: FlushCause,
    /// The highest fence seen.
    fence: Mutex<E, u64>,
    keeping: Mutex<E, Keeping>,
    /// The oldest record shown.
    first_id: AtomicU64,
    /// The next id when the store was opened.
    opened_id: u64,
    opened: Mono,
    /// Close or drop has begun.
    closing: AtomicBool,
    /// Nothing more will become durable.
    closed: AtomicBool,
    dir_lock: Mutex<E, Option<DirLockOf<E>>>,
    threads: Mutex<E, Vec<E::Join>>,
}

/// What appends and readers count beside the log.
#[derive(Default)]
struct Counters {
    pressure_waits: AtomicU64,
    would_block: AtomicU64,
}

/// What all clones of a handle share: the last one to go stops the threads, which hold the rest.
struct Owner<E: Env>(Arc<Shared<E>>);

impl<E: Env> Drop for Owner<E> {
    fn drop(&mut self) {
        // During a panic nothing is certain, not even that locks are free; the log is recovered at the next open.
        if std::thread::panicking() {
            return;
        }
        self.0.give_up();
    }
}

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Of the local segments.
    pub log: types::RecoveryReport,
    /// The oldest record that is shown.
    pub first_id: u64,
    /// The id that the next record gets.
    pub next_id: u64,
    /// Of the manifest and the archive.
    pub archive: ReconcileReport,
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
        // Before the log is opened: that would begin a new one where files are missing.
        let prepared = rebuild::prepare(&env, dir)?;
        // Sealed segments are taken by their headers: cursors check what they read.
        let ids_durable = prepared.manifest.with(|state| state.first_id);
        let options = types::LogOptions { replay_from: Lsn(u64::MAX), ids_durable, ..config.log_options() };
        let (log, log_report) = Log::open(env.clone(), dir, options, &mut |_| Ok(()))?;
        let (manifest, archive_report) = prepared.reconcile(&log, archiving::source(&config))?;
        let archive = Archive::new(&env, dir, &config, &log, &manifest)?;
        let first_id = manifest.with(|state| state.first_id).max(1);
        let report = RecoveryReport { log: log_report, first_id, next_id: log.next_id(), archive: archive_report };
        let shared = Arc::new(Shared::new(env, dir, config, (log, manifest, archive), &report, dir_lock));
        // From here on, dropping the handle stops what was started.
        let aof = Aof { shared: Arc::clone(&shared), owner: Arc::new(Owner(shared)) };
        aof.start_threads()?;
        Ok((aof, report))
    }

    fn start_threads(&self) -> Result<()> {
        let shared = &self.shared;
        let spawn = |name: &'static str, body: fn(&Shared<E>)| {
            let shared = Arc::clone(shared);
            let spawned = shared.env.clone().spawn(name, move || body(&shared));
            spawned.map_err(|error| Error::io("start a thread for", &self.shared.dir, error))
        };
        let flusher = spawn("aidb-aof-flush", |shared| shared.run_flusher())?;
        shared.threads.lock().push(flusher);
        let background = spawn("aidb-aof-back", |shared| shared.run_background())?;
        shared.threads.lock().push(background);
        Ok(())
    }

    /// Blocks until everything appended before the call survives a power loss.
    ///
    /// # Errors
    /// As [`Ticket::wait`]; or, once, what background work met.
    pub fn flush(&self) -> Result<()> {
        self.shared.tell()?;
        self.shared.log.sync_to(self.shared.log.end())
    }

    /// Returns up to where the log survives a power loss.
    pub fn durable(&self) -> Lsn {
        self.shared.log.durable()
    }

    /// Returns the id after the last record that survives a power loss.
    pub fn durable_id(&self) -> u64 {
        self.shared.durable_id()
    }

    /// Returns the id that the next record will get.
    pub fn next_id(&self) -> u64 {
        self.shared.log.next_id()
    }

    /// Returns a watch on how far the store is durable.
    pub fn watch_durable(&self) -> DurableWatch<E> {
        DurableWatch::new(&self.shared)
    }

    /// Returns the latest errors of background work, at most 64, oldest first. Each is also returned once, by the next
    /// append, flush or close.
    pub fn background_errors(&self) -> Vec<Error> {
        self.shared.errors.kept()
    }

    /// Returns all segments, oldest first, those in the archive too; the last one is being written.
    pub fn segments(&self) -> Vec<SegmentEntry> {
        self.shared.entries()
    }

    /// Ends the segment being written, if it holds a record, so that it can be archived, and returns where the next one
    /// begins.
    ///
    /// # Errors
    /// [`NoSpace`](crate::ErrorKind::NoSpace) if there is none for the next segment: nothing has changed; or as
    /// [`flush`](Self::flush).
    ///
    /// # Durability
    /// Everything before the returned position survives a power loss.
    pub fn seal(&self) -> Result<Lsn> {
        self.shared.tell()?;
        let next = self.shared.log.seal()?;
        self.shared.background.kick();
        Ok(next)
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.shared.dir
    }

    /// Makes everything durable, refuses further appends, ends the threads and gives the directory back. Closing again
    /// does nothing.
    ///
    /// # Errors
    /// As [`flush`](Self::flush). The directory is given back all the same.
    pub fn close(&self) -> Result<()> {
        self.owner.0.close()
    }
}

impl<E: Env> Shared<E> {
    fn new(
        env: E,
        dir: &Path,
        config: AofConfig,
        (log, manifest, archive): (Log<E>, Arc<Manifest<E>>, Archive<E>),
        report: &RecoveryReport,
        dir_lock: DirLockOf<E>,
    ) -> Shared<E> {
        let state = manifest.state();
        let keeping = Keeping { retention: config.retention, pins: state.pins.clone() };
        let readers = reading::readers(&log, &config, &manifest, archive.remote());
        let is_sync = config.flush_strategy == FlushStrategy::Sync;
        Shared {
            dir: dir.to_path_buf(),
            log,
            readers,
            manifest,
            archive,
            flusher: Flusher::default(),
            background: Background::default(),
            errors: Errors::default(),
            counters: Counters::default(),
            wait_cause: if is_sync { FlushCause::Sync } else { FlushCause::Forced },
            fence: Mutex::<E, _>::new(state.fence),
            keeping: Mutex::<E, _>::new(keeping),
            first_id: AtomicU64::new(report.first_id),
            opened_id: report.next_id,
            opened: env.now(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            dir_lock: Mutex::<E, _>::new(Some(dir_lock)),
            threads: Mutex::<E, _>::new(Vec::new()),
            config,
            env,
        }
    }

    /// Returns the id after the last durable record.
    fn durable_id(&self) -> u64 {
        self.opened_id + self.log.flushes().records()
    }

    /// Makes `edit` durable.
    fn commit(&self, edit: Edit) -> Result<()> {
        self.manifest.commit(&[edit])
    }

    /// Ends both threads and waits for them.
    fn stop_threads(&self) {
        self.flusher.stop();
        self.background.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.join();
        }
    }

    /// Gives the directory back once nothing writes there any more.
    fn give_back(&self) {
        self.log.abandon();
        self.manifest.abandon();
        self.closed.store(true, Ordering::Release);
        self.log.watch().notify();
        self.dir_lock.lock().take();
    }

    fn close(&self) -> Result<()> {
        if self.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.stop_threads();
        let closed = self.log.close();
        let noted = self.manifest.close();
        self.give_back();
        closed.and(noted).and(self.tell())
    }

    /// Ends without a sync.
    fn give_up(&self) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        // Where the disk is gone there is nothing left to wait for: the threads are told and left alone.
        if self.env.disk().free_space(&self.dir).is_err() {
            self.flusher.stop();
            self.background.stop();
            return;
        }
        self.stop_threads();
        self.give_back();
    }
}
