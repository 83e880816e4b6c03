//! [`AnyMemtable`]: the memtable that an engine's options name, chosen once and called without a virtual table.
//!
//! Range tombstones lie beside the entries ([`MemoryRanges`]); who reads a key asks for both.
//!
//! Held by the commit leader, the state and the super-versions; a clone is another handle of the same memtable.

use super::filter::MemtableFilter;
use super::{Memtable, SkipList, WideTable};
use crate::base::key::{SeqNum, Tag, ValueKind};
use crate::env::Env;
use crate::lsm::iter::InternalIterator;
use crate::lsm::ranges::{MemoryRanges, RangeTombstones};
use std::sync::Arc;

/// How a memtable is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemtableKind {
    /// A B+tree of wide nodes that hold the beginnings of their keys: few cache misses a lookup.
    Wide,
    /// A skip list: simpler, and about an eighth smaller with values of 100 bytes. The reference.
    #[default]
    SkipList,
}

/// Bugs that the simulator can switch on in a memtable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planted {
    /// A lookup that finds nothing in its leaf does not look into the next one.
    pub(super) stops_at_leaf_end: bool,
    /// A node skips one byte more than its keys share.
    pub(super) prefix_too_long: bool,
    /// Who walks backward is shown what range tombstones cover.
    pub(super) covered_shown_backward: bool,
}

/// A memtable of either kind, with its range tombstones.
#[derive(Clone)]
pub struct AnyMemtable {
    entries: Entries,
    ranges: Arc<MemoryRanges>,
    planted: Planted,
}

#[derive(Clone)]
enum Entries {
    Wide(Arc<WideTable>),
    SkipList(Arc<SkipList>),
}

impl AnyMemtable {
    /// Makes an empty memtable with a filter for `bytes` of entries.
    pub fn new<E: Env>(env: &E, kind: MemtableKind, bytes: usize) -> AnyMemtable {
        let planted = Planted {
            stops_at_leaf_end: env.planted("memtable_lookup_stops_at_leaf_end"),
            prefix_too_long: env.planted("memtable_prefix_too_long"),
            covered_shown_backward: env.planted("range_covered_shown_backward"),
        };
        let entries = match kind {
            MemtableKind::Wide => Entries::Wide(Arc::new(WideTable::build(Some(MemtableFilter::new(bytes)), planted))),
            MemtableKind::SkipList => Entries::SkipList(Arc::new(SkipList::with_filter(bytes))),
        };
        AnyMemtable { entries, ranges: Arc::new(MemoryRanges::new::<E>()), planted }
    }

    /// Adds an entry, or a range tombstone from `key` to the key in `value`.
    ///
    /// # Panics
    /// As [`Memtable::insert`].
    #[inline]
    pub fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) {
        if tag.kind() == ValueKind::RangeDelete {
            return self.ranges.add(key, value, tag.seq());
        }
        match &self.entries {
            Entries::Wide(table) => table.insert(key, tag, value),
            Entries::SkipList(list) => list.insert(key, tag, value),
        }
    }

    /// Returns the newest entry of `key` with a sequence number of at most `seq`, tombstones included.
    #[inline]
    pub fn get(&self, key: &[u8], seq: SeqNum) -> Option<(Tag, &[u8])> {
        match &self.entries {
            Entries::Wide(table) => table.get(key, seq),
            Entries::SkipList(list) => list.get(key, seq),
        }
    }

    /// Returns the newest range tombstone over `key` that a reader at `seq` sees; 0 if there is none.
    #[inline]
    pub(in crate::lsm) fn cover(&self, key: &[u8], seq: SeqNum) -> SeqNum {
        self.ranges.newest(key, seq)
    }

    /// Returns sets that hold all range tombstones together.
    pub(in crate::lsm) fn ranges(&self) -> Vec<Arc<RangeTombstones>> {
        self.ranges.sets()
    }

    /// Returns true if a planted bug shows covered keys to who walks backward.
    pub(in crate::lsm) fn shows_covered_backward(&self) -> bool {
        self.planted.covered_shown_backward
    }

    /// Returns a cursor. It sees entries inserted after it was made.
    pub fn iter(&self) -> Box<dyn InternalIterator> {
        match &self.entries {
            Entries::Wide(table) => Box::new(table.iter()),
            Entries::SkipList(list) => Box::new(list.iter()),
        }
    }

    /// Returns how many bytes entries and range tombstones and what leads to them take.
    #[inline]
    pub fn bytes(&self) -> usize {
        let bytes = match &self.entries {
            Entries::Wide(table) => table.bytes(),
            Entries::SkipList(list) => list.bytes(),
        };
        bytes + self.ranges.bytes()
    }

    /// Returns the number of entries, range tombstones left out.
    pub fn len(&self) -> usize {
        match &self.entries {
            Entries::Wide(table) => table.len(),
            Entries::SkipList(list) => list.len(),
        }
    }

    /// Returns true if there are no entries and no range tombstones.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.ranges.len() == 0
    }

    /// Returns true if both are handles of one memtable.
    pub fn is(&self, other: &AnyMemtable) -> bool {
        Arc::ptr_eq(&self.ranges, &other.ranges)
    }
}
