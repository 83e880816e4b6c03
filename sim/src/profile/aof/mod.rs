//! Profile `aof`: the segmented log as a store of records, with its archive, under concurrent clients and readers, crashes, and
//! faults of disk and archive.
//!
//! The process opens the log, is judged on what it recovered, serves its clients and followers until they are done or it is
//! killed, or until a write failed, which poisons it. Between starts the manifest may be lost. In the end everything is read,
//! verified and appended to.
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
//! | `shared.rs` | what outlives an incarnation, beside what all profiles keep |

pub mod case;
mod client;
mod generate;
mod process;
mod reader;
pub mod record;
mod remains;
mod shared;

use super::focus::{focus, one_of, world};
use super::{Run, Workload, drive, shared as common};
use crate::case::Case;
use crate::check::aof_history::{History, Time};
use crate::{Fault, FaultConfig, FaultEvent, Harness, Rate, SimArchive, SimEnv, Violation, WorldConfig, roll};
use aidb::env::{Disk, DiskFile, Env, OpenMode};
use case::ManifestFate;
use shared::{Own, Shared, State};
use std::collections::BTreeSet;
use std::path::Path;

/// Builds the case of `seed`.
pub fn case(seed: u64, planted: &BTreeSet<String>) -> Case {
    let mut world = world(seed, planted);
    let mut workload = generate::workload(seed, 100);
    archive_faults(&mut world.faults, seed);
    match focus(seed, &mut world, &mut workload) {
        4 => focus_on_archive(seed, &mut world, &mut workload),
        5 => focus_on_expiry(seed, &mut world, &mut workload),
        _ => {}
    }
    // A stall is a thousand rounds of the background thread at most, or a run would be made of these.
    world.faults.stall_ns_max = world.faults.stall_ns_max.min(workload.options.background_us * 1_000_000);
    Case::new(world, Workload::Aof(workload))
}

/// An archive that fails in one way often, and crashes.
fn focus_on_archive(seed: u64, world: &mut WorldConfig, workload: &mut case::Workload) {
    let faults = &mut world.faults;
    *faults = FaultConfig { crash: Rate::one_in(100), crashes_max: 6, crash_power_percent: 50, ..calm(faults) };
    let rate = one_of(seed, [1, 2, 4]);
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

/// Records that expire while the wall clock goes back and forth.
fn focus_on_expiry(seed: u64, world: &mut WorldConfig, workload: &mut case::Workload) {
    let faults = &mut world.faults;
    *faults = FaultConfig { latency_ns_max: faults.latency_ns_max, ..FaultConfig::default() };
    faults.wall_step = one_of(seed, [2, 5, 20]);
    faults.wall_step_us_max = [10_000_000, 86_400_000_000][roll(seed, "focus", 2) as usize % 2];
    workload.options.retention_age_us = Some([1_000, 1_000_000][roll(seed, "focus", 3) as usize % 2]);
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
    drive::run::<Subject>(&case.world, workload)
}

/// The log.
enum Subject {}

impl common::Subject for Subject {
    type Workload = case::Workload;
    type History = History;
    type Fixed = ();
    type Own = Own;

    const NAME: &'static str = "log";
    const OPENINGS_MAX: u32 = 3;

    fn begin(workload: &case::Workload) -> ((), History, Own) {
        ((), History::new(), Own::new(&workload.options))
    }

    fn tick(history: &mut History) -> Time {
        history.tick()
    }

    fn serve_once(env: &SimEnv, shared: &Shared) -> bool {
        process::serve_once(env, shared)
    }

    fn same_process(state: &State) -> bool {
        state.own.openings.is_multiple_of(2)
    }

    fn finish(env: &SimEnv, shared: &Shared) {
        process::finish(env, shared);
    }

    fn between(harness: &mut Harness, shared: &Shared, end: case::End) {
        tamper(harness, shared, end.manifest);
    }

    fn before_last() {
        SimArchive.land_all();
    }

    fn survived(state: &mut State, harness: &Harness) -> Option<Violation> {
        let damaged = !harness.damage().is_empty();
        // Damage may look like the torn end of the manifest, which then says what it said before.
        state.own.manifest_kept &= !damaged;
        state.own.archive_lost = harness.fired().iter().any(loses_objects);
        state.own.unless_damaged.take().filter(|_| !damaged)
    }

    fn tampered(state: &State) -> bool {
        !state.own.manifest_always_kept
    }

    fn excused(state: &State) -> bool {
        !state.own.manifest_always_kept || state.own.archive_lost
    }

    fn state_hash(state: &State) -> u64 {
        let known = state.history.known.iter();
        known.fold(0, |hash, (id, known)| aidb::base::hash::hash64(&known.stamp.step.to_le_bytes(), hash ^ id))
    }
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
    shared.with(|state| (state.own.manifest_kept, state.own.manifest_always_kept) = (false, false));
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
