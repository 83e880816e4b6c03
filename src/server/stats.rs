//! Counters that `INFO stats` shows. Sessions add to them once for each batch; nothing depends on them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that only statistics read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the sum.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value, zero to reset.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What the server counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused, because of `maxclients` or protected mode.
    pub rejected: Counter,
    /// Commands executed.
    pub commands: Counter,
    /// Batches of requests executed.
    pub batches: Counter,
    /// Error replies sent.
    pub errors: Counter,
    /// Bytes received.
    pub input_bytes: Counter,
    /// Bytes sent.
    pub output_bytes: Counter,
    /// Commands in the last full second.
    pub commands_per_second: Counter,
    /// Commits that the storage refused.
    pub write_failures: Counter,
}

impl Stats {
    /// Sets every counter to zero (`CONFIG RESETSTAT`).
    pub fn reset(&self) {
        let all = [
            &self.connections,
            &self.rejected,
            &self.commands,
            &self.batches,
            &self.errors,
            &self.input_bytes,
            &self.output_bytes,
            &self.commands_per_second,
            &self.write_failures,
        ];
        for counter in all {
            counter.set(0);
        }
    }
}
