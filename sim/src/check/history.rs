//! What the clients of a run asked for and what they were told: the evidence that the checkers judge.
//!
//! Written by the client fibers as they go, read by the checkers when an incarnation of the process has ended. It lives outside the
//! simulated process, so a crash does not touch it. Time is a counter that grows at each call and each return, which gives the
//! real-time order of all operations.
//!
//! Only the current incarnation is kept in full: once a reopened database was read completely and found legal, its content is the
//! new [`History::base`] and the commits before it are forgotten.

pub use super::evidence::{Stop, Time};
use crate::profile::engine::value::{KeyId, Stamp, StepId};
use std::collections::BTreeMap;

/// What a write was promised, in increasing strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing: it may be lost with the process.
    None,
    /// Survives the death of the process.
    Process,
    /// Survives a power loss.
    Power,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It had not returned when the process died, or it returned an error: it may or may not be there.
    Unknown,
    /// It was refused before anything was written: it must not be there.
    Refused,
    /// It was acknowledged at `at` with these sequence numbers, both included.
    Acknowledged {
        /// When.
        at: Time,
        /// The sequence number of its first operation.
        first: u64,
        /// The sequence number of its last operation.
        last: u64,
    },
}

/// One batch of writes.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its number in the case.
    pub step: StepId,
    /// What it writes, at most once a key: a value or an operand, or `None` for a delete.
    pub writes: Vec<(KeyId, Option<Stamp>)>,
    /// How many operations it has, with those on the same key: so many sequence numbers it takes.
    pub operations: u64,
    /// What its acknowledgement promises.
    pub promise: Promise,
    /// When it was called.
    pub called: Time,
    /// How it ended.
    pub ending: Ending,
}

impl Commit {
    /// Returns (first, last) sequence number if it was acknowledged.
    pub fn seqs(&self) -> Option<(u64, u64)> {
        match self.ending {
            Ending::Acknowledged { first, last, .. } => Some((first, last)),
            _ => None,
        }
    }

    /// Returns when it was acknowledged.
    pub fn acknowledged(&self) -> Option<Time> {
        match self.ending {
            Ending::Acknowledged { at, .. } => Some(at),
            _ => None,
        }
    }
}

/// What one reader saw of the keys from `start` to before `end`, all of them.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The first key that was looked at.
    pub start: KeyId,
    /// The first key behind those that were looked at.
    pub end: KeyId,
    /// The keys that had a value, ascending.
    pub found: Vec<(KeyId, Stamp)>,
}

/// One consistent view: a get, an iterator, or a snapshot with all that was read through it.
#[derive(Clone, Debug)]
pub struct View {
    /// The operation that opened it, for the message.
    pub step: StepId,
    /// When opening it was called.
    pub called: Time,
    /// When opening it returned; for a get, when the get returned.
    pub opened: Time,
    /// The sequence number it says it stands at, if it says one.
    pub seq: Option<u64>,
    /// What was seen through it.
    pub sights: Vec<Sight>,
}

/// The evidence of one incarnation, on top of what it started from.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What the database held when this incarnation was opened.
    pub base: BTreeMap<KeyId, Stamp>,
    /// The newest sequence number that the base surely holds.
    pub base_seq: u64,
    /// All writes called since.
    pub commits: Vec<Commit>,
    /// All that was read since.
    pub views: Vec<View>,
    /// Successful calls that make all earlier writes safe: when called, and against what.
    pub persists: Vec<(Time, Promise)>,
    clock: Time,
}

impl History {
    /// Returns the next moment.
    pub fn tick(&mut self) -> Time {
        self.clock += 1;
        self.clock
    }

    /// Starts the next incarnation from `base`.
    pub fn restart(&mut self, base: BTreeMap<KeyId, Stamp>, base_seq: u64) {
        self.base = base;
        self.base_seq = base_seq;
        self.commits.clear();
        self.views.clear();
        self.persists.clear();
    }

    /// Returns what commit `at` was promised in the end: by its acknowledgement or by a later persist.
    pub fn promise(&self, commit: &Commit) -> Promise {
        let Some(acknowledged) = commit.acknowledged() else { return Promise::None };
        let persisted =
            self.persists.iter().filter(|(called, _)| *called > acknowledged).map(|(_, promise)| *promise).max();
        commit.promise.max(persisted.unwrap_or(Promise::None))
    }
}
