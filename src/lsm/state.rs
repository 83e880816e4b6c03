//! [`Core`]: what the handles, the commit leader and the background threads of one engine share, and how it changes.
//!
//! - Lock order: commit queue, leader, manifest, state, super-version. No I/O happens under the state or super-version lock.
//! - The set of tables changes only through [`Core::install`]: first the MANIFEST, durably, then the memory.
//! - Rule 1: a failed write or sync of the log, the MANIFEST or the directory poisons; reads go on, nothing else does. An
//!   append that the log refuses for want of space is none.
//! - A table's file is removed once it is in no version that anyone holds; its number is not used again.

use super::cache::BlockCache;
use super::commit::{Leader, Queue};
use super::compaction::picker;
use super::files::table_path;
use super::manifest::Manifest;
use super::manifest::format::{TreeEdit, VersionEdit};
use super::options::Options;
use super::snapshot::SnapshotRegistry;
use super::stats::Counters;
use super::table::Table;
use super::tree::{DEFAULT_KEYSPACE, Immutable, Position, Tree, TreeState};
use super::ttl::{At, Clock};
use super::txn::LockTable;
use crate::aof::Log;
use crate::base::key::SeqNum;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Condvar, Disk, Env, EnvCondvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Everything behind the handles of one engine.
pub(super) struct Core<E: Env> {
    pub(super) env: E,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) log: Log<E>,
    pub(super) cache: BlockCache,
    pub(super) counters: Counters,
    pub(super) snapshots: SnapshotRegistry<E>,
    pub(super) locks: Arc<LockTable<E>>,
    /// Transactions that have begun to check what they have read, and are not committed yet.
    pub(super) checking: AtomicU64,
    /// The newest sequence number whose group is wholly in the memtable.
    pub(super) visible: AtomicU64,
    pub(super) clock: Clock,
    pub(super) next_file: AtomicU64,
    pub(super) pressure: Pressure,
    /// Set by close, before anything else.
    pub(super) closing: AtomicBool,
    /// Set once `State::poisoned` is.
    pub(super) halted: AtomicBool,
    /// Tells handles of this engine from those of another.
    pub(super) identity: Arc<()>,
    /// The default keyspace.
    pub(super) tree: Arc<Tree<E>>,
    pub(super) queue: Mutex<E, Queue<E>>,
    pub(super) leader: Mutex<E, Leader<E>>,
    pub(super) manifest: Mutex<E, Manifest<E>>,
    pub(super) state: Mutex<E, State<E>>,
    /// There may be work for a thread that flushes or compacts.
    pub(super) work: Condvar<E>,
    /// There may be work for the log's thread.
    pub(super) log_work: Condvar<E>,
    /// A flush or compaction ended, well or not.
    pub(super) progress: Condvar<E>,
    pub(super) dir_lock: Mutex<E, Option<<E::Disk as Disk>::DirLock>>,
}

/// What changes under the state lock.
pub(super) struct State<E: Env> {
    pub(super) trees: BTreeMap<u32, TreeState<E>>,
    /// The number that no keyspace had yet.
    pub(super) next_keyspace: u32,
    /// Tables being compacted.
    pub(super) busy: BTreeSet<u64>,
    /// Compactions under way.
    pub(super) compacting: usize,
    /// A forced compaction holds the others off.
    pub(super) manual: bool,
    /// An ingest holds compactions off, but for those that a stopped writer waits for.
    pub(super) ingesting: bool,
    /// Writers that wait for room.
    pub(super) stopped: usize,
    /// Numbers of tables that no version holds yet, or whose removal failed.
    pub(super) pending: BTreeSet<u64>,
    /// Tables that no current version holds any more.
    pub(super) obsolete: Vec<Arc<Table<E>>>,
    /// Why the last flush failed, until one succeeds.
    pub(super) flush_error: Option<Error>,
    /// Why the last compaction failed, until one succeeds.
    pub(super) compaction_error: Option<Error>,
    pub(super) poisoned: Option<Error>,
    /// The log has grown since its thread looked at it.
    pub(super) log_grown: bool,
    pub(super) threads: Vec<E::Join>,
}

/// What the commit leader looks at to slow down, without a lock.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Bytes a second that writes may bring; 0 means any number.
    pub(super) bytes_per_second: AtomicU64,
    /// The memtable being written is the last that fits.
    pub(super) last_memtable: AtomicBool,
}

/// Fastest and slowest rate of slowed-down writes.
const SLOW_BYTES_PER_SECOND_MAX: u64 = 256 << 20;
const SLOW_BYTES_PER_SECOND_MIN: u64 = 1 << 20;
/// Compaction debt, in sizes of level 1, that slows writes down as much as they can be.
const DEBT_SIZES_MAX: u64 = 64;

/// Returns the rate for writes when `fraction` of the way to a stop is gone.
pub(super) fn slow_rate(fraction: f64) -> u64 {
    if fraction <= 0.0 {
        return 0;
    }
    let left = (1.0 - fraction).clamp(0.0, 1.0);
    ((SLOW_BYTES_PER_SECOND_MAX as f64 * left * left) as u64).max(SLOW_BYTES_PER_SECOND_MIN)
}

/// Returns how far `tree` is on the way from where writes are slowed down, 0, to where they stop, 1.
fn tree_pressure<E: Env>(tree: &TreeState<E>, options: &Options) -> f64 {
    let files = tree.version.levels()[0].len();
    let slow_from = options.l0_compaction_files.midpoint(options.l0_stall_files);
    let steps = (options.l0_stall_files - slow_from).max(1) as f64;
    let by_files = (files as f64 + 1.0 - slow_from as f64) / steps;
    let debt = picker::debt_bytes(&tree.version, options) as f64;
    let by_debt = debt / options.level_bytes_base.saturating_mul(DEBT_SIZES_MAX) as f64 - 0.25;
    by_files.max(by_debt)
}

/// Returns an edit of each tree that makes it from nothing.
pub(super) fn whole<E: Env>(trees: &BTreeMap<u32, TreeState<E>>) -> Vec<TreeEdit> {
    let edit = |state: &TreeState<E>| TreeEdit {
        keyspace: state.tree.id,
        created: (state.tree.id != DEFAULT_KEYSPACE).then(|| state.tree.name.clone()),
        flushed: Some(state.flushed),
        merge_operator: state.tree.merged_by().map(|name| name.to_string()),
        added: state.version.infos(),
        ..TreeEdit::default()
    };
    trees.values().map(edit).collect()
}

/// A change of one tree's tables.
pub(super) struct Change<E: Env> {
    pub(super) tree: Arc<Tree<E>>,
    /// Level and file number.
    pub(super) removed: Vec<(usize, u64)>,
    pub(super) added: Vec<(usize, Arc<Table<E>>)>,
    /// The memtable that one of the new tables holds.
    pub(super) flushed: Option<Arc<Immutable>>,
}

impl<E: Env> Change<E> {
    /// Returns the numbers of tables that are not only moved.
    fn new_numbers(&self) -> Vec<u64> {
        let moved = |number: &u64| self.removed.iter().any(|(_, removed)| removed == number);
        let numbers = self.added.iter().map(|(_, table)| table.info().file_no);
        numbers.filter(|number| !moved(number)).collect()
    }
}

impl<E: Env> Core<E> {
    /// Returns the newest sequence number that readers see.
    pub(super) fn visible(&self) -> SeqNum {
        SeqNum(self.visible.load(Ordering::Acquire))
    }

    /// Returns what a reader sees that begins now.
    pub(super) fn at(&self) -> At {
        let seq = self.visible();
        At { seq, moment: self.clock.now(&self.env) }
    }

    /// Fails if the engine was closed.
    pub(super) fn check_open(&self) -> Result<()> {
        if self.closing.load(Ordering::Relaxed) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Fails if nothing may be written any more.
    pub(super) fn check_running(&self) -> Result<()> {
        self.check_open()?;
        if self.halted.load(Ordering::Acquire) {
            let state = self.state.lock();
            return Err(state.poisoned.clone().expect("set before the engine was halted"));
        }
        Ok(())
    }

    /// Refuses every later write because of `cause`.
    pub(super) fn poison(&self, cause: &Error) {
        let mut state = self.state.lock();
        if state.poisoned.is_none() {
            self.env.reached("lsm.poisoned");
            state.poisoned = Some(Error::poisoned(cause));
            self.halted.store(true, Ordering::Release);
        }
        self.wake_all();
    }

    /// Wakes every thread and everyone who waits for one: what they look at has changed for good.
    pub(super) fn wake_all(&self) {
        self.work.notify_all();
        self.log_work.notify_all();
        self.progress.notify_all();
    }

    /// Passes a result of the log on; a failure poisons.
    pub(super) fn wal<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.poison(error);
        }
        result
    }

    /// As [`wal`](Self::wal) for an append, which the log may refuse for want of space without any harm.
    pub(super) fn wal_append<T>(&self, result: Result<T>) -> Result<T> {
        match &result {
            Err(error) if *error.kind() == ErrorKind::NoSpace && self.log.poisoned().is_none() => {
                self.env.reached("lsm.write_refused");
                result
            }
            _ => self.wal(result),
        }
    }

    /// Shows readers the memtables and tables of keyspace `id`, and tells writers what there is to wait for.
    pub(super) fn publish(&self, state: &State<E>, id: u32) {
        if let Some(tree) = state.trees.get(&id) {
            tree.publish();
        }
        self.update_pressure(state);
    }

    fn update_pressure(&self, state: &State<E>) {
        let worst = state.trees.values().map(|tree| tree_pressure(tree, &self.options)).fold(0.0, f64::max);
        self.pressure.bytes_per_second.store(slow_rate(worst), Ordering::Relaxed);
        let last = state.trees.values().any(|tree| tree.immutables.len() >= self.options.immutable_memtables_max);
        self.pressure.last_memtable.store(last, Ordering::Relaxed);
    }

    /// Returns a file number that was never used, and holds the file back from being called an orphan.
    pub(super) fn allocate_number(&self) -> u64 {
        let mut state = self.state.lock();
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        state.pending.insert(number);
        number
    }

    /// Forgets numbers whose files are gone.
    fn release_numbers(&self, numbers: &[u64]) {
        let mut state = self.state.lock();
        state.pending.retain(|number| !numbers.contains(number));
    }

    /// Removes tables that no version ever held. What cannot be removed is left for the next open.
    pub(super) fn discard_numbers(&self, numbers: &[u64]) {
        let removed: Vec<u64> = numbers.iter().copied().filter(|number| self.remove_table(*number)).collect();
        self.release_numbers(&removed);
    }

    fn remove_table(&self, number: u64) -> bool {
        match self.env.disk().remove(&table_path(&self.dir, number)) {
            Ok(()) => {
                self.counters.files_deleted.add(1);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Makes a change of a tree's tables durable, then visible, with what `finish` changes beside it.
    ///
    /// Returns false if the keyspace was dropped meanwhile: nothing has changed, and the new tables are gone.
    ///
    /// # Errors
    /// The MANIFEST could not be written; the engine is poisoned and the change may or may not be found at the next open.
    pub(super) fn install(&self, change: Change<E>, finish: impl FnOnce(&mut State<E>)) -> Result<bool> {
        let mut manifest = self.manifest.lock();
        let running = self.check_running();
        if running.is_err() || change.tree.is_dropped() {
            // Nothing names the new tables, and nothing will: their files go again.
            let new = change.new_numbers();
            drop(manifest);
            drop(change);
            self.discard_numbers(&new);
            return running.map(|()| false);
        }
        let Change { tree, removed, added, flushed } = change;
        let named = added.iter().map(|(level, table)| (*level, table.info().clone())).collect();
        let end = flushed.as_ref().map(|full| full.end);
        let tree_edit = TreeEdit {
            keyspace: tree.id,
            flushed: end.map(|end| end.seq),
            removed: removed.clone(),
            added: named,
            ..TreeEdit::default()
        };
        let position = flushed.as_ref().map(|full| self.log_needed_without(full));
        let edit = VersionEdit {
            next_file: Some(self.next_file.load(Ordering::Relaxed)),
            last_seq: position.map(|position| position.seq),
            wal_lsn: position.map(|position| position.lsn),
            clock: self.clock.to_record(&self.env),
            trees: vec![tree_edit],
            ..VersionEdit::default()
        };
        self.commit_edit(&mut manifest, &edit, |state| {
            let changed = state.trees.get_mut(&tree.id).expect("dropping takes the manifest lock");
            changed.version = Arc::new(changed.version.apply(&self.env, &removed, &added));
            if let Some(full) = &flushed {
                changed.flushed = full.end.seq;
                if !self.env.planted("immutable_dropped_before_install") {
                    let flushed = changed.immutables.pop_front().expect("the memtable was queued");
                    assert!(Arc::ptr_eq(&flushed, full), "memtables are flushed in order");
                }
            }
            // Here and not later: another thread may make such a table obsolete, and its number pending, at once.
            for (_, table) in &added {
                state.pending.remove(&table.info().file_no);
            }
            self.publish(state, tree.id);
            finish(state);
        })?;
        Ok(true)
    }

    /// Returns from where the log is needed once `full` is in a table.
    ///
    /// What is being committed at this moment lies behind the end of every full memtable.
    fn log_needed_without(&self, full: &Arc<Immutable>) -> Position {
        let state = self.state.lock();
        let begin = |tree: &TreeState<E>| match tree.immutables.front() {
            Some(oldest) if Arc::ptr_eq(oldest, full) => {
                tree.immutables.get(1).map(|next| next.begin).or_else(|| tree.memtable.begin())
            }
            _ => tree.begin(),
        };
        if self.env.planted("keyspace_log_given_back_early") {
            return full.end;
        }
        let begins = state.trees.values().filter_map(begin);
        begins.chain([full.end]).min().expect("the end of the memtable is there")
    }

    /// Appends `edit` to the MANIFEST, durably, and then lets `apply` change the state that it speaks of.
    ///
    /// # Errors
    /// As [`install`](Core::install).
    pub(super) fn commit_edit(
        &self,
        manifest: &mut MutexGuard<'_, E, Manifest<E>>,
        edit: &VersionEdit,
        apply: impl FnOnce(&mut State<E>),
    ) -> Result<()> {
        if let Some(lsn) = edit.wal_lsn {
            let (durable, before) = (self.log.durable(), manifest.position().1);
            assert!(lsn <= durable, "the MANIFEST points to {lsn}, the log is durable up to {durable}");
            assert!(before <= lsn, "the MANIFEST points to {before}, and then back to {lsn}");
        }
        self.wal(manifest.append(edit))?;
        {
            let mut state = self.state.lock();
            apply(&mut state);
            self.work.notify_all();
            self.progress.notify_all();
        }
        if manifest.bytes() > self.options.manifest_bytes_max {
            self.wal(self.roll_manifest(manifest))?;
        }
        Ok(())
    }

    /// Replaces the MANIFEST by one that holds only what is true now.
    fn roll_manifest(&self, manifest: &mut MutexGuard<'_, E, Manifest<E>>) -> Result<()> {
        let file_no = self.next_file.fetch_add(1, Ordering::Relaxed);
        let edit = {
            let state = self.state.lock();
            let (last_seq, wal_lsn) = manifest.position();
            VersionEdit {
                next_file: Some(self.next_file.load(Ordering::Relaxed)),
                last_seq: Some(last_seq),
                wal_lsn: Some(wal_lsn),
                next_keyspace: Some(state.next_keyspace),
                clock: self.clock.to_record(&self.env),
                trees: whole(&state.trees),
            }
        };
        let old = manifest.path().to_path_buf();
        **manifest = Manifest::create(&self.env, &self.dir, file_no, &edit)?;
        self.env.reached("lsm.manifest_roll");
        // Left behind if this fails; the next open removes it.
        let _ = self.env.disk().remove(&old);
        Ok(())
    }

    /// Removes the files of obsolete tables that nobody reads any more.
    pub(super) fn purge_obsolete(&self) {
        let unused: Vec<u64> = {
            let mut state = self.state.lock();
            let (unused, used) =
                std::mem::take(&mut state.obsolete).into_iter().partition(|table| Arc::strong_count(table) == 1);
            state.obsolete = used;
            let unused: Vec<Arc<Table<E>>> = unused;
            let numbers = unused.iter().map(|table| table.info().file_no).collect();
            state.pending.extend(&numbers);
            numbers
        };
        self.discard_numbers(&unused);
    }
}
