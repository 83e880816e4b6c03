//! The MANIFEST: which tables make up the engine, as a log of version edits, and `CURRENT`, which names it.
//!
//! Written by whoever holds the engine's manifest lock (open, flush, compaction); read once, by open.
//!
//! - An edit counts only once it is synced. After a failed write or sync nothing more is written: what is on disk is
//!   unknown until the directory is opened again.
//! - A MANIFEST is complete and durable, its directory entry too, before `CURRENT` names it; the older one is removed after.

pub mod format;

use self::format::{VersionEdit, decode_current, decode_file, encode_current, put_file_header, put_record};
use super::files::{CURRENT, manifest_name};
use crate::aof::Lsn;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, SyncKind, read_file, write_file_atomic};
use std::io;
use std::path::{Path, PathBuf};

/// The MANIFEST being written.
pub(super) struct Manifest<E: Env> {
    env: E,
    path: PathBuf,
    file_no: u64,
    file: <E::Disk as Disk>::File,
    end: u64,
    /// The last sequence number that tables hold, and from where the log is needed, as last written.
    position: (SeqNum, Lsn),
    failed: Option<Error>,
}

impl<E: Env> Manifest<E> {
    /// Writes MANIFEST `file_no` with `state` as its first record, durably, and makes `CURRENT` name it.
    pub(super) fn create(env: &E, dir: &Path, file_no: u64, state: &VersionEdit) -> Result<Manifest<E>> {
        let disk = env.disk();
        let path = dir.join(manifest_name(file_no));
        let mut bytes = Vec::new();
        put_file_header(&mut bytes, file_no);
        let offset = bytes.len() as u64;
        put_record(&mut bytes, file_no, offset, state);
        let file = disk.open(&path, OpenMode::CreateNew).map_err(|error| Error::io("create", &path, error))?;
        file.write_at(&bytes, 0).map_err(|error| Error::io("write", &path, error))?;
        if !env.planted("manifest_not_synced") {
            file.sync(SyncKind::All).map_err(|error| Error::io("sync", &path, error))?;
        }
        disk.sync_dir(dir).map_err(|error| Error::io("sync directory", dir, error))?;
        switch_current(env, dir, file_no)?;
        let position = (state.last_seq.unwrap_or_default(), state.wal_lsn.unwrap_or_default());
        Ok(Manifest { env: env.clone(), path, file_no, file, end: bytes.len() as u64, position, failed: None })
    }

    /// Appends `edit` and makes it durable.
    ///
    /// # Errors
    /// The write or sync failed, now or earlier.
    pub(super) fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut bytes = Vec::new();
        put_record(&mut bytes, self.file_no, self.end, edit);
        let written = self.write(&bytes);
        match &written {
            Ok(()) => {
                self.end += bytes.len() as u64;
                self.position = (edit.last_seq.unwrap_or(self.position.0), edit.wal_lsn.unwrap_or(self.position.1));
            }
            Err(error) => self.failed = Some(error.clone()),
        }
        written
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.end).map_err(|error| Error::io("write", &self.path, error))?;
        if !self.env.planted("manifest_not_synced") {
            self.file.sync(SyncKind::Data).map_err(|error| Error::io("sync", &self.path, error))?;
        }
        Ok(())
    }

    /// Returns the file's length.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Returns the last sequence number that tables hold, and from where the log is needed.
    pub(super) fn position(&self) -> (SeqNum, Lsn) {
        self.position
    }

    /// Returns the file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn switch_current<E: Env>(env: &E, dir: &Path, file_no: u64) -> Result<()> {
    let (path, content) = (dir.join(CURRENT), encode_current(file_no));
    let switched = if env.planted("current_rename_without_dir_sync") {
        write_without_dir_sync(env.disk(), dir, content.as_bytes())
    } else {
        write_file_atomic(env.disk(), &path, content.as_bytes())
    };
    switched.map_err(|error| Error::io("replace", &path, error))
}

/// What `current_rename_without_dir_sync` does instead.
fn write_without_dir_sync<D: Disk>(disk: &D, dir: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join("CURRENT.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(content, 0)?;
    file.sync(SyncKind::All)?;
    disk.rename(&temporary, &dir.join(CURRENT))
}

/// Reads which MANIFEST `CURRENT` names.
pub(super) fn read_current<E: Env>(env: &E, dir: &Path) -> Result<u64> {
    let path = dir.join(CURRENT);
    let bytes = read_file(env.disk(), &path).map_err(|error| Error::io("read", &path, error))?;
    decode_current(&bytes).map_err(|what| Error::corruption(&path, 0, what))
}

/// Reads the edits of MANIFEST `file_no`.
pub(super) fn read_manifest<E: Env>(env: &E, dir: &Path, file_no: u64) -> Result<Vec<VersionEdit>> {
    let path = dir.join(manifest_name(file_no));
    let bytes = read_file(env.disk(), &path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::corruption(&path, 0, "the manifest that CURRENT names is missing"),
        _ => Error::io("read", &path, error),
    })?;
    let (edits, end) = decode_file(&bytes, file_no).map_err(|(offset, what)| Error::corruption(&path, offset, what))?;
    if end < bytes.len() as u64 {
        env.reached("lsm.manifest_torn_tail");
    }
    Ok(edits)
}
