//! The LSM key-value engine.

pub mod batch;
pub mod cache;
pub mod db;
pub mod integrity;
pub mod iter;
pub mod iterator;
pub mod memtable;
pub mod options;
pub mod snapshot;
pub mod stats;
pub mod table;
pub mod value;

pub use batch::WriteBatch;
pub use db::{CommitInfo, DB, Engine};
pub use integrity::IntegrityReport;
pub use iterator::{Cursor, DbIterator, Entry};
pub use options::{Durability, Options, WriteOptions};
pub use snapshot::Snapshot;
pub use stats::{LevelStatistics, Statistics};
pub use table::Compression;
pub use value::Value;

/// Coverage marks of this floor; a campaign that never reaches one of them fails.
pub const MARKS: &[&str] = &[];

/// Bugs that the simulator can switch on in this floor: name and what goes wrong.
pub const PLANTED_BUGS: &[(&str, &str)] = &[];
