//! [`InternalIterator`]: one cursor over entries in internal key order, whatever holds them.
//!
//! Memtables, tables, levels and the merge of all of them are cursors of this shape; the user's iterator stands on top and
//! resolves versions. A cursor belongs to one thread at a time.
//!
//! - Order is [`compare`](crate::base::key::compare): user keys ascending, tags descending.
//! - A new cursor is not valid until a seek.
//! - Moving past either end makes it invalid; `next` and `prev` on an invalid cursor leave it so.
//! - After an error it is invalid and every later call, seeks included, returns the same error: a scan never goes on
//!   behind damage.

mod merge;

pub use merge::MergingIterator;

use super::value::Value;
use crate::base::Result;
use crate::base::key::Tag;

/// A cursor over entries ordered by internal key.
pub trait InternalIterator: Send {
    /// Returns true if the cursor stands on an entry.
    fn valid(&self) -> bool;

    /// Moves to the first entry.
    fn seek_to_first(&mut self) -> Result<()>;

    /// Moves to the last entry.
    fn seek_to_last(&mut self) -> Result<()>;

    /// Moves to the first entry at or after `(key, tag)`.
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()>;

    /// Moves to the last entry at or before `(key, tag)`.
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()>;

    /// Moves to the entry after this one.
    fn next(&mut self) -> Result<()>;

    /// Moves to the entry before this one.
    fn prev(&mut self) -> Result<()>;

    /// Returns the user key. Panics if the cursor is not valid.
    fn key(&self) -> &[u8];

    /// Returns the tag. Panics if the cursor is not valid.
    fn tag(&self) -> Tag;

    /// Returns the value, empty for a tombstone. Panics if the cursor is not valid.
    fn value(&self) -> &[u8];

    /// Returns the value so that it outlives the cursor, sharing the block's memory where that pays.
    fn value_owned(&self) -> Value {
        Value::copy_from_slice(self.value())
    }
}

impl InternalIterator for Box<dyn InternalIterator> {
    fn valid(&self) -> bool {
        (**self).valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        (**self).seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        (**self).seek_to_last()
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        (**self).seek(key, tag)
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        (**self).seek_for_prev(key, tag)
    }

    fn next(&mut self) -> Result<()> {
        (**self).next()
    }

    fn prev(&mut self) -> Result<()> {
        (**self).prev()
    }

    fn key(&self) -> &[u8] {
        (**self).key()
    }

    fn tag(&self) -> Tag {
        (**self).tag()
    }

    fn value(&self) -> &[u8] {
        (**self).value()
    }

    fn value_owned(&self) -> Value {
        (**self).value_owned()
    }
}
