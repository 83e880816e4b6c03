//! [`Engine::backup`]: adds the state of now to a backup directory.
//!
//! On the caller's thread; writers, flushes and compactions go on. A [`Moment`] is taken; each of its tables is read once,
//! for its checksum, and copied if the directory has none of that number and checksum. A copy is read back, every block of
//! it, before it gets its name. Then the log behind the tables, then directories, last the manifest.

use super::format::{LogFile, Manifest, TableFile};
use super::log::LogWriter;
use super::store::Store;
use crate::base::checksum::Crc64;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Disk, Env, write_file_atomic};
use crate::lsm::cache::BlockCache;
use crate::lsm::db::Engine;
use crate::lsm::ops::files::{copy, read_pieces};
use crate::lsm::ops::moment::Moment;
use crate::lsm::state::Core;
use crate::lsm::table::Table;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What [`Engine::backup`] made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The number of the backup.
    pub number: u64,
    /// The sequence number of the newest commit in it.
    pub seq: SeqNum,
    /// Tables in it.
    pub tables: u64,
    /// Tables that no earlier backup had.
    pub tables_new: u64,
    /// Bytes of its tables and log.
    pub bytes: u64,
    /// Bytes that were written for it.
    pub bytes_new: u64,
    /// Records in its log.
    pub records: u64,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackupReport { number, seq, tables, tables_new, bytes, bytes_new, records } = self;
        write!(
            f,
            "backup {number}: sequence number {seq}, {tables} tables ({tables_new} new), {bytes} bytes ({bytes_new} new), \
             {records} records of the log"
        )
    }
}

impl<E: Env> Engine<E> {
    /// Adds a backup of what is committed now, in all keyspaces, to the backup directory `dir`, which is made if it is missing.
    ///
    /// Tables that an earlier backup in `dir` has are shared with it; each of the others is copied, and the copy is read
    /// back and checked. All tables are read once, whether copied or not. See [`backup`](super) for the directory, and
    /// [`restore`](super::restore) for the way back.
    ///
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # let (dir, backups, again) = (place.path().join("db"), place.path().join("backups"), place.path().join("again"));
    /// let db = aidb::DB::open(&dir, aidb::Options::default())?;
    /// db.put("key", "then")?;
    /// let then = db.backup(&backups)?.number;
    /// db.put("key", "now")?;
    /// db.backup(&backups)?;
    /// aidb::backup::restore(&backups, Some(then), &again)?;
    /// let again = aidb::DB::open(&again, aidb::Options::default())?;
    /// assert_eq!(again.get("key")?.unwrap(), b"then");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Locked`](crate::ErrorKind::Locked) if another process changes `dir`; [`Corruption`](crate::ErrorKind::Corruption) naming a
    /// table of the engine that is damaged; an I/O error. Earlier backups are as they were, and what was copied is used by
    /// the next attempt.
    ///
    /// # Durability
    /// The backup survives a power loss once this returned. A power loss before that leaves it whole or not there.
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport> {
        let core = self.core();
        core.check_running()?;
        let made = core.backup(&Store::new(&core.env, dir.as_ref()));
        // What was compacted away meanwhile was kept for the copy.
        core.purge_obsolete();
        made
    }
}

impl<E: Env> Core<E> {
    fn backup(&self, store: &Store<'_, E>) -> Result<BackupReport> {
        for dir in [store.dir(), &store.tables_dir(), &store.logs_dir()] {
            let made = self.env.disk().create_dir_all(dir);
            made.map_err(|error| Error::io("create directory", dir, error))?;
        }
        let _lock = store.lock()?;
        store.remove_temporary()?;
        let number = store.numbers()?.last().map_or(Some(1), |last| last.checked_add(1));
        let number = number.ok_or_else(|| Error::invalid_argument("numbers of backups are used up"))?;
        let moment = self.moment()?;
        let mut report = BackupReport { number, seq: moment.seq, ..BackupReport::default() };
        if self.env.planted("backup_manifest_first") {
            let tables = self.checksums(&moment)?;
            self.write_manifest(store, number, &moment, None, tables)?;
        }
        let tables = self.backup_tables(store, &moment, &mut report)?;
        let log = match moment.has_records() {
            true => Some(self.backup_log(store, &moment, number)?),
            false => None,
        };
        if let Some(log) = log {
            report.records = log.records;
            report.bytes += log.bytes;
            report.bytes_new += log.bytes;
        }
        if !self.env.planted("backup_table_not_synced") {
            store.sync_dir(&store.tables_dir())?;
        }
        store.sync_dir(&store.logs_dir())?;
        self.write_manifest(store, number, &moment, log, tables)?;
        self.env.reached("lsm.backup");
        if report.tables_new < report.tables {
            self.env.reached("lsm.backup_shared");
        }
        Ok(report)
    }

    fn write_manifest(
        &self,
        store: &Store<'_, E>,
        number: u64,
        moment: &Moment<E>,
        log: Option<LogFile>,
        tables: Vec<TableFile>,
    ) -> Result<()> {
        let (created, seq, manifest_no) = (self.env.wall().0, moment.seq, moment.next_file);
        let manifest = Manifest { created, seq, log, tables, manifest_no, state: moment.as_edit() };
        let path = store.manifest_path(number);
        let bytes = manifest.encode(number);
        assert_eq!(Manifest::decode(&bytes, number).as_ref(), Ok(&manifest), "a manifest reads as it was written");
        write_file_atomic(self.env.disk(), &path, &bytes).map_err(|error| Error::io("write", &path, error))
    }

    /// What `backup_manifest_first` names before it is there.
    fn checksums(&self, moment: &Moment<E>) -> Result<Vec<TableFile>> {
        let file = |table: &Arc<Table<E>>| {
            let (file_no, bytes) = (table.info().file_no, table.info().file_bytes);
            Ok(TableFile { file_no, bytes, crc: checksum(&self.env, table.path(), bytes)? })
        };
        let mut tables: Vec<TableFile> = moment.tables().map(file).collect::<Result<_>>()?;
        tables.sort_unstable();
        Ok(tables)
    }

    /// Sees to it that `store` has every table.
    fn backup_tables(
        &self,
        store: &Store<'_, E>,
        moment: &Moment<E>,
        report: &mut BackupReport,
    ) -> Result<Vec<TableFile>> {
        let there = store.tables()?;
        let mut tables = Vec::new();
        for table in moment.tables() {
            self.check_open()?;
            let (file_no, bytes) = (table.info().file_no, table.info().file_bytes);
            // Where there is none of that number, the copy gives the checksum.
            let known = match there.iter().any(|there| there.file_no == file_no) {
                true => Some(TableFile { file_no, bytes, crc: checksum(&self.env, table.path(), bytes)? }),
                false => None,
            };
            let file = match known.filter(|known| there.contains(known)) {
                Some(known) => known,
                None => {
                    report.tables_new += 1;
                    report.bytes_new += bytes;
                    self.copy_table(store, table)?
                }
            };
            report.tables += 1;
            report.bytes += bytes;
            tables.push(file);
        }
        tables.sort_unstable();
        Ok(tables)
    }

    fn copy_table(&self, store: &Store<'_, E>, table: &Table<E>) -> Result<TableFile> {
        let (file_no, bytes) = (table.info().file_no, table.info().file_bytes);
        let temporary = store.temporary_path(file_no);
        let mut crc = Crc64::new();
        copy(&self.env, table.path(), &temporary, bytes, &mut |piece| crc.update(piece))?;
        let copied =
            Table::open_named(&self.env, &temporary, table.info(), BlockCache::new(0)).and_then(|copy| copy.verify());
        // Damage of the copy is damage of the engine's own table, unless the disk changed it on the way.
        if !copied.as_ref().is_ok_and(|info| info == table.info()) {
            store.remove(&temporary)?;
            table.verify()?;
            copied?;
            return Err(Error::corruption(&temporary, 0, "the copy of a table is not that table"));
        }
        let file = TableFile { file_no, bytes, crc: crc.value() };
        let path = store.table_path(&file);
        self.env.disk().rename(&temporary, &path).map_err(|error| Error::io("rename to", &path, error))?;
        Ok(file)
    }

    fn backup_log(&self, store: &Store<'_, E>, moment: &Moment<E>, number: u64) -> Result<LogFile> {
        let mut log = LogWriter::create(store, number)?;
        moment.records(&mut |frame| {
            self.check_open()?;
            log.add(frame.payload)
        })?;
        log.finish()
    }
}

/// Returns the checksum of the first `bytes` of a file.
pub(super) fn checksum<E: Env>(env: &E, path: &Path, bytes: u64) -> Result<u64> {
    let mut crc = Crc64::new();
    read_pieces(env, path, bytes, &mut |piece| {
        crc.update(piece);
        Ok(())
    })?;
    Ok(crc.value())
}
