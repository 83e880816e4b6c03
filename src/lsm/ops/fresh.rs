//! [`Fresh`]: a new directory on its way to be an engine's, for checkpoints and restores.
//!
//! 1. The directory must be empty or missing. It is locked, and `INCOMPLETE` goes into it, durably: until the end it is
//!    refused by every open, whatever a crash leaves in it.
//! 2. Tables and the log come in, each durable.
//! 3. The MANIFEST is written and synced, with the directory, and `CURRENT` names it.
//! 4. `INCOMPLETE` is removed, durably.
//!
//! - The log of the new directory begins at 0, as that of a new engine, whatever it began at where it comes from.

use crate::aof::{Append, Frame, Log, LogOptions, Lsn};
use crate::base::{Error, Result};
use crate::env::{DirEntry, Disk, Env, write_file_atomic};
use crate::lsm::files::{CURRENT, FileKind, INCOMPLETE, WAL_DIR};
use crate::lsm::manifest::Manifest;
use crate::lsm::manifest::format::VersionEdit;
use std::io;
use std::path::Path;

/// What the file says to whoever finds it.
const INCOMPLETE_TEXT: &[u8] = b"This directory was being filled by a checkpoint or restore that did not finish.\n";

/// What an interrupted write of it leaves.
const INCOMPLETE_TEMPORARY: &str = "INCOMPLETE.tmp";

/// Takes frames of a log.
pub(super) type TakeFrame<'a> = &'a mut dyn FnMut(Frame<'_>) -> Result<()>;

/// A directory being filled.
pub(super) struct Fresh<'a, E: Env> {
    env: &'a E,
    dir: &'a Path,
    _lock: <E::Disk as Disk>::DirLock,
}

impl<'a, E: Env> Fresh<'a, E> {
    /// Lets `fill` make an engine's directory of `dir`, and removes what it made if it fails.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `dir` holds anything, [`Locked`](crate::ErrorKind::Locked) if it is
    /// in use; what `fill` met.
    pub(super) fn fill<T>(env: &'a E, dir: &'a Path, fill: impl FnOnce(&Fresh<'a, E>) -> Result<T>) -> Result<T> {
        let fresh = Fresh::prepare(env, dir)?;
        let filled = fresh.mark_incomplete().and_then(|()| fill(&fresh));
        if filled.is_err() {
            fresh.discard();
        }
        filled
    }

    fn prepare(env: &'a E, dir: &'a Path) -> Result<Fresh<'a, E>> {
        let disk = env.disk();
        disk.create_dir_all(dir).map_err(|error| Error::io("create directory", dir, error))?;
        let lock = disk.lock_dir(dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::locked(dir),
            _ => Error::io("lock", dir, error),
        })?;
        let entries = disk.list(dir).map_err(|error| Error::io("list", dir, error))?;
        let is_empty_log = |entry: &DirEntry| {
            entry.name == WAL_DIR && disk.list(&dir.join(WAL_DIR)).is_ok_and(|listed| listed.is_empty())
        };
        let is_nothing =
            |entry: &DirEntry| entry.name == "LOCK" || entry.name == INCOMPLETE_TEMPORARY || is_empty_log(entry);
        match entries.iter().find(|entry| !is_nothing(entry)) {
            None => Ok(Fresh { env, dir, _lock: lock }),
            Some(entry) => {
                let (dir, name) = (dir.display(), entry.name.display());
                Err(Error::invalid_argument(format_args!("{dir} is not empty: it holds {name}; name a new directory")))
            }
        }
    }

    fn mark_incomplete(&self) -> Result<()> {
        if self.env.planted("checkpoint_current_first") {
            return Ok(());
        }
        let path = self.dir.join(INCOMPLETE);
        write_file_atomic(self.env.disk(), &path, INCOMPLETE_TEXT).map_err(|error| Error::io("write", &path, error))
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir
    }

    /// Makes a log of the frames that `frames` hands over, with segments of `segment_bytes`.
    pub(super) fn write_log(&self, segment_bytes: u64, frames: impl FnOnce(TakeFrame<'_>) -> Result<()>) -> Result<()> {
        let options = LogOptions { segment_bytes, ..LogOptions::default() };
        let (log, _) = Log::open(self.env.clone(), &self.dir.join(WAL_DIR), options, &mut |_| Ok(()))?;
        frames(&mut |frame| {
            let Frame { kind, count, first_id, tag, payload, .. } = frame;
            log.append(&Append { kind, count, first_id: Some(first_id), tag, parts: &[payload] }).map(|_| ())
        })?;
        log.sync_to(log.end())?;
        // Durable too, so that damage of the last record is never taken for a torn one.
        log.mark()?;
        log.sync_to(log.end())?;
        log.close()
    }

    /// Makes the directory an engine's whose MANIFEST, of number `file_no`, says `edit`.
    pub(super) fn finish(&self, file_no: u64, edit: &VersionEdit) -> Result<()> {
        assert_eq!(edit.wal_lsn, Some(Lsn(0)), "the log begins here");
        drop(Manifest::create(self.env, self.dir, file_no, edit)?);
        let (disk, path) = (self.env.disk(), self.dir.join(INCOMPLETE));
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, error)),
            _ => {}
        }
        disk.sync_dir(self.dir).map_err(|error| Error::io("sync directory", self.dir, error))
    }

    /// Removes what was made, as far as that is possible: what says that it is not whole goes last.
    fn discard(&self) {
        let disk = self.env.disk();
        // The one file without which nothing is opened; it may have replaced the mark already.
        let gone = match disk.remove(&self.dir.join(CURRENT)) {
            Ok(()) => disk.sync_dir(self.dir).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !gone {
            return;
        }
        let wal_dir = self.dir.join(WAL_DIR);
        for entry in disk.list(&wal_dir).unwrap_or_default() {
            let _ = disk.remove(&wal_dir.join(&entry.name));
        }
        let entries = disk.list(self.dir).unwrap_or_default();
        let ours = |entry: &&DirEntry| !matches!(FileKind::parse(&entry.name), FileKind::Other | FileKind::Incomplete);
        for entry in entries.iter().filter(ours) {
            let _ = disk.remove(&self.dir.join(&entry.name));
        }
        if disk.sync_dir(self.dir).is_ok() {
            for name in [INCOMPLETE_TEMPORARY, INCOMPLETE] {
                let _ = disk.remove(&self.dir.join(name));
            }
        }
    }
}
