//! [`Engine`]: the handle a user holds; it wires calls to the parts and does nothing itself.
//!
//! Used on any thread. A call after [`close`](Engine::close) fails with [`Closed`](crate::ErrorKind::Closed); iterators and
//! values that were handed out before stay good.

use super::batch::WriteBatch;
use super::commit::Commit;
use super::integrity::IntegrityReport;
use super::iterator::{Bounds, DbIterator, View};
use super::manifest::format::VersionEdit;
use super::options::{Durability, Options, WriteOptions};
use super::recovery;
use super::snapshot::Snapshot;
use super::state::{Core, State};
use super::stats::Statistics;
use super::tree::Tree;
use super::ttl::At;
use super::value::Value;
use super::version::SuperSource;
use crate::aof::Lsn;
use crate::base::Result;
use crate::base::key::{SeqNum, ValueKind};
use crate::env::{Disk, Env, EnvCondvar, EnvJoin, StdEnv};
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An engine over the operating system.
pub type DB = Engine<StdEnv>;

/// A durable ordered map of byte strings. Cheap to clone; clones are the same engine, which closes with the last of them.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// db.put("apple", "red")?;
/// db.put("pear", "green")?;
/// assert_eq!(db.get("apple")?.unwrap(), b"red");
/// let keys: Vec<Vec<u8>> = db.iter().map(|entry| Ok(entry?.key)).collect::<aidb::Result<_>>()?;
/// assert_eq!(keys, [b"apple".to_vec(), b"pear".to_vec()]);
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine<E: Env>(Arc<Handle<E>>);

impl<E: Env> Clone for Engine<E> {
    fn clone(&self) -> Engine<E> {
        Engine(Arc::clone(&self.0))
    }
}

impl<E: Env> std::fmt::Debug for Engine<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// What all clones share; the background threads hold the core without it.
struct Handle<E: Env>(Arc<Core<E>>);

impl<E: Env> Drop for Handle<E> {
    fn drop(&mut self) {
        // During a panic nothing is certain, not even that locks are free; the log is recovered at the next open.
        if std::thread::panicking() {
            return;
        }
        // Where the disk is gone there is nothing left to wait for: the threads are told and left alone.
        if self.0.env.disk().free_space(&self.0.dir).is_err() {
            self.0.abandon();
        } else {
            let _ = self.0.close();
        }
    }
}

/// Where a write stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitInfo {
    /// The sequence number of the last operation; a snapshot at or after it sees the write.
    pub seq: SeqNum,
    /// The end of the write in the log; it is durable once [`Engine::sync_to`] of this position returned.
    pub lsn: Lsn,
}

impl Engine<StdEnv> {
    /// Opens the engine in directory `path`, creating it unless [`Options::create_if_missing`] is off.
    ///
    /// # Errors
    /// [`Locked`](crate::ErrorKind::Locked) if it is open already, [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an
    /// option out of range or another merge operator than before, [`Corruption`](crate::ErrorKind::Corruption) naming the file if what was durable is not whole, or an I/O error.
    /// In each case nothing was lost by trying.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<DB> {
        Engine::open_in(StdEnv, path, options)
    }
}

impl<E: Env> Engine<E> {
    /// Opens the engine in directory `path` of `env`.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_in(env: E, path: impl AsRef<Path>, options: Options) -> Result<Engine<E>> {
        let core = Arc::new(recovery::open(env, path.as_ref(), options)?);
        // From here on, dropping the handle stops what was started.
        let engine = Engine(Arc::new(Handle(Arc::clone(&core))));
        core.start_threads()?;
        Ok(engine)
    }

    pub(super) fn core(&self) -> &Core<E> {
        &self.0.0
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`Engine::write_opt`].
    ///
    /// # Durability
    /// As [`Options::durability`] says.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let mut batch =
            WriteBatch::with_capacity(key.len().saturating_add(value.len()).saturating_add(16).min(1 << 20));
        batch.put(key, value);
        self.write(batch).map(|_| ())
    }

    /// Removes `key`, whether it exists or not.
    ///
    /// # Errors
    /// As [`Engine::write_opt`].
    ///
    /// # Durability
    /// As [`Options::durability`] says.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete(key);
        self.write(batch).map(|_| ())
    }

    /// Sets `key` to `value` until `ttl` after the commit; then it is as if it had been deleted.
    ///
    /// Counted in microseconds of the wall clock, but never backwards. Iterators and snapshots go on seeing what had not expired
    /// when they were made. The space is given back by compactions. What is [merged](Engine::merge) onto such a value outlives
    /// it. That a value expires is no conflict for a transaction.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// db.put_with_ttl("session", "ada", Duration::from_secs(3600))?;
    /// assert_eq!(db.get("session")?.unwrap(), b"ada");
    /// db.put_with_ttl("session", "ada", Duration::ZERO)?;
    /// assert_eq!(db.get("session")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::write_opt`]; the value may have 8 bytes less than others.
    ///
    /// # Durability
    /// As [`Options::durability`] says. That a value has expired is known again after an orderly close; after a crash it is if
    /// the wall clock has not been set back behind that moment, or a flush or compaction came after it.
    pub fn put_with_ttl(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_with_ttl(key, value, ttl);
        self.write(batch).map(|_| ())
    }

    /// Merges `operand` onto the value of `key`, as [`Options::merge_operator`] does it, without reading that first.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let merge_operator = Some(std::sync::Arc::new(aidb::lsm::merge::AddI64) as std::sync::Arc<dyn aidb::MergeOperator>);
    /// let db = aidb::DB::open(dir.path(), aidb::Options { merge_operator, ..aidb::Options::default() })?;
    /// db.merge("visits", 1i64.to_le_bytes())?;
    /// db.merge("visits", 2i64.to_le_bytes())?;
    /// assert_eq!(db.get("visits")?.unwrap(), 3i64.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::write_opt`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no operator, or another
    /// one than for earlier merges: nothing was written. Whether the operator can merge the operand shows when it is read.
    ///
    /// # Durability
    /// As [`Options::durability`] says.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.merge(key, operand);
        self.write(batch).map(|_| ())
    }

    /// Removes every key in `range`, as one operation: what it costs to write and to keep does not depend on how many there are.
    ///
    /// Snapshots taken before still see the keys, and what is written to the range afterwards is there. A range without keys,
    /// such as one that ends before it begins, is no operation. The keys' space is given back by compactions.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// # for key in ["log/1", "log/2", "log/3", "name"] { db.put(key, "")?; }
    /// db.delete_range(.."log/3")?;
    /// let left: Vec<Vec<u8>> = db.iter().map(|entry| Ok(entry?.key)).collect::<aidb::Result<_>>()?;
    /// assert_eq!(left, [b"log/3".to_vec(), b"name".to_vec()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::write_opt`]; both ends have the limit of a key.
    ///
    /// # Durability
    /// As [`Options::durability`] says.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete_range(range);
        self.write(batch).map(|_| ())
    }

    /// Returns the value of `key`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it was merged and the operator is missing or cannot do it.
    /// Damage or an I/O error of a table that may hold the key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let core = self.core();
        core.get_at(&core.tree, key.as_ref(), None)
    }

    /// Tells whether `key` has a value.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Commits `batch` with the durability of [`Options::durability`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// let mut batch = aidb::WriteBatch::new();
    /// batch.put("from", "90");
    /// batch.put("to", "10");
    /// db.write(batch)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::write_opt`].
    pub fn write(&self, batch: WriteBatch) -> Result<CommitInfo> {
        self.write_opt(batch, WriteOptions::default())
    }

    /// Commits `batch`: all of its operations become visible at once.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a key, a value or the batch is over its
    /// [limit](crate::base::limits): nothing was written. [`Poisoned`](crate::ErrorKind::Poisoned) after an earlier write or sync failed.
    /// If this write's own append or sync fails, that error, and whether the write is found at the next open is unknown.
    /// If flushing or compacting is what fails and writes have to wait for it, its error: nothing was written.
    ///
    /// # Durability
    /// What [`Durability`] says of `options.durability`, else of [`Options::durability`]. Later writes are never found
    /// without this one.
    pub fn write_opt(&self, batch: WriteBatch, options: WriteOptions) -> Result<CommitInfo> {
        let core = self.core();
        let durability = options.durability.unwrap_or(core.options.durability);
        core.commit(Commit { batch, durability, check: None })
    }

    /// Makes everything committed so far as durable as asked.
    ///
    /// # Errors
    /// The log could not be written or synced; the engine is poisoned.
    pub fn persist(&self, durability: Durability) -> Result<()> {
        self.core().persist(durability)
    }

    /// Returns once the log is durable up to `lsn`, a [`CommitInfo::lsn`]. One sync serves all who wait.
    ///
    /// # Errors
    /// As [`Engine::persist`].
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        let core = self.core();
        core.check_running()?;
        core.wal(core.log.sync_to(lsn))
    }

    /// Walks every key in order, from either end, as of now: later writes are not seen.
    ///
    /// Errors (damage or I/O of a table, a closed engine) come as the last item.
    pub fn iter(&self) -> DbIterator {
        self.range::<[u8; 0]>(..)
    }

    /// Walks the keys in `range`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// # for key in ["a", "b", "c", "d"] { db.put(key, "")?; }
    /// let last = db.range("b".."d").next_back().unwrap()?;
    /// assert_eq!(last.key, b"c");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> DbIterator {
        let core = self.core();
        core.iter_at(&core.tree, Bounds::from_range(&range), None)
    }

    /// Walks the keys from `low` to below `high`.
    pub fn scan(&self, low: impl AsRef<[u8]>, high: impl AsRef<[u8]>) -> DbIterator {
        self.range(low.as_ref()..high.as_ref())
    }

    /// Walks the keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> DbIterator {
        let core = self.core();
        core.iter_at(&core.tree, Bounds::from_prefix(prefix.as_ref()), None)
    }

    /// Takes a consistent view, which keeps the engine open.
    pub fn snapshot(&self) -> Snapshot<E> {
        Snapshot::new(self.clone())
    }

    /// Writes what is in memory to tables and waits for it.
    ///
    /// # Errors
    /// The flush failed; it is tried again in the background, and nothing is lost.
    pub fn flush(&self) -> Result<()> {
        self.core().flush_and_wait(None)
    }

    /// Flushes what the log alone holds, so that its segments are not needed any more, and returns how many bytes of them were
    /// given back or kept to be written over. The segment being written stays.
    ///
    /// # Errors
    /// As [`flush`](Engine::flush).
    pub fn cleanup_wal(&self) -> Result<u64> {
        let bytes = || self.core().log.segments().iter().map(|segment| segment.file_bytes).sum::<u64>();
        let before = bytes();
        self.flush()?;
        Ok(before.saturating_sub(bytes()))
    }

    /// Flushes, then compacts every table down to the last level in use, and waits for it.
    ///
    /// # Errors
    /// A flush or compaction failed; nothing is lost.
    pub fn force_compaction(&self) -> Result<()> {
        let core = self.core();
        core.flush_and_wait(None)?;
        let trees: Vec<_> = core.state.lock().trees.values().map(|of| Arc::clone(&of.tree)).collect();
        core.compact_all(&trees)
    }

    /// Flushes what is in memory if it has keys of `range`, compacts every table that has down to the last level in use, and waits for it.
    ///
    /// Gives space back after many deletes, and makes reads of the range look in one place. Writes and background compactions go on
    /// beside it; closing the engine ends it.
    ///
    /// # Errors
    /// As [`Engine::force_compaction`].
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let core = self.core();
        core.compact_range(&core.tree, &Bounds::from_range(&range))
    }

    /// Reads every table and compares directory, MANIFEST and the rules of the levels. What is wrong is in the report.
    ///
    /// # Errors
    /// The directory could not be listed, or the engine is closed.
    pub fn validate_integrity(&self) -> Result<IntegrityReport> {
        self.core().check_integrity()
    }

    /// Returns counters and sizes; see [`Statistics`].
    pub fn statistics(&self) -> Statistics {
        self.core().statistics()
    }

    /// Returns the newest sequence number that readers see.
    pub fn visible_seq(&self) -> SeqNum {
        self.core().visible()
    }

    /// Returns the latest moment by which it was judged what has expired, in microseconds since 1970-01-01 UTC; 0 if there never
    /// was a value with a time to live. It does not go back.
    pub fn clock(&self) -> u64 {
        self.core().clock.peak()
    }

    /// Makes everything durable, stops the background threads and gives the directory back, for every clone.
    ///
    /// Dropping the last clone does the same but cannot tell of a failure. Closing twice is fine.
    ///
    /// # Errors
    /// The log could not be synced.
    pub fn close(&self) -> Result<()> {
        self.core().close()
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.core().dir
    }
}

impl<E: Env> Core<E> {
    /// Returns the value of `key` as `at` sees it, or as of now.
    pub(super) fn get_at(&self, tree: &Tree<E>, key: &[u8], at: Option<At>) -> Result<Option<Value>> {
        self.check_open()?;
        tree.check_there()?;
        // The order matters: what is dropped between the two is seen by nobody at the later sequence number.
        let current = tree.current();
        let seq = at.map_or_else(|| self.visible(), |at| at.seq);
        match current.get(key, seq, &self.counters)? {
            None => Ok(None),
            Some((tag, value)) if tag.kind() == ValueKind::Put => Ok(Some(value)),
            Some((tag, value)) => {
                let moment = at.map_or_else(|| self.clock.now(&self.env), |at| at.moment);
                current.resolve(key, (tag, value), &View::at(At { seq, moment }, tree.merger()))
            }
        }
    }

    /// Returns an iterator over what `at` sees, or as of now.
    pub(super) fn iter_at(&self, tree: &Tree<E>, bounds: Bounds, at: Option<At>) -> DbIterator {
        if let Err(error) = self.check_open().and_then(|()| tree.check_there()) {
            return DbIterator::failed(error, bounds);
        }
        let current = tree.current();
        let at = at.unwrap_or_else(|| self.at());
        DbIterator::new(Box::new(SuperSource(current)), View::at(at, tree.merger()), bounds)
    }

    /// Flushes and compacts what lies within `bounds`.
    pub(super) fn compact_range(&self, tree: &Arc<Tree<E>>, bounds: &Bounds) -> Result<()> {
        self.check_running()?;
        tree.check_there()?;
        if tree.current().memtables_meet(bounds)? {
            self.flush_and_wait(Some(tree.id))?;
        }
        self.compact_bounds(tree, bounds)
    }

    /// Switches the memtable of `keyspace`, or of each one, and waits until they are tables.
    pub(super) fn flush_and_wait(&self, keyspace: Option<u32>) -> Result<()> {
        self.check_running()?;
        let meant = |of: &u32| keyspace.is_none_or(|keyspace| keyspace == *of);
        self.lead_alone(|leader| {
            let filled = leader.trees.iter().filter(|(of, writing)| meant(of) && !writing.memtable.entries.is_empty());
            let filled: Vec<u32> = filled.map(|(of, _)| *of).collect();
            filled.into_iter().try_for_each(|of| self.switch_memtable(leader, of))
        })?;
        self.wait_for_flushes(keyspace)
    }

    /// Waits until every full memtable that is there now is a table, of `keyspace` or of each one.
    pub(super) fn wait_for_flushes(&self, keyspace: Option<u32>) -> Result<()> {
        let meant = |of: &u32| keyspace.is_none_or(|keyspace| keyspace == *of);
        let mut state = self.state.lock();
        let full = |state: &State<E>| {
            let of = state.trees.iter().filter(|(of, _)| meant(of));
            of.flat_map(|(_, of)| of.immutables.iter().map(|full| full.end)).collect::<Vec<_>>()
        };
        let Some(target) = full(&state).into_iter().max() else { return Ok(()) };
        // A failure of an earlier attempt says nothing about the next one.
        state.flush_error = None;
        self.work.notify_all();
        while full(&state).into_iter().any(|end| end <= target) {
            if let Some(error) = state.poisoned.as_ref().or(state.flush_error.as_ref()) {
                return Err(error.clone());
            }
            self.check_open()?;
            self.progress.wait(&mut state);
        }
        Ok(())
    }

    /// Tells the threads to end, without waiting.
    fn abandon(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake_all();
    }

    fn close(&self) -> Result<()> {
        if self.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let threads = {
            // Under the lock, so that whoever looked before is asleep by now and is woken.
            let mut state = self.state.lock();
            self.wake_all();
            std::mem::take(&mut state.threads)
        };
        // The last leader is through, and those behind it see that the engine is closing.
        self.lead_alone(|_| ());
        for thread in threads {
            thread.join();
        }
        // A forced compaction runs on its caller's thread and must not touch the directory once it is given back.
        let mut state = self.state.lock();
        while state.manual || state.ingesting || state.compacting > 0 {
            self.progress.wait(&mut state);
        }
        drop(state);
        self.purge_obsolete();
        let kept = self.keep_clock();
        let closed = self.log.close();
        self.dir_lock.lock().take();
        closed.and(kept)
    }

    /// Keeps the latest moment of the clock in the MANIFEST, so that what has expired stays so.
    fn keep_clock(&self) -> Result<()> {
        let Some(moment) = self.clock.to_record(&self.env) else { return Ok(()) };
        if let Some(error) = self.state.lock().poisoned.clone() {
            return Err(error);
        }
        let edit = VersionEdit { clock: Some(moment), ..VersionEdit::default() };
        self.commit_edit(&mut self.manifest.lock(), &edit, |_| {})
    }
}
