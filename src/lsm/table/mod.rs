//! Tables: immutable sorted files (`NNNNNN.sst`).
//!
//! [`TableBuilder`] writes one from entries in order (flush, compaction), [`Table`] reads one (gets, iterators), on any
//! thread. [`mod@format`] holds the byte tables.

mod block;
mod builder;
mod compress;
mod filter;
pub mod format;
mod index;
mod iterator;
mod reader;
pub mod salvage;

pub use builder::TableBuilder;
pub use compress::Compression;
pub use iterator::TableIterator;
pub use reader::Table;

use super::ranges::{Edge, RangeInfo, ends_behind};
use crate::base::key::{SeqNum, Tag};

/// How a table is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Bytes of a data block before compression, 64 to 32,768, default 4,096: what one lookup reads and the cache keeps.
    pub block_bytes: usize,
    /// How data blocks are compressed, default LZ4.
    pub compression: Compression,
    /// Bits of filter a key, 0 (no filter) to 30, default 15: one lookup of an absent key in 1,100 reads a block.
    pub filter_bits_per_key: u8,
}

impl Default for TableOptions {
    fn default() -> TableOptions {
        TableOptions { block_bytes: 4096, compression: Compression::Lz4, filter_bits_per_key: 15 }
    }
}

impl TableOptions {
    /// Smallest [`block_bytes`](Self::block_bytes).
    pub const BLOCK_BYTES_MIN: usize = 64;
    /// Largest [`block_bytes`](Self::block_bytes).
    pub const BLOCK_BYTES_MAX: usize = 32 * 1024;
    /// Largest [`filter_bits_per_key`](Self::filter_bits_per_key).
    pub const FILTER_BITS_PER_KEY_MAX: u8 = 30;

    fn check(&self) {
        let block_bytes = self.block_bytes;
        let in_range = (TableOptions::BLOCK_BYTES_MIN..=TableOptions::BLOCK_BYTES_MAX).contains(&block_bytes);
        assert!(in_range, "blocks of {block_bytes} bytes");
        assert!(self.filter_bits_per_key <= TableOptions::FILTER_BITS_PER_KEY_MAX, "too many filter bits a key");
    }
}

/// What a table holds; the same when written, opened and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The number in the file's name.
    pub file_no: u64,
    /// The file's length.
    pub file_bytes: u64,
    /// Number of entries, tombstones included.
    pub entries: u64,
    /// Number of tombstones.
    pub tombstones: u64,
    /// Bytes of all keys and values.
    pub raw_bytes: u64,
    /// The first internal key.
    pub smallest: (Vec<u8>, Tag),
    /// The last internal key.
    pub largest: (Vec<u8>, Tag),
    /// The smallest sequence number.
    pub seq_min: SeqNum,
    /// The largest sequence number.
    pub seq_max: SeqNum,
    /// Its range tombstones, whose sequence numbers count too; `None` if it has none.
    pub ranges: Option<RangeInfo>,
}

impl TableInfo {
    /// Returns the first key that the table has an entry of, or a range tombstone over.
    #[inline]
    pub(super) fn low(&self) -> &[u8] {
        let first = self.smallest.0.as_slice();
        self.ranges.as_ref().map_or(first, |ranges| first.min(&ranges.begin))
    }

    /// Returns where what it has entries of, or range tombstones over, ends.
    pub(super) fn high(&self) -> Edge<'_> {
        let last = Edge::Through(&self.largest.0);
        match self.ranges.as_ref().map(|ranges| Edge::of_end(&ranges.end)) {
            Some(edge) if edge.compare(last).is_gt() => edge,
            _ => last,
        }
    }

    /// Returns true if `key` lies before its end.
    #[inline]
    pub(super) fn reaches(&self, key: &[u8]) -> bool {
        key <= self.largest.0.as_slice() || self.ranges.as_ref().is_some_and(|ranges| ends_behind(&ranges.end, key))
    }

    /// Returns true if it may have an entry of `key`, or a range tombstone over it.
    #[inline]
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.low() <= key && self.reaches(key)
    }
}

impl TableInfo {
    /// Says that every entry has the sequence number `seq`.
    fn give(&mut self, seq: SeqNum) {
        (self.seq_min, self.seq_max) = (seq, seq);
        for (_, tag) in [&mut self.smallest, &mut self.largest] {
            *tag = Tag::new(seq, tag.kind());
        }
    }
}

#[cfg(test)]
mod tests;
