//! [`MemoryRanges`]: the range tombstones of a memtable, beside its entries.
//!
//! The commit leader adds, one at a time; readers ask meanwhile. A memtable without any costs a reader one load.
//!
//! - What was added before a read began is seen by it.
//! - They lie in pieces, each twice as large as the next at least: adding one makes pieces of equal size into one, as counting
//!   carries. A piece is made fit for questions by the first reader that asks. So however adding and asking alternate, a
//!   tombstone is handled a logarithm of times.

use super::tombstones::{RangeTombstones, Tombstone};
use crate::base::key::SeqNum;
use crate::env::{Env, RwLock};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes that a tombstone takes beside its keys, roughly: its notes, in every piece it was in.
const TOMBSTONE_BYTES: usize = 512;

/// The range tombstones of a memtable.
pub(in crate::lsm) struct MemoryRanges {
    count: AtomicUsize,
    bytes: AtomicUsize,
    pieces: Box<dyn Shared>,
}

/// Largest first.
type Pieces = Arc<Vec<Arc<Piece>>>;

/// A place for [`Pieces`] that one thread sets and others read.
trait Shared: Send + Sync {
    fn read(&self) -> Pieces;
    fn set(&self, pieces: Pieces);
}

/// The lock of an environment that the memtable does not name.
struct Locked<E: Env>(RwLock<E, Pieces>);

impl<E: Env> Shared for Locked<E> {
    fn read(&self) -> Pieces {
        Arc::clone(&self.0.read())
    }

    fn set(&self, pieces: Pieces) {
        *self.0.write() = pieces;
    }
}

struct Piece {
    all: Vec<Tombstone>,
    set: OnceLock<Arc<RangeTombstones>>,
}

impl Piece {
    fn set(&self) -> &Arc<RangeTombstones> {
        self.set.get_or_init(|| Arc::new(RangeTombstones::new(self.all.clone())))
    }
}

impl MemoryRanges {
    pub(in crate::lsm) fn new<E: Env>() -> MemoryRanges {
        let pieces = Box::new(Locked::<E>(RwLock::<E, _>::new(Pieces::default())));
        MemoryRanges { count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), pieces }
    }

    /// Adds a tombstone. Only one thread does at a time.
    pub(in crate::lsm) fn add(&self, begin: &[u8], end: &[u8], seq: SeqNum) {
        let mut pieces = (*self.pieces.read()).clone();
        let mut all = vec![Tombstone { begin: begin.into(), end: end.into(), seq }];
        while let Some(last) = pieces.pop_if(|last| last.all.len() <= all.len()) {
            all.extend_from_slice(&last.all);
        }
        pieces.push(Arc::new(Piece { all, set: OnceLock::new() }));
        self.pieces.set(Arc::new(pieces));
        self.bytes.fetch_add(begin.len() + end.len() + TOMBSTONE_BYTES, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Returns how many there are.
    #[inline]
    pub(in crate::lsm) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns how many bytes they take, roughly.
    #[inline]
    pub(in crate::lsm) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the newest one over `key` that a reader at `seq` sees; 0 if there is none.
    #[inline]
    pub(in crate::lsm) fn newest(&self, key: &[u8], seq: SeqNum) -> SeqNum {
        if self.len() == 0 { SeqNum(0) } else { self.newest_of(key, seq) }
    }

    #[cold]
    fn newest_of(&self, key: &[u8], seq: SeqNum) -> SeqNum {
        self.pieces.read().iter().map(|piece| piece.set().newest(key, seq)).max().unwrap_or_default()
    }

    /// Returns sets that hold all of them together.
    pub(in crate::lsm) fn sets(&self) -> Vec<Arc<RangeTombstones>> {
        if self.len() == 0 {
            return Vec::new();
        }
        self.pieces.read().iter().map(|piece| Arc::clone(piece.set())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tombstones::testing::{newest, tombstones, universe};
    use super::*;
    use crate::env::StdEnv;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn readers_see_what_was_added(all in tombstones(), look_at in 0usize..12) {
            let ranges = MemoryRanges::new::<StdEnv>();
            for (at, one) in all.iter().enumerate() {
                ranges.add(&one.begin, &one.end, one.seq);
                if at % 3 == look_at % 3 {
                    for key in universe() {
                        prop_assert_eq!(ranges.newest(&key, SeqNum::MAX), newest(&all[..=at], &key, u64::MAX));
                    }
                }
            }
            prop_assert_eq!(ranges.len(), all.len());
            let sets = ranges.sets();
            prop_assert_eq!(sets.iter().map(|set| set.all().len()).sum::<usize>(), all.len());
            prop_assert!(sets.windows(2).all(|pair| pair[0].all().len() > pair[1].all().len()));
        }
    }
}
