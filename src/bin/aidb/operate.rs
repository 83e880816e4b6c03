//! `aidb checkpoint`, `backup` and `restore`: copies of a database's directory; `aidb compact` and `repair`.

use crate::aof::time;
use crate::output::{Output, unescape};
use aidb::{DB, KeyspaceOptions, Options, RepairOptions, backup};
use std::ops::Bound;
use std::path::{Path, PathBuf};

pub(crate) const CHECKPOINT_HELP: &str = "Examples:
  aidb checkpoint /srv/db /srv/db.before   then open /srv/db.before like any database";

/// Opens the database in `dir`, which must exist, for writing.
fn open(dir: &Path) -> Result<DB, String> {
    let options = Options { create_if_missing: false, ..Options::default() };
    // The engine would lock the directory only to find it empty.
    if !dir.join("CURRENT").is_file() {
        let dir = dir.display();
        return Err(format!(
            "{dir} has no file CURRENT: it is not a database, or one that `aidb repair {dir}` may mend"
        ));
    }
    DB::open(dir, options).map_err(|error| error.to_string())
}

pub(crate) const COMPACT_HELP: &str = "Examples:
  aidb compact /srv/db                     everything, all keyspaces
  aidb compact /srv/db --from user: --to 'user;'
  aidb compact /srv/db --keyspace events --to '\\x00\\x07'";

/// What to compact.
#[derive(clap::Args)]
pub(crate) struct Compact {
    /// The database's directory.
    dir: PathBuf,
    /// Only this keyspace; with a range and without this, the default one.
    #[arg(long)]
    keyspace: Option<String>,
    /// Keys at or after this one.
    #[arg(long)]
    from: Option<String>,
    /// Keys before this one.
    #[arg(long)]
    to: Option<String>,
}

/// Compacts what `options` name.
pub(crate) fn compact(options: &Compact) -> Result<(), String> {
    let words = |error: aidb::Error| error.to_string();
    let key = |key: &Option<String>| key.as_deref().map(unescape).transpose();
    let from = key(&options.from)?.map_or(Bound::Unbounded, Bound::Included);
    let to = key(&options.to)?.map_or(Bound::Unbounded, Bound::Excluded);
    let db = open(&options.dir)?;
    let before = db.statistics();
    match &options.keyspace {
        None if (&from, &to) == (&Bound::Unbounded, &Bound::Unbounded) => db.force_compaction(),
        None => db.compact_range((from, to)),
        Some(name) if !db.keyspaces().contains(name) => {
            return Err(format!("there is no keyspace {name:?} in {}", options.dir.display()));
        }
        Some(name) => {
            db.keyspace(name, KeyspaceOptions::default()).and_then(|keyspace| keyspace.compact_range((from, to)))
        }
    }
    .map_err(words)?;
    let bytes = |of: &aidb::Statistics| of.levels.iter().map(|level| level.bytes).sum::<u64>();
    let after = db.statistics();
    let files = after.levels.iter().map(|level| level.files).sum::<u64>();
    say(&format!("{} bytes of tables became {} bytes in {files} tables", bytes(&before), bytes(&after)))?;
    db.close().map_err(words)
}

/// Makes `target` a checkpoint of the database in `dir`.
pub(crate) fn checkpoint(dir: &Path, target: &Path) -> Result<(), String> {
    let db = open(dir)?;
    let report = db.checkpoint(target).map_err(|error| error.to_string())?;
    say(&format!("{}: {report}", target.display()))?;
    db.close().map_err(|error| error.to_string())
}

pub(crate) const BACKUP_HELP: &str = "Examples:
  aidb backup create /srv/db /backups/db   add a backup of now
  aidb backup list /backups/db
  aidb backup verify /backups/db           read every byte
  aidb backup purge /backups/db --keep 7   keep the newest seven
  aidb restore /backups/db /srv/db.new     make a database of the newest one";

pub(crate) const RESTORE_HELP: &str = "Examples:
  aidb restore /backups/db /srv/db.new             the newest backup
  aidb restore /backups/db /srv/db.new --number 3  backup 3; see `aidb backup list`";

/// What `aidb backup` can do.
#[derive(clap::Subcommand)]
pub(crate) enum Backup {
    /// Adds a backup of a database.
    ///
    /// Opens the database, which recovers it if it was not closed; no other process may have it open.
    Create {
        /// The database's directory.
        dir: PathBuf,
        /// The backup directory; made if it is missing.
        backups: PathBuf,
    },
    /// Lists the backups, oldest first. Exits with 1 if one cannot be read.
    List {
        /// The backup directory.
        backups: PathBuf,
    },
    /// Reads every byte of every backup and checks it. Exits with 1 on damage.
    Verify {
        /// The backup directory.
        backups: PathBuf,
    },
    /// Removes all but the newest backups, and what an interrupted one left.
    Purge {
        /// The backup directory.
        backups: PathBuf,
        /// How many backups to keep, at least 1.
        #[arg(long)]
        keep: usize,
    },
}

pub(crate) const REPAIR_HELP: &str = "Examples:
  aidb repair /srv/db --dry-run            what is damaged, and what would be lost
  aidb repair /srv/db";

/// Repairs the database in `dir`; fails if entries are lost.
pub(crate) fn repair(dir: &Path, dry_run: bool) -> Result<(), String> {
    // The directory is not made only to be found empty.
    if !dir.is_dir() {
        return Err(format!("{} is not a directory", dir.display()));
    }
    let options = RepairOptions { dry_run, ..RepairOptions::default() };
    let report = aidb::repair(dir, options).map_err(|error| error.to_string())?;
    say(&report.to_string())?;
    match report.loses_entries() {
        true => Err(format!("entries of {} are lost", dir.display())),
        false => Ok(()),
    }
}

/// Prints one line.
fn say(line: &str) -> Result<(), String> {
    let mut out = Output::new();
    out.line(line)?;
    out.flush()
}

/// Runs one command on a backup directory.
pub(crate) fn backup(command: &Backup) -> Result<(), String> {
    match command {
        Backup::Create { dir, backups } => {
            let db = open(dir)?;
            say(&db.backup(backups).map_err(|error| error.to_string())?.to_string())?;
            db.close().map_err(|error| error.to_string())
        }
        Backup::List { backups } => {
            let list = backup::list(backups).map_err(|error| error.to_string())?;
            let mut out = Output::new();
            for backup in &list.backups {
                out.line(&format!("{}  {backup}", time(backup.created)))?;
            }
            out.flush()?;
            list.problems.first().map_or(Ok(()), |error| Err(error.to_string()))
        }
        Backup::Verify { backups } => {
            let report = backup::verify(backups).map_err(|error| error.to_string())?;
            say(&report.to_string())?;
            if report.is_sound() { Ok(()) } else { Err(format!("{} is damaged", backups.display())) }
        }
        Backup::Purge { backups, keep } => {
            say(&backup::purge(backups, *keep).map_err(|error| error.to_string())?.to_string())
        }
    }
}

/// Makes `target` a database of a backup.
pub(crate) fn restore(backups: &Path, number: Option<u64>, target: &Path) -> Result<(), String> {
    let report = backup::restore(backups, number, target).map_err(|error| error.to_string())?;
    say(&format!("{}: {report}", target.display()))
}
