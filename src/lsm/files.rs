//! Names in an engine's directory, and what each one is.
//!
//! `LOCK` (held while open), `CURRENT` (names the MANIFEST), `MANIFEST-NNNNNN`, `NNNNNN.sst` (tables), `wal/` (the log),
//! `INCOMPLETE` (while a checkpoint or restore fills the directory), `REPAIRING` (while a repair changes it), `lost/` (what repairs set aside).
//! Numbers have at least six digits, come from one counter and are never used twice. Any other name is not ours and is left alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The directory of the log.
pub(super) const WAL_DIR: &str = "wal";
/// The pointer to the MANIFEST.
pub(super) const CURRENT: &str = "CURRENT";
/// What an interrupted switch of [`CURRENT`] leaves.
const CURRENT_TEMPORARY: &str = "CURRENT.tmp";

/// Says that a directory is being filled and is not to be opened.
pub(super) const INCOMPLETE: &str = "INCOMPLETE";

/// Says that a repair was begun: the directory is not to be opened before one has ended.
pub(super) const REPAIRING: &str = "REPAIRING";
/// The directory of what repairs set aside.
pub(super) const LOST_DIR: &str = "lost";

/// What a name in the directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Current,
    CurrentTemporary,
    Incomplete,
    Repairing,
    Manifest(u64),
    Table(u64),
    /// The lock, the log, or not ours.
    Other,
}

impl FileKind {
    pub(super) fn parse(name: &OsStr) -> FileKind {
        let Some(name) = name.to_str() else { return FileKind::Other };
        if name == CURRENT {
            FileKind::Current
        } else if name == CURRENT_TEMPORARY {
            FileKind::CurrentTemporary
        } else if name == INCOMPLETE {
            FileKind::Incomplete
        } else if name == REPAIRING {
            FileKind::Repairing
        } else if let Some(number) = name.strip_prefix("MANIFEST-").and_then(parse_number) {
            FileKind::Manifest(number)
        } else if let Some(number) = name.strip_suffix(".sst").and_then(parse_number) {
            FileKind::Table(number)
        } else {
            FileKind::Other
        }
    }

    /// Returns the number of a table.
    pub(super) fn table(self) -> Option<u64> {
        if let FileKind::Table(number) = self { Some(number) } else { None }
    }

    /// Returns the number of a MANIFEST.
    pub(super) fn manifest(self) -> Option<u64> {
        if let FileKind::Manifest(number) = self { Some(number) } else { None }
    }

    /// Returns the number in the name.
    pub(super) fn number(self) -> Option<u64> {
        match self {
            FileKind::Manifest(number) | FileKind::Table(number) => Some(number),
            _ => None,
        }
    }
}

/// Parses what [`manifest_name`] and [`table_path`] print, and nothing else.
pub(super) fn parse_number(digits: &str) -> Option<u64> {
    let number = digits.parse().ok()?;
    (format!("{number:06}") == digits && number < u64::MAX).then_some(number)
}

/// Returns the name of MANIFEST `number`.
pub(super) fn manifest_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

/// Returns the path of table `number`.
pub(super) fn table_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.sst"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_parse_and_others_are_left_alone() {
        let parse = |name: &str| FileKind::parse(OsStr::new(name));
        assert_eq!(parse("000007.sst"), FileKind::Table(7));
        assert_eq!(parse("1234567.sst"), FileKind::Table(1_234_567));
        assert_eq!(parse(&manifest_name(12)), FileKind::Manifest(12));
        assert_eq!(parse("CURRENT"), FileKind::Current);
        assert_eq!(parse("CURRENT.tmp"), FileKind::CurrentTemporary);
        assert_eq!(parse(INCOMPLETE), FileKind::Incomplete);
        for name in ["7.sst", "+00007.sst", "000007.sst.bak", "MANIFEST-", "LOCK", "wal", "0000007.sst", ""] {
            assert_eq!(parse(name), FileKind::Other, "{name}");
        }
    }
}
