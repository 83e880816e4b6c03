//! [`MergingIterator`]: several cursors as one, in both directions.
//!
//! Stands between the user's iterator (or a compaction) and memtables, tables and levels; belongs to one thread at a time.
//!
//! - Entries are totally ordered by (user key, tag descending, position in the list of children); equal internal keys, which the
//!   engine never makes, still come out once each, and in the reverse order when moving backward.
//! - Moving forward, every child stands at its first entry after the current one (the current child at it); moving
//!   backward, at its last before. A change of direction seeks all children but the current.
//! - The first error of any child ends it: from then on it is not valid and repeats that error.
//!
//! The valid children form a binary heap with the current one on top; a step moves that child and sifts it down. With one
//! child every call goes straight to it.

use super::InternalIterator;
use crate::base::key::{Tag, compare};
use crate::base::{Error, Result};
use crate::lsm::value::Value;
use std::cmp::Ordering;

/// Merges cursors into one, in internal key order.
pub struct MergingIterator {
    children: Vec<Box<dyn InternalIterator>>,
    /// Numbers of the valid children; the current one first. Unused with a single child.
    heap: Vec<usize>,
    backward: bool,
    error: Option<Error>,
    /// The current key during a change of direction.
    pivot: Vec<u8>,
}

impl MergingIterator {
    /// Merges `children`. Where two stand on equal internal keys, the one earlier in the list comes first.
    pub fn new(children: Vec<Box<dyn InternalIterator>>) -> MergingIterator {
        let heap = Vec::with_capacity(children.len());
        MergingIterator { children, heap, backward: false, error: None, pivot: Vec::new() }
    }

    /// Returns the only child, which then does everything itself.
    #[inline]
    fn only(&mut self) -> Option<&mut Box<dyn InternalIterator>> {
        match &mut self.children[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    #[inline]
    fn current(&self) -> &dyn InternalIterator {
        if let [only] = &self.children[..] {
            return &**only;
        }
        assert!(self.error.is_none(), "the cursor stands on no entry");
        &*self.children[*self.heap.first().expect("the cursor stands on an entry")]
    }

    /// Returns true if child `a` comes before child `b` in the present direction.
    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let (left, right) = (&self.children[a], &self.children[b]);
        let order = compare((left.key(), left.tag()), (right.key(), right.tag())).then(a.cmp(&b));
        order == if self.backward { Ordering::Greater } else { Ordering::Less }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut first = 2 * at + 1;
            if first >= self.heap.len() {
                return;
            }
            if first + 1 < self.heap.len() && self.before(self.heap[first + 1], self.heap[first]) {
                first += 1;
            }
            if !self.before(self.heap[first], self.heap[at]) {
                return;
            }
            self.heap.swap(first, at);
            at = first;
        }
    }

    /// Positions every child with `place` and finds the first of them.
    fn place_all(
        &mut self,
        backward: bool,
        mut place: impl FnMut(usize, &mut dyn InternalIterator) -> Result<()>,
    ) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.backward = backward;
        self.heap.clear();
        for (number, child) in self.children.iter_mut().enumerate() {
            if let Err(error) = place(number, &mut **child) {
                self.heap.clear();
                self.error = Some(error.clone());
                return Err(error);
            }
            if child.valid() {
                self.heap.push(number);
            }
        }
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        Ok(())
    }

    /// Moves on in the direction asked for.
    fn step(&mut self, backward: bool) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let Some(&current) = self.heap.first() else { return Ok(()) };
        if self.backward != backward {
            return self.turn(current, backward);
        }
        let child = &mut self.children[current];
        let moved = if backward { child.prev() } else { child.next() };
        if let Err(error) = moved {
            self.heap.clear();
            self.error = Some(error.clone());
            return Err(error);
        }
        if !self.children[current].valid() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    /// Moves on against the direction so far.
    fn turn(&mut self, current: usize, backward: bool) -> Result<()> {
        let mut pivot = std::mem::take(&mut self.pivot);
        pivot.clear();
        pivot.extend_from_slice(self.children[current].key());
        let tag = self.children[current].tag();
        let at_pivot =
            |child: &dyn InternalIterator| child.valid() && (child.key(), child.tag()) == (pivot.as_slice(), tag);
        let placed = self.place_all(backward, |number, child| match (number == current, backward) {
            (true, false) => child.next(),
            (true, true) => child.prev(),
            (false, false) => {
                child.seek(&pivot, tag)?;
                // An equal entry of an earlier child comes before the current one.
                if number < current && at_pivot(child) { child.next() } else { Ok(()) }
            }
            (false, true) => {
                child.seek_for_prev(&pivot, tag)?;
                if number > current && at_pivot(child) { child.prev() } else { Ok(()) }
            }
        });
        self.pivot = pivot;
        placed
    }
}

impl InternalIterator for MergingIterator {
    fn valid(&self) -> bool {
        match &self.children[..] {
            [only] => only.valid(),
            _ => !self.heap.is_empty(),
        }
    }

    fn seek_to_first(&mut self) -> Result<()> {
        if let Some(only) = self.only() {
            return only.seek_to_first();
        }
        self.place_all(false, |_, child| child.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        if let Some(only) = self.only() {
            return only.seek_to_last();
        }
        self.place_all(true, |_, child| child.seek_to_last())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        if let Some(only) = self.only() {
            return only.seek(key, tag);
        }
        self.place_all(false, |_, child| child.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        if let Some(only) = self.only() {
            return only.seek_for_prev(key, tag);
        }
        self.place_all(true, |_, child| child.seek_for_prev(key, tag))
    }

    fn next(&mut self) -> Result<()> {
        if let Some(only) = self.only() {
            return only.next();
        }
        self.step(false)
    }

    fn prev(&mut self) -> Result<()> {
        if let Some(only) = self.only() {
            return only.prev();
        }
        self.step(true)
    }

    fn key(&self) -> &[u8] {
        self.current().key()
    }

    fn tag(&self) -> Tag {
        self.current().tag()
    }

    fn value(&self) -> &[u8] {
        self.current().value()
    }

    fn value_owned(&self) -> Value {
        self.current().value_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Step, VecIterator, steps, walk};
    use super::*;
    use proptest::prelude::*;

    type Entries = Vec<(Vec<u8>, Tag, Vec<u8>)>;

    fn children() -> impl Strategy<Value = Vec<Entries>> {
        let entry = (prop::collection::vec(0u8..3, 0..3), 0u64..4, any::<bool>());
        let child = prop::collection::vec(entry, 0..12);
        prop::collection::vec(child, 0..6).prop_map(|children| {
            let numbered = children.into_iter().enumerate();
            numbered.map(|(number, child)| VecIterator::sorted(child, number as u8)).collect()
        })
    }

    /// All entries in the order of the merge: equal internal keys by child.
    fn merged(children: &[Entries]) -> Entries {
        let mut all: Entries = children.concat();
        all.sort_by(|a, b| compare((&a.0, a.1), (&b.0, b.1)));
        all
    }

    fn merging(children: &[Entries]) -> MergingIterator {
        let children = children.iter().map(|child| Box::new(VecIterator::new(child.clone())) as _);
        MergingIterator::new(children.collect())
    }

    proptest! {
        #[test]
        fn matches_a_sorted_vec(children in children(), steps in steps()) {
            let mut model = VecIterator::new(merged(&children));
            // With equal keys "last at or before" is the last child's, which the model's order says too.
            walk(&mut merging(&children), &mut model, &steps);
        }

        #[test]
        fn an_error_ends_it(children in children(), steps in steps(), fuse in 0usize..30) {
            prop_assume!(!children.is_empty());
            let mut cursors: Vec<Box<dyn InternalIterator>> = Vec::new();
            for (number, child) in children.iter().enumerate() {
                let mut cursor = VecIterator::new(child.clone());
                cursor.fail_after = (number == children.len() / 2).then_some(fuse);
                cursors.push(Box::new(cursor));
            }
            let mut merging = MergingIterator::new(cursors);
            let mut failed = false;
            for step in steps.iter().chain(&[Step::First, Step::Last, Step::Next, Step::Prev]) {
                let result = step.take(&mut merging);
                prop_assert!(!failed || result.is_err(), "an error was forgotten");
                failed |= result.is_err();
                prop_assert!(!failed || !merging.valid());
            }
        }
    }

    #[test]
    fn nothing_to_merge_is_never_valid() {
        let mut none = merging(&[]);
        for step in [Step::First, Step::Last, Step::Next, Step::Prev] {
            step.take(&mut none).unwrap();
            assert!(!none.valid());
        }
    }
}
