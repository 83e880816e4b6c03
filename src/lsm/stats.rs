//! What an engine has done since it was opened: `Counters` while it runs, [`Statistics`] for the user.
//!
//! Counters are relaxed atomics, bumped by writers, readers and background threads; a [`Statistics`] is read from them
//! without stopping anyone, so its fields may lie a moment apart from each other.

use super::state::Core;
use crate::aof::LogStats;
use crate::base::exposition::{Exposition, Kind};
use crate::base::key::SeqNum;
use crate::env::Env;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One number that many threads add to.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a running engine.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) write_groups: Counter,
    pub(super) write_batches: Counter,
    pub(super) write_operations: Counter,
    pub(super) write_bytes: Counter,
    pub(super) stall_delays: Counter,
    pub(super) stall_delay_nanos: Counter,
    pub(super) stall_stops: Counter,
    pub(super) stall_stop_nanos: Counter,
    pub(super) flushes: Counter,
    pub(super) flush_bytes: Counter,
    pub(super) compactions: Counter,
    pub(super) compaction_moves: Counter,
    pub(super) compaction_bytes_read: Counter,
    pub(super) compaction_bytes_written: Counter,
    pub(super) compaction_entries_dropped: Counter,
    pub(super) background_errors: Counter,
    pub(super) filter_hits: Counter,
    pub(super) filter_misses: Counter,
    pub(super) files_deleted: Counter,
}

/// One level of the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStatistics {
    /// Number of tables.
    pub files: u64,
    /// Bytes of the tables.
    pub bytes: u64,
    /// Entries of the tables, tombstones and hidden versions included.
    pub entries: u64,
    /// Tombstones of the tables.
    pub tombstones: u64,
    /// Range tombstones of the tables: pieces of a range, with a sequence number each.
    pub range_tombstones: u64,
}

/// A picture of an engine; [`Display`](fmt::Display) prints it as a table.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Each level, the newest first; all keyspaces together.
    pub levels: Vec<LevelStatistics>,
    /// Keyspaces beside the default one.
    pub keyspaces: u64,
    /// The newest sequence number that readers see.
    pub visible_seq: SeqNum,
    /// Bytes of the memtables being written.
    pub memtable_bytes: u64,
    /// Number of full memtables that wait for their flush.
    pub immutable_memtables: u64,
    /// Bytes of the full memtables.
    pub immutable_memtable_bytes: u64,
    /// Live snapshots.
    pub snapshots: u64,
    /// Commit groups; each was one log frame.
    pub write_groups: u64,
    /// Batches committed.
    pub write_batches: u64,
    /// Puts and deletes committed.
    pub write_operations: u64,
    /// Bytes of committed operations.
    pub write_bytes: u64,
    /// Writes slowed down because of compaction debt.
    pub stall_delays: u64,
    /// Time these writes lost.
    pub stall_delay_time: Duration,
    /// Writes stopped until a flush or compaction ended.
    pub stall_stops: u64,
    /// Time these writes lost.
    pub stall_stop_time: Duration,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of the tables they became.
    pub flush_bytes: u64,
    /// Compactions that rewrote tables.
    pub compactions: u64,
    /// Compactions that only moved tables one level down.
    pub compaction_moves: u64,
    /// Bytes that compactions read.
    pub compaction_bytes_read: u64,
    /// Bytes that compactions wrote.
    pub compaction_bytes_written: u64,
    /// Entries that compactions dropped because no reader can see them.
    pub compaction_entries_dropped: u64,
    /// Flushes and compactions that failed and are tried again.
    pub background_errors: u64,
    /// The last of these failures, if it was not overcome yet.
    pub background_error: Option<String>,
    /// Block lookups answered by the cache.
    pub cache_hits: u64,
    /// Block lookups that read the table.
    pub cache_misses: u64,
    /// Bytes in the cache.
    pub cache_bytes: u64,
    /// Table lookups that a filter saved.
    pub filter_hits: u64,
    /// Table lookups that a filter let through and that found nothing.
    pub filter_misses: u64,
    /// Obsolete files deleted.
    pub files_deleted: u64,
    /// The write-ahead log.
    pub wal: LogStats,
}

impl Statistics {
    /// Returns the bytes of all tables.
    pub fn table_bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum()
    }

    /// Returns how many bytes went to the disk (log, flushes, compactions) for each byte written by the user.
    pub fn write_amplification(&self) -> f64 {
        let written = self.wal.bytes + self.flush_bytes + self.compaction_bytes_written;
        if self.write_bytes == 0 { 0.0 } else { written as f64 / self.write_bytes as f64 }
    }

    /// Returns the bytes of all tables over those of the last level, an upper estimate of space amplification.
    pub fn space_amplification(&self) -> f64 {
        let last = self.levels.iter().rev().map(|level| level.bytes).find(|bytes| *bytes > 0);
        last.map_or(0.0, |last| self.table_bytes() as f64 / last as f64)
    }

    /// Returns in how many places a get may have to look: memtables, level-0 tables, and one table of each level below.
    pub fn read_amplification(&self) -> u64 {
        let below = self.levels.iter().skip(1).filter(|level| level.files > 0).count() as u64;
        1 + self.immutable_memtables + self.levels.first().map_or(0, |level| level.files) + below
    }
}

impl Statistics {
    /// Returns everything as Prometheus text (format 0.0.4); names begin with `aidb_engine_`.
    pub fn to_prometheus(&self) -> String {
        let mut text = Exposition::new("aidb_engine");
        self.show_data(&mut text);
        self.show_writes(&mut text);
        self.show_background(&mut text);
        text.into_text()
    }

    fn show_data(&self, text: &mut Exposition) {
        let mut levels = |name, help, of: fn(&LevelStatistics) -> u64| {
            text.labelled((Kind::Gauge, name, help), "level", self.levels.iter().map(of).enumerate());
        };
        levels("level_files", "Tables of a level.", |level| level.files);
        levels("level_bytes", "Bytes of a level.", |level| level.bytes);
        levels("level_entries", "Entries of a level.", |level| level.entries);
        levels("level_tombstones", "Tombstones of a level.", |level| level.tombstones);
        levels("level_range_tombstones", "Range tombstones of a level.", |level| level.range_tombstones);
        text.gauge("keyspaces", "Keyspaces beside the default one.", self.keyspaces as f64);
        text.gauge("visible_seq", "Newest sequence number that readers see.", self.visible_seq.0 as f64);
        text.gauge("memtable_bytes", "Bytes of the memtables being written.", self.memtable_bytes as f64);
        text.gauge("immutable_memtables", "Memtables that wait for their flush.", self.immutable_memtables as f64);
        text.gauge("immutable_memtable_bytes", "Bytes of these.", self.immutable_memtable_bytes as f64);
        text.gauge("snapshots", "Live snapshots.", self.snapshots as f64);
        text.gauge("read_amplification", "Places where a get may have to look.", self.read_amplification() as f64);
        text.gauge("space_amplification", "Bytes of all tables over the last level's.", self.space_amplification());
        text.counter("cache_hits_total", "Blocks found in the cache.", self.cache_hits);
        text.counter("cache_misses_total", "Blocks read from tables.", self.cache_misses);
        text.gauge("cache_bytes", "Bytes in the cache.", self.cache_bytes as f64);
        text.counter("filter_hits_total", "Table lookups that a filter saved.", self.filter_hits);
        text.counter("filter_misses_total", "Table lookups that found nothing.", self.filter_misses);
    }

    fn show_writes(&self, text: &mut Exposition) {
        text.counter("write_groups_total", "Commit groups.", self.write_groups);
        text.counter("write_batches_total", "Batches committed.", self.write_batches);
        text.counter("write_operations_total", "Operations committed.", self.write_operations);
        text.counter("write_bytes_total", "Bytes of committed operations.", self.write_bytes);
        text.gauge("write_amplification", "Bytes written to the disk for each of these.", self.write_amplification());
        text.counter("stall_delays_total", "Groups slowed down.", self.stall_delays);
        text.gauge("stall_delay_seconds", "Time that these lost.", self.stall_delay_time.as_secs_f64());
        text.counter("stall_stops_total", "Groups stopped.", self.stall_stops);
        text.gauge("stall_stop_seconds", "Time that these lost.", self.stall_stop_time.as_secs_f64());
        text.counter("wal_frames_total", "Frames appended to the log.", self.wal.appends);
        text.counter("wal_bytes_total", "Bytes of these.", self.wal.bytes);
        text.counter("wal_writes_total", "Writes of the log handed to the operating system.", self.wal.writes);
        text.counter("wal_syncs_total", "Syncs of the log.", self.wal.syncs);
    }

    fn show_background(&self, text: &mut Exposition) {
        text.counter("flushes_total", "Memtables flushed.", self.flushes);
        text.counter("flush_bytes_total", "Bytes of the tables they became.", self.flush_bytes);
        text.counter("compactions_total", "Compactions that rewrote tables.", self.compactions);
        text.counter("compaction_moves_total", "Compactions that only moved tables.", self.compaction_moves);
        text.counter("compaction_read_bytes_total", "Bytes that compactions read.", self.compaction_bytes_read);
        text.counter("compaction_written_bytes_total", "Bytes that they wrote.", self.compaction_bytes_written);
        text.counter("compaction_dropped_entries_total", "Entries they dropped.", self.compaction_entries_dropped);
        text.counter("background_errors_total", "Flushes and compactions that failed.", self.background_errors);
        text.counter("files_deleted_total", "Obsolete files deleted.", self.files_deleted);
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1048576.0;
        writeln!(f, "level  files        MiB      entries   tombstones")?;
        for (number, level) in self.levels.iter().enumerate() {
            let mib = level.bytes as f64 / MIB;
            writeln!(
                f,
                "{number:>5}  {:>5}  {mib:>9.2}  {:>11}  {:>11}",
                level.files, level.entries, level.tombstones
            )?;
        }
        let memtables = (self.memtable_bytes + self.immutable_memtable_bytes) as f64 / MIB;
        writeln!(f, "memtables: {} with {memtables:.2} MiB", 1 + self.immutable_memtables)?;
        writeln!(
            f,
            "writes: {} operations in {} batches in {} groups, {:.2} MiB",
            self.write_operations,
            self.write_batches,
            self.write_groups,
            self.write_bytes as f64 / MIB
        )?;
        writeln!(
            f,
            "stalls: {} slowed by {:?}, {} stopped for {:?}",
            self.stall_delays, self.stall_delay_time, self.stall_stops, self.stall_stop_time
        )?;
        writeln!(f, "flushes: {}, {:.2} MiB", self.flushes, self.flush_bytes as f64 / MIB)?;
        writeln!(
            f,
            "compactions: {} and {} moves, read {:.2} MiB, wrote {:.2} MiB, dropped {} entries",
            self.compactions,
            self.compaction_moves,
            self.compaction_bytes_read as f64 / MIB,
            self.compaction_bytes_written as f64 / MIB,
            self.compaction_entries_dropped
        )?;
        writeln!(
            f,
            "reads: cache {} hits, {} misses; filter {} hits, {} misses",
            self.cache_hits, self.cache_misses, self.filter_hits, self.filter_misses
        )?;
        writeln!(
            f,
            "log: {} frames, {:.2} MiB, {} syncs",
            self.wal.appends,
            self.wal.bytes as f64 / MIB,
            self.wal.syncs
        )?;
        write!(
            f,
            "amplification: write {:.2}, space {:.2}, read {}",
            self.write_amplification(),
            self.space_amplification(),
            self.read_amplification()
        )?;
        match &self.background_error {
            Some(error) => write!(f, "\nbackground error: {error}"),
            None => Ok(()),
        }
    }
}

/// Adds up the levels of several keyspaces.
pub(super) fn sum_levels(trees: impl Iterator<Item = Vec<LevelStatistics>>) -> Vec<LevelStatistics> {
    let mut sums: Vec<LevelStatistics> = Vec::new();
    for tree in trees {
        sums.resize(sums.len().max(tree.len()), LevelStatistics::default());
        for (sum, level) in sums.iter_mut().zip(tree) {
            sum.files += level.files;
            sum.bytes += level.bytes;
            sum.entries += level.entries;
            sum.tombstones += level.tombstones;
            sum.range_tombstones += level.range_tombstones;
        }
    }
    sums
}

impl<E: Env> Core<E> {
    /// Reads every counter.
    pub(super) fn statistics(&self) -> Statistics {
        let counters = &self.counters;
        let (trees, background_error): (Vec<_>, _) = {
            let state = self.state.lock();
            let trees = state.trees.values().map(|of| of.tree.current()).collect();
            let error = state.poisoned.as_ref().or(state.flush_error.as_ref()).or(state.compaction_error.as_ref());
            (trees, error.map(ToString::to_string))
        };
        let full = || trees.iter().flat_map(|tree| &tree.immutables);
        Statistics {
            levels: sum_levels(trees.iter().map(|tree| tree.version.level_statistics())),
            keyspaces: trees.len() as u64 - 1,
            visible_seq: self.visible(),
            memtable_bytes: trees.iter().map(|tree| tree.memtable.bytes() as u64).sum(),
            immutable_memtables: full().count() as u64,
            immutable_memtable_bytes: full().map(|full| full.memtable.bytes() as u64).sum(),
            snapshots: self.snapshots.len(),
            write_groups: counters.write_groups.get(),
            write_batches: counters.write_batches.get(),
            write_operations: counters.write_operations.get(),
            write_bytes: counters.write_bytes.get(),
            stall_delays: counters.stall_delays.get(),
            stall_delay_time: Duration::from_nanos(counters.stall_delay_nanos.get()),
            stall_stops: counters.stall_stops.get(),
            stall_stop_time: Duration::from_nanos(counters.stall_stop_nanos.get()),
            flushes: counters.flushes.get(),
            flush_bytes: counters.flush_bytes.get(),
            compactions: counters.compactions.get(),
            compaction_moves: counters.compaction_moves.get(),
            compaction_bytes_read: counters.compaction_bytes_read.get(),
            compaction_bytes_written: counters.compaction_bytes_written.get(),
            compaction_entries_dropped: counters.compaction_entries_dropped.get(),
            background_errors: counters.background_errors.get(),
            background_error,
            cache_hits: self.cache.hits(),
            cache_misses: self.cache.misses(),
            cache_bytes: self.cache.bytes(),
            filter_hits: counters.filter_hits.get(),
            filter_misses: counters.filter_misses.get(),
            files_deleted: counters.files_deleted.get(),
            wal: self.log.stats(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::exposition::parsed;

    #[test]
    fn amplification_of_nothing_is_defined() {
        let empty = Statistics::default();
        assert_eq!(
            (empty.write_amplification(), empty.space_amplification(), empty.read_amplification()),
            (0.0, 0.0, 1)
        );
        assert!(empty.to_string().contains("amplification"));
    }

    #[test]
    fn prometheus_text_is_valid_and_says_the_same() {
        let level = |files| LevelStatistics { files, ..LevelStatistics::default() };
        let statistics = Statistics { levels: vec![level(2), level(9)], flushes: 5, ..Statistics::default() };
        let values = parsed(&statistics.to_prometheus());
        assert_eq!(values["aidb_engine_level_files{level=\"1\"}"], 9.0);
        assert_eq!((values["aidb_engine_flushes_total"], values["aidb_engine_compactions_total"]), (5.0, 0.0));
    }

    #[test]
    fn amplification_counts_every_place() {
        let level = |files, bytes| LevelStatistics { files, bytes, ..LevelStatistics::default() };
        let statistics = Statistics {
            levels: vec![level(2, 50), level(0, 0), level(3, 100)],
            immutable_memtables: 1,
            write_bytes: 100,
            flush_bytes: 150,
            ..Statistics::default()
        };
        assert_eq!(statistics.read_amplification(), 5);
        assert_eq!(statistics.space_amplification(), 1.5);
        assert_eq!(statistics.write_amplification(), 1.5);
    }
}
