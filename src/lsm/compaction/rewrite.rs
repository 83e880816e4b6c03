//! [`Rewrite`]: what a flush or compaction writes of the entries it reads: those that [`Retention`] keeps, with operands of
//! merges put together where no reader can tell.
//!
//! Fed in internal key order by the thread that rewrites. Neighbouring operands of one key within one stripe make a run.
//!
//! - A run that ends on a put, on a tombstone, or at the bottom with nothing older, becomes a put of what the operator makes of
//!   it. Any other is merged with itself as far as the operator can. Both have the sequence number of the newest operand, which
//!   all readers see that see any of them.
//! - A run never leaves its stripe: a snapshot in between sees the older operands without the newer ones.
//! - Where there is no operator, or it cannot merge what it should, the run is written as it was read.
//! - Runs over [`RUN_BYTES_MAX`] are ended early, which changes only how many operands are left.

use super::{Fate, Retention};
use crate::base::Result;
use crate::base::key::{SeqNum, Tag, ValueKind};
use crate::env::Env;
use crate::lsm::merge::Merger;
use crate::lsm::ranges::RangeTombstones;
use crate::lsm::value::Value;

/// Bytes of operands that are held in memory at once, roughly.
const RUN_BYTES_MAX: usize = 64 << 20;

/// One entry as it is read.
pub(in crate::lsm) type Read<'a> = (&'a [u8], Tag, &'a [u8]);

/// Decides what is written of the entries of one flush or compaction.
pub(in crate::lsm) struct Rewrite<'a, E: Env> {
    env: &'a E,
    retention: Retention,
    merger: Merger,
    run: Run,
}

/// Operands of one key and stripe with nothing between them.
#[derive(Default)]
struct Run {
    key: Vec<u8>,
    stripe: usize,
    /// Nothing older of the key lies further down than what is read.
    bottom: bool,
    /// The newest first.
    operands: Vec<(Tag, Value)>,
    bytes: usize,
}

impl<'a, E: Env> Rewrite<'a, E> {
    /// Writes what `readers`, the oldest first, can see beside the range tombstones `ranges`.
    pub(in crate::lsm) fn new(
        env: &'a E,
        readers: Vec<SeqNum>,
        ranges: Option<RangeTombstones>,
        merger: Merger,
    ) -> Rewrite<'a, E> {
        Rewrite { env, retention: Retention::new(readers, ranges), merger, run: Run::default() }
    }

    /// Takes the next entry and gives `out` what is to be written by now. `bottom` tells whether no older versions of its key
    /// lie further down.
    #[inline]
    pub(in crate::lsm) fn add(
        &mut self,
        entry: Read<'_>,
        bottom: impl FnOnce() -> bool,
        mut out: impl FnMut(Read<'_>) -> Result<()>,
    ) -> Result<()> {
        if entry.1.kind() == ValueKind::Merge || !self.run.operands.is_empty() {
            return self.add_merging(entry, bottom(), &mut out);
        }
        match self.retention.judge(entry.0, entry.1, bottom) {
            Fate::Kept => out(entry),
            Fate::Hidden | Fate::Done => Ok(()),
        }
    }

    /// Gives `out` what is left at the end.
    pub(in crate::lsm) fn finish(&mut self, mut out: impl FnMut(Read<'_>) -> Result<()>) -> Result<()> {
        self.end_run(false, &mut out)
    }

    #[cold]
    fn add_merging(
        &mut self,
        entry: Read<'_>,
        bottom: bool,
        out: &mut dyn FnMut(Read<'_>) -> Result<()>,
    ) -> Result<()> {
        let (key, tag, value) = entry;
        let fate = self.retention.judge(key, tag, || bottom);
        let stripe = self.retention.stripe();
        let same_key = key == self.run.key;
        let same_stripe = stripe == self.run.stripe || self.env.planted("merge_across_snapshot");
        if !(same_key && same_stripe) || self.run.bytes > RUN_BYTES_MAX {
            self.end_run(same_key, out)?;
        }
        if fate == Fate::Hidden {
            return Ok(());
        }
        if tag.kind() == ValueKind::Merge {
            self.run.push(key, stripe, bottom, (tag, value.into()));
            return Ok(());
        }
        let base = (tag.kind() == ValueKind::Put).then_some(value);
        if !self.run.operands.is_empty() && self.become_put(base, out)? {
            return Ok(());
        }
        self.run.write(out)?;
        if fate == Fate::Kept { out(entry) } else { Ok(()) }
    }

    /// Ends the run without a base in its stripe; `older` tells whether older versions of the key follow.
    fn end_run(&mut self, older: bool, out: &mut dyn FnMut(Read<'_>) -> Result<()>) -> Result<()> {
        if self.run.operands.is_empty() {
            return Ok(());
        }
        if self.run.bottom && !older {
            if !self.become_put(None, out)? {
                self.run.write(out)?;
            }
            return Ok(());
        }
        let mut parts: Vec<(Tag, Value)> = Vec::new();
        for (tag, operand) in self.run.operands.drain(..).rev() {
            let both = parts.last().and_then(|(_, older)| self.merger.partial(&self.run.key, older, &operand));
            match (both, parts.last_mut()) {
                (Some(both), Some(last)) => {
                    self.env.reached("lsm.merge_partial");
                    *last = (tag, both.into());
                }
                _ => parts.push((tag, operand)),
            }
        }
        parts.reverse();
        self.run.operands = parts;
        self.run.write(out)
    }

    /// Writes what the run makes of `base`, if the operator can merge it; else returns false.
    fn become_put(&mut self, base: Option<&[u8]>, out: &mut dyn FnMut(Read<'_>) -> Result<()>) -> Result<bool> {
        let Run { key, operands: run, .. } = &self.run;
        let mut operands: Vec<&[u8]> = run.iter().rev().map(|(_, operand)| &operand[..]).collect();
        if self.env.planted("merge_operand_lost") && operands.len() > 1 {
            operands.pop();
        }
        if self.env.planted("merge_operand_twice") {
            operands.push(operands[0]);
        }
        let Some(merged) = self.merger.try_full(key, base, &operands) else { return Ok(false) };
        self.env.reached("lsm.merge_combined");
        out((key, Tag::new(run[0].0.seq(), ValueKind::Put), &merged))?;
        self.run.clear();
        Ok(true)
    }
}

impl Run {
    fn push(&mut self, key: &[u8], stripe: usize, bottom: bool, operand: (Tag, Value)) {
        if self.operands.is_empty() {
            self.key.clear();
            self.key.extend_from_slice(key);
            (self.stripe, self.bottom) = (stripe, bottom);
        }
        self.bytes += operand.1.len();
        self.operands.push(operand);
    }

    /// Writes the operands as they are and forgets them.
    fn write(&mut self, out: &mut dyn FnMut(Read<'_>) -> Result<()>) -> Result<()> {
        for (tag, operand) in &self.operands {
            out((&self.key, *tag, operand))?;
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.operands.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::StdEnv;
    use crate::lsm::merge::{Append, MergeOperator};
    use ValueKind::{Delete, Merge, Put};
    use std::sync::Arc;

    /// Appends, unless told to merge "bad".
    struct Picky(Append, bool);

    impl MergeOperator for Picky {
        fn name(&self) -> &str {
            "picky"
        }
        fn full(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
            if operands.contains(&&b"bad"[..]) { None } else { self.0.full(key, base, operands) }
        }
        fn partial(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
            if self.1 { self.0.partial(key, older, newer) } else { None }
        }
    }

    type Shown = (&'static str, u64, ValueKind, &'static str);

    fn rewritten(readers: &[u64], bottom: bool, partial: Option<bool>, entries: &[Shown]) -> Vec<String> {
        let operator = partial.map(|partial| Arc::new(Picky(Append::new(""), partial)) as Arc<dyn MergeOperator>);
        let merger = Merger { operator, name: Some("picky".into()) };
        let readers = readers.iter().map(|seq| SeqNum(*seq)).collect();
        let mut rewrite = Rewrite::new(&StdEnv, readers, None, merger);
        let mut written = Vec::new();
        let mut out = |(key, tag, value): Read<'_>| {
            written.push(format!("{} {tag:?} {}", key.escape_ascii(), value.escape_ascii()));
            Ok(())
        };
        for (key, seq, kind, value) in entries {
            let entry = (key.as_bytes(), Tag::new(SeqNum(*seq), *kind), value.as_bytes());
            rewrite.add(entry, || bottom, &mut out).unwrap();
        }
        rewrite.finish(&mut out).unwrap();
        written
    }

    const RUN: [Shown; 4] = [("a", 9, Merge, "3"), ("a", 8, Merge, "2"), ("a", 5, Merge, "1"), ("a", 4, Put, "0")];

    #[test]
    fn a_run_on_a_base_becomes_a_put() {
        assert_eq!(rewritten(&[10], false, Some(false), &RUN), ["a Put@9 0123"]);
        let deleted = [RUN[0], RUN[1], ("a", 5, Delete, ""), ("a", 4, Put, "0"), ("b", 3, Put, "b")];
        assert_eq!(rewritten(&[10], false, Some(false), &deleted), ["a Put@9 23", "b Put@3 b"]);
        assert_eq!(rewritten(&[10], true, Some(false), &deleted), ["a Put@9 23", "b Put@3 b"]);
    }

    #[test]
    fn a_run_without_a_base_is_a_put_at_the_bottom_only() {
        assert_eq!(rewritten(&[10], true, Some(false), &RUN[..3]), ["a Put@9 123"]);
        assert_eq!(rewritten(&[10], false, Some(true), &RUN[..3]), ["a Merge@9 123"]);
        assert_eq!(rewritten(&[10], false, Some(false), &RUN[..3]), ["a Merge@9 3", "a Merge@8 2", "a Merge@5 1"]);
    }

    #[test]
    fn a_snapshot_parts_a_run() {
        assert_eq!(rewritten(&[5, 10], true, Some(true), &RUN), ["a Merge@9 23", "a Put@5 01"]);
        assert_eq!(rewritten(&[4, 10], true, Some(true), &RUN), ["a Merge@9 123", "a Put@4 0"]);
        assert_eq!(rewritten(&[8, 10], true, Some(true), &RUN[..3]), ["a Merge@9 3", "a Put@8 12"]);
        let deleted = [RUN[0], RUN[1], ("a", 5, Delete, "")];
        assert_eq!(rewritten(&[5, 10], true, Some(true), &deleted), ["a Merge@9 23"], "the tombstone was the oldest");
    }

    #[test]
    fn what_cannot_be_merged_stays_as_it_is() {
        let all = ["a Merge@9 3", "a Merge@8 2", "a Merge@5 1", "a Put@4 0"];
        assert_eq!(rewritten(&[10], true, None, &RUN), all);
        let bad = [RUN[0], ("a", 8, Merge, "bad"), RUN[3], ("a", 3, Put, "hidden")];
        assert_eq!(rewritten(&[10], true, Some(true), &bad), ["a Merge@9 3", "a Merge@8 bad", "a Put@4 0"]);
    }

    #[test]
    fn versions_under_a_put_are_hidden_and_runs_end_with_their_key() {
        let entries = [("a", 9, Put, "p"), ("a", 8, Merge, "x"), ("b", 7, Merge, "1"), ("c", 6, Merge, "2")];
        assert_eq!(rewritten(&[10], true, Some(true), &entries), ["a Put@9 p", "b Put@7 1", "c Put@6 2"]);
    }
}
