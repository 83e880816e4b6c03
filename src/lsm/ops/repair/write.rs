//! Writing what a repair saves, and setting aside what that replaces.
//!
//! 1. `REPAIRING`, durably.
//! 2. New tables under numbers that no file has or had, durably.
//! 3. A new MANIFEST, durably, and CURRENT names it: from here on the directory is the repaired one.
//! 4. What it does not name goes to `lost/`, a log that is replaced too. Then `REPAIRING` goes.

use super::look::{Look, Saved, SavedTree};
use super::report::RepairReport;
use crate::aof::Lsn;
use crate::aof::salvage::salvage;
use crate::base::key::{SeqNum, Tag};
use crate::base::{Error, Result};
use crate::env::{Disk, Env, write_file_atomic};
use crate::lsm::batch::format::{NOWHERE, decode_record};
use crate::lsm::cache::BlockCache;
use crate::lsm::compaction::picker::table_options;
use crate::lsm::files::{CURRENT, FileKind, LOST_DIR, REPAIRING, WAL_DIR, manifest_name, table_path};
use crate::lsm::iter::{InternalIterator, MergingIterator};
use crate::lsm::manifest::Manifest;
use crate::lsm::manifest::format::{TreeEdit, VersionEdit};
use crate::lsm::memtable::AnyMemtable;
use crate::lsm::ops::files::link_or_copy;
use crate::lsm::options::Options;
use crate::lsm::ranges::{Fragments, RangeTombstones};
use crate::lsm::table::salvage::Salvage;
use crate::lsm::table::{Table, TableBuilder, TableInfo};
use crate::lsm::tree::DEFAULT_KEYSPACE;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the mark says to whoever finds it.
const REPAIRING_TEXT: &[u8] = b"A repair of this directory did not finish: run it again.\n";

/// What the log holds of each keyspace, in memtables of the usual size, oldest first.
type Operations = BTreeMap<u32, Vec<AnyMemtable>>;

/// Entries in order, and the range tombstones beside them.
type Entries<'a> = (&'a mut dyn InternalIterator, Vec<Arc<RangeTombstones>>);

/// Tables as an edit names them.
type Added = Vec<(usize, TableInfo)>;

/// Writes what `look` found worth saving.
pub(super) fn write<E: Env>(
    env: &E,
    dir: &Path,
    options: &Options,
    mut look: Look,
    report: &mut RepairReport,
) -> Result<()> {
    let mark = dir.join(REPAIRING);
    write_file_atomic(env.disk(), &mark, REPAIRING_TEXT).map_err(|error| Error::io("write", &mark, error))?;
    let mut work = Work { env, dir, options, next_file: look.next_file, temporary: Vec::new(), report };
    let mut operations = if look.log_is_good { Operations::new() } else { work.read_log(&mut look)? };
    let (last_seq, log_is_good) = (look.last_seq, look.log_is_good);
    // Where the MANIFEST was lost, merges are taken to be made for the operator at hand, and values may expire.
    let given = options.merge_operator.as_ref().filter(|_| !look.exact).map(|operator| operator.name().to_owned());
    let clock = look.clock.or((!look.exact || !log_is_good).then_some(0));
    let mut trees = Vec::new();
    for (keyspace, tree) in &look.trees {
        let operations = operations.remove(keyspace).unwrap_or_default();
        trees.push(TreeEdit {
            keyspace: *keyspace,
            created: (*keyspace != DEFAULT_KEYSPACE).then(|| tree.name.clone()),
            flushed: Some(if log_is_good { tree.flushed } else { last_seq }),
            merge_operator: tree.merge_operator.clone().or_else(|| given.clone()),
            added: work.save_tree(*keyspace, tree, &operations)?,
            ..TreeEdit::default()
        });
    }
    let live = trees.iter().flat_map(|tree| &tree.added).map(|(_, info)| info.file_no).collect();
    let manifest_no = work.allocate();
    let edit = VersionEdit {
        next_file: Some(manifest_no + 1),
        last_seq: Some(if log_is_good { look.position.seq } else { last_seq }),
        wal_lsn: Some(if log_is_good { look.position.lsn } else { Lsn(0) }),
        next_keyspace: Some(look.next_keyspace),
        clock,
        trees,
    };
    work.sync_dir(dir)?;
    work.keep_current(manifest_no)?;
    if env.planted("repair_moves_log_first") && !log_is_good {
        work.set_log_aside(manifest_no)?;
    }
    drop(Manifest::create(env, dir, manifest_no, &edit)?);
    work.remove_temporary();
    work.set_aside(&live, manifest_no)?;
    if !log_is_good {
        work.set_log_aside(manifest_no)?;
    }
    env.disk().remove(&mark).map_err(|error| Error::io("remove", &mark, error))?;
    work.sync_dir(dir)
}

struct Work<'a, E: Env> {
    env: &'a E,
    dir: &'a Path,
    options: &'a Options,
    next_file: u64,
    /// Tables that were written to be merged.
    temporary: Vec<u64>,
    report: &'a mut RepairReport,
}

impl<E: Env> Work<'_, E> {
    fn allocate(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.env.disk().sync_dir(dir).map_err(|error| Error::io("sync directory", dir, error))
    }

    /// Reads what tables do not hold from the log, around its gaps.
    fn read_log(&mut self, look: &mut Look) -> Result<Operations> {
        let mut operations = Operations::new();
        let wal_dir = self.dir.join(WAL_DIR);
        if self.env.disk().list(&wal_dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(operations);
        }
        let (kind, bytes_max) = (self.options.memtable, self.options.memtable_bytes);
        let mut last = SeqNum(0);
        salvage(self.env, &wal_dir, &mut |frame| {
            // What is no record was reported.
            let Ok(record) = decode_record(frame.payload) else { return Ok(()) };
            if record.first <= last {
                return Ok(());
            }
            last.0 = record.first.0 - 1;
            for operation in record.operations().map_while(std::result::Result::ok) {
                last.0 += 1;
                let keyspace = operation.keyspace;
                let is_dropped = keyspace < look.known_below && !look.trees.contains_key(&keyspace);
                if is_dropped || keyspace == NOWHERE {
                    continue;
                }
                let tree = look.tree(keyspace, None);
                if !tree.merge && last <= tree.flushed {
                    continue;
                }
                let memtables = operations.entry(keyspace).or_default();
                if memtables.last().is_none_or(|last: &AnyMemtable| last.bytes() >= bytes_max) {
                    memtables.push(AnyMemtable::new(self.env, kind, bytes_max));
                }
                let memtable = memtables.last().expect("pushed above");
                memtable.insert(operation.key, Tag::new(last, operation.kind), operation.value);
            }
            Ok(())
        })?;
        look.last_seq = look.last_seq.max(last);
        Ok(operations)
    }

    /// Returns the tables that hold what is readable of a keyspace.
    fn save_tree(&mut self, keyspace: u32, tree: &SavedTree, operations: &[AnyMemtable]) -> Result<Added> {
        if tree.merge {
            return self.merge(keyspace, tree, operations);
        }
        let mut added = Added::new();
        for table in &tree.tables {
            if table.is_good {
                self.report.tables_kept += 1;
                added.extend(table.info.clone().map(|info| (table.level, info)));
            } else if let Some(info) = self.salvage_table(keyspace, tree, table)? {
                self.wrote(&info);
                added.push((table.level, info));
            }
        }
        for memtable in operations {
            let (mut iter, ranges) = (memtable.iter(), memtable.ranges());
            let written = self.write_sorted(keyspace, tree, (&mut iter, ranges), 0, u64::MAX)?;
            added.extend(written);
        }
        Ok(added)
    }

    fn wrote(&mut self, info: &TableInfo) {
        self.report.tables_written += 1;
        self.report.entries_written += info.entries;
    }

    fn builder(&mut self, keyspace: u32, tree: &SavedTree) -> Result<TableBuilder<E>> {
        let number = self.allocate();
        let path = table_path(self.dir, number);
        let mut builder = TableBuilder::create(self.env, &path, number, table_options(self.options))?;
        builder.set_keyspace(keyspace, &tree.name);
        Ok(builder)
    }

    /// Writes the readable entries and range tombstones of a damaged table to a new one; returns nothing if there are none.
    fn salvage_table(&mut self, keyspace: u32, tree: &SavedTree, table: &Saved) -> Result<Option<TableInfo>> {
        let path = table_path(self.dir, table.number);
        let mut salvage = match Salvage::open(self.env, &path, table.number) {
            Ok(salvage) => salvage,
            // It is missing, which was reported.
            Err(_) if self.is_missing(&path)? => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut builder, mut key) = (None, Vec::new());
        salvage.blocks(&mut |_, block| {
            for at in 0..block.len() {
                let Ok((tag, value)) = block.read(at, &mut key) else { return Ok(()) };
                let builder = match &mut builder {
                    Some(builder) => builder,
                    none => none.insert(self.builder(keyspace, tree)?),
                };
                let tag = if tag.seq() == SeqNum(0) { Tag::new(table.seq, tag.kind()) } else { tag };
                builder.add(&key, tag, &block.bytes()[value])?;
            }
            Ok(())
        })?;
        if builder.is_none() && !salvage.ranges().is_empty() {
            builder = Some(self.builder(keyspace, tree)?);
        }
        let finish = |mut builder: TableBuilder<E>| {
            builder.add_ranges(salvage.ranges().to_vec());
            builder.finish()
        };
        builder.map(finish).transpose()
    }

    fn is_missing(&self, path: &Path) -> Result<bool> {
        let listed = self.env.disk().list(self.dir).map_err(|error| Error::io("list", self.dir, error))?;
        Ok(!listed.iter().any(|entry| path.file_name() == Some(&entry.name)))
    }

    /// Merges all there is of a keyspace into tables of the last level.
    fn merge(&mut self, keyspace: u32, tree: &SavedTree, operations: &[AnyMemtable]) -> Result<Added> {
        let mut children: Vec<Box<dyn InternalIterator>> = operations.iter().map(AnyMemtable::iter).collect();
        let mut ranges: Vec<_> = operations.iter().flat_map(AnyMemtable::ranges).collect();
        for table in &tree.tables {
            let mut number = Some(table.number).filter(|_| table.is_good);
            if number.is_none() {
                number = self.salvage_table(keyspace, tree, table)?.map(|info| info.file_no);
                self.temporary.extend(number);
            }
            if let Some(number) = number {
                let path = table_path(self.dir, number);
                let opened = Table::open(self.env, &path, number, BlockCache::new(0))?.with_seq(table.seq);
                let table = Arc::new(opened);
                ranges.extend(table.ranges().cloned());
                children.push(Box::new(table.iter(false)));
            }
        }
        let level = self.options.levels_max - 1;
        let from: Entries<'_> = (&mut MergingIterator::new(children), ranges);
        self.write_sorted(keyspace, tree, from, level, self.options.table_bytes)
    }

    /// Writes every entry once, with the newest of the range tombstones, to tables of about `table_bytes` that are disjoint in keys.
    fn write_sorted(
        &mut self,
        keyspace: u32,
        tree: &SavedTree,
        (iter, ranges): Entries<'_>,
        level: usize,
        table_bytes: u64,
    ) -> Result<Added> {
        let mut added = Added::new();
        let mut builder: Option<TableBuilder<E>> = None;
        let mut left = Fragments::of_all(ranges.iter().map(|set| &**set));
        iter.seek_to_first()?;
        while iter.valid() {
            let (key, tag) = (iter.key(), iter.tag());
            let last = builder.as_ref().and_then(TableBuilder::last_key);
            let (same_key, again) = last.map_or((false, false), |(last, of)| (last == key, last == key && of == tag));
            if !again {
                let full = builder.take_if(|builder| !same_key && builder.estimated_bytes() >= table_bytes);
                if let Some(mut full) = full {
                    full.add_ranges(left.take_before(Some(key), false).0);
                    added.push((level, full.finish()?));
                }
                let into = match &mut builder {
                    Some(builder) => builder,
                    none => none.insert(self.builder(keyspace, tree)?),
                };
                into.add(key, tag, iter.value())?;
            }
            iter.next()?;
        }
        if builder.is_none() && !left.is_empty() {
            builder = Some(self.builder(keyspace, tree)?);
        }
        if let Some(mut last) = builder {
            last.add_ranges(left.take_before(None, false).0);
            added.push((level, last.finish()?));
        }
        added.iter().for_each(|(_, info)| self.wrote(info));
        Ok(added)
    }

    /// Keeps CURRENT as it is, before it is replaced.
    fn keep_current(&self, manifest_no: u64) -> Result<()> {
        let (lost, path) = (self.lost_dir()?, self.dir.join(CURRENT));
        let listed = self.env.disk().list(self.dir).map_err(|error| Error::io("list", self.dir, error))?;
        if let Some(current) = listed.iter().find(|entry| entry.name == CURRENT) {
            link_or_copy(self.env, &path, &lost.join(format!("{CURRENT}-{manifest_no:06}")), current.bytes)?;
        }
        self.sync_dir(&lost)
    }

    /// Returns the directory for what is set aside.
    fn lost_dir(&self) -> Result<PathBuf> {
        let lost = self.dir.join(LOST_DIR);
        self.env.disk().create_dir_all(&lost).map_err(|error| Error::io("create directory", &lost, error))?;
        self.sync_dir(self.dir)?;
        Ok(lost)
    }

    /// Removes the repair's own tables that went into others.
    fn remove_temporary(&self) {
        for number in &self.temporary {
            // Set aside with the others if this fails.
            let _ = self.env.disk().remove(&table_path(self.dir, *number));
        }
    }

    /// Moves every table and MANIFEST that is not in force any more.
    fn set_aside(&mut self, live: &BTreeSet<u64>, manifest_no: u64) -> Result<()> {
        let lost = self.lost_dir()?;
        let listed = self.env.disk().list(self.dir).map_err(|error| Error::io("list", self.dir, error))?;
        for entry in listed.iter().filter(|entry| !entry.is_dir) {
            match FileKind::parse(&entry.name) {
                FileKind::Table(number) if !live.contains(&number) => {}
                FileKind::Manifest(_) if entry.name != manifest_name(manifest_no).as_str() => {}
                _ => continue,
            }
            self.set_one_aside(&self.dir.join(&entry.name), lost.join(&entry.name))?;
        }
        self.sync_dir(&lost)?;
        self.sync_dir(self.dir)
    }

    /// Moves the files of the log.
    fn set_log_aside(&mut self, manifest_no: u64) -> Result<()> {
        let wal_dir = self.dir.join(WAL_DIR);
        let listed = match self.env.disk().list(&wal_dir) {
            Ok(listed) if listed.is_empty() => return Ok(()),
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("list", &wal_dir, error)),
        };
        let lost = self.lost_dir()?.join(format!("{WAL_DIR}-{manifest_no:06}"));
        self.env.disk().create_dir_all(&lost).map_err(|error| Error::io("create directory", &lost, error))?;
        self.sync_dir(&self.dir.join(LOST_DIR))?;
        for entry in listed.iter().filter(|entry| !entry.is_dir) {
            self.set_one_aside(&wal_dir.join(&entry.name), lost.join(&entry.name))?;
        }
        self.sync_dir(&lost)?;
        self.sync_dir(&wal_dir)
    }

    fn set_one_aside(&mut self, from: &Path, to: PathBuf) -> Result<()> {
        self.env.disk().rename(from, &to).map_err(|error| Error::io("move", from, error))?;
        self.report.moved.push(to);
        Ok(())
    }
}
