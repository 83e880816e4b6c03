//! [`restore`]: makes an engine's directory of a backup.
//!
//! Tables are copied, and their checksums compared on the way; the log is written as a new one. The directory is filled as
//! [`Fresh`] says: opened whole or refused.

use super::format::{Manifest, TableFile};
use super::log::read_log;
use super::store::Store;
use super::verify::verify_table;
use crate::aof::{Frame, FrameKind, Lsn};
use crate::base::checksum::Crc64;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Env, StdEnv};
use crate::lsm::batch::format::decode_record;
use crate::lsm::files::table_path;
use crate::lsm::ops::files::copy;
use crate::lsm::ops::fresh::Fresh;
use crate::lsm::options::Options;
use std::fmt;
use std::path::Path;

/// What [`restore`] made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The number of the backup.
    pub number: u64,
    /// The sequence number of the newest commit in it.
    pub seq: SeqNum,
    /// Tables restored.
    pub tables: u64,
    /// Bytes of these tables.
    pub bytes: u64,
    /// Records of the log restored.
    pub records: u64,
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RestoreReport { number, seq, tables, bytes, records } = self;
        write!(
            f,
            "backup {number}: sequence number {seq}, {tables} tables, {bytes} bytes, {records} records of the log"
        )
    }
}

/// Makes `target` an engine's directory that holds what backup `number` in `dir` holds, or the newest backup.
///
/// `target` must not exist or be empty. Nothing of `dir` is changed, nor shared with `target`.
///
/// # Errors
/// [`NotFound`](crate::ErrorKind::NotFound) if there is no such backup; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if
/// `target` holds anything; [`Corruption`](crate::ErrorKind::Corruption) naming the file of the backup and the offset; an I/O error.
/// What was made in `target` is then removed as far as possible, and what is left is not opened.
///
/// # Durability
/// The directory survives a power loss once this returned. A power loss before that leaves a directory that is opened
/// whole or refused.
pub fn restore(dir: impl AsRef<Path>, number: Option<u64>, target: impl AsRef<Path>) -> Result<RestoreReport> {
    restore_in(&StdEnv, dir, number, target)
}

/// As [`restore`], from directory `dir` of `env` to directory `target` of it.
///
/// # Errors
/// As [`restore`].
pub fn restore_in<E: Env>(
    env: &E,
    dir: impl AsRef<Path>,
    number: Option<u64>,
    target: impl AsRef<Path>,
) -> Result<RestoreReport> {
    let store = Store::new(env, dir.as_ref());
    let newest = || match store.numbers()?.last() {
        Some(number) => Ok(*number),
        None => Err(Error::not_found(format_args!("there are no backups in {}", store.dir().display()))),
    };
    let number = number.map_or_else(newest, Ok)?;
    let manifest = store.read(number)?;
    Fresh::fill(env, target.as_ref(), |fresh| {
        let mut report = RestoreReport { number, seq: manifest.seq, ..RestoreReport::default() };
        for table in &manifest.tables {
            restore_table(&store, table, fresh)?;
            report.tables += 1;
            report.bytes += table.bytes;
        }
        if let Some(log) = &manifest.log {
            restore_log(&store, number, &manifest, fresh)?;
            report.records = log.records;
        }
        fresh.finish(manifest.manifest_no, &manifest.state)?;
        env.reached("lsm.restore");
        Ok(report)
    })
}

fn restore_table<E: Env>(store: &Store<'_, E>, table: &TableFile, fresh: &Fresh<'_, E>) -> Result<()> {
    let (from, to) = (store.table_path(table), table_path(fresh.dir(), table.file_no));
    let mut crc = Crc64::new();
    let copied = copy(store.env, &from, &to, table.bytes, &mut |piece| crc.update(piece));
    if copied.is_ok() && crc.value() == table.crc {
        return Ok(());
    }
    // Says where the damage is.
    verify_table(store, table, None)?;
    copied?;
    Err(Error::corruption(&from, 0, "the table was read with another checksum than its backup says"))
}

fn restore_log<E: Env>(store: &Store<'_, E>, number: u64, manifest: &Manifest, fresh: &Fresh<'_, E>) -> Result<()> {
    let Some(log) = &manifest.log else { return Ok(()) };
    let path = store.log_path(number);
    fresh.write_log(Options::default().wal_segment_bytes, |take| {
        read_log(store, number, log, &mut |offset, payload| {
            let record = decode_record(payload).map_err(|what| Error::corruption(&path, offset, what))?;
            take(Frame {
                lsn: Lsn(offset),
                end: Lsn(offset),
                kind: FrameKind::Data,
                count: u16::try_from(record.count).unwrap_or(u16::MAX),
                first_id: record.first.0,
                tag: 0,
                ts: 0,
                payload,
            })
        })
    })
}
