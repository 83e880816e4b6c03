//! [`Batch`]: the commands of one read buffer, executed together and committed as one write.
//!
//! Lives on one thread from `begin` to `commit` and holds locks all the while; dropping it instead of committing forgets
//! what it did. A command that fails leaves nothing of itself in the batch. If the commit fails nothing happened, and every
//! reply given since the first change is untrue: [`CommitFailure::rewrite`] puts the error in their places.

use super::keyspace::{Keyspace, epoch_of};
use super::overlay::{Delta, Entry, Now};
use super::{Context, Databases, Db, Plan, State, Stripe};
use crate::base::Error;
use crate::command::format::{self, LAYOUT_KEY};
use crate::command::store::{Position, Store, Writes};
use crate::command::table::CommandSpec;
use crate::command::{Failure, run};
use crate::env::{Env, MutexGuard};
use crate::resp::Encoder;
use lock_api::{RwLockReadGuard, RwLockWriteGuard};
use std::fmt;
use std::sync::atomic::Ordering;

enum Layout<'d, E: Env> {
    Shared(RwLockReadGuard<'d, E::RawRwLock, State>),
    Exclusive(RwLockWriteGuard<'d, E::RawRwLock, State>),
}

impl<E: Env> Layout<'_, E> {
    fn state(&self) -> &State {
        match self {
            Layout::Shared(guard) => guard,
            Layout::Exclusive(guard) => guard,
        }
    }
}

/// Executes commands under their locks; see the module.
pub struct Batch<'d, S: Store> {
    databases: &'d Databases<S>,
    // Fields drop in this order: stripes before the layout.
    _stripes: Vec<MutexGuard<'d, S::Env, ()>>,
    layout: Layout<'d, S::Env>,
    plan: &'d mut Plan<S>,
    context: Context,
}

/// What a committed batch leaves to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit {
    /// What [`Databases::sync_to`] must have reached before the replies may be called durable; None if nothing was written.
    pub position: Option<Position>,
}

/// A commit that the store refused. Nothing of the batch happened.
#[derive(Debug)]
pub struct CommitFailure {
    error: Error,
    replies: Vec<(usize, usize)>,
}

impl CommitFailure {
    /// Returns why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Replaces the replies that are not true by an error each. `out` is the encoder that the batch wrote to, and has
    /// only been appended to since.
    pub fn rewrite(&self, out: &mut Encoder) {
        let Some(&(first, _)) = self.replies.first() else { return };
        let given = out.bytes()[first..].to_vec();
        out.truncate(first);
        let mut at = first;
        for &(from, to) in &self.replies {
            out.raw(&given[at - first..from - first]);
            out.error(self.to_string());
            at = to;
        }
        out.raw(&given[at - first..]);
    }
}

impl fmt::Display for CommitFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MISCONF Errors writing to storage: {}", self.error)
    }
}

impl std::error::Error for CommitFailure {}

impl<'d, S: Store> Batch<'d, S> {
    pub(super) fn begin(databases: &'d Databases<S>, plan: &'d mut Plan<S>, context: Context) -> Batch<'d, S> {
        plan.work.reset();
        let layout = if plan.exclusive {
            Layout::Exclusive(databases.state.write())
        } else {
            Layout::Shared(databases.state.read())
        };
        let mut stripes = Vec::new();
        if !plan.exclusive {
            stripes.reserve_exact(plan.stripes.iter().map(|word| word.count_ones() as usize).sum());
            for (at, word) in plan.stripes.iter().enumerate() {
                let mut rest = *word;
                while rest != 0 {
                    let Stripe(lock) = &databases.stripes[at * 64 + rest.trailing_zeros() as usize];
                    stripes.push(lock.lock());
                    rest &= rest - 1;
                }
            }
        }
        Batch { databases, _stripes: stripes, layout, plan, context }
    }

    /// Executes one command in database `db` and appends its reply, be it an error, to `out`.
    ///
    /// # Panics
    /// `spec` is a session's command, the request was not planned for, or there is no database `db`.
    pub fn execute(&mut self, db: usize, spec: &CommandSpec, args: &[&[u8]], out: &mut Encoder) {
        let start = out.len();
        self.plan.work.begin_command();
        let mut keyspace = self.keyspace(db);
        keyspace.reading = spec.flags.contains(crate::command::table::Flags::READONLY);
        let result = if spec.accepts(args.len()) {
            run(&mut keyspace, spec, args, out)
        } else {
            Err(Failure::Message(spec.arity_error()))
        };
        if let Err(failure) = result {
            self.plan.work.undo();
            out.truncate(start);
            out.error(failure.text().as_bytes());
        }
        if self.plan.work.changed {
            self.plan.work.replies.push((start, out.len()));
        }
    }

    /// Returns database `db` for one command.
    pub(super) fn keyspace(&mut self, db: usize) -> Keyspace<'_, S> {
        let state = self.layout.state();
        Keyspace {
            store: &self.databases.store,
            state,
            stripes: &self.plan.stripes,
            exclusive: self.plan.exclusive,
            reading: false,
            context: self.context,
            db,
            epoch: epoch_of(state, &self.plan.work, db),
            work: &mut self.plan.work,
        }
    }

    /// Separates what follows from what was done before.
    pub(super) fn begin_command(&mut self) {
        self.plan.work.begin_command();
    }

    /// Adds the removal of a store key that no record stands behind.
    pub(super) fn delete_raw(&mut self, raw: &[u8]) {
        self.plan.work.writes.delete(raw);
        self.plan.work.changed = true;
    }

    /// Writes what the batch changed, in one store write, and releases the locks.
    ///
    /// # Durability
    /// Survives the end of the process; survives a power loss once [`Databases::sync_to`] of the position returned.
    ///
    /// # Errors
    /// The store refused: nothing of the batch happened.
    pub fn commit(mut self) -> Result<Commit, CommitFailure> {
        let tally = std::mem::take(&mut self.plan.work.tally);
        let stats = &self.databases.stats;
        for (counter, events) in [(&stats.keyspace_hits, tally.hits), (&stats.keyspace_misses, tally.misses)] {
            if events > 0 {
                counter.fetch_add(events, Ordering::Relaxed);
            }
        }
        if !self.plan.work.changed {
            return Ok(Commit::default());
        }
        let changes = self.collect();
        if self.plan.work.writes.is_empty() && self.plan.work.layout.is_none() {
            return Ok(Commit::default());
        }
        let written = match self.plan.work.layout.take() {
            Some(layout) => self.write_layout(layout),
            None => self.write_counted(),
        };
        match written {
            Ok(position) => {
                stats.changes.fetch_add(changes, Ordering::Relaxed);
                if tally.expired > 0 {
                    stats.expired_keys.fetch_add(tally.expired, Ordering::Relaxed);
                }
                Ok(Commit { position: Some(position) })
            }
            Err(error) => Err(CommitFailure { error, replies: std::mem::take(&mut self.plan.work.replies) }),
        }
    }

    /// Turns changed keys into store operations; returns how many keys changed.
    fn collect(&mut self) -> u64 {
        let work = &mut self.plan.work;
        let (writes, raw, mut changes) = (&mut work.writes, &mut work.raw, 0);
        for entry in &work.entries {
            let key = entry.key(&work.keys);
            let expiry = match &entry.now {
                Now::Unchanged => continue,
                Now::Absent if !entry.before.exists => continue,
                Now::Absent => None,
                Now::Present { expiry, .. } => *expiry,
            };
            changes += 1;
            raw.clear();
            format::put_record_key(raw, entry.epoch, entry.position, key);
            match &entry.now {
                Now::Present { record, .. } => writes.put(raw, record),
                _ => writes.delete(raw),
            }
            if expiry != entry.before.expiry {
                Self::move_expiry(writes, raw, entry, key, expiry);
            }
        }
        changes
    }

    fn move_expiry(writes: &mut S::Writes, raw: &mut Vec<u8>, entry: &Entry, key: &[u8], expiry: Option<u64>) {
        if let Some(old) = entry.before.expiry {
            raw.clear();
            format::put_expiry_key(raw, entry.epoch, old, entry.position, key);
            writes.delete(raw);
        }
        if let Some(new) = expiry {
            raw.clear();
            format::put_expiry_key(raw, entry.epoch, new, entry.position, key);
            writes.put(raw, b"");
        }
    }

    /// Writes a batch that leaves every database its epoch.
    fn write_counted(&mut self) -> Result<Position, Error> {
        let work = &mut self.plan.work;
        let state = self.layout.state();
        work.deltas.retain(|delta| (delta.keys, delta.expires) != (0, 0));
        if work.deltas.is_empty() {
            return self.databases.store.write(&mut work.writes);
        }
        let _counting = S::PERSISTENT.then(|| self.databases.counting.lock());
        let db = |delta: &Delta| state.of_epoch(delta.epoch).expect("a batch without flush writes to live epochs");
        if S::PERSISTENT {
            for delta in &work.deltas {
                let (keys, expires) = after(db(delta).counts(), *delta);
                work.writes.put(&format::count_key(delta.epoch), &format::encode_counts(keys, expires));
            }
        }
        let position = self.databases.store.write(&mut work.writes)?;
        for delta in &work.deltas {
            // Two's complement: adding a negative number as an unsigned one subtracts.
            db(delta).keys.fetch_add(delta.keys as u64, Ordering::Relaxed);
            db(delta).expires.fetch_add(delta.expires as u64, Ordering::Relaxed);
        }
        Ok(position)
    }

    /// Writes a batch that gives databases other epochs. It is alone: the lock is exclusive.
    fn write_layout(&mut self, layout: format::Layout) -> Result<Position, Error> {
        let Layout::Exclusive(state) = &mut self.layout else {
            unreachable!("flush and swap assert the exclusive lock")
        };
        let work = &mut self.plan.work;
        let mut dbs = Vec::with_capacity(layout.epochs.len());
        for &epoch in &layout.epochs {
            let stored = state.of_epoch(epoch).map_or((0, 0), Db::counts);
            let delta = work.deltas.iter().find(|delta| delta.epoch == epoch);
            let counts = delta.map_or(stored, |delta| after(stored, *delta));
            if S::PERSISTENT && delta.is_some() {
                work.writes.put(&format::count_key(epoch), &format::encode_counts(counts.0, counts.1));
            }
            dbs.push(Db::new(epoch, counts));
        }
        work.writes.put(LAYOUT_KEY, &layout.encode());
        let position = self.databases.store.write(&mut work.writes)?;
        **state = State { dbs, next_epoch: layout.next_epoch, dead: layout.dead };
        Ok(position)
    }
}

fn after((keys, expires): (u64, u64), delta: Delta) -> (u64, u64) {
    let keys = keys.checked_add_signed(delta.keys).expect("a database has no fewer keys than none");
    let expires = expires.checked_add_signed(delta.expires).expect("no fewer keys expire than none");
    assert!(expires <= keys, "{expires} of {keys} keys expire");
    (keys, expires)
}
