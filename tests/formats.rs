//! The bytes on disk: golden files of every format version are read forever and written again to the same bytes, and every
//! seed of the fuzz targets holds the target's properties.
//!
//! A test binary of its own, run by `cargo test`. With `AIDB_REWRITE_GOLDEN=1` it writes the golden files instead of
//! comparing them: only right for a new format version, or while none was released.
#![cfg(feature = "server")]
#![allow(clippy::disallowed_methods, reason = "reads the corpus, not a database")]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library when the fuzz targets use it")]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

fn corpus(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(dir)
}

/// Lists the files of `dir`, by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_fuzz_seed_holds_the_properties_of_its_target() {
    for (name, check) in fuzz::TARGETS {
        let seeds = files(&corpus("fuzz").join(name));
        assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            println!("{}", seed.display());
            check(&fs::read(seed).unwrap());
        }
    }
}
