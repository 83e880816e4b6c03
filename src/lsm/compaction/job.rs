//! Doing a compaction: merge the inputs, write what [`Rewrite`] makes of them, install the outputs in place of the inputs.
//!
//! Runs on a background thread, or on the caller's of a forced compaction, without any lock but for the installation.
//!
//! - Versions of one user key never straddle two output tables. A range tombstone that does is cut.
//! - Outputs are durable, their directory entries too, before the MANIFEST names them.
//! - A compaction that fails or is told to stop removes its outputs and changes nothing.

use super::picker::{Compaction, table_options};
use super::{Filtering, Read, Rewrite};
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Disk, Env};
use crate::lsm::files::table_path;
use crate::lsm::iter::{InternalIterator, MergingIterator};
use crate::lsm::options::Options;
use crate::lsm::ranges::{Edge, Fragments, RangeTombstones};
use crate::lsm::state::{Change, Core};
use crate::lsm::table::{Table, TableBuilder};
use crate::lsm::version::LevelIterator;
use std::sync::Arc;

/// Entries between two looks at whether the engine is closing.
const ENTRIES_BETWEEN_CHECKS: u64 = 256;

impl<E: Env> Core<E> {
    /// Runs `compaction`, whose inputs the caller marked busy.
    pub(in crate::lsm) fn compact(&self, compaction: &Compaction<E>) -> Result<()> {
        let Compaction { tree, level, output_level, upper, lower, .. } = compaction;
        let tables = upper.len() + lower.len();
        let _span =
            tracing::debug_span!("compaction", keyspace = tree.name, from = level, to = output_level, tables).entered();
        let removed: Vec<(usize, u64)> =
            compaction.inputs().map(|(level, table)| (level, table.info().file_no)).collect();
        if compaction.movable {
            let added = compaction.upper.iter().map(|table| (compaction.output_level, Arc::clone(table))).collect();
            let change = Change { tree: Arc::clone(&compaction.tree), removed, added, flushed: None };
            if self.install(change, |_| {})? {
                self.env.reached("lsm.compaction_move");
                self.counters.compaction_moves.add(1);
            }
            return Ok(());
        }
        let mut outputs = Outputs::new(self, compaction);
        let written = outputs.write().and_then(|()| self.sync_dir());
        let Outputs { done, numbers, .. } = outputs;
        if let Err(error) = written {
            drop(done);
            self.discard_numbers(&numbers);
            return Err(error);
        }
        let bytes: u64 = done.iter().map(|table| table.info().file_bytes).sum();
        let read: u64 = compaction.inputs().map(|(_, table)| table.info().file_bytes).sum();
        let added = done.into_iter().map(|table| (compaction.output_level, table)).collect();
        let obsolete: Vec<_> = compaction.inputs().map(|(_, table)| Arc::clone(table)).collect();
        // If this fails the MANIFEST may name the outputs all the same: neither they nor the inputs are removed.
        let change = Change { tree: Arc::clone(&compaction.tree), removed, added, flushed: None };
        if !self.install(change, |state| state.obsolete.extend(obsolete))? {
            return Ok(());
        }
        self.counters.compactions.add(1);
        self.counters.compaction_bytes_read.add(read);
        self.counters.compaction_bytes_written.add(bytes);
        self.env.reached("lsm.compaction");
        Ok(())
    }
}

/// The tables being written.
struct Outputs<'a, E: Env> {
    core: &'a Core<E>,
    compaction: &'a Compaction<E>,
    options: Arc<Options>,
    builder: Option<TableBuilder<E>>,
    /// The first key of the table being written.
    first_key: Vec<u8>,
    /// The last key written.
    last_key: Vec<u8>,
    /// Range tombstones that no table has yet.
    fragments: Fragments,
    done: Vec<Arc<Table<E>>>,
    numbers: Vec<u64>,
}

impl<'a, E: Env> Outputs<'a, E> {
    fn new(core: &'a Core<E>, compaction: &'a Compaction<E>) -> Outputs<'a, E> {
        let (first_key, last_key, done, numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let options = compaction.tree.options();
        let fragments = Fragments::default();
        Outputs { core, compaction, options, builder: None, first_key, last_key, fragments, done, numbers }
    }

    fn merged(&self) -> MergingIterator {
        let Compaction { level, upper, lower, .. } = self.compaction;
        let mut children: Vec<Box<dyn InternalIterator>> = Vec::new();
        if *level == 0 {
            children.extend(upper.iter().map(|table| Box::new(table.iter(false)) as Box<dyn InternalIterator>));
        } else {
            children.push(Box::new(LevelIterator::new(upper.clone(), false)));
        }
        children.push(Box::new(LevelIterator::new(lower.clone(), false)));
        MergingIterator::new(children)
    }

    fn write(&mut self) -> Result<()> {
        let written = self.write_all();
        if let (Err(_), Some(builder)) = (&written, self.builder.take()) {
            // The file is removed with its number.
            let _ = builder.abandon();
        }
        written
    }

    fn write_all(&mut self) -> Result<()> {
        let (core, compaction) = (self.core, self.compaction);
        let mut readers = core.snapshots.readers(|| core.at());
        if core.env.planted("compaction_ignores_snapshots") {
            readers.drain(..readers.len() - 1);
        }
        let early = core.env.planted("compaction_drops_tombstone_early");
        let ranges = self.ranges(&readers.iter().map(|at| at.seq).collect::<Vec<_>>());
        if core.env.planted("range_delete_ignores_snapshots") && ranges.is_some() {
            readers.drain(..readers.len() - 1);
        }
        let filter = self.options.compaction_filter.clone();
        let filtering = filter.map(|filter| Filtering { filter, level: compaction.output_level });
        let mut rewrite = Rewrite::new(&core.env, readers, ranges, compaction.tree.merger(), filtering);
        let mut iter = self.merged();
        let (mut seen, mut written) = (0u64, 0u64);
        iter.seek_to_first()?;
        while iter.valid() {
            seen += 1;
            if seen.is_multiple_of(ENTRIES_BETWEEN_CHECKS) {
                core.check_running()?;
                core.env.yield_point();
            }
            let key = iter.key();
            let bottom = || early || compaction.is_bottom_for(key);
            rewrite.add((key, iter.tag(), iter.value()), bottom, |entry| {
                written += 1;
                self.add(entry)
            })?;
            iter.next()?;
        }
        rewrite.finish(|entry| {
            written += 1;
            self.add(entry)
        })?;
        if self.builder.is_none() && !self.fragments.is_empty() {
            self.builder(&[])?;
        }
        self.finish_table(None)?;
        core.counters.compaction_entries_dropped.add(seen - written);
        Ok(())
    }

    /// Writes an entry, into a new table if its key is new and the one being written is large enough.
    fn add(&mut self, (key, tag, value): Read<'_>) -> Result<()> {
        if key != self.last_key.as_slice() {
            self.cut_before(key)?;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.builder(key)?.add(key, tag, value)
    }

    /// Gathers the range tombstones of the inputs, and which of them are to be written.
    fn ranges(&mut self, readers: &[SeqNum]) -> Option<RangeTombstones> {
        let compaction = self.compaction;
        let sets = compaction.inputs().filter_map(|(_, table)| table.ranges());
        let set = RangeTombstones::joined(sets.map(|set| &**set))?;
        let early = self.core.env.planted("range_tombstone_dropped_early");
        let is_bottom = |low: &[u8], end: &[u8]| early || compaction.is_bottom_between(low, Edge::of_end(end));
        self.fragments = Fragments::kept(&set, readers, is_bottom);
        if self.fragments.is_empty() {
            self.core.env.reached("lsm.range_tombstone_gone");
        }
        Some(set)
    }

    fn builder(&mut self, key: &[u8]) -> Result<&mut TableBuilder<E>> {
        if self.builder.is_none() {
            let core = self.core;
            let number = core.allocate_number();
            self.numbers.push(number);
            let options = table_options(&self.options);
            let path = table_path(&core.dir, number);
            let mut builder = TableBuilder::create(&core.env, &path, number, options)?;
            builder.set_keyspace(self.compaction.tree.id, &self.compaction.tree.name);
            self.builder = Some(builder);
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        Ok(self.builder.as_mut().expect("created above"))
    }

    /// Ends the table being written if it is large enough, or would overlap too much behind it, with a new `key`.
    fn cut_before(&mut self, key: &[u8]) -> Result<()> {
        let Some(builder) = &self.builder else { return Ok(()) };
        let options = &self.options;
        let full = builder.estimated_bytes() >= options.table_bytes;
        if full || self.overlaps_too_much(builder, key) {
            self.finish_table(Some(key))?;
        }
        Ok(())
    }

    fn overlaps_too_much(&self, builder: &TableBuilder<E>, key: &[u8]) -> bool {
        // Looked at now and then: a search of the level behind for every entry would cost more than it saves.
        if !builder.entries().is_multiple_of(64) {
            return false;
        }
        let max = Compaction::<E>::grandparent_bytes_max(&self.options);
        self.compaction.grandparent_bytes(&self.first_key, Edge::Through(key)) > max
    }

    /// Ends the table being written, with the range tombstones before `next`, the first key of the one behind it.
    fn finish_table(&mut self, next: Option<&[u8]>) -> Result<()> {
        let Some(mut builder) = self.builder.take() else { return Ok(()) };
        let core = self.core;
        let (before, is_cut) = self.fragments.take_before(next, core.env.planted("range_tombstone_cut_short"));
        builder.add_ranges(before);
        if is_cut {
            core.env.reached("lsm.range_tombstone_cut");
        }
        let written = builder.finish()?;
        let path = table_path(&core.dir, written.file_no);
        let table = Table::open(&core.env, &path, written.file_no, core.cache.clone())?;
        assert_eq!(*table.info(), written, "a table reads as it was written");
        self.done.push(Arc::new(table));
        Ok(())
    }
}

impl<E: Env> Core<E> {
    /// Makes the names in the engine's directory durable.
    ///
    /// A failure poisons: the names it lost may be of tables that another thread is about to install.
    pub(in crate::lsm) fn sync_dir(&self) -> Result<()> {
        if self.env.planted("table_dir_not_synced") {
            return Ok(());
        }
        self.env.disk().sync_dir(&self.dir).map_err(|error| {
            let error = Error::io("sync directory", &self.dir, error);
            self.poison(&error);
            error
        })
    }
}
