//! The threads of an engine: one flushes, [`Options::background_threads`](super::Options::background_threads) compact, and one
//! keeps the log ahead of the writes, which then wait neither for its files nor for the disk.
//!
//! They sleep on `Core::work` and end when the engine closes. After a failure that does not poison, a thread pauses,
//! longer each time, and tries again: a full disk is emptied by someone some day. Damage in a table's input is not tried again until the
//! engine is opened again: compaction stops, and writes stop once level 0 is full.

use super::compaction::picker;
use super::state::{Core, State};
use super::tree::{Immutable, Tree};
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Env, EnvCondvar, MutexGuard};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Without writes for this long the log is marked as ended, files that iterators held are looked at again, and what may be
/// compacted without need is.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes of log that nobody has asked to be durable are synced all the same, so that a roll has little to wait for.
const LOG_UNSYNCED_BYTES: u64 = 2 << 20;

impl<E: Env> Core<E> {
    /// Starts the threads.
    pub(super) fn start_threads(self: &Arc<Self>) -> Result<()> {
        let spawn = |name: &'static str, body: fn(&Core<E>)| {
            let core = Arc::clone(self);
            self.env.spawn(name, move || body(&core)).map_err(|error| Error::io("start a thread for", &self.dir, error))
        };
        let flusher = spawn("aidb-flush", |core| core.run_flushes())?;
        self.state.lock().threads.push(flusher);
        let keeper = spawn("aidb-log", |core| core.run_log())?;
        self.state.lock().threads.push(keeper);
        for _ in 0..self.options.background_threads {
            let compactor = spawn("aidb-compact", |core| core.run_compactions())?;
            self.state.lock().threads.push(compactor);
        }
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.halted.load(Ordering::Acquire)
    }

    fn run_flushes(&self) {
        let mut pause = PAUSE_MIN;
        while let Some((tree, full)) = self.next_flush() {
            match self.flush_memtable(&tree, &full) {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    self.state.lock().flush_error = None;
                    drop(full);
                    self.purge_obsolete();
                }
                Err(error) => {
                    drop(full);
                    self.env.reached("lsm.flush_failed");
                    let mut state = self.background_failed(&error);
                    state.flush_error = Some(error);
                    self.progress.notify_all();
                    self.pause(state, &mut pause, |state| state.flush_error.is_none());
                }
            }
        }
    }

    /// Waits for a full memtable; `None` ends the thread.
    fn next_flush(&self) -> Option<(Arc<Tree<E>>, Arc<Immutable>)> {
        let mut state = self.state.lock();
        loop {
            if self.stopping() {
                return None;
            }
            let oldest = state.trees.values().filter_map(|of| of.immutables.front().map(|full| (&of.tree, full)));
            if let Some((tree, full)) = oldest.min_by_key(|(_, full)| full.end) {
                return Some((Arc::clone(tree), Arc::clone(full)));
            }
            if self.work.wait_for(&mut state, IDLE) {
                drop(state);
                self.when_idle();
                state = self.state.lock();
            }
        }
    }

    fn when_idle(&self) {
        // A failure poisons the log, which the next write finds out.
        let _ = self.wal(self.log.mark());
        self.purge_obsolete();
    }

    fn run_log(&self) {
        while self.next_log_work() {
            if let Err(error) = self.keep_log_ahead() {
                // A full disk is for the write to report that finds no room.
                if *error.kind() != ErrorKind::NoSpace {
                    drop(self.background_failed(&error));
                }
            }
        }
    }

    /// Waits until the log has grown; false ends the thread.
    fn next_log_work(&self) -> bool {
        let mut state = self.state.lock();
        while !self.stopping() {
            if std::mem::take(&mut state.log_grown) {
                return true;
            }
            self.log_work.wait(&mut state);
        }
        false
    }

    /// Does early what the log would otherwise let a write wait for: the next file, the sync before it, the roll.
    fn keep_log_ahead(&self) -> Result<()> {
        if self.log.wants_spare() {
            self.log.prepare_spare()?;
        }
        // In this order: the end may only have grown since.
        let durable = self.log.durable();
        let end = self.log.end();
        if end.0 - durable.0 >= LOG_UNSYNCED_BYTES {
            self.wal(self.log.sync_to(end))?;
        }
        let rolled = self.log.roll_ahead();
        if self.log.poisoned().is_some() { self.wal(rolled) } else { rolled }
    }

    fn run_compactions(&self) {
        let mut pause = PAUSE_MIN;
        while let Some(compaction) = self.next_compaction() {
            let result = self.compact(&compaction);
            let mut state = self.release(&compaction);
            match result {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    state.compaction_error = None;
                    drop(state);
                    drop(compaction);
                    self.purge_obsolete();
                }
                Err(error) => {
                    drop(compaction);
                    drop(state);
                    self.env.reached("lsm.compaction_failed");
                    let mut state = self.background_failed(&error);
                    state.compaction_error = Some(error);
                    self.progress.notify_all();
                    self.pause(state, &mut pause, |state| state.compaction_error.is_none());
                }
            }
        }
    }

    /// Waits for something to compact and marks its inputs; `None` ends the thread.
    fn next_compaction(&self) -> Option<picker::Compaction<E>> {
        let mut state = self.state.lock();
        let mut idle = false;
        loop {
            if self.stopping() {
                return None;
            }
            let damaged = state.compaction_error.as_ref().is_some_and(Error::is_corruption);
            let (mut due, mut spare) = (None, None);
            let held_off = state.manual || (state.ingesting && state.stopped == 0);
            if !held_off && !damaged {
                let oldest = self.snapshots.readers(|| self.at())[0].seq;
                let trees: Vec<_> = state.trees.values().map(|of| picker::Of::new(&of.tree, &of.version)).collect();
                due = picker::pick(&trees, &state.busy, oldest);
                if due.is_none() {
                    spare = picker::pick_idle(&trees, &state.busy, oldest);
                }
            }
            if idle && spare.is_some() {
                self.env.reached("lsm.compaction_idle");
                due = spare.take();
            }
            if let Some(compaction) = due {
                self.occupy(&mut state, &compaction);
                return Some(compaction);
            }
            let seen = self.visible();
            if spare.is_none() {
                self.work.wait(&mut state);
                idle = false;
            } else {
                idle = self.work.wait_for(&mut state, IDLE) && self.visible() == seen;
            }
        }
    }

    /// Marks the inputs of `compaction`.
    pub(super) fn occupy(&self, state: &mut State<E>, compaction: &picker::Compaction<E>) {
        for (_, table) in compaction.inputs() {
            assert!(state.busy.insert(table.info().file_no), "two compactions share an input");
        }
        state.compacting += 1;
    }

    /// Frees the inputs of `compaction`.
    pub(super) fn release(&self, compaction: &picker::Compaction<E>) -> MutexGuard<'_, E, State<E>> {
        let mut state = self.state.lock();
        for (_, table) in compaction.inputs() {
            assert!(state.busy.remove(&table.info().file_no), "an input was freed twice");
        }
        state.compacting -= 1;
        self.work.notify_all();
        self.progress.notify_all();
        state
    }

    fn background_failed(&self, error: &Error) -> MutexGuard<'_, E, State<E>> {
        if !self.stopping() {
            self.counters.background_errors.add(1);
            tracing::warn!(dir = %Path::display(&self.dir), %error, "background work failed");
        }
        self.state.lock()
    }

    /// Sleeps for `pause`, or until there is no reason to, and doubles it.
    fn pause(&self, mut state: MutexGuard<'_, E, State<E>>, pause: &mut Duration, over: impl Fn(&State<E>) -> bool) {
        let end = self.env.now().after(*pause);
        *pause = (*pause * 2).min(PAUSE_MAX);
        loop {
            let left = end.since(self.env.now());
            if left.is_zero() || self.stopping() || over(&state) {
                return;
            }
            self.work.wait_for(&mut state, left);
        }
    }
}
