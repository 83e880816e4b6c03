//! The LSM key-value engine.

pub mod cache;
pub mod iter;
pub mod memtable;
pub mod table;
pub mod value;
