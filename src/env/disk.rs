//! Files and directories of an [`Env`](super::Env), with the rules of a POSIX disk.
//!
//! **What survives a power loss:** a file's bytes and length once [`DiskFile::sync`] returned; a directory entry (create,
//! rename, link, remove) once [`Disk::sync_dir`] of its directory returned. Nothing else, in no order.
//! **After a failed sync** the unsynced pages may be clean but lost: callers never retry, they stop writing.
//!
//! Paths are used as given; every file and directory belongs to one process through [`Disk::lock_dir`].

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// What a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// Bytes and what is needed to read them, such as a grown length (`fdatasync`).
    Data,
    /// Bytes and all metadata (`fsync`).
    All,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name within its directory.
    pub name: OsString,
    /// True for a directory.
    pub is_dir: bool,
    /// The file's length; 0 for a directory.
    pub bytes: u64,
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// An open file. Dropping it closes it without a sync.
    type File: DiskFile;
    /// The exclusive right to a directory, given back when dropped.
    type DirLock: Send + Sync + 'static;

    /// Opens `path`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;
    /// Renames a file, replacing `to` at once if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file `from` the second name `to`, which must not exist.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes the name of a file; open handles stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory and its missing parents, durably: the parent of each is synced, and that of the deepest one that
    /// existed, because the call that made it may not have come so far. If such a sync fails, the new directory goes again.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive right to `dir` through its file `LOCK`, or fails with [`io::ErrorKind::WouldBlock`].
    fn lock_dir(&self, dir: &Path) -> io::Result<Self::DirLock>;
    /// Returns how many bytes can still be written below `dir`.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
}

/// Writes zeros over `from..to` of `file`.
///
/// # Errors
/// As [`DiskFile::write_at`].
pub fn write_zeros<F: DiskFile + ?Sized>(file: &F, from: u64, to: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let mut at = from;
    while at < to {
        let count = (to - at).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

/// An open file, shared between threads; positions are explicit.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`, growing the file with zeros where there is a gap.
    ///
    /// # Errors
    /// After an error any part of `bytes` may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Adds zeros from `from`, the file's end, to `to`, with space for them, in whatever way is cheap to write over in large
    /// pieces; a sync of small ones may cost more than over zeros that were written.
    ///
    /// # Errors
    /// After an error any part may have been added.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        write_zeros(self, from, to)
    }

    /// Reads up to `bytes.len()` bytes at `offset`; fewer only at the end of the file or by a short read, 0 only at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes earlier writes through any handle of this file durable.
    fn sync(&self, kind: SyncKind) -> io::Result<()>;

    /// Cuts or grows (with zeros) the file to `bytes`.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Returns the file's length.
    fn len(&self) -> io::Result<u64>;

    /// Returns true if the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `bytes` from `offset`, joining short reads.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends first.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads the whole file at `path`.
pub fn read_file<D: Disk>(disk: &D, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces the content of `path` so that after a crash it is the old or the new, and durable once this returns.
///
/// Writes `path` with the suffix `.tmp`, syncs it, renames it and syncs the directory.
pub fn write_file_atomic<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync(SyncKind::All)?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}
