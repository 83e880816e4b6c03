//! Profile `engine`: the LSM engine on its log, under concurrent clients, crashes and disk faults.
//!
//! A run starts the process again and again: it opens the database, is judged on what it recovered, serves its clients until
//! they are done or it is killed, or until a write failed, which poisons it. When all steps are done, or after too many
//! starts, the faults stop and the database is opened a last time: everything is read, checked and scrubbed.
//!
//! | file | holds |
//! |---|---|
//! | `case.rs` | the workload as plain data |
//! | `generate.rs` | from a seed to a workload |
//! | `value.rs` | keys and self-describing values |
//! | `process.rs` | one incarnation |
//! | `client.rs` | one client |
//! | `shared.rs` | what outlives an incarnation |

pub mod case;
mod client;
mod generate;
mod process;
mod shared;
mod twin;
pub mod value;

use generate::Size;

use crate::case::Case;
use crate::check::history::Stop;
use crate::check::{errors, scrub};
use crate::profile::{Run, Workload};
use crate::{Exit, Fault, FaultConfig, FaultEvent, Harness, Rate, Schedule, Violation, WorldConfig, roll};
use aidb::env::{Disk, Env, read_file};
use shared::{Plan, Shared};
use std::collections::BTreeSet;
use std::path::Path;

/// How often the process is started before the run is brought to its end.
const STARTS_MAX: u32 = 40;
/// After so many steps a run counts as a livelock; the longest legal ones take a tenth of it.
const STEPS_MAX: u64 = 3_000_000;

/// Builds the case of `seed`.
pub fn case(seed: u64, planted: &BTreeSet<String>) -> Case {
    let mut world = WorldConfig { planted: planted.clone(), steps_max: STEPS_MAX, ..WorldConfig::swarm(seed) };
    let mut workload = generate::workload(seed, Size { steps_max: 120 });
    // Most seeds mix everything; some go deep into one thing.
    match roll(seed, "focus", 0) % 10 {
        0 => {
            // Damage at rest, again and again, in a database that is closed in order.
            world.faults = FaultConfig { latency_ns_max: world.faults.latency_ns_max, ..FaultConfig::default() };
            let rate = Rate::one_in([1, 3, 6][roll(seed, "focus", 1) as usize % 3]);
            match roll(seed, "focus", 2) % 3 {
                0 => world.faults.bit_rot = rate,
                1 => world.faults.misdirected = rate,
                _ => world.faults.lost_write = rate,
            }
            generate::reopen_often(&mut workload, seed);
        }
        1 => {
            // One power loss after the other: most strike a recovery.
            world.faults.crash = Rate::one_in([10, 25][roll(seed, "focus", 1) as usize % 2]);
            (world.faults.crashes_max, world.faults.crash_power_percent) = (16, 90);
        }
        2 => {
            // Threads, and nothing else.
            world.faults = FaultConfig { spurious_wakeup: world.faults.spurious_wakeup, ..FaultConfig::default() };
            world.schedule = Schedule::Random { one_in: [1, 4, 20][roll(seed, "focus", 1) as usize % 3] };
        }
        3 => {
            // A disk that fails in one way often, and then loses power.
            let rate = Rate::one_in([8, 20, 50][roll(seed, "focus", 1) as usize % 3]);
            match roll(seed, "focus", 2) % 3 {
                0 => world.faults.sync_fail = rate,
                1 => world.faults.write_fail = rate,
                _ => (world.faults.no_space, world.faults.no_space_ios_max) = (rate, 20),
            }
            world.faults.crash = Rate::one_in(40);
            (world.faults.crashes_max, world.faults.crash_power_percent) = (8, 70);
        }
        _ => {}
    }
    Case::new(world, Workload::Engine(workload))
}

/// Runs a case.
pub fn run(case: &Case) -> Run {
    let Workload::Engine(workload) = &case.workload else { panic!("a case of profile {}", case.profile) };
    let shared = Shared::new(Plan::new(workload));
    let mut outcome = crate::run(&case.world, |harness| drive(harness, &shared, case.world.seed));
    shared.with(|state| {
        if outcome.violation.is_none() {
            outcome.violation = errors::check(&state.complaints, &outcome, false);
        }
        Run { outcome, counts: state.counts, unavailable: state.unavailable }
    })
}

fn drive(harness: &mut Harness, shared: &Shared, seed: u64) {
    for _ in 0..STARTS_MAX {
        let segment = shared.with(|state| state.segment);
        if segment >= shared.plan().segments.len() {
            break;
        }
        let mine = shared.clone();
        let exit = harness.run_process(move |env| process::serve(&env, &mine));
        if !survived(harness, shared, exit) {
            return;
        }
        let ended = shared.with(|state| state.segment) > segment;
        if ended && shared.plan().segments[segment].end.power_loss {
            power_loss(harness, shared, segment as u64);
        }
    }
    if roll(seed, "power loss at the end", 0).is_multiple_of(2) {
        power_loss(harness, shared, u64::MAX);
    }
    harness.set_crashes(false);
    harness.set_faults(false);
    let mine = shared.clone();
    let exit = harness.run_process(move |env| process::finish(&env, &mine));
    let alive = survived(harness, shared, exit);
    let finished = shared.with(|state| state.finished);
    let unreadable = |event: &FaultEvent| matches!(event.fault, Fault::ReadError { sticky: true });
    if !finished && !harness.violated() && harness.damage().is_empty() && !harness.fired().iter().any(unreadable) {
        let complaint = shared.with(|state| state.complaints.last().map(ToString::to_string)).unwrap_or_default();
        harness.violation("unavailable", format!("the database does not come back on a well disk: {complaint}"));
    }
    if alive && finished {
        scrub_directory(harness, shared);
    }
    let hash =
        shared.with(|state| {
            state.history.base.iter().fold(0, |hash, (key, stamp)| {
                aidb::base::hash::hash64(&stamp.step.to_le_bytes(), hash ^ u64::from(*key))
            })
        });
    harness.mix_state(hash);
}

fn power_loss(harness: &mut Harness, shared: &Shared, index: u64) {
    let loss = harness.loss(index);
    harness.power_loss(loss);
    // A close left nothing to lose.
    shared.with(|state| state.stop = state.stop.map(|stop| if stop == Stop::Close { stop } else { Stop::Power }));
}

/// Takes in how an incarnation ended; returns whether the run goes on.
fn survived(harness: &mut Harness, shared: &Shared, exit: Exit) -> bool {
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
        let damages = harness.damage().len();
        let undamaged =
            state.needs_damage.take().filter(|(needed, _)| damages < *needed).map(|(_, violation)| violation);
        (state.violation.take().or(undamaged), state.unavailable)
    });
    if let Some(Violation { kind, message }) = violation {
        harness.violation(&kind, message);
    }
    !harness.violated() && !unavailable
}

fn may_fail_syncs(event: &&FaultEvent) -> bool {
    matches!(event.fault, Fault::SyncFail { .. } | Fault::NoSpace { .. })
}

fn scrub_directory(harness: &mut Harness, shared: &Shared) {
    let env = harness.env();
    let (closed, tables) = shared.with(|state| (state.stop == Some(Stop::Close), state.tables));
    if !closed || !harness.damage().is_empty() {
        return;
    }
    let current = read_file(env.disk(), &Path::new(process::DIR).join("CURRENT"));
    let scrubbed = match (env.disk().list(Path::new(process::DIR)), current) {
        (Ok(entries), Ok(current)) => scrub::check(&entries, &current, tables),
        (Err(error), _) | (_, Err(error)) => Err(format!("the directory cannot be read: {error}")),
    };
    if let Err(message) = scrubbed {
        harness.violation("scrub", message);
    }
}
