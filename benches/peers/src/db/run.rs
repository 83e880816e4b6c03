//! The parent: runs every cell of every round in a child process and hands the figures to the report.

use super::report::{self, Results};
use super::store::System;
use super::workload::Workload;
use crate::Result;
use crate::children::{Scratch, child};
use crate::figures::Figures;
use crate::log::raw::Raw;
use std::path::PathBuf;
use std::time::Instant;

/// What to measure.
pub struct Plan {
    /// How often each cell runs.
    pub rounds: usize,
    /// Entries of the database.
    pub num: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Bytes of the block cache.
    pub cache_bytes: usize,
    /// Milliseconds of a synced fill.
    pub ms: u64,
    /// Who takes part.
    pub systems: Vec<System>,
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// Where the directories are made.
    pub dir: PathBuf,
}

/// Runs the plan and prints the tables.
///
/// # Errors
/// If a cell failed, after the tables are printed.
pub fn run(plan: &Plan) -> Result<()> {
    let scratch = Scratch::new(&plan.dir)?;
    let start = Instant::now();
    let mut results = Results::default();
    for round in 0..plan.rounds {
        for &workload in &plan.workloads {
            if workload == Workload::FillSync(1) {
                results.raw_sync.push(raw_sync(plan, &scratch)?);
            }
            let mut turn = plan.systems.clone();
            turn.rotate_left(round % plan.systems.len());
            for system in turn {
                let outcome = one(plan, system, workload, &scratch);
                let text = outcome.as_ref().map_or_else(String::clone, |figures| format!("{:.0}/s", figures.rate()));
                eprintln!("round {} {} {}: {text}", round + 1, workload.name(), system.name());
                results.cells.entry((workload, system)).or_default().push(outcome);
            }
        }
    }
    drop(scratch);
    report::print(plan, &results, start.elapsed());
    let failed = results.failures().count();
    if failed > 0 { Err(format!("{failed} runs failed")) } else { Ok(()) }
}

fn one(plan: &Plan, system: System, workload: Workload, scratch: &Scratch) -> Result<Figures> {
    let dir = scratch.empty("db")?;
    let numbers =
        [plan.num, plan.value_bytes as u64, plan.cache_bytes as u64, plan.ms].map(|number| number.to_string());
    let [num, value, cache, ms] = &numbers;
    child(&["db-child", system.name(), &workload.name(), num, value, cache, ms, &dir.to_string_lossy()], &[])
}

/// Measures how fast the machine syncs a record of the same size.
fn raw_sync(plan: &Plan, scratch: &Scratch) -> Result<Figures> {
    let dir = scratch.empty("raw")?;
    let (bytes, ms, warm) = (plan.value_bytes.to_string(), plan.ms.to_string(), (plan.ms / 6).to_string());
    child(&["log-child", Raw::Sync.name(), "Sync x1", &bytes, &ms, &warm, &dir.to_string_lossy()], &[])
}
