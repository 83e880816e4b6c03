//! Checker 1, the durability oracle: acknowledged <= recovered <= issued, in whole values, as a prefix in commit order.
//!
//! Called with everything that the clients wrote in an incarnation and everything that the reopened database holds.
//!
//! **Invariant.** Line up the commits by their sequence numbers. The recovered content equals the content at some cut of that
//! line: batches are whole, nothing comes from elsewhere. The cut is not before any commit that was promised to survive what
//! happened: a power loss spares what was synced, the death of the process what was handed to the system, a close everything.
//! Commits without an answer have no known sequence number; they may stand in any gap of the line or at its end, or nowhere.
//!
//! What a merge leaves depends on what was there before: it is applied in order like everything else.
//!
//! A value that expires, or that a filter removes, may be absent from when on it may; it is not there when it surely expired.
//!
//! Damage at rest may cost the newest [`DAMAGE_COMMITS`] synced commits, because damage in the last records of the log is the
//! same as a torn write; what is there is still whole and a prefix.
//!
//! **Tripped by** `aof_ack_before_sync`, `aof_append_after_torn_tail`, `aof_no_crc`, `aof_ignore_sync_error`,
//! `aof_no_dir_sync_on_roll`, `manifest_not_synced`, `wal_deleted_before_flush_installed`, `table_not_synced`,
//! `current_rename_without_dir_sync`, and most others of the zoo.

use super::history::{Commit, History, Promise, Stop};
use crate::profile::engine::value::{KeyId, Stamp};
use std::collections::BTreeMap;

/// How many of the newest synced commits one damaged sector may turn into a torn tail: the smallest records have 80 bytes.
pub const DAMAGE_COMMITS: usize = 8;
/// How many orders of unanswered commits are tried before the checker gives up and lets the run pass.
const ARRANGEMENTS_MAX: usize = 20_000;

/// What a database holds.
pub type Content = BTreeMap<KeyId, Stamp>;

/// What is wrong; the names are what shrinking holds on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A commit that was promised to survive is gone.
    Lost(String),
    /// The content is at no cut of the commit order: a hole, half a batch, or something from elsewhere.
    NotAPrefix(String),
    /// The content holds commits whose sequence numbers the database will give out again.
    Behind(String),
}

/// What was found after an opening.
#[derive(Clone, Copy, Debug)]
pub struct Recovered<'a> {
    /// What the database holds.
    pub content: &'a Content,
    /// The newest sequence number that it says it holds.
    pub seq: u64,
}

/// Checks `recovered` against `history` after `stop`, with `damages` places damaged at rest.
///
/// # Errors
/// A write is lost, the content is no prefix, or it holds more than its sequence number says.
pub fn check(history: &History, recovered: Recovered<'_>, stop: Stop, damages: usize) -> Result<(), Fault> {
    let mut line: Vec<&Commit> = history.commits.iter().filter(|commit| commit.seqs().is_some()).collect();
    line.sort_by_key(|commit| commit.seqs());
    let unknown: Vec<&Commit> =
        history.commits.iter().filter(|commit| commit.ending == super::history::Ending::Unknown).collect();
    let survivors = survivors(history, &line, stop, damages);

    let place = |survivors: usize, seq_max: u64| {
        let target = recovered.content;
        let (from, to) = history.fading.moments_of_opening();
        // What the clock had shown may be damaged too.
        let moments = (if damages > 0 { 0 } else { from }, to);
        let mut search = Search {
            history,
            recovered: target,
            moments,
            line: &line,
            seq_max,
            tried: 0,
            order: Vec::new(),
            best: None,
        };
        let placed = search.place(&unknown, survivors);
        (placed || search.tried >= ARRANGEMENTS_MAX, search.best)
    };
    if place(survivors, recovered.seq).0 {
        return Ok(());
    }
    // No legal cut: tell the reasons apart by asking for less.
    if place(survivors, u64::MAX).0 {
        let seq = recovered.seq;
        return Err(Fault::Behind(format!("reopened at sequence {seq}, but the content holds commits behind that")));
    }
    let describe = |cut: usize| match line.get(cut) {
        Some(commit) => format!("step {} (sequence {:?})", commit.step, commit.seqs()),
        None => "none".into(),
    };
    if let (true, cut) = place(0, u64::MAX) {
        let last = describe(survivors - 1);
        return Err(Fault::Lost(format!(
            "after {stop:?} the content is that of before {}, but {last} was promised to survive",
            describe(cut.unwrap_or(0))
        )));
    }
    Err(Fault::NotAPrefix(explain(history, recovered.content, &line, survivors)))
}

/// Returns how many commits of `line`, from its start, must have survived.
fn survivors(history: &History, line: &[&Commit], stop: Stop, damages: usize) -> usize {
    let needed = match stop {
        Stop::Close => Promise::None,
        Stop::Process => Promise::Process,
        Stop::Power => Promise::Power,
    };
    let promised = |commit: &Commit| history.promise(commit) >= needed;
    if damages == 0 {
        return line.iter().rposition(|commit| promised(commit)).map_or(0, |at| at + 1);
    }
    // Go back through synced commits, each acknowledged before the next was called: damage reaches so far.
    let mut before = u64::MAX;
    for _ in 0..damages.saturating_mul(DAMAGE_COMMITS) {
        let earlier = line.iter().filter(|commit| {
            history.promise(commit) == Promise::Power && commit.acknowledged().is_some_and(|at| at < before)
        });
        match earlier.max_by_key(|commit| commit.acknowledged()) {
            Some(commit) => before = commit.called,
            None => return 0,
        }
    }
    let safe = |commit: &Commit| {
        history.promise(commit) == Promise::Power && commit.acknowledged().is_some_and(|at| at < before)
    };
    line.iter().rposition(|commit| safe(commit)).map_or(0, |at| at + 1)
}

/// Tries the places that unanswered commits may have in the line.
struct Search<'a> {
    history: &'a History,
    recovered: &'a Content,
    /// Between which moments it was read.
    moments: (u64, u64),
    line: &'a [&'a Commit],
    /// The content holds nothing with a larger number.
    seq_max: u64,
    tried: usize,
    /// Unanswered commits with the position in `line` that they stand before.
    order: Vec<(usize, &'a Commit)>,
    best: Option<usize>,
}

impl<'a> Search<'a> {
    /// Places the commits of `rest` one after another; returns whether there is a legal cut.
    fn place(&mut self, rest: &[&'a Commit], survivors: usize) -> bool {
        let Some((&commit, rest)) = rest.split_first() else {
            self.tried += 1;
            return self.cut(survivors);
        };
        let visible =
            commit.writes.iter().any(|(key, stamp)| stamp.is_some() && self.recovered.get(key) == stamp.as_ref());
        if !visible && self.place(rest, survivors) {
            return true;
        }
        // Behind everything that was acknowledged before it was called, where there is room, last places first.
        let earliest = self.line.iter().rposition(|other| other.acknowledged().is_some_and(|at| at < commit.called));
        let earliest = earliest.map_or(0, |at| at + 1);
        for position in (earliest..=self.line.len()).rev() {
            if self.tried >= ARRANGEMENTS_MAX {
                return false;
            }
            if self.room(position) < commit.operations {
                continue;
            }
            let same: Vec<usize> = (0..=self.order.len())
                .filter(|&at| {
                    (at == 0 || self.order[at - 1].0 <= position)
                        && (at == self.order.len() || self.order[at].0 >= position)
                })
                .collect();
            for at in same {
                self.order.insert(at, (position, commit));
                let found = self.place(rest, survivors);
                self.order.remove(at);
                if found {
                    return true;
                }
            }
        }
        false
    }

    /// Returns how many sequence numbers are free before position `at`.
    fn room(&self, at: usize) -> u64 {
        let Some((first, _)) = self.line.get(at).and_then(|commit| commit.seqs()) else { return u64::MAX };
        let previous =
            if at == 0 { self.history.base_seq } else { self.line[at - 1].seqs().map_or(0, |(_, last)| last) };
        let taken: u64 = self.order.iter().filter(|(p, _)| *p == at).map(|(_, commit)| commit.operations).sum();
        first.saturating_sub(previous + 1).saturating_sub(taken)
    }

    /// Looks for a cut, at or after `survivors`, where the content is the recovered one.
    fn cut(&mut self, survivors: usize) -> bool {
        let mut content = Diff::new(self.history, self.recovered, self.moments);
        let mut extra = self.order.iter().peekable();
        for position in 0..=self.line.len() {
            loop {
                if position >= survivors && content.equal() {
                    self.best = Some(position);
                    return true;
                }
                match extra.peek() {
                    Some((at, commit)) if *at == position => {
                        content.apply(commit);
                        extra.next();
                    }
                    _ => break,
                }
            }
            if let Some(commit) = self.line.get(position) {
                content.apply(commit);
                if commit.seqs().is_some_and(|(_, last)| last > self.seq_max) {
                    return false;
                }
            }
        }
        false
    }
}

/// A content that changes, with the number of keys where it differs from another one.
struct Diff<'a> {
    target: &'a Content,
    history: &'a History,
    moments: (u64, u64),
    changed: BTreeMap<KeyId, Option<Stamp>>,
    differing: usize,
}

impl<'a> Diff<'a> {
    fn new(history: &'a History, target: &'a Content, moments: (u64, u64)) -> Diff<'a> {
        let mut diff = Diff { target, history, moments, changed: BTreeMap::new(), differing: 0 };
        let keys: std::collections::BTreeSet<&KeyId> = target.keys().chain(history.base.keys()).collect();
        diff.differing = keys.into_iter().filter(|key| !diff.same(**key, history.base.get(*key).copied())).count();
        diff
    }

    /// Returns whether a key that had `held` last may be found as it was.
    fn same(&self, key: KeyId, held: Option<Stamp>) -> bool {
        self.history.fading.same(key, held, self.target.get(&key).copied(), self.moments)
    }

    fn apply(&mut self, commit: &Commit) {
        for (key, stamp) in &commit.writes {
            let before = self.changed.get(key).copied().unwrap_or_else(|| self.history.base.get(key).copied());
            let after = stamp.map(|stamp| stamp.onto(before));
            self.changed.insert(*key, after);
            self.differing -= usize::from(!self.same(*key, before));
            self.differing += usize::from(!self.same(*key, after));
        }
    }

    fn equal(&self) -> bool {
        self.differing == 0
    }
}

/// Says which keys differ from the content that should be there.
fn explain(history: &History, recovered: &Content, line: &[&Commit], survivors: usize) -> String {
    let mut expected = history.base.clone();
    for commit in &line[..survivors] {
        apply(&mut expected, commit);
    }
    let mut differences = Vec::new();
    let keys: std::collections::BTreeSet<KeyId> = expected.keys().chain(recovered.keys()).copied().collect();
    for key in keys {
        let (want, have) = (expected.get(&key), recovered.get(&key));
        if want != have {
            let show =
                |stamp: Option<&Stamp>| stamp.map_or("nothing".into(), |s| format!("the value of step {}", s.step));
            differences.push(format!("key {key} has {} where the surviving commits leave {}", show(have), show(want)));
        }
    }
    let more = differences.len().saturating_sub(4);
    differences.truncate(4);
    let more = if more > 0 { format!("; and {more} more keys") } else { String::new() };
    format!("the content is at no cut of the commit order: {}{more}", differences.join("; "))
}

/// Applies a commit to a content.
pub fn apply(content: &mut Content, commit: &Commit) {
    for (key, stamp) in &commit.writes {
        match stamp {
            Some(stamp) => content.insert(*key, stamp.onto(content.get(key).copied())),
            None => content.remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Ending;
    use super::*;

    fn put(history: &mut History, step: u32, keys: &[KeyId], promise: Promise, seq: Option<u64>) {
        let stamp = Stamp::put(step, 20);
        let called = history.tick();
        let count = keys.len() as u64;
        let ending = match seq {
            Some(first) => Ending::Acknowledged { at: history.tick(), first, last: first + count - 1 },
            None => Ending::Unknown,
        };
        let writes = keys.iter().map(|key| (*key, Some(stamp))).collect();
        history.commits.push(Commit { step, writes, operations: count, promise, called, ending });
    }

    fn content(entries: &[(KeyId, u32)]) -> Content {
        entries.iter().map(|(key, step)| (*key, Stamp::put(*step, 20))).collect()
    }

    fn check(history: &History, content: &Content, stop: Stop, damages: usize) -> Result<(), Fault> {
        super::check(history, Recovered { content, seq: u64::MAX }, stop, damages)
    }

    fn three_writes() -> History {
        let mut history = History::default();
        put(&mut history, 1, &[1], Promise::Power, Some(1));
        put(&mut history, 2, &[1, 2], Promise::Process, Some(2));
        put(&mut history, 3, &[3], Promise::None, Some(4));
        history
    }

    #[test]
    fn every_prefix_from_the_last_promise_is_legal() {
        let history = three_writes();
        let prefixes =
            [content(&[]), content(&[(1, 1)]), content(&[(1, 2), (2, 2)]), content(&[(1, 2), (2, 2), (3, 3)])];
        for (stop, first) in [(Stop::Power, 1), (Stop::Process, 2), (Stop::Close, 3)] {
            for (at, prefix) in prefixes.iter().enumerate() {
                let result = check(&history, prefix, stop, 0);
                assert_eq!(result.is_ok(), at >= first, "{stop:?} {at} {result:?}");
                assert!(at >= first || matches!(result, Err(Fault::Lost(_))));
            }
        }
    }

    #[test]
    fn half_a_batch_and_a_hole_are_no_prefix() {
        let history = three_writes();
        for wrong in [content(&[(1, 2)]), content(&[(1, 1), (3, 3)]), content(&[(1, 1), (7, 7)])] {
            assert!(matches!(check(&history, &wrong, Stop::Power, 0), Err(Fault::NotAPrefix(_))), "{wrong:?}");
        }
    }

    #[test]
    fn an_unanswered_commit_fits_a_gap_or_the_end_or_nowhere() {
        let mut history = History::default();
        put(&mut history, 1, &[1], Promise::Power, Some(1));
        put(&mut history, 2, &[2], Promise::Power, None);
        put(&mut history, 3, &[2, 3], Promise::Power, None);
        put(&mut history, 4, &[2], Promise::Power, Some(3));
        let legal = [content(&[(1, 1), (2, 4)]), content(&[(1, 1), (2, 3), (3, 3)]), content(&[(1, 1), (2, 2)])];
        for content in legal {
            assert!(check(&history, &content, Stop::Power, 0).is_ok(), "{content:?}");
        }
        // Step 3 takes two numbers, and there is one before step 4: it cannot lie hidden below it.
        let wrong = content(&[(1, 1), (2, 4), (3, 3)]);
        assert!(matches!(check(&history, &wrong, Stop::Power, 0), Err(Fault::NotAPrefix(_))));
    }

    #[test]
    fn a_persist_promises_what_came_before_it() {
        let mut history = three_writes();
        let called = history.tick();
        history.persists.push((called, Promise::Power));
        put(&mut history, 4, &[4], Promise::None, Some(5));
        assert!(check(&history, &content(&[(1, 1)]), Stop::Power, 0).is_err());
        assert!(check(&history, &content(&[(1, 2), (2, 2), (3, 3)]), Stop::Power, 0).is_ok());
    }

    #[test]
    fn the_sequence_number_must_reach_the_content() {
        let history = three_writes();
        let content = content(&[(1, 2), (2, 2)]);
        let at = |seq| super::check(&history, Recovered { content: &content, seq }, Stop::Power, 0);
        assert!(at(3).is_ok());
        assert!(matches!(at(2), Err(Fault::Behind(_))));
    }

    #[test]
    fn rot_may_cut_the_newest_commits_only() {
        let mut history = History::default();
        for step in 1..=40 {
            put(&mut history, step, &[step as KeyId], Promise::Power, Some(u64::from(step)));
        }
        let prefix = |count: u32| content(&(1..=count).map(|step| (step as KeyId, step)).collect::<Vec<_>>());
        assert!(check(&history, &prefix(39), Stop::Power, 0).is_err());
        assert!(check(&history, &prefix(39), Stop::Power, 2).is_ok());
        assert!(check(&history, &prefix(24), Stop::Power, 2).is_ok());
        assert!(check(&history, &prefix(20), Stop::Power, 2).is_err());
    }
}
