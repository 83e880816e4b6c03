//! [`Store`]: names in a backup directory, and reading its manifests.
//!
//! `LOCK`, `BACKUP-NNNNNN`, `tables/NNNNNN-CCCCCCCCCCCCCCCC.sst` (number, then checksum in hexadecimal), `logs/NNNNNN.log`, and names
//! with `.tmp` behind them on their way. Any other name is not ours and is left alone.

use super::format::{Manifest, TableFile};
use crate::base::{Error, Result};
use crate::env::{DirEntry, Disk, Env, read_file};
use crate::lsm::files::parse_number;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// A backup directory.
pub(super) struct Store<'a, E: Env> {
    pub(super) env: &'a E,
    dir: &'a Path,
}

impl<'a, E: Env> Store<'a, E> {
    pub(super) fn new(env: &'a E, dir: &'a Path) -> Store<'a, E> {
        Store { env, dir }
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir
    }

    pub(super) fn tables_dir(&self) -> PathBuf {
        self.dir.join("tables")
    }

    pub(super) fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub(super) fn manifest_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("BACKUP-{number:06}"))
    }

    pub(super) fn table_path(&self, table: &TableFile) -> PathBuf {
        self.tables_dir().join(format!("{:06}-{:016x}.sst", table.file_no, table.crc))
    }

    pub(super) fn log_path(&self, number: u64) -> PathBuf {
        self.logs_dir().join(format!("{number:06}.log"))
    }

    /// Takes the exclusive right to change the directory.
    pub(super) fn lock(&self) -> Result<<E::Disk as Disk>::DirLock> {
        self.env.disk().lock_dir(self.dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::locked(self.dir),
            _ => Error::io("lock", self.dir, error),
        })
    }

    /// Returns the numbers of its backups, ascending, readable or not.
    pub(super) fn numbers(&self) -> Result<Vec<u64>> {
        let entries = self.env.disk().list(self.dir).map_err(|error| Error::io("list", self.dir, error))?;
        let number = |entry: &DirEntry| parse_number(entry.name.to_str()?.strip_prefix("BACKUP-")?);
        let mut numbers: Vec<u64> = entries.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads the manifest of backup `number`.
    pub(super) fn read(&self, number: u64) -> Result<Manifest> {
        let path = self.manifest_path(number);
        let bytes = read_file(self.env.disk(), &path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::not_found(format_args!("there is no backup {number} in {}", self.dir.display()))
            }
            _ => Error::io("read", &path, error),
        })?;
        Manifest::decode(&bytes, number).map_err(|(offset, what)| Error::corruption(&path, offset, what))
    }

    /// Lists a directory below; one that is missing is empty.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        match self.env.disk().list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|error| Error::io("list", dir, error)),
        }
    }

    /// Lists the tables, with their true lengths.
    pub(super) fn tables(&self) -> Result<Vec<TableFile>> {
        let entries = self.entries(&self.tables_dir())?;
        Ok(entries.iter().filter_map(|entry| parse_table(&entry.name, entry.bytes)).collect())
    }

    /// Lists the numbers of the logs.
    pub(super) fn logs(&self) -> Result<Vec<u64>> {
        let entries = self.entries(&self.logs_dir())?;
        Ok(entries.iter().filter_map(|entry| parse_number(entry.name.to_str()?.strip_suffix(".log")?)).collect())
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.env.disk().sync_dir(dir).map_err(|error| Error::io("sync directory", dir, error))
    }

    /// Removes a file that may be missing.
    pub(super) fn remove(&self, path: &Path) -> Result<bool> {
        match self.env.disk().remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", path, error)),
        }
    }

    /// Removes what an interrupted backup was writing.
    pub(super) fn remove_temporary(&self) -> Result<()> {
        for entry in self.entries(&self.tables_dir())? {
            let number = entry.name.to_str().and_then(|name| parse_number(name.strip_suffix(".tmp")?));
            if let Some(number) = number {
                self.remove(&self.temporary_path(number))?;
            }
        }
        Ok(())
    }

    /// Returns where table `number` is while it is copied.
    pub(super) fn temporary_path(&self, number: u64) -> PathBuf {
        self.tables_dir().join(format!("{number:06}.tmp"))
    }
}

fn parse_table(name: &OsStr, bytes: u64) -> Option<TableFile> {
    let (number, crc) = name.to_str()?.strip_suffix(".sst")?.split_once('-')?;
    let file_no = parse_number(number)?;
    let crc = u64::from_str_radix(crc, 16).ok().filter(|value| format!("{value:016x}") == crc)?;
    Some(TableFile { file_no, bytes, crc })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::StdEnv;

    #[test]
    fn names_of_tables_parse_and_others_are_left_alone() {
        let store = Store::new(&StdEnv, Path::new("/backups"));
        let table = TableFile { file_no: 7, bytes: 9, crc: 0xab };
        let path = store.table_path(&table);
        assert_eq!(path, Path::new("/backups/tables/000007-00000000000000ab.sst"));
        assert_eq!(parse_table(path.file_name().unwrap(), 9), Some(table));
        for name in ["000007.sst", "7-00000000000000ab.sst", "000007-ab.sst", "000007-00000000000000AB.sst", "x"] {
            assert_eq!(parse_table(OsStr::new(name), 0), None, "{name}");
        }
    }
}
