//! [`Fragments`]: the range tombstones that a flush or a compaction writes, handed out table by table.
//!
//! Readers' sequence numbers cut time into stripes, as for entries: of the tombstones over a key only the newest of each
//! stripe matters. One that every reader sees, with nothing older of its keys further down, has done its work once the entries
//! beside it are dropped.
//!
//! - Together the fragments handed out cover what the tombstones that are kept covered, no more and no less: one that
//!   reaches over the end of a table is cut there, and the rest goes to the next.

use super::ends_behind;
use super::format::Fragment;
use super::tombstones::RangeTombstones;
use crate::base::key::SeqNum;
use std::collections::VecDeque;

/// What is left to be handed out, ascending.
#[derive(Debug, Default)]
pub(in crate::lsm) struct Fragments(VecDeque<Fragment>);

impl Fragments {
    /// Returns what of `set` is kept for `readers`, ascending as in `Retention`. `is_bottom` tells whether older versions of the
    /// keys from its first argument to below its second can lie nowhere further down.
    pub(in crate::lsm) fn kept(
        set: &RangeTombstones,
        readers: &[SeqNum],
        is_bottom: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Fragments {
        let mut kept: VecDeque<Fragment> = VecDeque::new();
        for leaf in 0..set.leaves() {
            let stripe = |at: usize| {
                let newest = set.newest_over(leaf, readers[at]);
                let is_older = at.checked_sub(1).is_some_and(|before| newest <= readers[before]);
                (newest > SeqNum(0) && !is_older).then_some(newest)
            };
            let (begin, end) = set.leaf(leaf);
            let oldest = stripe(0).filter(|_| !is_bottom(begin, end));
            let seqs: Vec<SeqNum> = (1..readers.len()).rev().filter_map(stripe).chain(oldest).collect();
            if seqs.is_empty() {
                continue;
            }
            match kept.back_mut() {
                Some(last) if last.end == begin && last.seqs == seqs => last.end = end.to_vec(),
                _ => kept.push_back(Fragment { begin: begin.to_vec(), end: end.to_vec(), seqs }),
            }
        }
        Fragments(kept)
    }

    /// Returns what a reader of everything sees of some sets.
    pub(in crate::lsm) fn of_all<'a>(sets: impl Iterator<Item = &'a RangeTombstones>) -> Fragments {
        match RangeTombstones::joined(sets) {
            Some(set) => Fragments::kept(&set, &[SeqNum::MAX], |_, _| false),
            None => Fragments::default(),
        }
    }

    /// Returns true if all are handed out.
    pub(in crate::lsm) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what lies before `key`, or all, and tells whether one was cut. With `short` a planted bug loses what is cut off.
    pub(in crate::lsm) fn take_before(&mut self, key: Option<&[u8]>, short: bool) -> (Vec<Fragment>, bool) {
        let Some(key) = key else { return (std::mem::take(&mut self.0).into(), false) };
        let mut taken = Vec::new();
        while let Some(next) = self.0.pop_front_if(|next| next.begin.as_slice() < key) {
            if !ends_behind(&next.end, key) {
                taken.push(next);
                continue;
            }
            if !short {
                self.0.push_front(Fragment { begin: key.to_vec(), ..next.clone() });
            }
            taken.push(Fragment { end: key.to_vec(), ..next });
            return (taken, true);
        }
        (taken, false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tombstones::testing::{newest, tombstone, tombstones, universe};
    use super::*;
    use crate::lsm::ranges::Tombstone;
    use proptest::prelude::*;

    fn readers(seqs: &[u64]) -> Vec<SeqNum> {
        seqs.iter().map(|seq| SeqNum(*seq)).collect()
    }

    fn as_tombstones(fragments: &[Fragment]) -> Vec<Tombstone> {
        let one = |fragment: &Fragment, seq: &SeqNum| tombstone(&fragment.begin, &fragment.end, seq.0);
        fragments.iter().flat_map(|fragment| fragment.seqs.iter().map(move |seq| one(fragment, seq))).collect()
    }

    proptest! {
        #[test]
        fn every_reader_sees_the_same_after_cuts(
            all in tombstones(),
            held in prop::collection::btree_set(1u64..12, 0..4),
            cuts in prop::collection::btree_set(0u8..12, 0..4),
        ) {
            let held: Vec<u64> = held.into_iter().chain([12]).collect();
            let mut fragments = Fragments::kept(&RangeTombstones::new(all.clone()), &readers(&held), |_, _| false);
            let mut written = Vec::new();
            let mut low = Vec::new();
            for cut in cuts {
                let cut = vec![b'a' + cut];
                for fragment in fragments.take_before(Some(&cut), false).0 {
                    prop_assert!(fragment.begin >= low && ends_behind(&cut, &fragment.begin));
                    prop_assert!(!fragment.end.is_empty() && fragment.end <= cut);
                    written.push(fragment);
                }
                low = cut;
            }
            written.extend(fragments.take_before(None, false).0);
            prop_assert!(fragments.is_empty());
            let kept = as_tombstones(&written);
            for key in universe() {
                for reader in &held {
                    let (wanted, found) = (newest(&all, &key, *reader), newest(&kept, &key, *reader));
                    prop_assert_eq!(found, wanted, "{:?} at {}", key, reader);
                }
            }
        }
    }

    #[test]
    fn what_all_readers_see_goes_at_the_bottom_only() {
        let set = RangeTombstones::new(vec![tombstone(b"a", b"d", 3), tombstone(b"b", b"e", 7)]);
        let kept = |seqs: &[u64], bottom: fn(&[u8], &[u8]) -> bool| {
            as_tombstones(&Fragments::kept(&set, &readers(seqs), bottom).take_before(None, false).0)
        };
        assert_eq!(kept(&[9], |_, _| true), []);
        assert_eq!(kept(&[9], |_, _| false), [tombstone(b"a", b"b", 3), tombstone(b"b", b"e", 7)]);
        assert_eq!(kept(&[5, 9], |_, _| true), [tombstone(b"b", b"e", 7)]);
        assert_eq!(kept(&[9], |begin, _| begin != b"d"), [tombstone(b"d", b"e", 7)]);
        let growing = RangeTombstones::new((1..=9).map(|at| tombstone(b"", &[b'0' + at], at.into())).collect());
        let one = Fragments::kept(&growing, &readers(&[9]), |_, _| false);
        assert_eq!(one.0, [Fragment { begin: vec![], end: b"9".to_vec(), seqs: readers(&[9]) }]);
    }
}
