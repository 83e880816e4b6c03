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
use crate::profile::engine::case::{Op, Step, Walk};
use crate::profile::engine::value::VALUE_BYTES_MIN;
use crate::profile::{Profile, Run};
use crate::{At, Fault, FaultEvent, FaultPlan, Loss, Rate, Schedule};

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
            steps: case.workload.steps.len(),
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

    /// Removes parts of a list of the best case, large ones first.
    fn remove<T: Clone>(&mut self, read: fn(&Case) -> Vec<T>, write: fn(&mut Case, Vec<T>), aimed: bool) {
        let mut size = read(&self.best).len();
        while size > 0 {
            let mut at = 0;
            while at < read(&self.best).len() && self.runs < self.runs_max {
                let mut rest = read(&self.best);
                rest.drain(at..(at + size).min(rest.len()));
                let mut candidate = self.best.clone();
                write(&mut candidate, rest);
                let kept = self.keep(&candidate) || (aimed && self.aim(&candidate));
                if !kept {
                    at += size;
                }
            }
            size /= 2;
        }
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
        self.change(|case| case.world.faults.spurious_wakeup = Rate(0));
        self.change(|case| case.world.faults.wall_drift_ppm = 0);
        self.change(|case| case.world.faults.buggify = false);
        self.change(|case| case.world.faults = crate::FaultConfig::default());
    }

    fn faults(&mut self) {
        self.remove(
            |case| match &case.world.plan {
                FaultPlan::Explicit(events) => events.clone(),
                FaultPlan::Seeded => Vec::new(),
            },
            |case, events| case.world.plan = FaultPlan::Explicit(events),
            false,
        );
        self.remove(|case| case.world.also.clone(), |case, events| case.world.also = events, false);
    }

    fn steps(&mut self) {
        let read = |case: &Case| case.workload.steps.clone();
        let write = |case: &mut Case, steps| case.workload.steps = steps;
        self.remove(read, write, false);
        if self.best.workload.steps.len() > 3 {
            self.remove(read, write, true);
        }
    }

    fn clients(&mut self) {
        for from in (1..self.best.workload.clients()).rev() {
            for to in 0..from {
                let merged = self.change(|case| {
                    for step in &mut case.workload.steps {
                        match step {
                            Step::Client { client, .. } if *client == from => *client = to,
                            _ => {}
                        }
                    }
                });
                if merged {
                    break;
                }
            }
        }
    }

    fn magnitudes(&mut self) {
        self.change(|case| case.workload.steps.iter_mut().for_each(smallest_values));
        for at in 0..self.best.workload.steps.len() {
            self.change(|case| smallest_values(&mut case.workload.steps[at]));
            self.change(|case| simplify(&mut case.workload.steps[at]));
            self.writes(at);
        }
        self.change(|case| case.workload.options.compression = 0);
        self.change(|case| case.workload.options.filter_bits_per_key = 0);
        self.change(|case| case.workload.options.background_threads = 1);
        self.change(|case| case.workload.options.manifest_bytes_max = 1 << 20);
        self.change(|case| case.workload.options.memtable_bytes = 64 << 10);
        self.change(|case| case.workload.options.wal_segment_bytes = 64 << 10);
        self.change(|case| case.workload.options.l0_stall_files = case.workload.options.l0_compaction_files + 20);
        self.change(|case| case.workload.key_shape = crate::profile::engine::value::KeyShape::Short);
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

    /// Takes writes out of the batch of step `at`.
    fn writes(&mut self, at: usize) {
        let mut write = 0;
        loop {
            let Some(Step::Client { op: Op::Write { writes, .. }, .. }) = self.best.workload.steps.get(at) else {
                return;
            };
            if writes.len() < 2 || write >= writes.len() {
                return;
            }
            let removed = self.change(|case| {
                if let Step::Client { op: Op::Write { writes, .. }, .. } = &mut case.workload.steps[at] {
                    writes.remove(write);
                }
            });
            write += usize::from(!removed);
        }
    }

    fn preemptions(&mut self) {
        self.remove(
            |case| match &case.world.schedule {
                Schedule::Explicit(switches) => switches.clone(),
                _ => Vec::new(),
            },
            |case, switches| case.world.schedule = Schedule::Explicit(switches),
            false,
        );
    }
}

fn smallest_values(step: &mut Step) {
    if let Step::Client { op: Op::Write { writes, .. }, .. } = step {
        for write in writes {
            write.bytes = write.bytes.map(|_| VALUE_BYTES_MIN);
        }
    }
}

fn simplify(step: &mut Step) {
    match step {
        Step::Client { op: Op::Scan { scan, .. }, .. } => {
            (scan.pause_us, scan.prefix, scan.limit) = (0, None, u16::MAX);
            if scan.walk == Walk::Inward {
                scan.walk = Walk::Forward;
            }
        }
        Step::Client { op: Op::Sleep { us }, .. } => *us = 1,
        _ => {}
    }
}
