//! Profile `aof`: the segmented log as a store of records, with its archive, under concurrent clients and readers, crashes, and
//! faults of disk and archive.
//!
//! A run starts the process again and again: it opens the log, is judged on what it recovered, serves its clients and followers
//! until they are done or it is killed, or until a write failed, which poisons it. Between starts the manifest may be lost. When
//! all steps are done, or after too many starts, the faults stop and the log is opened a last time: everything is read, verified
//! and appended to.
//!
//! | file | holds |
//! |---|---|
//! | `case.rs` | the workload as plain data |
//! | `generate.rs` | from a seed to a workload |
//! | `record.rs` | self-describing records |
//! | `process.rs` | one incarnation |
//! | `client.rs` | one client |
//! | `reader.rs` | cursors, followers, read-only openings |
//! | `remains.rs` | what is left when all is done |
//! | `shared.rs` | what outlives an incarnation |

pub mod case;
mod client;
mod generate;
mod process;
mod reader;
pub mod record;
mod remains;
mod shared;

use crate::case::Case;
use crate::check::aof_history::Stop;
use crate::check::errors;
use crate::profile::{Run, Workload};
use crate::{Exit, Fault, FaultConfig, FaultEvent, Harness, Rate, Schedule, SimArchive, Violation, WorldConfig, roll};
use aidb::env::{Disk, DiskFile, Env, OpenMode};
use case::ManifestFate;
use shared::{Plan, Shared};
use std::collections::BTreeSet;
use std::path::Path;

/// How often the process is started before the run is brought to its end.
const STARTS_MAX: u32 = 40;
/// After so many steps a run counts as a livelock.
const STEPS_MAX: u64 = 3_000_000;

/// Builds the case of `seed`.
pub fn case(seed: u64, planted: &BTreeSet<String>) -> Case {
    let mut world = WorldConfig { planted: planted.clone(), steps_max: STEPS_MAX, ..WorldConfig::swarm(seed) };
    let mut workload = generate::workload(seed, 100);
    archive_faults(&mut world.faults, seed);
    // Most seeds mix everything; some go deep into one thing.
    match roll(seed, "focus", 0) % 10 {
        0 => {
            // Damage at rest, again and again, in a log that is closed in order.
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
        4 => {
            // An archive that fails in one way often, and crashes.
            let faults = &mut world.faults;
            *faults = FaultConfig { crash: Rate::one_in(100), crashes_max: 6, crash_power_percent: 50, ..calm(faults) };
            let rate = Rate::one_in([1, 2, 4][roll(seed, "focus", 1) as usize % 3]);
            let kinds = [
                &mut faults.remote_fail,
                &mut faults.remote_lost,
                &mut faults.remote_late,
                &mut faults.remote_conflict,
                &mut faults.remote_damaged,
            ];
            let kind = roll(seed, "focus", 2) as usize % kinds.len();
            *kinds.into_iter().nth(kind).expect("below their number") = rate;
            workload.options.archive = true;
        }
        5 => {
            // Records that expire while the wall clock goes back and forth.
            let faults = &mut world.faults;
            *faults = FaultConfig { latency_ns_max: faults.latency_ns_max, ..FaultConfig::default() };
            faults.wall_step = Rate::one_in([2, 5, 20][roll(seed, "focus", 1) as usize % 3]);
            faults.wall_step_us_max = [10_000_000, 86_400_000_000][roll(seed, "focus", 2) as usize % 2];
            workload.options.retention_age_us = Some([1_000, 1_000_000][roll(seed, "focus", 3) as usize % 2]);
        }
        _ => {}
    }
    // A stall is a thousand rounds of the background thread at most, or a run would be made of these.
    world.faults.stall_ns_max = world.faults.stall_ns_max.min(workload.options.background_us * 1_000_000);
    Case::new(world, Workload::Aof(workload))
}

/// The conditions of `faults` without its events.
fn calm(faults: &FaultConfig) -> FaultConfig {
    FaultConfig {
        latency_ns_max: faults.latency_ns_max,
        remote_latency_ns_max: faults.remote_latency_ns_max,
        ..FaultConfig::default()
    }
}

/// A random subset of the archive's faults. One seed in three has none.
fn archive_faults(faults: &mut FaultConfig, seed: u64) {
    let mut site = 0;
    let mut draw = |n: u64| {
        site += 1;
        roll(seed, "archive swarm", site) % n
    };
    faults.remote_latency_ns_max = [0, 0, 100_000, 50_000_000][draw(4) as usize];
    if draw(3) == 0 {
        return;
    }
    let mut some = |one_in: u64, rates: [u32; 3]| {
        if draw(one_in) == 0 { Rate::one_in(rates[draw(3) as usize]) } else { Rate(0) }
    };
    faults.remote_fail = some(3, [2, 6, 30]);
    faults.remote_lost = some(3, [3, 10, 30]);
    faults.remote_late = some(3, [2, 6, 30]);
    faults.remote_conflict = some(4, [2, 6, 30]);
    faults.remote_damaged = some(4, [2, 6, 30]);
    faults.remote_gone = some(16, [10, 40, 200]);
    faults.remote_rot = some(16, [10, 40, 200]);
    faults.remote_stall = some(6, [10, 50, 200]);
}

/// Runs a case.
pub fn run(case: &Case) -> Run {
    let Workload::Aof(workload) = &case.workload else { panic!("a case of profile {}", case.profile) };
    let shared = Shared::new(Plan::new(workload));
    let mut outcome = crate::run(&case.world, |harness| drive(harness, &shared, case.world.seed));
    shared.with(|state| {
        if outcome.violation.is_none() {
            outcome.violation = errors::check(&state.complaints, &outcome, !state.manifest_always_kept);
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
        if shared.with(|state| state.segment) > segment {
            let end = shared.plan().segments[segment].end;
            if end.power_loss {
                power_loss(harness, shared, segment as u64);
            }
            tamper(harness, shared, end.manifest);
        }
    }
    if roll(seed, "power loss at the end", 0).is_multiple_of(2) {
        power_loss(harness, shared, u64::MAX);
    }
    harness.set_crashes(false);
    harness.set_faults(false);
    SimArchive.land_all();
    let mine = shared.clone();
    let exit = harness.run_process(move |env| process::finish(&env, &mine));
    survived(harness, shared, exit);
    let finished = shared.with(|state| state.finished);
    let unreadable = |event: &FaultEvent| matches!(event.fault, Fault::ReadError { sticky: true });
    let kept = shared.with(|state| state.manifest_always_kept && !state.archive_lost);
    let excused = !kept || !harness.damage().is_empty() || harness.fired().iter().any(unreadable);
    if !finished && !harness.violated() && !excused {
        let complaint = shared.with(|state| state.complaints.last().map(ToString::to_string)).unwrap_or_default();
        harness.violation("unavailable", format!("the log does not come back on a well disk: {complaint}"));
    }
    let hash = shared.with(|state| {
        state
            .history
            .known
            .iter()
            .fold(0, |hash, (id, known)| aidb::base::hash::hash64(&known.stamp.step.to_le_bytes(), hash ^ id))
    });
    harness.mix_state(hash);
}

fn power_loss(harness: &mut Harness, shared: &Shared, index: u64) {
    let loss = harness.loss(index);
    harness.power_loss(loss);
    // A close left nothing to lose.
    shared.with(|state| state.stop = state.stop.map(|stop| if stop == Stop::Close { stop } else { Stop::Power }));
}

/// Does to the manifest what somebody might, while no process runs.
fn tamper(harness: &mut Harness, shared: &Shared, fate: ManifestFate) {
    let env = harness.env();
    let (disk, dir) = (env.disk(), Path::new(process::DIR).join("manifest"));
    let files: Vec<_> = match disk.list(&dir) {
        Ok(entries) => entries.into_iter().map(|entry| dir.join(entry.name)).collect(),
        Err(_) => return,
    };
    let done = match fate {
        ManifestFate::Kept => return,
        ManifestFate::Lost => files.iter().try_for_each(|file| disk.remove(file)),
        ManifestFate::Renamed => {
            let aside = dir.with_extension("aside");
            disk.create_dir_all(&aside).and_then(|()| {
                let to = |file: &Path| aside.join(file.file_name().unwrap_or_default());
                files.iter().try_for_each(|file| disk.rename(file, &to(file)))
            })
        }
        ManifestFate::Torn => {
            let logs = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "log"));
            logs.max().map_or(Ok(()), |file| {
                let file = disk.open(file, OpenMode::ReadWrite)?;
                let bytes = file.len()?;
                file.truncate(bytes - bytes / 3)?;
                file.sync(aidb::env::SyncKind::All)
            })
        }
    };
    let synced = done.and_then(|()| disk.sync_dir(&dir));
    assert!(synced.is_ok(), "nothing fails in the body of a run: {synced:?}");
    shared.with(|state| (state.manifest_kept, state.manifest_always_kept) = (false, false));
}

/// Takes in how an incarnation ended; returns whether the run goes on.
fn survived(harness: &mut Harness, shared: &Shared, exit: Exit) -> bool {
    let fired = harness.fired();
    let sync_failures = fired.iter().filter(may_fail_syncs).count();
    let damaged = !harness.damage().is_empty();
    let (violation, unavailable) = shared.with(|state| {
        // Damage may look like the torn end of the manifest, which then says what it said before.
        state.manifest_kept &= !damaged;
        if let Exit::Crashed { power } = exit {
            state.stop = state.stop.max(Some(if power { Stop::Power } else { Stop::Process }));
        }
        if sync_failures > state.sync_failures && state.stop == Some(Stop::Process) {
            // What a failed sync did not write leaves the page cache too.
            state.stop = Some(Stop::Power);
        }
        state.sync_failures = sync_failures;
        state.archive_lost = fired.iter().any(loses_objects);
        let undamaged = state.unless_damaged.take().filter(|_| !damaged);
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

/// How many bytes beside each other an event damages at rest.
fn damaged_bytes(event: &FaultEvent) -> u64 {
    match event.fault {
        Fault::Misdirected { .. } => 512,
        // Whatever one write wrote.
        Fault::LostWrite { .. } => 1 << 40,
        _ => 0,
    }
}

/// Whether an event may take archived bytes away.
fn loses_objects(event: &FaultEvent) -> bool {
    matches!(event.fault, Fault::RemoteGone | Fault::RemoteRot { .. })
}
