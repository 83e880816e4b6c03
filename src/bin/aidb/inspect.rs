//! `aidb get`, `scan`, `levels`, `stats` and `verify`: look at a database without changing anything, beside a process that writes it.

use crate::output::{Output, escape, unescape};
use aidb::{DB, Options, ReadOnly};
use std::path::{Path, PathBuf};

pub(crate) const GET_HELP: &str = "Examples:
  aidb get /srv/db user:7                  print a value as it is
  aidb get /srv/db --keyspace events '\\x00\\x07'
                                           a key of two bytes, of a keyspace";

pub(crate) const SCAN_HELP: &str =
    "Each line is a key, a tab and a value, both escaped as `\\x00`; so can keys be given.

Examples:
  aidb scan /srv/db                        every key
  aidb scan /srv/db --prefix user: --limit 10 --keys
  aidb scan /srv/db --from a --to b --reverse --keyspace events";

/// Which key to print.
#[derive(clap::Args)]
pub(crate) struct Get {
    /// The database's directory.
    dir: PathBuf,
    /// The key.
    key: String,
    /// The keyspace, else the default one.
    #[arg(long)]
    keyspace: Option<String>,
}

/// Which keys to print.
#[derive(clap::Args)]
pub(crate) struct Scan {
    /// The database's directory.
    dir: PathBuf,
    /// Keys at or after this one.
    #[arg(long, conflicts_with = "prefix")]
    from: Option<String>,
    /// Keys before this one.
    #[arg(long, conflicts_with = "prefix")]
    to: Option<String>,
    /// Keys that begin with this.
    #[arg(long)]
    prefix: Option<String>,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,
    /// Without values.
    #[arg(long)]
    keys: bool,
    /// The keyspace, else the default one.
    #[arg(long)]
    keyspace: Option<String>,
}

/// Opens the database in `dir` for looking.
fn look(dir: &Path, keyspace: Option<&str>) -> Result<ReadOnly, String> {
    let view = DB::open_read_only(dir, Options::default()).map_err(|error| error.to_string())?;
    match keyspace {
        Some(name) => view.keyspace(name).map_err(|error| error.to_string()),
        None => Ok(view),
    }
}

/// Prints the value of a key, and fails if it has none.
pub(crate) fn get(options: &Get) -> Result<(), String> {
    let view = look(&options.dir, options.keyspace.as_deref())?;
    let value = view.get(unescape(&options.key)?).map_err(|error| error.to_string())?;
    let value = value.ok_or_else(|| format!("there is no key {:?}", options.key))?;
    let mut out = Output::new();
    out.bytes(&value)?;
    out.bytes(b"\n")?;
    out.flush()
}

/// Prints keys and values.
pub(crate) fn scan(options: &Scan) -> Result<(), String> {
    let view = look(&options.dir, options.keyspace.as_deref())?;
    let key = |key: &Option<String>| key.as_deref().map(unescape).transpose();
    let (from, to, prefix) = (key(&options.from)?, key(&options.to)?, key(&options.prefix)?);
    let mut entries = match (prefix, from, to) {
        (Some(prefix), ..) => view.prefix(prefix),
        (None, None, None) => view.iter(),
        (None, Some(from), None) => view.range(from..),
        (None, None, Some(to)) => view.range(..to),
        (None, Some(from), Some(to)) => view.range(from..to),
    };
    let mut out = Output::new();
    for _ in 0..options.limit.unwrap_or(usize::MAX) {
        let Some(entry) = (if options.reverse { entries.next_back() } else { entries.next() }) else { break };
        let entry = entry.map_err(|error| error.to_string())?;
        match options.keys {
            true => out.line(&escape(&entry.key))?,
            false => out.line(&format!("{}\t{}", escape(&entry.key), escape(&entry.value)))?,
        }
        if !out.is_open() {
            break;
        }
    }
    out.flush()
}

/// Prints the tables of the database in `dir`, level by level.
pub(crate) fn levels(dir: &Path) -> Result<(), String> {
    let view = look(dir, None)?;
    let mut out = Output::new();
    for name in std::iter::once(None).chain(view.keyspaces().into_iter().map(Some)) {
        let tables = match &name {
            None => view.tables(),
            Some(name) => view.keyspace(name).and_then(|view| view.tables()),
        };
        if let Some(name) = name {
            out.line(&format!("\nkeyspace {}", escape(name.as_bytes())))?;
        }
        out.line("level  table         bytes      entries  tombstones  sequence numbers  keys")?;
        for (level, table) in tables.map_err(|error| error.to_string())? {
            out.line(&format!(
                "{level:>5}  {:06}  {:>11}  {:>11}  {:>10}  {}..={}  {}..={}",
                table.file_no,
                table.file_bytes,
                table.entries,
                table.tombstones,
                table.seq_min,
                table.seq_max,
                escape(&table.smallest.0),
                escape(&table.largest.0),
            ))?;
        }
    }
    out.line(&format!("\nsequence number {}", view.visible_seq()))?;
    out.flush()
}

/// Prints the statistics of the database in `dir`, as a table or as Prometheus text.
pub(crate) fn stats(dir: &Path, prometheus: bool) -> Result<(), String> {
    let statistics = look(dir, None)?.statistics();
    let mut out = Output::new();
    out.line(&if prometheus { statistics.to_prometheus() } else { statistics.to_string() })?;
    out.flush()
}

/// Checks the database in `dir` and fails if anything is wrong with it.
pub(crate) fn verify(dir: &Path) -> Result<(), String> {
    let report = look(dir, None)?.verify();
    let mut out = Output::new();
    out.line(&report.to_string())?;
    out.flush()?;
    match report.is_sound() {
        true => Ok(()),
        false => Err(format!("{} is damaged", dir.display())),
    }
}
