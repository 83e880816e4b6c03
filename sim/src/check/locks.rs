//! Checker of locks: what one holds alone nobody else holds, and a refusal has its reason.
//!
//! Told by the clients when they call for a lock, when they get it or not, and when they let go. Between the call and its answer
//! nobody knows, so there is what a transaction **holds** (it was told so, and has not begun to let go) and what it **may hold**
//! (from its call until it has let go).
//!
//! **Invariant.**
//! - Two never hold a key at once, unless both hold it shared.
//! - Who is refused because its time was out has waited for a key that another may have held, or waited for, meanwhile.
//! - Who is refused because of a deadlock was in a circle of such transactions.
//! - No time runs out in a circle that has stood for long: a deadlock ends at once.
//! - When all have ended, every key is free (looked at by `profile/txn/process.rs`).
//!
//! **Tripped by** `txn_lock_not_taken`, `txn_upgrade_ignores_readers`, `txn_deadlock_unseen`,
//! `txn_rollback_keeps_lock`.

use super::history::Time;
use crate::profile::engine::value::KeyId;
use std::collections::{BTreeMap, BTreeSet};

/// How long everyone in a circle must have waited before a time-out shows that nobody has noticed it, in nanoseconds.
const STANDING_NS: u64 = 400_000_000;

/// How a key is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// With others.
    Shared,
    /// Alone.
    Exclusive,
}

/// The answer to a call for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is held.
    Given,
    /// Its time was out.
    TimedOut,
    /// Others wait for who asked.
    Deadlock,
    /// Something else went wrong; it may be held.
    Failed,
}

/// What is wrong; the names are what shrinking holds on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two hold a key.
    TwoHolders(String),
    /// A refusal without a reason.
    Refused(String),
    /// A deadlock that nobody noticed.
    Missed(String),
}

/// A time in which a transaction may have held a key, or waited for it.
#[derive(Clone, Copy, Debug)]
struct Interval {
    key: KeyId,
    until: Option<Time>,
}

impl Interval {
    fn reaches(&self, since: Time) -> bool {
        self.until.is_none_or(|until| until >= since)
    }
}

#[derive(Clone, Copy, Debug)]
struct Call {
    key: KeyId,
    mode: Mode,
    since: Time,
    since_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Transaction {
    held: BTreeMap<KeyId, Mode>,
    call: Option<Call>,
    may: Vec<Interval>,
    waited: Vec<Interval>,
}

/// The transactions of one opening, by number, and their locks.
#[derive(Clone, Debug, Default)]
pub struct Locks(BTreeMap<u64, Transaction>);

impl Locks {
    /// Transaction `me` calls for a lock.
    pub fn called(&mut self, me: u64, key: KeyId, mode: Mode, since: Time, since_ns: u64) {
        let own = self.0.entry(me).or_default();
        own.call = Some(Call { key, mode, since, since_ns });
        own.may.push(Interval { key, until: None });
        own.waited.push(Interval { key, until: None });
    }

    /// It has its answer.
    ///
    /// # Errors
    /// The answer is wrong.
    pub fn answered(&mut self, me: u64, answer: Answer, now: Time, now_ns: u64) -> Result<(), Fault> {
        let Some(call) = self.0.get(&me).and_then(|own| own.call) else { return Ok(()) };
        let judged = match answer {
            Answer::Given => self.given(me, call),
            Answer::TimedOut => self.timed_out(me, call, now_ns),
            Answer::Deadlock => self.deadlock(me, call),
            Answer::Failed => Ok(()),
        };
        let own = self.0.entry(me).or_default();
        own.call = None;
        own.waited.iter_mut().filter(|waited| waited.until.is_none()).for_each(|waited| waited.until = Some(now));
        if answer == Answer::Given {
            let held = own.held.entry(call.key).or_insert(call.mode);
            *held = call.mode.max(*held);
        } else if let (true, Some(last)) = (answer != Answer::Failed, own.may.last_mut()) {
            last.until = Some(now);
        }
        judged
    }

    /// It begins to let go of all but `kept`.
    pub fn letting_go(&mut self, me: u64, kept: &BTreeMap<KeyId, Mode>) {
        if let Some(own) = self.0.get_mut(&me) {
            own.held = kept.clone();
        }
    }

    /// It has let go of all that it does not hold.
    pub fn let_go(&mut self, me: u64, now: Time) {
        if let Some(own) = self.0.get_mut(&me) {
            let held = &own.held;
            let over = own.may.iter_mut().filter(|may| may.until.is_none() && !held.contains_key(&may.key));
            over.for_each(|may| may.until = Some(now));
        }
    }

    /// Returns what it holds.
    pub fn held(&self, me: u64) -> BTreeMap<KeyId, Mode> {
        self.0.get(&me).map(|own| own.held.clone()).unwrap_or_default()
    }

    fn given(&self, me: u64, call: Call) -> Result<(), Fault> {
        let other = self.0.iter().find(|(other, of)| {
            let held = of.held.get(&call.key).copied();
            **other != me && held.is_some_and(|held| held.max(call.mode) == Mode::Exclusive)
        });
        other.map_or(Ok(()), |(other, of)| {
            let held = of.held[&call.key];
            Err(Fault::TwoHolders(format!(
                "transaction {me} was given key {} {:?}, and transaction {other} holds it {held:?}",
                call.key, call.mode
            )))
        })
    }

    fn timed_out(&self, me: u64, call: Call, now_ns: u64) -> Result<(), Fault> {
        let in_the_way = |interval: &Interval| interval.key == call.key && interval.reaches(call.since);
        let others = self.0.iter().filter(|(other, _)| **other != me);
        if !others.flat_map(|(_, of)| of.may.iter().chain(&of.waited)).any(in_the_way) {
            return Err(Fault::Refused(format!(
                "transaction {me} was told that its time was out; nobody else had anything of key {}",
                call.key
            )));
        }
        let standing = |of: &Transaction| of.call.filter(|call| now_ns.saturating_sub(call.since_ns) > STANDING_NS);
        let blockers = |waiter: u64| -> Vec<u64> {
            let Some(call) = self.0.get(&waiter).and_then(standing) else { return Vec::new() };
            let holds =
                |of: &Transaction| of.held.get(&call.key).is_some_and(|held| held.max(&call.mode) == &Mode::Exclusive);
            self.0.iter().filter(|(other, of)| **other != waiter && holds(of)).map(|(other, _)| *other).collect()
        };
        match circle(me, blockers) {
            false => Ok(()),
            true => Err(Fault::Missed(format!(
                "the time of transaction {me} was out at key {}, in a circle that has stood for long",
                call.key
            ))),
        }
    }

    fn deadlock(&self, me: u64, call: Call) -> Result<(), Fault> {
        let blockers = |waiter: u64| -> Vec<u64> {
            let Some(own) = self.0.get(&waiter) else { return Vec::new() };
            let wanted = own.waited.iter().filter(|waited| waited.reaches(call.since));
            let wanted: BTreeSet<KeyId> = wanted.map(|waited| waited.key).collect();
            let has = |of: &Transaction| {
                let mut all = of.may.iter().chain(&of.waited);
                all.any(|interval| wanted.contains(&interval.key) && interval.reaches(call.since))
            };
            self.0.iter().filter(|(other, of)| **other != waiter && has(of)).map(|(other, _)| *other).collect()
        };
        match circle(me, blockers) {
            true => Ok(()),
            false => Err(Fault::Refused(format!(
                "transaction {me} was told of a deadlock at key {}, and nobody waited for it",
                call.key
            ))),
        }
    }
}

/// Returns whether `me` waits for itself.
fn circle(me: u64, blockers: impl Fn(u64) -> Vec<u64>) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![me]);
    while let Some(waiter) = next.pop() {
        for blocker in blockers(waiter) {
            if blocker == me {
                return true;
            }
            if seen.insert(blocker) {
                next.push(blocker);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE_NS: u64 = 2 * STANDING_NS;

    fn given(locks: &mut Locks, me: u64, key: KeyId, mode: Mode, at: Time) -> Result<(), Fault> {
        locks.called(me, key, mode, at, 0);
        locks.answered(me, Answer::Given, at, 0)
    }

    #[test]
    fn two_may_share_a_key_and_only_one_may_have_it_alone() {
        let mut locks = Locks::default();
        assert_eq!(given(&mut locks, 1, 7, Mode::Shared, 1), Ok(()));
        assert_eq!(given(&mut locks, 2, 7, Mode::Shared, 2), Ok(()));
        assert!(matches!(given(&mut locks, 1, 7, Mode::Exclusive, 3), Err(Fault::TwoHolders(_))));
        assert!(matches!(given(&mut locks, 3, 7, Mode::Shared, 4), Err(Fault::TwoHolders(_))));
        // One that has begun to let go may hold it no more.
        for me in [1, 2, 3] {
            locks.letting_go(me, &BTreeMap::new());
        }
        assert_eq!(given(&mut locks, 4, 7, Mode::Exclusive, 5), Ok(()));
    }

    #[test]
    fn a_refusal_needs_somebody_in_the_way() {
        let mut locks = Locks::default();
        locks.called(1, 7, Mode::Exclusive, 1, 0);
        assert!(matches!(locks.answered(1, Answer::TimedOut, 2, 0), Err(Fault::Refused(_))));
        assert_eq!(given(&mut locks, 2, 7, Mode::Exclusive, 3), Ok(()));
        locks.called(1, 7, Mode::Exclusive, 4, 0);
        assert_eq!(locks.answered(1, Answer::TimedOut, 5, 0), Ok(()));
        locks.called(1, 7, Mode::Exclusive, 6, 0);
        assert!(matches!(locks.answered(1, Answer::Deadlock, 7, 0), Err(Fault::Refused(_))));
        locks.letting_go(2, &BTreeMap::new());
        locks.let_go(2, 8);
        locks.called(1, 7, Mode::Exclusive, 9, 0);
        assert!(matches!(locks.answered(1, Answer::TimedOut, 10, 0), Err(Fault::Refused(_))));
    }

    #[test]
    fn a_circle_explains_a_deadlock_and_may_not_stand() {
        let mut locks = Locks::default();
        assert_eq!(given(&mut locks, 1, 7, Mode::Exclusive, 1), Ok(()));
        assert_eq!(given(&mut locks, 2, 8, Mode::Exclusive, 2), Ok(()));
        locks.called(1, 8, Mode::Exclusive, 3, 0);
        locks.called(2, 7, Mode::Exclusive, 4, 0);
        let mut missed = locks.clone();
        assert_eq!(locks.answered(2, Answer::Deadlock, 5, 0), Ok(()));
        assert!(matches!(missed.answered(1, Answer::TimedOut, 6, LATE_NS), Err(Fault::Missed(_))));
    }
}
