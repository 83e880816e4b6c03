//! Makes a failing case small, so that a person can read it.
//!
//! Everything is tried by running: a step is kept only if the same kind of violation recurs. In order: fault events, operations,
//! clients, magnitudes, preemptions, each by delta debugging (remove large parts first, then smaller ones), around and around until
//! nothing gives way or the budget is used up.
//!
//! Fault events are given by the number of the disk operation at which they strike; taking operations away moves what they hit. So
//! a removal that does not fail on its own is tried again with its crash aimed at each disk operation in turn.
//!
//! Source: Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input (2002).

use crate::case::Case;
use crate::profile::{Profile, Run, Workload};
use crate::{At, Fault, FaultEvent, FaultPlan, Loss, Rate, Schedule};
use std::ops::Range;

/// How large a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Fault events.
    pub faults: usize,
    /// Operations.
    pub steps: usize,
    /// Clients.
    pub clients: usize,
    /// Decisions of the scheduler that differ from the calm one; `None` if they come from the seed.
    pub switches: Option<usize>,
}

impl Size {
    /// Measures a case.
    pub fn of(case: &Case) -> Size {
        Size {
            faults: events(case).len(),
            steps: case.workload.steps(),
            clients: case.workload.clients().into(),
            switches: match &case.world.schedule {
                Schedule::Explicit(switches) => Some(switches.len()),
                Schedule::Calm => Some(0),
                _ => None,
            },
        }
    }
}

/// Shrinks `case`, which must fail; returns the smallest case found, and how many runs it took.
///
/// # Errors
/// The case does not fail, or not in the same way once its fault events are written out.
pub fn shrink(case: &Case, runs_max: u64) -> Result<(Case, u64), String> {
    let profile = case.profile()?;
    let case = materialise(profile, case)?;
    let kind = case.violation.as_ref().map(|violation| violation.kind.clone()).unwrap_or_default();
    let mut shrinker = Shrinker { profile, kind, runs: 0, runs_max, best: case };
    loop {
        let before = shrinker.best.clone();
        shrinker.calm_conditions();
        shrinker.faults();
        shrinker.steps();
        shrinker.clients();
        shrinker.magnitudes();
        shrinker.preemptions();
        if shrinker.best == before || shrinker.runs >= runs_max {
            return Ok((shrinker.best, shrinker.runs));
        }
    }
}

/// Replaces the seed's faults and schedule by what they came to.
fn materialise(profile: Profile, case: &Case) -> Result<Case, String> {
    let mut recording = case.clone();
    recording.world.record_switches = true;
    let run = profile.run(&recording);
    let Some(violation) = run.outcome.violation.clone() else {
        return Err("the case does not fail: there is nothing to shrink".into());
    };
    let mut explicit = case.clone();
    explicit.world.plan = FaultPlan::Explicit(run.outcome.fired.clone());
    explicit.world.also.clear();
    let mut with_schedule = explicit.clone();
    with_schedule.world.schedule = Schedule::Explicit(run.outcome.switches.clone());
    for candidate in [&with_schedule, &explicit, case] {
        let run = profile.run(candidate);
        if run.outcome.violation.as_ref().is_some_and(|again| again.kind == violation.kind) {
            return Ok(finished(candidate, &run));
        }
    }
    Err(format!("the case fails with '{}' only sometimes: run `sim check`", violation.kind))
}

/// Takes parts of a list away, large ones first; `removed` tries one and returns whether it is gone.
pub(crate) fn parts(mut length: usize, mut removed: impl FnMut(Range<usize>) -> bool) {
    let mut size = length;
    while size > 0 {
        let mut at = 0;
        while at < length {
            let part = at..(at + size).min(length);
            if removed(part.clone()) {
                length -= part.len();
            } else {
                at += size;
            }
        }
        size /= 2;
    }
}

/// Returns `case` with the outcome of `run` noted.
pub fn finished(case: &Case, run: &Run) -> Case {
    let mut case = case.clone();
    case.hash = run.outcome.hash;
    case.violation = run.outcome.violation.clone();
    case
}

fn events(case: &Case) -> Vec<FaultEvent> {
    let planned = match &case.world.plan {
        FaultPlan::Explicit(events) => events.clone(),
        FaultPlan::Seeded => Vec::new(),
    };
    [planned, case.world.also.clone()].concat()
}

struct Shrinker {
    profile: Profile,
    kind: String,
    runs: u64,
    runs_max: u64,
    best: Case,
}

impl Shrinker {
    /// Runs a candidate and keeps it if it fails in the same way.
    fn keep(&mut self, candidate: &Case) -> bool {
        if self.runs >= self.runs_max || *candidate == self.best {
            return false;
        }
        self.runs += 1;
        let run = self.profile.run(candidate);
        let same = run.outcome.violation.as_ref().is_some_and(|violation| violation.kind == self.kind);
        if same {
            self.best = finished(candidate, &run);
        }
        same
    }

    /// Tries the best case with a change.
    fn change(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.keep(&candidate)
    }

    /// Removes parts of a list of the best case, large ones first; `length` counts it, `drain` takes a range away.
    fn remove(&mut self, length: fn(&Case) -> usize, drain: fn(&mut Case, Range<usize>), aimed: bool) {
        parts(length(&self.best), |part| {
            let mut candidate = self.best.clone();
            drain(&mut candidate, part);
            self.keep(&candidate) || (aimed && self.aim(&candidate))
        });
    }

    /// Tries a candidate with its only crash at each disk operation.
    fn aim(&mut self, candidate: &Case) -> bool {
        let FaultPlan::Explicit(events) = &candidate.world.plan else { return false };
        let is_crash = |event: &&FaultEvent| matches!(event.fault, Fault::Crash { .. });
        let (crashes, others): (Vec<&FaultEvent>, Vec<&FaultEvent>) = events.iter().partition(is_crash);
        let [FaultEvent { at: At::Io(struck), fault: Fault::Crash { power, loss, .. } }] = crashes[..] else {
            return false;
        };
        for io in (0..*struck + 1).rev().take(200) {
            for after in [false, true] {
                let mut aimed = candidate.clone();
                let crash = FaultEvent { at: At::Io(io), fault: Fault::Crash { power: *power, after, loss: *loss } };
                let events = others.iter().map(|event| **event).chain([crash]).collect();
                aimed.world.plan = FaultPlan::Explicit(events);
                if self.keep(&aimed) {
                    return true;
                }
            }
        }
        false
    }

    fn calm_conditions(&mut self) {
        self.change(|case| case.world.schedule = Schedule::Calm);
        self.change(|case| case.world.faults.latency_ns_max = 0);
        self.change(|case| case.world.faults.remote_latency_ns_max = 0);
        self.change(|case| case.world.faults.spurious_wakeup = Rate(0));
        self.change(|case| case.world.faults.wall_drift_ppm = 0);
        self.change(|case| case.world.faults.buggify = false);
        self.change(|case| case.world.faults = crate::FaultConfig::default());
    }

    fn faults(&mut self) {
        self.remove(
            |case| match &case.world.plan {
                FaultPlan::Explicit(events) => events.len(),
                FaultPlan::Seeded => 0,
            },
            |case, range| match &mut case.world.plan {
                FaultPlan::Explicit(events) => drop(events.drain(range)),
                FaultPlan::Seeded => {}
            },
            false,
        );
        self.remove(|case| case.world.also.len(), |case, range| drop(case.world.also.drain(range)), false);
    }

    fn steps(&mut self) {
        let length = |case: &Case| case.workload.steps();
        let drain = |case: &mut Case, range| case.workload.remove(range);
        self.remove(length, drain, false);
        if self.best.workload.steps() > 3 {
            self.remove(length, drain, true);
        }
    }

    fn clients(&mut self) {
        for from in (1..self.best.workload.clients()).rev() {
            for to in 0..from {
                if self.change(|case| case.workload.merge_client(from, to)) {
                    break;
                }
            }
        }
    }

    fn magnitudes(&mut self) {
        self.each(|workload| workload.plainer());
        for at in 0..self.best.workload.steps() {
            self.each(|workload| workload.smaller(at));
        }
        let events = events(&self.best).len();
        for at in 0..events {
            self.change(|case| {
                if let FaultPlan::Explicit(events) = &mut case.world.plan
                    && let Some(FaultEvent { fault: Fault::Crash { loss, .. }, .. }) = events.get_mut(at)
                {
                    *loss = Loss::ALL;
                }
            });
        }
    }

    /// Tries each of what `of` makes of the best workload; one that is kept makes place for the next.
    fn each(&mut self, of: impl Fn(&Workload) -> Vec<Workload>) {
        let mut at = 0;
        while let Some(workload) = of(&self.best.workload).into_iter().nth(at) {
            if !self.change(|case| case.workload = workload) {
                at += 1;
            }
        }
    }

    fn preemptions(&mut self) {
        self.remove(
            |case| match &case.world.schedule {
                Schedule::Explicit(switches) => switches.len(),
                _ => 0,
            },
            |case, range| {
                if let Schedule::Explicit(switches) = &mut case.world.schedule {
                    switches.drain(range);
                }
            },
            false,
        );
    }
}
