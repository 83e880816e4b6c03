//! Sorted ingest: entries that come in key order go straight into tables, past log and memtable, and are all there at once.
//!
//! On the caller's thread:
//!
//! 1. Tables are written and synced, with the sequence number 0 in every entry: which one they get is not known yet. Writers and
//!    readers go on.
//! 2. What memtables hold of the keys is flushed, since reads look there first. Compactions are held off and waited for, so that
//!    levels change no more but for flushes.
//! 3. As a commit leader: what was written to the keys meanwhile is flushed too, the log takes a record that uses up one
//!    sequence number for each table, and is synced. Then the MANIFEST names the tables, with these numbers, in one edit.
//!
//! - **Atomic:** before that edit is durable there is nothing but orphans and a record without effect; behind it there is everything.
//! - Each table goes to the lowest level down to which no other table overlaps it: what is below it is older, and nothing of
//!   its keys is above. In level 0 it must not lie between the sequence numbers of another table: memtables are flushed for it.
//! - No other commit has its sequence numbers: the log tells of them even if the tables are never installed.

use crate::aof::{Append, FrameKind, Lsn};
use crate::base::key::{SeqNum, Tag, ValueKind};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::{Error, Result};
use crate::env::{Env, EnvCondvar};
use crate::lsm::batch::format::{NOWHERE, Operation, put_operation, record_header};
use crate::lsm::commit::Leader;
use crate::lsm::compaction::picker::table_options;
use crate::lsm::db::{CommitInfo, Engine};
use crate::lsm::files::table_path;
use crate::lsm::iterator::Bounds;
use crate::lsm::keyspace::Keyspace;
use crate::lsm::state::{Change, Core};
use crate::lsm::table::{Table, TableBuilder, TableInfo};
use crate::lsm::tree::Tree;
use crate::lsm::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long to wait for room in level 0 before looking again.
const PAUSE: Duration = Duration::from_millis(10);

impl<E: Env> Engine<E> {
    /// Sets keys to values that come in strictly ascending key order, all at once: the quick way to load much.
    ///
    /// They go straight into tables, past the log. Nothing of them is seen before all of them are, and then they are newer than
    /// everything written before this call and everything that was written meanwhile. Writers wait only for the last step, which is short
    /// unless they write to the same keys.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
    /// db.ingest((0..1000u32).map(|number| (number.to_be_bytes(), "value")))?;
    /// assert_eq!(db.get(7u32.to_be_bytes())?.unwrap(), b"value");
    /// assert!(db.ingest([("b", ""), ("a", "")]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a key is not after the one before it, or a key or value is over its
    /// [limit](crate::base::limits): nothing has changed. As [`Engine::write_opt`] else.
    ///
    /// # Durability
    /// As [`Durability::Sync`](crate::Durability::Sync): it survives a power loss once this returned, and is there wholly or not at all
    /// after one before.
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<CommitInfo> {
        let core = self.core();
        core.ingest(&core.tree, entries)
    }
}

impl<E: Env> Keyspace<E> {
    /// As [`Engine::ingest`], into this keyspace.
    ///
    /// # Errors
    /// As [`Engine::ingest`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the keyspace was dropped.
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<CommitInfo> {
        self.core().ingest(self.tree(), entries)
    }
}

impl<E: Env> Core<E> {
    fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        tree: &Arc<Tree<E>>,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<CommitInfo> {
        self.check_running()?;
        tree.check_there()?;
        let mut staged =
            Staged { core: self, tree, builder: None, last_key: None, tables: Vec::new(), numbers: Vec::new() };
        let written = staged.write(entries).and_then(|()| self.sync_dir());
        let Staged { builder, tables, numbers, .. } = staged;
        // An unfinished file is removed with its number.
        drop(builder);
        let (Some(first), Some(last)) = (tables.first(), tables.last()) else {
            self.discard_numbers(&numbers);
            return written.map(|()| CommitInfo { seq: self.visible(), lsn: self.log.end() });
        };
        let bounds = Bounds::from_range(&(&first.info().smallest.0[..]..=&last.info().largest.0[..]));
        let mut step = written.map(|()| Step::Again(tables));
        loop {
            step = match step {
                Ok(Step::Again(tables)) => self.try_install(tree, &bounds, tables),
                Ok(Step::Done(info)) => return Ok(info),
                Err(error) => {
                    // After a failed write of the MANIFEST it may name them all the same.
                    if self.check_running().is_ok() {
                        self.discard_numbers(&numbers);
                    }
                    return Err(error);
                }
            };
        }
    }

    fn try_install(&self, tree: &Arc<Tree<E>>, bounds: &Bounds, tables: Vec<Table<E>>) -> Result<Step<E>> {
        if !self.env.planted("ingest_over_memtable") && tree.current().memtables_meet(bounds)? {
            self.flush_and_wait(Some(tree.id))?;
        }
        self.hold_off_for_ingest()?;
        let step = self.lead_alone(|leader| self.install_led(leader, tree, bounds, tables));
        let mut state = self.state.lock();
        state.ingesting = false;
        self.work.notify_all();
        self.progress.notify_all();
        if matches!(step, Ok(Step::Again(_))) {
            // Level 0 is full of other writers' flushes: compactions go first.
            self.progress.wait_for(&mut state, PAUSE);
            if let Some(error) = state.flush_error.as_ref().or(state.compaction_error.as_ref()) {
                return Err(error.clone());
            }
        }
        step
    }

    /// Waits until no compaction runs; none starts from then on unless a writer waits for it.
    fn hold_off_for_ingest(&self) -> Result<()> {
        let mut state = self.state.lock();
        while state.manual || state.ingesting {
            self.check_open()?;
            self.progress.wait(&mut state);
        }
        self.check_open()?;
        state.ingesting = true;
        while state.compacting > 0 {
            self.progress.wait(&mut state);
        }
        Ok(())
    }

    /// Makes the tables visible. Called by a leader while no compaction starts.
    fn install_led(
        &self,
        leader: &mut Leader<E>,
        tree: &Arc<Tree<E>>,
        bounds: &Bounds,
        tables: Vec<Table<E>>,
    ) -> Result<Step<E>> {
        self.check_running()?;
        tree.check_there()?;
        let mut current = tree.current();
        let in_top = tables.iter().any(|table| lowest_level(&current.version, table.info()) == 0);
        let in_memory = current.has_memtables() && (in_top || current.memtables_meet(bounds)?);
        if in_memory && !self.env.planted("ingest_over_memtable") {
            if !self.has_room(&self.state.lock(), tree.id) {
                return Ok(Step::Again(tables));
            }
            let writing = leader.trees.get(&tree.id);
            if writing.is_some_and(|writing| !writing.memtable.entries.is_empty()) {
                self.switch_memtable(leader, tree.id)?;
            }
            self.wait_for_flushes(Some(tree.id))?;
            current = tree.current();
        }
        if self.state.lock().compacting > 0 {
            // A stopped writer needed one: its outputs may go where these tables would.
            return Ok(Step::Again(tables));
        }
        let (before, count) = (leader.last_seq, tables.len() as u64);
        if before.0 + count >= SeqNum::MAX.0 {
            return Err(Error::invalid_argument("sequence numbers are used up"));
        }
        let end = self.append_nothing(SeqNum(before.0 + 1), count)?;
        let seq = SeqNum(before.0 + count);
        let show = || self.visible.store(seq.0, Ordering::Release);
        if !self.env.planted("ingest_sequence_reused") {
            leader.last_seq = seq;
            leader.recent.forget(seq);
        }
        if self.env.planted("ingest_judged_twice") {
            current = tree.current();
        }
        // As of when the memtables were looked at: what is flushed meanwhile is older than these tables and shares no key.
        let place = |(number, table): (u64, Table<E>)| {
            let level = lowest_level(&current.version, table.info());
            (level, Arc::new(table.with_seq(SeqNum(before.0 + number))))
        };
        let added = (1..).zip(tables).map(place).collect();
        let change = Change { tree: Arc::clone(tree), removed: Vec::new(), added, flushed: None };
        if self.env.planted("ingest_seen_early") {
            show();
        }
        // With the tables in place, and before the MANIFEST is free for one who looks at both.
        let installed = self.install(change, |_| show());
        show();
        match installed? {
            true => Ok(Step::Done(CommitInfo { seq, lsn: end })),
            false => Err(Error::invalid_argument("the keyspace was dropped")),
        }
    }

    /// Appends, durably, a record of `count` operations that do nothing, and returns its end.
    fn append_nothing(&self, first: SeqNum, count: u64) -> Result<Lsn> {
        let count = u32::try_from(count).map_err(|_| Error::invalid_argument("an ingest of 4 billion tables"))?;
        let mut operations = Vec::new();
        for _ in 0..count {
            put_operation(
                &mut operations,
                Operation { keyspace: NOWHERE, kind: ValueKind::Delete, key: &[], value: &[] },
            );
        }
        let header = record_header(first, count);
        let parts: &[&[u8]] = &[&header, &operations];
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let append = Append { kind: FrameKind::Data, count, first_id: Some(first.0), tag: 0, parts };
        let appended = self.wal_append(self.log.append(&append))?;
        if !self.env.planted("ingest_log_not_synced") {
            self.wal(self.log.sync_to(appended.end))?;
        }
        Ok(appended.end)
    }
}

/// How far an installation came.
enum Step<E: Env> {
    /// There was no room for a flush: it is to be tried again.
    Again(Vec<Table<E>>),
    Done(CommitInfo),
}

/// Returns the lowest level such that neither it nor a higher one has a table which overlaps that of `info`, with entries or range
/// tombstones; 0 if there is none.
fn lowest_level<E: Env>(version: &Version<E>, info: &TableInfo) -> usize {
    let (top, below) = version.levels().split_first().expect("there are levels");
    let meets = |table: &TableInfo| info.high().holds(table.low()) && table.reaches(info.low());
    if top.iter().any(|table| meets(table.info())) {
        return 0;
    }
    let is_free = |level: &usize| version.overlapping(*level, info.low(), info.high()).is_empty();
    (1..=below.len()).take_while(is_free).last().unwrap_or(0)
}

/// The tables being written.
struct Staged<'a, E: Env> {
    core: &'a Core<E>,
    tree: &'a Tree<E>,
    builder: Option<TableBuilder<E>>,
    last_key: Option<Vec<u8>>,
    tables: Vec<Table<E>>,
    numbers: Vec<u64>,
}

impl<E: Env> Staged<'_, E> {
    fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let options = self.tree.options();
        for (at, (key, value)) in entries.into_iter().enumerate() {
            let (key, value) = (key.as_ref(), value.as_ref());
            self.check(key, value)?;
            if at.is_multiple_of(256) {
                self.core.check_running()?;
                self.core.env.yield_point();
            }
            if self.builder.as_ref().is_some_and(|builder| builder.estimated_bytes() >= options.table_bytes) {
                self.finish_table()?;
            }
            self.builder()?.add(key, Tag::new(SeqNum(0), ValueKind::Put), value)?;
            let last = self.last_key.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        self.finish_table()
    }

    fn check(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            let (key, value) = (key.len(), value.len());
            return Err(Error::invalid_argument(format_args!(
                "a key of {key} bytes (at most {KEY_BYTES_MAX}) with a value of {value} bytes (at most {VALUE_BYTES_MAX})"
            )));
        }
        match &self.last_key {
            Some(last) if last.as_slice() >= key => Err(Error::invalid_argument(format_args!(
                "ingested keys must ascend: {:?} follows {:?}",
                key.escape_ascii().to_string(),
                last.escape_ascii().to_string()
            ))),
            _ => Ok(()),
        }
    }

    fn builder(&mut self) -> Result<&mut TableBuilder<E>> {
        if self.builder.is_none() {
            let (core, tree) = (self.core, self.tree);
            let number = core.allocate_number();
            self.numbers.push(number);
            let options = table_options(&tree.options());
            let mut builder = TableBuilder::create(&core.env, &table_path(&core.dir, number), number, options)?;
            builder.set_keyspace(tree.id, &tree.name);
            builder.set_ingested_after(core.visible());
            self.builder = Some(builder);
        }
        Ok(self.builder.as_mut().expect("made above"))
    }

    fn finish_table(&mut self) -> Result<()> {
        let Some(builder) = self.builder.take() else { return Ok(()) };
        let written = builder.finish()?;
        let path = table_path(&self.core.dir, written.file_no);
        let table = Table::open(&self.core.env, &path, written.file_no, self.core.cache.clone())?;
        assert_eq!(*table.info(), written, "a table reads as it was written");
        self.tables.push(table);
        Ok(())
    }
}
