//! [`Check`]: whether anything that a transaction has read was written since.
//!
//! Made on the committing thread, which looks at everything that may have changed, however long that takes; run once more by
//! the commit leader under its lock, before the record is appended, for what was committed between the two. For that it
//! compares what was read with the newest commits ([`Recent`]), and looks at the data only if they do not go back far enough,
//! so that others do not wait for I/O or for a walk through a memtable.
//!
//! **Invariant:** while a snapshot at sequence number `s` is registered, the newest entry of every key that was written
//! after `s` can be found with its number, a tombstone too: of the versions between two readers flush and compaction keep
//! the newest, and they drop a tombstone only if every reader sees it (`Retention`). So a key has changed since `s` if and
//! only if its newest entry is newer than `s`, and it does not matter where that entry lies by now. The transaction's
//! snapshot stays registered until its check is through.
//!
//! - A range tombstone counts as an entry of every key it covers.
//! - Versions of a key are newer the nearer to the memtable they lie: the first source that holds the key decides.
//! - A memtable that was full, and a table whose newest entry was there, at `s` cannot hold what is newer.
//! - Within a group, what the batches before it write is compared with what a transaction read as well; one that fails is left
//!   out of the group as if it had not been there.

use super::holdings::Holdings;
use super::reads::ReadSet;
use super::recent::{Recent, Touched};
use super::shown;
use crate::base::key::{SeqNum, Tag};
use crate::base::{Error, Result};
use crate::env::Env;
use crate::lsm::batch::WriteBatch;
use crate::lsm::iter::{InternalIterator, MergingIterator};
use crate::lsm::memtable::AnyMemtable;
use crate::lsm::ranges::Edge;
use crate::lsm::state::Core;
use crate::lsm::table::{Table, TableInfo};
use crate::lsm::tree::Tree;
use crate::lsm::version::{LevelIterator, SuperVersion};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a commit depends on.
pub(in crate::lsm) struct Check<E: Env> {
    reads: ReadSet<E>,
    /// Nothing that was read had changed at this moment.
    since: SeqNum,
}

impl<E: Env> Check<E> {
    /// Makes the check of `reads`, taken at `since`, and of what was read under locks, having run it for what is visible now.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict), or why a table could not be read.
    pub(super) fn new(
        core: &Core<E>,
        reads: ReadSet<E>,
        since: SeqNum,
        holdings: Option<&Holdings<E>>,
    ) -> Result<Check<E>> {
        let mut check = Check { reads, since };
        // Before the super-versions are looked at: they hold everything up to it.
        let now = core.visible();
        check.check_there()?;
        check.run(core)?;
        for (tree, key, since) in holdings.into_iter().flat_map(Holdings::reads) {
            if !core.env.planted("txn_validation_skipped") {
                tree.check_there()?;
                Look { core, tree, current: tree.current(), since }.check_key(key)?;
            }
            check.reads.note(tree, key);
        }
        check.since = now;
        Ok(check)
    }

    /// Returns up to when nothing that was read had changed.
    pub(super) fn since(&self) -> SeqNum {
        self.since
    }

    /// Fails if something that was read has changed since it was last looked at. Called by the leader, so that it is final.
    pub(in crate::lsm) fn run_last(&self, core: &Core<E>, recent: &Recent) -> Result<()> {
        self.check_there()?;
        if core.env.planted("txn_validation_skipped") || core.env.planted("txn_second_check_skipped") {
            return Ok(());
        }
        match recent.since(self.since) {
            Some(written) => self.compare(core, "txn.conflict_recent", written),
            None => self.run(core),
        }
    }

    /// Fails if a keyspace was dropped, for which there need be no commit.
    fn check_there(&self) -> Result<()> {
        self.reads.trees.values().try_for_each(|(tree, _)| tree.check_there())
    }

    fn run(&self, core: &Core<E>) -> Result<()> {
        if core.visible() == self.since || core.env.planted("txn_validation_skipped") {
            return Ok(());
        }
        for (tree, ranges) in self.reads.trees.values() {
            let look = Look { core, tree, current: tree.current(), since: self.since };
            for (low, edge) in ranges.iter() {
                if edge == Edge::Through(low) {
                    look.check_key(low)?;
                } else {
                    look.check_range(low, edge)?;
                }
            }
        }
        Ok(())
    }

    /// Fails if one of `batches`, which are to be committed before, writes what was read.
    pub(in crate::lsm) fn against<'a>(
        &self,
        core: &Core<E>,
        batches: impl Iterator<Item = &'a WriteBatch>,
    ) -> Result<()> {
        if core.env.planted("txn_group_unchecked") {
            return Ok(());
        }
        let operations = batches.flat_map(WriteBatch::iter);
        self.compare(core, "txn.conflict_group", operations.map(|operation| Touched::by(&operation)))
    }

    fn compare<'a>(
        &self,
        core: &Core<E>,
        mark: &'static str,
        mut written: impl Iterator<Item = Touched<'a>>,
    ) -> Result<()> {
        match written.find_map(|written| self.reads.find(written)) {
            Some((key, tree)) => {
                core.env.reached(mark);
                Err(conflict(key, tree))
            }
            None => Ok(()),
        }
    }
}

/// Looks for what was written to one keyspace after `since`.
struct Look<'a, E: Env> {
    core: &'a Core<E>,
    tree: &'a Tree<E>,
    current: Arc<SuperVersion<E>>,
    since: SeqNum,
}

impl<E: Env> Look<'_, E> {
    fn check_key(&self, key: &[u8]) -> Result<()> {
        if self.newest(key)? > self.since {
            self.core.env.reached("txn.conflict_key");
            return Err(conflict(key, self.tree));
        }
        Ok(())
    }

    fn check_range(&self, low: &[u8], edge: Edge<'_>) -> Result<()> {
        if self.core.env.planted("txn_ranges_unchecked") {
            return Ok(());
        }
        let looked_at = !self.core.env.planted("txn_range_deletes_unchecked");
        let in_memory = self.memtables().flat_map(AnyMemtable::ranges);
        let in_tables = self.tables().filter_map(|(_, table)| table.ranges()).cloned();
        if looked_at && in_memory.chain(in_tables).any(|ranges| ranges.newest_between(low, edge) > self.since) {
            self.core.env.reached("txn.conflict_range");
            return Err(conflict(low, self.tree));
        }
        let mut iter = self.newer_entries(low, edge);
        iter.seek(low, Tag::seek(SeqNum::MAX))?;
        while iter.valid() && edge.holds(iter.key()) {
            if iter.tag().seq() > self.since {
                self.core.env.reached("txn.conflict_range");
                return Err(conflict(iter.key(), self.tree));
            }
            iter.next()?;
        }
        Ok(())
    }

    /// Returns the number of the newest entry of `key`, or of a range tombstone over it, in what may hold newer ones than `since`;
    /// 0 if there is none.
    fn newest(&self, key: &[u8]) -> Result<SeqNum> {
        let covered_at = match self.core.env.planted("txn_range_deletes_unchecked") {
            true => SeqNum(0),
            false => SeqNum::MAX,
        };
        for memtable in self.memtables() {
            let entry = memtable.get(key, SeqNum::MAX).map_or(SeqNum(0), |(tag, _)| tag.seq());
            let newest = entry.max(memtable.cover(key, covered_at));
            if newest > SeqNum(0) {
                return Ok(newest);
            }
        }
        for (_, table) in self.tables().filter(|(_, table)| table.info().covers(key)) {
            let entry = table.get(key, SeqNum::MAX)?.map_or(SeqNum(0), |(tag, _)| tag.seq());
            let newest = entry.max(table.cover(key, covered_at));
            if newest > SeqNum(0) {
                return Ok(newest);
            }
        }
        Ok(SeqNum(0))
    }

    /// Returns a cursor over what may hold entries from `low` to `edge` that are newer than `since`.
    fn newer_entries(&self, low: &[u8], edge: Edge<'_>) -> MergingIterator {
        let mut children: Vec<Box<dyn InternalIterator>> = self.memtables().map(AnyMemtable::iter).collect();
        let mut lower: BTreeMap<usize, Vec<Arc<Table<E>>>> = BTreeMap::new();
        let overlaps = |info: &TableInfo| edge.holds(info.low()) && info.reaches(low);
        for (level, table) in self.tables().filter(|(_, table)| overlaps(table.info())) {
            match level {
                0 => children.push(Box::new(table.iter(true))),
                _ => lower.entry(level).or_default().push(Arc::clone(table)),
            }
        }
        for tables in lower.into_values() {
            children.push(Box::new(LevelIterator::new(tables, true)));
        }
        MergingIterator::new(children)
    }

    /// Returns the memtables that may hold newer entries than `since`, the newest first.
    fn memtables(&self) -> impl Iterator<Item = &AnyMemtable> {
        let full = self.current.immutables.iter().filter(|full| full.end.seq > self.since);
        std::iter::once(&self.current.memtable).chain(full.map(|full| &full.memtable))
    }

    /// Returns the tables that hold newer entries than `since`, with their level; the newest first for any one key.
    fn tables(&self) -> impl Iterator<Item = (usize, &Arc<Table<E>>)> {
        let looked_at = !self.core.env.planted("txn_tables_unchecked");
        self.current.version.tables().filter(move |(_, table)| looked_at && table.info().seq_max > self.since)
    }
}

fn conflict<E: Env>(key: &[u8], tree: &Tree<E>) -> Error {
    Error::conflict(format_args!("{}, which this transaction has read, was written by another since", shown(key, tree)))
}
