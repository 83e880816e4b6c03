//! [`Writes`]: what a transaction has written so far, in the order of the calls and by key.
//!
//! Belongs to one transaction; its iterators share it as it was when they were made (a later write copies it if one of them
//! is still alive).
//!
//! - The operations lie in a batch as they will lie in the log; the index leads from a key to the last of its operations.
//! - A range delete takes the keys it covers out of the index: what the index leads to is newer than every range delete of
//!   the transaction, and each of these is newer than all that was committed.
//! - The history holds, for each operation, where it lies and which ones it replaced: taking operations out again from the end
//!   gives back each earlier state.

use super::reads::Ranges;
use crate::base::Result;
use crate::base::key::{Tag, ValueKind};
use crate::lsm::batch::WriteBatch;
use crate::lsm::batch::format::Operation;
use crate::lsm::iter::InternalIterator;
use crate::lsm::iterator::OWN;
use crate::lsm::ranges::{Edge, RangeTombstones, Tombstone};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes that an entry of index and history takes beside its key, roughly.
const ENTRY_BYTES: usize = 96;

/// The operations of a transaction, indexed by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Writes {
    batch: WriteBatch,
    /// By keyspace and key, where the last operation lies.
    index: BTreeMap<u32, BTreeMap<Vec<u8>, usize>>,
    deleted: BTreeMap<u32, Deleted>,
    history: Vec<Step>,
    bytes: usize,
    /// The batch may hold more than the index leads to, or name keyspaces that nothing is written to.
    untidy: bool,
}

#[derive(Clone, Debug)]
struct Step {
    at: usize,
    replaced: Replaced,
}

/// What an operation took out of the index.
#[derive(Clone, Debug)]
enum Replaced {
    /// Where the operation on its key lay, if there was one.
    Key(Option<usize>),
    /// Where those on the keys of its range lay.
    Range(Vec<(Vec<u8>, usize)>),
}

/// The range deletes of a keyspace: where they lie, and what they cover together.
#[derive(Clone, Debug, Default)]
struct Deleted {
    at: Vec<usize>,
    ranges: Ranges,
}

impl Writes {
    /// Adds an operation on a keyspace of `engine`.
    ///
    /// # Errors
    /// It is over a limit; nothing was added.
    pub(super) fn push(&mut self, engine: &Arc<()>, operation: Operation<'_>) -> Result<()> {
        let at = self.batch.try_push(engine, operation)?;
        let keys = self.index.entry(operation.keyspace).or_default();
        let replaced = if operation.kind == ValueKind::RangeDelete {
            let deleted = self.deleted.entry(operation.keyspace).or_default();
            deleted.at.push(at);
            deleted.ranges.cover(operation.key, Edge::of_end(operation.value));
            let range = (Bound::Included(operation.key.to_vec()), above(operation.value));
            let covered = keys.extract_if(range, |_, _| true);
            Replaced::Range(covered.collect())
        } else {
            Replaced::Key(match keys.get_mut(operation.key) {
                Some(last) => Some(std::mem::replace(last, at)),
                None => keys.insert(operation.key.to_vec(), at),
            })
        };
        self.untidy |=
            !matches!(&replaced, Replaced::Key(None)) && !matches!(&replaced, Replaced::Range(none) if none.is_empty());
        self.bytes += Writes::cost(&operation);
        self.history.push(Step { at, replaced });
        Ok(())
    }

    /// Returns true if a range delete covers `key`, which has no later operation.
    pub(super) fn is_deleted(&self, keyspace: u32, key: &[u8]) -> bool {
        self.deleted.get(&keyspace).is_some_and(|deleted| deleted.ranges.contains(key))
    }

    /// Returns the range deletes of a keyspace, as tombstones newer than all that was committed.
    pub(super) fn tombstones(&self, keyspace: u32) -> Option<RangeTombstones> {
        let ranges = self.deleted.get(&keyspace)?.ranges.iter();
        let tombstone = |(low, edge): (&[u8], Edge<'_>)| {
            let end = match edge {
                Edge::Below(end) => end,
                Edge::Through(_) | Edge::End => &[],
            };
            Tombstone { begin: low.into(), end: end.into(), seq: OWN }
        };
        let all: Vec<Tombstone> = ranges.map(tombstone).collect();
        (!all.is_empty()).then(|| RangeTombstones::new(all))
    }

    /// Returns how many bytes of memory `operation` takes.
    pub(super) fn cost(operation: &Operation<'_>) -> usize {
        2 * operation.key.len() + operation.value.len() + ENTRY_BYTES
    }

    /// Returns the last operation on `key`.
    pub(super) fn get(&self, keyspace: u32, key: &[u8]) -> Option<Operation<'_>> {
        let at = self.index.get(&keyspace)?.get(key)?;
        Some(self.batch.operation_at(*at))
    }

    /// Returns true if something may have been merged in `keyspace`.
    pub(super) fn merges(&self, keyspace: u32) -> bool {
        self.batch.merged().contains(&keyspace)
    }

    /// Returns how many operations were added, replaced ones included.
    pub(super) fn len(&self) -> usize {
        self.history.len()
    }

    /// Takes out again what was added after the first `len` operations.
    pub(super) fn truncate(&mut self, len: usize) {
        assert!(len <= self.history.len(), "there were never {len} operations");
        while self.history.len() > len {
            let Some(Step { at, replaced }) = self.history.pop() else { return };
            let operation = self.batch.operation_at(at);
            self.bytes -= Writes::cost(&operation);
            let keys = self.index.get_mut(&operation.keyspace).expect("the operation was indexed");
            match replaced {
                Replaced::Key(Some(before)) => {
                    *keys.get_mut(operation.key).expect("the operation was indexed") = before;
                }
                Replaced::Key(None) => {
                    keys.remove(operation.key);
                }
                Replaced::Range(covered) => {
                    keys.extend(covered);
                    let deleted = self.deleted.get_mut(&operation.keyspace).expect("the operation was noted");
                    deleted.at.pop();
                    deleted.ranges = Ranges::default();
                    for at in &deleted.at {
                        let before = self.batch.operation_at(*at);
                        deleted.ranges.cover(before.key, Edge::of_end(before.value));
                    }
                }
            }
            self.batch.pop_at(at);
            self.untidy = true;
        }
    }

    /// Returns how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the range deletes, and behind them the last operation of each key, to be committed for `engine`.
    pub(super) fn into_batch(self, engine: &Arc<()>) -> Result<WriteBatch> {
        if !self.untidy {
            return Ok(self.batch);
        }
        let mut last = WriteBatch::with_capacity(self.batch.bytes());
        let ranges = self.deleted.values().flat_map(|deleted| &deleted.at);
        for at in ranges.chain(self.index.values().flat_map(BTreeMap::values)) {
            last.try_push(engine, self.batch.operation_at(*at))?;
        }
        Ok(last)
    }
}

/// Returns the bound of a range that ends before `end`, if that is not empty.
fn above(end: &[u8]) -> Bound<Vec<u8>> {
    if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.to_vec()) }
}

/// A cursor over the last operations of a keyspace's keys, as entries at [`OWN`].
pub(super) struct OwnWrites {
    writes: Arc<Writes>,
    keyspace: u32,
    key: Vec<u8>,
    /// Where the operation lies; `None` if the cursor stands on no entry.
    at: Option<usize>,
}

impl OwnWrites {
    pub(super) fn new(writes: Arc<Writes>, keyspace: u32) -> OwnWrites {
        OwnWrites { writes, keyspace, key: Vec::new(), at: None }
    }

    /// Stands on the entry that `find` finds among the keys.
    fn place<'a>(
        &'a mut self,
        find: impl FnOnce(&'a BTreeMap<Vec<u8>, usize>, &[u8]) -> Option<(&'a Vec<u8>, &'a usize)>,
    ) {
        let OwnWrites { writes, keyspace, key, at } = self;
        let found = writes.index.get(keyspace).and_then(|keys| find(keys, key));
        *at = found.map(|(_, at)| *at);
        if let Some((found, _)) = found {
            key.clear();
            key.extend_from_slice(found);
        }
    }

    fn operation(&self) -> Operation<'_> {
        self.writes.batch.operation_at(self.at.expect("the cursor stands on an entry"))
    }

    fn own_tag(&self, key: &[u8]) -> Option<Tag> {
        self.writes.get(self.keyspace, key).map(|operation| Tag::new(OWN, operation.kind))
    }
}

impl InternalIterator for OwnWrites {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.place(|keys, _| keys.first_key_value());
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.place(|keys, _| keys.last_key_value());
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        // Tags descend: the entry of `key` itself lies before the place sought if its tag is larger.
        let before = self.own_tag(key).is_some_and(|own| own > tag);
        let low = if before { Bound::Excluded(key) } else { Bound::Included(key) };
        self.place(|keys, _| keys.range::<[u8], _>((low, Bound::Unbounded)).next());
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let behind = self.own_tag(key).is_some_and(|own| own < tag);
        let high = if behind { Bound::Excluded(key) } else { Bound::Included(key) };
        self.place(|keys, _| keys.range::<[u8], _>((Bound::Unbounded, high)).next_back());
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        if self.at.is_some() {
            self.place(|keys, key| keys.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).next());
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if self.at.is_some() {
            self.place(|keys, key| keys.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key))).next_back());
        }
        Ok(())
    }

    fn key(&self) -> &[u8] {
        assert!(self.at.is_some(), "the cursor stands on no entry");
        &self.key
    }

    fn tag(&self) -> Tag {
        Tag::new(OWN, self.operation().kind)
    }

    fn value(&self) -> &[u8] {
        self.operation().value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::iter::testing::{VecIterator, steps, walk};
    use proptest::prelude::*;

    fn operation<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Operation<'a> {
        let kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
        Operation { keyspace: 0, kind, key, value: value.unwrap_or_default() }
    }

    type Raw = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn written(raw: &Raw) -> Writes {
        let (mut writes, engine) = (Writes::default(), Arc::default());
        for (key, value) in raw {
            writes.push(&engine, operation(key, value.as_deref())).unwrap();
        }
        writes
    }

    fn model(raw: &Raw) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        raw.iter().cloned().collect()
    }

    fn raw() -> impl Strategy<Value = Raw> {
        let key = prop::collection::vec(0u8..3, 0..3);
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..3));
        prop::collection::vec((key, value), 0..30)
    }

    proptest! {
        #[test]
        fn taking_out_again_gives_back_what_was(raw in raw(), keep in 0usize..30) {
            let keep = keep.min(raw.len());
            let mut writes = written(&raw);
            writes.truncate(keep);
            let kept = raw[..keep].to_vec();
            let wanted = model(&kept);
            for (key, _) in &raw {
                let found = writes.get(0, key).map(|op| (op.kind == ValueKind::Put).then(|| op.value.to_vec()));
                prop_assert_eq!(found.as_ref(), wanted.get(key));
            }
            prop_assert_eq!(writes.bytes(), written(&kept).bytes());
            let batch = writes.into_batch(&Arc::default()).unwrap();
            let committed: BTreeMap<_, _> =
                batch.iter().map(|op| (op.key.to_vec(), (op.kind == ValueKind::Put).then(|| op.value.to_vec()))).collect();
            prop_assert_eq!(batch.len(), committed.len(), "each key is committed once");
            prop_assert_eq!(committed, wanted);
        }

        #[test]
        fn cursor_matches_a_sorted_vec(raw in raw(), steps in steps()) {
            let entries = model(&raw).into_iter().map(|(key, value)| {
                let kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
                (key, Tag::new(OWN, kind), value.unwrap_or_default())
            });
            let mut model = VecIterator::new(entries.collect());
            walk(&mut OwnWrites::new(Arc::new(written(&raw)), 0), &mut model, &steps);
        }
    }
}
