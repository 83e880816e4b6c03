//! [`Table`].
#![allow(clippy::todo, unused_variables)]

use super::{TableInfo, TableIterator};
use crate::base::Result;
use crate::base::key::{SeqNum, Tag};
use crate::env::Env;
use crate::lsm::cache::BlockCache;
use crate::lsm::value::Value;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

/// An open table.
pub struct Table<E: Env> {
    env: PhantomData<E>,
}

impl<E: Env> Table<E> {
    /// Opens the table at `path`: reads and checks footer, index and filter, which stay in memory.
    pub fn open(env: &E, path: &Path, file_no: u64, cache: BlockCache) -> Result<Table<E>> {
        todo!()
    }
    /// Returns the newest entry of `key` with a sequence number of at most `seq`, tombstones included.
    pub fn get(&self, key: &[u8], seq: SeqNum) -> Result<Option<(Tag, Value)>> {
        todo!()
    }
    /// Returns false if `key` is surely absent, by the filter alone.
    pub fn may_contain(&self, key: &[u8]) -> bool {
        todo!()
    }
    /// Returns a cursor; with `fill_cache` the blocks it reads are offered to the cache.
    pub fn iter(self: &Arc<Self>, fill_cache: bool) -> TableIterator<E> {
        todo!()
    }
    /// Reads everything from disk again and checks all that can be checked.
    pub fn verify(&self) -> Result<TableInfo> {
        todo!()
    }
    /// Returns what the footer says.
    pub fn info(&self) -> &TableInfo {
        todo!()
    }
    /// Returns how many bytes index and filter take in memory.
    pub fn pinned_bytes(&self) -> u64 {
        todo!()
    }
}
