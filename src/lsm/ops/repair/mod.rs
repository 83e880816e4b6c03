//! [`repair`]: makes a damaged directory one that opens, saves what is readable and says what is lost.
//!
//! Runs on its caller's thread with the directory locked; no engine has it open.
//!
//! | file | what it does |
//! |---|---|
//! | `report` | what is told to the user |
//! | `state` | which tables there are to be, by the newest readable MANIFEST |
//! | `look` | what is wrong with the directory; changes nothing |
//! | `write` | new tables, a new MANIFEST, and what is replaced goes to `lost/` |
//!
//! **What is saved.** If CURRENT leads to a MANIFEST that is whole, or the newest one is whole without it, tables stay in their levels,
//! and a damaged one is replaced by what is readable of it. If not, nothing says which tables are in force or which of two
//! is newer: all that are not known to be removed are merged, entry by entry in the order of their sequence numbers, with
//! all of the log, into new tables of the last level. A damaged log is read around its gaps, and what tables do not hold
//! becomes tables; the directory then begins a new log.
//!
//! **What may come back.** Where a tombstone is lost, an older value of its key may be seen again. Without a whole MANIFEST so may
//! what tables hold that had been compacted and not removed yet, and keyspaces that had been dropped. The report says so.
//!
//! - Nothing is removed: what is replaced is moved to `lost/`.
//! - A directory that needs no repair is left as it is.
//! - **Crash-safe:** `REPAIRING` goes in first, durably, and until it is removed the directory is refused by every open. New tables
//!   are durable before the new MANIFEST is, and that is in force before anything is moved. A crash before leaves the
//!   directory as it was with some tables too many, a crash after it leaves files to be moved: a second repair ends either.

mod look;
mod report;
mod state;
mod write;

pub use report::{Lost, RepairReport};

use crate::base::Result;
use crate::env::{Env, StdEnv};
use crate::lsm::options::Options;
use crate::lsm::recovery::lock;
use look::Look;
use std::path::Path;

/// How to repair.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Only says what would be done; default false.
    pub dry_run: bool,
    /// How new tables are written, and how much of the log is held in memory at once; the options that the directory is opened with.
    pub options: Options,
}

/// Repairs the engine's directory `path`, which no engine has open.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// db.put("key", "value")?;
/// db.close()?;
/// std::fs::write(dir.path().join("CURRENT"), "damage")?;
/// assert!(aidb::DB::open(dir.path(), aidb::Options::default()).is_err());
/// let report = aidb::repair(dir.path(), aidb::RepairOptions::default())?;
/// assert!(report.needed && !report.loses_entries());
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// assert_eq!(db.get("key")?.unwrap(), b"value");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Locked`](crate::ErrorKind::Locked) if the directory is open, [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is
/// nothing of an engine in it or a checkpoint or restore was filling it, or an I/O error: then run it again.
///
/// # Durability
/// The repaired directory survives a power loss once this returned. After one before that it is refused until it is repaired again.
pub fn repair(path: impl AsRef<Path>, options: RepairOptions) -> Result<RepairReport> {
    repair_in(&StdEnv, path, options)
}

/// As [`repair`], of directory `path` of `env`.
///
/// # Errors
/// As [`repair`].
pub fn repair_in<E: Env>(env: &E, path: impl AsRef<Path>, options: RepairOptions) -> Result<RepairReport> {
    let RepairOptions { dry_run, options } = options;
    options.validate()?;
    let options = Options { create_if_missing: false, error_if_exists: false, ..options };
    let dir = path.as_ref();
    let _lock = lock(env, dir, &options)?;
    let mut report = RepairReport { dry_run, ..RepairReport::default() };
    let look = Look::at(env, dir, &options, &mut report)?;
    report.needed = look.needs_repair();
    if report.needed && !dry_run {
        write::write(env, dir, &options, look, &mut report)?;
    }
    Ok(report)
}
