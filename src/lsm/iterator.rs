//! [`DbIterator`]: what a user walks: keys in order with the value each had at one sequence number.
//!
//! Owned by one thread at a time, and independent of the engine's life: it holds the memtables and tables it reads. It
//! does no I/O before the first step.
//!
//! - An entry is returned once, from the front or from the back, and never a deleted or hidden one.
//! - After an error it stays ended, in both directions.
//!
//! Each end has its own cursor, made when first used, so that a walk in one direction costs one cursor. A cursor walks
//! internal entries (key, then newest version first). Forward, the first version at or below its sequence number decides
//! about a key and the others are skipped, by seeking once they are many. Backward, versions come oldest first, so the
//! cursor collects the newest visible one of a key and stops before the key; going forward again it must first pass the
//! key it stands before.
//!
//! Where the newest visible version is an operand of a merge, the cursor gathers operands down to the version they are merged
//! onto and keeps key and value aside; forward it stands behind that operand then. A value that may expire is kept aside too.
//!
//! What a range tombstone hides never comes out of the merge (`ranges`), so that nothing here knows of them.
//!
//! A transaction's iterator reads its own writes as one more source, whose entries have the sequence number `OWN`, and is
//! told of by a `Recorder`: which part of the key space it has looked at.
//!
//! Source: LevelDB `db/db_iter.cc`.

use super::iter::{InternalIterator, MergingIterator};
use super::merge::Merger;
use super::ranges::Edge;
use super::table::TableInfo;
use super::ttl::{self, At};
use super::value::Value;
use crate::base::key::{SeqNum, Tag, ValueKind};
use crate::base::{Error, Result};
use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The sequence number of what a transaction has written itself. No commit ever has it.
pub(super) const OWN: SeqNum = SeqNum::MAX;

/// Versions of one key passed one by one before the cursor seeks behind them.
const SKIPS_MAX: usize = 8;

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Value,
}

/// The part of the key space that is walked: from `low` to below `high`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

impl Bounds {
    pub(super) fn from_range<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Bounds {
        let successor = |key: &K| [key.as_ref(), b"\0"].concat();
        let low = match range.start_bound() {
            Bound::Included(key) => key.as_ref().to_vec(),
            Bound::Excluded(key) => successor(key),
            Bound::Unbounded => Vec::new(),
        };
        let high = match range.end_bound() {
            Bound::Included(key) => Some(successor(key)),
            Bound::Excluded(key) => Some(key.as_ref().to_vec()),
            Bound::Unbounded => None,
        };
        Bounds { low, high }
    }

    /// Returns the bounds of `key` alone.
    pub(super) fn of_key(key: &[u8]) -> Bounds {
        Bounds { low: key.to_vec(), high: Some([key, b"\0"].concat()) }
    }

    pub(super) fn from_prefix(prefix: &[u8]) -> Bounds {
        // The first key behind the prefix: its last byte that is not 0xff, one higher, and nothing after it.
        let high = prefix.iter().rposition(|byte| *byte != 0xff).map(|at| {
            let mut high = prefix[..=at].to_vec();
            high[at] += 1;
            high
        });
        Bounds { low: prefix.to_vec(), high }
    }

    /// Returns true if keys of the table may lie within, or its range tombstones over some.
    pub(super) fn meet(&self, table: &TableInfo) -> bool {
        table.reaches(&self.low) && self.contains_below_high(table.low())
    }

    /// Returns where it begins.
    pub(super) fn low(&self) -> &[u8] {
        &self.low
    }

    /// Returns where it ends.
    pub(super) fn edge(&self) -> Edge<'_> {
        self.high.as_deref().map_or(Edge::End, Edge::Below)
    }

    pub(super) fn contains_below_high(&self, key: &[u8]) -> bool {
        self.high.as_deref().is_none_or(|high| key < high)
    }
}

/// Learns what a cursor has looked at.
pub(super) trait Recorder: Send + Sync {
    /// Every key from `low` to `edge` was looked for; the cursor fails if this does.
    fn passed(&self, low: &[u8], edge: Edge<'_>) -> Result<()>;
}

/// What of its source an iterator shows.
#[derive(Clone)]
pub(super) struct View {
    pub(super) seq: SeqNum,
    /// What expires by then is not shown.
    pub(super) moment: u64,
    /// The source has entries at [`OWN`].
    pub(super) own: bool,
    pub(super) recorder: Option<Arc<dyn Recorder>>,
    pub(super) merger: Merger,
}

impl View {
    pub(super) fn at(At { seq, moment }: At, merger: Merger) -> View {
        View { seq, moment, own: false, recorder: None, merger }
    }

    #[inline]
    fn shows(&self, tag: Tag) -> bool {
        tag.seq() <= self.seq || (self.own && tag.seq() == OWN)
    }

    /// Returns the tag before which no visible version of a key sorts.
    fn newest(&self) -> Tag {
        Tag::seek(if self.own { OWN } else { self.seq })
    }
}

/// Makes cursors over everything that an iterator reads.
pub(super) trait Source: Send + Sync {
    /// What range tombstones hide from a reader at `seq` is left out.
    fn open(&self, seq: SeqNum) -> Result<MergingIterator>;
}

/// What an iterator reads of a closed engine or a dropped keyspace.
struct FailedSource(Error);

impl Source for FailedSource {
    fn open(&self, _seq: SeqNum) -> Result<MergingIterator> {
        Err(self.0.clone())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// The internal cursor stands on the current entry.
    Forward,
    /// The internal cursor stands before every version of the current key, which is kept aside.
    Backward,
    /// The internal cursor stands on or behind the newest version of the current key, which is kept aside.
    Merged,
}

/// Moves freely over user-visible entries and lends them without a copy; see [`DbIterator::into_cursor`].
pub struct Cursor {
    iter: MergingIterator,
    view: View,
    bounds: Bounds,
    direction: Direction,
    valid: bool,
    /// Forward: scratch, the key whose other versions are skipped. Else the current key.
    key: Vec<u8>,
    /// Unless forward: the current value.
    value: Value,
    /// Scratch: operands of a merge.
    operands: Vec<Value>,
    /// Where the movement began that is to be recorded.
    origin: Vec<u8>,
    failed: Option<Error>,
}

impl Cursor {
    pub(super) fn new(iter: MergingIterator, view: View, bounds: Bounds) -> Cursor {
        let (key, origin, value, operands) = (Vec::new(), Vec::new(), Value::default(), Vec::new());
        let direction = Direction::Forward;
        Cursor { iter, view, bounds, direction, valid: false, key, value, operands, origin, failed: None }
    }

    /// Returns true if the cursor stands on an entry.
    pub fn valid(&self) -> bool {
        self.valid
    }

    /// Returns the key it stands on.
    ///
    /// # Panics
    /// If the cursor is not valid.
    pub fn key(&self) -> &[u8] {
        assert!(self.valid, "key of a cursor that stands on no entry");
        match self.direction {
            Direction::Forward => self.iter.key(),
            Direction::Backward | Direction::Merged => &self.key,
        }
    }

    /// Returns the value it stands on.
    ///
    /// # Panics
    /// If the cursor is not valid.
    pub fn value(&self) -> &[u8] {
        assert!(self.valid, "value of a cursor that stands on no entry");
        match self.direction {
            Direction::Forward => self.iter.value(),
            Direction::Backward | Direction::Merged => &self.value,
        }
    }

    /// Returns the value so that it outlives the cursor.
    ///
    /// # Panics
    /// If the cursor is not valid.
    pub fn value_owned(&self) -> Value {
        assert!(self.valid, "value of a cursor that stands on no entry");
        match self.direction {
            Direction::Forward => self.iter.value_owned(),
            Direction::Backward | Direction::Merged => self.value.clone(),
        }
    }

    /// Moves to the first entry.
    ///
    /// # Errors
    /// Damage or an I/O error of a table; every later call repeats it.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.seek(&[])
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// As [`seek_to_first`](Cursor::seek_to_first).
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.guard(|cursor| {
            match cursor.bounds.high.take() {
                // Every version of `high` sorts behind its seek tag with the largest sequence number.
                Some(high) => {
                    let sought = cursor.seek_before(&high);
                    cursor.bounds.high = Some(high);
                    sought?;
                }
                None => cursor.iter.seek_to_last()?,
            }
            cursor.find_backward()?;
            cursor.record_backward(cursor.bounds.edge())
        })
    }

    /// Moves to the first entry at or after `key`.
    ///
    /// # Errors
    /// As [`seek_to_first`](Cursor::seek_to_first).
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.guard(|cursor| {
            let tag = cursor.view.newest();
            cursor.iter.seek(key.max(&cursor.bounds.low), tag)?;
            cursor.find_forward(false)?;
            cursor.record_forward(key.max(&cursor.bounds.low))
        })
    }

    /// Moves to the last entry at or before `key`.
    ///
    /// # Errors
    /// As [`seek_to_first`](Cursor::seek_to_first).
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        if !self.bounds.contains_below_high(key) {
            return self.seek_to_last();
        }
        self.guard(|cursor| {
            // The oldest possible version of `key` sorts last among its versions.
            cursor.iter.seek_for_prev(key, Tag::new(SeqNum(0), ValueKind::Delete))?;
            cursor.find_backward()?;
            cursor.record_backward(Edge::Through(key))
        })
    }

    /// Moves to the next entry.
    ///
    /// # Errors
    /// As [`seek_to_first`](Cursor::seek_to_first).
    #[expect(clippy::should_implement_trait, reason = "a cursor lends its entry, which Iterator cannot")]
    pub fn next(&mut self) -> Result<()> {
        if !self.valid {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        self.guard(|cursor| {
            cursor.note_origin();
            if cursor.direction == Direction::Forward {
                cursor.key.clear();
                cursor.key.extend_from_slice(cursor.iter.key());
                cursor.iter.next()?;
            } else if cursor.direction == Direction::Merged {
                // What it stands on is skipped if it is another version of the key.
            } else if cursor.iter.valid() {
                cursor.iter.next()?;
            } else {
                cursor.iter.seek_to_first()?;
            }
            cursor.find_forward(true)?;
            cursor.record_forward(&cursor.origin)
        })
    }

    /// Moves to the entry before.
    ///
    /// # Errors
    /// As [`seek_to_first`](Cursor::seek_to_first).
    pub fn prev(&mut self) -> Result<()> {
        if !self.valid {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        self.guard(|cursor| {
            cursor.note_origin();
            if cursor.direction == Direction::Forward {
                cursor.key.clear();
                cursor.key.extend_from_slice(cursor.iter.key());
                while cursor.iter.valid() && cursor.iter.key() == cursor.key.as_slice() {
                    cursor.iter.prev()?;
                }
            } else if cursor.direction == Direction::Merged {
                let key = std::mem::take(&mut cursor.key);
                cursor.seek_before(&key)?;
                cursor.key = key;
            }
            cursor.find_backward()?;
            cursor.record_backward(Edge::Through(&cursor.origin))
        })
    }

    /// Remembers the current key, if anyone is to be told of the movement from it.
    fn note_origin(&mut self) {
        if self.view.recorder.is_none() {
            return;
        }
        let mut origin = std::mem::take(&mut self.origin);
        origin.clear();
        origin.extend_from_slice(self.key());
        self.origin = origin;
    }

    /// Records a movement from `from` to the entry it stands on now, or to the end.
    fn record_forward(&self, from: &[u8]) -> Result<()> {
        let Some(recorder) = &self.view.recorder else { return Ok(()) };
        recorder.passed(from, if self.valid { Edge::Through(self.key()) } else { self.bounds.edge() })
    }

    /// Records a movement back from `from` to the entry it stands on now, or to the beginning.
    fn record_backward(&self, from: Edge<'_>) -> Result<()> {
        let Some(recorder) = &self.view.recorder else { return Ok(()) };
        recorder.passed(if self.valid { self.key() } else { &self.bounds.low }, from)
    }

    /// Runs one movement; an error leaves the cursor ended for good.
    fn guard(&mut self, movement: impl FnOnce(&mut Cursor) -> Result<()>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let moved = movement(self);
        if let Err(error) = &moved {
            self.valid = false;
            self.failed = Some(error.clone());
        }
        moved
    }

    /// Moves the internal cursor to the last version of the last key before `key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let newest = Tag::seek(SeqNum::MAX);
        self.iter.seek_for_prev(key, newest)?;
        assert!(!self.iter.valid() || self.iter.key() < key, "no version of a key sorts before its seek tag");
        Ok(())
    }

    /// Goes forward to the first visible entry; with `skip`, versions of `self.key` do not count.
    fn find_forward(&mut self, mut skip: bool) -> Result<()> {
        self.direction = Direction::Forward;
        self.valid = false;
        let mut skips = 0;
        while self.iter.valid() {
            let (key, tag) = (self.iter.key(), self.iter.tag());
            if skip && key == self.key.as_slice() {
                skips += 1;
                if skips > SKIPS_MAX {
                    skips = 0;
                    self.iter.seek(&self.key, Tag::new(SeqNum(0), ValueKind::Delete))?;
                    // Only an entry with sequence number 0 can still be of this key.
                    while self.iter.valid() && self.iter.key() == self.key.as_slice() {
                        self.iter.next()?;
                    }
                    continue;
                }
            } else if !self.bounds.contains_below_high(key) {
                return Ok(());
            } else if !self.view.shows(tag) {
                // A newer version than this reader may see; the one it sees may follow.
            } else if tag.kind() == ValueKind::Put {
                self.valid = true;
                return Ok(());
            } else if tag.kind() == ValueKind::Merge {
                return self.merge_forward();
            } else if tag.kind() == ValueKind::PutTtl && self.keep_alive() {
                return Ok(());
            } else {
                let key = self.iter.key();
                self.key.clear();
                self.key.extend_from_slice(key);
                (skip, skips) = (true, 0);
            }
            self.iter.next()?;
        }
        Ok(())
    }

    /// Merges the versions of the key whose newest visible one, an operand, it stands on.
    #[cold]
    fn merge_forward(&mut self) -> Result<()> {
        self.direction = Direction::Merged;
        self.key.clear();
        self.key.extend_from_slice(self.iter.key());
        self.operands.clear();
        let mut base = None;
        while self.iter.valid() && self.iter.key() == self.key.as_slice() {
            let tag = self.iter.tag();
            if !self.view.shows(tag) {
                // Between a transaction's own operand and what it sees of others.
            } else if tag.kind() == ValueKind::Merge {
                self.operands.push(self.iter.value_owned());
            } else {
                base = self.base();
                break;
            }
            self.iter.next()?;
        }
        self.operands.reverse();
        self.merge(base)
    }

    /// Keeps key and value of the entry it stands on aside, which may expire; returns false if it has.
    #[cold]
    fn keep_alive(&mut self) -> bool {
        let Some(value) = self.base() else { return false };
        (self.direction, self.value, self.valid) = (Direction::Merged, value, true);
        self.key.clear();
        self.key.extend_from_slice(self.iter.key());
        true
    }

    /// Returns the value that the entry it stands on, no operand, gives its key.
    fn base(&self) -> Option<Value> {
        match self.iter.tag().kind() {
            ValueKind::Put => Some(self.iter.value_owned()),
            ValueKind::PutTtl => ttl::alive(&self.iter.value_owned(), self.view.moment),
            _ => None,
        }
    }

    /// Keeps aside what the operands gathered make of `base`.
    #[cold]
    fn merge(&mut self, base: Option<Value>) -> Result<()> {
        self.value = self.view.merger.full(&self.key, base.as_deref(), &self.operands)?;
        self.operands.clear();
        self.valid = true;
        Ok(())
    }

    /// Goes backward to the newest visible version of the last key that has one, and on to the entry before that key.
    fn find_backward(&mut self) -> Result<()> {
        self.direction = Direction::Backward;
        self.valid = false;
        // The kind of the newest version so far, and of the one that operands gathered lie upon.
        let (mut found, mut base): (Option<ValueKind>, Option<ValueKind>) = (None, None);
        while self.iter.valid() {
            let (key, tag) = (self.iter.key(), self.iter.tag());
            if found.is_some() && key != self.key.as_slice() {
                if found != Some(ValueKind::Delete) {
                    break;
                }
                found = None;
            }
            if key < self.bounds.low.as_slice() {
                break;
            }
            if self.view.shows(tag) {
                if found.is_none() {
                    self.key.clear();
                    self.key.extend_from_slice(key);
                }
                let mut kind = tag.kind();
                if kind == ValueKind::Put {
                    self.value = self.iter.value_owned();
                } else if kind == ValueKind::PutTtl {
                    let value = self.base();
                    kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
                    self.value = value.unwrap_or_default();
                } else if kind == ValueKind::Merge {
                    if found != Some(ValueKind::Merge) {
                        self.operands.clear();
                        base = found;
                    }
                    self.operands.push(self.iter.value_owned());
                }
                found = Some(kind);
            }
            self.iter.prev()?;
        }
        if found == Some(ValueKind::Merge) {
            let base = (base == Some(ValueKind::Put)).then(|| std::mem::take(&mut self.value));
            return self.merge(base);
        }
        self.valid = found == Some(ValueKind::Put);
        Ok(())
    }
}

/// One end of a [`DbIterator`].
#[derive(Default)]
struct End {
    /// Made when first used.
    cursor: Option<Cursor>,
    /// True if the cursor was sought and the entry it stands on was not returned yet.
    pending: bool,
}

/// Walks entries in key order, from both ends; see [`Engine::iter`](super::Engine::iter).
///
/// [`seek`](DbIterator::seek) moves the front, [`seek_for_prev`](DbIterator::seek_for_prev) the back; a [`Cursor`] moves
/// freely and lends keys and values without copying them.
pub struct DbIterator {
    source: Box<dyn Source>,
    view: View,
    bounds: Bounds,
    front: End,
    back: End,
    ended: bool,
    failed: bool,
}

impl DbIterator {
    pub(super) fn new(source: Box<dyn Source>, view: View, bounds: Bounds) -> DbIterator {
        let (front, back) = (End::default(), End::default());
        DbIterator { source, view, bounds, front, back, ended: false, failed: false }
    }

    /// Returns an iterator whose only item is `error`.
    pub(super) fn failed(error: Error, bounds: Bounds) -> DbIterator {
        DbIterator::new(
            Box::new(FailedSource(error)),
            View::at(At { seq: SeqNum(0), moment: 0 }, Merger::default()),
            bounds,
        )
    }

    /// Turns this iterator into a cursor over the same entries, which stands on none until a seek.
    ///
    /// # Errors
    /// The engine was closed before the iterator was made.
    pub fn into_cursor(self) -> Result<Cursor> {
        self.open_cursor()
    }

    /// Moves the front, so that `next` returns the first entry at or after `key` that the back has not passed.
    ///
    /// # Errors
    /// Damage or an I/O error of a table; the iterator is ended.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.seek_end(true, key.as_ref())
    }

    /// Moves the back, so that `next_back` returns the last entry at or before `key` that the front has not passed.
    ///
    /// # Errors
    /// As [`seek`](DbIterator::seek).
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.seek_end(false, key.as_ref())
    }

    fn seek_end(&mut self, at_front: bool, key: &[u8]) -> Result<()> {
        let sought = self.try_seek_end(at_front, key);
        self.ended = sought.is_err();
        self.failed |= sought.is_err();
        sought
    }

    fn try_seek_end(&mut self, at_front: bool, key: &[u8]) -> Result<()> {
        let new = if self.end_mut(at_front).cursor.is_none() { Some(self.open_cursor()?) } else { None };
        let end = self.end_mut(at_front);
        let cursor = end.cursor.get_or_insert_with(|| new.expect("opened because there was none"));
        end.pending = true;
        if at_front { cursor.seek(key) } else { cursor.seek_for_prev(key) }
    }

    fn open_cursor(&self) -> Result<Cursor> {
        Ok(Cursor::new(self.source.open(self.view.seq)?, self.view.clone(), self.bounds.clone()))
    }

    fn end_mut(&mut self, at_front: bool) -> &mut End {
        if at_front { &mut self.front } else { &mut self.back }
    }

    fn step(&mut self, at_front: bool) -> Option<Result<Entry>> {
        if self.ended || self.failed {
            return None;
        }
        match self.try_step(at_front) {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }

    fn try_step(&mut self, at_front: bool) -> Result<Option<Entry>> {
        let new = if self.end_mut(at_front).cursor.is_none() { Some(self.open_cursor()?) } else { None };
        let (end, other) = if at_front { (&mut self.front, &self.back) } else { (&mut self.back, &self.front) };
        match (&mut end.cursor, new) {
            (cursor, Some(new)) => {
                let cursor = cursor.insert(new);
                if at_front { cursor.seek_to_first()? } else { cursor.seek_to_last()? }
            }
            (Some(_), None) if end.pending => {}
            (Some(cursor), None) => {
                if at_front {
                    cursor.next()?
                } else {
                    cursor.prev()?
                }
            }
            (None, None) => unreachable!("a missing cursor was opened"),
        }
        end.pending = false;
        let cursor = end.cursor.as_ref().expect("just used");
        if !cursor.valid() || other.passed(cursor.key(), !at_front) {
            return Ok(None);
        }
        Ok(Some(Entry { key: cursor.key().to_vec(), value: cursor.value_owned() }))
    }
}

impl End {
    /// Returns true if this end, the front or the back, leaves `key` to itself.
    fn passed(&self, key: &[u8], at_front: bool) -> bool {
        let Some(cursor) = &self.cursor else { return false };
        if !cursor.valid() {
            return true;
        }
        match key.cmp(cursor.key()) {
            Ordering::Equal => !self.pending,
            Ordering::Less => at_front,
            Ordering::Greater => !at_front,
        }
    }
}

impl Iterator for DbIterator {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.step(true)
    }
}

impl DoubleEndedIterator for DbIterator {
    fn next_back(&mut self) -> Option<Result<Entry>> {
        self.step(false)
    }
}

impl std::iter::FusedIterator for DbIterator {}

impl std::fmt::Debug for DbIterator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DbIterator").field("seq", &self.view.seq).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_bounds_end_behind_the_prefix() {
        assert_eq!(Bounds::from_prefix(b"ab").high.as_deref(), Some(&b"ac"[..]));
        assert_eq!(Bounds::from_prefix(b"a\xff\xff").high.as_deref(), Some(&b"b"[..]));
        assert_eq!(Bounds::from_prefix(b"\xff").high, None);
        assert_eq!(Bounds::from_prefix(b""), Bounds::default());
    }

    #[test]
    fn inclusive_and_exclusive_ends_become_half_open() {
        let bounds = Bounds::from_range::<&[u8]>(&(Bound::Excluded(&b"a"[..]), Bound::Included(&b"b"[..])));
        assert_eq!(bounds, Bounds { low: b"a\0".to_vec(), high: Some(b"b\0".to_vec()) });
    }
}
