//! [`MemoryEnv`]: the operating system's threads and locks over a disk in memory, for targets that open whole files.
//!
//! It never fails and forgets nothing: faults are the simulator's business. What it gives is speed, and a directory of its
//! own for every input.

use aidb::env::{DirEntry, Disk, DiskFile, Env, Mono, Mutex, OpenMode, StdEnv, SyncKind, Wall};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

type Bytes = Arc<Mutex<StdEnv, Vec<u8>>>;

/// A world whose files are in memory; clones are the same world.
#[derive(Clone, Default)]
pub struct MemoryEnv(MemoryDisk);

/// Files by path. Directories are what paths say.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<StdEnv, BTreeMap<PathBuf, Bytes>>>);

/// An open file.
pub struct MemoryFile(Bytes);

impl MemoryEnv {
    /// Returns what the file `path` holds.
    pub fn get(&self, path: &Path) -> Result<Vec<u8>> {
        Ok(self.0.find(path)?.lock().clone())
    }

    /// Makes the file `path` hold `bytes`.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.0.0.lock().insert(path.to_path_buf(), Arc::new(Mutex::<StdEnv, _>::new(bytes)));
    }
}

impl Env for MemoryEnv {
    type RawMutex = <StdEnv as Env>::RawMutex;
    type RawRwLock = <StdEnv as Env>::RawRwLock;
    type Condvar = <StdEnv as Env>::Condvar;
    type Join = <StdEnv as Env>::Join;
    type Disk = MemoryDisk;

    fn disk(&self) -> &MemoryDisk {
        &self.0
    }

    fn now(&self) -> Mono {
        StdEnv.now()
    }

    fn wall(&self) -> Wall {
        Wall(1_700_000_000_000_000)
    }

    fn sleep(&self, duration: Duration) {
        StdEnv.sleep(duration);
    }

    fn rand_u64(&self) -> u64 {
        4
    }

    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<Self::Join> {
        StdEnv.spawn(name, body)
    }
}

impl MemoryDisk {
    fn find(&self, path: &Path) -> Result<Bytes> {
        self.0.lock().get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type DirLock = ();

    fn open(&self, path: &Path, mode: OpenMode) -> Result<MemoryFile> {
        if mode != OpenMode::CreateNew {
            return self.find(path).map(MemoryFile);
        }
        let mut files = self.0.lock();
        if files.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let bytes = files.entry(path.to_path_buf()).or_default();
        Ok(MemoryFile(Arc::clone(bytes)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut files = self.0.lock();
        let bytes = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let bytes = self.find(from)?;
        self.0.lock().insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.0.lock().remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let files = self.0.lock();
        let inside = files.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, bytes): (&PathBuf, &Bytes)| {
            let name = path.file_name().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?.to_os_string();
            Ok(DirEntry { name, is_dir: false, bytes: bytes.lock().len() as u64 })
        };
        inside.map(entry).collect()
    }

    fn create_dir_all(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn lock_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn free_space(&self, _: &Path) -> Result<u64> {
        Ok(1 << 40)
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut content = self.0.lock();
        let start = usize::try_from(offset).map_err(Error::other)?;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        let content = self.0.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = bytes.len().min(content.len() - start);
        bytes[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn sync(&self, _: SyncKind) -> Result<()> {
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        self.0.lock().resize(usize::try_from(bytes).map_err(Error::other)?, 0);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.0.lock().len() as u64)
    }
}
