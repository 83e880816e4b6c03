//! [`purge`]: removes old backups, and files that no backup names.

use super::store::Store;
use crate::base::{Error, Result};
use crate::env::{Env, StdEnv};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// What [`purge`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeReport {
    /// Backups removed.
    pub backups: u64,
    /// Tables and logs removed.
    pub files: u64,
    /// Bytes of the tables.
    pub bytes: u64,
}

impl fmt::Display for PurgeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PurgeReport { backups, files, bytes } = self;
        write!(f, "removed {backups} backups, {files} files, {bytes} bytes of tables")
    }
}

/// Removes all but the newest `keep` backups in `dir`, and every table and log that none of the kept ones names.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `keep` is 0; [`Locked`](crate::ErrorKind::Locked) if another process
/// changes `dir`; [`Corruption`](crate::ErrorKind::Corruption) if the manifest of a backup to be kept cannot be read, because what
/// it names is then unknown: nothing was removed. An I/O error: what is left is whole.
///
/// # Durability
/// A backup is gone for good before any file of it is removed.
pub fn purge(dir: impl AsRef<Path>, keep: usize) -> Result<PurgeReport> {
    purge_in(&StdEnv, dir, keep)
}

/// As [`purge`], in directory `dir` of `env`.
///
/// # Errors
/// As [`purge`].
pub fn purge_in<E: Env>(env: &E, dir: impl AsRef<Path>, keep: usize) -> Result<PurgeReport> {
    if keep == 0 {
        return Err(Error::invalid_argument("keep is 0, must be at least 1; to keep nothing remove the directory"));
    }
    let store = Store::new(env, dir.as_ref());
    // Without it, taking the lock would make a file in a directory that is none of ours.
    let numbers = store.numbers()?;
    if numbers.is_empty() {
        return Ok(PurgeReport::default());
    }
    let _lock = store.lock()?;
    let numbers = store.numbers()?;
    let (old, kept) = numbers.split_at(numbers.len().saturating_sub(keep));
    let (mut tables, mut logs) = (BTreeSet::new(), BTreeSet::new());
    for number in kept {
        let manifest = store.read(*number)?;
        tables.extend(manifest.tables.iter().map(|table| (table.file_no, table.crc)));
        logs.extend(manifest.log.map(|_| *number));
    }
    let mut report = PurgeReport::default();
    for number in old {
        report.backups += u64::from(store.remove(&store.manifest_path(*number))?);
    }
    store.sync_dir(store.dir())?;
    remove_unnamed(&store, &tables, &logs, &mut report)?;
    store.remove_temporary()?;
    if report.backups > 0 {
        env.reached("lsm.backup_purged");
    }
    Ok(report)
}

/// Removes the tables and logs that are not among these.
fn remove_unnamed<E: Env>(
    store: &Store<'_, E>,
    tables: &BTreeSet<(u64, u64)>,
    logs: &BTreeSet<u64>,
    report: &mut PurgeReport,
) -> Result<()> {
    for number in store.logs()?.into_iter().filter(|number| !logs.contains(number)) {
        report.files += u64::from(store.remove(&store.log_path(number))?);
    }
    for table in store.tables()?.iter().filter(|table| !tables.contains(&(table.file_no, table.crc))) {
        if store.remove(&store.table_path(table))? {
            report.files += 1;
            report.bytes += table.bytes;
        }
    }
    Ok(())
}
