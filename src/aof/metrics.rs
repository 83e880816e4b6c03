//! What a log counts: [`FlushStats`], kept by the log core, and the snapshots handed to callers.
//!
//! The leader of a flush records it once, under a lock of its own that nobody holds for long; appending threads never come
//! here. A *flush* is one sync with the write before it: of a group, of a segment that ends, of a close.
//!
//! **Invariants:** `total == successful + failed` and `total` is the sum over the causes; `shortest <= longest`; each
//! histogram holds one value for each successful flush. Sums are exact; histograms keep three digits.

use crate::env::{Env, Mutex};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why a flush was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlushCause {
    /// A caller asked for it, or waited for a record under a strategy that would have waited longer.
    Forced,
    /// Under [`FlushStrategy::Sync`](super::FlushStrategy::Sync): somebody appended.
    Sync,
    /// So many records or bytes waited.
    Batched,
    /// Something waited for so long.
    Periodic,
    /// A segment ended.
    Roll,
    /// The log was closed.
    Close,
}

const CAUSES: usize = 6;

/// One flush, as its leader saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushSample {
    /// Why it was made.
    pub cause: FlushCause,
    /// Whether what it covered is durable now.
    pub ok: bool,
    /// Records that became durable by it.
    pub records: u64,
    /// Bytes of frames that became durable by it.
    pub bytes: u64,
    /// How long the write and the sync took.
    pub time: Duration,
}

/// The flushes of one log.
pub struct FlushStats<E: Env> {
    counts: Mutex<E, Counts>,
    /// Records that became durable.
    records: AtomicU64,
}

struct Counts {
    by_cause: [u64; CAUSES],
    failed: u64,
    records: u64,
    bytes: u64,
    total: Duration,
    longest: Duration,
    shortest: Option<Duration>,
    nanos_each: Histogram<u32>,
    records_each: Histogram<u32>,
    bytes_each: Histogram<u32>,
}

/// Three digits over the whole range, in memory that grows with the largest value seen: 8 KiB for values to 2,047, 4 KiB more
/// for each doubling.
fn histogram() -> Histogram<u32> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"))
}

impl<E: Env> Default for FlushStats<E> {
    fn default() -> FlushStats<E> {
        FlushStats {
            records: AtomicU64::new(0),
            counts: Mutex::<E, _>::new(Counts {
                by_cause: [0; CAUSES],
                failed: 0,
                records: 0,
                bytes: 0,
                total: Duration::ZERO,
                longest: Duration::ZERO,
                shortest: None,
                nanos_each: histogram(),
                records_each: histogram(),
                bytes_each: histogram(),
            }),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<E: Env> FlushStats<E> {
    /// Counts one flush.
    pub fn record(&self, sample: &FlushSample) {
        let counts = &mut *self.counts.lock();
        counts.by_cause[sample.cause as usize] += 1;
        if !sample.ok {
            counts.failed += 1;
            return;
        }
        counts.records += sample.records;
        self.records.store(counts.records, Ordering::Release);
        counts.bytes += sample.bytes;
        counts.total += sample.time;
        counts.longest = counts.longest.max(sample.time);
        counts.shortest = Some(counts.shortest.map_or(sample.time, |shortest| shortest.min(sample.time)));
        let each = [
            (&mut counts.nanos_each, nanos(sample.time)),
            (&mut counts.records_each, sample.records),
            (&mut counts.bytes_each, sample.bytes),
        ];
        for (histogram, value) in each {
            // It grows as needed, to any value of 64 bits.
            let _ = histogram.record(value);
        }
    }

    /// Returns how many records became durable.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    /// Returns the counters. What waits and the rates are filled in by the caller, who knows the log's end and the clock.
    pub fn snapshot(&self) -> FlushControllerMetrics {
        let counts = self.counts.lock();
        let of = |cause: FlushCause| counts.by_cause[cause as usize];
        let total_flushes = counts.by_cause.iter().sum();
        assert!(counts.failed <= total_flushes, "a failed flush is a flush");
        FlushControllerMetrics {
            total_flushes,
            successful_flushes: total_flushes - counts.failed,
            failed_flushes: counts.failed,
            forced_flushes: of(FlushCause::Forced),
            sync_flushes: of(FlushCause::Sync),
            batched_flushes: of(FlushCause::Batched),
            periodic_flushes: of(FlushCause::Periodic),
            roll_flushes: of(FlushCause::Roll),
            close_flushes: of(FlushCause::Close),
            records_flushed: counts.records,
            bytes_flushed: counts.bytes,
            flush_time_total: counts.total,
            flush_time_longest: counts.longest,
            flush_time_shortest: counts.shortest.unwrap_or_default(),
            flush_nanos: Distribution::of(&counts.nanos_each, counts.total.as_nanos()),
            flush_records: Distribution::of(&counts.records_each, counts.records.into()),
            flush_bytes: Distribution::of(&counts.bytes_each, counts.bytes.into()),
            ..FlushControllerMetrics::default()
        }
    }
}

/// The flushes of a log since it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlushControllerMetrics {
    /// All of them.
    pub total_flushes: u64,
    /// Those after which what they covered was durable.
    pub successful_flushes: u64,
    /// Those that failed; the log refuses writes after the first.
    pub failed_flushes: u64,
    /// By [`FlushCause::Forced`].
    pub forced_flushes: u64,
    /// By [`FlushCause::Sync`].
    pub sync_flushes: u64,
    /// By [`FlushCause::Batched`].
    pub batched_flushes: u64,
    /// By [`FlushCause::Periodic`].
    pub periodic_flushes: u64,
    /// By [`FlushCause::Roll`].
    pub roll_flushes: u64,
    /// By [`FlushCause::Close`].
    pub close_flushes: u64,
    /// Records that became durable.
    pub records_flushed: u64,
    /// Bytes of frames that became durable.
    pub bytes_flushed: u64,
    /// Records that were appended and are not durable.
    pub pending_records: u64,
    /// Bytes of frames that were appended and are not durable.
    pub pending_bytes: u64,
    /// Time of all successful flushes together.
    pub flush_time_total: Duration,
    /// Time of the longest one.
    pub flush_time_longest: Duration,
    /// Time of the shortest one; zero if there was none.
    pub flush_time_shortest: Duration,
    /// Records that became durable a second since the log was opened.
    pub records_per_second: f64,
    /// Bytes that became durable a second since the log was opened.
    pub bytes_per_second: f64,
    /// Nanoseconds a flush.
    pub flush_nanos: Distribution,
    /// Records a flush.
    pub flush_records: Distribution,
    /// Bytes a flush.
    pub flush_bytes: Distribution,
}

/// How values are spread; percentiles keep three digits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    histogram: Option<Histogram<u32>>,
    sum: u128,
}

impl Distribution {
    fn of(histogram: &Histogram<u32>, sum: u128) -> Distribution {
        Distribution { histogram: (!histogram.is_empty()).then(|| histogram.clone()), sum }
    }

    /// Returns how many values there are.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// Returns the exact sum of the values.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// Returns the exact mean, or 0 of no values.
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    /// Returns the value that `percentile` (0 to 100) of all values do not exceed, or 0 of no values.
    pub fn percentile(&self, percentile: f64) -> u64 {
        self.histogram.as_ref().map_or(0, |histogram| histogram.value_at_percentile(percentile))
    }

    /// Returns the smallest value, or 0 of no values.
    pub fn min(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::min)
    }

    /// Returns the largest value, or 0 of no values.
    pub fn max(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::StdEnv;

    fn sample(cause: FlushCause, ok: bool, records: u64, nanos: u64) -> FlushSample {
        FlushSample { cause, ok, records, bytes: records * 48, time: Duration::from_nanos(nanos) }
    }

    #[test]
    fn counters_are_exact_and_percentiles_keep_three_digits() {
        let stats = FlushStats::<StdEnv>::default();
        assert_eq!(stats.snapshot(), FlushControllerMetrics::default());
        for nanos in 1..=1000 {
            stats.record(&sample(FlushCause::Batched, true, 10, nanos * 1000));
        }
        stats.record(&sample(FlushCause::Periodic, true, 1, 500_000));
        stats.record(&sample(FlushCause::Forced, false, 99, 1));
        let metrics = stats.snapshot();
        assert_eq!((metrics.total_flushes, metrics.successful_flushes, metrics.failed_flushes), (1002, 1001, 1));
        assert_eq!((metrics.batched_flushes, metrics.periodic_flushes, metrics.forced_flushes), (1000, 1, 1));
        assert_eq!((metrics.records_flushed, metrics.bytes_flushed), (10_001, 10_001 * 48));
        assert_eq!(metrics.flush_time_total, Duration::from_micros(500_500 + 500));
        assert_eq!(metrics.flush_time_longest, Duration::from_millis(1));
        assert_eq!(metrics.flush_time_shortest, Duration::from_micros(1));
        assert_eq!(metrics.flush_records.percentile(50.0), 10);
        assert_eq!((metrics.flush_records.min(), metrics.flush_records.max()), (1, 10));
        for percentile in [1.0, 50.0, 90.0, 99.0, 99.9] {
            let (got, want) = (metrics.flush_nanos.percentile(percentile) as f64, percentile * 10_000.0);
            assert!((got - want).abs() <= want * 0.002 + 1000.0, "{percentile}: {got}, not {want}");
        }
        assert_eq!((metrics.flush_nanos.count(), metrics.flush_nanos.sum()), (1001, 501_000_000));
    }
}
