//! [`IntegrityReport`]: what a full check of an engine's files found.
//!
//! Runs on the caller's thread. Flushes and compactions wait while the directory is compared; tables are read without a
//! lock, past the cache.

use super::files::{CURRENT, FileKind, manifest_name};
use super::manifest::read_current;
use super::state::Core;
use super::table::TableInfo;
use super::version::Version;
use crate::base::{Error, Result};
use crate::env::{Disk, Env};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The outcome of [`Engine::validate_integrity`](super::Engine::validate_integrity).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct IntegrityReport {
    /// Tables read whole.
    pub tables: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Everything that is wrong; empty if the engine is sound.
    pub problems: Vec<Error>,
}

impl IntegrityReport {
    /// Returns true if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds what the verification of one table gave.
    pub(super) fn add(&mut self, verified: Result<TableInfo>) {
        match verified {
            Ok(info) => {
                self.tables += 1;
                self.entries += info.entries;
                self.bytes += info.file_bytes;
            }
            Err(error) => self.problems.push(error),
        }
    }
}

impl fmt::Display for IntegrityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tables, {} entries, {} bytes: ", self.tables, self.entries, self.bytes)?;
        match self.problems.len() {
            0 => write!(f, "sound"),
            count => write!(f, "{count} problems"),
        }?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl<E: Env> Core<E> {
    /// Checks the directory against the version, the version against its rules, and every block of every table.
    pub(super) fn check_integrity(&self) -> Result<IntegrityReport> {
        self.check_open()?;
        self.purge_obsolete();
        let mut report = IntegrityReport::default();
        self.check_directory(&mut report)?;
        for version in self.versions() {
            self.check_version(&version, &mut report)?;
        }
        Ok(report)
    }

    fn check_version(&self, version: &Version<E>, report: &mut IntegrityReport) -> Result<()> {
        if let Some((level, a, b)) = version.overlap(&self.env) {
            let what = format_args!("it overlaps with table {b} in level {level}");
            report.problems.push(Error::corruption(&super::files::table_path(&self.dir, a), 0, what));
        }
        for (_, table) in version.tables() {
            self.check_open()?;
            report.add(table.verify());
        }
        Ok(())
    }

    /// Returns the tables of every keyspace.
    fn versions(&self) -> Vec<Arc<Version<E>>> {
        self.state.lock().trees.values().map(|of| Arc::clone(&of.version)).collect()
    }

    fn check_directory(&self, report: &mut IntegrityReport) -> Result<()> {
        // Holding the MANIFEST keeps the version as it is; tables being written or removed are known before and after.
        let manifest = self.manifest.lock();
        // After a failed switch of CURRENT nobody knows which MANIFEST is in force.
        self.check_running()?;
        let mut known = self.known_tables();
        let entries = self.env.disk().list(&self.dir).map_err(|error| Error::io("list", &self.dir, error))?;
        known.append(&mut self.known_tables());
        let mut listed = BTreeSet::new();
        let mut problem = |name: &std::ffi::OsStr, what: &str| {
            report.problems.push(Error::corruption(&self.dir.join(name), 0, what));
        };
        for entry in &entries {
            match FileKind::parse(&entry.name) {
                FileKind::Table(number) => {
                    listed.insert(number);
                    if !known.contains(&number) {
                        problem(&entry.name, "a table that no manifest names");
                    }
                }
                FileKind::Manifest(number) if self.dir.join(manifest_name(number)) != manifest.path() => {
                    problem(&entry.name, "a manifest that is not the current one");
                }
                _ => {}
            }
        }
        for (_, table) in self.versions().iter().flat_map(|version| version.tables()) {
            let number = table.info().file_no;
            if !listed.contains(&number) {
                let path = super::files::table_path(&self.dir, number);
                report.problems.push(Error::corruption(&path, 0, "the table is missing"));
            }
        }
        match read_current(&self.env, &self.dir) {
            Ok(number) if self.dir.join(manifest_name(number)) == manifest.path() => {}
            Ok(_) => report.problems.push(Error::corruption(&self.dir.join(CURRENT), 0, "it names another manifest")),
            Err(error) => report.problems.push(error),
        }
        Ok(())
    }

    fn known_tables(&self) -> BTreeSet<u64> {
        let state = self.state.lock();
        let tables = state.trees.values().flat_map(|of| of.version.tables());
        let live = tables.map(|(_, table)| table.info().file_no);
        let obsolete = state.obsolete.iter().map(|table| table.info().file_no);
        live.chain(obsolete).chain(state.pending.iter().copied()).collect()
    }
}
