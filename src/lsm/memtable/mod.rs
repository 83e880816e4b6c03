//! The memtable: what was written and not flushed yet, in internal key order.
//!
//! The commit leader inserts, one at a time; any number of readers look up and iterate meanwhile without waiting; the
//! flush iterates once nothing is inserted any more.
//!
//! - A reader sees an entry wholly or not at all, and an entry whose `insert` returned before the read began is seen.
//! - Entries are never moved, changed or removed before the whole memtable is dropped.
//! - An internal key is inserted once.
//!
//! Two structures do that: [`WideTable`], which the engine takes by default, and [`SkipList`], the simple one that it is
//! compared with. [`AnyMemtable`] is whichever [`Options::memtable`](crate::Options::memtable) names.

mod any;
mod arena;
mod filter;
mod skiplist;
mod sync;
mod wide;

pub use any::{AnyMemtable, MemtableKind};
pub use skiplist::{SkipList, SkipListIterator};
pub use wide::{WideIterator, WideTable};

use super::iter::InternalIterator;
use crate::base::key::{SeqNum, Tag};
use std::sync::Arc;

/// An ordered map of internal keys with one writer and any number of readers.
pub trait Memtable: Send + Sync + 'static {
    /// The cursor over it, which keeps it alive.
    type Iter: InternalIterator + 'static;

    /// Adds an entry.
    ///
    /// # Panics
    /// If another thread is inserting, if the internal key is present, or if key or value exceed
    /// [`limits`](crate::base::limits).
    fn insert(&self, key: &[u8], tag: Tag, value: &[u8]);

    /// Returns the newest entry of `key` with a sequence number of at most `seq`, tombstones included.
    fn get(&self, key: &[u8], seq: SeqNum) -> Option<(Tag, &[u8])>;

    /// Returns a cursor. It sees entries inserted after it was made.
    fn iter(self: &Arc<Self>) -> Self::Iter;

    /// Returns how many bytes the entries and their links take.
    fn bytes(&self) -> usize;

    /// Returns the number of entries.
    fn len(&self) -> usize;

    /// Returns true if there are no entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
