//! [`Tree`]: the memtables and tables of one keyspace, and [`Position`]: from where on the log holds what they do not.
//!
//! All trees of an engine share its log, sequence numbers, file numbers, cache and threads. A tree is read without a lock
//! through its super-version and changes under the engine's state lock ([`TreeState`]).
//!
//! - The number of a tree is never used again, so that operations of a dropped keyspace in the log are told apart.
//! - Entries of a tree with a sequence number up to `TreeState::flushed` lie in its tables, all others in its memtables.
//! - The log is kept from the smallest [`Position`] at which a memtable of any tree begins.

use super::memtable::{AnyMemtable, MemtableKind};
use super::merge::{MergeOperator, Merger};
use super::options::{KeyspaceOptions, Options};
use super::version::{SuperVersion, Version};
use crate::aof::Lsn;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Env, RwLock};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Number of the keyspace that is always there.
pub(super) const DEFAULT_KEYSPACE: u32 = 0;

/// A place in the order of commits: the log from `lsn` on holds everything after `seq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) lsn: Lsn,
    pub(super) seq: SeqNum,
}

/// What readers and writers of one keyspace share.
pub(super) struct Tree<E: Env> {
    pub(super) id: u32,
    /// Empty for the default keyspace.
    pub(super) name: String,
    options: RwLock<E, Arc<Options>>,
    super_version: RwLock<E, Arc<SuperVersion<E>>>,
    dropped: AtomicBool,
    /// The name of the operator that its merges are made for; set, durably, before the first of them.
    merged_by: OnceLock<Arc<str>>,
}

impl<E: Env> Tree<E> {
    /// Makes a tree and what changes about it, as opening found it.
    pub(super) fn open(id: u32, name: String, options: Options, found: Found<E>) -> TreeState<E> {
        let Found { version, flushed, merge_operator, memtable, immutables } = found;
        let version = Arc::new(version);
        let super_version = SuperVersion {
            memtable: memtable.entries.clone(),
            immutables: immutables.iter().rev().map(Arc::clone).collect(),
            version: Arc::clone(&version),
        };
        let tree = Arc::new(Tree {
            id,
            name,
            options: RwLock::<E, _>::new(Arc::new(options)),
            super_version: RwLock::<E, _>::new(Arc::new(super_version)),
            dropped: AtomicBool::new(false),
            merged_by: merge_operator.map_or_else(OnceLock::new, |name| OnceLock::from(Arc::from(name))),
        });
        TreeState { tree, memtable, immutables, version, flushed }
    }

    /// Returns the super-version of this moment.
    #[inline]
    pub(super) fn current(&self) -> Arc<SuperVersion<E>> {
        Arc::clone(&self.super_version.read())
    }

    /// Returns the engine's options with the keyspace's own choices.
    pub(super) fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read())
    }

    /// Takes other choices for what is written from now on.
    pub(super) fn configure(&self, base: &Options, own: &KeyspaceOptions) {
        *self.options.write() = Arc::new(own.over(base));
    }

    /// Returns the name of the operator that its merges are made for; `None` if there never was one.
    pub(super) fn merged_by(&self) -> Option<&Arc<str>> {
        self.merged_by.get()
    }

    /// Called once the MANIFEST says so.
    pub(super) fn set_merged_by(&self, name: &str) {
        let known = self.merged_by.get_or_init(|| name.into());
        assert_eq!(&**known, name, "merges of one keyspace are made for one operator");
    }

    /// Returns what its operands are merged with.
    #[inline]
    pub(super) fn merger(&self) -> Merger {
        match self.merged_by.get() {
            None => Merger::default(),
            Some(name) => self.merger_named(name),
        }
    }

    #[cold]
    fn merger_named(&self, name: &Arc<str>) -> Merger {
        let operator = self.options().merge_operator.clone().filter(|operator| operator.name() == &**name);
        Merger { operator, name: Some(Arc::clone(name)) }
    }

    /// Returns what operands that are not committed yet are merged with.
    pub(super) fn given_merger(&self) -> Merger {
        let operator = self.options().merge_operator.clone();
        let name = operator.as_ref().map(|operator| Arc::from(operator.name()));
        Merger { operator, name }
    }

    /// Fails if `operator` is another one than its merges are made for.
    pub(super) fn check_operator(&self, operator: Option<&dyn MergeOperator>) -> Result<()> {
        match (self.merged_by(), operator.map(MergeOperator::name)) {
            (Some(known), Some(given)) if **known != *given => Err(Error::invalid_argument(format_args!(
                "{} holds merges of operator {known:?}, and operator {given:?} was given; {}",
                self.shown(),
                "set Options::merge_operator or KeyspaceOptions::merge_operator to the former"
            ))),
            _ => Ok(()),
        }
    }

    /// Fails if nothing can be merged: there is no operator, or another one than before.
    pub(super) fn check_merges(&self) -> Result<()> {
        let options = self.options();
        if options.merge_operator.is_none() {
            return Err(Error::invalid_argument(format_args!(
                "a merge in {}, which has no merge operator: set Options::merge_operator or \
                 KeyspaceOptions::merge_operator",
                self.shown()
            )));
        }
        self.check_operator(options.merge_operator.as_deref())
    }

    /// Names it for people.
    fn shown(&self) -> String {
        match self.id {
            DEFAULT_KEYSPACE => "the default keyspace".into(),
            _ => format!("keyspace {:?}", self.name),
        }
    }

    /// Fails if the keyspace was dropped.
    #[inline]
    pub(super) fn check_there(&self) -> Result<()> {
        if self.dropped.load(Ordering::Acquire) { Err(self.gone()) } else { Ok(()) }
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Called with the engine's manifest lock, after the MANIFEST says so.
    pub(super) fn set_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// Lets go of tables that only the super-version of a dropped keyspace holds.
    pub(super) fn forget(&self, env: &E) {
        let nothing = SuperVersion {
            memtable: AnyMemtable::new(env, MemtableKind::SkipList, 1),
            immutables: Vec::new(),
            version: Arc::new(Version::empty(self.options().levels_max)),
        };
        let previous = std::mem::replace(&mut *self.super_version.write(), Arc::new(nothing));
        drop(previous);
    }

    #[cold]
    fn gone(&self) -> Error {
        Error::invalid_argument(format_args!("keyspace {:?} was dropped", self.name))
    }
}

/// What opening found of a tree.
pub(super) struct Found<E: Env> {
    pub(super) version: Version<E>,
    pub(super) flushed: SeqNum,
    /// The name of the operator that its merges are made for.
    pub(super) merge_operator: Option<String>,
    pub(super) memtable: Growing,
    pub(super) immutables: VecDeque<Arc<Immutable>>,
}

/// What changes about a tree under the state lock.
pub(super) struct TreeState<E: Env> {
    pub(super) tree: Arc<Tree<E>>,
    /// The memtable being written.
    pub(super) memtable: Growing,
    /// Full memtables, oldest first.
    pub(super) immutables: VecDeque<Arc<Immutable>>,
    pub(super) version: Arc<Version<E>>,
    /// The tables hold every entry of the tree up to this one.
    pub(super) flushed: SeqNum,
}

impl<E: Env> TreeState<E> {
    /// Shows readers the memtables and tables as they are.
    pub(super) fn publish(&self) {
        let super_version = Arc::new(SuperVersion {
            memtable: self.memtable.entries.clone(),
            immutables: self.immutables.iter().rev().map(Arc::clone).collect(),
            version: Arc::clone(&self.version),
        });
        let previous = std::mem::replace(&mut *self.tree.super_version.write(), super_version);
        drop(previous);
    }

    /// Returns where the oldest memtable begins; `None` if all are empty.
    pub(super) fn begin(&self) -> Option<Position> {
        self.immutables.front().map(|full| full.begin).or_else(|| self.memtable.begin())
    }
}

/// A memtable that is being written.
#[derive(Clone)]
pub(super) struct Growing {
    pub(super) entries: AnyMemtable,
    begin: Arc<OnceLock<Position>>,
}

impl Growing {
    pub(super) fn new<E: Env>(env: &E, kind: MemtableKind, bytes: usize) -> Growing {
        Growing { entries: AnyMemtable::new(env, kind, bytes), begin: Arc::default() }
    }

    /// Says, before the first entry comes in, where the log holds it.
    pub(super) fn begin_at(&self, position: Position) {
        self.begin.get_or_init(|| position);
    }

    /// Returns where the first entry lies; `None` while there is none.
    pub(super) fn begin(&self) -> Option<Position> {
        self.begin.get().copied()
    }

    /// Ends it: its entries lie before `end`.
    pub(super) fn into_full(self, end: Position) -> Immutable {
        let begin = self.begin().expect("an empty memtable is never full");
        assert!(begin <= end && !self.entries.is_empty(), "a memtable from {begin:?} to {end:?}");
        Immutable { memtable: self.entries, begin, end }
    }
}

/// A full memtable on its way to a table.
pub(super) struct Immutable {
    pub(super) memtable: AnyMemtable,
    /// Its entries lie in the log from here on.
    pub(super) begin: Position,
    /// Its entries, and older ones of its tree, lie before, later ones of its tree at or after it.
    pub(super) end: Position,
}
