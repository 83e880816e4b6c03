//! `sim meta`: does one operation log give the same answers under every set of options?

use super::{Common, Seeds};
use aidb_sim::profile::Profile;
use aidb_sim::profile::engine::meta;
use clap::Args;

/// Run one operation log under many sets of options and compare every answer
///
/// A difference is reduced: the log, then its steps, then the options towards the plain ones.
#[derive(Args)]
pub(crate) struct Command {
    /// The seeds, as A..B or as a number of them
    #[arg(long, default_value = "100")]
    seeds: Seeds,
    /// How many random sets of options for each log
    #[arg(long, default_value_t = 8)]
    sets: u64,
    /// How often to try something smaller
    #[arg(long, default_value_t = 3_000)]
    tries: u64,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        if self.common.profile != Profile::Engine {
            return Err(format!("profile {} has no such options; use --profile engine", self.common.profile));
        }
        let planted = self.common.planted()?;
        let count = self.seeds.0.end - self.seeds.0.start;
        for seed in self.seeds.0 {
            if let Some(difference) = meta::check(seed, self.sets, &planted) {
                println!("DIFFERENT ANSWERS to the log of seed {seed}; made smaller:");
                println!("{}", difference.reduced(self.tries));
                let bugs: String = planted.iter().map(|bug| format!(" --planted {bug}")).collect();
                let (next, sets) = (seed + 1, self.sets);
                println!(
                    "  replay: cargo run --release -p aidb-sim -- meta --seeds {seed}..{next} --sets {sets}{bugs}"
                );
                return Ok(false);
            }
        }
        println!("{count} logs under {} sets of options each: the same answers", self.sets + 1);
        Ok(true)
    }
}
