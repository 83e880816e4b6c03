//! The seeds of the fuzz target `engine_ops`, and a few hundred random inputs, run under a stable compiler.
#![allow(clippy::disallowed_methods, reason = "reads the corpus, not a database")]

#[path = "../../fuzz/src/engine.rs"]
#[allow(unreachable_pub, reason = "a module of a library when the fuzz target uses it")]
mod engine;

use std::path::Path;

#[test]
fn every_seed_keeps_its_promises() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/fuzz/engine_ops");
    let mut seeds: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 4, "{} seeds", seeds.len());
    for seed in seeds {
        println!("{}", seed.display());
        engine::operations(&std::fs::read(seed).unwrap());
    }
}

fn random_input(seed: u64) -> Vec<u8> {
    (0..300).map(|at| aidb_sim::roll(seed, "engine_ops", at) as u8).collect()
}

#[test]
fn random_inputs_keep_their_promises() {
    for seed in 0..200 {
        println!("seed {seed}");
        engine::operations(&random_input(seed));
    }
}

/// A model that no bug can trip proves nothing.
#[test]
fn planted_bugs_break_promises() {
    for bug in ["aof_ack_before_sync", "current_rename_without_dir_sync", "compaction_ignores_snapshots"] {
        let caught = (0..200).any(|seed| {
            let run = || engine::operations_with(&random_input(seed), Some(bug));
            std::panic::catch_unwind(run).is_err()
        });
        assert!(caught, "{bug} goes unnoticed");
    }
}
