//! What a run costs: latencies by the thread, processor time by the process.

use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NANOS_MAX: u64 = 600_000_000_000;
const PROGRESS_EVERY: u64 = 512;

/// Returns the processor time that all threads of this process have used.
pub(super) fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// An empty histogram of nanoseconds, 3 digits exact.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("constant bounds are valid")
}

/// What the threads of a workload share with the one that waits for them.
#[derive(Default)]
pub(super) struct Progress {
    done: AtomicU64,
    retries: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Notes an operation that has to be done again.
    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Asks every thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Times the operations of one thread. The end of one is the start of the next, so the clock is read once for each.
pub(super) struct Meter<'a> {
    progress: &'a Progress,
    entries_per_sample: u64,
    since_sample: u64,
    since_progress: u64,
    last: Instant,
    outcome: Outcome,
}

/// What one thread did.
pub(super) struct Outcome {
    /// Entries written or read, or questions answered.
    pub operations: u64,
    /// Bytes of keys and values that went in or came out.
    pub bytes: u64,
    /// Nanoseconds of each sample.
    pub latency: Histogram<u64>,
    /// When the thread was done.
    pub end: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn start(progress: &'a Progress, entries_per_sample: u64) -> Meter<'a> {
        let last = Instant::now();
        let outcome = Outcome { operations: 0, bytes: 0, latency: histogram(), end: last };
        Meter { progress, entries_per_sample, since_sample: 0, since_progress: 0, last, outcome }
    }

    /// Notes `entries` operations over `bytes` bytes; returns false once the thread is asked to end.
    #[inline]
    pub(super) fn tick(&mut self, entries: u64, bytes: u64) -> bool {
        self.outcome.operations += entries;
        self.outcome.bytes += bytes;
        self.since_sample += entries;
        if self.since_sample >= self.entries_per_sample {
            self.since_sample = 0;
            let now = Instant::now();
            let nanos = u64::try_from((now - self.last).as_nanos()).unwrap_or(NANOS_MAX);
            self.outcome.latency.saturating_record(nanos.max(1));
            self.last = now;
        }
        self.since_progress += entries;
        if self.since_progress >= PROGRESS_EVERY {
            self.progress.done.fetch_add(self.since_progress, Ordering::Relaxed);
            self.since_progress = 0;
            return !self.progress.stopped();
        }
        true
    }

    pub(super) fn finish(mut self) -> Outcome {
        self.outcome.end = Instant::now();
        self.outcome
    }
}
