//! [`verify`]: every byte of a backup directory read and checked.

use super::create::checksum;
use super::format::{Manifest, TableFile};
use super::log::read_log;
use super::store::Store;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, StdEnv};
use crate::lsm::batch::format::decode_record;
use crate::lsm::cache::BlockCache;
use crate::lsm::table::Table;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

/// The outcome of [`verify`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Backups whose manifests are good.
    pub backups: u64,
    /// Tables read whole, each once.
    pub tables: u64,
    /// Records of logs read.
    pub records: u64,
    /// Bytes of these tables and logs.
    pub bytes: u64,
    /// Tables and logs that no backup names: left by an interrupted backup or purge, removed by the next
    /// [`purge`](super::purge).
    pub unused: u64,
    /// Everything that is wrong; empty if every backup can be restored.
    pub problems: Vec<Error>,
}

impl VerifyReport {
    /// Returns true if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.problems.push(error)).ok()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VerifyReport { backups, tables, records, bytes, unused, problems } = self;
        write!(
            f,
            "{backups} backups, {tables} tables, {records} records of logs, {bytes} bytes, {unused} files unused: "
        )?;
        match problems.len() {
            0 => write!(f, "sound"),
            count => write!(f, "{count} problems"),
        }?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Reads every backup in `dir` with all that it names, and checks it: checksums, and that the parts agree.
///
/// Changes nothing. A backup that is being made meanwhile is not looked at; one that is purged meanwhile may be reported.
///
/// # Errors
/// The directory cannot be listed. What is wrong with the backups is in the report.
pub fn verify(dir: impl AsRef<Path>) -> Result<VerifyReport> {
    verify_in(&StdEnv, dir)
}

/// As [`verify`], in directory `dir` of `env`.
///
/// # Errors
/// As [`verify`].
pub fn verify_in<E: Env>(env: &E, dir: impl AsRef<Path>) -> Result<VerifyReport> {
    let store = Store::new(env, dir.as_ref());
    let mut report = VerifyReport::default();
    let (mut tables, mut logs) = (BTreeSet::new(), BTreeSet::new());
    for number in store.numbers()? {
        let Some(manifest) = report.note(store.read(number)) else { continue };
        report.backups += 1;
        if let Some(log) = &manifest.log {
            logs.insert(number);
            if report.note(verify_log(&store, number, &manifest)).is_some() {
                report.records += log.records;
                report.bytes += log.bytes;
            }
        }
        for table in &manifest.tables {
            if tables.insert(*table) && report.note(verify_table(&store, table, Some(&manifest))).is_some() {
                report.tables += 1;
                report.bytes += table.bytes;
            }
        }
    }
    report.unused = store.tables()?.iter().filter(|table| !tables.contains(table)).count() as u64
        + store.logs()?.iter().filter(|log| !logs.contains(log)).count() as u64;
    Ok(report)
}

/// Reads a table whole; what is wrong is named by its offset where that can be told.
pub(super) fn verify_table<E: Env>(store: &Store<'_, E>, table: &TableFile, manifest: Option<&Manifest>) -> Result<()> {
    let path = store.table_path(table);
    let file = store.env.disk().open(&path, OpenMode::Read).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::corruption(&path, 0, "a backup names this table, and it is missing"),
        _ => Error::io("open", &path, error),
    })?;
    let bytes = file.len().map_err(|error| Error::io("read the length of", &path, error))?;
    if bytes != table.bytes {
        let what = format_args!("the table has {bytes} bytes, its backup says {}", table.bytes);
        return Err(Error::corruption(&path, bytes.min(table.bytes), what));
    }
    drop(file);
    let mut named = manifest.iter().flat_map(|manifest| &manifest.state.trees).flat_map(|tree| &tree.added);
    let named = named.find(|(_, named)| named.file_no == table.file_no).map(|(_, named)| named);
    let seq = named.map_or(SeqNum(0), |named| named.seq_max);
    let info = Table::open(store.env, &path, table.file_no, BlockCache::new(0))?.with_seq(seq).verify()?;
    if named.is_some_and(|named| *named != info) {
        return Err(Error::corruption(&path, 0, "the table's properties are not those that its backup says"));
    }
    match checksum(store.env, &path, table.bytes)? == table.crc {
        true => Ok(()),
        false => Err(Error::corruption(&path, 0, "the table is whole, and not the one that its backup names")),
    }
}

fn verify_log<E: Env>(store: &Store<'_, E>, number: u64, manifest: &Manifest) -> Result<()> {
    let Some(log) = &manifest.log else { return Ok(()) };
    let path = store.log_path(number);
    let mut last = manifest.state.last_seq.unwrap_or_default();
    read_log(store, number, log, &mut |offset, payload| {
        let record = decode_record(payload).map_err(|what| Error::corruption(&path, offset, what))?;
        if record.first.0 != last.0 + 1 {
            let what = format_args!("record {} follows sequence number {last}", record.first);
            return Err(Error::corruption(&path, offset, what));
        }
        last.0 += u64::from(record.count);
        Ok(())
    })?;
    if last == manifest.seq {
        return Ok(());
    }
    let what = format_args!("the log ends with sequence number {last}, its backup says {}", manifest.seq);
    Err(Error::corruption(&path, log.bytes, what))
}
