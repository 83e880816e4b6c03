//! [`Version`]: an immutable set of tables by level; [`SuperVersion`]: that and the memtables, all that a reader needs.
//!
//! Made by flush and compaction under the engine's state lock, read by everyone without a lock through an `Arc`.
//!
//! - Level 0: newest first; no two tables share a sequence number range, so the first answer is the newest.
//! - Every other level: ascending and disjoint in user keys, so that a key lies in at most one table of it.
//! - For one key, versions in an upper level are newer than those in a lower one.
//!
//! The first two are asserted whenever a version is made.

use super::iter::{InternalIterator, MergingIterator};
use super::iterator::{Bounds, Cursor, Source, View};
use super::manifest::format::{TreeEdit, VersionEdit};
use super::memtable::AnyMemtable;
use super::ranges::{Covering, Edge, Layer, RangeTombstones, uncovered};
use super::stats::{Counters, LevelStatistics};
use super::table::{Table, TableInfo, TableIterator};
use super::tree::{DEFAULT_KEYSPACE, Immutable};
use super::ttl;
use super::value::Value;
use crate::base::Result;
use crate::base::key::{SeqNum, Tag, ValueKind};
use crate::env::Env;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tables of an engine at one moment.
pub(super) struct Version<E: Env> {
    levels: Vec<Vec<Arc<Table<E>>>>,
    /// A table has range tombstones.
    has_ranges: bool,
}

impl<E: Env> Version<E> {
    /// Returns the version after removing and adding tables.
    pub(super) fn apply(&self, env: &E, removed: &[(usize, u64)], added: &[(usize, Arc<Table<E>>)]) -> Version<E> {
        let mut levels = self.levels.clone();
        for (level, file_no) in removed {
            let before = levels[*level].len();
            levels[*level].retain(|table| table.info().file_no != *file_no);
            assert_eq!(levels[*level].len() + 1, before, "table {file_no} is not in level {level}");
        }
        for (level, table) in added {
            levels[*level].push(Arc::clone(table));
        }
        let version = Version::sorted(env, levels);
        if let Some((level, a, b)) = version.overlap(env) {
            panic!("tables {a} and {b} overlap in level {level}");
        }
        version
    }

    /// Returns the version without tables.
    pub(super) fn empty(levels: usize) -> Version<E> {
        Version { levels: (0..levels).map(|_| Vec::new()).collect(), has_ranges: false }
    }

    /// Makes a version of tables in any order; the caller checks for [`overlap`](Version::overlap).
    pub(super) fn sorted(env: &E, mut levels: Vec<Vec<Arc<Table<E>>>>) -> Version<E> {
        let (top, below) = levels.split_first_mut().expect("there are levels");
        top.sort_by_key(|table| std::cmp::Reverse(table.info().seq_max));
        if env.planted("l0_newest_order_wrong") {
            top.reverse();
        }
        for level in below {
            level.sort_by(|a, b| a.info().low().cmp(b.info().low()));
        }
        let has_ranges = levels.iter().flatten().any(|table| table.ranges().is_some());
        Version { levels, has_ranges }
    }

    /// Returns two tables that break the rules of their level.
    pub(super) fn overlap(&self, env: &E) -> Option<(usize, u64, u64)> {
        let skip_top = env.planted("l0_newest_order_wrong");
        let top = self.levels[0].windows(2).find(|pair| !skip_top && pair[0].info().seq_min <= pair[1].info().seq_max);
        let top = top.map(|pair| (0, pair));
        let below = self.levels.iter().enumerate().skip(1).find_map(|(number, level)| {
            let pair = level.windows(2).find(|pair| pair[0].info().reaches(pair[1].info().low()))?;
            Some((number, pair))
        });
        top.or(below).map(|(level, pair)| (level, pair[0].info().file_no, pair[1].info().file_no))
    }

    pub(super) fn levels(&self) -> &[Vec<Arc<Table<E>>>] {
        &self.levels
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (usize, &Arc<Table<E>>)> {
        self.levels.iter().enumerate().flat_map(|(number, level)| level.iter().map(move |table| (number, table)))
    }

    /// Returns the tables of `level` that hold keys from `low` to `edge`, or range tombstones over some.
    pub(super) fn overlapping(&self, level: usize, low: &[u8], edge: Edge<'_>) -> &[Arc<Table<E>>] {
        assert!(level >= 1, "level 0 is not sorted by key");
        let tables = &self.levels[level];
        let from = tables.partition_point(|table| !table.info().reaches(low));
        let count = tables[from..].partition_point(|table| edge.holds(table.info().low()));
        &tables[from..from + count]
    }

    /// Returns the newest entry of `key` at or below `seq`, or of a range tombstone over it.
    pub(super) fn get(&self, key: &[u8], seq: SeqNum, counters: &Counters) -> Result<Option<(Tag, Value)>> {
        let (top, below) = self.levels.split_first().expect("there are levels");
        for table in top {
            if table.info().covers(key)
                && table.info().seq_min <= seq
                && let Some(found) = lookup(table, key, seq, counters)?
            {
                return Ok(Some(found));
            }
        }
        for level in below {
            let at = level.partition_point(|table| !table.info().reaches(key));
            if let Some(table) = level.get(at).filter(|table| table.info().covers(key))
                && let Some(found) = lookup(table, key, seq, counters)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Counts the tables of each level.
    pub(super) fn level_statistics(&self) -> Vec<LevelStatistics> {
        let level = |tables: &Vec<Arc<Table<E>>>| {
            let mut level = LevelStatistics { files: tables.len() as u64, ..LevelStatistics::default() };
            for info in tables.iter().map(|table| table.info()) {
                level.bytes += info.file_bytes;
                level.entries += info.entries;
                level.tombstones += info.tombstones;
                level.range_tombstones += info.ranges.as_ref().map_or(0, |ranges| ranges.count);
            }
            level
        };
        self.levels.iter().map(level).collect()
    }

    /// Returns the tables as an edit names them.
    pub(super) fn infos(&self) -> Vec<(usize, TableInfo)> {
        self.tables().map(|(level, table)| (level, table.info().clone())).collect()
    }
}

fn lookup<E: Env>(table: &Table<E>, key: &[u8], seq: SeqNum, counters: &Counters) -> Result<Option<(Tag, Value)>> {
    let cover = table.cover(key, seq);
    let found = lookup_entry(table, key, seq, counters)?;
    Ok(if cover > SeqNum(0) { under(cover, found) } else { found })
}

/// Returns what of one source decides about a key: its newest entry, or the range tombstone `cover`, which hides it and
/// everything in the sources below.
fn under(cover: SeqNum, found: Option<(Tag, Value)>) -> Option<(Tag, Value)> {
    found
        .filter(|(tag, _)| tag.seq() > cover)
        .or_else(|| Some((Tag::new(cover, ValueKind::RangeDelete), Value::default())))
}

fn lookup_entry<E: Env>(
    table: &Table<E>,
    key: &[u8],
    seq: SeqNum,
    counters: &Counters,
) -> Result<Option<(Tag, Value)>> {
    if !table.may_contain(key) {
        counters.filter_hits.add(1);
        return Ok(None);
    }
    let found = table.get(key, seq)?;
    if found.is_none() {
        counters.filter_misses.add(1);
    }
    Ok(found)
}

/// Tables by file number, with their level.
pub(super) type TableMap = BTreeMap<u64, (usize, TableInfo)>;

/// What a sequence of edits leaves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    /// The last of each number.
    pub(super) scalars: VersionEdit,
    /// The keyspaces there are.
    pub(super) trees: BTreeMap<u32, ReplayedTree>,
}

/// What edits leave of a keyspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReplayedTree {
    pub(super) name: String,
    pub(super) flushed: SeqNum,
    /// The name of the operator that its merges are made for.
    pub(super) merge_operator: Option<String>,
    pub(super) tables: TableMap,
}

impl Edits {
    /// Applies edits in order; the error says what is wrong with one.
    pub(super) fn replay(edits: &[VersionEdit]) -> Result<Edits, &'static str> {
        let mut replayed = Edits::default();
        replayed.trees.insert(DEFAULT_KEYSPACE, ReplayedTree::default());
        for edit in edits {
            let scalars = &mut replayed.scalars;
            scalars.next_file = edit.next_file.or(scalars.next_file);
            scalars.last_seq = edit.last_seq.or(scalars.last_seq);
            scalars.wal_lsn = edit.wal_lsn.or(scalars.wal_lsn);
            scalars.next_keyspace = edit.next_keyspace.or(scalars.next_keyspace);
            scalars.clock = scalars.clock.max(edit.clock);
            edit.trees.iter().try_for_each(|tree| replayed.apply(tree))?;
        }
        let next = replayed.scalars.next_keyspace.unwrap_or(DEFAULT_KEYSPACE + 1);
        if replayed.trees.keys().any(|keyspace| *keyspace >= next) {
            return Err("a keyspace has a number that is yet to be given");
        }
        Ok(replayed)
    }

    fn apply(&mut self, edit: &TreeEdit) -> Result<(), &'static str> {
        if let Some(name) = &edit.created {
            let tree = ReplayedTree { name: name.clone(), ..ReplayedTree::default() };
            if self.trees.values().any(|tree| tree.name == *name) || self.trees.insert(edit.keyspace, tree).is_some() {
                return Err("version edit creates a keyspace twice");
            }
        }
        let tree = self.trees.get_mut(&edit.keyspace).ok_or("version edit of a keyspace that is not there")?;
        for (level, file_no) in &edit.removed {
            match tree.tables.remove(file_no) {
                Some((at, _)) if at == *level => {}
                _ => return Err("version edit removes a table that is not there"),
            }
        }
        for (level, info) in &edit.added {
            if tree.tables.insert(info.file_no, (*level, info.clone())).is_some() {
                return Err("version edit adds a table twice");
            }
        }
        tree.flushed = edit.flushed.unwrap_or(tree.flushed);
        if let Some(name) = &edit.merge_operator
            && tree.merge_operator.get_or_insert_with(|| name.clone()) != name
        {
            return Err("version edit with another merge operator");
        }
        if edit.dropped {
            if edit.keyspace == DEFAULT_KEYSPACE {
                return Err("version edit drops the default keyspace");
            }
            self.trees.remove(&edit.keyspace);
        }
        Ok(())
    }
}

/// Everything a reader looks into, newest first.
pub(super) struct SuperVersion<E: Env> {
    pub(super) memtable: AnyMemtable,
    /// Newest first.
    pub(super) immutables: Vec<Arc<Immutable>>,
    pub(super) version: Arc<Version<E>>,
}

impl<E: Env> SuperVersion<E> {
    /// Returns the newest entry of `key` at or below `seq`, or of a range tombstone over it: the first source that has either
    /// decides.
    pub(super) fn get(&self, key: &[u8], seq: SeqNum, counters: &Counters) -> Result<Option<(Tag, Value)>> {
        let memtables = std::iter::once(&self.memtable).chain(self.immutables.iter().map(|full| &full.memtable));
        for memtable in memtables {
            let cover = memtable.cover(key, seq);
            let found = memtable.get(key, seq).map(|(tag, value)| (tag, Value::copy_from_slice(value)));
            if cover > SeqNum(0) {
                return Ok(under(cover, found));
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        self.version.get(key, seq, counters)
    }

    /// Returns what a reader with `view` sees of `key`, whose newest entry for it is `found`.
    #[cold]
    pub(super) fn resolve(&self, key: &[u8], found: (Tag, Value), view: &View) -> Result<Option<Value>> {
        let (tag, value) = found;
        match tag.kind() {
            ValueKind::Put => return Ok(Some(value)),
            ValueKind::PutTtl => return Ok(ttl::alive(&value, view.moment)),
            ValueKind::Merge => {}
            _ => return Ok(None),
        }
        let cursors = MergingIterator::new(self.cursors(view.seq, Vec::new()));
        let mut cursor = Cursor::new(cursors, view.clone(), Bounds::of_key(key));
        cursor.seek(key)?;
        Ok(cursor.valid().then(|| cursor.value_owned()))
    }
}

impl<E: Env> SuperVersion<E> {
    /// Returns true if there is anything that no table holds.
    pub(super) fn has_memtables(&self) -> bool {
        !self.immutables.is_empty() || !self.memtable.is_empty()
    }

    /// Returns true if a memtable has an entry within `bounds`, or a range tombstone over keys of it.
    pub(super) fn memtables_meet(&self, bounds: &Bounds) -> Result<bool> {
        for memtable in std::iter::once(&self.memtable).chain(self.immutables.iter().map(|full| &full.memtable)) {
            let mut iter = memtable.iter();
            iter.seek(bounds.low(), Tag::seek(SeqNum::MAX))?;
            let covers = |set: &Arc<RangeTombstones>| set.newest_between(bounds.low(), bounds.edge()) > SeqNum(0);
            if memtable.ranges().iter().any(covers) {
                return Ok(true);
            }
            if iter.valid() && bounds.contains_below_high(iter.key()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Lets an iterator keep and read a super-version.
pub(super) struct SuperSource<E: Env>(pub(super) Arc<SuperVersion<E>>);

impl<E: Env> Source for SuperSource<E> {
    fn open(&self, seq: SeqNum) -> Result<MergingIterator> {
        Ok(MergingIterator::new(self.0.cursors(seq, Vec::new())))
    }
}

impl<E: Env> SuperVersion<E> {
    /// Returns cursors over all there is, newest first, without what range tombstones hide from a reader at `seq`. `first`
    /// come before them, each with its own range tombstones.
    pub(super) fn cursors(&self, seq: SeqNum, first: Vec<Covering>) -> Vec<Box<dyn InternalIterator>> {
        let SuperVersion { memtable, immutables, version } = self;
        let mut sources = first;
        for memtable in std::iter::once(memtable).chain(immutables.iter().map(|full| &full.memtable)) {
            let layer = |set| Layer { sets: vec![set], seq };
            sources.push((memtable.iter(), memtable.ranges().into_iter().map(layer).collect()));
        }
        let layer = |tables: &[Arc<Table<E>>]| {
            let sets: Vec<_> = match version.has_ranges {
                true => tables.iter().filter_map(|table| table.ranges()).cloned().collect(),
                false => Vec::new(),
            };
            if sets.is_empty() { Vec::new() } else { vec![Layer { sets, seq }] }
        };
        for table in &version.levels[0] {
            sources.push((Box::new(table.iter(true)), layer(std::slice::from_ref(table))));
        }
        for level in version.levels.iter().skip(1).filter(|level| !level.is_empty()) {
            sources.push((Box::new(LevelIterator::new(level.clone(), true)), layer(level)));
        }
        uncovered(sources, memtable.shows_covered_backward())
    }
}

/// Walks tables that are ascending and disjoint, opening a cursor on one at a time.
pub(super) struct LevelIterator<E: Env> {
    tables: Vec<Arc<Table<E>>>,
    fill_cache: bool,
    at: usize,
    current: Option<TableIterator<E>>,
}

impl<E: Env> LevelIterator<E> {
    pub(super) fn new(tables: Vec<Arc<Table<E>>>, fill_cache: bool) -> LevelIterator<E> {
        LevelIterator { tables, fill_cache, at: 0, current: None }
    }

    /// Stands on no entry of table `at`, or on none at all past either end.
    fn enter(&mut self, at: usize) -> Option<&mut TableIterator<E>> {
        if self.current.is_none() || self.at != at {
            self.current = self.tables.get(at).map(|table| table.iter(self.fill_cache));
        }
        self.at = at;
        self.current.as_mut()
    }

    fn skip_forward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|current| !current.valid()) {
            if let Some(next) = self.enter(self.at + 1) {
                next.seek_to_first()?;
            }
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|current| !current.valid()) {
            match self.at.checked_sub(1) {
                Some(at) => self.enter(at).expect("there is a table before").seek_to_last()?,
                None => self.current = None,
            }
        }
        Ok(())
    }

    fn standing(&self) -> &TableIterator<E> {
        self.current.as_ref().expect("the cursor stands on an entry")
    }
}

impl<E: Env> InternalIterator for LevelIterator<E> {
    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.valid())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        match self.enter(0) {
            Some(table) => table.seek_to_first()?,
            None => return Ok(()),
        }
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        match self.tables.len().checked_sub(1) {
            Some(last) => self.enter(last).expect("the last table is there").seek_to_last()?,
            None => return Ok(()),
        }
        self.skip_backward()
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let at = self.tables.partition_point(|table| table.info().largest.0.as_slice() < key);
        match self.enter(at) {
            Some(table) => table.seek(key, tag)?,
            None => return Ok(()),
        }
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let after = self.tables.partition_point(|table| table.info().smallest.0.as_slice() <= key);
        match after.checked_sub(1) {
            Some(at) => self.enter(at).expect("the table is there").seek_for_prev(key, tag)?,
            None => {
                self.current = None;
                return Ok(());
            }
        }
        self.skip_backward()
    }

    fn next(&mut self) -> Result<()> {
        match &mut self.current {
            Some(current) => current.next()?,
            None => return Ok(()),
        }
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        match &mut self.current {
            Some(current) => current.prev()?,
            None => return Ok(()),
        }
        self.skip_backward()
    }

    fn key(&self) -> &[u8] {
        self.standing().key()
    }

    fn tag(&self) -> Tag {
        self.standing().tag()
    }

    fn value(&self) -> &[u8] {
        self.standing().value()
    }

    fn value_owned(&self) -> Value {
        self.standing().value_owned()
    }
}
