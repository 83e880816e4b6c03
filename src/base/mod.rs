//! Floor 0: what every other floor may use, and which uses nothing itself.
//!
//! Byte codecs, checksums, key types, the crate's error and the limits that all of it keeps. No I/O, no clock, no locks.

pub mod checksum;
pub mod coding;
pub mod error;
pub mod exposition;
pub mod hash;
pub mod key;
pub mod limits;

pub use error::{Error, ErrorKind, Result};
