//! `sim run`: one seed, told in full.

use super::{Common, report};
use aidb_sim::campaign::fault_kind;
use aidb_sim::shrink::{Size, finished};
use clap::Args;

/// Run one seed and say what happened
#[derive(Args)]
pub(crate) struct Command {
    /// The seed
    #[arg(long, short)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let case = self.common.profile.case(self.seed, &self.common.planted()?);
        let run = self.common.profile.run(&case);
        let (outcome, size) = (&run.outcome, Size::of(&case));
        println!(
            "seed {}: {} steps of {} clients over {}",
            self.seed,
            size.steps,
            size.clients,
            case.workload.subject()
        );
        println!(
            "{} starts, {} crashes, {} recoveries checked, {} operations, {} disk writes",
            outcome.incarnations, outcome.crashes, run.counts.recoveries, run.counts.operations, outcome.mutating_ios
        );
        for event in &outcome.fired {
            println!("  {:?}: {}", event.at, fault_kind(event));
        }
        for damage in &outcome.damage {
            println!("  damaged: {} bytes of {} at {} ({})", damage.bytes, damage.path, damage.offset, damage.what);
        }
        if run.unavailable {
            println!("the damage was detected and keeps the database closed");
        }
        println!(
            "hash {:016x}, state {:016x}, {} events, {:.6} simulated seconds",
            outcome.hash,
            outcome.state_hash,
            outcome.events,
            outcome.sim_ns as f64 / 1e9
        );
        if outcome.violation.is_some() {
            report(&finished(&case, &run));
            return Ok(false);
        }
        println!("no violation");
        Ok(true)
    }
}
