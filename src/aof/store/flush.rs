//! The flusher: the thread that makes appended records durable when nobody waits for them.
//!
//! One thread a store, started by open and ended by close. Callers that wait lead their own syncs; this one leads when the
//! [`FlushStrategy`] says so, when a task awaits a ticket, and when so much waits that appends would have to.
//!
//! **Appends do not pay for it.** The flusher says beforehand at which position or record it wants to be woken ([`Alarm`]);
//! an append compares two numbers. *No wake-up is lost:* the alarm is set before the log's position is read under the append
//! lock. An append that returned before that is in the position; one that begins later sees the alarm.
//!
//! **When a sync is due:** so many records wait; or so many bytes; or the first record seen waiting has waited for so long,
//! whoever synced in between; or a task asked. Under [`FlushStrategy::Async`] what was appended is also handed to the
//! operating system, one [`WRITE_DELAY`] after it is seen.

use super::super::metrics::FlushCause;
use super::super::types::Lsn;
use super::Shared;
use super::config::FlushStrategy;
use crate::base::Result;
use crate::env::{Condvar, Env, EnvCondvar, Mono, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long the operating system may be kept waiting under [`FlushStrategy::Async`]: long enough to make writes large.
const WRITE_DELAY: Duration = Duration::from_millis(1);
/// How many bytes may wait for a sync under [`FlushStrategy::Async`].
const ASYNC_BYTES: u64 = 8 << 20;
const NEVER: u64 = u64::MAX;

/// Where appends wake the flusher.
pub(super) struct Alarm {
    /// From this next id on.
    id: AtomicU64,
    /// From this end on.
    end: AtomicU64,
}

/// What the flusher sleeps on.
pub(super) struct Flusher<E: Env> {
    alarm: Alarm,
    /// Up to where tasks await, or appends without room.
    requested: AtomicU64,
    signal: Mutex<E, Signal>,
    work: Condvar<E>,
}

#[derive(Default)]
struct Signal {
    called: bool,
    stop: bool,
}

impl<E: Env> Default for Flusher<E> {
    fn default() -> Flusher<E> {
        Flusher {
            alarm: Alarm { id: AtomicU64::new(NEVER), end: AtomicU64::new(NEVER) },
            requested: AtomicU64::new(0),
            signal: Mutex::<E, _>::new(Signal::default()),
            work: Condvar::<E>::default(),
        }
    }
}

impl<E: Env> Flusher<E> {
    /// Wakes the flusher if an append that made the next id `id` and the end `end` is what it waits for.
    #[inline]
    pub(super) fn appended(&self, id: u64, end: Lsn) {
        if id >= self.alarm.id.load(Ordering::Relaxed) || end.0 >= self.alarm.end.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        // One of the appends that meet the alarm is enough.
        let was_set = self.set_alarm(NEVER, NEVER);
        if was_set {
            self.call();
        }
    }

    /// Sets the alarm; returns whether there was one.
    fn set_alarm(&self, id: u64, end: u64) -> bool {
        let had_id = self.alarm.id.swap(id, Ordering::Relaxed) != NEVER;
        let had_end = self.alarm.end.swap(end, Ordering::Relaxed) != NEVER;
        had_id || had_end
    }

    fn call(&self) {
        self.signal.lock().called = true;
        self.work.notify_one();
    }

    /// Asks for everything before `end` to be made durable, soon.
    pub(super) fn request(&self, end: Lsn) {
        if self.requested.fetch_max(end.0, Ordering::AcqRel) < end.0 {
            self.call();
        }
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        self.signal.lock().stop = true;
        self.work.notify_all();
    }

    fn stopping(&self) -> bool {
        self.signal.lock().stop
    }

    /// Sleeps until called, told to stop, or `until`.
    fn sleep(&self, env: &E, until: Option<Mono>) {
        let mut signal = self.signal.lock();
        while !signal.called && !signal.stop {
            match until.map(|until| until.since(env.now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    self.work.wait_for(&mut signal, left);
                }
                None => self.work.wait(&mut signal),
            }
        }
        signal.called = false;
    }
}

/// What the strategy asks for, in numbers.
#[derive(Clone, Copy, Debug)]
struct Limits {
    strategy: FlushStrategy,
    records: u64,
    bytes: u64,
    delay: Option<Duration>,
    write_delay: Option<Duration>,
}

impl Limits {
    fn new(strategy: FlushStrategy, pending_bytes_max: u64) -> Limits {
        let is_async = strategy == FlushStrategy::Async;
        // Before appends have to wait for room.
        let bytes = (pending_bytes_max / 2).min(if is_async { ASYNC_BYTES } else { NEVER });
        Limits {
            strategy,
            records: strategy.records().unwrap_or(NEVER),
            bytes,
            delay: strategy.delay(),
            write_delay: is_async.then_some(WRITE_DELAY),
        }
    }

    fn batch_cause(&self) -> FlushCause {
        if self.strategy == FlushStrategy::Sync { FlushCause::Sync } else { FlushCause::Batched }
    }
}

/// What the flusher has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When something was first seen waiting for a sync.
    unsynced: Option<Mono>,
    /// When something was first seen waiting for a write.
    unwritten: Option<Mono>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Sync(FlushCause),
    Write,
    /// Sleep.
    Nothing {
        /// At most so long.
        until: Option<Mono>,
        /// Whether the next append, whatever its size, begins a time.
        first: bool,
    },
}

impl<E: Env> Shared<E> {
    /// The flusher's thread.
    pub(super) fn run_flusher(&self) {
        let limits = Limits::new(self.config.flush_strategy, self.config.pending_bytes_max);
        let mut seen = Seen::default();
        while !self.flusher.stopping() {
            if let Err(error) = self.flush_when_due(&limits, &mut seen) {
                // Nothing more will become durable; the next caller learns why.
                self.background_failed(error);
                return;
            }
        }
    }

    fn flush_when_due(&self, limits: &Limits, seen: &mut Seen) -> Result<()> {
        let (end, _) = self.log.position();
        match self.due(limits, seen) {
            Due::Sync(cause) => {
                *seen = Seen::default();
                self.log.sync_for(end, cause)
            }
            Due::Write => {
                seen.unwritten = None;
                self.log.write_out()
            }
            Due::Nothing { first, .. } => {
                self.arm(limits, end, first);
                // The alarm is set: what came before it is seen here, what comes after it rings.
                if let Due::Nothing { until, first: still_first } = self.due(limits, seen)
                    && (first || !still_first)
                {
                    self.flusher.sleep(&self.env, until);
                }
                Ok(())
            }
        }
    }

    fn due(&self, limits: &Limits, seen: &mut Seen) -> Due {
        let (end, next_id) = self.log.position();
        let (durable, durable_id) = (self.log.durable(), self.durable_id());
        if self.flusher.requested.load(Ordering::Acquire) > durable.0 {
            return Due::Sync(FlushCause::Forced);
        }
        let mut first = false;
        if end <= durable {
            *seen = Seen::default();
            first = limits.delay.or(limits.write_delay).is_some();
            return Due::Nothing { until: None, first };
        }
        if next_id.saturating_sub(durable_id) >= limits.records || end.0 - durable.0 >= limits.bytes {
            return Due::Sync(limits.batch_cause());
        }
        let Some(delay) = limits.delay else { return Due::Nothing { until: None, first } };
        let now = self.env.now();
        let mut until = seen.unsynced.get_or_insert(now).after(delay);
        if now >= until {
            return Due::Sync(FlushCause::Periodic);
        }
        if let Some(delay) = limits.write_delay {
            if self.log.written() >= end {
                seen.unwritten = None;
                first = true;
            } else {
                let at = seen.unwritten.get_or_insert(now).after(delay);
                if now >= at {
                    return Due::Write;
                }
                until = until.min(at);
            }
        }
        Due::Nothing { until: Some(until), first }
    }

    /// Sets the alarm; `end` is where the log ended before it was looked at.
    fn arm(&self, limits: &Limits, end: Lsn, first: bool) {
        let id = self.durable_id().saturating_add(limits.records);
        let full = self.log.durable().0.saturating_add(limits.bytes);
        self.flusher.set_alarm(id, if first { full.min(end.0 + 1) } else { full });
    }
}
