//! [`Uncovered`]: a cursor over one source that leaves out what range tombstones hide from its reader.
//!
//! Stands between a source and the merge, in both directions, and only where there are tombstones: without any, reading
//! costs nothing. What it leaves out, no reader at its sequence number or later sees, in any version.
//!
//! - What a tombstone of a source above covers is passed by seeking, since all of it is older: whole blocks and tables are
//!   never read.
//! - What one of the same source covers is compared by sequence number, and passed one by one.

use super::ends_behind;
use super::tombstones::{RangeTombstones, Span};
use crate::base::Result;
use crate::base::key::{SeqNum, Tag};
use crate::lsm::iter::InternalIterator;
use crate::lsm::value::Value;
use std::ops::Range;
use std::sync::Arc;

/// The tombstones of one source, as a reader at `seq` sees them: sets that ascend and do not overlap.
pub(in crate::lsm) struct Layer {
    pub(in crate::lsm) sets: Vec<Arc<RangeTombstones>>,
    pub(in crate::lsm) seq: SeqNum,
}

impl Layer {
    /// Returns the span around `key`.
    fn span(&self, key: &[u8]) -> Span<'_> {
        let at = self.sets.partition_point(|set| !ends_behind(set.end(), key));
        match self.sets.get(at) {
            Some(set) if set.begin() <= key => set.span(key, self.seq),
            next => {
                let low = at.checked_sub(1).map_or(&[][..], |before| self.sets[before].end());
                Span { low, high: next.map_or(&[], |next| next.begin()), newest: SeqNum(0) }
            }
        }
    }
}

/// The newest tombstone of some layers over a key, remembered for the span around it.
struct Cover {
    layers: Arc<[Layer]>,
    which: Range<usize>,
    low: Vec<u8>,
    high: Vec<u8>,
    newest: SeqNum,
    known: bool,
}

impl Cover {
    fn new(layers: &Arc<[Layer]>, which: Range<usize>) -> Cover {
        let (low, high) = (Vec::new(), Vec::new());
        Cover { layers: Arc::clone(layers), which, low, high, newest: SeqNum(0), known: false }
    }

    /// Returns the newest tombstone over `key`, 0 if there is none; then `low` and `high` are the span around it.
    #[inline]
    fn over(&mut self, key: &[u8]) -> SeqNum {
        if !self.known || key < self.low.as_slice() || !ends_behind(&self.high, key) {
            self.look_up(key);
        }
        self.newest
    }

    fn look_up(&mut self, key: &[u8]) {
        let mut all = Span { low: &[], high: &[], newest: SeqNum(0) };
        for layer in &self.layers[self.which.clone()] {
            let span = layer.span(key);
            all.low = all.low.max(span.low);
            if !span.high.is_empty() && ends_behind(all.high, span.high) {
                all.high = span.high;
            }
            all.newest = all.newest.max(span.newest);
        }
        self.low.clear();
        self.low.extend_from_slice(all.low);
        self.high.clear();
        self.high.extend_from_slice(all.high);
        (self.newest, self.known) = (all.newest, true);
    }
}

/// A cursor over what is not covered of `inner`.
struct Uncovered {
    inner: Box<dyn InternalIterator>,
    /// Of the sources above.
    above: Cover,
    /// Of its own source.
    own: Cover,
    /// Everything to the end of the key space is covered.
    ended: bool,
    shown_backward: bool,
}

/// A cursor over one source, and the range tombstones of that source.
pub(in crate::lsm) type Covering = (Box<dyn InternalIterator>, Vec<Layer>);

/// Wraps cursors, the newest source first, so that they leave out what is covered. With `shown_backward` a planted bug shows
/// it to those who walk backward.
pub(in crate::lsm) fn uncovered(sources: Vec<Covering>, shown_backward: bool) -> Vec<Box<dyn InternalIterator>> {
    if sources.iter().all(|(_, own)| own.is_empty()) {
        return sources.into_iter().map(|(inner, _)| inner).collect();
    }
    let mut layers = Vec::new();
    let mut cursors = Vec::with_capacity(sources.len());
    for (inner, own) in sources {
        let above = layers.len();
        layers.extend(own);
        cursors.push((inner, above, layers.len()));
    }
    let layers: Arc<[Layer]> = layers.into();
    let wrap = |(inner, above, end): (Box<dyn InternalIterator>, usize, usize)| match end {
        0 => inner,
        _ => {
            let (above, own) = (Cover::new(&layers, 0..above), Cover::new(&layers, above..end));
            Box::new(Uncovered { inner, above, own, ended: false, shown_backward })
        }
    };
    cursors.into_iter().map(wrap).collect()
}

impl Uncovered {
    /// Goes forward to the first entry that is not covered.
    fn skip_forward(&mut self) -> Result<()> {
        while self.inner.valid() {
            let key = self.inner.key();
            if self.above.over(key) > SeqNum(0) {
                if self.above.high.is_empty() {
                    self.ended = true;
                    return Ok(());
                }
                self.inner.seek(&self.above.high, Tag::seek(SeqNum::MAX))?;
            } else if self.own.over(key) >= self.inner.tag().seq() {
                self.inner.next()?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes backward to the last entry that is not covered.
    fn skip_backward(&mut self) -> Result<()> {
        while self.inner.valid() && !self.shown_backward {
            let key = self.inner.key();
            if self.above.over(key) > SeqNum(0) {
                if self.above.low.is_empty() {
                    self.ended = true;
                    return Ok(());
                }
                // No entry of a key sorts at or before this tag.
                self.inner.seek_for_prev(&self.above.low, Tag::seek(SeqNum::MAX))?;
            } else if self.own.over(key) >= self.inner.tag().seq() {
                self.inner.prev()?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl InternalIterator for Uncovered {
    fn valid(&self) -> bool {
        !self.ended && self.inner.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.seek(&[], Tag::seek(SeqNum::MAX))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.ended = false;
        self.inner.seek_to_last()?;
        self.skip_backward()
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.ended = false;
        // What is covered is not read to find that out.
        if self.above.over(key) > SeqNum(0) && !self.above.high.is_empty() {
            self.inner.seek(&self.above.high, Tag::seek(SeqNum::MAX))?;
        } else {
            self.inner.seek(key, tag)?;
        }
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.ended = false;
        if self.above.over(key) > SeqNum(0) && !self.above.low.is_empty() {
            self.inner.seek_for_prev(&self.above.low, Tag::seek(SeqNum::MAX))?;
        } else {
            self.inner.seek_for_prev(key, tag)?;
        }
        self.skip_backward()
    }

    fn next(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.inner.next()?;
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.inner.prev()?;
        self.skip_backward()
    }

    fn key(&self) -> &[u8] {
        self.inner.key()
    }

    fn tag(&self) -> Tag {
        self.inner.tag()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn value_owned(&self) -> Value {
        self.inner.value_owned()
    }
}
