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

#[path = "formats/golden.rs"]
mod golden;
#[path = "formats/golden_backup.rs"]
mod golden_backup;
#[path = "formats/golden_log.rs"]
mod golden_log;
#[path = "formats/golden_ranges.rs"]
mod golden_ranges;
#[path = "formats/seeds.rs"]
mod seeds;

use std::path::{Path, PathBuf};

fn corpus(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(dir)
}

/// True if golden files are to be written instead of compared.
fn rewriting() -> bool {
    std::env::var_os("AIDB_REWRITE_GOLDEN").is_some_and(|value| value == "1")
}
