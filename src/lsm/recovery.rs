//! Opening a directory: find what is durable, prove that it is whole, and only then change anything.
//!
//! On the opener's thread, with the directory locked:
//!
//! 1. List the directory. Without `CURRENT` there must be no table, else the pointer is lost and nothing is touched.
//! 2. `CURRENT` names the MANIFEST; its edits give keyspaces, tables, last sequence number and log position. Each table must
//!    be there.
//! 3. Replay the log from that position into memtables: sequence numbers must continue without a gap. What a keyspace's
//!    tables hold already is passed over, and so is what a dropped keyspace was given. The log must reach as far as the
//!    tables of each keyspace.
//! 4. Write a fresh MANIFEST that says the same, durably, and switch `CURRENT` to it.
//! 5. Only then remove what nothing names. A crash anywhere leaves the old or the new MANIFEST in force, which agree.
//!
//! File numbers continue behind everything in the MANIFEST and in the directory, so none is used twice.

use super::batch::format::{NOWHERE, decode_record};
use super::cache::BlockCache;
use super::commit::{Leader, Queue, Writing};
use super::files::{FileKind, INCOMPLETE, REPAIRING, WAL_DIR, table_path};
use super::manifest::format::VersionEdit;
use super::manifest::{Manifest, read_current, read_manifest};
use super::options::Options;
use super::snapshot::SnapshotRegistry;
use super::state::{Core, Pressure, State, whole};
use super::stats::Counters;
use super::table::Table;
use super::tree::{DEFAULT_KEYSPACE, Found as FoundTree, Growing, Immutable, Position, Tree, TreeState};
use super::ttl::Clock;
use super::txn::{LockTable, Recent};
use super::version::{Edits, ReplayedTree, TableMap, Version};
use crate::aof::{Frame, Log, LogOptions, Lsn, RecoveryReport};
use crate::base::key::{SeqNum, Tag, ValueKind};
use crate::base::{Error, Result};
use crate::env::{Condvar, Disk, Env, Mutex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Opens `dir` without starting threads.
pub(super) fn open<E: Env>(env: E, dir: &Path, options: Options) -> Result<Core<E>> {
    options.validate()?;
    let dir_lock = lock(&env, dir, &options)?;
    let found = Found::list(&env, dir)?;
    let durable = found.read_manifest(&env, &options)?;
    let cache = BlockCache::new(options.block_cache_bytes as u64);
    let mut versions = BTreeMap::new();
    for (keyspace, tree) in &durable.trees {
        versions.insert(*keyspace, found.open_tables(&env, &options, &cache, &tree.tables, &|_| None)?);
    }
    let listed = found.kinds.iter().filter_map(|kind| kind.number()).max().map_or(1, |number| number + 1);
    let mut manifest_no = durable.next_file.max(listed);
    if env.planted("file_number_reused") {
        manifest_no = durable.next_file;
    }
    let live: BTreeSet<u64> = durable.trees.values().flat_map(|tree| tree.tables.keys().copied()).collect();
    let (log, mut replayed) = replay_log(&env, dir, &options, &durable)?;
    let trees = replayed.join(&env, durable.trees, versions, &options);
    trees[&DEFAULT_KEYSPACE].tree.check_operator(options.merge_operator.as_deref())?;
    let edit = VersionEdit {
        next_file: Some(manifest_no + 1),
        last_seq: Some(durable.position.seq),
        wal_lsn: Some(durable.position.lsn),
        next_keyspace: Some(durable.next_keyspace),
        clock: replayed.clock.to_record(&env),
        trees: whole(&trees),
    };
    if env.planted("orphans_deleted_before_manifest_switch") {
        found.remove_orphans(&env, &live, manifest_no);
    }
    let manifest = Manifest::create(&env, dir, manifest_no, &edit)?;
    found.remove_orphans(&env, &live, manifest_no);
    let mut last_seq = replayed.last_seq;
    if env.planted("seq_reused_after_recovery") {
        last_seq = durable.position.seq;
    }
    let parts = Parts { env, dir, options, dir_lock, cache, trees, clock: replayed.clock, log, manifest };
    Ok(parts.into_core(durable.next_keyspace, last_seq, manifest_no + 1))
}

pub(super) fn lock<E: Env>(env: &E, dir: &Path, options: &Options) -> Result<<E::Disk as Disk>::DirLock> {
    let disk = env.disk();
    if options.create_if_missing {
        disk.create_dir_all(dir).map_err(|error| Error::io("create directory", dir, error))?;
    }
    disk.lock_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::locked(dir),
        _ => Error::io("lock", dir, error),
    })
}

/// What the MANIFEST says.
pub(super) struct Durable {
    pub(super) trees: BTreeMap<u32, ReplayedTree>,
    pub(super) next_file: u64,
    pub(super) next_keyspace: u32,
    /// The latest moment of the clock.
    pub(super) clock: Option<u64>,
    pub(super) position: Position,
}

impl Durable {
    /// Takes what the edits of MANIFEST `file_no` leave; `None` if a number is missing.
    pub(super) fn of(edits: Edits, file_no: u64) -> Option<Durable> {
        let Edits { scalars, trees } = edits;
        Some(Durable {
            next_file: scalars.next_file?.max(file_no + 1),
            next_keyspace: scalars.next_keyspace.unwrap_or(DEFAULT_KEYSPACE + 1),
            clock: scalars.clock,
            position: Position { lsn: scalars.wal_lsn?, seq: scalars.last_seq? },
            trees,
        })
    }
}

/// What the directory holds.
pub(super) struct Found<'a> {
    dir: &'a Path,
    kinds: Vec<FileKind>,
    bytes: BTreeMap<u64, u64>,
}

impl<'a> Found<'a> {
    pub(super) fn list<E: Env>(env: &E, dir: &'a Path) -> Result<Found<'a>> {
        let entries = env.disk().list(dir).map_err(|error| Error::io("list", dir, error))?;
        let files: Vec<_> = entries.iter().filter(|entry| !entry.is_dir).collect();
        let kinds = files.iter().map(|entry| FileKind::parse(&entry.name)).collect();
        let table_bytes = |entry: &&crate::env::DirEntry| match FileKind::parse(&entry.name) {
            FileKind::Table(number) => Some((number, entry.bytes)),
            _ => None,
        };
        let bytes = files.iter().filter_map(table_bytes).collect();
        Ok(Found { dir, kinds, bytes })
    }

    pub(super) fn read_manifest<E: Env>(&self, env: &E, options: &Options) -> Result<Durable> {
        if self.kinds.contains(&FileKind::Incomplete) {
            let dir = self.dir.display();
            return Err(Error::invalid_argument(format_args!(
                "{dir} was being filled by a checkpoint or restore that did not finish (it holds {INCOMPLETE}): remove it and \
                 do that again"
            )));
        }
        if self.kinds.contains(&FileKind::Repairing) {
            let dir = self.dir.display();
            return Err(Error::invalid_argument(format_args!(
                "a repair of {dir} did not finish (it holds {REPAIRING}): run it again"
            )));
        }
        if !self.kinds.contains(&FileKind::Current) {
            return self.create(options);
        }
        if options.error_if_exists {
            let dir = self.dir.display();
            return Err(Error::invalid_argument(format_args!("{dir} holds an engine and error_if_exists is set")));
        }
        let file_no = read_current(env, self.dir)?;
        let edits = read_manifest(env, self.dir, file_no)?;
        let path = self.dir.join(super::files::manifest_name(file_no));
        let corruption = |what: &str| Error::corruption(&path, 0, what);
        let missing = || corruption("manifest without file number, sequence number or log position");
        Durable::of(Edits::replay(&edits).map_err(corruption)?, file_no).ok_or_else(missing)
    }

    fn create(&self, options: &Options) -> Result<Durable> {
        let dir = self.dir.display();
        if let Some(number) = self.bytes.keys().next() {
            let path = table_path(self.dir, *number);
            return Err(Error::corruption(
                &path,
                0,
                format_args!("{dir} holds tables but no CURRENT that names their manifest; `aidb repair` makes one"),
            ));
        }
        if !options.create_if_missing {
            return Err(Error::invalid_argument(format_args!(
                "{dir} holds no engine and create_if_missing is not set"
            )));
        }
        let trees = BTreeMap::from([(DEFAULT_KEYSPACE, ReplayedTree::default())]);
        let (next_keyspace, position) = (DEFAULT_KEYSPACE + 1, Position::default());
        Ok(Durable { trees, next_file: 1, next_keyspace, clock: None, position })
    }

    /// Opens `tables`, except those that `known` has open.
    pub(super) fn open_tables<E: Env>(
        &self,
        env: &E,
        options: &Options,
        cache: &BlockCache,
        tables: &TableMap,
        known: &dyn Fn(u64) -> Option<Arc<Table<E>>>,
    ) -> Result<Version<E>> {
        let deepest = tables.values().map(|(level, _)| *level + 1).max().unwrap_or(0);
        let mut levels: Vec<Vec<Arc<Table<E>>>> = (0..deepest.max(options.levels_max)).map(|_| Vec::new()).collect();
        for (number, (level, info)) in tables {
            let path = table_path(self.dir, *number);
            match self.bytes.get(number) {
                None => return Err(Error::corruption(&path, 0, "the manifest names this table, and it is missing")),
                Some(bytes) if *bytes != info.file_bytes => {
                    let what = format_args!("the table has {bytes} bytes, its manifest says {}", info.file_bytes);
                    return Err(Error::corruption(&path, (*bytes).min(info.file_bytes), what));
                }
                Some(_) => {}
            }
            let table = match known(*number) {
                Some(table) => table,
                None => Arc::new(Table::open_named(env, &path, info, cache.clone())?),
            };
            if table.info() != info {
                return Err(Error::corruption(&path, 0, "the table's properties are not those in its manifest"));
            }
            levels[*level].push(table);
        }
        let version = Version::sorted(env, levels);
        match version.overlap(env) {
            None => Ok(version),
            Some((level, a, b)) => {
                let what = format_args!("it overlaps with table {b} in level {level}");
                Err(Error::corruption(&table_path(self.dir, a), 0, what))
            }
        }
    }

    /// Removes tables and MANIFESTs that the new MANIFEST does not name. What fails is left for the next open.
    pub(super) fn remove_orphans<E: Env>(&self, env: &E, live: &BTreeSet<u64>, manifest_no: u64) {
        for kind in &self.kinds {
            let path = match *kind {
                FileKind::Table(number) if !live.contains(&number) => table_path(self.dir, number),
                FileKind::Manifest(number) if number != manifest_no => {
                    self.dir.join(super::files::manifest_name(number))
                }
                _ => continue,
            };
            env.reached("lsm.orphan_removed");
            if let Err(error) = env.disk().remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an orphan");
            }
        }
    }
}

/// What the log added to the tables.
pub(super) struct Replayed {
    trees: BTreeMap<u32, ReplayedMemtables>,
    next_keyspace: u32,
    pub(super) clock: Clock,
    pub(super) last_seq: SeqNum,
    /// The log has passed an ingest, whose tables the MANIFEST names.
    pub(super) ingested: bool,
}

/// What the log added to one keyspace.
#[derive(Default)]
struct ReplayedMemtables {
    /// Operations up to this one are in tables.
    flushed: SeqNum,
    /// Tables hold nothing newer: some were ingested.
    newest: SeqNum,
    /// The MANIFEST names an operator for merges.
    merges: bool,
    full: VecDeque<Arc<Immutable>>,
    growing: Option<Growing>,
    /// Where the record begins that came last.
    last_record: Option<Position>,
}

fn replay_log<E: Env>(env: &E, dir: &Path, options: &Options, durable: &Durable) -> Result<(Log<E>, Replayed)> {
    let wal_dir = dir.join(WAL_DIR);
    let log_options = LogOptions { segment_bytes: options.wal_segment_bytes, ..LogOptions::default() };
    let mut replayed = Replayed::new(env, durable);
    let (log, report) = Log::open(env.clone(), &wal_dir, log_options, &mut |frame| {
        if frame.lsn < durable.position.lsn { Ok(()) } else { replayed.apply(env, frame, options, &wal_dir) }
    })?;
    check_range(&wal_dir, &report, durable.position.lsn)?;
    replayed.check_complete(&wal_dir, report.end)?;
    if replayed.last_seq > durable.position.seq {
        env.reached("lsm.wal_replayed");
    }
    Ok((log, replayed))
}

/// Checks that the log holds everything that the tables do not.
fn check_range(wal_dir: &Path, report: &RecoveryReport, wal_lsn: Lsn) -> Result<()> {
    if report.first_lsn > wal_lsn {
        let what = format_args!("the log begins at {}, the manifest needs it from {wal_lsn}", report.first_lsn);
        return Err(Error::corruption(wal_dir, wal_lsn.0, what));
    }
    if report.end < wal_lsn {
        let what = format_args!("the log ends at {}, the manifest needs it from {wal_lsn}", report.end);
        return Err(Error::corruption(wal_dir, report.end.0, what));
    }
    Ok(())
}

impl Replayed {
    /// Begins where the tables of `durable` end.
    pub(super) fn new<E: Env>(env: &E, durable: &Durable) -> Replayed {
        let by_default =
            env.planted("keyspace_replayed_from_another").then(|| durable.trees[&DEFAULT_KEYSPACE].flushed);
        let memtables = |tree: &ReplayedTree| ReplayedMemtables {
            flushed: by_default.unwrap_or(tree.flushed),
            newest: tree.tables.values().map(|(_, info)| info.seq_max).max().unwrap_or_default(),
            merges: tree.merge_operator.is_some(),
            ..ReplayedMemtables::default()
        };
        Replayed {
            trees: durable.trees.iter().map(|(keyspace, tree)| (*keyspace, memtables(tree))).collect(),
            next_keyspace: durable.next_keyspace,
            clock: Clock::new(durable.clock),
            last_seq: durable.position.seq,
            ingested: false,
        }
    }

    /// Inserts what a record of the log holds and tables do not.
    pub(super) fn apply<E: Env>(&mut self, env: &E, frame: Frame<'_>, options: &Options, wal_dir: &Path) -> Result<()> {
        let corruption = |what: &str| Error::corruption(wal_dir, frame.lsn.0, what);
        let record = decode_record(frame.payload).map_err(corruption)?;
        if record.first.0 != self.last_seq.0 + 1 {
            let what = format!("log record {} follows sequence number {}", record.first, self.last_seq);
            return Err(corruption(&what));
        }
        let begin = Position { lsn: frame.lsn, seq: self.last_seq };
        for operation in record.operations() {
            let operation = operation.map_err(corruption)?;
            self.last_seq.0 += 1;
            let Some(tree) = self.trees.get_mut(&operation.keyspace) else {
                self.ingested |= operation.keyspace == NOWHERE;
                if operation.keyspace < self.next_keyspace || operation.keyspace == NOWHERE {
                    continue;
                }
                return Err(corruption("log record of a keyspace that the manifest does not know"));
            };
            if operation.kind == ValueKind::Merge && !tree.merges {
                return Err(corruption("log record of a merge, and the manifest names no operator for it"));
            }
            if operation.kind == ValueKind::PutTtl {
                self.clock.start();
            }
            let forgotten = operation.kind == ValueKind::RangeDelete && env.planted("range_delete_not_replayed");
            if self.last_seq > tree.flushed && !forgotten {
                let memtable = tree.memtable(env, begin, options);
                memtable.entries.insert(operation.key, Tag::new(self.last_seq, operation.kind), operation.value);
            }
        }
        Ok(())
    }

    /// Checks that the log, which ends at `end`, came as far as every keyspace's tables did: they are written from what it is sure to
    /// hold. Else a commit over several keyspaces would be there in part, and its sequence numbers would be given out again.
    pub(super) fn check_complete(&self, wal_dir: &Path, end: Lsn) -> Result<()> {
        let flushed = self.trees.values().map(|tree| tree.flushed.max(tree.newest)).max().unwrap_or_default();
        if flushed > self.last_seq {
            let what =
                format_args!("the log ends with sequence number {}, and tables hold up to {flushed}", self.last_seq);
            return Err(Error::corruption(wal_dir, end.0, what));
        }
        Ok(())
    }

    /// Joins memtables and tables.
    pub(super) fn join<E: Env>(
        &mut self,
        env: &E,
        durable: BTreeMap<u32, ReplayedTree>,
        mut versions: BTreeMap<u32, Version<E>>,
        options: &Options,
    ) -> BTreeMap<u32, TreeState<E>> {
        let join = |(keyspace, tree): (u32, ReplayedTree)| {
            let version = versions.remove(&keyspace).expect("each tree's tables were opened");
            let memtables = self.trees.remove(&keyspace).expect("each tree was replayed");
            let memtable =
                memtables.growing.unwrap_or_else(|| Growing::new(env, options.memtable, options.memtable_bytes));
            let ReplayedTree { name, flushed, merge_operator, .. } = tree;
            let found = FoundTree { version, flushed, merge_operator, memtable, immutables: memtables.full };
            (keyspace, Tree::open(keyspace, name, options.clone(), found))
        };
        durable.into_iter().map(join).collect()
    }
}

impl ReplayedMemtables {
    /// Returns the memtable for a record that begins at `begin`; only a new record is given a new one.
    fn memtable<E: Env>(&mut self, env: &E, begin: Position, options: &Options) -> &Growing {
        let fits =
            |growing: &Growing| growing.entries.bytes() < options.memtable_bytes || self.last_record == Some(begin);
        if let Some(full) = self.growing.take_if(|growing| !fits(growing)) {
            self.full.push_back(Arc::new(full.into_full(begin)));
        }
        self.last_record = Some(begin);
        let growing = self.growing.get_or_insert_with(|| Growing::new(env, options.memtable, options.memtable_bytes));
        growing.begin_at(begin);
        growing
    }
}

/// What opening has gathered.
struct Parts<'a, E: Env> {
    env: E,
    dir: &'a Path,
    options: Options,
    dir_lock: <E::Disk as Disk>::DirLock,
    cache: BlockCache,
    trees: BTreeMap<u32, TreeState<E>>,
    clock: Clock,
    log: Log<E>,
    manifest: Manifest<E>,
}

impl<E: Env> Parts<'_, E> {
    fn into_core(self, next_keyspace: u32, last_seq: SeqNum, next_file: u64) -> Core<E> {
        let writing = self.trees.iter().map(|(keyspace, state)| (*keyspace, Writing::new(state))).collect();
        let recent = Recent::new(last_seq);
        let told = self.log.end();
        let leader = Leader { trees: writing, full: Vec::new(), last_seq, recent, unpaid_bytes: 0, told };
        let tree = Arc::clone(&self.trees.get(&DEFAULT_KEYSPACE).expect("it is always there").tree);
        let state = State {
            trees: self.trees,
            next_keyspace,
            busy: BTreeSet::new(),
            compacting: 0,
            manual: false,
            ingesting: false,
            stopped: 0,
            pending: BTreeSet::new(),
            obsolete: Vec::new(),
            flush_error: None,
            compaction_error: None,
            poisoned: None,
            log_grown: false,
            threads: Vec::new(),
        };
        let locks = Arc::new(LockTable::new(&self.env));
        Core {
            env: self.env,
            dir: PathBuf::from(self.dir),
            options: self.options,
            log: self.log,
            cache: self.cache,
            counters: Counters::default(),
            snapshots: SnapshotRegistry::new(),
            locks,
            checking: AtomicU64::new(0),
            visible: AtomicU64::new(last_seq.0),
            clock: self.clock,
            next_file: AtomicU64::new(next_file),
            pressure: Pressure::default(),
            closing: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            identity: Arc::default(),
            tree,
            queue: Mutex::<E, _>::new(Queue::default()),
            leader: Mutex::<E, _>::new(leader),
            manifest: Mutex::<E, _>::new(self.manifest),
            state: Mutex::<E, _>::new(state),
            work: Condvar::<E>::default(),
            log_work: Condvar::<E>::default(),
            progress: Condvar::<E>::default(),
            dir_lock: Mutex::<E, _>::new(Some(self.dir_lock)),
        }
    }
}
