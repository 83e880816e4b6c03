//! What to compact next: a pure function of the version, the options and the tables already being compacted.
//!
//! Called under the state lock by background threads. A level's score is how full it is (level 0: tables against
//! [`Options::l0_compaction_files`]; below: bytes against the level's size in the tree's [`Shape`]); the fullest level at 1 or
//! more goes first, then tables that are tombstones for the most part. When nothing is written, level 0 and tombstones in
//! any number, of ranges too, go as well: space is given back without further writes.
//!
//! - Level 0 is taken whole, so that what stays above is always newer. Its tables and every one of the output level that
//!   overlaps them.
//! - Below, the table that drags along the fewest bytes of the output level, relative to its own; the first key breaks ties.
//! - Tombstones count only if all readers see them: those that a snapshot keeps would come back for ever.
//! - **Invariant:** an input is in one compaction at a time. A compaction takes every table of its output level that
//!   overlaps its inputs, so two at once write disjoint key ranges.
//! - Tables that overlap nothing are moved instead of rewritten.
//!
//! Sources: LevelDB `db/version_set.cc`; RocksDB `kMinOverlappingRatio`.

use super::shape::{Shape, bytes};
use crate::base::key::SeqNum;
use crate::env::Env;
use crate::lsm::options::Options;
use crate::lsm::ranges::Edge;
use crate::lsm::table::{Table, TableOptions};
use crate::lsm::tree::Tree;
use crate::lsm::version::Version;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many times the target size of a table one output table may overlap in the level behind it.
const GRANDPARENT_OVERLAP_MAX: u64 = 10;

/// Tombstones of a table that ask for a compaction, in percent of its entries: always, and when nothing is written.
const DENSE_PERCENT: u64 = 50;
const IDLE_PERCENT: u64 = 10;
/// How many times the bytes of level 0 may be rewritten below it when nothing is written.
const IDLE_COST_MAX: u64 = 10;

/// One unit of work: rewrite or move `upper` and `lower` into `output_level`.
pub(in crate::lsm) struct Compaction<E: Env> {
    pub(in crate::lsm) tree: Arc<Tree<E>>,
    pub(in crate::lsm) level: usize,
    pub(in crate::lsm) output_level: usize,
    /// Inputs of `level`.
    pub(in crate::lsm) upper: Vec<Arc<Table<E>>>,
    /// Inputs of `output_level`, ascending.
    pub(in crate::lsm) lower: Vec<Arc<Table<E>>>,
    /// The tables when it was picked.
    pub(in crate::lsm) version: Arc<Version<E>>,
    /// Whether the inputs may move as they are.
    pub(in crate::lsm) movable: bool,
}

impl<E: Env> Compaction<E> {
    pub(in crate::lsm) fn inputs(&self) -> impl Iterator<Item = (usize, &Arc<Table<E>>)> {
        let upper = self.upper.iter().map(|table| (self.level, table));
        upper.chain(self.lower.iter().map(|table| (self.output_level, table)))
    }

    /// Returns true if no level behind the output holds `key`.
    pub(in crate::lsm) fn is_bottom_for(&self, key: &[u8]) -> bool {
        self.is_bottom_between(key, Edge::Through(key))
    }

    /// Returns true if no level behind the output holds a key from `low` to `edge`.
    pub(in crate::lsm) fn is_bottom_between(&self, low: &[u8], edge: Edge<'_>) -> bool {
        let below = self.output_level + 1..self.version.levels().len();
        below.into_iter().all(|level| self.version.overlapping(level, low, edge).is_empty())
    }

    /// Returns how many bytes of the level behind the output lie between two keys.
    pub(in crate::lsm) fn grandparent_bytes(&self, low: &[u8], edge: Edge<'_>) -> u64 {
        match self.output_level + 1 {
            behind if behind < self.version.levels().len() => bytes(self.version.overlapping(behind, low, edge)),
            _ => 0,
        }
    }

    /// Returns how many bytes of the level behind one output table may overlap.
    pub(in crate::lsm) fn grandparent_bytes_max(options: &Options) -> u64 {
        options.table_bytes.saturating_mul(GRANDPARENT_OVERLAP_MAX)
    }
}

/// Returns how many bytes of `version` wait to be compacted because their level is over its size.
pub(in crate::lsm) fn debt_bytes<E: Env>(version: &Version<E>, options: &Options) -> u64 {
    Shape::of(version, options).debt_bytes()
}

/// Picks the most urgent compaction of any tree whose inputs are all free. `oldest` is what every reader sees.
pub(in crate::lsm) fn pick<E: Env>(trees: &[Of<'_, E>], busy: &BTreeSet<u64>, oldest: SeqNum) -> Option<Compaction<E>> {
    let mut levels: Vec<(f64, usize, &Of<'_, E>)> = Vec::new();
    for of in trees {
        levels.extend((0..of.version.levels().len() - 1).map(|level| (of.shape.score(level), level, of)));
    }
    levels.retain(|(score, ..)| *score >= 1.0);
    // Stable: among equals the upper level and the older keyspace win.
    levels.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let full = levels.into_iter().find_map(|(_, level, of)| match level {
        0 => whole_level(of, 0, busy),
        _ => one_table(of, level, busy),
    });
    full.or_else(|| trees.iter().find_map(|of| with_tombstones(of, busy, oldest, DENSE_PERCENT)))
}

/// Picks what may be compacted without need, for when nothing was written for a while.
pub(in crate::lsm) fn pick_idle<E: Env>(
    trees: &[Of<'_, E>],
    busy: &BTreeSet<u64>,
    oldest: SeqNum,
) -> Option<Compaction<E>> {
    let cheap =
        |compaction: &Compaction<E>| bytes(&compaction.lower) <= bytes(&compaction.upper).saturating_mul(IDLE_COST_MAX);
    let top = |of| whole_level(of, 0, busy).filter(cheap);
    trees.iter().find_map(|of| top(of).or_else(|| with_tombstones(of, busy, oldest, IDLE_PERCENT)))
}

/// Picks a table of which at least `percent` are tombstones that every reader sees, or when nothing is written one with
/// range tombstones.
fn with_tombstones<E: Env>(
    of: &Of<'_, E>,
    busy: &BTreeSet<u64>,
    oldest: SeqNum,
    percent: u64,
) -> Option<Compaction<E>> {
    let levels = of.version.levels().iter().enumerate().skip(1);
    levels.flat_map(|(level, tables)| tables.iter().map(move |table| (level, table))).find_map(|(level, table)| {
        let info = table.info();
        let many = info.tombstones > 0 && info.tombstones * 100 >= info.entries * percent;
        let has_ranges = percent == IDLE_PERCENT && info.ranges.is_some();
        if !(many || has_ranges) || info.seq_max > oldest {
            return None;
        }
        let last = level + 1 == of.version.levels().len();
        let picked =
            if last { in_place(of, level, table, busy)? } else { build(of, level, vec![table.clone()], busy)? };
        Some(Compaction { movable: false, ..picked })
    })
}

/// Rewrites a table of the last level where it is.
pub(in crate::lsm) fn in_place<E: Env>(
    of: &Of<'_, E>,
    level: usize,
    table: &Arc<Table<E>>,
    busy: &BTreeSet<u64>,
) -> Option<Compaction<E>> {
    if busy.contains(&table.info().file_no) {
        return None;
    }
    let (tree, version) = (Arc::clone(of.tree), Arc::clone(of.version));
    let (upper, lower) = (vec![Arc::clone(table)], Vec::new());
    Some(Compaction { tree, level, output_level: level, upper, lower, version, movable: false })
}

/// A tree as it is now.
pub(in crate::lsm) struct Of<'a, E: Env> {
    tree: &'a Arc<Tree<E>>,
    pub(in crate::lsm) version: &'a Arc<Version<E>>,
    options: Arc<Options>,
    shape: Shape,
}

impl<'a, E: Env> Of<'a, E> {
    pub(in crate::lsm) fn new(tree: &'a Arc<Tree<E>>, version: &'a Arc<Version<E>>) -> Of<'a, E> {
        let options = tree.options();
        Of { tree, version, shape: Shape::of(version, &options), options }
    }
}

/// Takes every table of `level` and what it overlaps in the level it goes to.
pub(in crate::lsm) fn whole_level<E: Env>(of: &Of<'_, E>, level: usize, busy: &BTreeSet<u64>) -> Option<Compaction<E>> {
    build(of, level, of.version.levels()[level].clone(), busy)
}

fn one_table<E: Env>(of: &Of<'_, E>, level: usize, busy: &BTreeSet<u64>) -> Option<Compaction<E>> {
    let version = of.version;
    let output_level = of.shape.output_of(level);
    let ratio = |table: &Arc<Table<E>>| {
        let info = table.info();
        let dragged = bytes(version.overlapping(output_level, info.low(), info.high()));
        dragged as f64 / info.file_bytes.max(1) as f64
    };
    let mut candidates: Vec<(f64, &Arc<Table<E>>)> =
        version.levels()[level].iter().map(|table| (ratio(table), table)).collect();
    // Stable: among equals the first key wins.
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    candidates.into_iter().find_map(|(_, table)| build(of, level, vec![Arc::clone(table)], busy))
}

/// Takes the tables `upper` of `level` and what they overlap in the level they go to; `None` if there are none, or one is busy.
pub(in crate::lsm) fn build<E: Env>(
    of: &Of<'_, E>,
    level: usize,
    upper: Vec<Arc<Table<E>>>,
    busy: &BTreeSet<u64>,
) -> Option<Compaction<E>> {
    let (version, options) = (of.version, &*of.options);
    let low = upper.iter().map(|table| table.info().low()).min()?;
    let high = upper.iter().map(|table| table.info().high()).max_by(|a, b| a.compare(*b))?;
    let output_level = of.shape.output_of(level);
    let lower = version.overlapping(output_level, low, high).to_vec();
    let is_busy = |table: &Arc<Table<E>>| busy.contains(&table.info().file_no);
    if upper.iter().any(is_busy) || lower.iter().any(is_busy) {
        return None;
    }
    let movable = lower.is_empty() && disjoint(&upper);
    let (tree, version) = (Arc::clone(of.tree), Arc::clone(version));
    let compaction = Compaction { tree, level, output_level, upper, lower, version, movable };
    let overlap = |table: &Arc<Table<E>>| compaction.grandparent_bytes(table.info().low(), table.info().high());
    let movable = movable
        && compaction.upper.iter().all(|table| overlap(table) <= Compaction::<E>::grandparent_bytes_max(options));
    Some(Compaction { movable, ..compaction })
}

fn disjoint<E: Env>(tables: &[Arc<Table<E>>]) -> bool {
    let mut ascending: Vec<_> = tables.iter().map(|table| table.info()).collect();
    ascending.sort_by_key(|info| info.low());
    ascending.windows(2).all(|pair| !pair[0].reaches(pair[1].low()))
}

/// Returns how tables are written.
pub(in crate::lsm) fn table_options(options: &Options) -> TableOptions {
    TableOptions {
        block_bytes: options.block_bytes,
        compression: options.compression,
        filter_bits_per_key: options.filter_bits_per_key,
    }
}
