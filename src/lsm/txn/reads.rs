//! [`ReadSet`]: which keys a transaction has looked for, found or not, as few ranges as possible.
//!
//! Filled by the transaction's point reads and, through [`Recorded`], by its iterators, which may live on other threads;
//! looked at when the transaction commits.
//!
//! - Ranges of a keyspace do not touch: those that overlap or follow each other without a gap are one. A range with the
//!   same key at both ends is a point.
//! - What was recorded is never forgotten, so that the set only grows, up to the transaction's limit.

use super::recent::Touched;
use super::too_large;
use crate::base::Result;
use crate::env::{Env, Mutex};
use crate::lsm::iterator::Recorder;
use crate::lsm::ranges::Edge;
use crate::lsm::tree::Tree;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes that a range takes beside its keys, roughly.
const RANGE_BYTES: usize = 64;

impl Edge<'_> {
    /// Returns true if no key lies between this end and a range that begins with `low`.
    fn touches(self, low: &[u8]) -> bool {
        match self {
            Edge::Below(end) => low <= end,
            Edge::Through(end) => low <= end || low.strip_prefix(end) == Some(b"\0"),
            Edge::End => true,
        }
    }
}

/// The end of a range, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Upper {
    /// Behind the key that the range begins with.
    Point,
    Below(Vec<u8>),
    Through(Vec<u8>),
    End,
}

impl Upper {
    fn edge<'a>(&'a self, low: &'a [u8]) -> Edge<'a> {
        match self {
            Upper::Point => Edge::Through(low),
            Upper::Below(key) => Edge::Below(key),
            Upper::Through(key) => Edge::Through(key),
            Upper::End => Edge::End,
        }
    }

    fn new(low: &[u8], edge: Edge<'_>) -> Upper {
        match edge {
            Edge::Through(key) if key == low => Upper::Point,
            Edge::Through(key) => Upper::Through(key.to_vec()),
            Edge::Below(key) => Upper::Below(key.to_vec()),
            Edge::End => Upper::End,
        }
    }

    /// Moves it to `edge`, in its own memory where it can.
    fn set(&mut self, low: &[u8], edge: Edge<'_>) {
        match (&mut *self, edge) {
            (Upper::Through(own), Edge::Through(key)) => {
                own.clear();
                own.extend_from_slice(key);
            }
            _ => *self = Upper::new(low, edge),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Upper::Point | Upper::End => RANGE_BYTES,
            Upper::Below(key) | Upper::Through(key) => RANGE_BYTES + key.len(),
        }
    }
}

/// Parts of one keyspace, by the key that each begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    ranges: BTreeMap<Vec<u8>, Upper>,
    bytes: usize,
}

impl Ranges {
    fn before(&self, key: &[u8]) -> Option<(&Vec<u8>, &Upper)> {
        self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()
    }

    /// Adds everything from `low` to `edge`.
    pub(super) fn cover(&mut self, low: &[u8], edge: Edge<'_>) {
        if !edge.holds(low) {
            return;
        }
        let before = self.ranges.range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(low))).next_back();
        match before {
            Some((own, upper)) if upper.edge(own).touches(low) => {
                if upper.edge(own).compare(edge).is_ge() {
                    return;
                }
                self.bytes -= upper.bytes();
                upper.set(own, edge);
                self.bytes += upper.bytes();
            }
            _ => {
                let upper = Upper::new(low, edge);
                self.bytes += low.len() + upper.bytes();
                self.ranges.insert(low.to_vec(), upper);
            }
        }
        self.swallow(low, edge);
    }

    /// Joins the range that holds `low` and ends at `edge` with those behind it that it has reached.
    fn swallow(&mut self, low: &[u8], edge: Edge<'_>) {
        loop {
            let next = self.ranges.range::<[u8], _>((Bound::Excluded(low), Bound::Unbounded)).next();
            let Some(next) = next.map(|(next, _)| next).filter(|next| edge.touches(next)).cloned() else { return };
            let Some(upper) = self.ranges.remove(&next) else { return };
            self.bytes -= next.len() + upper.bytes();
            if upper.edge(&next).compare(edge).is_gt() {
                // It reaches further, and what lies behind it does not touch it.
                let holder = self.ranges.range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(low))).next_back();
                if let Some((own, holder)) = holder {
                    self.bytes -= holder.bytes();
                    holder.set(own, upper.edge(&next));
                    self.bytes += holder.bytes();
                }
                return;
            }
        }
    }

    /// Returns true if `key` lies in one of them.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.before(key).is_some_and(|(low, upper)| upper.edge(low).holds(key))
    }

    /// Returns the first key of one of them from `low` to `edge`.
    fn first_between<'a>(&'a self, low: &'a [u8], edge: Edge<'_>) -> Option<&'a [u8]> {
        if self.contains(low) {
            return Some(low);
        }
        let next = self.ranges.range::<[u8], _>((Bound::Included(low), Bound::Unbounded)).next();
        next.map(|(next, _)| next.as_slice()).filter(|next| edge.holds(next))
    }

    /// Returns each with the key it begins with and where it ends, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Edge<'_>)> {
        self.ranges.iter().map(|(low, upper)| (low.as_slice(), upper.edge(low)))
    }
}

/// Everything a transaction has looked at.
pub(super) struct ReadSet<E: Env> {
    pub(super) trees: BTreeMap<u32, (Arc<Tree<E>>, Ranges)>,
    bytes: usize,
    /// Bytes that its writes and locks take.
    pub(super) beside: usize,
    /// Most bytes that all of it may take.
    bytes_max: usize,
}

impl<E: Env> ReadSet<E> {
    pub(super) fn new(bytes_max: usize) -> ReadSet<E> {
        ReadSet { trees: BTreeMap::new(), bytes: 0, beside: 0, bytes_max }
    }

    /// Adds everything of `tree` from `low` to `edge`.
    ///
    /// # Errors
    /// The transaction has reached its limit.
    pub(super) fn cover(&mut self, tree: &Arc<Tree<E>>, low: &[u8], edge: Edge<'_>) -> Result<()> {
        self.add(tree, low, edge);
        self.check(0)
    }

    /// Adds `key` of `tree`, whatever the limit.
    pub(super) fn note(&mut self, tree: &Arc<Tree<E>>, key: &[u8]) {
        self.add(tree, key, Edge::Through(key));
    }

    fn add(&mut self, tree: &Arc<Tree<E>>, low: &[u8], edge: Edge<'_>) {
        let (_, ranges) = self.trees.entry(tree.id).or_insert_with(|| (Arc::clone(tree), Ranges::default()));
        self.bytes -= ranges.bytes;
        ranges.cover(low, edge);
        self.bytes += ranges.bytes;
    }

    /// Fails if reads, writes and locks, with `more` bytes of them, take more than they may.
    pub(super) fn check(&self, more: usize) -> Result<()> {
        let bytes = self.bytes + self.beside + more;
        if bytes <= self.bytes_max { Ok(()) } else { Err(too_large(bytes, self.bytes_max)) }
    }

    /// Returns a key that was looked for of those that `written` touches, and its keyspace.
    pub(super) fn find<'a>(&'a self, written: Touched<'a>) -> Option<(&'a [u8], &'a Tree<E>)> {
        let (tree, ranges) = self.trees.get(&written.keyspace)?;
        let edge = written.end.map_or(Edge::Through(written.key), Edge::of_end);
        ranges.first_between(written.key, edge).map(|key| (key, &**tree))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }
}

/// Records what an iterator over one keyspace passes.
pub(super) struct Recorded<E: Env> {
    pub(super) reads: Arc<Mutex<E, ReadSet<E>>>,
    pub(super) tree: Arc<Tree<E>>,
    /// Planted: the gap behind the last entry is left out.
    pub(super) forgets_end: bool,
}

impl<E: Env> Recorder for Recorded<E> {
    fn passed(&self, low: &[u8], edge: Edge<'_>) -> Result<()> {
        if self.forgets_end && !matches!(edge, Edge::Through(_)) {
            return Ok(());
        }
        self.reads.lock().cover(&self.tree, low, edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Every key of up to three letters.
    fn universe() -> Vec<Vec<u8>> {
        let mut keys = vec![Vec::new()];
        for at in 0.. {
            let Some(key) = keys.get(at).cloned() else { break };
            if key.len() < 3 {
                keys.extend((0u8..3).map(|letter| [&key[..], &[letter]].concat()));
            }
        }
        keys
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..3, 0..4)
    }

    fn edge(kind: u8, key: &[u8]) -> Edge<'_> {
        match kind {
            0 => Edge::Below(key),
            1 => Edge::Through(key),
            _ => Edge::End,
        }
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_covered_and_do_not_touch(
            covered in prop::collection::vec((key(), 0u8..12, key()), 0..12),
        ) {
            let (mut ranges, mut wanted) = (Ranges::default(), BTreeSet::new());
            for (low, kind, high) in &covered {
                // Mostly points.
                let edge = if *kind < 6 { Edge::Through(low) } else { edge(*kind % 3, high) };
                ranges.cover(low, edge);
                wanted.extend(universe().into_iter().filter(|key| key >= low && edge.holds(key)));
            }
            for key in universe() {
                prop_assert_eq!(ranges.contains(&key), wanted.contains(&key), "{:?} in {:?}", key, ranges);
            }
            let all: Vec<_> = ranges.iter().collect();
            for pair in all.windows(2) {
                prop_assert!(!pair[0].1.touches(pair[1].0), "{:?} touch", pair);
            }
            let bytes: usize = ranges.ranges.iter().map(|(low, upper)| low.len() + upper.bytes()).sum();
            prop_assert_eq!(ranges.bytes, bytes);
        }
    }

    #[test]
    fn a_walk_is_one_range() {
        let mut ranges = Ranges::default();
        for pair in [b"a", b"b", b"c", b"d"].windows(2) {
            ranges.cover(pair[0], Edge::Through(pair[1]));
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(&b"a"[..], Edge::Through(&b"d"[..]))]);
        for pair in [b"z", b"y", b"x", b"d"].windows(2) {
            ranges.cover(pair[1], Edge::Through(pair[0]));
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(&b"a"[..], Edge::Through(&b"z"[..]))]);
    }
}
