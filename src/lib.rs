//! AiDb: a storage engine whose failures can be replayed.

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

pub use base::{Error, ErrorKind, Result};
pub use lsm::{
    CommitInfo, Compression, Cursor, DB, DbIterator, Durability, Engine, Entry, IntegrityReport, Options, Snapshot,
    Statistics, Value, WriteBatch, WriteOptions,
};
