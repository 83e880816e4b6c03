//! The background thread of a store: spare segments, retention, the archive, the idle mark.
//!
//! One thread a store, started by open and ended by close. It looks around every
//! [`background_interval`](super::AofConfig::background_interval), and at once when somebody knows of work.
//!
//! **After a failure** the error goes to the next caller and to the list; the thread pauses, longer each time up to
//! [`PAUSE_MAX`], and goes on. Nothing it does is needed for an acknowledged record to survive.

use super::Shared;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Condvar, Env, EnvCondvar, Mono, Mutex};
use std::time::Duration;

/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Without appends for this long the log is marked as ended.
const IDLE: Duration = Duration::from_secs(1);
/// How long no spare is made after one did not fit: the space is left to appends.
const FULL_PAUSE: Duration = Duration::from_secs(10);

/// What the background thread sleeps on.
pub(super) struct Background<E: Env> {
    signal: Mutex<E, Signal>,
    work: Condvar<E>,
}

#[derive(Default)]
struct Signal {
    called: bool,
    stop: bool,
}

impl<E: Env> Default for Background<E> {
    fn default() -> Background<E> {
        Background { signal: Mutex::<E, _>::new(Signal::default()), work: Condvar::<E>::default() }
    }
}

impl<E: Env> Background<E> {
    /// Wakes the thread: there is work.
    pub(super) fn kick(&self) {
        self.signal.lock().called = true;
        self.work.notify_one();
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        self.signal.lock().stop = true;
        self.work.notify_all();
    }

    /// Returns true if the thread is to end.
    pub(super) fn stopping(&self) -> bool {
        self.signal.lock().stop
    }

    /// Sleeps for `time`, or until called unless `deaf`; returns false if the thread is to end.
    fn sleep(&self, env: &E, time: Duration, deaf: bool) -> bool {
        let until = env.now().after(time);
        let mut signal = self.signal.lock();
        while !signal.stop && (deaf || !signal.called) {
            let left = until.since(env.now());
            if left.is_zero() {
                break;
            }
            self.work.wait_for(&mut signal, left);
        }
        signal.called = false;
        !signal.stop
    }
}

/// What the thread remembers between rounds.
#[derive(Default)]
struct Rounds {
    /// Where the log ended, and since when.
    idle: Option<(u64, Mono)>,
    marked: bool,
    /// When a spare did not fit.
    full: Option<Mono>,
}

impl<E: Env> Shared<E> {
    /// The background thread.
    pub(super) fn run_background(&self) {
        let interval = self.config.background_interval;
        let mut rounds = Rounds::default();
        let mut pause = PAUSE_MIN;
        loop {
            let (time, deaf) = match self.round(&mut rounds) {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    (interval, false)
                }
                Err(error) => {
                    self.background_failed(error);
                    let time = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    (time, true)
                }
            };
            // A log that is poisoned stays so.
            if self.log.poisoned().is_some() || !self.background.sleep(&self.env, time, deaf) {
                return;
            }
        }
    }

    /// One look at everything; all of it is tried, and the first failure returned.
    fn round(&self, rounds: &mut Rounds) -> Result<()> {
        let spare = self.prepare_spare(rounds);
        let retained = self.retain_once();
        self.archive_once();
        let marked = self.mark_if_idle(rounds);
        spare.and(retained).and(marked)
    }

    /// Makes the file of the next segment once a part of the one before is taken, unless the device was full a moment ago.
    fn prepare_spare(&self, rounds: &mut Rounds) -> Result<()> {
        let now = self.env.now();
        if !self.config.preallocate
            || !self.log.wants_spare()
            || rounds.full.is_some_and(|at| now.since(at) < FULL_PAUSE)
        {
            return Ok(());
        }
        rounds.full = None;
        match self.log.prepare_spare() {
            // The append that needs the space reports it.
            Err(error) if *error.kind() == ErrorKind::NoSpace => {
                rounds.full = Some(now);
                Ok(())
            }
            made => made.map(|_| ()),
        }
    }

    fn mark_if_idle(&self, rounds: &mut Rounds) -> Result<()> {
        let (end, now) = (self.log.end().0, self.env.now());
        match rounds.idle {
            Some((at, since)) if at == end => {
                if !rounds.marked && now.since(since) >= IDLE && self.log.durable().0 >= end {
                    rounds.marked = true;
                    self.log.mark()?;
                    rounds.idle = Some((self.log.end().0, now));
                }
            }
            _ => (rounds.idle, rounds.marked) = (Some((end, now)), false),
        }
        Ok(())
    }

    /// Keeps an error of background work for the next caller.
    pub(super) fn background_failed(&self, error: Error) {
        if self.background.stopping() {
            return;
        }
        self.env.reached("aof.background_failed");
        tracing::warn!(dir = %self.dir.display(), %error, "background work failed");
        self.errors.push(error);
        // Those who wait for room are told.
        self.log.watch().notify();
    }
}
