//! One operation log under many sets of options gives the same answers; `sim meta` does the same without a limit.

use aidb_sim::profile::engine::meta::{self, Difference};
use std::collections::BTreeSet;

#[test]
fn every_set_of_options_gives_the_same_answers() {
    for seed in 0..60 {
        if let Some(difference) = meta::check(seed, 6, &BTreeSet::new()) {
            panic!("{}", difference.reduced(3_000));
        }
    }
}

/// Looks for a difference under a planted bug, and makes it small.
fn found(bug: &str) -> Difference {
    let planted = BTreeSet::from([bug.to_owned()]);
    let found = (0..200).find_map(|seed| meta::check(seed, 6, &planted));
    found.unwrap_or_else(|| panic!("{bug} gives the same answers to 200 logs")).reduced(2_000)
}

#[test]
fn level_0_searched_oldest_first_answers_differently() {
    let small = found("l0_newest_order_wrong");
    assert!(small.log.steps.len() <= 8 && small.changed().len() <= 4, "{small}");
}

#[test]
fn tombstones_that_go_early_answer_differently() {
    let small = found("compaction_drops_tombstone_early");
    assert!(small.log.steps.len() <= 20 && small.changed().len() <= 8, "{small}");
}

#[test]
fn versions_that_a_snapshot_sees_and_that_go_answer_differently() {
    let small = found("compaction_ignores_snapshots");
    assert!(small.log.steps.len() <= 20 && small.changed().len() <= 8, "{small}");
}
