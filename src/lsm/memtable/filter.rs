//! [`MemtableFilter`]: tells cheaply that a key is not in a memtable, which is what most lookups of a full engine learn from it.
//!
//! A Bloom filter in cache-line blocks: one hash picks a block of 512 bits and six bits within. The writer sets bits before
//! the entry's sequence number is published, readers look after they read that number, so relaxed accesses suffice: a
//! reader misses no entry it may see.

use crate::base::hash::hash64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits set for a key.
const PROBES: u32 = 6;
const WORDS_PER_BLOCK: usize = 8;
/// Memtable bytes for each byte of filter: 8 bits for each 64 bytes of entries and their links.
const BYTES_PER_FILTER_BYTE: usize = 64;
const SEED: u64 = 0x6d65_6d74_6162_6c65;

type Block = [AtomicU64; WORDS_PER_BLOCK];

/// One writer, any number of readers.
pub(super) struct MemtableFilter {
    blocks: Vec<Block>,
}

impl MemtableFilter {
    /// Makes an empty filter for a memtable of `memtable_bytes`.
    pub(super) fn new(memtable_bytes: usize) -> MemtableFilter {
        let blocks = memtable_bytes / BYTES_PER_FILTER_BYTE / size_of::<Block>();
        MemtableFilter { blocks: (0..blocks.max(1)).map(|_| Block::default()).collect() }
    }

    #[inline]
    fn block(&self, hash: u64) -> &Block {
        // The high half scaled to the number of blocks; the low half chooses bits.
        &self.blocks[(((hash >> 32) * self.blocks.len() as u64) >> 32) as usize]
    }

    /// Adds `key`; one writer at a time.
    #[inline]
    pub(super) fn insert(&self, key: &[u8]) {
        let hash = hash64(key, SEED);
        let block = self.block(hash);
        for (word, bit) in probes(hash) {
            let word = &block[word];
            word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
    }

    /// Returns false only if `key` was never added.
    #[inline]
    pub(super) fn may_contain(&self, key: &[u8]) -> bool {
        let hash = hash64(key, SEED);
        let block = self.block(hash);
        probes(hash).all(|(word, bit)| block[word].load(Ordering::Relaxed) & bit != 0)
    }
}

/// Word and bit of each probe: nine bits of the low half of the hash each time, stirred by a multiplication in between.
#[inline]
fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let mut state = hash as u32;
    (0..PROBES).map(move |_| {
        state = state.wrapping_mul(0x9e37_79b9);
        let at = state >> 23;
        ((at >> 6) as usize, 1 << (at & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_missed_and_few_others_pass() {
        let filter = MemtableFilter::new(1 << 20);
        let entries = (1 << 20) / 130u64;
        (0..entries).for_each(|number| filter.insert(&number.to_be_bytes()));
        assert!((0..entries).all(|number| filter.may_contain(&number.to_be_bytes())));
        let passed = (entries..11 * entries).filter(|number| filter.may_contain(&number.to_be_bytes())).count() as u64;
        assert!(passed * 100 < 3 * 10 * entries, "{passed} of {} strangers pass", 10 * entries);
    }
}
