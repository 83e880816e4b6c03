//! Every choice a user makes about an engine, with its unit, range, default and reason.
//!
//! Read once by [`Engine::open_in`](super::Engine::open_in), on the caller's thread; [`Options::validate`] refuses what is out of range and
//! names the field. Nothing here is stored: a directory may be opened with other options than it was written with, and
//! tables keep the block size, compression and filter they were built with.

use super::compaction::CompactionFilter;
use super::memtable::MemtableKind;
use super::merge::{MergeOperator, OPERATOR_NAME_BYTES_MAX};
use super::table::Compression;
use crate::base::{Error, Result};
use std::sync::Arc;

/// How far a write has travelled when the call returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the process's log buffer. A killed process loses it; the next [`Durability::Os`] or [`Durability::Sync`] carries it.
    Buffered,
    /// Handed to the operating system. Survives a killed process, not a power loss.
    Os,
    /// On the disk. Survives a power loss.
    #[default]
    Sync,
}

/// Choices for one write; see [`Engine::write_opt`](super::Engine::write_opt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Overrides [`Options::durability`] for this write.
    pub durability: Option<Durability>,
}

/// How an engine is opened. Start from [`Options::default`] and change what you know better.
///
/// ```
/// let options = aidb::Options { memtable_bytes: 16 << 20, ..aidb::Options::default() };
/// options.validate().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Creates the directory and an empty engine where there is none. Default true.
    pub create_if_missing: bool,
    /// Refuses to open an engine that exists already. Default false.
    pub error_if_exists: bool,
    /// How far a write has travelled when it returns, unless the write says otherwise. Default [`Durability::Sync`]:
    /// acknowledged means on disk.
    pub durability: Durability,
    /// Bytes in a memtable before it is flushed. 4 KiB to 4 GiB, default 64 MiB. Larger ones mean fewer, larger tables
    /// and a longer replay at open.
    pub memtable_bytes: usize,
    /// How memtables are built. Default [`MemtableKind::Wide`], the faster one.
    pub memtable: MemtableKind,
    /// Full memtables that may wait for their flush before writes stop. 1 to 16, default 2.
    pub immutable_memtables_max: usize,
    /// Bytes in a table's data block before compression. 64 B to 64 KiB, default 4 KiB: one page a point read.
    pub block_bytes: usize,
    /// Bytes of decoded blocks kept in memory. Default 64 MiB; 0 keeps none.
    pub block_cache_bytes: usize,
    /// Compression of tables. Default LZ4.
    pub compression: Compression,
    /// Bloom filter bits for each key of a table. 0 (no filter) to 30, default 15: one false positive in about 1,400 reads.
    pub filter_bits_per_key: u8,
    /// Tables in level 0 that start a compaction. 1 to 64, default 4.
    pub l0_compaction_files: usize,
    /// Tables in level 0 at which writes stop; they slow down smoothly from halfway. More than
    /// [`l0_compaction_files`](Options::l0_compaction_files), at most 1,024, default 24.
    pub l0_stall_files: usize,
    /// Bytes that the last level may hold before there is a level between it and level 0. 4 KiB to 1 TiB, default 512 MiB:
    /// about twice what level 0 holds when it is compacted.
    pub level_bytes_base: u64,
    /// How many times more bytes each level holds than the one above. 2 to 100, default 10.
    pub level_size_multiplier: u64,
    /// Number of levels. 2 to 16, default 7: with the default sizes, 50 TB.
    pub levels_max: usize,
    /// Bytes in a table written by compaction. 1 KiB to 4 GiB and a multiple of 4 KiB, default 64 MiB.
    pub table_bytes: u64,
    /// Bytes in a segment of the write-ahead log. 8 KiB to 4 GiB and a multiple of 4 KiB, default 16 MiB: one is being written
    /// and one kept to be written over, which counts beside a small database; a larger one saves a few syncs.
    pub wal_segment_bytes: u64,
    /// Bytes of log that a keyspace with few writes may hold back before its memtable is flushed all the same. 8 KiB to
    /// 1 TiB, default 1 GiB; more means a longer replay at open.
    pub wal_bytes_max: u64,
    /// Bytes in the MANIFEST before it is rewritten. 1 KiB to 1 GiB, default 4 MiB.
    pub manifest_bytes_max: u64,
    /// Compaction threads, beside the one that flushes. 1 to 64, default 2.
    pub background_threads: usize,
    /// What [merges](super::Engine::merge) are made for. Default none: they are refused. Its name is kept from the first
    /// merge on, and another operator refused.
    pub merge_operator: Option<Arc<dyn MergeOperator>>,
    /// Looks at values while they are compacted. Default none.
    pub compaction_filter: Option<Arc<dyn CompactionFilter>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            create_if_missing: true,
            error_if_exists: false,
            durability: Durability::Sync,
            memtable_bytes: 64 << 20,
            memtable: MemtableKind::Wide,
            immutable_memtables_max: 2,
            block_bytes: 4 << 10,
            block_cache_bytes: 64 << 20,
            compression: Compression::Lz4,
            filter_bits_per_key: 15,
            l0_compaction_files: 4,
            l0_stall_files: 24,
            level_bytes_base: 512 << 20,
            level_size_multiplier: 10,
            levels_max: 7,
            table_bytes: 64 << 20,
            wal_segment_bytes: 16 << 20,
            wal_bytes_max: 1 << 30,
            manifest_bytes_max: 4 << 20,
            background_threads: 2,
            merge_operator: None,
            compaction_filter: None,
        }
    }
}

impl Options {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        range("memtable_bytes", self.memtable_bytes as u64, 4 << 10, 4 << 30)?;
        range("immutable_memtables_max", self.immutable_memtables_max as u64, 1, 16)?;
        range("block_bytes", self.block_bytes as u64, 64, 64 << 10)?;
        range("filter_bits_per_key", self.filter_bits_per_key.into(), 0, 30)?;
        range("l0_compaction_files", self.l0_compaction_files as u64, 1, 64)?;
        range("l0_stall_files", self.l0_stall_files as u64, self.l0_compaction_files as u64 + 1, 1024)?;
        range("level_bytes_base", self.level_bytes_base, 4 << 10, 1 << 40)?;
        range("level_size_multiplier", self.level_size_multiplier, 2, 100)?;
        range("levels_max", self.levels_max as u64, 2, 16)?;
        range("table_bytes", self.table_bytes, 1 << 10, 4 << 30)?;
        range("wal_segment_bytes", self.wal_segment_bytes, 8 << 10, 4 << 30)?;
        if !self.wal_segment_bytes.is_multiple_of(4096) {
            let bytes = self.wal_segment_bytes;
            return Err(Error::invalid_argument(format_args!(
                "Options::wal_segment_bytes is {bytes}, must be a multiple of 4096"
            )));
        }
        range("wal_bytes_max", self.wal_bytes_max, 8 << 10, 1 << 40)?;
        range("manifest_bytes_max", self.manifest_bytes_max, 1 << 10, 1 << 30)?;
        range("background_threads", self.background_threads as u64, 1, 64)?;
        let name_bytes = self.merge_operator.as_ref().map_or(1, |operator| operator.name().len());
        range("merge_operator.name().len()", name_bytes as u64, 1, OPERATOR_NAME_BYTES_MAX as u64)
    }
}

/// What one keyspace does in its own way; `None` takes the engine's [`Options`].
///
/// Like these, nothing here is stored: it holds from [`Engine::keyspace`](super::Engine::keyspace) on for what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceOptions {
    /// Overrides [`Options::memtable_bytes`]; each keyspace has memtables of its own.
    pub memtable_bytes: Option<usize>,
    /// Overrides [`Options::block_bytes`].
    pub block_bytes: Option<usize>,
    /// Overrides [`Options::compression`].
    pub compression: Option<Compression>,
    /// Overrides [`Options::filter_bits_per_key`].
    pub filter_bits_per_key: Option<u8>,
    /// Overrides [`Options::merge_operator`].
    pub merge_operator: Option<Arc<dyn MergeOperator>>,
    /// Overrides [`Options::compaction_filter`].
    pub compaction_filter: Option<Arc<dyn CompactionFilter>>,
}

impl KeyspaceOptions {
    /// Returns `base` with these choices.
    pub(super) fn over(&self, base: &Options) -> Options {
        Options {
            memtable_bytes: self.memtable_bytes.unwrap_or(base.memtable_bytes),
            block_bytes: self.block_bytes.unwrap_or(base.block_bytes),
            compression: self.compression.unwrap_or(base.compression),
            filter_bits_per_key: self.filter_bits_per_key.unwrap_or(base.filter_bits_per_key),
            merge_operator: self.merge_operator.clone().or_else(|| base.merge_operator.clone()),
            compaction_filter: self.compaction_filter.clone().or_else(|| base.compaction_filter.clone()),
            ..base.clone()
        }
    }
}

fn range(field: &str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid_argument(format_args!("Options::{field} is {value}, must be {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn out_of_range_names_the_field() {
        let error = Options { levels_max: 1, ..Options::default() }.validate().unwrap_err();
        assert!(error.to_string().contains("levels_max is 1"), "{error}");
        let error = Options { l0_stall_files: 4, ..Options::default() }.validate().unwrap_err();
        assert!(error.to_string().contains("l0_stall_files is 4, must be 5"), "{error}");
    }
}
