//! [`StdEnv`]: the operating system as an [`Env`]. The only home of `std::fs`, `std::thread` and real time.
//!
//! Locks are `parking_lot`, positions are `pread`/`pwrite`, a data sync is `fdatasync`, the directory lock is an advisory
//! lock (`flock`) on the file `LOCK`, which the system gives back when the process dies.
#![expect(clippy::disallowed_methods, reason = "this file is what the replacements are made of")]

use super::disk::write_zeros;
use super::{DirEntry, Disk, DiskFile, Env, EnvCondvar, EnvJoin, Mono, OpenMode, SyncKind, Wall};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdEnv;

impl Env for StdEnv {
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;
    type Condvar = StdCondvar;
    type Join = StdJoin;
    type Disk = StdDisk;

    fn disk(&self) -> &StdDisk {
        &StdDisk
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn rand_u64(&self) -> u64 {
        // The standard library's map keys come from the system's random source.
        use std::hash::{BuildHasher, Hasher};
        std::hash::RandomState::new().build_hasher().finish()
    }

    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<StdJoin> {
        std::thread::Builder::new().name(name.into()).spawn(body).map(StdJoin)
    }

    fn relax(&self) {
        std::thread::yield_now();
    }
}

/// A thread of the operating system.
#[derive(Debug)]
pub struct StdJoin(JoinHandle<()>);

impl EnvJoin for StdJoin {
    fn join(self) -> bool {
        self.0.join().is_ok()
    }
}

/// `parking_lot`'s condition variable.
#[derive(Debug, Default)]
pub struct StdCondvar(parking_lot::Condvar);

impl EnvCondvar<parking_lot::RawMutex> for StdCondvar {
    fn wait<T>(&self, guard: &mut parking_lot::MutexGuard<'_, T>) {
        self.0.wait(guard);
    }

    fn wait_for<T>(&self, guard: &mut parking_lot::MutexGuard<'_, T>, timeout: Duration) -> bool {
        self.0.wait_for(guard, timeout).timed_out()
    }

    fn notify_one(&self) {
        self.0.notify_one();
    }

    fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdDisk;

impl Disk for StdDisk {
    type File = StdFile;
    type DirLock = StdDirLock;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<StdFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::CreateNew);
        options.open(path).map(StdFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed by another thread since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name: entry.file_name(), is_dir, bytes: if is_dir { 0 } else { metadata.len() } });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(Path::new("/"));
        if dir.is_dir() {
            return match self.sync_dir(parent) {
                // One may live in a directory that one may not list.
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(()),
            };
        }
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(error),
            _ => {}
        }
        self.sync_dir(parent).inspect_err(|_| drop(fs::remove_dir(dir)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all()
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<StdDirLock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join("LOCK"))?;
        match file.try_lock() {
            Ok(()) => Ok(StdDirLock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A locked directory.
#[derive(Debug)]
pub struct StdDirLock(File);

impl Drop for StdDirLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread has forked a moment ago holds the file until it runs its program.
        let _ = self.0.unlock();
    }
}

/// A file of the operating system.
#[derive(Debug)]
pub struct StdFile(File);

/// What one call writes. A larger one makes the page cache look for large runs of pages, which are seldom at hand: up to
/// four times slower than the same bytes in pieces.
const WRITE_BYTES: usize = 128 << 10;

impl DiskFile for StdFile {
    fn write_at(&self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        for piece in bytes.chunks(WRITE_BYTES) {
            self.0.write_all_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        use rustix::io::Errno;
        if from >= to {
            return Ok(());
        }
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.0, flags, from, to - from)) {
            // Some file systems cannot, and writing zeros does the same.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(self, from, to),
            done => Ok(done?),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn sync(&self, kind: SyncKind) -> io::Result<()> {
        match kind {
            SyncKind::Data => self.0.sync_data(),
            SyncKind::All => self.0.sync_all(),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
