//! What the clients of a run asked for and what they were told: the evidence that the checkers judge.
//!
//! Written by the client fibers as they go, read by the checkers when an incarnation of the process has ended. It lives outside the
//! simulated process, so a crash does not touch it. Time is a counter that grows at each call and each return, which gives the
//! real-time order of all operations.
//!
//! Only the current incarnation is kept in full: once a reopened database was read completely and found legal, its content is the
//! new [`History::base`] and the commits before it are forgotten.

pub use super::evidence::{Stop, Time};
use crate::env::{Shown, forget_wall, is_damaged, wall_shown};
use crate::profile::engine::value::{KeyId, Stamp, StepId, filtered_step};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Whether it was read by a clock of its own, some time later.
    pub late: bool,
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
    /// What may not stay for ever.
    pub fading: Fading,
    clock: Time,
}

/// Which values expire, or are removed by a filter, and what the clock has shown by which one judges that.
#[derive(Clone, Debug, Default)]
pub struct Fading {
    /// By key and step: the earliest and the latest moment at which the value may expire.
    expiries: BTreeMap<(KeyId, StepId), (u64, u64)>,
    /// Values that were not found again although they may not have expired: they may come back after a crash.
    limbo: BTreeSet<(KeyId, Stamp)>,
    /// From when on the clock had shown what at least, and at most.
    shown: Vec<(Time, Shown)>,
    /// When the database was last opened.
    opened: Time,
    /// Whether a filter removes values.
    pub filtered: bool,
}

/// Whether a value that was the newest at some point may have been seen by a reader, and whether it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct May {
    /// It may have been there.
    pub there: bool,
    /// It may have been absent.
    pub absent: bool,
}

impl Fading {
    /// Notes that `step` writes a value of `key` that expires `ttl_us` after its commit, which is called now.
    pub fn expires(&mut self, key: KeyId, step: StepId, ttl_us: u64) {
        let from = wall_shown().since.saturating_add(ttl_us);
        self.expiries.insert((key, step), (from, u64::MAX));
    }

    /// Notes that the commit has ended.
    pub fn committed(&mut self, key: KeyId, step: StepId, ttl_us: u64) {
        if let Some((_, to)) = self.expiries.get_mut(&(key, step)) {
            *to = wall_shown().ever.saturating_add(ttl_us);
        }
    }

    fn tick(&mut self, now: Time) {
        let shown = wall_shown();
        if self.shown.last().is_none_or(|(_, last)| *last != shown) {
            self.shown.push((now, shown));
        }
    }

    fn shown_at(&self, time: Time) -> Shown {
        let at = self.shown.partition_point(|(from, _)| *from <= time);
        at.checked_sub(1).map_or_else(Shown::default, |at| self.shown[at].1)
    }

    /// Returns between which moments a reader judges that was called and there then.
    pub fn moments(&self, called: Time, there: Time) -> (u64, u64) {
        (self.shown_at(called).since, self.shown_at(there).ever)
    }

    /// Returns between which moments a reader judges that reads everything after an opening.
    pub fn moments_of_opening(&self) -> (u64, u64) {
        self.moments(self.opened, Time::MAX)
    }

    /// Says what a reader between `moments` may see of `stamp`, the newest value of `key`.
    pub fn may(&self, key: KeyId, stamp: Stamp, moments: (u64, u64)) -> May {
        let filtered = self.filtered && is_filtered(stamp);
        match self.expiries.get(&(key, stamp.step)).filter(|_| !stamp.is_merged()) {
            None => May { there: true, absent: filtered },
            Some((from, to)) => May { there: *to > moments.0, absent: filtered || *from <= moments.1 },
        }
    }

    /// Returns whether a filter may have removed `first` before `later` was seen: a compaction that began before the snapshot was
    /// made does not know of it.
    pub fn filtered_between(&self, first: Option<Stamp>, later: Option<Stamp>) -> bool {
        self.filtered && later.is_none() && first.is_some_and(is_filtered)
    }

    /// Returns whether `stamp` may be back.
    pub fn may_be_back(&self, key: KeyId, stamp: Stamp, moments: (u64, u64)) -> bool {
        self.limbo.contains(&(key, stamp)) && self.may(key, stamp, moments).there
    }

    /// Returns whether a reader between `moments` may see `seen` of a key whose newest value is `held`.
    pub fn same(&self, key: KeyId, held: Option<Stamp>, seen: Option<Stamp>, moments: (u64, u64)) -> bool {
        match (held, seen) {
            (None, Some(seen)) => self.may_be_back(key, seen, moments),
            (Some(held), None) => self.may(key, held, moments).absent,
            (Some(held), Some(seen)) => held == seen && self.may(key, held, moments).there,
            (None, None) => true,
        }
    }
}

/// Whether a filter removes a value.
fn is_filtered(stamp: Stamp) -> bool {
    filtered_step(stamp.step)
}

impl History {
    /// Returns the next moment.
    pub fn tick(&mut self) -> Time {
        self.clock += 1;
        self.fading.tick(self.clock);
        self.clock
    }

    /// Starts the next incarnation from `base`.
    pub fn restart(&mut self, base: BTreeMap<KeyId, Stamp>, base_seq: u64) {
        let stamps = self.commits.iter().flat_map(|commit| &commit.writes);
        let stamps = stamps.filter_map(|(key, stamp)| Some((*key, (*stamp)?)));
        let before = self.base.iter().map(|(key, stamp)| (*key, *stamp));
        let gone = stamps.chain(before).filter(|(key, stamp)| {
            self.fading.expiries.contains_key(&(*key, stamp.step)) && base.get(key) != Some(stamp)
        });
        let gone: Vec<_> = gone.collect();
        self.fading.limbo.extend(gone);
        self.base = base;
        self.base_seq = base_seq;
        self.commits.clear();
        self.views.clear();
        self.persists.clear();
    }

    /// Notes that the database is opened; what the clock had shown holds on if it was `closed` in order.
    pub fn opens(&mut self, closed: bool) {
        if !closed || is_damaged() {
            forget_wall();
        }
        let now = self.tick();
        self.fading.opened = now;
    }

    /// Returns what commit `at` was promised in the end: by its acknowledgement or by a later persist.
    pub fn promise(&self, commit: &Commit) -> Promise {
        let Some(acknowledged) = commit.acknowledged() else { return Promise::None };
        let persisted =
            self.persists.iter().filter(|(called, _)| *called > acknowledged).map(|(_, promise)| *promise).max();
        commit.promise.max(persisted.unwrap_or(Promise::None))
    }
}
