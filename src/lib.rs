//! AiDb: an embedded key-value store, and a Redis-compatible server on it, whose every failure can be replayed.
//!
//! | to | use |
//! |---|---|
//! | keep an ordered map of byte strings on disk | [`DB`], [`Options`], [`WriteBatch`], [`Snapshot`], [`Transaction`] |
//! | keep a log of records on disk | [`aof::Log`] |
//! | call the engine from tasks of tokio | `LSMStorageEngine` |
//! | run or test the engine over another world than the operating system | [`Engine`], [`Env`](env::Env) |
//! | run the server | the program `aikv`, module `server` |
//!
//! # Guarantees
//! What was acknowledged at [`Durability::Sync`] survives a power loss, at [`Durability::Os`] the death of the process. What is
//! recovered is a prefix in commit order, with every batch whole or absent. A snapshot or iterator sees one moment. Damage is
//! reported as [`ErrorKind::Corruption`] with file and offset, and is never returned as data. After a failed write or sync
//! of the log nothing is acknowledged until the directory is opened again.
//!
//! # Floors
//! Each module uses only those above it in this list.
//!
//! | module | what it is |
//! |---|---|
//! | [`base`] | codecs, checksums, keys, the error |
//! | [`env`](mod@env) | the world as a trait: clock, disk, threads, locks, randomness |
//! | `resp`, [`aof`] | the Redis wire codec; the physical log |
//! | [`lsm`] | the engine |
//! | `storage_engine` | the engine behind `async` calls |
//! | `command` | data model and commands |
//! | `server` | sessions, settings |
//!
//! The feature `server` (default) brings `resp`, `command`, `server` and both programs, the feature `async` (part of it)
//! `storage_engine`; without them nothing depends on tokio.
//!
//! # Example
//! ```
//! # let dir = tempfile::tempdir()?;
//! let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
//! let mut batch = aidb::WriteBatch::new();
//! batch.put("apple", "red");
//! batch.put("pear", "green");
//! db.write(batch)?;
//! let before = db.snapshot();
//! db.delete("apple")?;
//! assert_eq!(db.get("apple")?, None);
//! assert_eq!(before.get("apple")?.unwrap(), b"red");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod aof;
pub mod base;
#[cfg(feature = "server")]
pub mod command;
pub mod env;
pub mod lsm;
#[cfg(feature = "server")]
pub mod resp;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "async")]
pub mod storage_engine;

pub use base::{Error, ErrorKind, Result};
pub use lsm::ops::{backup, repair::repair};
pub use lsm::{
    CheckpointReport, CommitInfo, Compression, Cursor, DB, DbIterator, Durability, Engine, Entry, IntegrityReport,
    Keyspace, KeyspaceOptions, MemtableKind, MergeOperator, Options, ReadOnly, RepairOptions, RepairReport, Savepoint,
    Snapshot, Statistics, Transaction, TransactionOptions, Value, WriteBatch, WriteOptions,
};
#[cfg(feature = "async")]
pub use storage_engine::{CompactionConfig, LSMStorageEngine};

/// Compiles what README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
