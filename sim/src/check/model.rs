//! Checker 2, the versioned model: every read equals the content at one moment of the commit order, and that moment is allowed.
//!
//! A get, an iterator in either direction and a snapshot with all its reads is a [`View`] each. The model keeps every version of
//! every key with its sequence number, and computes the set of sequence numbers at which the view could have been taken.
//!
//! **Invariant.** That set is not empty, where a view
//! - contains every commit that was acknowledged before the view was asked for, and all that an earlier finished view contained;
//! - contains no commit that was called after the view was there;
//! - contains each commit wholly or not at all;
//! - shows exactly the newest contained version of every key it looked at, and no key twice; but nothing where that had expired
//!   at the moment by which the view judges, or may have been removed by a filter;
//! - shows each key the same as often as it is looked at.
//!
//! Sequence numbers follow real time too: a commit called after another one's acknowledgement has the larger number, no two share
//! one, and none is reused after recovery. Versions of commits without an answer have no number: seeing one is legal, and a key
//! whose absence one of them explains is skipped. So is a key that is merged onto and that one of them writes.
//!
//! **Tripped by** `visible_before_batch_complete`, `compaction_ignores_snapshots`, `compaction_drops_tombstone_early`,
//! `l0_newest_order_wrong`, `immutable_dropped_before_install`, `seq_reused_after_recovery`, `merge_across_snapshot`,
//! `ttl_clock_goes_back`, `ttl_dropped_under_snapshot`.

use super::history::{Commit, Ending, History, Sight, Time, View};
use crate::profile::engine::value::{KeyId, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// Sequence numbers, both ends included.
type Interval = (u64, u64);

/// A version of a key: visible from the sequence number `from` on.
#[derive(Clone, Copy, Debug)]
struct Version {
    from: u64,
    stamp: Option<Stamp>,
}

/// What is wrong; the names are what shrinking holds on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read that no moment of the commit order explains.
    Read(String),
    /// Sequence numbers that contradict each other or the order of events.
    Sequence(String),
}

/// Checks the sequence numbers and every view of `history`.
pub fn check(history: &History) -> Result<(), Fault> {
    sequence_numbers(history)?;
    let model = Model::new(history);
    let mut views: Vec<&View> = history.views.iter().filter(|view| !view.sights.is_empty()).collect();
    views.sort_by_key(|view| view.opened);
    // (when a view was there, the least sequence number it contains), both growing.
    let mut seen: Vec<(Time, u64)> = Vec::new();
    for view in views {
        let at = seen.partition_point(|(opened, _)| *opened < view.called);
        let floor = if at == 0 { history.base_seq } else { seen[at - 1].1 };
        let least = model.check(view, floor)?;
        if least > seen.last().map_or(history.base_seq, |(_, least)| *least) {
            seen.push((view.opened, least));
        }
    }
    Ok(())
}

/// Checks that sequence numbers are unique, grow in real time, and start behind the recovered ones.
fn sequence_numbers(history: &History) -> Result<(), Fault> {
    let mut line: Vec<&Commit> = history.commits.iter().filter(|commit| commit.seqs().is_some()).collect();
    line.sort_by_key(|commit| commit.seqs());
    let mut last = history.base_seq;
    let mut latest_call: Time = 0;
    for commit in &line {
        let Some((first, end)) = commit.seqs() else { continue };
        if first <= last {
            return Err(Fault::Sequence(format!(
                "step {} got sequence numbers {first}..={end}, but {last} was taken before",
                commit.step
            )));
        }
        if end + 1 - first != commit.operations {
            let operations = commit.operations;
            return Err(Fault::Sequence(format!(
                "step {} of {operations} operations got sequence numbers {first}..={end}",
                commit.step
            )));
        }
        if commit.acknowledged().is_some_and(|at| at < latest_call) {
            return Err(Fault::Sequence(format!(
                "step {} got {first}, above a commit that was called only after its acknowledgement",
                commit.step
            )));
        }
        latest_call = latest_call.max(commit.called);
        last = end;
    }
    Ok(())
}

struct Model<'a> {
    history: &'a History,
    versions: BTreeMap<KeyId, Vec<Version>>,
    /// Writes of commits without an answer: key, stamp, when called.
    unknown: Vec<(KeyId, Option<Stamp>, Time)>,
    /// (acknowledged at, largest sequence number acknowledged until then), growing.
    acknowledged: Vec<(Time, u64)>,
    /// Keys that were merged onto.
    merged: BTreeSet<KeyId>,
    /// (called at, first sequence number) of acknowledged commits, by call; with the minimum of all later ones.
    called: Vec<(Time, u64)>,
}

impl<'a> Model<'a> {
    fn new(history: &'a History) -> Model<'a> {
        let mut versions: BTreeMap<KeyId, Vec<Version>> = BTreeMap::new();
        for (key, stamp) in &history.base {
            versions.entry(*key).or_default().push(Version { from: 0, stamp: Some(*stamp) });
        }
        let all = history.commits.iter().flat_map(|commit| &commit.writes);
        let merges = all.filter(|(_, stamp)| stamp.is_some_and(Stamp::is_merged));
        let merged = merges.map(|(key, _)| *key).collect();
        let mut unknown = Vec::new();
        let mut acknowledged = Vec::new();
        let mut called = Vec::new();
        for commit in &history.commits {
            match commit.ending {
                Ending::Acknowledged { at, first, last } => {
                    acknowledged.push((at, last));
                    called.push((commit.called, first));
                    for (key, stamp) in &commit.writes {
                        let of_key = versions.entry(*key).or_default();
                        of_key.push(Version { from: last, stamp: *stamp });
                    }
                }
                Ending::Unknown => {
                    unknown.extend(commit.writes.iter().map(|(key, stamp)| (*key, *stamp, commit.called)));
                }
                Ending::Refused => {}
            }
        }
        for of_key in versions.values_mut() {
            of_key.sort_by_key(|version| version.from);
            let mut before = None;
            for version in of_key.iter_mut() {
                version.stamp = version.stamp.map(|stamp| stamp.onto(before));
                before = version.stamp;
            }
            if of_key[0].from > 0 {
                of_key.insert(0, Version { from: 0, stamp: None });
            }
        }
        acknowledged.sort_unstable();
        let mut largest = history.base_seq;
        for (_, last) in &mut acknowledged {
            largest = largest.max(*last);
            *last = largest;
        }
        called.sort_unstable();
        let mut least = u64::MAX;
        for (_, first) in called.iter_mut().rev() {
            least = least.min(*first);
            *first = least;
        }
        Model { history, versions, unknown, acknowledged, merged, called }
    }

    /// Checks one view; returns the least sequence number at which it can have been taken.
    fn check(&self, view: &View, floor: u64) -> Result<u64, Fault> {
        let at = self.acknowledged.partition_point(|(at, _)| *at < view.called);
        let least = if at == 0 { self.history.base_seq } else { self.acknowledged[at - 1].1 }.max(floor);
        let at = self.called.partition_point(|(called, _)| *called <= view.opened);
        let most = self.called.get(at).map_or(u64::MAX, |(_, first)| first - 1);
        let mut allowed: Vec<Interval> = vec![(least, most)];
        if let Some(seq) = view.seq {
            if seq < least || seq > most {
                let most = if most == u64::MAX { "now".into() } else { most.to_string() };
                return Err(Fault::Read(format!(
                    "step {} opened a snapshot at sequence {seq}, which must be {least} to {most}",
                    view.step
                )));
            }
            allowed = vec![(seq, seq)];
        }
        // What fades does so between views only.
        let mut one: BTreeMap<KeyId, Option<Stamp>> = BTreeMap::new();
        for sight in &view.sights {
            self.order(view, sight)?;
            let mut found = sight.found.iter().peekable();
            for key in sight.start..sight.end {
                let stamp = found.next_if(|(found, _)| *found == key).map(|(_, stamp)| *stamp);
                let first = one.insert(key, stamp).unwrap_or(stamp);
                if first != stamp && !self.history.fading.filtered_between(first, stamp) {
                    return Err(self.fault(view, key, "it was seen otherwise through the same view"));
                }
                let Some(when) = self.visible(key, stamp, view).map_err(|what| self.fault(view, key, &what))? else {
                    continue;
                };
                let narrowed = intersect(&allowed, &when);
                if narrowed.is_empty() {
                    return Err(self.fault(view, key, &self.explain(key, stamp, &allowed)));
                }
                allowed = narrowed;
            }
        }
        Ok(allowed[0].0)
    }

    /// Checks that the entries of one sight ascend and lie within it.
    fn order(&self, view: &View, sight: &Sight) -> Result<(), Fault> {
        for pair in sight.found.windows(2) {
            if pair[0].0 >= pair[1].0 {
                return Err(self.fault(view, pair[1].0, &format!("the iterator gave it after key {}", pair[0].0)));
            }
        }
        match sight.found.iter().find(|(key, _)| *key < sight.start || *key >= sight.end) {
            Some((key, _)) => Err(self.fault(view, *key, "it lies outside the range asked for")),
            None => Ok(()),
        }
    }

    /// Returns when `key` had `stamp`; `None` if a commit without an answer may explain it.
    fn visible(&self, key: KeyId, stamp: Option<Stamp>, view: &View) -> Result<Option<Vec<Interval>>, String> {
        let (opened, fading) = (view.opened, &self.history.fading);
        let moments = if view.late { (0, u64::MAX) } else { fading.moments(view.called, opened) };
        if stamp.is_some_and(|stamp| fading.may_be_back(key, stamp, moments)) {
            return Ok(None);
        }
        let merged = self.merged.contains(&key);
        let explains = |s: &Option<Stamp>| merged || fading.same(key, *s, stamp, moments);
        let explained = self.unknown.iter().any(|(k, s, called)| *k == key && explains(s) && *called <= opened);
        if explained {
            return Ok(None);
        }
        let never = [Version { from: 0, stamp: None }];
        let versions = self.versions.get(&key).map_or(&never[..], Vec::as_slice);
        let mut when = Vec::new();
        for (at, version) in versions.iter().enumerate() {
            if fading.same(key, version.stamp, stamp, moments) {
                let until = versions.get(at + 1).map_or(u64::MAX, |next| next.from - 1);
                when.push((version.from, until));
            }
        }
        if when.is_empty() {
            return Err(match stamp {
                Some(stamp) => format!("it has the value of step {}, which is not there or has expired", stamp.step),
                None => "it is missing, and was never deleted".into(),
            });
        }
        Ok(Some(when))
    }

    fn explain(&self, key: KeyId, stamp: Option<Stamp>, allowed: &[Interval]) -> String {
        let what = stamp.map_or("it is missing".into(), |stamp| format!("it has the value of step {}", stamp.step));
        let versions: Vec<String> = self.versions.get(&key).into_iter().flatten().map(show).collect();
        let (least, most) = (allowed[0].0, allowed[allowed.len() - 1].1);
        let most = if most == u64::MAX { "now".into() } else { most.to_string() };
        format!("{what}, while the view stands between sequence {least} and {most}; versions: {}", versions.join(", "))
    }

    fn fault(&self, view: &View, key: KeyId, what: &str) -> Fault {
        Fault::Read(format!("step {} read key {key}: {what}", view.step))
    }
}

fn show(version: &Version) -> String {
    match version.stamp {
        Some(stamp) => format!("step {} from {}", stamp.step, version.from),
        None => format!("none from {}", version.from),
    }
}

/// Intersects two ascending lists of intervals.
fn intersect(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut both = Vec::new();
    for (from, to) in a {
        for (low, high) in b {
            let (start, end) = (*from.max(low), *to.min(high));
            if start <= end {
                both.push((start, end));
            }
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::super::history::Promise;
    use super::*;

    fn stamp(step: u32) -> Stamp {
        Stamp::put(step, 20)
    }

    fn commit(history: &mut History, step: u32, writes: &[(KeyId, bool)], first: u64) {
        let called = history.tick();
        let at = history.tick();
        let operations = writes.len() as u64;
        let writes = writes.iter().map(|(key, put)| (*key, put.then(|| stamp(step)))).collect();
        let ending = Ending::Acknowledged { at, first, last: first + operations - 1 };
        history.commits.push(Commit { step, writes, operations, promise: Promise::None, called, ending });
    }

    fn view(history: &mut History, found: &[(KeyId, u32)]) {
        let called = history.tick();
        let opened = history.tick();
        let found = found.iter().map(|(key, step)| (*key, stamp(*step))).collect();
        history.views.push(View {
            step: 99,
            called,
            opened,
            seq: None,
            late: false,
            sights: vec![Sight { start: 0, end: 9, found }],
        });
    }

    fn three() -> History {
        let mut history = History::default();
        commit(&mut history, 1, &[(1, true), (2, true)], 1);
        commit(&mut history, 2, &[(1, true)], 3);
        commit(&mut history, 3, &[(2, false), (3, true)], 4);
        history
    }

    #[test]
    fn a_sequential_read_sees_the_newest_only() {
        let mut legal = three();
        view(&mut legal, &[(1, 2), (3, 3)]);
        assert_eq!(check(&legal), Ok(()));
        for wrong in [&[(1, 1), (3, 3)][..], &[(1, 2), (2, 1), (3, 3)], &[(1, 2)], &[(1, 2), (3, 7)]] {
            let mut history = three();
            view(&mut history, wrong);
            assert!(matches!(check(&history), Err(Fault::Read(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_concurrent_read_sees_whole_commits_in_order() {
        let concurrent = |found: &[(KeyId, u32)]| {
            let mut history = History::default();
            let called = history.tick();
            for step in [1, 2] {
                commit(&mut history, step, &[(1, true), (2, true)], u64::from(step) * 2);
            }
            let opened = history.tick();
            let found = found.iter().map(|(key, step)| (*key, stamp(*step))).collect();
            history.views.push(View {
                step: 9,
                called,
                opened,
                seq: None,
                late: false,
                sights: vec![Sight { start: 0, end: 4, found }],
            });
            check(&history)
        };
        assert!(concurrent(&[]).is_ok());
        assert!(concurrent(&[(1, 1), (2, 1)]).is_ok());
        assert!(concurrent(&[(1, 2), (2, 2)]).is_ok());
        assert!(concurrent(&[(1, 1)]).is_err());
        assert!(concurrent(&[(1, 2), (2, 1)]).is_err());
    }

    #[test]
    fn a_later_view_contains_what_an_earlier_one_contained() {
        let read = |first: &[(KeyId, u32)], second: &[(KeyId, u32)]| {
            let mut history = History::default();
            let called = history.tick();
            view(&mut history, first);
            view(&mut history, second);
            let at = history.tick();
            let ending = Ending::Acknowledged { at, first: 1, last: 1 };
            let writes = vec![(1, Some(stamp(1)))];
            history.commits.push(Commit { step: 1, writes, operations: 1, promise: Promise::None, called, ending });
            check(&history)
        };
        assert!(read(&[], &[(1, 1)]).is_ok());
        assert!(read(&[(1, 1)], &[]).is_err());
    }

    #[test]
    fn sequence_numbers_never_repeat_or_go_back() {
        let mut reused = History::default();
        reused.base_seq = 5;
        commit(&mut reused, 1, &[(1, true)], 5);
        assert!(matches!(check(&reused), Err(Fault::Sequence(_))));
        let mut back = History::default();
        commit(&mut back, 1, &[(1, true)], 7);
        commit(&mut back, 2, &[(1, true)], 6);
        assert!(matches!(check(&back), Err(Fault::Sequence(_))));
    }
}
