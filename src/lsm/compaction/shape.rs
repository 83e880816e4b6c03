//! How large the levels of a tree are to be, and which one a level is compacted into: [`Shape`].
//!
//! Computed from the version and the options whenever a compaction is picked and whenever the debt is looked at.
//!
//! Sizes follow from the data, from the bottom up: the last level holds almost all of it, each level above a
//! [`level_size_multiplier`](Options::level_size_multiplier)th of the one below, up to the *base* level, the first that is
//! at most [`level_bytes_base`](Options::level_bytes_base). Level 0 is compacted into the base level; those between are
//! empty. So what is stored twice is a tenth and what level 0 holds, however large the tree is.
//!
//! **Invariant:** between a level and the one that it is compacted into all levels are empty. Where the base level sinks
//! because data went away, or tables lie above it because they were written with other options, these go down first.
//!
//! Source: RocksDB `level_compaction_dynamic_level_bytes`.

use crate::env::Env;
use crate::lsm::options::Options;
use crate::lsm::table::Table;
use crate::lsm::version::Version;
use std::sync::Arc;

/// How urgent it is to empty a level above the base level, in scores: more than a level that is just full.
const DRAIN_SCORE: f64 = 1.5;

/// Returns how many bytes `tables` take.
pub(super) fn bytes<E: Env>(tables: &[Arc<Table<E>>]) -> u64 {
    tables.iter().map(|table| table.info().file_bytes).sum()
}

/// The levels as they are and as they are to be.
pub(in crate::lsm) struct Shape {
    /// How full level 0 is.
    top_score: f64,
    /// Bytes of each level.
    held: Vec<u64>,
    /// Bytes that each level may hold; of the last one, any number.
    sizes: Vec<u64>,
    base: usize,
}

impl Shape {
    pub(super) fn of<E: Env>(version: &Version<E>, options: &Options) -> Shape {
        let held = version.levels().iter().map(|level| bytes(level)).collect();
        Shape::new(version.levels()[0].len(), held, options)
    }

    fn new(files: usize, held: Vec<u64>, options: &Options) -> Shape {
        let last = held.len() - 1;
        // Of a tree of another shape the largest level is what the last one will become.
        let largest = held[1..].iter().copied().max().expect("there are two levels at least");
        let (mut base, mut size) = (last, largest);
        while base > 1 && size > options.level_bytes_base {
            base -= 1;
            size /= options.level_size_multiplier;
        }
        // Not so small that each compaction of level 0 overfills it many times.
        let smallest = options.level_bytes_base / options.level_size_multiplier;
        let part = |above: u32| largest / options.level_size_multiplier.saturating_pow(above);
        let size = |level| if level == last { u64::MAX } else { part((last - level) as u32).max(smallest) };
        let sizes = (0..held.len()).map(size).collect();
        Shape { top_score: files as f64 / options.l0_compaction_files as f64, held, sizes, base }
    }

    /// Returns how full `level` is; 1.0 and more asks for a compaction.
    pub(super) fn score(&self, level: usize) -> f64 {
        let held = self.held[level];
        match level {
            0 => self.top_score,
            last if last + 1 == self.held.len() => 0.0,
            _ if level >= self.base => held as f64 / self.sizes[level].max(1) as f64,
            _ if held > 0 => DRAIN_SCORE,
            _ => 0.0,
        }
    }

    /// Returns the level that `level` is compacted into.
    pub(super) fn output_of(&self, level: usize) -> usize {
        let first = level + 1;
        (first..self.held.len()).find(|below| *below >= self.base || self.held[*below] > 0).unwrap_or(first)
    }

    /// Returns how many bytes wait to be compacted because their level is over its size.
    pub(super) fn debt_bytes(&self) -> u64 {
        let over = |level: usize| match level < self.base {
            true => self.held[level],
            false => self.held[level].saturating_sub(self.sizes[level]),
        };
        (1..self.held.len() - 1).map(over).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn options() -> Options {
        Options { level_bytes_base: 100 * MIB, level_size_multiplier: 10, levels_max: 5, ..Options::default() }
    }

    #[test]
    fn little_data_lies_in_the_last_level() {
        let options = options();
        for held in [[0, 0, 0, 0, 0], [300 * MIB, 0, 0, 0, 100 * MIB]] {
            let shape = Shape::new(4, held.to_vec(), &options);
            assert_eq!((shape.base, shape.output_of(0), shape.score(0)), (4, 4, 1.0));
            assert_eq!(shape.debt_bytes(), 0);
        }
    }

    #[test]
    fn levels_grow_upwards_from_the_last() {
        let options = options();
        let shape = Shape::new(0, vec![0, 0, 0, 90 * MIB, 2_000 * MIB], &options);
        assert_eq!((shape.base, shape.output_of(0), shape.output_of(2), shape.output_of(3)), (2, 2, 3, 4));
        assert_eq!((shape.sizes[2], shape.sizes[3]), (20 * MIB, 200 * MIB));
        assert_eq!((shape.score(3), shape.score(4), shape.debt_bytes()), (0.45, 0.0, 0));
        let shape = Shape::new(0, vec![0, 0, 50 * MIB, 300 * MIB, 2_000 * MIB], &options);
        assert_eq!((shape.score(2), shape.score(3), shape.debt_bytes()), (2.5, 1.5, 130 * MIB));
    }

    #[test]
    fn what_lies_above_the_base_level_goes_down_first() {
        let options = options();
        let shape = Shape::new(9, vec![9, 5 * MIB, 0, 0, 80 * MIB], &options);
        assert_eq!((shape.base, shape.output_of(0), shape.output_of(1)), (4, 1, 4));
        assert_eq!((shape.score(1), shape.score(2), shape.debt_bytes()), (DRAIN_SCORE, 0.0, 5 * MIB));
    }
}
