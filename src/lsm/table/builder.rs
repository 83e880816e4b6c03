//! [`TableBuilder`].
#![allow(clippy::todo, unused_variables)]

use super::{TableInfo, TableOptions};
use crate::base::Result;
use crate::base::key::Tag;
use crate::env::Env;
use std::marker::PhantomData;
use std::path::Path;

/// Writes one table, entry by entry.
pub struct TableBuilder<E: Env> {
    env: PhantomData<E>,
}

impl<E: Env> TableBuilder<E> {
    /// Creates the file at `path`, which must not exist. Its directory entry is for the caller to sync.
    pub fn create(env: &E, path: &Path, file_no: u64, options: TableOptions) -> Result<TableBuilder<E>> {
        todo!()
    }
    /// Adds an entry, which must be greater than the one before.
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        todo!()
    }
    /// Returns the number of entries so far.
    pub fn entries(&self) -> u64 {
        todo!()
    }
    /// Returns about how long the file would be if finished now.
    pub fn estimated_bytes(&self) -> u64 {
        todo!()
    }
    /// Returns the last key added.
    pub fn last_key(&self) -> Option<(&[u8], Tag)> {
        todo!()
    }
    /// Writes index, filter and footer and syncs the file. Panics if there are no entries.
    pub fn finish(self) -> Result<TableInfo> {
        todo!()
    }
    /// Closes and removes the file.
    pub fn abandon(self) -> Result<()> {
        todo!()
    }
}
