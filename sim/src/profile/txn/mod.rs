//! Profile `txn`: concurrent transactions on the engine, under crashes and disk faults.
//!
//! Some keys are accounts: transactions move amounts between them, collect ranges of them, settle one against all others, and
//! never change the sum. The others are written blindly too, by transactions and by batches outside of them. Whether what was
//! read and committed is serializable is judged from the outside, in three ways that do not know of each other: the bank's sum,
//! a replay in commit order, and cycles of dependencies. Pessimistic transactions are watched at their locks as well.
//!
//! | file | holds |
//! |---|---|
//! | `case.rs` | the workload as plain data |
//! | `generate.rs` | from a seed to a workload |
//! | `opened.rs` | the engine and its keyspaces |
//! | `process.rs` | one incarnation |
//! | `client.rs` | one client |
//! | `attempt.rs` | one attempt at a transaction |

mod attempt;
pub mod case;
mod client;
mod generate;
mod opened;
mod process;

use super::database::{Database, Kept, state_hash};
use super::engine::value::Keys;
use super::focus::{focus, world};
use super::{Run, Workload, drive, shared as common};
use crate::case::Case;
use crate::check::bank::Amounts;
use crate::check::history::{History, Time};
use crate::check::locks::Locks;
use crate::check::txn_history::Txn;
use crate::{Harness, SimEnv, Violation};
use std::collections::BTreeSet;

/// The plan and the state of a run.
type Shared = common::Shared<Subject>;
/// What changes in a run.
type State = common::State<Subject>;

/// What changes in a run of transactions only.
#[derive(Default)]
struct Own {
    kept: Kept,
    /// The transactions since the database was last opened.
    txns: Vec<Txn>,
    /// Which of the commits since then were of pessimistic transactions.
    locked: BTreeSet<usize>,
    locks: Locks,
    /// Transactions so far, of every opening.
    begun: u64,
    /// What every value of an account says.
    amounts: Amounts,
}

/// Builds the case of `seed`.
pub fn case(seed: u64, planted: &BTreeSet<String>) -> Case {
    let mut world = world(seed, planted);
    let mut workload = generate::workload(seed, 60);
    focus(seed, &mut world, &mut workload);
    Case::new(world, Workload::Txn(workload))
}

/// Runs a case.
pub fn run(case: &Case) -> Run {
    let Workload::Txn(workload) = &case.workload else { panic!("a case of profile {}", case.profile) };
    drive::run::<Subject>(&case.world, workload)
}

/// The database and its transactions.
enum Subject {}

impl common::Subject for Subject {
    type Workload = case::Workload;
    type History = History;
    type Fixed = Keys;
    type Own = Own;

    const NAME: &'static str = "database";
    const OPENINGS_MAX: u32 = 4;

    fn begin(workload: &case::Workload) -> (Keys, History, Own) {
        (workload.keys(), History::default(), Own::default())
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
