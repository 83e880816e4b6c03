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

/// A cursor over a vector, and a walk that compares two cursors step by step.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::base::Error;
    use crate::base::key::{SeqNum, ValueKind, compare};
    use proptest::prelude::*;
    use std::path::Path;

    /// The model: entries in a sorted vector.
    pub(crate) struct VecIterator {
        entries: Vec<(Vec<u8>, Tag, Vec<u8>)>,
        at: Option<usize>,
        /// Moves until it fails.
        pub(crate) fail_after: Option<usize>,
    }

    impl VecIterator {
        pub(crate) fn new(entries: Vec<(Vec<u8>, Tag, Vec<u8>)>) -> VecIterator {
            VecIterator { entries, at: None, fail_after: None }
        }

        /// Makes entries from (key, sequence number, is a put), sorted and without doubles; values name their source.
        pub(crate) fn sorted(raw: Vec<(Vec<u8>, u64, bool)>, source: u8) -> Vec<(Vec<u8>, Tag, Vec<u8>)> {
            let entry = |(key, seq, put): (Vec<u8>, u64, bool)| {
                let kind = if put { ValueKind::Put } else { ValueKind::Delete };
                let value = if put { vec![source; 1 + seq as usize] } else { Vec::new() };
                (key, Tag::new(SeqNum(seq), kind), value)
            };
            let mut entries: Vec<_> = raw.into_iter().map(entry).collect();
            entries.sort_by(|a, b| compare((&a.0, a.1), (&b.0, b.1)));
            entries.dedup_by(|a, b| (&a.0, a.1) == (&b.0, b.1));
            entries
        }

        fn moved(&mut self, at: Option<usize>) -> Result<()> {
            if let Some(left) = &mut self.fail_after {
                if *left == 0 {
                    self.at = None;
                    return Err(Error::corruption(Path::new("vec"), 0, "fuse"));
                }
                *left -= 1;
            }
            self.at = at.filter(|at| *at < self.entries.len());
            Ok(())
        }

        fn entry(&self) -> &(Vec<u8>, Tag, Vec<u8>) {
            &self.entries[self.at.expect("valid")]
        }
    }

    impl InternalIterator for VecIterator {
        fn valid(&self) -> bool {
            self.at.is_some()
        }
        fn seek_to_first(&mut self) -> Result<()> {
            self.moved(Some(0))
        }
        fn seek_to_last(&mut self) -> Result<()> {
            self.moved(self.entries.len().checked_sub(1))
        }
        fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
            let at = self.entries.partition_point(|entry| compare((&entry.0, entry.1), (key, tag)).is_lt());
            self.moved(Some(at))
        }
        fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
            let at = self.entries.partition_point(|entry| compare((&entry.0, entry.1), (key, tag)).is_le());
            self.moved(at.checked_sub(1))
        }
        fn next(&mut self) -> Result<()> {
            self.moved(self.at.map(|at| at + 1))
        }
        fn prev(&mut self) -> Result<()> {
            self.moved(self.at.and_then(|at| at.checked_sub(1)))
        }
        fn key(&self) -> &[u8] {
            &self.entry().0
        }
        fn tag(&self) -> Tag {
            self.entry().1
        }
        fn value(&self) -> &[u8] {
            &self.entry().2
        }
    }

    /// One call on a cursor.
    #[derive(Clone, Debug)]
    pub(crate) enum Step {
        First,
        Last,
        Seek(Vec<u8>, u64),
        SeekForPrev(Vec<u8>, u64),
        Next,
        Prev,
    }

    impl Step {
        pub(crate) fn take(&self, cursor: &mut dyn InternalIterator) -> Result<()> {
            match self {
                Step::First => cursor.seek_to_first(),
                Step::Last => cursor.seek_to_last(),
                Step::Seek(key, seq) => cursor.seek(key, Tag::seek(SeqNum(*seq))),
                Step::SeekForPrev(key, seq) => cursor.seek_for_prev(key, Tag::new(SeqNum(*seq), ValueKind::Put)),
                Step::Next => cursor.next(),
                Step::Prev => cursor.prev(),
            }
        }
    }

    /// Sequences of calls over keys of few letters.
    pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = || prop::collection::vec(0u8..3, 0..4);
        let step = prop_oneof![
            1 => Just(Step::First),
            1 => Just(Step::Last),
            2 => (key(), 0u64..6).prop_map(|(key, seq)| Step::Seek(key, seq)),
            2 => (key(), 0u64..6).prop_map(|(key, seq)| Step::SeekForPrev(key, seq)),
            6 => Just(Step::Next),
            6 => Just(Step::Prev),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// Takes `steps` on both cursors and asserts that they agree after each.
    pub(crate) fn walk(cursor: &mut dyn InternalIterator, model: &mut dyn InternalIterator, steps: &[Step]) {
        assert!(!cursor.valid(), "a new cursor is not valid");
        for step in steps {
            step.take(cursor).unwrap();
            step.take(model).unwrap();
            assert_eq!(cursor.valid(), model.valid(), "after {step:?}");
            if model.valid() {
                let (found, wanted) = ((cursor.key(), cursor.tag()), (model.key(), model.tag()));
                assert_eq!((found, cursor.value()), (wanted, model.value()), "after {step:?}");
                assert_eq!(&cursor.value_owned()[..], model.value());
            }
        }
    }
}
