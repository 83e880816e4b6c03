//! What a store says of itself: flush and performance counters, and both as Prometheus text.
//!
//! Any thread; a snapshot takes each counter by itself, so that those of a busy store need not agree to the last record. With
//! nothing under way they are exact.

use super::super::metrics::{Distribution, FlushControllerMetrics};
use super::{Aof, Shared};
use crate::base::exposition::{Exposition, Kind};
use crate::env::Env;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a store has done since it was opened, flushes aside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PerformanceMetrics {
    /// Time since the store was opened.
    pub uptime: Duration,
    /// Records appended.
    pub records_appended: u64,
    /// Bytes of frames appended: records with their lengths, headers, padding.
    pub bytes_appended: u64,
    /// Records appended a second.
    pub records_per_second: f64,
    /// Bytes of frames appended a second.
    pub bytes_per_second: f64,
    /// Bytes of frames for each record.
    pub average_record_bytes: f64,
    /// Appends that waited for room.
    pub pressure_waits: u64,
    /// Appends that were refused with [`AofError::WouldBlock`](super::super::AofError::WouldBlock).
    pub would_block: u64,
    /// Errors of background work.
    pub background_errors: u64,
    /// Writes handed to the operating system.
    pub writes: u64,
    /// Data syncs.
    pub syncs: u64,
    /// Segments begun, the one at open among them.
    pub segments_created: u64,
    /// Segments ended.
    pub segments_finalised: u64,
    /// Segments written over the file of an old one.
    pub segments_recycled: u64,
    /// Segments archived.
    pub segments_archived: u64,
    /// Bytes of their objects.
    pub archived_bytes: u64,
    /// Segments sealed and not archived, with an archive.
    pub segments_unarchived: u64,
    /// Uploads given up and begun anew.
    pub archive_attempts_abandoned: u64,
    /// Local files removed after archiving.
    pub segments_deleted_locally: u64,
    /// Objects removed because their records are no longer kept.
    pub segments_deleted_remotely: u64,
    /// Cursors at the moment.
    pub cursors: u64,
    /// Segments open for reading at the moment.
    pub open_segments: u64,
    /// Segments that were open when a cursor asked for them, and blocks of archived segments found in memory.
    pub cache_hits: u64,
    /// Segments that had to be opened, and blocks that had to be fetched.
    pub cache_misses: u64,
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

impl<E: Env> Aof<E> {
    /// Returns the counters of flushes.
    pub fn flush_metrics(&self) -> FlushControllerMetrics {
        let shared = &self.shared;
        let metrics = shared.log.flushes().snapshot();
        // Taken later: what waits is never counted below zero.
        let (end, next_id) = shared.log.position();
        let uptime = shared.env.now().since(shared.opened);
        FlushControllerMetrics {
            pending_records: next_id - shared.opened_id - metrics.records_flushed,
            pending_bytes: end.0.saturating_sub(shared.log.durable().0),
            records_per_second: rate(metrics.records_flushed, uptime),
            bytes_per_second: rate(metrics.bytes_flushed, uptime),
            ..metrics
        }
    }

    /// Returns all other counters.
    pub fn performance_metrics(&self) -> PerformanceMetrics {
        self.shared.performance()
    }

    /// Returns all counters in the text format of Prometheus, version 0.0.4. Names begin with `aidb_aof_`; labels are left to
    /// the one who serves it.
    pub fn prometheus(&self) -> String {
        let mut text = Text(Exposition::new("aidb_aof"));
        text.flushes(&self.flush_metrics());
        text.performance(&self.performance_metrics());
        text.0.gauge("first_id", "Oldest record that is shown.", self.first_id() as f64);
        text.0.gauge("next_id", "Id that the next record gets.", self.next_id() as f64);
        text.0.gauge("durable_id", "Id after the last durable record.", self.durable_id() as f64);
        text.0.into_text()
    }
}

impl<E: Env> Shared<E> {
    fn performance(&self) -> PerformanceMetrics {
        let (log, archive, readers) = (self.log.stats(), self.archive.stats(), self.readers.stats());
        let blocks = self.archive.cache_stats();
        let uptime = self.env.now().since(self.opened);
        let records_appended = self.log.next_id() - self.opened_id;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        PerformanceMetrics {
            uptime,
            records_appended,
            bytes_appended: log.bytes,
            records_per_second: rate(records_appended, uptime),
            bytes_per_second: rate(log.bytes, uptime),
            average_record_bytes: if records_appended == 0 { 0.0 } else { log.bytes as f64 / records_appended as f64 },
            pressure_waits: count(&self.counters.pressure_waits),
            would_block: count(&self.counters.would_block),
            background_errors: self.errors.total(),
            writes: log.writes,
            syncs: log.syncs,
            segments_created: log.rolls + 1,
            segments_finalised: log.rolls,
            segments_recycled: log.recycled,
            segments_archived: archive.archived,
            archived_bytes: archive.archived_bytes,
            segments_unarchived: self.archive.unarchived_if_any(&self.log),
            archive_attempts_abandoned: archive.abandoned,
            segments_deleted_locally: archive.local_deleted,
            segments_deleted_remotely: archive.remote_deleted,
            cursors: readers.cursors as u64,
            open_segments: readers.segments as u64,
            cache_hits: readers.hits + blocks.hits,
            cache_misses: readers.misses + blocks.misses,
        }
    }
}

/// The store's metrics as Prometheus text.
struct Text(Exposition);

impl Text {
    fn labelled(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.0.labelled((Kind::Counter, name, help), label, values.iter().copied());
    }

    fn summary(&mut self, name: &str, help: &str, of: &Distribution, unit: f64) {
        let at = |quantile| (quantile, of.percentile(quantile * 100.0) as f64 / unit);
        self.0.summary(name, help, &[0.5, 0.9, 0.99, 0.999].map(at), of.sum() as f64 / unit, of.count());
    }

    fn flushes(&mut self, of: &FlushControllerMetrics) {
        let causes = [
            ("forced", of.forced_flushes),
            ("sync", of.sync_flushes),
            ("batched", of.batched_flushes),
            ("periodic", of.periodic_flushes),
            ("roll", of.roll_flushes),
            ("close", of.close_flushes),
        ];
        self.labelled("flushes_total", "Flushes by cause.", "cause", &causes);
        self.0.counter("flushes_failed_total", "Flushes that failed.", of.failed_flushes);
        self.0.counter("flushed_records_total", "Records made durable.", of.records_flushed);
        self.0.counter("flushed_bytes_total", "Bytes of frames made durable.", of.bytes_flushed);
        self.0.gauge("pending_records", "Records appended and not durable.", of.pending_records as f64);
        self.0.gauge("pending_bytes", "Bytes of frames appended and not durable.", of.pending_bytes as f64);
        self.summary("flush_seconds", "Time of a flush.", &of.flush_nanos, 1e9);
        self.summary("flush_records", "Records a flush.", &of.flush_records, 1.0);
        self.summary("flush_bytes", "Bytes a flush.", &of.flush_bytes, 1.0);
    }

    fn performance(&mut self, of: &PerformanceMetrics) {
        self.0.counter("appended_records_total", "Records appended.", of.records_appended);
        self.0.counter("appended_bytes_total", "Bytes of frames appended.", of.bytes_appended);
        self.0.counter("pressure_waits_total", "Appends that waited for room.", of.pressure_waits);
        self.0.counter("would_block_total", "Appends refused for want of room.", of.would_block);
        self.0.counter("background_errors_total", "Errors of background work.", of.background_errors);
        self.0.counter("writes_total", "Writes handed to the operating system.", of.writes);
        self.0.counter("syncs_total", "Data syncs.", of.syncs);
        let segments = [
            ("created", of.segments_created),
            ("finalised", of.segments_finalised),
            ("recycled", of.segments_recycled),
            ("archived", of.segments_archived),
            ("deleted_locally", of.segments_deleted_locally),
            ("deleted_remotely", of.segments_deleted_remotely),
        ];
        self.labelled("segments_total", "Segments by what became of them.", "event", &segments);
        self.0.gauge("segments_unarchived", "Segments sealed and not archived.", of.segments_unarchived as f64);
        self.0.counter("archived_bytes_total", "Bytes of archived objects.", of.archived_bytes);
        self.0.counter("archive_attempts_abandoned_total", "Uploads given up.", of.archive_attempts_abandoned);
        self.0.gauge("cursors", "Cursors.", of.cursors as f64);
        self.0.gauge("open_segments", "Segments open for reading.", of.open_segments as f64);
        self.0.counter("cache_hits_total", "Segments found open and blocks found in memory.", of.cache_hits);
        self.0.counter("cache_misses_total", "Segments opened and blocks fetched.", of.cache_misses);
        self.0.gauge("uptime_seconds", "Time since the store was opened.", of.uptime.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::test_env::TestEnv;
    use super::super::{AofConfig, FlushStrategy};
    use super::*;
    use crate::base::exposition::parsed;

    fn store(env: &TestEnv) -> Aof<TestEnv> {
        let config = AofConfig {
            flush_strategy: FlushStrategy::Batched(1 << 20),
            segment_bytes: 64 << 10,
            background_interval: Duration::from_secs(3600),
            preallocate: false,
            ..AofConfig::default()
        };
        Aof::open(env.clone(), "aof", config).unwrap().0
    }

    #[test]
    fn counters_are_exact_by_a_clock_moved_by_hand() {
        let env = TestEnv::default();
        let aof = store(&env);
        // A frame of a record of 63 bytes: header, length, record.
        let frame = 40 + 64;
        for millis in 1..=10u64 {
            env.sync_takes(millis * 1_000_000);
            for _ in 0..millis {
                drop(aof.append(&[1; 63]).unwrap());
            }
            aof.flush().unwrap();
        }
        env.sync_takes(0);
        env.advance(45_000_000);
        drop(aof.append(&[1; 63]).unwrap());
        let flushes = aof.flush_metrics();
        assert_eq!((flushes.total_flushes, flushes.successful_flushes, flushes.forced_flushes), (10, 10, 10));
        assert_eq!((flushes.records_flushed, flushes.bytes_flushed), (55, 55 * frame));
        assert_eq!((flushes.pending_records, flushes.pending_bytes), (1, frame));
        assert_eq!(flushes.flush_time_total, Duration::from_millis(55));
        assert_eq!(flushes.flush_time_longest, Duration::from_millis(10));
        assert_eq!(flushes.flush_time_shortest, Duration::from_millis(1));
        // 55 records in 55 ms of syncs and 45 ms between.
        assert_eq!((flushes.records_per_second, flushes.bytes_per_second), (550.0, 550.0 * frame as f64));
        let records: Vec<u64> =
            [10.0, 50.0, 90.0, 100.0].iter().map(|percentile| flushes.flush_records.percentile(*percentile)).collect();
        assert_eq!(records, [1, 5, 9, 10]);
        let median = flushes.flush_nanos.percentile(50.0);
        assert!((4_995_000..=5_005_000).contains(&median), "{median}");
        assert_eq!((flushes.flush_nanos.mean(), flushes.flush_nanos.count()), (5_500_000.0, 10));
        let performance = aof.performance_metrics();
        assert_eq!((performance.records_appended, performance.bytes_appended), (56, 56 * frame));
        assert_eq!((performance.uptime, performance.records_per_second), (Duration::from_millis(100), 560.0));
        assert_eq!((performance.average_record_bytes, performance.syncs), (frame as f64, 10));
        assert_eq!((performance.segments_created, performance.segments_finalised), (1, 0));
        aof.close().unwrap();
    }

    #[test]
    fn prometheus_text_is_valid_and_says_the_same() {
        let env = TestEnv::default();
        let aof = store(&env);
        for _ in 0..200 {
            drop(aof.append(&[1; 1000]).unwrap());
        }
        aof.flush().unwrap();
        assert_eq!(aof.cursor(super::super::super::From::First).unwrap().count(), 200);
        let values = parsed(&aof.prometheus());
        assert_eq!(values["aidb_aof_appended_records_total"], 200.0);
        assert_eq!(values["aidb_aof_flushed_records_total"], 200.0);
        assert_eq!(values["aidb_aof_flush_records_sum"], 200.0);
        let rolls = aof.performance_metrics().segments_finalised;
        assert!(rolls >= 3);
        assert_eq!(values["aidb_aof_flushes_total{cause=\"roll\"}"], rolls as f64);
        assert_eq!(values["aidb_aof_segments_total{event=\"created\"}"], rolls as f64 + 1.0);
        assert!(values["aidb_aof_cache_misses_total"] >= rolls as f64);
        aof.close().unwrap();
    }
}
