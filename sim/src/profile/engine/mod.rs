//! Profile `engine`: the LSM engine on its log, under concurrent clients, crashes and disk faults.
//!
//! The process opens the database, is judged on what it recovered, serves its clients until they are done or it is killed, or
//! until a write failed, which poisons it. In the end everything is read, checked and scrubbed.
//!
//! | file | holds |
//! |---|---|
//! | `case.rs` | the workload as plain data |
//! | `generate.rs` | from a seed to a workload |
//! | `value.rs` | keys and self-describing values |
//! | `process.rs` | one incarnation |
//! | `client.rs` | one client |
//! | `copies.rs`, `look.rs` | checkpoints and backups; reading beside the writer |
//! | `meta.rs` | one log under many options |
//! | `shared.rs` | what outlives an incarnation, beside what all profiles keep |

pub mod case;
mod client;
mod copies;
pub(super) mod generate;
mod look;
pub mod meta;
mod process;
mod shared;
mod twin;
pub mod value;

use super::database::{Database, Kept, state_hash};
use super::focus::{focus, world};
use super::{Run, Workload, drive, shared as common};
use crate::case::Case;
use crate::check::history::{History, Time};
use crate::{Harness, Rate, SimEnv, Violation, roll};
use generate::Size;
use shared::{Own, Shared, State};
use std::collections::BTreeSet;

/// Builds the case of `seed`.
pub fn case(seed: u64, planted: &BTreeSet<String>) -> Case {
    let mut world = world(seed, planted);
    let mut workload = generate::workload(seed, Size { steps_max: 120 });
    if focus(seed, &mut world, &mut workload) == 0 {
        generate::stay_in_log(&mut workload, seed);
    }
    generate::make_copies(&mut workload, seed);
    if generate::make_fading(&mut workload, seed) && roll(seed, "fading", 0).is_multiple_of(2) {
        world.faults.wall_step = Rate::one_in([2, 5, 20][roll(seed, "fading", 1) as usize % 3]);
        world.faults.wall_step_us_max = [20_000, 1_000_000, 60_000_000][roll(seed, "fading", 2) as usize % 3];
    }
    Case::new(world, Workload::Engine(workload))
}

/// Runs a case.
pub fn run(case: &Case) -> Run {
    let Workload::Engine(workload) = &case.workload else { panic!("a case of profile {}", case.profile) };
    drive::run::<Subject>(&case.world, workload)
}

/// The database.
enum Subject {}

impl common::Subject for Subject {
    type Workload = case::Workload;
    type History = History;
    type Fixed = value::Keys;
    type Own = Own;

    const NAME: &'static str = "database";
    const OPENINGS_MAX: u32 = 4;

    fn begin(workload: &case::Workload) -> (value::Keys, History, Own) {
        let mut history = History::default();
        history.fading.filtered = workload.options.filter;
        (workload.keys(), history, Own::default())
    }

    fn tick(history: &mut History) -> Time {
        history.tick()
    }

    fn complained(state: &mut State, error: &aidb::Error) {
        state.own.kept.complained(&mut state.history, error);
    }

    fn serve_once(env: &SimEnv, shared: &Shared) -> bool {
        process::serve_once(env, shared)
    }

    fn same_process(state: &State) -> bool {
        state.history.commits.len().is_multiple_of(2)
    }

    fn finish(env: &SimEnv, shared: &Shared) {
        process::finish(env, shared);
    }

    fn survived(state: &mut State, harness: &Harness) -> Option<Violation> {
        state.own.kept.survived(harness)
    }

    fn look_at_files(harness: &mut Harness, shared: &Shared) {
        shared.scrub(harness);
    }

    fn state_hash(state: &State) -> u64 {
        state_hash(&state.history)
    }
}

impl Database for Subject {
    fn kept(own: &mut Own) -> &mut Kept {
        &mut own.kept
    }
}
