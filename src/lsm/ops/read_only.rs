//! [`ReadOnly`]: an engine's directory read without its lock, beside the process that writes it or after it died.
//!
//! Opening looks at `CURRENT`, the MANIFEST, its tables and the log, in this order, and changes nothing: no lock, no MANIFEST of its
//! own, nothing removed, the log neither repaired nor continued. What was looked at stays as it was, whatever the writer does: its
//! tables are open, and the log is in memory. [`ReadOnly::refresh`] looks again.
//!
//! **Invariant:** what is seen is a prefix of the commit order, whole batches, all keyspaces at one sequence number, with everything
//! that had reached the operating system (acknowledged at [`Durability::Os`](crate::lsm::Durability::Os) or more) when the look began.
//!
//! The writer removes a table or a piece of the log only after a newer MANIFEST was in force, and a MANIFEST only after `CURRENT` was
//! switched. So whoever misses one looks again if these two have changed, else it is damage.

use crate::aof::Lsn;
use crate::aof::view::ViewChain;
use crate::base::key::SeqNum;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, Env, Mutex, RwLock, StdEnv};
use crate::lsm::batch::WriteBatch;
use crate::lsm::cache::BlockCache;
use crate::lsm::db::{CommitInfo, Engine};
use crate::lsm::files::{WAL_DIR, manifest_name};
use crate::lsm::integrity::IntegrityReport;
use crate::lsm::iterator::{Bounds, DbIterator, View};
use crate::lsm::manifest::read_current;
use crate::lsm::options::Options;
use crate::lsm::recovery::{Durable, Found, Replayed};
use crate::lsm::stats::{Counters, Statistics, sum_levels};
use crate::lsm::table::{Table, TableInfo};
use crate::lsm::tree::{DEFAULT_KEYSPACE, Tree};
use crate::lsm::ttl::At;
use crate::lsm::value::Value;
use crate::lsm::version::{SuperSource, SuperVersion};
use std::collections::BTreeMap;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a directory is looked at that changes under the look.
const ATTEMPTS: u32 = 20;
/// First pause between two looks; doubled each time.
const PAUSE_MIN: Duration = Duration::from_micros(100);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// A view of an engine's directory that changes nothing in it. Cheap to clone; clones see the same, also after a refresh.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// db.put("key", "old")?;
/// let view = aidb::DB::open_read_only(dir.path(), aidb::Options::default())?;
/// db.put("key", "new")?;
/// assert_eq!(view.get("key")?.unwrap(), b"old");
/// view.refresh()?;
/// assert_eq!(view.get("key")?.unwrap(), b"new");
/// assert_eq!(view.put("key", "mine").unwrap_err().kind(), &aidb::ErrorKind::ReadOnly);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReadOnly<E: Env = StdEnv> {
    inner: Arc<Inner<E>>,
    /// The keyspace it reads.
    keyspace: u32,
}

struct Inner<E: Env> {
    env: E,
    dir: PathBuf,
    options: Options,
    cache: BlockCache,
    counters: Counters,
    seen: RwLock<E, Arc<Seen<E>>>,
    /// One look at a time, so that an older one never replaces a newer one.
    looking: Mutex<E, ()>,
}

/// What one look found.
struct Seen<E: Env> {
    trees: BTreeMap<u32, Arc<Tree<E>>>,
    at: At,
}

impl<E: Env> Seen<E> {
    /// Returns what there is of every keyspace.
    fn all(&self) -> impl Iterator<Item = Arc<SuperVersion<E>>> {
        self.trees.values().map(|tree| tree.current())
    }

    /// Returns table `number` if it is there.
    fn table(&self, number: u64) -> Option<Arc<Table<E>>> {
        self.all().find_map(|current| {
            let mut tables = current.version.tables();
            tables.find(|(_, table)| table.info().file_no == number).map(|(_, table)| Arc::clone(table))
        })
    }
}

impl<E: Env> Clone for ReadOnly<E> {
    fn clone(&self) -> ReadOnly<E> {
        ReadOnly { inner: Arc::clone(&self.inner), keyspace: self.keyspace }
    }
}

impl<E: Env> std::fmt::Debug for ReadOnly<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOnly").field("path", &self.path()).field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

impl Engine<StdEnv> {
    /// Opens the engine in directory `path` for reading, beside a process that may be writing it; see [`ReadOnly`].
    ///
    /// Of `options` only those of reading count: the block cache, the memtable's size for what is read from the log, and the
    /// merge operator, which serves every keyspace whose merges are made for it.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no engine or an option is out of range,
    /// [`Corruption`](ErrorKind::Corruption) naming the file, [`WouldBlock`](ErrorKind::WouldBlock) if the writer replaced its
    /// files faster than they could be opened, or an I/O error.
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<ReadOnly> {
        Engine::open_read_only_in(StdEnv, path, options)
    }
}

impl<E: Env> Engine<E> {
    /// As [`open_read_only`](Engine::open_read_only), in directory `path` of `env`.
    ///
    /// # Errors
    /// As [`open_read_only`](Engine::open_read_only).
    pub fn open_read_only_in(env: E, path: impl AsRef<Path>, options: Options) -> Result<ReadOnly<E>> {
        options.validate()?;
        let options = Options { create_if_missing: false, error_if_exists: false, ..options };
        let cache = BlockCache::new(options.block_cache_bytes as u64);
        let look = Look { env: &env, dir: path.as_ref(), options: &options, cache: &cache, known: None };
        let seen = look.settled()?;
        let inner = Inner {
            dir: path.as_ref().to_path_buf(),
            options,
            cache,
            counters: Counters::default(),
            seen: RwLock::<E, _>::new(Arc::new(seen)),
            looking: Mutex::<E, _>::new(()),
            env,
        };
        inner.env.reached("lsm.read_only");
        Ok(ReadOnly { inner: Arc::new(inner), keyspace: DEFAULT_KEYSPACE })
    }
}

impl<E: Env> ReadOnly<E> {
    /// Looks at the directory again and returns the newest sequence number now seen.
    ///
    /// Iterators and values that were handed out before stay as they are. After a power loss of the writer's machine the
    /// sequence number may be lower than before: what had not been synced is gone.
    ///
    /// # Errors
    /// As [`Engine::open_read_only`]; what was seen before is still seen.
    pub fn refresh(&self) -> Result<SeqNum> {
        let Inner { env, dir, options, cache, .. } = &*self.inner;
        let _looking = self.inner.looking.lock();
        let known = self.seen();
        let seen = Look { env, dir, options, cache, known: Some(&known) }.settled()?;
        let seq = seen.at.seq;
        let before = std::mem::replace(&mut *self.inner.seen.write(), Arc::new(seen));
        drop(before);
        Ok(seq)
    }

    fn seen(&self) -> Arc<Seen<E>> {
        Arc::clone(&self.inner.seen.read())
    }

    /// Returns the memtables and tables of its keyspace, and what is seen of them.
    fn current(&self) -> Result<(Arc<SuperVersion<E>>, View)> {
        let seen = self.seen();
        match seen.trees.get(&self.keyspace) {
            Some(tree) => Ok((tree.current(), View::at(seen.at, tree.merger()))),
            None => Err(Error::invalid_argument(format_args!("keyspace {} was dropped", self.keyspace))),
        }
    }

    /// Returns the view of the keyspace `name`, at the same moment; it is refreshed with this one.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there was none when the directory was looked at.
    pub fn keyspace(&self, name: &str) -> Result<ReadOnly<E>> {
        let seen = self.seen();
        let mut named = seen.trees.values().filter(|tree| tree.id != DEFAULT_KEYSPACE);
        match named.find(|tree| tree.name == name) {
            Some(tree) => Ok(ReadOnly { inner: Arc::clone(&self.inner), keyspace: tree.id }),
            None => {
                let dir = self.path().display();
                Err(Error::not_found(format_args!("there is no keyspace {name:?} in {dir}")))
            }
        }
    }

    /// Returns the names of all keyspaces but the default one, in the order of their creation.
    pub fn keyspaces(&self) -> Vec<String> {
        let seen = self.seen();
        let named = seen.trees.values().filter(|tree| tree.id != DEFAULT_KEYSPACE);
        named.map(|tree| tree.name.clone()).collect()
    }

    /// Returns the value of `key`.
    ///
    /// # Errors
    /// Damage or an I/O error of a table that may hold the key; [`InvalidArgument`](ErrorKind::InvalidArgument) if the keyspace
    /// was dropped before the last refresh.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (current, view) = self.current()?;
        let key = key.as_ref();
        match current.get(key, view.seq, &self.inner.counters)? {
            None => Ok(None),
            Some(found) => current.resolve(key, found, &view),
        }
    }

    /// Tells whether `key` has a value.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    fn walk(&self, bounds: Bounds) -> DbIterator {
        match self.current() {
            Ok((current, view)) => DbIterator::new(Box::new(SuperSource(current)), view, bounds),
            Err(error) => DbIterator::failed(error, bounds),
        }
    }

    /// Walks every key in order, from either end. An error comes as the last item.
    pub fn iter(&self) -> DbIterator {
        self.range::<[u8; 0]>(..)
    }

    /// Walks the keys in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> DbIterator {
        self.walk(Bounds::from_range(&range))
    }

    /// Walks the keys from `low` to below `high`.
    pub fn scan(&self, low: impl AsRef<[u8]>, high: impl AsRef<[u8]>) -> DbIterator {
        self.range(low.as_ref()..high.as_ref())
    }

    /// Walks the keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> DbIterator {
        self.walk(Bounds::from_prefix(prefix.as_ref()))
    }

    /// Returns the newest sequence number seen.
    pub fn visible_seq(&self) -> SeqNum {
        self.seen().at.seq
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.inner.dir
    }

    /// Returns the keyspace's tables, each with its level: level 0 newest first, the others in key order.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the keyspace was dropped before the last refresh.
    pub fn tables(&self) -> Result<Vec<(usize, TableInfo)>> {
        Ok(self.current()?.0.version.infos())
    }

    /// Reads every block of every table seen, of all keyspaces, and checks all that can be checked. The log was checked
    /// when it was read.
    pub fn verify(&self) -> IntegrityReport {
        let mut report = IntegrityReport::default();
        for current in self.seen().all() {
            for (_, table) in current.version.tables() {
                report.add(table.verify());
            }
        }
        report
    }

    /// Returns sizes of all keyspaces, and counters of what was read here; what the writer did is not known.
    pub fn statistics(&self) -> Statistics {
        let (seen, cache, counters) = (self.seen(), &self.inner.cache, &self.inner.counters);
        let trees: Vec<_> = seen.all().collect();
        let full = || trees.iter().flat_map(|current| &current.immutables);
        Statistics {
            levels: sum_levels(trees.iter().map(|current| current.version.level_statistics())),
            keyspaces: trees.len() as u64 - 1,
            visible_seq: seen.at.seq,
            memtable_bytes: trees.iter().map(|current| current.memtable.bytes() as u64).sum(),
            immutable_memtables: full().count() as u64,
            immutable_memtable_bytes: full().map(|full| full.memtable.bytes() as u64).sum(),
            cache_hits: cache.hits(),
            cache_misses: cache.misses(),
            cache_bytes: cache.bytes(),
            filter_hits: counters.filter_hits.get(),
            filter_misses: counters.filter_misses.get(),
            ..Statistics::default()
        }
    }

    /// Refuses, so that code which may write need not know what it was given.
    ///
    /// # Errors
    /// Always [`ReadOnly`](ErrorKind::ReadOnly).
    pub fn write(&self, _batch: WriteBatch) -> Result<CommitInfo> {
        Err(Error::read_only())
    }

    /// As [`write`](Self::write).
    ///
    /// # Errors
    /// Always [`ReadOnly`](ErrorKind::ReadOnly).
    pub fn put(&self, _key: impl AsRef<[u8]>, _value: impl AsRef<[u8]>) -> Result<()> {
        Err(Error::read_only())
    }

    /// As [`write`](Self::write).
    ///
    /// # Errors
    /// Always [`ReadOnly`](ErrorKind::ReadOnly).
    pub fn delete(&self, _key: impl AsRef<[u8]>) -> Result<()> {
        Err(Error::read_only())
    }
}

/// What a look needs.
struct Look<'a, E: Env> {
    env: &'a E,
    dir: &'a Path,
    options: &'a Options,
    cache: &'a BlockCache,
    /// Tables that are open already.
    known: Option<&'a Seen<E>>,
}

impl<E: Env> Look<'_, E> {
    /// Looks until nothing changed under the look.
    fn settled(&self) -> Result<Seen<E>> {
        let mut pause = PAUSE_MIN;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let before = self.in_force();
            let error = match self.once() {
                // The MANIFEST that was read may be older than the ingest that the log has passed.
                Ok((_, true)) if before != self.in_force() => Error::invalid_argument("tables were ingested"),
                Ok((seen, _)) => return Ok(seen),
                Err(error) => error,
            };
            // A log that is being opened for writing may be without a segment for a moment.
            if before == self.in_force() && *error.kind() != ErrorKind::NotFound {
                return Err(error);
            }
            self.env.reached("lsm.read_only_retry");
            last = Some(error);
            self.env.sleep(pause);
            pause = (2 * pause).min(PAUSE_MAX);
        }
        let (dir, last) = (self.dir.display(), last.map_or_else(String::new, |error| error.to_string()));
        let what = format!("{dir} changed under each of {ATTEMPTS} looks, try again; the last one met: {last}");
        Err(Error::wrap(ErrorKind::WouldBlock, io::Error::other(what)))
    }

    /// Returns the number and length of the MANIFEST in force.
    fn in_force(&self) -> (Option<u64>, Option<u64>) {
        let number = read_current(self.env, self.dir).ok();
        let entries = self.env.disk().list(self.dir).unwrap_or_default();
        let name = number.map(manifest_name);
        let manifest = entries.iter().find(|entry| name.as_ref().is_some_and(|name| entry.name == name.as_str()));
        (number, manifest.map(|entry| entry.bytes))
    }

    /// Looks once; also returns whether the log has passed an ingest.
    fn once(&self) -> Result<(Seen<E>, bool)> {
        let found = Found::list(self.env, self.dir)?;
        let mut durable = found.read_manifest(self.env, self.options)?;
        let known = |number| self.known.and_then(|known| known.table(number));
        let mut versions = BTreeMap::new();
        for (keyspace, tree) in &durable.trees {
            let version = found.open_tables(self.env, self.options, self.cache, &tree.tables, &known)?;
            versions.insert(*keyspace, version);
        }
        if self.env.planted("read_only_removes_orphans") {
            let live = durable.trees.values().flat_map(|tree| tree.tables.keys().copied()).collect();
            found.remove_orphans(self.env, &live, read_current(self.env, self.dir)?);
        }
        let mut replayed = Replayed::new(self.env, &durable);
        if !self.env.planted("read_only_without_log") {
            replay(self.env, self.dir, self.options, &durable, &mut replayed)?;
        }
        let trees = replayed.join(self.env, std::mem::take(&mut durable.trees), versions, self.options);
        let trees = trees.into_iter().map(|(keyspace, state)| (keyspace, state.tree)).collect();
        // It does not go back from one look to the next.
        let before = self.known.map_or(0, |known| known.at.moment);
        let moment = replayed.clock.now(self.env).max(before);
        Ok((Seen { trees, at: At { seq: replayed.last_seq, moment } }, replayed.ingested))
    }
}

/// Replays the log of `dir` without touching it.
pub(super) fn replay<E: Env>(
    env: &E,
    dir: &Path,
    options: &Options,
    durable: &Durable,
    replayed: &mut Replayed,
) -> Result<()> {
    let wal_dir = dir.join(WAL_DIR);
    let listed = env.disk().list(&wal_dir);
    // A checkpoint that was never opened for writing has no log.
    if durable.position.lsn == Lsn(0) && listed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    let chain = ViewChain::open(env.clone(), &wal_dir, None)?;
    let end = chain.replay(durable.position.lsn, &mut |frame| replayed.apply(env, frame, options, &wal_dir))?;
    if end < durable.position.lsn {
        let what = format_args!("the log ends at {end}, the manifest needs it from {}", durable.position.lsn);
        return Err(Error::corruption(&wal_dir, end.0, what));
    }
    replayed.check_complete(&wal_dir, end)
}
