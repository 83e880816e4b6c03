//! [`RangeTombstones`]: an unchanging set of range tombstones, asked for the newest one that covers a key.
//!
//! Made of the tombstones of a table, a piece of a memtable's, or the inputs of a compaction; shared by any number of readers.
//!
//! The begins and ends of all tombstones cut the key space into leaves, within which nothing changes. Over the leaves stands
//! a segment tree: each tombstone is noted in the few nodes that make up its range together, so that `n` tombstones take
//! `n log n` notes however they overlap (`delete everything below x`, with `x` growing, would take `n * n` if each leaf
//! listed what covers it), and a question walks from a leaf to the root.

use super::format::Fragment;
use super::{Edge, RangeInfo, ends_behind};
use crate::base::key::SeqNum;
use std::sync::Arc;

/// One range delete: every key from `begin` to below `end`, or to the last if that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lsm) struct Tombstone {
    pub(in crate::lsm) begin: Arc<[u8]>,
    pub(in crate::lsm) end: Arc<[u8]>,
    pub(in crate::lsm) seq: SeqNum,
}

/// A part of the key space in which nothing changes: from `low` to below `high`, or to the end if that is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) low: &'a [u8],
    pub(super) high: &'a [u8],
    /// The newest tombstone over it; 0 if there is none.
    pub(super) newest: SeqNum,
}

/// A set of range tombstones, not empty.
#[derive(Debug)]
pub(in crate::lsm) struct RangeTombstones {
    all: Vec<Tombstone>,
    /// Leaf `i` begins with bound `i` and ends before the next one.
    bounds: Vec<Arc<[u8]>>,
    leaves: usize,
    /// Node `leaves + i` is leaf `i`; the parent of node `i` is node `i / 2`. Newest first.
    nodes: Vec<Vec<SeqNum>>,
}

impl RangeTombstones {
    /// Makes the set of `all`.
    ///
    /// # Panics
    /// If it is empty, or one of them covers nothing.
    pub(in crate::lsm) fn new(all: Vec<Tombstone>) -> RangeTombstones {
        assert!(!all.is_empty(), "a set of range tombstones has one");
        let is_endless = all.iter().any(|one| one.end.is_empty());
        let ends = all.iter().map(|one| &one.end).filter(|end| !end.is_empty());
        let mut bounds: Vec<Arc<[u8]>> = all.iter().map(|one| &one.begin).chain(ends).cloned().collect();
        bounds.sort_unstable();
        bounds.dedup();
        let leaves = if is_endless { bounds.len() } else { bounds.len() - 1 };
        let mut nodes = vec![Vec::new(); 2 * leaves];
        let mut newest_first: Vec<&Tombstone> = all.iter().collect();
        newest_first.sort_unstable_by_key(|one| std::cmp::Reverse(one.seq));
        for one in newest_first {
            assert!(ends_behind(&one.end, &one.begin) && one.seq > SeqNum(0), "{one:?} covers nothing");
            let place = |key: &Arc<[u8]>| bounds.partition_point(|bound| bound < key);
            let end = if one.end.is_empty() { leaves } else { place(&one.end) };
            let (mut low, mut high) = (leaves + place(&one.begin), leaves + end);
            while low < high {
                if low % 2 == 1 {
                    nodes[low].push(one.seq);
                    low += 1;
                }
                if high % 2 == 1 {
                    high -= 1;
                    nodes[high].push(one.seq);
                }
                (low, high) = (low / 2, high / 2);
            }
        }
        RangeTombstones { all, bounds, leaves, nodes }
    }

    /// Makes one set of several; `None` of none.
    pub(in crate::lsm) fn joined<'a>(sets: impl Iterator<Item = &'a RangeTombstones>) -> Option<RangeTombstones> {
        let all: Vec<Tombstone> = sets.flat_map(|set| &set.all).cloned().collect();
        (!all.is_empty()).then(|| RangeTombstones::new(all))
    }

    /// Returns every tombstone, in no order.
    pub(in crate::lsm) fn all(&self) -> &[Tombstone] {
        &self.all
    }

    /// Returns what they are in all.
    pub(in crate::lsm) fn info(&self) -> RangeInfo {
        RangeInfo { count: self.all.len() as u64, begin: self.begin().to_vec(), end: self.end().to_vec() }
    }

    /// Returns where the first begins.
    pub(super) fn begin(&self) -> &[u8] {
        &self.bounds[0]
    }

    /// Returns before which key the last ends; empty if there is no end.
    pub(super) fn end(&self) -> &[u8] {
        self.bounds.get(self.leaves).map_or(&[], |end| end)
    }

    /// Returns the newest tombstone over `key` that a reader at `seq` sees; 0 if there is none.
    pub(in crate::lsm) fn newest(&self, key: &[u8], seq: SeqNum) -> SeqNum {
        match self.bounds.partition_point(|bound| &**bound <= key).checked_sub(1) {
            Some(leaf) if leaf < self.leaves => self.newest_over(leaf, seq),
            _ => SeqNum(0),
        }
    }

    /// Returns the newest tombstone over any key from `low` to `edge`; 0 if there is none.
    pub(in crate::lsm) fn newest_between(&self, low: &[u8], edge: Edge<'_>) -> SeqNum {
        let first = self.bounds.partition_point(|bound| &**bound <= low).saturating_sub(1);
        let spans = (first..self.leaves).map(|leaf| (leaf, self.leaf(leaf)));
        let held =
            spans.skip_while(|(_, (_, end))| !ends_behind(end, low)).take_while(|(_, (begin, _))| edge.holds(begin));
        held.map(|(leaf, _)| self.newest_over(leaf, SeqNum::MAX)).max().unwrap_or_default()
    }

    /// Returns the span around `key`, as a reader at `seq` sees it.
    pub(super) fn span(&self, key: &[u8], seq: SeqNum) -> Span<'_> {
        match self.bounds.partition_point(|bound| &**bound <= key).checked_sub(1) {
            None => Span { low: &[], high: self.begin(), newest: SeqNum(0) },
            Some(leaf) if leaf < self.leaves => {
                let (low, high) = self.leaf(leaf);
                Span { low, high, newest: self.newest_over(leaf, seq) }
            }
            Some(_) => Span { low: self.end(), high: &[], newest: SeqNum(0) },
        }
    }

    /// Returns the number of leaves.
    pub(super) fn leaves(&self) -> usize {
        self.leaves
    }

    /// Returns begin and end of a leaf.
    pub(super) fn leaf(&self, leaf: usize) -> (&[u8], &[u8]) {
        (&self.bounds[leaf], self.bounds.get(leaf + 1).map_or(&[], |end| end))
    }

    /// Returns the newest tombstone over a leaf that a reader at `seq` sees; 0 if there is none.
    pub(super) fn newest_over(&self, leaf: usize, seq: SeqNum) -> SeqNum {
        let mut newest = SeqNum(0);
        let mut node = self.leaves + leaf;
        while node > 0 {
            let seqs = &self.nodes[node];
            let at = seqs.partition_point(|one| *one > seq);
            newest = newest.max(seqs.get(at).copied().unwrap_or_default());
            node /= 2;
        }
        newest
    }
}

/// Returns the set of `fragments`; `None` if there are none.
pub(in crate::lsm) fn set_of(fragments: &[Fragment]) -> Option<RangeTombstones> {
    let mut all = Vec::new();
    for fragment in fragments {
        let (begin, end): (Arc<[u8]>, Arc<[u8]>) = (fragment.begin.as_slice().into(), fragment.end.as_slice().into());
        let one = |seq: &SeqNum| Tombstone { begin: Arc::clone(&begin), end: Arc::clone(&end), seq: *seq };
        all.extend(fragment.seqs.iter().map(one));
    }
    (!all.is_empty()).then(|| RangeTombstones::new(all))
}

/// Tombstones over keys of one letter, for the tests of this room.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use proptest::prelude::*;

    /// Every key that matters to tombstones of one letter.
    pub(crate) fn universe() -> impl Iterator<Item = Vec<u8>> {
        (b'a'..=b'j').flat_map(|letter| [vec![letter], vec![letter, b'x']]).chain([vec![]])
    }

    pub(crate) fn tombstone(begin: &[u8], end: &[u8], seq: u64) -> Tombstone {
        Tombstone { begin: begin.into(), end: end.into(), seq: SeqNum(seq) }
    }

    pub(crate) fn tombstones() -> impl Strategy<Value = Vec<Tombstone>> {
        let one = (0u8..10, 1u8..6, 0u8..8).prop_map(|(begin, len, kind)| {
            let end = [b'a' + begin + len];
            let begin = if kind == 0 { vec![] } else { vec![b'a' + begin] };
            let end = if kind == 1 { vec![] } else { end.to_vec() };
            (begin, end)
        });
        prop::collection::vec(one, 1..12).prop_map(|all| {
            let numbered = all.into_iter().enumerate();
            numbered.map(|(seq, (begin, end))| tombstone(&begin, &end, 1 + seq as u64)).collect()
        })
    }

    /// The newest of `all` over `key` that a reader at `seq` sees.
    pub(crate) fn newest(all: &[Tombstone], key: &[u8], seq: u64) -> SeqNum {
        let over = all.iter().filter(|one| &*one.begin <= key && ends_behind(&one.end, key) && one.seq.0 <= seq);
        over.map(|one| one.seq).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_is_that_of_a_list(all in tombstones(), seq in 0u64..14) {
            let set = RangeTombstones::new(all.clone());
            for key in universe() {
                let wanted = newest(&all, &key, seq);
                prop_assert_eq!(set.newest(&key, SeqNum(seq)), wanted, "{:?}", key);
                let span = set.span(&key, SeqNum(seq));
                prop_assert_eq!(span.newest, wanted);
                prop_assert!(span.low <= &key[..] && ends_behind(span.high, &key));
                for other in universe().filter(|other| span.low <= &other[..] && ends_behind(span.high, other)) {
                    prop_assert_eq!(newest(&all, &other, seq), wanted, "{:?} as {:?}", other, key);
                }
            }
        }

        #[test]
        fn the_newest_between_keys_is_that_of_a_list(all in tombstones(), low in 0u8..12, len in 0u8..5, through: bool) {
            let (low, high) = ([b'a' + low], [b'a' + low + len]);
            let edge = if through { Edge::Through(&high) } else { Edge::Below(&high) };
            let held = all.iter().filter(|one| {
                ends_behind(&one.end, &low) && (edge.holds(&one.begin) || *one.begin <= low[..])
            });
            let wanted = held.map(|one| one.seq).max().unwrap_or_default();
            // A range without keys is asked for by nobody.
            prop_assume!(edge.holds(&low));
            prop_assert_eq!(RangeTombstones::new(all.clone()).newest_between(&low, edge), wanted);
        }
    }

    #[test]
    fn what_it_takes_grows_with_the_number_however_they_overlap() {
        let below = |number: u64| tombstone(b"", &number.to_string().into_bytes(), number);
        let set = RangeTombstones::new((1..=1000).map(below).collect());
        let notes: usize = set.nodes.iter().map(Vec::len).sum();
        assert!(notes < 20_000, "{notes} notes");
        assert_eq!(set.newest(b"", SeqNum::MAX), SeqNum(1000));
        assert_eq!(set.newest(b"", SeqNum(17)), SeqNum(17));
    }
}
