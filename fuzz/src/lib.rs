//! What each fuzz target asserts about bytes that may be anything.
//!
//! `fuzz/targets/NAME.rs` feeds a function of this crate what libFuzzer finds; `tests/formats.rs` includes the same files and
//! feeds them every seed below `corpus/fuzz/NAME/`, so that seeds and properties are also exercised by a stable compiler.
//! A function returns if its properties hold, and panics if they do not. Run one with
//! `cargo +nightly fuzz run NAME fuzz/corpus/NAME corpus/fuzz/NAME`.

pub mod backup;
pub mod config;
pub mod index;
pub mod life;
pub mod log;
pub mod manifest;
pub mod memory;
pub mod object;
pub mod record;
pub mod resp;
pub mod table;
pub mod wal;

/// Asserts the properties of one target on any bytes.
pub type Check = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Check)] = &[
    ("resp_request", resp::request),
    ("wal_batch", wal::batch),
    ("aof_segment", log::segment),
    ("aof_index", index::footer),
    ("aof_manifest", life::manifest),
    ("aof_object", object::object),
    ("sst_block", table::block),
    ("sst_filter", table::filter),
    ("sst_index", table::index),
    ("sst_footer", table::footer),
    ("sst_table", table::table),
    ("manifest", manifest::manifest),
    ("backup_manifest", backup::manifest),
    ("command_record", record::record),
    ("config", config::config),
];
