//! Where sealed segments go when they leave the disk: [`ArchiveStorage`], a store of immutable objects.
//!
//! Called by the log's background thread (upload, collection) and by cursors (reads); implementations may block, retry
//! and be called from several threads at once.
//!
//! **What the log relies on:** an object that [`put_new`](ArchiveStorage::put_new) said it created is there for
//! [`read`](ArchiveStorage::read) until it is deleted; `put_new` never replaces an object. **What it does not rely on:**
//! that a failed call did nothing, that a call took effect before it returned an error, or that bytes come back as they
//! were sent: uploads are verified by reading them back.

#[cfg(feature = "s3")]
pub mod s3;

pub mod cache;
mod collect;
pub mod filesystem;
pub mod format;
pub mod image;
#[cfg(test)]
mod lifecycle_tests;
pub mod object;
#[cfg(test)]
mod object_tests;
pub mod rebuild;
pub mod remote;
#[cfg(test)]
pub(in crate::aof) mod test_storage;
pub mod upload;
mod verify;

pub use filesystem::FilesystemArchiveStorage;

use crate::base::Result;
use std::fmt::Debug;
use std::ops::Range;

/// What became of a conditional put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object was created by this call.
    Created,
    /// There was one of that key already; it is as it was. It may be from an earlier try of the same call.
    Exists,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

/// The bytes of an object to be put, read from wherever they are as they are sent.
pub trait ObjectSource {
    /// Returns the object's length.
    fn bytes(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// What reading met.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
}

impl ObjectSource for &[u8] {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let at = offset as usize;
        buffer.copy_from_slice(&self[at..at + buffer.len()]);
        Ok(())
    }
}

/// A store of immutable objects under keys of `a-z0-9/-.`.
///
/// Errors are [`AofError::RemoteStorage`](super::AofError::RemoteStorage) unless said otherwise.
pub trait ArchiveStorage: Debug + Send + Sync + 'static {
    /// Creates the object `key` if there is none.
    ///
    /// # Errors
    /// After an error the object may or may not be there, or appear later.
    fn put_new(&self, key: &str, source: &dyn ObjectSource) -> Result<PutOutcome>;

    /// Returns the length of the object `key`, or none if there is no such object.
    ///
    /// # Errors
    /// The store could not be asked.
    fn head(&self, key: &str) -> Result<Option<u64>>;

    /// Returns the bytes `range` of the object `key`, all of them.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such object; or the store could not be asked.
    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Lists all objects whose keys begin with `prefix`, by key.
    ///
    /// # Errors
    /// The store could not be asked.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Removes the object `key`; one that is not there counts as removed.
    ///
    /// # Errors
    /// After an error the object may or may not be there.
    fn delete(&self, key: &str) -> Result<()>;
}
