//! [`Rewrite`]: what a flush or compaction writes of the entries it reads: those that [`Retention`] keeps, with operands of
//! merges put together where no reader can tell, without what has expired, and as the user's filter wants it.
//!
//! Fed in internal key order by the thread that rewrites. Neighbouring operands of one key within one stripe make a run.
//!
//! - A run that ends on a put, on a tombstone, or at the bottom with nothing older, becomes a put of what the operator makes of
//!   it. Any other is merged with itself as far as the operator can. Both have the sequence number of the newest operand, which
//!   all readers see that see any of them.
//! - A run never leaves its stripe: a snapshot in between sees the older operands without the newer ones.
//! - A value that has expired for every reader of it is a tombstone. One that may yet expire is no base: what is merged onto it
//!   is written beside it, and outlives it.
//! - A filter is shown puts, and what merges make, that only readers yet to come see; a removed one is a tombstone.
//! - Where there is no operator, or it cannot merge what it should, the run is written as it was read.
//! - Runs over [`RUN_BYTES_MAX`] are ended early, which changes only how many operands are left.

use super::{Fate, Filtering, Retention, Verdict};
use crate::base::Result;
use crate::base::key::{Tag, ValueKind};
use crate::env::Env;
use crate::lsm::merge::Merger;
use crate::lsm::ranges::RangeTombstones;
use crate::lsm::ttl::format::EXPIRY_BYTES;
use crate::lsm::ttl::{self, At};
use crate::lsm::value::Value;

/// Bytes of operands that are held in memory at once, roughly.
const RUN_BYTES_MAX: usize = 64 << 20;

/// One entry as it is read.
pub(in crate::lsm) type Read<'a> = (&'a [u8], Tag, &'a [u8]);

/// Takes what is written.
type Out<'a> = &'a mut dyn FnMut(Read<'_>) -> Result<()>;

/// Decides what is written of the entries of one flush or compaction.
pub(in crate::lsm) struct Rewrite<'a, E: Env> {
    env: &'a E,
    retention: Retention,
    /// By which moment the readers of each stripe judge, the earliest of them.
    moments: Vec<u64>,
    merger: Merger,
    filtering: Option<Filtering>,
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
        readers: Vec<At>,
        ranges: Option<RangeTombstones>,
        merger: Merger,
        filtering: Option<Filtering>,
    ) -> Rewrite<'a, E> {
        let mut moments: Vec<u64> = readers.iter().map(|at| at.moment).collect();
        if env.planted("ttl_dropped_under_snapshot") {
            let latest = moments[moments.len() - 1];
            moments.fill(latest);
        }
        let retention = Retention::new(readers.into_iter().map(|at| at.seq).collect(), ranges);
        Rewrite { env, retention, moments, merger, filtering, run: Run::default() }
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
        let plain = matches!(entry.1.kind(), ValueKind::Put | ValueKind::Delete);
        if !plain || self.filtering.is_some() || !self.run.operands.is_empty() {
            return self.add_special(entry, bottom(), &mut out);
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
    fn add_special(&mut self, entry: Read<'_>, bottom: bool, out: Out<'_>) -> Result<()> {
        let (key, mut tag, mut value) = entry;
        let stripe = self.retention.stripe_of(tag);
        if tag.kind() == ValueKind::PutTtl && ttl::has_expired(value, self.moments[stripe]) {
            self.env.reached("lsm.ttl_dropped");
            (tag, value) = (Tag::new(tag.seq(), ValueKind::Delete), &[]);
        }
        let fate = self.retention.judge(key, tag, || bottom);
        let same_key = key == self.run.key;
        let same_stripe = stripe == self.run.stripe || self.env.planted("merge_across_snapshot");
        if !(same_key && same_stripe) || self.run.bytes > RUN_BYTES_MAX {
            self.end_run(same_key, out)?;
        }
        match (fate, tag.kind()) {
            (Fate::Hidden, _) => return Ok(()),
            (_, ValueKind::Merge) => {
                self.run.push(key, stripe, bottom, (tag, value.into()));
                return Ok(());
            }
            // It may expire before what is merged onto it: neither knows of the other.
            (_, ValueKind::PutTtl) => self.end_run(true, out)?,
            (_, kind) if !self.run.operands.is_empty() => {
                let base = (kind == ValueKind::Put).then_some(value);
                if self.become_put(base, bottom, out)? {
                    return Ok(());
                }
                self.run.write(out)?;
            }
            _ => {}
        }
        if fate == Fate::Kept { self.emit((key, tag, value), stripe, bottom, out) } else { Ok(()) }
    }

    /// Writes an entry, unless the filter says otherwise.
    fn emit(&self, entry: Read<'_>, stripe: usize, bottom: bool, out: Out<'_>) -> Result<()> {
        let (key, tag, value) = entry;
        let Some(filtering) = &self.filtering else { return out(entry) };
        let only_later_readers = stripe == self.retention.last_stripe();
        if !only_later_readers {
            return out(entry);
        }
        let (before, value) = match tag.kind() {
            ValueKind::Put => (&[][..], value),
            ValueKind::PutTtl => value.split_at(EXPIRY_BYTES),
            _ => return out(entry),
        };
        match filtering.judge(key, value, before.len()) {
            Verdict::Keep => out(entry),
            Verdict::Change(changed) => out((key, tag, &[before, &changed].concat())),
            Verdict::Remove => {
                self.env.reached("lsm.filter_removed");
                if stripe == 0 && bottom { Ok(()) } else { out((key, Tag::new(tag.seq(), ValueKind::Delete), &[])) }
            }
        }
    }

    /// Ends the run without a base in its stripe; `older` tells whether older versions of the key follow.
    fn end_run(&mut self, older: bool, out: Out<'_>) -> Result<()> {
        if self.run.operands.is_empty() {
            return Ok(());
        }
        if self.run.bottom && !older {
            if !self.become_put(None, true, out)? {
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
    fn become_put(&mut self, base: Option<&[u8]>, bottom: bool, out: Out<'_>) -> Result<bool> {
        let Run { key, operands: run, stripe, .. } = &self.run;
        let mut operands: Vec<&[u8]> = run.iter().rev().map(|(_, operand)| &operand[..]).collect();
        if self.env.planted("merge_operand_lost") && operands.len() > 1 {
            operands.pop();
        }
        if self.env.planted("merge_operand_twice") {
            operands.push(operands[0]);
        }
        let Some(merged) = self.merger.try_full(key, base, &operands) else { return Ok(false) };
        self.env.reached("lsm.merge_combined");
        self.emit((key, Tag::new(run[0].0.seq(), ValueKind::Put), &merged), *stripe, bottom, out)?;
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
    fn write(&mut self, out: Out<'_>) -> Result<()> {
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
    use crate::base::key::SeqNum;
    use crate::env::StdEnv;
    use crate::lsm::compaction::CompactionFilter;
    use crate::lsm::merge::{Append, MergeOperator};
    use ValueKind::{Delete, Merge, Put, PutTtl};
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

    /// Removes values that begin with "-", marks those that begin with "+", and panics at "!".
    struct Marks;

    impl CompactionFilter for Marks {
        fn name(&self) -> &str {
            "marks"
        }
        fn filter(&self, level: usize, _key: &[u8], value: &[u8]) -> Verdict {
            match value.first() {
                Some(b'-') => Verdict::Remove,
                Some(b'+') => Verdict::Change([value, level.to_string().as_bytes()].concat()),
                Some(b'!') => panic!("told to"),
                _ => Verdict::Keep,
            }
        }
    }

    type Shown = (&'static str, u64, ValueKind, &'static str);

    fn rewritten(readers: &[u64], bottom: bool, partial: Option<bool>, entries: &[Shown]) -> Vec<String> {
        let operator = partial.map(|partial| Arc::new(Picky(Append::new(""), partial)) as Arc<dyn MergeOperator>);
        let merger = Merger { operator, name: Some("picky".into()) };
        let readers = readers.iter().map(|seq| At { seq: SeqNum(*seq), moment: 10 * seq }).collect();
        let filtering = Some(Filtering { filter: Arc::new(Marks), level: 3 });
        let mut rewrite = Rewrite::new(&StdEnv, readers, None, merger, filtering);
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

    /// A value that expires at moment 80.
    const AT_80: &str = "\u{50}\0\0\0\0\0\0\0v";
    const SHOWN_80: &str = "P\\x00\\x00\\x00\\x00\\x00\\x00\\x00v";

    #[test]
    fn what_expired_for_every_reader_is_a_tombstone() {
        let entries = [("a", 5, PutTtl, AT_80), ("a", 4, Put, "0"), ("b", 3, Put, "b")];
        let kept = [format!("a PutTtl@5 {SHOWN_80}"), "b Put@3 b".into()];
        assert_eq!(rewritten(&[7], true, None, &entries), kept);
        assert_eq!(rewritten(&[8], false, None, &entries), ["a Delete@5 ", "b Put@3 b"]);
        assert_eq!(rewritten(&[8], true, None, &entries), ["b Put@3 b"]);
        // A snapshot from before sees it still.
        assert_eq!(rewritten(&[5, 10], true, None, &entries), kept);
        assert_eq!(rewritten(&[4, 10], true, None, &entries), ["a Delete@5 ", "a Put@4 0", "b Put@3 b"]);
    }

    #[test]
    fn what_is_merged_onto_a_value_outlives_it() {
        let entries = [("a", 6, Merge, "2"), ("a", 5, Merge, "1"), ("a", 4, PutTtl, AT_80)];
        let beside = ["a Merge@6 12".to_string(), format!("a PutTtl@4 {SHOWN_80}")];
        assert_eq!(rewritten(&[7], true, Some(true), &entries), beside);
        assert_eq!(rewritten(&[9], true, Some(true), &entries), ["a Put@6 12"]);
    }

    #[test]
    fn a_filter_decides_what_later_readers_see() {
        let entries =
            [("a", 5, Put, "-"), ("a", 4, Put, "0"), ("b", 3, Put, "+"), ("c", 2, Put, "!"), ("d", 1, Merge, "-")];
        assert_eq!(rewritten(&[9], true, Some(true), &entries), ["b Put@3 +3", "c Put@2 !"]);
        assert_eq!(rewritten(&[9], false, None, &entries), ["a Delete@5 ", "b Put@3 +3", "c Put@2 !", "d Merge@1 -"]);
        let under = ["a Delete@5 ", "a Put@4 0", "b Put@3 +", "c Put@2 !", "d Put@1 -"];
        assert_eq!(rewritten(&[4, 9], true, Some(true), &entries), under);
        let expiring = AT_80.replace('v', "+");
        let expiring: &'static str = Box::leak(expiring.into_boxed_str());
        let changed = format!("a PutTtl@5 {}3", SHOWN_80.replace('v', "+"));
        assert_eq!(rewritten(&[7], true, None, &[("a", 5, PutTtl, expiring)]), [changed]);
    }
}
