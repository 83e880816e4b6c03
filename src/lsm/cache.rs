//! [`BlockCache`]: decompressed table blocks, shared by every table of a database, bounded in bytes.
//!
//! Readers of any thread ask for a block before they read it and offer it afterwards. The key is (file number, offset):
//! file numbers are never used twice, so an entry never goes stale; those of a deleted file age out.
//!
//! - Its locks are internal and never held across an `Env` operation: `get`, then read, then `insert`, never one call that
//!   loads. Two readers may read the same block at once; both get the same bytes.
//! - Shards and hash are fixed, so what is evicted depends on the sequence of calls alone and a simulated run replays.
//! - Scan resistant (CLOCK-Pro, by `quick_cache`): a block read once does not displace one read often.

use crate::base::hash::FixedHasher;
use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Independent parts of the cache. A block larger than a part is not kept.
const SHARDS_MAX: usize = 16;
/// What an entry costs beside its bytes: key, handle, links.
const ENTRY_OVERHEAD_BYTES: u64 = 96;
/// A typical block, to estimate how many there will be.
const BLOCK_BYTES_TYPICAL: u64 = 4096;

type Key = (u64, u64);

/// Keeps decompressed blocks in memory up to a number of bytes. Clones are the same cache.
#[derive(Clone)]
pub struct BlockCache(Arc<Inner>);

struct Inner {
    /// None if the capacity is zero.
    cache: Option<Cache<Key, Bytes, Weigh, BuildHasherDefault<FixedHasher>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Bytes> for Weigh {
    fn weight(&self, _: &Key, block: &Bytes) -> u64 {
        block.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

impl BlockCache {
    /// Makes a cache of at most `capacity_bytes`; 0 keeps nothing.
    pub fn new(capacity_bytes: u64) -> BlockCache {
        let items = usize::try_from(capacity_bytes / BLOCK_BYTES_TYPICAL).unwrap_or(usize::MAX).max(1);
        let options = OptionsBuilder::new()
            .shards(SHARDS_MAX)
            .estimated_items_capacity(items)
            .weight_capacity(capacity_bytes)
            .build()
            .expect("both capacities are set");
        let cache = (capacity_bytes > 0)
            .then(|| Cache::with_options(options, Weigh, Default::default(), DefaultLifecycle::default()));
        BlockCache(Arc::new(Inner { cache, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }))
    }

    /// Returns the block at `offset` of file `file_no` if it is here, and counts the attempt.
    pub fn get(&self, file_no: u64, offset: u64) -> Option<Bytes> {
        let found = self.0.cache.as_ref()?.get(&(file_no, offset));
        let counter = if found.is_some() { &self.0.hits } else { &self.0.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Returns the block if it is here, without a trace: neither counted nor thought more useful.
    pub fn peek(&self, file_no: u64, offset: u64) -> Option<Bytes> {
        self.0.cache.as_ref()?.peek(&(file_no, offset))
    }

    /// Offers a block, which must own just its own memory.
    pub fn insert(&self, file_no: u64, offset: u64, block: Bytes) {
        if let Some(cache) = &self.0.cache {
            cache.insert((file_no, offset), block);
        }
    }

    /// Drops the blocks of `file_no`, which was deleted. Walks the whole cache.
    pub fn forget_file(&self, file_no: u64) {
        if let Some(cache) = &self.0.cache {
            cache.retain(|key, _| key.0 != file_no);
        }
    }

    /// Returns how many lookups found their block.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Relaxed)
    }

    /// Returns how many lookups did not find their block.
    pub fn misses(&self) -> u64 {
        self.0.misses.load(Ordering::Relaxed)
    }

    /// Returns how many bytes the blocks take.
    pub fn bytes(&self) -> u64 {
        self.0.cache.as_ref().map_or(0, Cache::weight)
    }

    /// Returns the most bytes it keeps.
    pub fn capacity_bytes(&self) -> u64 {
        self.0.cache.as_ref().map_or(0, Cache::capacity)
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("capacity_bytes", &self.capacity_bytes())
            .field("bytes", &self.bytes())
            .field("hits", &self.hits())
            .field("misses", &self.misses())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_counts() {
        let cache = BlockCache::new(1 << 20);
        assert!(cache.get(1, 0).is_none());
        cache.insert(1, 0, Bytes::from_static(b"block"));
        assert_eq!(cache.get(1, 0).as_deref(), Some(&b"block"[..]));
        assert!(cache.get(2, 0).is_none() && cache.get(1, 4096).is_none());
        assert_eq!((cache.hits(), cache.misses()), (1, 3));
        for at in 0..4096u64 {
            cache.insert(2, at * 4096, vec![0; 4096].into());
        }
        assert!(cache.bytes() <= cache.capacity_bytes());
        cache.forget_file(2);
        assert!((0..4096u64).all(|at| cache.peek(2, at * 4096).is_none()));
    }

    #[test]
    fn what_is_evicted_depends_on_the_calls_alone() {
        let run = || {
            let cache = BlockCache::new(100_000);
            for at in 0..500u64 {
                cache.insert(at % 7, at * 64, vec![0; (at * 37 % 4096) as usize].into());
                cache.get(at % 5, at * 11 % 500 * 64);
            }
            (0..500u64).filter(|at| cache.peek(at % 7, at * 64).is_some()).collect::<Vec<_>>()
        };
        let kept = run();
        assert!(!kept.is_empty() && kept.len() < 500);
        assert_eq!(kept, run());
    }

    #[test]
    fn a_cache_of_nothing_works() {
        let cache = BlockCache::new(0);
        cache.insert(1, 0, Bytes::from_static(b"block"));
        assert!(cache.get(1, 0).is_none());
        assert_eq!(cache.bytes(), 0);
    }
}
