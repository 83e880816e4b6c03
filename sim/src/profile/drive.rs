//! How a run goes: starts, crashes and power losses, and a last opening on a well disk.
//!
//! The process is started again and again until all steps are done, or after too many starts; then the faults stop and it is
//! opened a last time. What the simulated process does in between is the [`Subject`]'s.

use super::Run;
use super::shared::{Shared, Subject};
use super::steps::Ending;
use crate::check::errors;
use crate::check::evidence::Stop;
use crate::{Exit, Fault, FaultEvent, Harness, Violation, WorldConfig, roll};

/// How often the process is started before the run is brought to its end.
const STARTS_MAX: u32 = 40;

/// Runs `workload` in `world`.
pub(super) fn run<S: Subject>(world: &WorldConfig, workload: &S::Workload) -> Run {
    run_with(world, &Shared::<S>::new(workload))
}

/// As [`run`], with a plan and state of the caller's.
pub(super) fn run_with<S: Subject>(world: &WorldConfig, shared: &Shared<S>) -> Run {
    let mut outcome = crate::run(world, |harness| drive(harness, shared, world.seed));
    shared.with(|state| {
        if outcome.violation.is_none() {
            outcome.violation = errors::check(&state.complaints, &outcome, S::tampered(state));
        }
        Run { outcome, counts: state.counts, unavailable: state.unavailable }
    })
}

fn drive<S: Subject>(harness: &mut Harness, shared: &Shared<S>, seed: u64) {
    for _ in 0..STARTS_MAX {
        let segment = shared.with(|state| state.segment);
        if segment >= shared.plan().segments.len() {
            break;
        }
        let mine = shared.clone();
        let exit = harness.run_process(move |env| mine.serve(&env));
        if !survived(harness, shared, exit) {
            return;
        }
        if shared.with(|state| state.segment) > segment {
            let end = shared.plan().segments[segment].end;
            if end.power_loss() {
                power_loss(harness, shared, segment as u64);
            }
            S::between(harness, shared, end);
        }
    }
    if roll(seed, "power loss at the end", 0).is_multiple_of(2) {
        power_loss(harness, shared, u64::MAX);
    }
    harness.set_crashes(false);
    harness.set_faults(false);
    S::before_last();
    let mine = shared.clone();
    let exit = harness.run_process(move |env| S::finish(&env, &mine));
    let alive = survived(harness, shared, exit);
    let (finished, excused) = shared.with(|state| (state.finished, S::excused(state)));
    let unreadable = |event: &FaultEvent| matches!(event.fault, Fault::ReadError { sticky: true });
    let excused = excused || !harness.damage().is_empty() || harness.fired().iter().any(unreadable);
    if !finished && !harness.violated() && !excused {
        let complaint = shared.with(|state| state.complaints.last().map(ToString::to_string)).unwrap_or_default();
        let message = format!("the {} does not come back on a well disk: {complaint}", S::NAME);
        harness.violation("unavailable", message);
    }
    if alive && finished {
        S::look_at_files(harness, shared);
    }
    let hash = shared.with(|state| S::state_hash(state));
    harness.mix_state(hash);
}

fn power_loss<S: Subject>(harness: &mut Harness, shared: &Shared<S>, index: u64) {
    let loss = harness.loss(index);
    harness.power_loss(loss);
    // A close left nothing to lose.
    shared.with(|state| state.stop = state.stop.map(|stop| if stop == Stop::Close { stop } else { Stop::Power }));
}

/// Takes in how an incarnation ended; returns whether the run goes on.
fn survived<S: Subject>(harness: &mut Harness, shared: &Shared<S>, exit: Exit) -> bool {
    let sync_failures = harness.fired().iter().filter(may_fail_syncs).count();
    let (violation, unavailable) = shared.with(|state| {
        if let Exit::Crashed { power } = exit {
            state.stop = state.stop.max(Some(if power { Stop::Power } else { Stop::Process }));
        }
        if sync_failures > state.sync_failures && state.stop == Some(Stop::Process) {
            // What a failed sync did not write leaves the page cache too.
            state.stop = Some(Stop::Power);
        }
        state.sync_failures = sync_failures;
        let undamaged = S::survived(state, harness);
        (state.violation.take().or(undamaged), state.unavailable)
    });
    if let Some(Violation { kind, message }) = violation {
        harness.violation(&kind, message);
    }
    !harness.violated() && !unavailable
}

/// Whether an event may make a sync fail.
fn may_fail_syncs(event: &&FaultEvent) -> bool {
    matches!(event.fault, Fault::SyncFail { .. } | Fault::NoSpace { .. })
}
