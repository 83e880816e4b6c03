//! Range deletes: one tombstone for all keys from `begin` to below `end`, in the log, in memory and in tables.
//!
//! | file | what it holds |
//! |---|---|
//! | `tombstones` | which tombstones cover a key, found in a logarithm of their number |
//! | `memory` | those of a memtable, which grow while they are read |
//! | `cover` | cursors that leave out what is covered, by seeking past it |
//! | `retain` | which of them flush and compaction keep, and how they are cut at table ends |
//! | [`mod@format`] | the bytes of a table's block of them |
//!
//! - A tombstone hides the entries of its keys with a smaller sequence number from readers at or after its own.
//! - **Invariant:** of one key, whatever lies in an upper source (memtables newest first, level 0 newest first, then the
//!   levels) is newer than what lies in a lower one, tombstones that cover the key included. So the range that a table answers
//!   for (`TableInfo::low` to `TableInfo::high`) takes in its tombstones, wherever overlap decides, and a tombstone hides everything of its keys in the sources below.
//! - An end of no bytes is no end. A range without keys is never written.

mod cover;
pub mod format;
mod memory;
mod retain;
mod tombstones;

pub(super) use cover::{Covering, Layer, uncovered};
pub(super) use memory::MemoryRanges;
pub(super) use retain::Fragments;
pub(super) use tombstones::{RangeTombstones, Tombstone, set_of};

use crate::base::limits::KEY_BYTES_MAX;
use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};

/// Where a part of the key space ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge<'a> {
    /// Before this key.
    Below(&'a [u8]),
    /// After this key.
    Through(&'a [u8]),
    /// Nowhere.
    End,
}

impl<'a> Edge<'a> {
    /// Returns the edge before `end`, or none if that is empty.
    pub(super) fn of_end(end: &'a [u8]) -> Edge<'a> {
        if end.is_empty() { Edge::End } else { Edge::Below(end) }
    }

    /// Returns where it lies: its key, and whether behind it.
    fn place(self) -> Option<(&'a [u8], bool)> {
        match self {
            Edge::Below(key) => Some((key, false)),
            Edge::Through(key) => Some((key, true)),
            Edge::End => None,
        }
    }

    pub(super) fn compare(self, other: Edge<'_>) -> Ordering {
        match (self.place(), other.place()) {
            (Some(own), Some(other)) => own.cmp(&other),
            (own, other) => own.is_none().cmp(&other.is_none()),
        }
    }

    /// Returns true if a range that ends here holds `key`, given that it begins before.
    #[inline]
    pub(super) fn holds(self, key: &[u8]) -> bool {
        match self {
            Edge::Below(end) => key < end,
            Edge::Through(end) => key <= end,
            Edge::End => true,
        }
    }
}

/// What a table's range tombstones are in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeInfo {
    /// How many there are, pieces with a sequence number each.
    pub count: u64,
    /// Where the first begins.
    pub begin: Vec<u8>,
    /// Before which key the last ends; empty if it has no end.
    pub end: Vec<u8>,
}

/// Returns true if a range that ends before `end` holds `key`, given that it begins before.
#[inline]
pub(super) fn ends_behind(end: &[u8], key: &[u8]) -> bool {
    end.is_empty() || key < end
}

/// Returns begin and end of a range of keys; `None` if it holds none. A key over its limit comes back as it is.
pub(super) fn span_of<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Option<(Vec<u8>, Vec<u8>)> {
    let begin = match range.start_bound() {
        Bound::Included(key) => key.as_ref().to_vec(),
        Bound::Excluded(key) => successor(key.as_ref())?,
        Bound::Unbounded => Vec::new(),
    };
    let end = match range.end_bound() {
        Bound::Included(key) => successor(key.as_ref()).unwrap_or_default(),
        // Nothing lies before the empty key.
        Bound::Excluded(key) if key.as_ref().is_empty() => return None,
        Bound::Excluded(key) => key.as_ref().to_vec(),
        Bound::Unbounded => Vec::new(),
    };
    ends_behind(&end, &begin).then_some((begin, end))
}

/// Returns the first key after `key`; `None` if there is none.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    if key.len() != KEY_BYTES_MAX {
        return Some([key, b"\0"].concat());
    }
    // A key as long as a key may be has nothing behind it but what differs before its end.
    let at = key.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = key[..=at].to_vec();
    next[at] += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(range: impl RangeBounds<&'static [u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        span_of::<&[u8]>(&range)
    }

    #[test]
    fn ranges_become_half_open_and_an_open_end_is_empty() {
        let (a, b) = (&b"a"[..], &b"b"[..]);
        assert_eq!(span(a..b), Some((a.to_vec(), b.to_vec())));
        assert_eq!(span(a..=b), Some((a.to_vec(), b"b\0".to_vec())));
        assert_eq!(span((Bound::Excluded(a), Bound::Unbounded)), Some((b"a\0".to_vec(), vec![])));
        assert_eq!(span(..), Some((vec![], vec![])));
        assert_eq!(span(a..=a), Some((a.to_vec(), b"a\0".to_vec())));
    }

    #[test]
    fn ranges_without_keys_are_none() {
        let (a, b) = (&b"a"[..], &b"b"[..]);
        assert_eq!((span(a..a), span(b..a), span(..&b""[..])), (None, None, None));
        assert_eq!(span((Bound::Excluded(a), Bound::Included(a))), None);
    }

    #[test]
    fn the_longest_keys_have_successors_of_a_legal_length() {
        let mut longest = vec![0xff; KEY_BYTES_MAX];
        assert_eq!(successor(&longest), None);
        longest[0] = b'a';
        assert_eq!(successor(&longest), Some(b"b".to_vec()));
        assert_eq!(successor(&longest[1..]).unwrap().len(), KEY_BYTES_MAX);
    }
}
