//! What every engine under comparison can do: [`Store`] and [`Reader`], and which of them there are.
//!
//! A store is opened by the child process that measures it, empty. What each system is set to is said on top of its file;
//! those other than this repository's are there only with the feature `engines`.

use super::data::Batch;
use super::{fjall, lmdb, ours, redb, rocks};
use crate::Result;
use std::path::Path;

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// An empty directory.
    pub dir: &'a Path,
    /// Bytes of the block cache.
    pub cache_bytes: usize,
    /// Whether each write survives a power loss before it returns; else it survives the process.
    pub sync: bool,
}

/// Bytes of a memtable, everywhere.
pub const MEMTABLE_BYTES: usize = 64 << 20;
/// Bytes of a block, everywhere.
pub const BLOCK_BYTES: usize = 4 << 10;
/// Filter bits for each key, everywhere.
pub const FILTER_BITS: u8 = 10;

/// An open store, which several threads use.
pub trait Store: Sync {
    /// Writes an entry.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Writes the entries of `batch` at once.
    fn write(&self, batch: &Batch) -> Result<()>;

    /// Deletes a key.
    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Returns what one thread reads with. It sees every write that returned before the read began.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;

    /// Writes out what is in memory and waits for the compactions that the system says are due.
    fn settle(&self) -> Result<()>;

    /// Returns what part of the lookups in tables that do not have the key were saved by a filter, if the system tells.
    fn filter_part(&self) -> Option<f64> {
        None
    }

    /// Closes the store.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Where a scan begins and which way it goes.
#[derive(Clone, Copy, Debug)]
pub enum Scan<'a> {
    /// At the first entry, forwards.
    All,
    /// At a key or the first one behind it, forwards.
    From(&'a [u8]),
    /// At the last entry, backwards.
    Back,
}

/// Reads for one thread.
pub trait Reader {
    /// Returns what `check` says of the value, which it is lent; none if the key is not there.
    fn get(&mut self, key: &[u8], check: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<bool>>;

    /// Lends entries to `take`, key and value, until it returns false or there are no more.
    fn scan(&mut self, scan: Scan<'_>, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;
}

/// The systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// This repository's engine.
    Aidb,
    /// RocksDB.
    Rocksdb,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// LMDB, by heed.
    Lmdb,
}

impl System {
    /// All of them, in the order of the tables.
    pub const ALL: [System; 5] = [System::Aidb, System::Rocksdb, System::Fjall, System::Redb, System::Lmdb];

    /// Returns the name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            System::Aidb => "aidb",
            System::Rocksdb => "rocksdb",
            System::Fjall => "fjall",
            System::Redb => "redb",
            System::Lmdb => "lmdb",
        }
    }

    /// Returns the system of that name.
    pub fn parse(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Whether this program was built with it.
    pub fn is_built(self) -> bool {
        self == System::Aidb || cfg!(feature = "engines")
    }

    /// Opens an empty store.
    pub fn open(self, settings: &Settings<'_>) -> Result<Box<dyn Store>> {
        match self {
            System::Aidb => ours::open(settings),
            System::Rocksdb => rocks::open(settings),
            System::Fjall => fjall::open(settings),
            System::Redb => redb::open(settings),
            System::Lmdb => lmdb::open(settings),
        }
    }
}
