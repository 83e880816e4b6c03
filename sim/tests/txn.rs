//! Transactions under simulation, in the doses that plain `cargo test` can take; `sim swarm --profile txn` does it without a limit.

use aidb_sim::campaign::{self, Campaign, fingerprint};
use aidb_sim::profile::Profile;

#[test]
fn no_seed_violates_anything() {
    let totals = campaign::check(Profile::Txn, 0..1_200);
    assert!(totals.crash_runs > 350, "only {} of the runs crashed", totals.crash_runs);
    let missed: Vec<_> = aidb::lsm::TXN_MARKS.iter().filter(|mark| !totals.marks.contains_key(**mark)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

#[test]
fn a_crash_before_and_after_every_disk_write_keeps_transactions_whole() {
    let result = campaign::enumerate(&Campaign::default(), Profile::Txn, 2, 3, &mut |_| {});
    if let Some(case) = result.totals.failures.first() {
        let violation = case.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        panic!("workload of seed 2, {:?}: {violation}", case.world.plan);
    }
    assert!(result.single > 200, "only {} crash points", result.single);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..40 {
        assert_eq!(fingerprint(Profile::Txn, seed), fingerprint(Profile::Txn, seed), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found_by_every_checker() {
    let found = campaign::mutants(&Campaign::default(), Profile::Txn, &[], 2_000, &|_| {});
    let missed: Vec<_> = found.iter().filter(|mutant| mutant.found.is_none()).map(|mutant| mutant.name).collect();
    assert!(missed.is_empty(), "not found in 2,000 seeds: {missed:?}");
    // Each checker by itself.
    for (bug, kinds) in [
        ("txn_validation_skipped", ["bank", "not-serial", "cycle"].as_slice()),
        ("txn_lock_not_taken", &["two-holders"]),
        ("txn_deadlock_unseen", &["deadlock-missed"]),
        ("txn_rollback_keeps_lock", &["lock-left"]),
        ("txn_lock_released_early", &["conflict-without-cause"]),
    ] {
        let campaign = Campaign { planted: [bug.to_owned()].into(), failures_max: 100, ..Campaign::default() };
        let totals = campaign::swarm(&campaign, Profile::Txn, 0..600, &mut |_| {});
        for kind in kinds {
            let tripped = |case: &aidb_sim::case::Case| case.violation.as_ref().is_some_and(|is| is.kind == *kind);
            assert!(totals.failures.iter().any(tripped), "{bug} does not trip '{kind}'");
        }
    }
}
