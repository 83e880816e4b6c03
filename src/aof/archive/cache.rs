//! Decoded blocks of archived segments in memory: [`BlockCache`], bounded in bytes.
//!
//! Called by readers on any thread; the lock is held for a map operation, never across a read of the archive.
//!
//! **Which block goes:** the one that was used longest ago, of the oldest `SEARCH` that belong to a segment nobody reads; if
//! all of them are being read, the oldest. What a reader is handed stays with it whatever goes.
//!
//! **Invariants:** the bytes kept are the sum of the blocks', and at most the bound; a block is of one object for ever.

use crate::env::{Env, Mutex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many of the oldest are looked at for one that nobody reads.
const SEARCH: usize = 32;

/// Segment and block.
type Id = (u64, u64);

#[derive(Default)]
struct Table {
    blocks: BTreeMap<Id, (Bytes, u64)>,
    /// By when it was used last.
    order: BTreeMap<u64, Id>,
    clock: u64,
    bytes: usize,
}

/// How the cache fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks that were there.
    pub hits: u64,
    /// Blocks that were not.
    pub misses: u64,
    /// Bytes kept at the moment.
    pub bytes: u64,
}

/// Blocks by segment and number.
pub struct BlockCache<E: Env> {
    table: Mutex<E, Table>,
    bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<E: Env> BlockCache<E> {
    /// Makes a cache of up to `bytes_max` bytes of blocks; 0 keeps none.
    pub fn new(bytes_max: usize) -> BlockCache<E> {
        let table = Mutex::<E, _>::new(Table::default());
        BlockCache { table, bytes_max, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// Returns how many bytes it may keep.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns block `number` of `segment`.
    pub fn get(&self, segment: u64, number: u64) -> Option<Bytes> {
        let found = self.table.lock().touch((segment, number));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Returns true if block `number` of `segment` is there, without counting or touching it.
    pub fn contains(&self, segment: u64, number: u64) -> bool {
        self.table.lock().blocks.contains_key(&(segment, number))
    }

    /// Keeps a block; `is_read` says whether somebody reads a segment.
    pub fn put(&self, segment: u64, number: u64, block: Bytes, is_read: &dyn Fn(u64) -> bool) {
        if block.len() > self.bytes_max {
            return;
        }
        let mut table = self.table.lock();
        if table.touch((segment, number)).is_some() {
            return;
        }
        while table.bytes + block.len() > self.bytes_max {
            let oldest = table.order.values().take(SEARCH);
            let victim = oldest.clone().find(|id| !is_read(id.0)).or(oldest.clone().next()).copied();
            let Some(victim) = victim else { break };
            table.remove(victim);
        }
        table.clock += 1;
        let clock = table.clock;
        table.bytes += block.len();
        table.order.insert(clock, (segment, number));
        table.blocks.insert((segment, number), (block, clock));
        assert!(table.bytes <= self.bytes_max && table.order.len() == table.blocks.len(), "the cache is bounded");
    }

    /// Forgets all blocks of `segment`.
    pub fn forget(&self, segment: u64) {
        let mut table = self.table.lock();
        let ids: Vec<Id> = table.blocks.range((segment, 0)..=(segment, u64::MAX)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| table.remove(id));
    }

    /// Returns the counters.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.table.lock().bytes as u64,
        }
    }
}

impl Table {
    fn touch(&mut self, id: Id) -> Option<Bytes> {
        let (block, used) = self.blocks.get_mut(&id)?;
        self.clock += 1;
        self.order.remove(used);
        self.order.insert(self.clock, id);
        *used = self.clock;
        Some(block.clone())
    }

    fn remove(&mut self, id: Id) {
        if let Some((block, used)) = self.blocks.remove(&id) {
            self.order.remove(&used);
            self.bytes -= block.len();
        }
    }
}

impl<E: Env> std::fmt::Debug for BlockCache<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({:?})", self.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::StdEnv;

    fn block(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 100])
    }

    #[test]
    fn the_longest_unused_goes_and_those_of_readers_last() {
        let cache = BlockCache::<StdEnv>::new(399);
        for number in 0..3 {
            cache.put(1, number, block(number as u8), &|_| false);
        }
        assert_eq!(cache.get(1, 0), Some(block(0)));
        cache.put(2, 0, block(9), &|_| false);
        assert_eq!((cache.get(1, 1), cache.get(1, 2)), (None, Some(block(2))));
        // Oldest are now 1/0, 2/0, 1/2; segment 1 is being read.
        cache.put(3, 0, block(8), &|segment| segment == 1);
        assert_eq!((cache.contains(1, 0), cache.contains(2, 0)), (true, false));
        cache.put(3, 1, block(7), &|_| true);
        assert_eq!((cache.contains(1, 0), cache.contains(1, 2)), (false, true));
        cache.forget(3);
        assert_eq!(cache.stats(), CacheStats { hits: 2, misses: 1, bytes: 100 });
        cache.put(4, 0, Bytes::from(vec![0; 400]), &|_| false);
        assert_eq!(cache.stats().bytes, 100);
        let none = BlockCache::<StdEnv>::new(0);
        none.put(1, 0, block(1), &|_| false);
        assert_eq!(none.get(1, 0), None);
    }
}
