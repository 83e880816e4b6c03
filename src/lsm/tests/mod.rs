//! Tests of the whole engine over the operating system: the model, opening, and what is refused.
#![allow(clippy::disallowed_methods, reason = "these tests damage real files and use real threads")]

mod compact_range;
mod ingest;
mod keyspaces;
mod merge;
mod model;
mod open;
mod ops;
mod ops_backup;
mod ops_read_only;
mod ranges;
mod repair;
mod ttl;
mod txn;
mod txn_locks;

use super::{DB, Options};
use tempfile::TempDir;

/// Options that bring flushes and compactions about with a few hundred entries.
fn tiny() -> Options {
    Options {
        durability: super::Durability::Buffered,
        memtable_bytes: 4 << 10,
        block_bytes: 256,
        block_cache_bytes: 16 << 10,
        l0_compaction_files: 2,
        l0_stall_files: 8,
        level_bytes_base: 8 << 10,
        level_size_multiplier: 4,
        levels_max: 3,
        table_bytes: 4 << 10,
        wal_segment_bytes: 8 << 10,
        manifest_bytes_max: 4 << 10,
        ..Options::default()
    }
}

fn open(dir: &TempDir) -> DB {
    DB::open(dir.path(), tiny()).unwrap()
}

fn key(number: u64) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    format!("value {number} ").repeat(1 + number as usize % 5).into_bytes()
}
