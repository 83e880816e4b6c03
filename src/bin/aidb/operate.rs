//! `aidb checkpoint`: operations on a database's directory.

use crate::output::Output;
use aidb::{DB, Options};
use std::path::Path;

pub(crate) const CHECKPOINT_HELP: &str = "Examples:
  aidb checkpoint /srv/db /srv/db.before   then open /srv/db.before like any database";

/// Opens the database in `dir`, which must exist, for writing.
fn open(dir: &Path) -> Result<DB, String> {
    let options = Options { create_if_missing: false, ..Options::default() };
    // The engine would lock the directory only to find it empty.
    if !dir.join("CURRENT").is_file() {
        return Err(format!("{} is not a database: it has no file CURRENT", dir.display()));
    }
    DB::open(dir, options).map_err(|error| error.to_string())
}

/// Makes `target` a checkpoint of the database in `dir`.
pub(crate) fn checkpoint(dir: &Path, target: &Path) -> Result<(), String> {
    let db = open(dir)?;
    let report = db.checkpoint(target).map_err(|error| error.to_string())?;
    let mut out = Output::new();
    out.line(&format!("{}: {report}", target.display()))?;
    out.flush()?;
    db.close().map_err(|error| error.to_string())
}
