//! The engine under simulation, in the doses that plain `cargo test` can take: thousands of crashes, determinism, planted bugs.
//!
//! `sim swarm`, `sim enum`, `sim check` and `sim mutants` do the same without a limit. A failure here prints the line that replays it.

use aidb_sim::campaign::{self, Campaign, fingerprint};
use aidb_sim::profile::Profile;
use std::process::Command;

#[test]
fn no_seed_violates_anything() {
    let totals = campaign::check(Profile::Engine, 0..5_000);
    assert_eq!(totals.runs, 5_000);
    assert!(totals.crash_runs > 1_500, "only {} of the runs crashed", totals.crash_runs);
    assert!(totals.recoveries > 10_000, "only {} recoveries were checked", totals.recoveries);
}

#[test]
fn a_crash_before_and_after_every_disk_write_loses_nothing() {
    // Each has a crash at some hundred places in twelve ways, and then crashes during recovery.
    for seed in [1, 4] {
        let result = campaign::enumerate(&Campaign::default(), Profile::Engine, seed, 5, &mut |_| {});
        if let Some(case) = result.totals.failures.first() {
            let violation = case.violation.as_ref().map(ToString::to_string).unwrap_or_default();
            panic!("workload of seed {seed}, {:?}: {violation}", case.world.plan);
        }
        assert!(result.single > 200, "only {} crash points", result.single);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..40 {
        assert_eq!(fingerprint(Profile::Engine, seed), fingerprint(Profile::Engine, seed), "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_in_another_process() {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(["check", "--seeds", "12"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.ends_with("12 of 12 seeds deterministic\n"), "{text}");
}

#[test]
fn planted_bugs_are_found() {
    assert!(Profile::Engine.planted_bugs().len() >= 12, "a zoo has at least 12 animals");
    let found = campaign::mutants(&Campaign::default(), Profile::Engine, &[], 4_000, &|_| {});
    let missed: Vec<_> = found.iter().filter(|mutant| mutant.found.is_none()).map(|mutant| mutant.name).collect();
    assert!(missed.is_empty(), "not found in 4,000 seeds: {missed:?}");
}
