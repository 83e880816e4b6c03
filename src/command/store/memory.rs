//! [`MemoryStore`]: a [`Store`] in memory, gone with the process.
//!
//! Records are found through their slot: an array of small ordered maps for each epoch, so that a lookup costs an index and
//! a descent through a map of one slot's keys, and a scan in store order walks the array. Slots lie in 64 shards, each
//! behind a lock of its own. Everything else (counters, the expiry index) lies in one ordered map.
//!
//! **Atomicity:** a batch takes its shards' locks one after the other. Readers of one key hold its key lock in `db`, so they
//! never see half a batch; a scan over other sessions' keys may see some writes of a batch that is being applied.

use super::{Position, Store, Visit, Writes};
use crate::base::Result;
use crate::command::format::Zone;
use crate::command::slot::SLOTS;
use crate::env::{Env, RwLock, StdEnv};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

const SHARDS: usize = 64;
const SLOTS_PER_SHARD: usize = SLOTS as usize / SHARDS;
/// Zone, epoch, slot; what follows is the key within its slot.
const BUCKET_PREFIX_BYTES: usize = 7;

type Bucket = BTreeMap<Box<[u8]>, Arc<[u8]>>;

/// Keeps databases in memory.
pub struct MemoryStore<E: Env = StdEnv> {
    shards: Vec<RwLock<E, Shard>>,
    rest: RwLock<E, Bucket>,
}

#[derive(Default)]
struct Shard {
    /// By epoch; few.
    epochs: Vec<(u32, Vec<Bucket>)>,
}

impl Shard {
    fn buckets(&self, epoch: u32) -> Option<&[Bucket]> {
        self.epochs.iter().find(|(other, _)| *other == epoch).map(|(_, buckets)| &buckets[..])
    }

    fn bucket_mut(&mut self, at: Place) -> &mut Bucket {
        let index = match self.epochs.iter().position(|(other, _)| *other == at.epoch) {
            Some(index) => index,
            None => {
                self.epochs.push((at.epoch, vec![Bucket::new(); SLOTS_PER_SHARD]));
                self.epochs.len() - 1
            }
        };
        &mut self.epochs[index].1[at.bucket]
    }
}

/// Where the record of a store key lies.
#[derive(Clone, Copy)]
struct Place {
    epoch: u32,
    shard: usize,
    bucket: usize,
}

#[inline]
fn place(key: &[u8]) -> Option<(Place, &[u8])> {
    let (prefix, rest) = key.split_first_chunk::<BUCKET_PREFIX_BYTES>()?;
    let [zone, e0, e1, e2, e3, s0, s1] = *prefix;
    let slot = usize::from(s0) << 8 | usize::from(s1);
    if zone != Zone::Record as u8 || slot >= usize::from(SLOTS) {
        return None;
    }
    let epoch = u32::from(e0) << 24 | u32::from(e1) << 16 | u32::from(e2) << 8 | u32::from(e3);
    Some((Place { epoch, shard: slot / SLOTS_PER_SHARD, bucket: slot % SLOTS_PER_SHARD }, rest))
}

fn apply(bucket: &mut Bucket, key: &[u8], value: NewValue) {
    match (value, bucket.get_mut(key)) {
        (Some(value), Some(held)) => *held = value,
        (Some(value), None) => {
            bucket.insert(key.into(), value);
        }
        (None, Some(_)) => {
            bucket.remove(key);
        }
        (None, None) => {}
    }
}

impl<E: Env> MemoryStore<E> {
    /// Makes an empty store.
    pub fn new() -> MemoryStore<E> {
        let shards = (0..SHARDS).map(|_| RwLock::<E, _>::new(Shard::default())).collect();
        MemoryStore { shards, rest: RwLock::<E, _>::new(Bucket::new()) }
    }

    /// Visits records of one epoch, from slot `from` on, below `to`.
    fn scan_records(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) {
        let mut first = from.to_vec();
        first.resize(first.len().max(BUCKET_PREFIX_BYTES), 0);
        let Some((start, rest)) = place(&first) else { return };
        let mut raw = Vec::new();
        for slot in start.shard * SLOTS_PER_SHARD + start.bucket..usize::from(SLOTS) {
            raw.clear();
            raw.extend_from_slice(&first[..BUCKET_PREFIX_BYTES - 2]);
            raw.extend_from_slice(&[(slot >> 8) as u8, slot as u8]);
            if raw[..] >= *to {
                return;
            }
            let shard = self.shards[slot / SLOTS_PER_SHARD].read();
            let Some(buckets) = shard.buckets(start.epoch) else { continue };
            let begin = if slot == start.shard * SLOTS_PER_SHARD + start.bucket { rest } else { &[] };
            let range = (Bound::Included(begin), Bound::Unbounded);
            for (key, value) in buckets[slot % SLOTS_PER_SHARD].range::<[u8], _>(range) {
                raw.truncate(BUCKET_PREFIX_BYTES);
                raw.extend_from_slice(key);
                if raw[..] >= *to || visit(&raw, value).is_break() {
                    return;
                }
            }
        }
    }
}

impl<E: Env> Default for MemoryStore<E> {
    fn default() -> Self {
        MemoryStore::new()
    }
}

/// What a key is set to; None removes it.
type NewValue = Option<Arc<[u8]>>;

/// The batch of a [`MemoryStore`].
#[derive(Default)]
pub struct MemoryWrites {
    keys: Vec<u8>,
    operations: Vec<(Range<usize>, NewValue)>,
}

impl MemoryWrites {
    fn push(&mut self, key: &[u8], value: NewValue) {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.operations.push((start..self.keys.len(), value));
    }
}

impl Writes for MemoryWrites {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.push(key, Some(Arc::from(value)));
    }

    fn delete(&mut self, key: &[u8]) {
        self.push(key, None);
    }

    fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl<E: Env> Store for MemoryStore<E> {
    type Env = E;
    type Value = Arc<[u8]>;
    type Writes = MemoryWrites;
    const PERSISTENT: bool = false;

    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        Ok(match place(key) {
            Some((at, rest)) => {
                let shard = self.shards[at.shard].read();
                shard.buckets(at.epoch).and_then(|buckets| buckets[at.bucket].get(rest).cloned())
            }
            None => self.rest.read().get(key).cloned(),
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if from.first() == Some(&(Zone::Record as u8)) {
            assert!(from.len() >= BUCKET_PREFIX_BYTES - 2, "a scan of records stays within an epoch");
            self.scan_records(from, to, visit);
            return Ok(());
        }
        if from < to {
            for (key, value) in self.rest.read().range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
                if visit(key, value) == ControlFlow::Break(()) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn write(&self, writes: &mut MemoryWrites) -> Result<Position> {
        for (range, value) in writes.operations.drain(..) {
            let key = &writes.keys[range];
            match place(key) {
                Some((at, rest)) => apply(self.shards[at.shard].write().bucket_mut(at), rest, value),
                None => apply(&mut self.rest.write(), key, value),
            }
        }
        writes.keys.clear();
        Ok(Position::default())
    }

    fn sync_to(&self, _position: Position) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
