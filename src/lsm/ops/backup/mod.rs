//! Backups: a directory that keeps an engine's past states, sharing the tables that did not change between them.
//!
//! | module | what it does |
//! |---|---|
//! | `create` | [`Engine::backup`](crate::Engine::backup): adds the state of now |
//! | `restore` | [`restore`]: makes an engine's directory of one |
//! | `verify` | [`verify`]: reads every byte |
//! | `purge` | [`purge`]: keeps the newest ones |
//! | `store`, `log`, [`mod@format`] | names in the directory, the log of a backup, bytes |
//!
//! ```text
//! BACKUP-000001              what backup 1 is made of
//! tables/000007-CRC.sst      table 7 with that checksum, shared by all backups that name it
//! logs/000001.log            the commits of backup 1 that no table holds
//! ```
//!
//! - A backup is there once its manifest is: it is written last, after everything that it names is durable. What an
//!   interrupted one leaves is used or removed by later ones.
//! - Tables are told apart by number and checksum, so that engines which went apart may share a backup directory.
//! - [`purge`] removes manifests, durably, before what they name.
//! - One process at a time adds or removes (the directory is locked); any number read meanwhile.

mod create;
pub mod format;
mod log;
mod purge;
mod restore;
mod store;
mod verify;

pub use create::BackupReport;
pub use purge::{PurgeReport, purge, purge_in};
pub use restore::{RestoreReport, restore, restore_in};
pub use verify::{VerifyReport, verify, verify_in};

use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Env, StdEnv};
use std::fmt;
use std::path::Path;
use store::Store;

/// A backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupInfo {
    /// Its number; later backups have higher ones.
    pub number: u64,
    /// When it was made, microseconds since 1970.
    pub created: u64,
    /// The sequence number of the newest commit in it.
    pub seq: SeqNum,
    /// Tables in it.
    pub tables: u64,
    /// Bytes of its tables and log, those shared with other backups too.
    pub bytes: u64,
    /// Records in its log.
    pub records: u64,
}

impl fmt::Display for BackupInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackupInfo { number, seq, tables, bytes, records, .. } = self;
        write!(
            f,
            "backup {number}: sequence number {seq}, {tables} tables, {bytes} bytes, {records} records of the log"
        )
    }
}

/// What a backup directory holds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Backups {
    /// The backups, oldest first.
    pub backups: Vec<BackupInfo>,
    /// Manifests that cannot be read.
    pub problems: Vec<Error>,
}

/// Lists the backups in `dir`, by their manifests alone.
///
/// # Errors
/// The directory cannot be listed. Damaged manifests are in the list's problems.
pub fn list(dir: impl AsRef<Path>) -> Result<Backups> {
    list_in(&StdEnv, dir)
}

/// As [`list`], in directory `dir` of `env`.
///
/// # Errors
/// As [`list`].
pub fn list_in<E: Env>(env: &E, dir: impl AsRef<Path>) -> Result<Backups> {
    let store = Store::new(env, dir.as_ref());
    let mut backups = Backups::default();
    for number in store.numbers()? {
        match store.read(number) {
            Ok(manifest) => backups.backups.push(BackupInfo::of(number, &manifest)),
            Err(error) => backups.problems.push(error),
        }
    }
    Ok(backups)
}

impl BackupInfo {
    fn of(number: u64, manifest: &format::Manifest) -> BackupInfo {
        let log = manifest.log.map_or((0, 0), |log| (log.bytes, log.records));
        let tables: u64 = manifest.tables.iter().fold(0, |sum, table| sum.saturating_add(table.bytes));
        BackupInfo {
            number,
            created: manifest.created,
            seq: manifest.seq,
            tables: manifest.tables.len() as u64,
            bytes: tables.saturating_add(log.0),
            records: log.1,
        }
    }
}
