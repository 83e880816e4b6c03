//! Compaction: keeps the number of places a read must look small, and forgets what no reader can see.
//!
//! [`picker`] decides what to compact (pure, under the state lock), `job` does it (I/O, on a background thread or the
//! caller of a forced compaction), [`Retention`] decides which entries live and [`Rewrite`] what is written of them; flush uses
//! both too.

mod filter;
mod forced;
mod job;
pub(super) mod picker;
mod rewrite;
mod shape;

pub use filter::{CompactionFilter, Verdict};

pub(super) use filter::Filtering;
pub(super) use rewrite::{Read, Rewrite};

use super::ranges::RangeTombstones;
use crate::base::key::{SeqNum, Tag, ValueKind};

/// Decides, entry by entry in internal key order, which ones a rewrite keeps.
///
/// Readers' sequence numbers cut time into stripes; of the versions of a key within a stripe only the newest can be seen, and
/// what it is merged onto, and none that a range tombstone of the stripe covers.
/// A tombstone that every reader sees, with nothing older below it, has done its work.
pub(super) struct Retention {
    /// Ascending; the last is the sequence number of every reader yet to come.
    readers: Vec<SeqNum>,
    key: Vec<u8>,
    /// The stripe of the last version of `key`; `None` before the first entry.
    stripe: Option<usize>,
    /// The last version of `key` is an operand, under which the next one of its stripe is seen.
    open: bool,
    ranges: Option<RangeTombstones>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Some reader sees it, now or later.
    Kept,
    /// No reader sees it.
    Hidden,
    /// A tombstone that every reader sees, with nothing below it.
    Done,
}

impl Retention {
    /// Keeps what `readers` see, given that `ranges` lie beside the entries.
    pub(super) fn new(readers: Vec<SeqNum>, ranges: Option<RangeTombstones>) -> Retention {
        assert!(!readers.is_empty() && readers.is_sorted(), "readers {readers:?}");
        Retention { readers, key: Vec::new(), stripe: None, open: false, ranges }
    }

    /// Decides about the next entry. `bottom` tells whether no older versions of its key lie further down.
    pub(super) fn judge(&mut self, key: &[u8], tag: Tag, bottom: impl FnOnce() -> bool) -> Fate {
        let stripe = self.stripe_of(tag);
        let is_new = self.stripe.is_none() || key != self.key;
        if !is_new && self.stripe == Some(stripe) && !self.open {
            return Fate::Hidden;
        }
        if is_new {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.stripe = Some(stripe);
        if self.ranges.as_ref().is_some_and(|ranges| ranges.newest(key, self.readers[stripe]) >= tag.seq()) {
            self.open = false;
            return Fate::Hidden;
        }
        self.open = tag.kind() == ValueKind::Merge;
        if tag.kind() == ValueKind::Delete && stripe == 0 && bottom() { Fate::Done } else { Fate::Kept }
    }

    /// Returns the stripe of an entry: the number of the first reader that sees it.
    pub(super) fn stripe_of(&self, tag: Tag) -> usize {
        let stripe = self.readers.partition_point(|reader| *reader < tag.seq());
        assert!(stripe < self.readers.len(), "an entry newer than what is visible was flushed");
        stripe
    }

    /// Returns the stripe of what only readers yet to come see.
    pub(super) fn last_stripe(&self) -> usize {
        self.readers.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(readers: &[u64], entries: &[(&str, u64, ValueKind)], bottom: bool) -> Vec<(String, u64)> {
        let mut retention = Retention::new(readers.iter().map(|seq| SeqNum(*seq)).collect(), None);
        let mut kept = Vec::new();
        for (key, seq, kind) in entries {
            if retention.judge(key.as_bytes(), Tag::new(SeqNum(*seq), *kind), || bottom) == Fate::Kept {
                kept.push((key.to_string(), *seq));
            }
        }
        kept
    }

    use ValueKind::{Delete, Put};

    #[test]
    fn only_the_newest_version_survives_without_snapshots() {
        let entries = [("a", 9, Put), ("a", 5, Put), ("b", 3, Put)];
        assert_eq!(kept(&[10], &entries, false), [("a".into(), 9), ("b".into(), 3)]);
    }

    #[test]
    fn each_snapshot_keeps_what_it_sees() {
        let entries = [("a", 9, Put), ("a", 8, Put), ("a", 5, Put), ("a", 4, Put)];
        assert_eq!(kept(&[5, 10], &entries, true), [("a".into(), 9), ("a".into(), 5)]);
        assert_eq!(kept(&[7, 8, 10], &entries, true), [("a".into(), 9), ("a".into(), 8), ("a".into(), 5)]);
    }

    #[test]
    fn tombstone_goes_only_at_the_bottom_and_only_when_all_readers_see_it() {
        let entries = [("a", 9, Delete), ("a", 5, Put)];
        assert_eq!(kept(&[10], &entries, true), []);
        assert_eq!(kept(&[10], &entries, false), [("a".into(), 9)]);
        assert_eq!(kept(&[9, 10], &entries, true), []);
        assert_eq!(kept(&[8, 10], &entries, true), [("a".into(), 9), ("a".into(), 5)]);
    }
}
