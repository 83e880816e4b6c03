//! Floor 3: the LSM key-value engine, [`Engine`].
//!
//! | module | what it holds |
//! |---|---|
//! | [`db`], [`keyspace`] | the handles: every public call |
//! | [`options`], [`stats`], [`integrity`], [`snapshot`] | what goes in and comes out beside data |
//! | [`batch`], `commit` | write batches, and how they become visible and durable |
//! | [`txn`] | transactions: own writes, what was read, and whether it still holds |
//! | [`memtable`], `flush` | what is not in a table yet, and how it gets there |
//! | [`table`], [`cache`], [`value`] | immutable sorted files, their blocks in memory, what reads return |
//! | [`ranges`] | range deletes: their tombstones in memory and in tables, and what they hide |
//! | [`iter`], [`iterator`] | cursors over internal entries; over what a user sees |
//! | [`merge`] | values made of operands that were written without reading |
//! | `version`, [`manifest`], `files` | which tables there are, in memory and on disk |
//! | `compaction` | picking and doing compactions, and what they keep |
//! | [`ops`] | operations on the whole directory: checkpoints, backups, reading beside the writer |
//! | [`ttl`] | values that expire, and the clock |
//! | `tree`, `state`, `background`, `recovery` | what threads share by keyspace and in all, the threads, and opening |
//!
//! **Invariant:** the six rules that keep data. 1. A failed write or sync of the log or MANIFEST poisons the engine (`state`).
//! 2. Opening writes a fresh MANIFEST before it deletes anything (`recovery`). 3. File numbers are never used twice
//! (`recovery`). 4. The log's own order (`aof`). 5. Recovered state is a prefix in commit order (`flush`, `recovery`).
//! 6. A reader never sees half a batch (`commit`).

mod background;
pub mod batch;
pub mod cache;
mod commit;
mod compaction;
pub mod db;
mod files;
mod flush;
pub mod integrity;
pub mod iter;
pub mod iterator;
pub mod keyspace;
pub mod manifest;
pub mod memtable;
pub mod merge;
pub mod ops;
pub mod options;
pub mod ranges;
mod recovery;
pub mod snapshot;
mod state;
pub mod stats;
pub mod table;
mod tree;
pub mod ttl;
pub mod txn;
pub mod value;
mod version;

#[cfg(test)]
mod tests;

pub use batch::WriteBatch;
pub use compaction::{CompactionFilter, Verdict};
pub use db::{CommitInfo, DB, Engine};
pub use integrity::IntegrityReport;
pub use iterator::{Cursor, DbIterator, Entry};
pub use keyspace::Keyspace;
pub use memtable::MemtableKind;
pub use merge::MergeOperator;
pub use ops::checkpoint::CheckpointReport;
pub use ops::read_only::ReadOnly;
pub use ops::repair::{RepairOptions, RepairReport};
pub use options::{Durability, KeyspaceOptions, Options, WriteOptions};
pub use snapshot::Snapshot;
pub use stats::{LevelStatistics, Statistics};
pub use table::Compression;
pub use txn::{Savepoint, TXN_MARKS, TXN_PLANTED_BUGS, Transaction, TransactionOptions};
pub use value::Value;

/// Coverage marks of this floor; a campaign that never reaches one of them fails.
pub const MARKS: &[&str] = &[
    "lsm.backup",
    "lsm.backup_purged",
    "lsm.backup_shared",
    "lsm.checkpoint",
    "lsm.checkpoint_copied",
    "lsm.commit_group",
    "lsm.commit_sync",
    "lsm.compaction",
    "lsm.compaction_failed",
    "lsm.compaction_idle",
    "lsm.compaction_move",
    "lsm.flush",
    "lsm.flush_failed",
    "lsm.flush_for_log",
    "lsm.keyspace_created",
    "lsm.manifest_roll",
    "lsm.manifest_torn_tail",
    "lsm.merge_combined",
    "lsm.merge_partial",
    "lsm.orphan_removed",
    "lsm.poisoned",
    "lsm.filter_removed",
    "lsm.range_tombstone_alone",
    "lsm.range_tombstone_cut",
    "lsm.range_tombstone_gone",
    "lsm.read_only",
    "lsm.read_only_retry",
    "lsm.restore",
    "lsm.ttl_dropped",
    "lsm.wal_replayed",
    "lsm.write_delay",
    "lsm.write_refused",
    "lsm.write_stop",
];

/// Bugs that the simulator can switch on in an ingest, which profile engine does not do: name and what goes wrong.
pub const INGEST_PLANTED_BUGS: &[(&str, &str)] = &[
    ("ingest_judged_twice", "an ingest goes to a level that a flush took after memtables were looked at"),
    ("ingest_over_memtable", "what is ingested goes below a memtable that holds older values of its keys"),
    ("ingest_seen_early", "the sequence number of an ingest is given to readers before its tables are"),
    ("ingest_sequence_reused", "the next commit has the sequence number of what was ingested"),
    ("ingest_log_not_synced", "tables are ingested before the log is sure to tell of their sequence number"),
];

/// Bugs that the simulator can switch on in a repair, which profile engine does not do: name and what goes wrong.
pub const REPAIR_PLANTED_BUGS: &[(&str, &str)] = &[
    ("repair_trusts_damaged_manifest", "what a damaged MANIFEST says up to its damage is taken for all"),
    ("repair_moves_log_first", "the log is set aside before CURRENT names the MANIFEST that can do without it"),
];

/// Bugs that the simulator can switch on in this floor: name and what goes wrong.
pub const PLANTED_BUGS: &[(&str, &str)] = &[
    ("manifest_not_synced", "the MANIFEST is written but never synced"),
    (
        "current_rename_without_dir_sync",
        "CURRENT is replaced without syncing the directory, then the old MANIFEST removed",
    ),
    ("wal_deleted_before_flush_installed", "the log of a memtable is given back before its table is in the MANIFEST"),
    ("table_dir_not_synced", "a table's directory entry is not synced before the MANIFEST names it"),
    ("immutable_dropped_before_install", "readers lose a full memtable before its table is installed"),
    ("seq_reused_after_recovery", "sequence numbers of replayed commits are given out again"),
    ("file_number_reused", "the directory is not looked at for the next file number"),
    ("compaction_drops_tombstone_early", "tombstones go although older versions lie further down"),
    ("compaction_ignores_snapshots", "versions that a snapshot sees are dropped"),
    ("visible_before_batch_complete", "readers see the first operations of a batch before the last is in"),
    ("l0_newest_order_wrong", "level 0 is searched oldest table first"),
    ("orphans_deleted_before_manifest_switch", "the old MANIFEST goes before CURRENT names the new one"),
    ("table_not_synced", "a table is installed before its bytes are durable"),
    ("keyspace_log_given_back_early", "a flush gives the log back although another keyspace needs it"),
    ("keyspace_replayed_from_another", "what the default keyspace has flushed is not replayed for any keyspace"),
    ("checkpoint_without_log", "a checkpoint leaves out what no table holds"),
    ("checkpoint_current_first", "CURRENT of a checkpoint names its tables before they are there, and nothing says so"),
    ("checkpoint_copy_not_synced", "a table that is copied to a checkpoint or a backup is not synced"),
    ("backup_manifest_first", "a backup's manifest is there before what it names"),
    ("backup_table_not_synced", "the names of a backup's tables are not synced before its manifest names them"),
    ("read_only_removes_orphans", "a read-only view removes files that the writer has not named yet"),
    ("read_only_without_log", "a read-only view leaves out what is in the log alone"),
    ("ttl_clock_goes_back", "what has expired is there again when the wall clock steps back"),
    ("ttl_dropped_under_snapshot", "a value goes that expired after a snapshot was taken"),
    ("block_crc_unchecked", "a damaged block is taken for a good one"),
    ("merge_operand_lost", "a rewrite leaves out the newest of several operands"),
    ("merge_operand_twice", "a rewrite merges an operand twice"),
    ("merge_across_snapshot", "a rewrite merges operands that a snapshot sees with those that it does not see"),
    ("range_delete_ignores_snapshots", "what a range delete covers is dropped although a snapshot from before sees it"),
    ("range_tombstone_dropped_early", "range tombstones go although what they cover lies further down"),
    ("range_tombstone_cut_short", "a range tombstone that reaches over the end of a compaction's output ends there"),
    ("range_covered_shown_backward", "who walks backward is shown keys that a range delete covers"),
    ("range_delete_not_replayed", "range deletes in the log are left out when it is replayed"),
    ("memtable_lookup_stops_at_leaf_end", "a lookup ends at a leaf of the wide memtable whose next one has the answer"),
    ("memtable_prefix_too_long", "a node of the wide memtable ignores a byte in which its keys differ"),
];
