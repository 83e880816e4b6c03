//! `sim min`: the same violation in fewer steps.

use super::{Common, case_of, report};
use aidb_sim::FaultPlan;
use aidb_sim::campaign::fault_kind;
use aidb_sim::shrink::{Size, shrink};
use clap::Args;
use std::path::PathBuf;

/// Shrink a failing case: faults, operations, clients, magnitudes, preemptions
#[derive(Args)]
pub(crate) struct Command {
    /// A .simcase file, or a seed
    case: String,
    /// Where to write the small case [default: FILE with .min.simcase, or ./failures/]
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// How many runs to spend at most
    #[arg(long, default_value_t = 20_000)]
    runs: u64,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let case = case_of(&self.case, &self.common)?;
        let before = Size::of(&case);
        let (mut small, runs) = shrink(&case, self.runs)?;
        if case.bites.is_empty() {
            small.bites = small.world.planted.iter().cloned().collect();
        }
        let path = self.output.unwrap_or_else(|| {
            let name = self.case.strip_suffix(".simcase").map_or(format!("failures/seed-{}", self.case), str::to_owned);
            format!("{name}.min.simcase").into()
        });
        small.write(&path)?;
        let after = Size::of(&small);
        println!(
            "{} runs: {} steps of {} clients became {} of {}",
            runs, before.steps, before.clients, after.steps, after.clients
        );
        if let FaultPlan::Explicit(events) = &small.world.plan {
            for event in events {
                println!("  {:?}: {} {:?}", event.at, fault_kind(event), event.fault);
            }
        }
        for line in small.workload.lines() {
            println!("  {line}");
        }
        println!("  schedule: {}", after.switches.map_or("by seed".into(), |count| format!("{count} switches")));
        match &small.violation {
            Some(violation) => println!("{violation}\n  case:    {}", path.display()),
            None => report(&small),
        }
        Ok(true)
    }
}
