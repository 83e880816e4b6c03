//! `aidb dump`: what a file of a database says, byte for byte: a table, a segment of its log, a MANIFEST, CURRENT, a backup.
//!
//! What a file is shows in its first or last bytes, and where these are damaged in its name. Damaged parts are printed with their offset and
//! passed over where the format tells where the next good part begins; then the command fails in the end.
//!
//! | file | prints |
//! |---|---|
//! | `table` | tables |
//! | `manifest` | MANIFEST, CURRENT, what a backup is made of, and its log |

mod manifest;
mod table;

use crate::aof::dump as segment;
use crate::output::Output;
use aidb::aof::format as aof;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) const HELP: &str = "\
Lines that begin with # say where in the file something lies, and what is wrong. Keys and values are escaped as `\\x00`.

Examples:
  aidb dump /srv/db/000012.sst             footer, properties, index, blocks, entries
  aidb dump /srv/db/MANIFEST-000007        the changes of the set of tables
  aidb dump /srv/db/wal/*01.log --limit 10 commits";

/// Which file to print.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A file of a database's directory, of its log or of a backup directory.
    file: PathBuf,
    /// Shows at most so many entries, records or edits.
    #[arg(long)]
    limit: Option<usize>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Table,
    Segment,
    Manifest,
    Current,
    Backup,
    BackupLog,
}

/// Prints the file that `options` names, and fails if it is damaged.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let file = &options.file;
    let name = file.display();
    let kind =
        kind(file)?.ok_or_else(|| format!("{name} is no file of a database: neither its bytes nor its name say so"))?;
    let limit = options.limit.unwrap_or(usize::MAX);
    if kind == Kind::Segment {
        return segment::run(&segment::Options::of_database(file.clone(), options.limit));
    }
    let mut out = Output::new();
    let sound = match kind {
        Kind::Table => table::print(&mut out, file, number(file)?, limit),
        Kind::Current => manifest::current(&mut out, &read(file)?),
        Kind::Manifest => manifest::edits(&mut out, &read(file)?, number(file)?, limit),
        Kind::Backup => manifest::backup(&mut out, &read(file)?, number(file)?, limit),
        Kind::BackupLog => manifest::backup_log(&mut out, &read(file)?, number(file)?, limit),
        Kind::Segment => Ok(true),
    }?;
    out.flush()?;
    if sound { Ok(()) } else { Err(format!("{name} is damaged")) }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Returns the number in a file's name, which its checksums cover.
fn number(file: &Path) -> Result<u64, String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let digits: String =
        name.trim_start_matches(|c: char| !c.is_ascii_digit()).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| format!("{}: its checksums cover the number that should be in its name", file.display()))
}

fn kind(path: &Path) -> Result<Option<Kind>, String> {
    let words = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(words)?;
    let len = file.metadata().map_err(words)?.len();
    let (mut first, mut last) = ([0; 11], [0; 8]);
    let tail = len.saturating_sub(last.len() as u64);
    if len >= first.len() as u64 {
        file.read_exact_at(&mut first, 0).map_err(words)?;
        file.read_exact_at(&mut last, tail).map_err(words)?;
    }
    let by_bytes = match &first {
        _ if last == aidb::lsm::table::format::MAGIC => Some(Kind::Table),
        [_, _, _, _, magic @ ..] if *magic == aof::MAGIC => Some(Kind::Segment),
        [b'A', b'I', b'D', b'B', rest @ ..] => match &rest[..4] {
            b"MANI" => Some(Kind::Manifest),
            b"BKUP" => Some(Kind::Backup),
            b"BLOG" => Some(Kind::BackupLog),
            _ => None,
        },
        _ => None,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let in_wal = path.parent().and_then(Path::file_name).is_some_and(|dir| dir == "wal");
    let by_name = || match name.as_ref() {
        "CURRENT" => Some(Kind::Current),
        name if name.ends_with(".sst") => Some(Kind::Table),
        name if name.starts_with("MANIFEST-") => Some(Kind::Manifest),
        name if name.starts_with("BACKUP-") => Some(Kind::Backup),
        _ if in_wal => Some(Kind::Segment),
        _ => None,
    };
    Ok(by_bytes.or_else(by_name))
}
