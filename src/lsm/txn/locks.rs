//! [`LockTable`]: who may read and write which key, among the pessimistic transactions of an engine.
//!
//! Called on the threads of the transactions, which wait here. The table knows transactions by number and keys by name; that
//! a key exists does not matter.
//!
//! - A lock is held by any number of transactions shared, or by one exclusively.
//! - Who comes later waits behind those who wait already. Only a holder that wants its shared lock exclusively goes before
//!   those who hold nothing: it would wait for them, and they for it.
//! - A transaction waits for one lock at a time. It begins to wait, and gives up waiting, under the lock of the waits-for
//!   graph; so whoever begins to wait sees everyone else that waits, and the last one of a circle finds it and gives way
//!   at once. Everyone else in the circle is waiting while it looks and can release nothing: what it finds is there.
//! - Locks: the graph's, then a stripe's. Whoever finds a lock free takes only its stripe's.

use super::shown;
use crate::base::hash::hash64;
use crate::base::{Error, Result};
use crate::env::{Condvar, Env, EnvCondvar, Mutex, MutexGuard};
use crate::lsm::tree::Tree;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STRIPES: u64 = 32;

/// How a key is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

impl Mode {
    fn goes_with(self, other: Mode) -> bool {
        self == Mode::Shared && other == Mode::Shared
    }
}

/// A key of a keyspace.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LockKey {
    pub(super) keyspace: u32,
    pub(super) key: Vec<u8>,
}

struct Waiter<E: Env> {
    transaction: u64,
    mode: Mode,
    /// It holds the lock shared.
    upgrades: bool,
    wake: Arc<Condvar<E>>,
}

struct Lock<E: Env> {
    holders: Vec<(u64, Mode)>,
    queue: VecDeque<Waiter<E>>,
}

impl<E: Env> Lock<E> {
    fn held_by(&self, transaction: u64) -> Option<Mode> {
        self.holders.iter().find(|(holder, _)| *holder == transaction).map(|(_, mode)| *mode)
    }

    /// Returns true if nobody who holds it stands in the way of `transaction`.
    fn is_free(&self, transaction: u64, mode: Mode) -> bool {
        self.holders.iter().all(|(holder, held)| *holder == transaction || held.goes_with(mode))
    }

    fn give(&mut self, transaction: u64, mode: Mode) {
        match self.holders.iter_mut().find(|(holder, _)| *holder == transaction) {
            Some((_, held)) => *held = mode.max(*held),
            None => self.holders.push((transaction, mode)),
        }
    }

    /// Gives it to those at the head of the queue for whom it is free.
    fn give_on(&mut self) {
        while let Some(first) = self.queue.front()
            && self.is_free(first.transaction, first.mode)
        {
            let Some(first) = self.queue.pop_front() else { return };
            self.give(first.transaction, first.mode);
            first.wake.notify_one();
        }
    }

    /// Returns those that `transaction`, which waits, waits for.
    fn blockers(&self, transaction: u64) -> Vec<u64> {
        let Some(at) = self.queue.iter().position(|waiter| waiter.transaction == transaction) else {
            return Vec::new();
        };
        let mode = self.queue[at].mode;
        let before = self.queue.iter().take(at).map(|waiter| (waiter.transaction, waiter.mode));
        let all = self.holders.iter().copied().chain(before);
        all.filter(|(other, held)| *other != transaction && !held.goes_with(mode)).map(|(other, _)| other).collect()
    }
}

/// The locks whose keys hash to one number.
type Stripe<E> = BTreeMap<Arc<LockKey>, Lock<E>>;

/// The locks of an engine.
pub(in crate::lsm) struct LockTable<E: Env> {
    pub(super) env: E,
    stripes: Vec<Mutex<E, Stripe<E>>>,
    /// The lock that each transaction waits for, or has waited for.
    waiting: Mutex<E, BTreeMap<u64, Arc<LockKey>>>,
    next_transaction: AtomicU64,
}

impl<E: Env> LockTable<E> {
    pub(in crate::lsm) fn new(env: &E) -> LockTable<E> {
        LockTable {
            env: env.clone(),
            stripes: (0..STRIPES).map(|_| Mutex::<E, _>::new(BTreeMap::new())).collect(),
            waiting: Mutex::<E, _>::new(BTreeMap::new()),
            next_transaction: AtomicU64::new(1),
        }
    }

    /// Returns a number that no other transaction has.
    pub(super) fn number(&self) -> u64 {
        self.next_transaction.fetch_add(1, Ordering::Relaxed)
    }

    fn stripe(&self, key: &LockKey) -> MutexGuard<'_, E, Stripe<E>> {
        let hash = hash64(&key.key, u64::from(key.keyspace));
        self.stripes[(hash % STRIPES) as usize].lock()
    }

    /// Locks `key` of `tree` for `me`, which holds it not at all or shared; returns true if it had to wait.
    ///
    /// # Errors
    /// `Deadlock`, or `TimedOut` if it is not free within `timeout`; what `me` holds is unchanged.
    pub(super) fn lock(
        &self,
        me: u64,
        key: &Arc<LockKey>,
        mode: Mode,
        timeout: Duration,
        tree: &Tree<E>,
    ) -> Result<bool> {
        if self.take_if_free(&mut self.stripe(key), me, key, mode) {
            return Ok(false);
        }
        self.env.reached("txn.wait");
        let deadline = self.env.now().after(timeout);
        let mut waiting = self.waiting.lock();
        let wake = Arc::new(Condvar::<E>::default());
        {
            let mut stripe = self.stripe(key);
            if self.take_if_free(&mut stripe, me, key, mode) {
                return Ok(true);
            }
            enqueue(&mut stripe, key, me, mode, Arc::clone(&wake));
        }
        waiting.insert(me, Arc::clone(key));
        if self.closes_a_circle(&waiting, me) {
            waiting.remove(&me);
            if !leave(&mut self.stripe(key), me, key, mode) {
                return Ok(true);
            }
            self.env.reached("txn.deadlock");
            let shown = shown(&key.key, tree);
            return Err(Error::deadlock(format_args!(
                "{shown} is locked by transactions that wait for this one; roll it back and run it again"
            )));
        }
        let mut stripe = self.stripe(key);
        drop(waiting);
        while !holds(&stripe, me, key, mode) {
            let left = deadline.since(self.env.now());
            if left.is_zero() || wake.wait_for(&mut stripe, left) {
                drop(stripe);
                return self.give_up(me, key, mode, timeout, tree);
            }
        }
        Ok(true)
    }

    #[cold]
    fn give_up(&self, me: u64, key: &Arc<LockKey>, mode: Mode, timeout: Duration, tree: &Tree<E>) -> Result<bool> {
        let mut waiting = self.waiting.lock();
        if !leave(&mut self.stripe(key), me, key, mode) {
            return Ok(true);
        }
        waiting.remove(&me);
        self.env.reached("txn.lock_timeout");
        let shown = shown(&key.key, tree);
        Err(Error::timed_out(format_args!("{shown} was locked by another transaction for {timeout:?}")))
    }

    fn take_if_free(&self, stripe: &mut Stripe<E>, me: u64, key: &Arc<LockKey>, mode: Mode) -> bool {
        let lock =
            stripe.entry(Arc::clone(key)).or_insert_with(|| Lock { holders: Vec::new(), queue: VecDeque::new() });
        let upgrades = lock.held_by(me).is_some();
        let mut free = lock.is_free(me, mode) && (upgrades || lock.queue.is_empty());
        free |= self.env.planted("txn_lock_not_taken");
        free |= upgrades && self.env.planted("txn_upgrade_ignores_readers");
        if free {
            if upgrades {
                self.env.reached("txn.upgrade");
            }
            lock.give(me, mode);
        }
        free
    }

    /// Returns true if `me` waits for itself. Called with the graph locked and `me` in it.
    fn closes_a_circle(&self, waiting: &BTreeMap<u64, Arc<LockKey>>, me: u64) -> bool {
        if self.env.planted("txn_deadlock_unseen") {
            return false;
        }
        let (mut seen, mut next) = (BTreeSet::new(), vec![me]);
        while let Some(transaction) = next.pop() {
            let Some(key) = waiting.get(&transaction) else { continue };
            let blockers = self.stripe(key).get(key).map_or_else(Vec::new, |lock| lock.blockers(transaction));
            for blocker in blockers {
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

    /// Gives `key` back, or keeps it shared only.
    pub(super) fn unlock(&self, me: u64, key: &LockKey, keep: Option<Mode>) {
        let mut stripe = self.stripe(key);
        let Some(lock) = stripe.get_mut(key) else { return };
        match keep {
            Some(mode) => lock.holders.iter_mut().filter(|(holder, _)| *holder == me).for_each(|held| held.1 = mode),
            None => lock.holders.retain(|(holder, _)| *holder != me),
        }
        lock.give_on();
        if lock.holders.is_empty() && lock.queue.is_empty() {
            stripe.remove(key);
        }
    }

    /// Forgets a transaction that has ended after having waited.
    pub(super) fn forget(&self, me: u64) {
        self.waiting.lock().remove(&me);
    }

    /// Returns how many keys are locked and how many transactions are known to have waited.
    #[cfg(test)]
    pub(in crate::lsm) fn len(&self) -> (usize, usize) {
        (self.stripes.iter().map(|stripe| stripe.lock().len()).sum(), self.waiting.lock().len())
    }
}

fn enqueue<E: Env>(stripe: &mut Stripe<E>, key: &Arc<LockKey>, me: u64, mode: Mode, wake: Arc<Condvar<E>>) {
    let lock = stripe.get_mut(key).expect("a lock that is not free is there");
    let upgrades = lock.held_by(me).is_some();
    let at = match upgrades {
        true => lock.queue.iter().take_while(|waiter| waiter.upgrades).count(),
        false => lock.queue.len(),
    };
    lock.queue.insert(at, Waiter { transaction: me, mode, upgrades, wake });
}

fn holds<E: Env>(stripe: &Stripe<E>, me: u64, key: &LockKey, mode: Mode) -> bool {
    stripe.get(key).and_then(|lock| lock.held_by(me)).is_some_and(|held| held >= mode)
}

/// Takes `me` out of the queue; false if it was given the lock before.
fn leave<E: Env>(stripe: &mut Stripe<E>, me: u64, key: &LockKey, mode: Mode) -> bool {
    if holds(stripe, me, key, mode) {
        return false;
    }
    if let Some(lock) = stripe.get_mut(key) {
        lock.queue.retain(|waiter| waiter.transaction != me);
        // It may have stood before some for whom the lock is free.
        lock.give_on();
    }
    true
}
