//! `sim swarm` and `sim marks`: many seeds, each with other faults, options and operations.

use super::{Common, Effort, Seeds, clear_progress, progress, report};
use aidb_sim::campaign::{Totals, swarm};
use aidb_sim::profile::Profile;
use clap::Args;

/// Run many seeds, each with its own faults, options and operations
#[derive(Args)]
pub(crate) struct Command {
    /// The seeds, as A..B
    #[arg(long, default_value = "0..1000")]
    seeds: Seeds,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    effort: Effort,
    /// Fail if a declared mark was never reached
    #[arg(long)]
    require_marks: bool,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let campaign = self.effort.campaign(self.common.planted()?);
        let totals = swarm(&campaign, self.common.profile, self.seeds.0, &mut progress("seeds"));
        clear_progress();
        totals.failures.iter().for_each(report);
        summary(&totals);
        for (kind, runs) in &totals.faults {
            println!("  {runs:>8} runs with {kind}");
        }
        let missed = missed(self.common.profile, &totals);
        let declared = self.common.profile.marks().len();
        println!("{} of {declared} marks reached", declared - missed.len());
        if !missed.is_empty() {
            println!("never reached: {}", missed.join(", "));
        }
        Ok(totals.failures.is_empty() && (missed.is_empty() || !self.require_marks))
    }
}

/// Prints the sums of a campaign.
pub(super) fn summary(totals: &Totals) {
    let seconds = totals.took.as_secs_f64().max(1e-9);
    println!(
        "{} runs in {seconds:.1} s: {:.0} seeds/s, {:.0} crash runs/s, {:.1} simulated s/s",
        totals.runs,
        totals.runs as f64 / seconds,
        totals.crash_runs as f64 / seconds,
        totals.sim_ns as f64 / 1e9 / seconds
    );
    println!(
        "{} crashes, {} starts, {} recoveries checked, {} operations, {} events; {} runs ended by detected damage; {} violations",
        totals.crashes,
        totals.incarnations,
        totals.recoveries,
        totals.operations,
        totals.events,
        totals.unavailable,
        totals.failures.len()
    );
}

fn missed(profile: Profile, totals: &Totals) -> Vec<&'static str> {
    profile.marks().into_iter().filter(|mark| !totals.marks.contains_key(*mark)).collect()
}

/// List the declared coverage marks, and how many of the seeds reach each; fails if one is never reached
#[derive(Args)]
pub(crate) struct Marks {
    /// The seeds, as A..B
    #[arg(long, default_value = "0..1000")]
    seeds: Seeds,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    effort: Effort,
}

impl Marks {
    pub(crate) fn run(self) -> Result<bool, String> {
        let campaign = self.effort.campaign(self.common.planted()?);
        let totals = swarm(&campaign, self.common.profile, self.seeds.0, &mut progress("seeds"));
        clear_progress();
        let declared = self.common.profile.marks();
        for mark in &declared {
            match totals.marks.get(*mark) {
                Some(runs) => println!("{runs:>8} runs  {mark}"),
                None => println!("   never       {mark}"),
            }
        }
        for (mark, runs) in totals.marks.iter().filter(|(mark, _)| !declared.contains(&mark.as_str())) {
            println!("{runs:>8} runs  {mark} (not declared)");
        }
        let missed = missed(self.common.profile, &totals).len();
        println!("{} of {} marks reached in {} runs", declared.len() - missed, declared.len(), totals.runs);
        Ok(missed == 0)
    }
}
