//! [`AnyMemtable`]: the memtable that an engine's options name, chosen once and called without a virtual table.
//!
//! Held by the commit leader, the state and the super-versions; a clone is another handle of the same memtable.

use super::filter::MemtableFilter;
use super::{Memtable, SkipList, WideTable};
use crate::base::key::{SeqNum, Tag};
use crate::env::Env;
use crate::lsm::iter::InternalIterator;
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
}

/// A memtable of either kind.
#[derive(Clone)]
pub enum AnyMemtable {
    /// [`MemtableKind::Wide`].
    Wide(Arc<WideTable>),
    /// [`MemtableKind::SkipList`].
    SkipList(Arc<SkipList>),
}

impl AnyMemtable {
    /// Makes an empty memtable with a filter for `bytes` of entries.
    pub fn new<E: Env>(env: &E, kind: MemtableKind, bytes: usize) -> AnyMemtable {
        let planted = Planted {
            stops_at_leaf_end: env.planted("memtable_lookup_stops_at_leaf_end"),
            prefix_too_long: env.planted("memtable_prefix_too_long"),
        };
        match kind {
            MemtableKind::Wide => {
                AnyMemtable::Wide(Arc::new(WideTable::build(Some(MemtableFilter::new(bytes)), planted)))
            }
            MemtableKind::SkipList => AnyMemtable::SkipList(Arc::new(SkipList::with_filter(bytes))),
        }
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// As [`Memtable::insert`].
    #[inline]
    pub fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) {
        match self {
            AnyMemtable::Wide(table) => table.insert(key, tag, value),
            AnyMemtable::SkipList(list) => list.insert(key, tag, value),
        }
    }

    /// Returns the newest entry of `key` with a sequence number of at most `seq`, tombstones included.
    #[inline]
    pub fn get(&self, key: &[u8], seq: SeqNum) -> Option<(Tag, &[u8])> {
        match self {
            AnyMemtable::Wide(table) => table.get(key, seq),
            AnyMemtable::SkipList(list) => list.get(key, seq),
        }
    }

    /// Returns a cursor. It sees entries inserted after it was made.
    pub fn iter(&self) -> Box<dyn InternalIterator> {
        match self {
            AnyMemtable::Wide(table) => Box::new(table.iter()),
            AnyMemtable::SkipList(list) => Box::new(list.iter()),
        }
    }

    /// Returns how many bytes the entries and what leads to them take.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            AnyMemtable::Wide(table) => table.bytes(),
            AnyMemtable::SkipList(list) => list.bytes(),
        }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        match self {
            AnyMemtable::Wide(table) => table.len(),
            AnyMemtable::SkipList(list) => list.len(),
        }
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if both are handles of one memtable.
    pub fn is(&self, other: &AnyMemtable) -> bool {
        match (self, other) {
            (AnyMemtable::Wide(table), AnyMemtable::Wide(other)) => Arc::ptr_eq(table, other),
            (AnyMemtable::SkipList(list), AnyMemtable::SkipList(other)) => Arc::ptr_eq(list, other),
            _ => false,
        }
    }
}
