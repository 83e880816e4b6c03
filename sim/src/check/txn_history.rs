//! What transactions asked for and were told, beside the [`History`] that their commits and snapshots are in.
//!
//! Written by the client fibers as they go. What a transaction read of its own writes is judged on the spot and not kept: a
//! [`Txn`] holds what it saw of others.

use super::history::{Commit, Ending, History, Sight, Time};
use crate::profile::engine::value::{KeyId, Stamp, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnEnd {
    /// It was taken back, or nothing is known: nobody may depend on what it read.
    Undone,
    /// It committed without a write: it has read at this sequence number.
    Read {
        /// When that was told.
        at: Time,
        /// The number.
        seq: u64,
    },
    /// It asked to commit: the number of its commit in [`History::commits`].
    Commit(usize),
}

/// One attempt at a transaction.
#[derive(Clone, Debug)]
pub struct Txn {
    /// The step it is an attempt of.
    pub step: StepId,
    /// When it was begun.
    pub begun: Time,
    /// What it saw of others.
    pub reads: Vec<Sight>,
    /// How it ended.
    pub end: TxnEnd,
}

/// What happened at one moment, as far as anybody can tell: a transaction, a batch, or a reader.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// The step, for the message.
    pub step: StepId,
    /// Not before this.
    pub called: Time,
    /// Not after this; `None` if there was no answer.
    pub returned: Option<Time>,
    /// What it read of others.
    pub reads: &'a [Sight],
    /// What it wrote, at most once a key.
    pub writes: &'a [(KeyId, Option<Stamp>)],
}

impl<'a> Node<'a> {
    pub(super) fn of_commit(commit: &'a Commit, txn: Option<&'a Txn>) -> Node<'a> {
        Node {
            step: commit.step,
            called: txn.map_or(commit.called, |txn| txn.begun),
            returned: commit.acknowledged(),
            reads: txn.map_or(&[], |txn| &txn.reads),
            writes: &commit.writes,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("step {}", self.step)
    }
}

/// Commits and the transactions that they are of.
pub(super) struct Commits<'a> {
    pub(super) history: &'a History,
    of: BTreeMap<usize, &'a Txn>,
}

impl<'a> Commits<'a> {
    pub(super) fn new(history: &'a History, txns: &'a [Txn]) -> Commits<'a> {
        let of = txns.iter().filter_map(|txn| match txn.end {
            TxnEnd::Commit(commit) => Some((commit, txn)),
            _ => None,
        });
        Commits { history, of: of.collect() }
    }

    /// Returns the node of a commit.
    pub(super) fn node(&self, commit: usize) -> Node<'a> {
        Node::of_commit(&self.history.commits[commit], self.of.get(&commit).copied())
    }

    /// Returns the commits that ended in this way.
    pub(super) fn ended(&self, ending: impl Fn(Ending) -> bool) -> Vec<usize> {
        let commits = self.history.commits.iter().enumerate();
        commits.filter(|(_, commit)| ending(commit.ending)).map(|(at, _)| at).collect()
    }

    /// Returns the commits without an answer that somebody saw, and those that one of these saw.
    pub(super) fn seen(&self, reads: impl Iterator<Item = &'a Sight>) -> BTreeSet<usize> {
        let unknown = self.ended(|ending| ending == Ending::Unknown);
        let mut writer: BTreeMap<(KeyId, Stamp), usize> = BTreeMap::new();
        for at in unknown {
            let writes = self.history.commits[at].writes.iter();
            writer.extend(writes.filter_map(|(key, stamp)| stamp.map(|stamp| ((*key, stamp), at))));
        }
        let mut seen = BTreeSet::new();
        let mut sights: Vec<&Sight> = reads.collect();
        while let Some(sight) = sights.pop() {
            for found in &sight.found {
                if let Some(at) = writer.get(found)
                    && seen.insert(*at)
                {
                    sights.extend(self.node(*at).reads);
                }
            }
        }
        seen
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::history::Promise;
    use super::*;

    /// A history that a test writes down: one transaction after the other.
    #[derive(Default)]
    pub(in super::super) struct Story {
        pub(in super::super) history: History,
        pub(in super::super) txns: Vec<Txn>,
        next: u64,
    }

    pub(in super::super) fn stamp(step: StepId) -> Stamp {
        Stamp::put(step, 20)
    }

    /// What was seen of one key: the step that wrote it, 0 for nothing.
    pub(in super::super) fn saw(key: KeyId, step: StepId) -> Sight {
        range(key, key + 1, &[(key, step)])
    }

    pub(in super::super) fn range(start: KeyId, end: KeyId, found: &[(KeyId, StepId)]) -> Sight {
        let found = found.iter().filter(|(_, step)| *step > 0).map(|(key, step)| (*key, stamp(*step)));
        Sight { start, end, found: found.collect() }
    }

    impl Story {
        /// A transaction begins now.
        pub(in super::super) fn begin(&mut self, step: StepId, reads: Vec<Sight>) -> usize {
            let begun = self.history.tick();
            self.txns.push(Txn { step, begun, reads, end: TxnEnd::Undone });
            self.txns.len() - 1
        }

        /// It commits now; `false` deletes.
        pub(in super::super) fn commit(&mut self, txn: usize, writes: &[(KeyId, bool)]) {
            self.next += writes.len() as u64;
            let (last, operations) = (self.next, writes.len() as u64);
            let commit = self.called(txn, writes);
            let at = self.history.tick();
            let first = last + 1 - operations;
            self.history.commits[commit].ending = Ending::Acknowledged { at, first, last };
        }

        /// It asks to commit, takes its numbers or not, and has no answer.
        pub(in super::super) fn unanswered(&mut self, txn: usize, writes: &[(KeyId, bool)], takes_numbers: bool) {
            self.next += if takes_numbers { writes.len() as u64 } else { 0 };
            self.called(txn, writes);
        }

        fn called(&mut self, txn: usize, writes: &[(KeyId, bool)]) -> usize {
            let step = self.txns[txn].step;
            let called = self.history.tick();
            let operations = writes.len() as u64;
            let writes = writes.iter().map(|(key, put)| (*key, put.then(|| stamp(step)))).collect();
            let (promise, ending) = (Promise::None, Ending::Unknown);
            self.history.commits.push(Commit { step, writes, operations, promise, called, ending });
            self.txns[txn].end = TxnEnd::Commit(self.history.commits.len() - 1);
            self.history.commits.len() - 1
        }

        /// It commits and has written nothing.
        pub(in super::super) fn read_only(&mut self, txn: usize, seq: u64) {
            let at = self.history.tick();
            self.txns[txn].end = TxnEnd::Read { at, seq };
        }

        /// A transaction begins and commits at once.
        pub(in super::super) fn at_once(&mut self, step: StepId, reads: Vec<Sight>, writes: &[(KeyId, bool)]) {
            let txn = self.begin(step, reads);
            self.commit(txn, writes);
        }
    }
}
