//! What the log says of itself, second by second: [`Meter`], which checks that it can be true.
//!
//! Counters never go back, add up, and agree with what this process was told: every acknowledged record is one that was
//! flushed, and at the end, with nothing under way, each appended record is acknowledged or was refused.

use aidb::aof::{Aof, FlushControllerMetrics, PerformanceMetrics};

/// How many numbers [`Meter::numbers`] has.
pub(crate) const NUMBERS: usize = 12;

/// The last look at the counters of one process.
#[derive(Default)]
pub(crate) struct Meter {
    flushes: FlushControllerMetrics,
    rest: PerformanceMetrics,
}

fn of_flushes(metrics: &FlushControllerMetrics) -> [(&'static str, u64); 12] {
    [
        ("total_flushes", metrics.total_flushes),
        ("successful_flushes", metrics.successful_flushes),
        ("failed_flushes", metrics.failed_flushes),
        ("forced_flushes", metrics.forced_flushes),
        ("sync_flushes", metrics.sync_flushes),
        ("batched_flushes", metrics.batched_flushes),
        ("periodic_flushes", metrics.periodic_flushes),
        ("roll_flushes", metrics.roll_flushes),
        ("records_flushed", metrics.records_flushed),
        ("bytes_flushed", metrics.bytes_flushed),
        ("flush_time_total", metrics.flush_time_total.as_nanos() as u64),
        ("flush_time_longest", metrics.flush_time_longest.as_nanos() as u64),
    ]
}

fn of_rest(metrics: &PerformanceMetrics) -> [(&'static str, u64); 17] {
    [
        ("uptime", metrics.uptime.as_nanos() as u64),
        ("records_appended", metrics.records_appended),
        ("bytes_appended", metrics.bytes_appended),
        ("pressure_waits", metrics.pressure_waits),
        ("would_block", metrics.would_block),
        ("background_errors", metrics.background_errors),
        ("writes", metrics.writes),
        ("syncs", metrics.syncs),
        ("segments_created", metrics.segments_created),
        ("segments_finalised", metrics.segments_finalised),
        ("segments_recycled", metrics.segments_recycled),
        ("segments_archived", metrics.segments_archived),
        ("archived_bytes", metrics.archived_bytes),
        ("archive_attempts_abandoned", metrics.archive_attempts_abandoned),
        ("segments_deleted_locally", metrics.segments_deleted_locally),
        ("segments_deleted_remotely", metrics.segments_deleted_remotely),
        ("cache_hits + cache_misses", metrics.cache_hits + metrics.cache_misses),
    ]
}

impl Meter {
    /// Looks at the counters of `aof`, after `acknowledged` records were; returns what cannot be.
    pub(crate) fn look(&mut self, aof: &Aof, acknowledged: u64) -> Vec<String> {
        // In this order: what was flushed was appended before.
        let flushes = aof.flush_metrics();
        let rest = aof.performance_metrics();
        let mut wrong = Vec::new();
        let before = of_flushes(&self.flushes).into_iter().chain(of_rest(&self.rest));
        for ((name, before), (_, now)) in before.zip(of_flushes(&flushes).into_iter().chain(of_rest(&rest))) {
            if now < before {
                wrong.push(format!("{name} went back from {before} to {now}"));
            }
        }
        let causes = flushes.forced_flushes
            + flushes.sync_flushes
            + flushes.batched_flushes
            + flushes.periodic_flushes
            + flushes.roll_flushes
            + flushes.close_flushes;
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{what}: {acknowledged} acknowledged, {flushes:?}, {rest:?}"));
            }
        };
        must(flushes.total_flushes == flushes.successful_flushes + flushes.failed_flushes, "flushes do not add up");
        must(flushes.total_flushes == causes, "flushes by cause do not add up");
        must(flushes.failed_flushes == 0, "a flush failed");
        must(flushes.flush_nanos.count() == flushes.successful_flushes, "a flush is missing in the histogram");
        must(flushes.flush_time_shortest <= flushes.flush_time_longest, "the shortest flush is not the shortest");
        must(flushes.records_flushed >= acknowledged, "a record was acknowledged before it was flushed");
        must(rest.records_appended >= flushes.records_flushed, "a record was flushed before it was appended");
        must(rest.segments_created == rest.segments_finalised + 1, "one segment is being written");
        (self.flushes, self.rest) = (flushes, rest);
        wrong
    }

    /// As [`look`](Self::look) when nothing is under way any more, after `refused` records whose outcome nobody told.
    pub(crate) fn look_at_end(&mut self, aof: &Aof, acknowledged: u64, refused: u64) -> Vec<String> {
        let mut wrong = self.look(aof, acknowledged);
        let appended = self.rest.records_appended;
        if !(acknowledged..=acknowledged + refused).contains(&appended) {
            wrong.push(format!("{appended} records were appended, {acknowledged} acknowledged, {refused} refused"));
        }
        if (self.flushes.records_flushed, self.flushes.pending_records, self.flushes.pending_bytes) != (appended, 0, 0)
        {
            wrong.push(format!("of {appended} records not all are flushed: {:?}", self.flushes));
        }
        wrong
    }

    /// Returns what is added up over processes: flushes, by forced, batched, periodic, roll; records; bytes; nanoseconds; segments
    /// archived, attempts abandoned, objects deleted; cache hits, misses.
    pub(crate) fn numbers(&self) -> [u64; NUMBERS] {
        let (flushes, rest) = (&self.flushes, &self.rest);
        [
            flushes.total_flushes,
            flushes.forced_flushes,
            flushes.batched_flushes,
            flushes.periodic_flushes,
            flushes.records_flushed,
            flushes.bytes_flushed,
            flushes.flush_time_total.as_nanos() as u64,
            rest.segments_archived,
            rest.archive_attempts_abandoned,
            rest.segments_deleted_remotely,
            rest.cache_hits,
            rest.cache_misses,
        ]
    }

    /// Returns a line on how long flushes took.
    pub(crate) fn times(&self) -> String {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let nanos = &self.flushes.flush_nanos;
        let longest = self.flushes.flush_time_longest;
        format!(
            "flushes of the last child: {} of {:.1} records and {:.1} KB each; median {:.2} ms, 99% within {:.2} ms, longest {:.0} ms",
            nanos.count(),
            self.flushes.records_flushed as f64 / nanos.count().max(1) as f64,
            self.flushes.bytes_flushed as f64 / 1e3 / nanos.count().max(1) as f64,
            ms(nanos.percentile(50.0)),
            ms(nanos.percentile(99.0)),
            longest.as_secs_f64() * 1e3
        )
    }
}

/// Returns what the [`numbers`](Meter::numbers) of all processes say together.
pub(crate) fn sum_line(sums: &[u64; NUMBERS], looks: u64) -> String {
    let [total, forced, batched, periodic, records, bytes, nanos, archived, abandoned, deleted, hits, misses] = *sums;
    format!(
        "counters, looked at {looks} times, add up and never went back: {total} flushes ({forced} forced, {batched} batched, \
         {periodic} periodic) of {records} records, {:.1} MB, {:.1} s; {archived} segments archived, {abandoned} attempts \
         abandoned, {deleted} objects deleted; {hits} cache hits, {misses} misses",
        bytes as f64 / 1e6,
        nanos as f64 / 1e9,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidb::aof::AofConfig;
    use aidb::env::StdEnv;

    #[test]
    fn true_counters_pass_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (aof, _) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
        let mut meter = Meter::default();
        for acknowledged in 0..10 {
            assert_eq!(meter.look(&aof, acknowledged), Vec::<String>::new());
            aof.append_sync(b"record").unwrap();
        }
        assert!(meter.look(&aof, 11)[0].contains("acknowledged before it was flushed"));
        assert_eq!(meter.look_at_end(&aof, 10, 0), Vec::<String>::new());
        assert_eq!(meter.look_at_end(&aof, 8, 2), Vec::<String>::new());
        assert!(meter.look_at_end(&aof, 8, 1)[0].contains("10 records were appended"));
        drop(aof.append(b"not yet").unwrap());
        assert!(!meter.look_at_end(&aof, 10, 1).is_empty());
        meter.rest.writes += 100;
        assert!(meter.look(&aof, 10)[0].contains("writes went back"));
        assert_eq!(meter.numbers()[4], 10);
        aof.close().unwrap();
    }
}
