//! One attempt at a transaction: does what the step says, keeps what it saw of others and what it wrote itself.
//!
//! Own writes are a model of their own: what is read of them is compared on the spot, and what others wrote is left to the
//! checkers. An attempt that fails is over; what it read is still judged, as that of its snapshot.

use super::case::{Act, is_account};
use super::opened::Opened;
use super::{Shared, State};
use crate::SimEnv;
use crate::check::bank;
use crate::check::history::{Ending, Promise, Sight, Time};
use crate::check::txn_history::{Txn, TxnEnd};
use crate::profile::engine::case::{Level, Scan, Walk};
use crate::profile::engine::value::{KeyId, Stamp, StepId, VALUE_BYTES_MIN, encode};
use crate::profile::walk::Walker;
use aidb::env::Env;
use aidb::lsm::{Durability, Savepoint, Transaction, TransactionOptions};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why an attempt goes no further.
pub(super) enum Over {
    /// Another was in the way.
    Conflict,
    /// Nothing can be done about it.
    Failed,
}

/// A transaction under way.
pub(super) struct Attempt<'a> {
    env: &'a SimEnv,
    opened: &'a Opened,
    shared: &'a Shared,
    id: StepId,
    txn: Transaction<SimEnv>,
    begun: Time,
    /// The view of its snapshot.
    view: usize,
    /// Its writes, in order.
    own: Vec<(KeyId, Option<Stamp>)>,
    savepoints: Vec<(Savepoint, usize)>,
    reads: Vec<Sight>,
    /// Every range that it asked for.
    asked: Vec<(KeyId, KeyId)>,
    /// How many values the step has written so far, in all attempts.
    written: &'a mut u32,
}

impl<'a> Attempt<'a> {
    pub(super) fn begin(
        env: &'a SimEnv,
        opened: &'a Opened,
        shared: &'a Shared,
        id: StepId,
        written: &'a mut u32,
    ) -> Attempt<'a> {
        let begun = shared.tick();
        let txn = opened.engine.transaction(TransactionOptions::default());
        let view = shared.view(id, begun, Some(txn.seq().0));
        let (own, savepoints, reads, asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Attempt { env, opened, shared, id, txn, begun, view, own, savepoints, reads, asked, written }
    }

    pub(super) fn act(&mut self, act: &Act) -> Result<(), Over> {
        let count = self.shared.keys().count();
        match act {
            Act::Get { key } => drop(self.get(*key)?),
            Act::Scan(scan) => {
                let range = (scan.start.min(count), scan.end.min(count));
                for part in self.opened.parts(range) {
                    self.walk(scan, part);
                }
            }
            Act::Put { key, bytes } if !is_account(*key) => self.write(*key, Some(*bytes))?,
            Act::Delete { key } if !is_account(*key) => self.write(*key, None)?,
            Act::Move { from, to, amount } if is_account(*from) && is_account(*to) && from != to => {
                let (had, has) = (self.amount(*from)?, self.amount(*to)?);
                self.set(*from, had - i64::from(*amount))?;
                self.set(*to, has + i64::from(*amount))?;
            }
            Act::Collect { start, end, into, back } if is_account(*into) => {
                let found = self.all((*start.min(&count), *end.min(&count)), *back)?;
                let inside = (*start..*end).contains(into);
                let mut sum = if inside { 0 } else { self.amount(*into)? };
                for (key, stamp) in found.into_iter().filter(|(key, _)| is_account(*key)) {
                    sum += self.amount_of(key, stamp);
                    self.write(key, None)?;
                }
                self.set(*into, sum)?;
            }
            Act::Settle { key, back } if is_account(*key) => {
                let found = self.all((0, count), *back)?;
                let others = found.into_iter().filter(|(other, _)| other != key);
                let sum: i64 = others.map(|(key, stamp)| self.amount_of(key, stamp)).sum();
                self.set(*key, -sum)?;
            }
            Act::Savepoint => self.savepoints.push((self.txn.savepoint(), self.own.len())),
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

    fn get(&mut self, key: KeyId) -> Result<Option<Stamp>, Over> {
        let bytes = self.shared.keys().bytes(key);
        self.asked.push((key, key + 1));
        let value = match self.opened.of(key) {
            None => self.txn.get(bytes),
            Some(of) => self.txn.get_in(of, bytes),
        };
        let value = value.map_err(|error| self.failed("get", &error))?;
        let found = match value {
            Some(value) => vec![self.shared.entry(self.id, bytes, &value).ok_or(Over::Failed)?],
            None => Vec::new(),
        };
        let stamp = found.first().map(|(_, stamp)| *stamp);
        self.saw(Sight { start: key, end: key + 1, found });
        Ok(stamp)
    }

    /// Walks through a range in one keyspace; returns what was seen.
    fn walk(&mut self, scan: &Scan, part: (KeyId, KeyId)) -> Vec<Sight> {
        self.asked.push(part);
        let iterator = self.opened.seen_by(self.shared, &self.txn, part);
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
            self.shared.balanced(|| format!("the transaction of step {}", self.id), all.iter().copied());
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
        let stamp = self.get(key)?;
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
        let stamp = bytes.map(|bytes| Stamp { step: self.id, bytes: bytes + *self.written });
        let (name, of) = (self.shared.keys().bytes(key), self.opened.of(key));
        let done = match (of, stamp.map(|stamp| encode(key, stamp))) {
            (None, Some(value)) => self.txn.put(name, value),
            (None, None) => self.txn.delete(name),
            (Some(of), Some(value)) => self.txn.put_in(of, name, value),
            (Some(of), None) => self.txn.delete_in(of, name),
        };
        done.map_err(|error| self.failed("write", &error))?;
        self.own.push((key, stamp));
        Ok(())
    }

    fn roll_back(&mut self, to: u8) -> Result<(), Over> {
        let Some(at) = self.savepoints.len().checked_sub(1 + usize::from(to)) else { return Ok(()) };
        let (savepoint, writes) = self.savepoints[at];
        self.txn.rollback_to(savepoint).map_err(|error| self.failed("rollback_to", &error))?;
        self.savepoints.truncate(at + 1);
        self.own.truncate(writes);
        Ok(())
    }

    /// Undoes it.
    pub(super) fn roll_back_all(self) {
        self.txn.rollback();
    }

    /// Commits.
    pub(super) fn commit(self, level: Level) -> Result<(), Over> {
        let Attempt { shared, id, txn, begun, own, reads, asked, .. } = self;
        let writes: BTreeMap<KeyId, Option<Stamp>> = own.into_iter().collect();
        if writes.is_empty() {
            return match txn.commit_with(level.durability()) {
                Ok(info) => {
                    shared.with(|state| {
                        let end = TxnEnd::Read { at: state.history.tick(), seq: info.seq.0 };
                        state.own.txns.push(Txn { step: id, begun, reads, end });
                    });
                    Ok(())
                }
                Err(error) => {
                    shared.complain(|| format!("commit of a reader in step {id}"), &error);
                    Err(Over::Failed)
                }
            };
        }
        let operations = writes.len() as u64;
        let index = shared.commit_called(id, writes.into_iter().collect(), operations, promise(level));
        shared.with(|state| {
            state.own.txns.push(Txn { step: id, begun, reads, end: TxnEnd::Commit(index) });
        });
        match txn.commit_with(level.durability()) {
            Ok(info) => {
                shared.commit_acknowledged(index, info.seq.0);
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                shared.with(|state| state.history.commits[index].ending = Ending::Refused);
                if !shared.with(|state| has_cause(state, begun, &asked)) {
                    let message = format!("step {id} asked for {asked:?}, nobody wrote that since, and: {error}");
                    shared.fail("conflict-without-cause", message);
                }
                Err(Over::Conflict)
            }
            Err(error) => {
                shared.complain(|| format!("commit in step {id}"), &error);
                shared.commit_failed(index, &error);
                Err(Over::Failed)
            }
        }
    }
}

/// Whether what was asked for may have been written since.
fn has_cause(state: &State, begun: Time, asked: &[(KeyId, KeyId)]) -> bool {
    let since = state.history.commits.iter().filter(|commit| match commit.ending {
        Ending::Acknowledged { at, .. } => at > begun,
        Ending::Unknown => true,
        Ending::Refused => false,
    });
    let mut keys = since.flat_map(|commit| &commit.writes).map(|(key, _)| *key);
    keys.any(|key| asked.iter().any(|(start, end)| (*start..*end).contains(&key)))
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
