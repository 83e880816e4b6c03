//! The log as a store under simulation, in the doses that plain `cargo test` can take; `sim swarm --profile aof` does the same
//! without a limit. A failure here prints the line that replays it.

use aidb_sim::campaign::{self, fingerprint};
use aidb_sim::profile::Profile;

#[test]
fn no_seed_violates_anything() {
    let totals = campaign::check(Profile::Aof, 0..300);
    assert_eq!(totals.runs, 300);
    assert!(totals.recoveries > 600, "only {} recoveries were checked", totals.recoveries);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [81, 6] {
        assert_eq!(fingerprint(Profile::Aof, seed), fingerprint(Profile::Aof, seed), "seed {seed}");
    }
}
