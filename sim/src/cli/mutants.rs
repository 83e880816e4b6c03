//! `sim mutants`: does the simulation find bugs that we know of?

use super::{Common, Effort};
use aidb_sim::campaign::{Mutant, mutants};
use aidb_sim::check::checker;
use aidb_sim::profile::Profile;
use clap::Args;

/// A profile and the bugs that are planted in it alone.
type Beside = (Profile, &'static [(&'static str, &'static str)]);

const BESIDE: &[Beside] = &[(Profile::Aof, aidb::aof::STORE_PLANTED_BUGS), (Profile::Txn, aidb::lsm::TXN_PLANTED_BUGS)];

/// Switch each planted bug on and count the seeds until a checker notices
///
/// A checker that no planted bug has tripped proves nothing. Fails unless every bug is found.
#[derive(Args)]
pub(crate) struct Command {
    /// Only these bugs [default: all]
    names: Vec<String>,
    /// How many seeds to try for each
    #[arg(long, default_value_t = 5_000)]
    seeds: u64,
    /// Only list the bugs
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    effort: Effort,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let mut bugs = self.common.profile.planted_bugs();
        // What another profile reaches alone is planted there.
        let beside: &[Beside] = if self.common.profile == Profile::Engine { BESIDE } else { &[] };
        bugs.extend(beside.iter().flat_map(|(_, bugs)| *bugs));
        if let Some(name) = self.names.iter().find(|name| !bugs.iter().any(|(known, _)| known == name)) {
            return Err(format!("there is no planted bug '{name}'; `sim mutants --list` names them"));
        }
        if self.list {
            bugs.iter().for_each(|(name, what)| println!("{name:40} {what}"));
            return Ok(true);
        }
        let campaign = self.effort.campaign(std::collections::BTreeSet::new());
        let mut found = mutants(&campaign, self.common.profile, &self.names, self.seeds, &tell);
        let wanted = |name: &&str| self.names.is_empty() || self.names.iter().any(|wanted| wanted == name);
        for (profile, bugs) in beside {
            let names: Vec<String> = bugs.iter().map(|(name, _)| *name).filter(wanted).map(str::to_owned).collect();
            if !names.is_empty() {
                found.extend(mutants(&campaign, *profile, &names, self.seeds, &tell));
            }
        }
        let count = found.iter().filter(|mutant| mutant.found.is_some()).count();
        println!("{count} of {} mutants found", found.len());
        Ok(count == found.len())
    }
}

fn tell(mutant: &Mutant) {
    match mutant.found.as_ref().and_then(|case| case.violation.as_ref()) {
        Some(violation) => {
            let checker = checker(&violation.kind);
            println!("{:40} {:>6} seeds  {checker} ({})", mutant.name, mutant.seeds, violation.kind);
        }
        None => println!("{:40} NOT FOUND in {} seeds: {}", mutant.name, mutant.seeds, mutant.what),
    }
}
