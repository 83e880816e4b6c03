//! [`RepairReport`]: what a repair found, saved and lost.

use crate::aof::salvage::Gap;
use crate::base::key::SeqNum;
use std::fmt;
use std::path::PathBuf;

/// A part of a file that is not readable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The file, which may be missing.
    pub file: PathBuf,
    /// Where in it the part begins.
    pub offset: u64,
    /// How many bytes it takes; 0 if that is not known.
    pub bytes: u64,
    /// What is wrong.
    pub what: String,
    /// True if entries are lost, and not only what helps to find them.
    pub loses_entries: bool,
    /// The readable keys around the lost ones: the last before, the first behind; `None` at either end of the file.
    pub keys: (Option<Vec<u8>>, Option<Vec<u8>>),
}

/// What [`repair`](super::repair) found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// False if the directory was sound, and is as it was.
    pub needed: bool,
    /// True if nothing was to be changed.
    pub dry_run: bool,
    /// What is not readable, of tables, MANIFESTs and CURRENT.
    pub lost: Vec<Lost>,
    /// Where the log is not readable.
    pub log_gaps: Vec<Gap>,
    /// The first and last sequence number of each run of operations that the log and tables may both lack.
    pub lost_seqs: Vec<(SeqNum, SeqNum)>,
    /// Tables that stayed as they were.
    pub tables_kept: u64,
    /// Tables written.
    pub tables_written: u64,
    /// Entries in these.
    pub entries_written: u64,
    /// Records of the log that were read around its damage; 0 if it stays.
    pub log_records: u64,
    /// What was moved, to the directory `lost` in the engine's.
    pub moved: Vec<PathBuf>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

impl RepairReport {
    /// Returns true if entries are lost, as far as known.
    pub fn loses_entries(&self) -> bool {
        !self.lost_seqs.is_empty() || self.lost.iter().any(|lost| lost.loses_entries)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: offset {}", self.file.display(), self.offset)?;
        if self.bytes > 0 {
            write!(f, ", {} bytes", self.bytes)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.loses_entries {
            return f.write_str("; no entry is lost by that");
        }
        let key = |key: &Option<Vec<u8>>, none: &str| {
            key.as_deref().map_or(none.into(), |key| format!("{:?}", key.escape_ascii().to_string()))
        };
        write!(f, "; keys from {} to {} are lost", key(&self.keys.0, "the first"), key(&self.keys.1, "the last"))
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.needed {
            return f.write_str("sound: nothing was changed");
        }
        f.write_str(if self.dry_run { "needs repair" } else { "repaired" })?;
        match self.loses_entries() {
            true => f.write_str(", and entries are lost")?,
            false => f.write_str(", and no entry is lost, as far as known")?,
        }
        self.lost.iter().try_for_each(|lost| write!(f, "\n  {lost}"))?;
        for gap in &self.log_gaps {
            let (file, offset) = (gap.file.display(), gap.offset);
            write!(f, "\n  {file}: offset {offset}: {}; log positions {} to {}", gap.what, gap.from, gap.to)?;
        }
        for (first, last) in &self.lost_seqs {
            write!(f, "\n  operations of sequence numbers {first} to {last} are in no readable part of the log")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))?;
        if self.dry_run {
            return Ok(());
        }
        write!(
            f,
            "\n{} tables kept, {} written with {} entries",
            self.tables_kept, self.tables_written, self.entries_written
        )?;
        if self.log_records > 0 {
            write!(f, ", {} records of the log read", self.log_records)?;
        }
        self.moved.iter().try_for_each(|moved| write!(f, "\nmoved to {}", moved.display()))
    }
}
