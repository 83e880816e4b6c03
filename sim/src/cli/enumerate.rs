//! `sim enum`: a crash before and after every disk operation.

use super::swarm::summary;
use super::{Common, Effort, clear_progress, progress, report};
use aidb_sim::campaign::enumerate;
use clap::Args;

/// Crash a workload before and after each of its disk writes, in every way, and again during recovery
///
/// The workload of the seed runs without other faults. At each mutating disk operation (create, write, sync, rename, remove,
/// truncate, directory sync) the process dies, or the power goes with five kinds of loss, before the operation or after it. Then, for a sample
/// of these places, a second crash strikes at each of the next operations: the recovery. Last, each operation fails once:
/// sync, write, no space.
#[derive(Args)]
pub(crate) struct Command {
    /// The seed of the workload
    #[arg(long, short, default_value_t = 0)]
    seed: u64,
    /// At how many places a second crash is tried during the recovery from the first
    #[arg(long, default_value_t = 50)]
    double: u64,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    effort: Effort,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let campaign = self.effort.campaign(self.common.planted()?);
        let result = enumerate(&campaign, self.common.profile, self.seed, self.double, &mut progress("crash points"));
        clear_progress();
        result.totals.failures.iter().for_each(report);
        summary(&result.totals);
        println!(
            "seed {}: {} disk writes, {} failures tested; {} crash points tested, {} of them with a second crash during recovery",
            self.seed,
            result.ios,
            result.failing,
            result.single + result.double,
            result.double
        );
        Ok(result.totals.failures.is_empty())
    }
}
