//! `sim check`: is the simulation itself deterministic?

use super::{Common, Seeds};
use aidb_sim::campaign::{Fingerprint, fingerprint};
use clap::Args;

/// Run each seed twice in this process and once in another, and compare
///
/// Compared are the hash over all events, their number, and the final state. A pointer or a hash map's order that leaks into a
/// decision shows only between processes.
#[derive(Args)]
pub(crate) struct Command {
    /// The seeds, as A..B or as a number of them
    #[arg(long, default_value = "50")]
    seeds: Seeds,
    #[command(flatten)]
    common: Common,
    /// Print the fingerprints only: what the other process is asked for
    #[arg(long, hide = true)]
    fingerprints: bool,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let profile = self.common.profile;
        if self.fingerprints {
            for seed in self.seeds.0 {
                println!("{}", line(seed, &fingerprint(profile, seed)));
            }
            return Ok(true);
        }
        let seeds = self.seeds.0;
        let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let child = std::process::Command::new(program)
            .args(["check", "--fingerprints", "--profile", profile.name()])
            .args(["--seeds", &format!("{}..{}", seeds.start, seeds.end)])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start this program a second time: {error}"))?;
        let here: Vec<(String, String)> = seeds
            .clone()
            .map(|seed| (line(seed, &fingerprint(profile, seed)), line(seed, &fingerprint(profile, seed))))
            .collect();
        let output = child.wait_with_output().map_err(|error| format!("the second process is lost: {error}"))?;
        let there = String::from_utf8_lossy(&output.stdout);
        let there: Vec<&str> = there.lines().collect();
        let mut same = 0;
        for (at, (first, second)) in here.iter().enumerate() {
            let other = there.get(at).copied().unwrap_or("nothing");
            if first != second {
                println!("twice in this process:\n  {first}\n  {second}");
            } else if first != other {
                println!("in two processes:\n  {first}\n  {other}");
            } else {
                same += 1;
            }
        }
        println!("{same} of {} seeds deterministic", here.len());
        Ok(same == here.len())
    }
}

fn line(seed: u64, print: &Fingerprint) -> String {
    format!("seed {seed} hash {:016x} events {} state {:016x}", print.hash, print.events, print.state)
}
