//! Replays every case of `corpus/sim/`.
//!
//! A case names the planted bugs under which it must go wrong, in the way it says, and without which it must pass: so long as both
//! hold, it still bites. A case of a bug that was real names none and must pass.
#![allow(clippy::disallowed_methods, reason = "reads the corpus, not a database")]

use aidb_sim::case::Case;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/sim");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_passes_and_still_bites() {
    let cases = cases();
    assert!(cases.len() >= 3, "the corpus is missing");
    for path in cases {
        let mut case = Case::read(&path).unwrap_or_else(|message| panic!("{message}"));
        let (profile, name) = (case.profile().unwrap(), path.display());
        if !case.bites.is_empty() {
            case.world.planted = case.bites.iter().cloned().collect();
            let violation = profile.run(&case).outcome.violation;
            let violation = violation.unwrap_or_else(|| panic!("{name} does not bite any more: shrink a new one"));
            let kept = case.violation.as_ref().unwrap_or_else(|| panic!("{name} does not say what goes wrong"));
            assert_eq!(violation.kind, kept.kind, "{name} bites in another way: {violation}");
        }
        case.world.planted.clear();
        if let Some(violation) = profile.run(&case).outcome.violation {
            panic!("{name}: {violation}");
        }
    }
}
