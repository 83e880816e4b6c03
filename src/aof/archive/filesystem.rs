//! An archive in a directory: [`FilesystemArchiveStorage`], each object a file whose path is its key.
//!
//! Called as every [`ArchiveStorage`], on any thread. For a second disk or a mounted share; it is as safe as that is.
//!
//! **A put:** the bytes go into a temporary file beside the object's place, which is synced; it is linked to the object's
//! name, which fails if there is one; the temporary name is removed and the directory synced. Until the link there is no
//! object, afterwards it is whole. The keys of a log share a directory that only that log writes to: temporaries in it are of
//! puts that were cut off, and go before the first put.
//!
//! **Invariants:** every object is whole and was synced; none is ever written to again; nothing outside the root is touched.

use super::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use crate::aof::AofError;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, Mutex, OpenMode, StdEnv, SyncKind};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is copied at a time.
const COPY_BYTES: usize = 1 << 20;
/// What names of temporary files begin with; no part of a key begins with a dot.
const TEMPORARY: &str = ".put-";
/// Longest key.
const KEY_BYTES_MAX: usize = 1024;

/// Objects as files under one directory.
///
/// ```
/// use aidb::aof::archive::{ArchiveStorage, PutOutcome};
/// use aidb::aof::archive::filesystem::FilesystemArchiveStorage;
/// use aidb::env::StdEnv;
/// # let dir = tempfile::tempdir()?;
/// let archive = FilesystemArchiveStorage::new(StdEnv, dir.path())?;
/// assert_eq!(archive.put_new("logs/1.seg", &b"bytes".as_slice())?, PutOutcome::Created);
/// assert_eq!(archive.put_new("logs/1.seg", &b"other".as_slice())?, PutOutcome::Exists);
/// assert_eq!(archive.read("logs/1.seg", 1..3)?, b"yt");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
/// An object survives a power loss once `put_new` returned, and stays gone once `delete` returned.
pub struct FilesystemArchiveStorage<E: Env = StdEnv> {
    env: E,
    root: PathBuf,
    /// Directories without temporary files of earlier processes.
    clean: Mutex<E, BTreeSet<PathBuf>>,
}

impl<E: Env> FilesystemArchiveStorage<E> {
    /// Opens the archive in `root`, creating the directory if there is none.
    ///
    /// # Errors
    /// What the disk met.
    pub fn new(env: E, root: impl AsRef<Path>) -> Result<FilesystemArchiveStorage<E>> {
        let root = root.as_ref().to_path_buf();
        env.disk().create_dir_all(&root).map_err(|error| Error::io("create directory", &root, error))?;
        Ok(FilesystemArchiveStorage { env, root, clean: Mutex::<E, _>::new(BTreeSet::new()) })
    }

    /// Returns the file of the object `key`.
    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    /// Removes what puts that were cut off have left in `dir`.
    fn clean(&self, dir: &Path) -> io::Result<()> {
        let mut clean = self.clean.lock();
        if clean.contains(dir) {
            return Ok(());
        }
        for entry in self.env.disk().list(dir)? {
            if !entry.is_dir && entry.name.to_string_lossy().starts_with(TEMPORARY) {
                self.env.disk().remove(&dir.join(entry.name))?;
            }
        }
        clean.insert(dir.to_path_buf());
        Ok(())
    }

    fn write(&self, temporary: &Path, source: &dyn ObjectSource) -> Result<(), Failure> {
        let file = self.env.disk().open(temporary, OpenMode::CreateNew)?;
        let bytes = source.bytes();
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES))];
        let mut at = 0;
        while at < bytes {
            let part = &mut buffer[..(bytes - at).min(COPY_BYTES as u64) as usize];
            source.read_at(part, at).map_err(Failure::Source)?;
            file.write_at(part, at)?;
            at += part.len() as u64;
        }
        file.sync(SyncKind::All)?;
        Ok(())
    }

    fn put(&self, path: &Path, source: &dyn ObjectSource) -> Result<PutOutcome, Failure> {
        let (disk, dir) = (self.env.disk(), path.parent().unwrap_or(&self.root));
        disk.create_dir_all(dir)?;
        self.clean(dir)?;
        let temporary = dir.join(format!("{TEMPORARY}{:016x}", self.env.rand_u64()));
        let linked = self.write(&temporary, source).and_then(|()| match disk.link(&temporary, path) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(PutOutcome::Exists),
            Err(error) => Err(error.into()),
        });
        let removed = disk.remove(&temporary);
        let outcome = linked?;
        removed?;
        disk.sync_dir(dir)?;
        Ok(outcome)
    }

    /// Adds the objects below `dir`, whose keys begin with `parent`, and whose keys begin with `prefix`.
    fn walk(&self, dir: &Path, parent: &str, prefix: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
        let entries = match self.env.disk().list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let Some(name) = entry.name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let key = format!("{parent}{name}");
            if entry.is_dir {
                let below = format!("{key}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    self.walk(&dir.join(name), &below, prefix, found)?;
                }
            } else if key.starts_with(prefix) && check_key(&key).is_ok() {
                found.push(ObjectInfo { key, bytes: entry.bytes });
            }
        }
        Ok(())
    }
}

/// What a put met.
enum Failure {
    /// The disk of the archive.
    Archive(io::Error),
    /// Whoever gives the bytes.
    Source(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Archive(error)
    }
}

/// Refuses keys that could reach elsewhere, or that name something else on other systems.
fn check_key(key: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-.".contains(&byte);
    let whole = key.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(plain) || !whole {
        let what =
            format_args!("object key {key:?} is not 1 to {KEY_BYTES_MAX} of a-z0-9/-. in parts without a leading dot");
        return Err(Error::invalid_argument(what));
    }
    Ok(())
}

fn failed(operation: &'static str, key: &str, error: &io::Error) -> Error {
    let fatal = [io::ErrorKind::PermissionDenied, io::ErrorKind::Unsupported, io::ErrorKind::ReadOnlyFilesystem];
    let retryable = !fatal.contains(&error.kind());
    AofError::RemoteStorage { operation, key: key.to_string(), what: error.to_string(), retryable }.into()
}

impl<E: Env> ArchiveStorage for FilesystemArchiveStorage<E> {
    fn put_new(&self, key: &str, source: &dyn ObjectSource) -> Result<PutOutcome> {
        self.put(&self.path(key)?, source).map_err(|failure| match failure {
            Failure::Archive(error) => failed("put", key, &error),
            Failure::Source(error) => error,
        })
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        let opened = self.env.disk().open(&self.path(key)?, OpenMode::Read).and_then(|file| file.len());
        match opened {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("head", key, &error)),
        }
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let file = match self.env.disk().open(&self.path(key)?, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::not_found(format_args!("the archive has no object {key}")));
            }
            opened => opened.map_err(|error| failed("read", key, &error))?,
        };
        let bytes = file.len().map_err(|error| failed("read", key, &error))?;
        if range.start > range.end || range.end > bytes {
            let what = format!("bytes {range:?} of an object of {bytes} bytes");
            return Err(AofError::RemoteStorage { operation: "read", key: key.into(), what, retryable: false }.into());
        }
        let mut out = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut out, range.start).map_err(|error| failed("read", key, &error))?;
        Ok(out)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        self.walk(&self.root, "", prefix, &mut found).map_err(|error| failed("list", prefix, &error))?;
        found.sort_unstable();
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        let removed = match self.env.disk().remove(&path) {
            // Its directory may be missing too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| self.env.disk().sync_dir(path.parent().unwrap_or(&self.root))),
        };
        removed.map_err(|error| failed("delete", key, &error))
    }
}

impl<E: Env> fmt::Debug for FilesystemArchiveStorage<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesystemArchiveStorage").field("root", &self.root).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::test_env::TestEnv;
    use crate::base::ErrorKind;

    const KEY: &str = "aidb/0011/00000000000000000001-00ff.seg";

    fn object(byte: u8) -> Vec<u8> {
        (0..2 * COPY_BYTES + 77).map(|at| byte ^ (at / 1000) as u8).collect()
    }

    fn open(env: &TestEnv) -> FilesystemArchiveStorage<TestEnv> {
        FilesystemArchiveStorage::new(env.clone(), "archive").unwrap()
    }

    #[test]
    fn objects_are_put_once_read_by_range_listed_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let archive = FilesystemArchiveStorage::new(StdEnv, dir.path().join("deep/er")).unwrap();
        assert_eq!(archive.list("").unwrap(), []);
        assert_eq!(archive.head(KEY).unwrap(), None);
        assert_eq!(*archive.read(KEY, 0..1).unwrap_err().kind(), ErrorKind::NotFound);
        let bytes = object(1);
        assert_eq!(archive.put_new(KEY, &bytes.as_slice()).unwrap(), PutOutcome::Created);
        assert_eq!(archive.put_new(KEY, &object(2).as_slice()).unwrap(), PutOutcome::Exists);
        assert_eq!(archive.put_new("aidb/0011-x", &[].as_slice()).unwrap(), PutOutcome::Created);
        assert_eq!(archive.head(KEY).unwrap(), Some(bytes.len() as u64));
        assert_eq!(archive.read(KEY, 5..2000).unwrap(), bytes[5..2000]);
        assert!(archive.read(KEY, 5..bytes.len() as u64 + 1).is_err());
        let keys = |prefix| archive.list(prefix).unwrap().into_iter().map(|info| info.key).collect::<Vec<_>>();
        assert_eq!(keys(""), ["aidb/0011-x", KEY]);
        assert_eq!(keys("aidb/0011/"), [KEY]);
        assert_eq!(keys("aidb/0011/0000"), [KEY]);
        assert_eq!(keys("aidb/1"), [""; 0]);
        archive.delete(KEY).unwrap();
        archive.delete(KEY).unwrap();
        archive.delete("no/such/directory").unwrap();
        assert_eq!(keys(""), ["aidb/0011-x"]);
    }

    #[test]
    fn keys_that_reach_elsewhere_are_refused() {
        let archive = open(&TestEnv::default());
        for key in ["", "/a", "a/", "a//b", "..", "a/../b", "a/.b", ".", "A", "a b", "a\\b", &"a".repeat(1025)] {
            assert_eq!(*archive.put_new(key, &b"x".as_slice()).unwrap_err().kind(), ErrorKind::InvalidArgument);
            assert!(archive.head(key).is_err() && archive.read(key, 0..0).is_err() && archive.delete(key).is_err());
        }
    }

    #[test]
    fn a_crash_anywhere_leaves_the_whole_object_or_none_and_no_litter() {
        let bytes = object(3);
        for crash in 0.. {
            let env = TestEnv::default();
            env.die_at(Some(crash));
            let put = open(&env).put_new(KEY, &bytes.as_slice());
            env.die_at(None);
            for power in [false, true] {
                if power {
                    env.lose_power();
                }
                let archive = open(&env);
                let head = archive.head(KEY).unwrap();
                assert!(head.is_none() || archive.read(KEY, 0..bytes.len() as u64).unwrap() == bytes);
                assert!(head.is_some() || put.is_err(), "crash {crash}: an object that was created is gone");
                archive.put_new("aidb/0011/other", &b"x".as_slice()).unwrap();
                archive.delete("aidb/0011/other").unwrap();
                let litter = env.files().into_iter().filter(|path| path.to_string_lossy().contains(TEMPORARY));
                assert_eq!(litter.count(), 0, "crash {crash}");
            }
            if put.is_ok() {
                break;
            }
        }
    }
}
