//! One attempt at a transaction: does what the step says, keeps what it saw of others and what it wrote itself.
//!
//! Own writes are a model of their own: what is read of them is compared on the spot, and what others wrote is left to the
//! checkers. An attempt that fails is over; what it read is still judged, as that of its snapshot, or of the moment of the call
//! if it read under a lock.
//!
//! **A conflict has a cause:** another has written what this one has asked for since it began; or, of a key that it has locked and
//! read, somebody who heeds no lock has written it since.

use super::case::{Act, Lock, Manner, is_account};
use super::opened::Opened;
use super::{Shared, State};
use crate::SimEnv;
use crate::check::bank;
use crate::check::history::{Commit, Ending, Promise, Sight, Time};
use crate::check::locks::{Answer, Fault, Mode};
use crate::check::txn_history::{Txn, TxnEnd};
use crate::profile::engine::case::{Level, Scan, Walk};
use crate::profile::engine::value::{KeyId, Stamp, StepId, VALUE_BYTES_MIN, encode};
use crate::profile::walk::{Walker, bounds};
use aidb::ErrorKind;
use aidb::env::Env;
use aidb::lsm::{Durability, Savepoint, Transaction, TransactionOptions};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Why an attempt goes no further.
pub(super) enum Over {
    /// Another was in the way.
    Conflict,
    /// Nothing can be done about it.
    Failed,
}

/// Where a transaction can return to.
struct Mark {
    savepoint: Savepoint,
    own: usize,
    locked: usize,
    held: BTreeMap<KeyId, Mode>,
}

/// A read under a lock.
struct LockedRead {
    called: Time,
    sight: Sight,
}

/// A transaction under way.
pub(super) struct Attempt<'a> {
    env: &'a SimEnv,
    opened: &'a Opened,
    shared: &'a Shared,
    id: StepId,
    number: u64,
    pessimistic: bool,
    /// `None` once it has ended.
    txn: Option<Transaction<SimEnv>>,
    begun: Time,
    /// The view of its snapshot.
    view: usize,
    /// Its writes, in order.
    own: Vec<(KeyId, Option<Stamp>)>,
    /// Which of them each of its range deletes did.
    ranges: Vec<Range<usize>>,
    savepoints: Vec<Mark>,
    reads: Vec<Sight>,
    locked: Vec<LockedRead>,
    /// Every range that it asked for without a lock.
    asked: Vec<(KeyId, KeyId)>,
    /// All that it found when it read everything, if it is only known at the commit whether that fits together.
    whole: Vec<Vec<(KeyId, Stamp)>>,
    /// How many values the step has written so far, in all attempts.
    written: &'a mut u32,
}

impl<'a> Attempt<'a> {
    pub(super) fn begin(
        env: &'a SimEnv,
        opened: &'a Opened,
        shared: &'a Shared,
        (id, manner): (StepId, Manner),
        written: &'a mut u32,
    ) -> Attempt<'a> {
        let mut options = TransactionOptions::default();
        if let Manner::Pessimistic { timeout_us } = manner {
            (options.pessimistic, options.lock_timeout) = (true, Duration::from_micros(timeout_us.into()));
        }
        let begun = shared.tick();
        let txn = opened.engine.transaction(options);
        let view = shared.view(id, begun, Some(txn.seq().0));
        let number = shared.with(|state| {
            state.own.begun += 1;
            state.own.begun
        });
        let (own, ranges, savepoints, reads, asked) = Default::default();
        let (locked, whole, pessimistic, txn) = (Vec::new(), Vec::new(), options.pessimistic, Some(txn));
        Attempt {
            env,
            opened,
            shared,
            id,
            number,
            pessimistic,
            txn,
            begun,
            view,
            own,
            ranges,
            savepoints,
            reads,
            locked,
            asked,
            whole,
            written,
        }
    }

    pub(super) fn act(&mut self, act: &Act) -> Result<(), Over> {
        let count = self.shared.keys().count();
        match act {
            Act::Get { key, lock } => drop(self.get(*key, *lock)?),
            Act::Scan(scan) => {
                let range = (scan.start.min(count), scan.end.min(count));
                for part in self.opened.parts(range) {
                    self.walk(scan, part);
                }
            }
            Act::Put { key, bytes } if !is_account(*key) => self.write(*key, Some(*bytes))?,
            Act::Delete { key, as_range: true } if !is_account(*key) => self.delete_range((*key, key + 1))?,
            Act::Delete { key, .. } if !is_account(*key) => self.write(*key, None)?,
            Act::Move { from, to, amount } if is_account(*from) && is_account(*to) && from != to => {
                let (had, has) = (self.amount(*from)?, self.amount(*to)?);
                self.set(*from, had - i64::from(*amount))?;
                self.set(*to, has + i64::from(*amount))?;
            }
            Act::Collect { start, end, into, back, clear } if is_account(*into) => {
                let range = (*start.min(&count), *end.min(&count));
                let found = self.all(range, *back)?;
                let inside = (*start..*end).contains(into);
                let mut sum = if inside { 0 } else { self.amount(*into)? };
                for (key, stamp) in found.into_iter().filter(|(key, _)| is_account(*key)) {
                    sum += self.amount_of(key, stamp);
                    if !clear {
                        self.write(key, None)?;
                    }
                }
                if *clear {
                    self.delete_range(range)?;
                }
                self.set(*into, sum)?;
            }
            Act::Settle { key, back } if is_account(*key) => {
                let found = self.all((0, count), *back)?;
                let others = found.into_iter().filter(|(other, _)| other != key);
                let sum: i64 = others.map(|(key, stamp)| self.amount_of(key, stamp)).sum();
                self.set(*key, -sum)?;
            }
            Act::Savepoint => self.set_savepoint(),
            Act::RollBack { to } => self.roll_back(*to)?,
            Act::Sleep { us } => self.env.sleep(Duration::from_micros((*us).into())),
            _ => {}
        }
        Ok(())
    }

    /// Takes in an error of a call.
    fn failed(&self, what: &str, error: &aidb::Error) -> Over {
        if error.is_retryable() {
            return Over::Conflict;
        }
        self.shared.complain(|| format!("{what} in step {}", self.id), error);
        Over::Failed
    }

    /// Makes a call that locks `key`, and tells the checker of locks what comes of it.
    fn locking<T>(
        &mut self,
        key: KeyId,
        mode: Mode,
        call: impl FnOnce(&mut Transaction<SimEnv>) -> aidb::Result<T>,
    ) -> aidb::Result<T> {
        let me = self.number;
        let held = self.shared.with(|state| state.own.locks.held(me).get(&key).copied());
        let asks = self.pessimistic && held < Some(mode);
        if asks {
            let now_ns = self.env.now().0;
            self.shared.with(|state| {
                let now = state.history.tick();
                state.own.locks.called(me, key, mode, now, now_ns);
            });
        }
        let done = call(self.txn.as_mut().expect("it is under way"));
        if asks {
            let answer = match done.as_ref().map_err(aidb::Error::kind) {
                Ok(_) => Answer::Given,
                Err(ErrorKind::TimedOut) => Answer::TimedOut,
                Err(ErrorKind::Deadlock) => Answer::Deadlock,
                Err(_) => Answer::Failed,
            };
            let now_ns = self.env.now().0;
            let judged = self.shared.with(|state| {
                let now = state.history.tick();
                state.own.locks.answered(me, answer, now, now_ns)
            });
            if let Err(fault) = judged {
                let (kind, message) = match fault {
                    Fault::TwoHolders(message) => ("two-holders", message),
                    Fault::Refused(message) => ("refused-lock", message),
                    Fault::Missed(message) => ("deadlock-missed", message),
                };
                self.shared.fail(kind, format!("step {}: {message}", self.id));
            }
        }
        done
    }

    fn get(&mut self, key: KeyId, lock: Lock) -> Result<Option<Stamp>, Over> {
        let (shared, of) = (self.shared, self.opened.of(key).cloned());
        let bytes = shared.keys().bytes(key);
        let lock = if self.pessimistic { lock } else { Lock::None };
        let is_own = self.own.iter().any(|(own, _)| *own == key);
        let was_locked = self.locked.iter().any(|read| read.sight.start == key);
        let newest = !is_own && (lock != Lock::None || was_locked);
        let called = shared.tick();
        let value = match (lock, &of) {
            (Lock::None, None) => self.under_way().get(bytes),
            (Lock::None, Some(of)) => self.under_way().get_in(of, bytes),
            (Lock::Share, None) => self.locking(key, Mode::Shared, |txn| txn.get_for_share(bytes)),
            (Lock::Share, Some(of)) => self.locking(key, Mode::Shared, |txn| txn.get_for_share_in(of, bytes)),
            (Lock::Update, None) => self.locking(key, Mode::Exclusive, |txn| txn.get_for_update(bytes)),
            (Lock::Update, Some(of)) => self.locking(key, Mode::Exclusive, |txn| txn.get_for_update_in(of, bytes)),
        };
        let value = value.map_err(|error| self.failed("get", &error))?;
        let found = match value {
            Some(value) => vec![shared.entry(self.id, bytes, &value).ok_or(Over::Failed)?],
            None => Vec::new(),
        };
        let stamp = found.first().map(|(_, stamp)| *stamp);
        let sight = Sight { start: key, end: key + 1, found };
        if newest {
            let view = shared.view(self.id, called, None);
            shared.saw(view, [sight.clone()]);
            self.locked.push(LockedRead { called, sight });
        } else {
            self.asked.push((key, key + 1));
            self.saw(sight);
        }
        Ok(stamp)
    }

    fn under_way(&self) -> &Transaction<SimEnv> {
        self.txn.as_ref().expect("it is under way")
    }

    /// Walks through a range in one keyspace; returns what was seen.
    fn walk(&mut self, scan: &Scan, part: (KeyId, KeyId)) -> Vec<Sight> {
        self.asked.push(part);
        let iterator = self.opened.seen_by(self.shared, self.under_way(), part);
        let sights = Walker::new(self.env, self.shared, self.id, scan, part).walk(iterator);
        for sight in &sights {
            self.saw(sight.clone());
        }
        sights
    }

    /// Reads a whole range; fails if that was not possible.
    fn all(&mut self, range: (KeyId, KeyId), back: bool) -> Result<Vec<(KeyId, Stamp)>, Over> {
        let mut all = Vec::new();
        for part in self.opened.parts(range) {
            let sights = self.walk(&whole(part, back), part);
            let sight = sights.into_iter().find(|sight| (sight.start, sight.end) == part).ok_or(Over::Failed)?;
            all.extend(sight.found);
        }
        if range == (0, self.shared.keys().count()) {
            // What was read under locks may be newer, until the commit says that it is the same.
            match self.pessimistic {
                true => self.whole.push(all.clone()),
                false => self.shared.balanced(|| format!("the transaction of step {}", self.id), all.iter().copied()),
            }
        }
        Ok(all)
    }

    /// Takes in what was seen: own writes are judged, the rest is kept.
    fn saw(&mut self, sight: Sight) {
        let own: BTreeMap<KeyId, Option<Stamp>> = self.own.iter().copied().collect();
        let mut start = sight.start;
        let mut others = Vec::new();
        for (key, written) in own.range(sight.start..sight.end.max(sight.start)) {
            let found = sight.found.iter().find(|(found, _)| found == key).map(|(_, stamp)| *stamp);
            if found != *written {
                let message =
                    format!("step {} wrote {written:?} to key {key} in its transaction and read {found:?}", self.id);
                self.shared.fail("own-write", message);
            }
            others.push((start, *key));
            start = key + 1;
        }
        others.push((start, sight.end));
        for (start, end) in others.into_iter().filter(|(start, end)| start < end) {
            let found = sight.found.iter().filter(|(key, _)| (start..end).contains(key)).copied().collect();
            let sight = Sight { start, end, found };
            self.reads.push(sight.clone());
            self.shared.saw(self.view, [sight]);
        }
    }

    fn amount(&mut self, key: KeyId) -> Result<i64, Over> {
        let stamp = self.get(key, Lock::Update)?;
        Ok(stamp.map_or(0, |stamp| self.amount_of(key, stamp)))
    }

    fn amount_of(&self, key: KeyId, stamp: Stamp) -> i64 {
        self.shared.with(|state| state.own.amounts.get(&(key, stamp)).copied().unwrap_or(0))
    }

    /// Sets an account.
    fn set(&mut self, key: KeyId, amount: i64) -> Result<(), Over> {
        if amount == 0 {
            return self.write(key, None);
        }
        self.write(key, Some(VALUE_BYTES_MIN))?;
        if let Some((key, Some(stamp))) = self.own.last().copied() {
            self.shared.with(|state| _ = state.own.amounts.insert((key, stamp), amount));
        }
        Ok(())
    }

    /// Puts a value of about so many bytes, or deletes.
    fn write(&mut self, key: KeyId, bytes: Option<u32>) -> Result<(), Over> {
        *self.written += 1;
        // Values of a step differ in their lengths.
        let stamp = bytes.map(|bytes| Stamp::put(self.id, bytes + *self.written));
        let (name, of) = (self.shared.keys().bytes(key), self.opened.of(key).cloned());
        let done = self.locking(key, Mode::Exclusive, |txn| match (of, stamp.map(|stamp| encode(key, stamp))) {
            (None, Some(value)) => txn.put(name, value),
            (None, None) => txn.delete(name),
            (Some(of), Some(value)) => txn.put_in(&of, name, value),
            (Some(of), None) => txn.delete_in(&of, name),
        });
        done.map_err(|error| self.failed("write", &error))?;
        self.own.push((key, stamp));
        Ok(())
    }

    /// Deletes a range of keys, in each keyspace at once.
    fn delete_range(&mut self, range: (KeyId, KeyId)) -> Result<(), Over> {
        for part in self.opened.parts(range) {
            let bounds = bounds(self.shared.keys(), part);
            let txn = self.txn.as_mut().expect("it is under way");
            let done = match self.opened.of(part.0) {
                None => txn.delete_range::<&[u8]>(bounds),
                Some(of) => txn.delete_range_in::<&[u8]>(of, bounds),
            };
            done.map_err(|error| self.failed("delete_range", &error))?;
            let first = self.own.len();
            self.own.extend((part.0..part.1).map(|key| (key, None)));
            self.ranges.push(first..self.own.len());
        }
        Ok(())
    }

    /// Returns how many operations its commit has: each range delete, and the last write of each key that none came after.
    fn operations(&self) -> u64 {
        let last: BTreeMap<KeyId, usize> = self.own.iter().enumerate().map(|(at, (key, _))| (*key, at)).collect();
        let by_range = |at: &usize| self.ranges.iter().any(|range| range.contains(at));
        (self.ranges.len() + last.values().filter(|at| !by_range(at)).count()) as u64
    }

    fn set_savepoint(&mut self) {
        let savepoint = self.txn.as_mut().expect("it is under way").savepoint();
        let held = self.shared.with(|state| state.own.locks.held(self.number));
        let (own, locked) = (self.own.len(), self.locked.len());
        self.savepoints.push(Mark { savepoint, own, locked, held });
    }

    fn roll_back(&mut self, to: u8) -> Result<(), Over> {
        let Some(at) = self.savepoints.len().checked_sub(1 + usize::from(to)) else { return Ok(()) };
        self.savepoints.truncate(at + 1);
        let mark = &self.savepoints[at];
        let (savepoint, own, locked) = (mark.savepoint, mark.own, mark.locked);
        self.shared.with(|state| state.own.locks.letting_go(self.number, &mark.held));
        let done = self.txn.as_mut().expect("it is under way").rollback_to(savepoint);
        self.let_go();
        done.map_err(|error| self.failed("rollback_to", &error))?;
        self.own.truncate(own);
        self.ranges.retain(|range| range.end <= own);
        self.locked.truncate(locked);
        self.whole.clear();
        Ok(())
    }

    fn let_go(&self) {
        self.shared.with(|state| {
            let now = state.history.tick();
            state.own.locks.let_go(self.number, now);
        });
    }

    /// Ends the transaction: `how` says in which way.
    fn end<T>(&mut self, how: impl FnOnce(Transaction<SimEnv>) -> T) -> T {
        self.shared.with(|state| state.own.locks.letting_go(self.number, &BTreeMap::new()));
        let ended = how(self.txn.take().expect("it is under way"));
        self.let_go();
        ended
    }

    /// Undoes it, by a call or by dropping it.
    pub(super) fn undo(mut self, call: bool) {
        self.end(|txn| if call { txn.rollback() } else { drop(txn) });
    }

    /// Commits.
    pub(super) fn commit(mut self, level: Level) -> Result<(), Over> {
        let (shared, id, begun) = (self.shared, self.id, self.begun);
        let (operations, has_ranges) = (self.operations(), !self.ranges.is_empty());
        let writes: BTreeMap<KeyId, Option<Stamp>> = self.own.drain(..).collect();
        let mut reads = std::mem::take(&mut self.reads);
        reads.extend(self.locked.iter().map(|read| read.sight.clone()));
        let index = (!writes.is_empty())
            .then(|| shared.commit_called(id, writes.into_iter().collect(), operations, promise(level)));
        if let Some(index) = index {
            shared.with(|state| {
                let end = TxnEnd::Commit(index);
                state.own.txns.push(Txn { step: id, begun, reads: std::mem::take(&mut reads), end });
                // What deletes ranges heeds no locks.
                state.own.locked.extend((self.pessimistic && !has_ranges).then_some(index));
            });
        }
        match (self.end(|txn| txn.commit_with(level.durability())), index) {
            (Ok(info), Some(index)) => shared.commit_acknowledged(index, info.seq.0),
            (Ok(info), None) => shared.with(|state| {
                let end = TxnEnd::Read { at: state.history.tick(), seq: info.seq.0 };
                state.own.txns.push(Txn { step: id, begun, reads, end });
            }),
            (Err(error), _) if error.is_retryable() => {
                if let Some(index) = index {
                    shared.with(|state| state.history.commits[index].ending = Ending::Refused);
                }
                self.explain(&error);
                return Err(Over::Conflict);
            }
            (Err(error), index) => {
                shared.complain(|| format!("commit in step {id}"), &error);
                if let Some(index) = index {
                    shared.commit_failed(index, &error);
                }
                return Err(Over::Failed);
            }
        }
        for found in self.whole.drain(..) {
            shared.balanced(|| format!("the transaction of step {id}"), found);
        }
        Ok(())
    }

    /// Looks for the cause of a conflict.
    fn explain(&self, error: &aidb::Error) {
        let has_cause = self.shared.with(|state| {
            let asked = |key: KeyId| self.asked.iter().any(|(start, end)| (*start..*end).contains(&key));
            let written = since(state, self.begun).flat_map(|(_, commit)| &commit.writes);
            let by_others = written.map(|(key, _)| *key).any(asked);
            let heedless = |read: &LockedRead| {
                let unlocked = since(state, read.called).filter(|(at, _)| !state.own.locked.contains(at));
                unlocked.flat_map(|(_, commit)| &commit.writes).any(|(key, _)| *key == read.sight.start)
            };
            by_others || self.locked.iter().any(heedless)
        });
        if !has_cause {
            let asked = &self.asked;
            let locked: Vec<KeyId> = self.locked.iter().map(|read| read.sight.start).collect();
            let message =
                format!("step {} asked for {asked:?}, locked {locked:?}, and nobody explains: {error}", self.id);
            self.shared.fail("conflict-without-cause", message);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.txn.is_some() {
            self.end(drop);
        }
    }
}

/// Returns the commits that may have come after a moment.
fn since(state: &State, moment: Time) -> impl Iterator<Item = (usize, &Commit)> {
    state.history.commits.iter().enumerate().filter(move |(_, commit)| match commit.ending {
        Ending::Acknowledged { at, .. } => at > moment,
        Ending::Unknown => true,
        Ending::Refused => false,
    })
}

/// Returns what a commit is promised.
pub(super) fn promise(level: Level) -> Promise {
    match level.durability() {
        Durability::Buffered => Promise::None,
        Durability::Os => Promise::Process,
        Durability::Sync => Promise::Power,
    }
}

/// A walk through all of a range.
pub(super) fn whole(part: (KeyId, KeyId), back: bool) -> Scan {
    let walk = if back { Walk::Backward } else { Walk::Forward };
    Scan { start: part.0, end: part.1, prefix: None, walk, limit: u16::MAX, pause_us: 0 }
}

impl Shared {
    /// Checks the sum of all accounts.
    pub(super) fn balanced(&self, who: impl FnOnce() -> String, found: impl IntoIterator<Item = (KeyId, Stamp)>) {
        if let Err(message) = self.with(|state| bank::check(found, &state.own.amounts)) {
            self.fail("bank", format!("{} sees: {message}", who()));
        }
    }
}
