//! Flush: a full memtable becomes a table of level 0.
//!
//! One thread, oldest memtable first, so that what tables hold is always a prefix in commit order.
//!
//! 1. The log is synced up to the memtable's end: the MANIFEST must not point behind what the log is sure to hold.
//! 2. The table is written and synced, then its directory entry.
//! 3. The MANIFEST takes table, sequence number and log position in one edit; readers change over.
//! 4. The log before that position is given back.
//!
//! A failure up to 2 leaves everything as it was, and is tried again: at once when asked, else with growing pauses.

use super::compaction::{Rewrite, picker::table_options};
use super::files::table_path;
use super::iter::InternalIterator;
use super::ranges::{Fragments, RangeTombstones};
use super::state::{Change, Core};
use super::table::{Table, TableBuilder, TableInfo};
use super::tree::{Immutable, Tree};
use crate::base::Result;
use crate::env::Env;
use std::path::Path;
use std::sync::Arc;

/// Entries between two looks at whether the engine is closing.
const ENTRIES_BETWEEN_CHECKS: u64 = 256;

impl<E: Env> Core<E> {
    /// Flushes the oldest full memtable of `tree`, which `full` is.
    pub(super) fn flush_memtable(&self, tree: &Arc<Tree<E>>, full: &Arc<Immutable>) -> Result<()> {
        assert!(!full.memtable.is_empty(), "an empty memtable was queued for its flush");
        let entries = full.memtable.len();
        let _span =
            tracing::debug_span!("flush", keyspace = tree.name, entries, table = tracing::field::Empty).entered();
        if self.env.planted("wal_deleted_before_flush_installed") {
            self.wal(self.log.sync_to(full.end.lsn))?;
            self.wal(self.log.truncate_before(full.end.lsn))?;
        }
        self.wal(self.log.sync_to(full.end.lsn))?;
        if self.env.planted("immutable_dropped_before_install") {
            let mut state = self.state.lock();
            if let Some(changed) = state.trees.get_mut(&tree.id) {
                changed.immutables.retain(|queued| !Arc::ptr_eq(queued, full));
            }
            self.publish(&state, tree.id);
        }
        let number = self.allocate_number();
        tracing::Span::current().record("table", number);
        let written = self.write_table(tree, full, number).and_then(|table| self.sync_dir().map(|()| table));
        let table = match written {
            Ok(table) => table,
            Err(error) => {
                self.discard_numbers(&[number]);
                return Err(error);
            }
        };
        let bytes = table.info().file_bytes;
        let added = vec![(0, Arc::new(table))];
        let change = Change { tree: Arc::clone(tree), removed: Vec::new(), added, flushed: Some(Arc::clone(full)) };
        let installed = self.install(change, |_| {
            // Before anyone who waits for this flush can look at them.
            self.counters.flushes.add(1);
            self.counters.flush_bytes.add(bytes);
        })?;
        if !installed {
            return Ok(());
        }
        self.env.reached("lsm.flush");
        let needed = self.manifest.lock().position().1;
        self.wal(self.log.truncate_before(needed))
    }

    fn write_table(&self, tree: &Tree<E>, full: &Immutable, number: u64) -> Result<Table<E>> {
        let path = table_path(&self.dir, number);
        let written = self.fill_table(tree, full, &path, number)?;
        let table = Table::open(&self.env, &path, number, self.cache.clone())?;
        assert_eq!(*table.info(), written, "a table reads as it was written");
        assert!(written.seq_max <= full.end.seq, "a memtable holds entries past its end");
        Ok(table)
    }

    fn fill_table(&self, tree: &Tree<E>, full: &Immutable, path: &Path, number: u64) -> Result<TableInfo> {
        let options = table_options(&tree.options());
        let readers = self.snapshots.readers(|| self.at());
        let seqs: Vec<_> = readers.iter().map(|at| at.seq).collect();
        let ranges = RangeTombstones::joined(full.memtable.ranges().iter().map(|set| &**set));
        let mut kept = ranges.as_ref().map_or_else(Fragments::default, |set| Fragments::kept(set, &seqs, |_, _| false));
        let mut rewrite = Rewrite::new(&self.env, readers, ranges, tree.merger(), None);
        let mut builder = TableBuilder::create(&self.env, path, number, options)?;
        builder.set_keyspace(tree.id, &tree.name);
        let mut iter = full.memtable.iter();
        let mut seen = 0u64;
        iter.seek_to_first()?;
        while iter.valid() {
            seen += 1;
            if seen.is_multiple_of(ENTRIES_BETWEEN_CHECKS) {
                self.check_running()?;
                self.env.yield_point();
            }
            let entry = (iter.key(), iter.tag(), iter.value());
            rewrite.add(entry, || false, |(key, tag, value)| builder.add(key, tag, value))?;
            iter.next()?;
        }
        rewrite.finish(|(key, tag, value)| builder.add(key, tag, value))?;
        assert_eq!(seen, full.memtable.len() as u64, "the flush saw every entry");
        builder.add_ranges(kept.take_before(None, false).0);
        if builder.entries() == 0 {
            self.env.reached("lsm.range_tombstone_alone");
        }
        builder.finish()
    }
}
