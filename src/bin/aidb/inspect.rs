//! `aidb stats` and `aidb verify`: look at a database without changing what it holds.

use aidb::{DB, Options};
use std::io::Write;
use std::path::Path;

/// Opens the database in `dir`, which must exist.
fn open(dir: &Path) -> Result<DB, String> {
    let options = Options { create_if_missing: false, ..Options::default() };
    // The engine would make a missing directory only to find it empty.
    if !dir.join("CURRENT").is_file() {
        return Err(format!("{} is not a database: it has no file CURRENT", dir.display()));
    }
    DB::open(dir, options).map_err(|error| error.to_string())
}

fn print(text: &str) {
    // A closed pipe is no reason to fail: the reader has seen enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints the statistics of the database in `dir`.
pub(crate) fn stats(dir: &Path) -> Result<(), String> {
    let db = open(dir)?;
    print(&db.statistics().to_string());
    db.close().map_err(|error| error.to_string())
}

/// Checks the database in `dir` and fails if anything is wrong with it.
pub(crate) fn verify(dir: &Path) -> Result<(), String> {
    let db = open(dir)?;
    let report = db.validate_integrity().map_err(|error| error.to_string())?;
    print(&report.to_string());
    db.close().map_err(|error| error.to_string())?;
    match report.is_sound() {
        true => Ok(()),
        false => Err(format!("{} is damaged", dir.display())),
    }
}
