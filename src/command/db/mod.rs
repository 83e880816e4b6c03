//! [`Databases`]: the numbered databases over one [`Store`], and the locks, counters and epochs they share.
//!
//! Every session of the server holds one handle and executes each of its read buffers as a [`Batch`]:
//!
//! ```text
//! plan.clear(); plan.add(spec, args) for each request      which key locks it takes
//! databases.begin(&mut plan, context)                      takes them, all at once, in order
//! batch.execute(db, spec, args, out) for each request      reads through the batch's own changes
//! batch.commit()                                           one store write, then the locks are released
//! databases.sync_to(commit.position)                       only where replies wait for the disk
//! ```
//!
//! **Invariants**
//! - Locks are taken in one order: layout, key stripes ascending, counters. A thread holds one batch at a time.
//! - A key is read and written only under its stripe, or under the layout lock held exclusively (asserted).
//! - The counters of a database equal its records, and the expiry zone lists exactly the records that have an expiry
//!   ([`Databases::check`]). Both are kept by `Batch::commit` alone, from each key's state before and after the batch.
//! - A failed commit changes nothing: counters and layout move after the store accepted the write.
//!
//! **Limits:** user keys up to [`USER_KEY_BYTES_MAX`](super::format::USER_KEY_BYTES_MAX); one batch writes at most 2 GiB.

mod batch;
mod check;
mod keyspace;
mod maintain;
mod overlay;

pub use batch::{Batch, Commit, CommitFailure};
pub use keyspace::{Keyspace, Object, VisitKey};
pub use maintain::Maintained;

use self::overlay::Work;
use super::format::{self, LAYOUT_KEY, Layout};
use super::store::{Position, Store, Writes};
use super::table::{CommandSpec, Id};
use crate::base::{Error, Result};
use crate::env::{Mutex, RwLock};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const STRIPES: usize = 256;
const STRIPE_WORDS: usize = STRIPES / 64;

/// One key lock, alone on its cache line.
#[repr(align(64))]
struct Stripe<E: crate::env::Env>(Mutex<E, ()>);

/// What a command may depend on beside the data and its arguments, the same wherever the command is applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// The time of the batch, in milliseconds since 1970.
    pub now_ms: u64,
    /// Decides what is random.
    pub seed: u64,
}

/// Numbered databases over a store. Shared by reference between sessions.
pub struct Databases<S: Store> {
    store: S,
    stripes: Vec<Stripe<S::Env>>,
    state: RwLock<S::Env, State>,
    /// Held from reading the counters to the write that changes them.
    counting: Mutex<S::Env, ()>,
    stats: Stats,
}

/// Which epoch each database has; changed under the exclusive lock alone.
struct State {
    dbs: Vec<Db>,
    next_epoch: u32,
    dead: Vec<u32>,
}

struct Db {
    epoch: u32,
    keys: AtomicU64,
    expires: AtomicU64,
}

impl Db {
    fn new(epoch: u32, (keys, expires): (u64, u64)) -> Db {
        Db { epoch, keys: AtomicU64::new(keys), expires: AtomicU64::new(expires) }
    }

    fn counts(&self) -> (u64, u64) {
        (self.keys.load(Ordering::Relaxed), self.expires.load(Ordering::Relaxed))
    }
}

impl State {
    fn layout(&self) -> Layout {
        let epochs = self.dbs.iter().map(|db| db.epoch).collect();
        Layout { next_epoch: self.next_epoch, epochs, dead: self.dead.clone() }
    }

    fn of_epoch(&self, epoch: u32) -> Option<&Db> {
        self.dbs.iter().find(|db| db.epoch == epoch)
    }
}

/// Counts events since the databases were opened.
#[derive(Debug, Default)]
pub struct Stats {
    /// Keys removed because their time had come.
    pub expired_keys: AtomicU64,
    /// Reading commands that found their key.
    pub keyspace_hits: AtomicU64,
    /// Reading commands that did not.
    pub keyspace_misses: AtomicU64,
    /// Keys written or removed.
    pub changes: AtomicU64,
}

/// Which locks a batch takes, and the memory it works in. One for each session, used again and again.
pub struct Plan<S: Store> {
    stripes: [u64; STRIPE_WORDS],
    exclusive: bool,
    work: Work<S::Writes>,
}

impl<S: Store> Plan<S> {
    /// Makes an empty plan.
    pub fn new() -> Plan<S> {
        Plan { stripes: [0; STRIPE_WORDS], exclusive: false, work: Work::default() }
    }

    /// Forgets every request.
    pub fn clear(&mut self) {
        self.stripes = [0; STRIPE_WORDS];
        self.exclusive = false;
    }

    /// Plans for one request; `args` may be anything a client sent.
    pub fn add(&mut self, spec: &CommandSpec, args: &[&[u8]]) {
        let keyed = match args.get(1) {
            Some(name) if !spec.subcommands.is_empty() => spec.subcommand(name).unwrap_or(spec),
            _ => spec,
        };
        for at in keyed.key_positions(args.len()) {
            self.add_key(args[at]);
        }
        self.exclusive |= matches!(spec.id, Id::FlushAll | Id::FlushDb | Id::SwapDb);
    }

    fn add_key(&mut self, key: &[u8]) {
        let stripe = stripe(format::key_hash(key));
        self.stripes[stripe / 64] |= 1 << (stripe % 64);
    }
}

impl<S: Store> Default for Plan<S> {
    fn default() -> Self {
        Plan::new()
    }
}

#[inline]
fn stripe(key_hash: u64) -> usize {
    key_hash as usize % STRIPES
}

fn covers(stripes: &[u64; STRIPE_WORDS], key_hash: u64) -> bool {
    let stripe = stripe(key_hash);
    stripes[stripe / 64] & 1 << (stripe % 64) != 0
}

/// Reports a stored record or system entry that no version of this program wrote.
fn damaged(what: &str) -> Error {
    Error::corruption(Path::new("database"), 0, what)
}

impl<S: Store> Databases<S> {
    /// Opens `count` databases over `store`; those that the store has beyond `count` are kept and out of reach.
    ///
    /// # Errors
    /// The store fails, or holds something else.
    pub fn open(store: S, count: usize) -> Result<Databases<S>> {
        let mut layout = match store.get(LAYOUT_KEY)? {
            Some(bytes) => Layout::decode(bytes.as_ref()).ok_or_else(|| damaged("unknown layout of databases"))?,
            None => Layout { next_epoch: 0, epochs: Vec::new(), dead: Vec::new() },
        };
        if layout.epochs.len() < count {
            while layout.epochs.len() < count {
                layout.epochs.push(layout.next_epoch);
                layout.next_epoch += 1;
            }
            let mut writes = S::Writes::default();
            writes.put(LAYOUT_KEY, &layout.encode());
            store.write(&mut writes)?;
        }
        let mut dbs = Vec::with_capacity(layout.epochs.len());
        for &epoch in &layout.epochs {
            let counts = match store.get(&format::count_key(epoch))? {
                Some(bytes) => format::decode_counts(bytes.as_ref()).ok_or_else(|| damaged("unknown key counters"))?,
                None => (0, 0),
            };
            dbs.push(Db::new(epoch, counts));
        }
        let state = State { dbs, next_epoch: layout.next_epoch, dead: layout.dead };
        Ok(Databases {
            store,
            stripes: (0..STRIPES).map(|_| Stripe(Mutex::<S::Env, _>::new(()))).collect(),
            state: RwLock::<S::Env, _>::new(state),
            counting: Mutex::<S::Env, _>::new(()),
            stats: Stats::default(),
        })
    }

    /// Takes the locks that `plan` asks for and begins a batch. Blocks while another batch holds one of them.
    pub fn begin<'d>(&'d self, plan: &'d mut Plan<S>, context: Context) -> Batch<'d, S> {
        Batch::begin(self, plan, context)
    }

    /// Returns the store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Returns the event counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns how many databases there are.
    pub fn count(&self) -> usize {
        self.state.read().dbs.len()
    }

    /// Returns the number of keys in database `db`, and of those with an expiry. Keys that are due but not yet removed count.
    pub fn size(&self, db: usize) -> (u64, u64) {
        self.state.read().dbs.get(db).map_or((0, 0), Db::counts)
    }

    /// Waits until everything up to `position` survives a power loss.
    ///
    /// # Errors
    /// The device failed; what was written since the last success may be lost.
    pub fn sync_to(&self, position: Position) -> Result<()> {
        self.store.sync_to(position)
    }

    /// Makes everything committed so far survive a power loss.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn sync(&self) -> Result<()> {
        self.store.sync()
    }
}
