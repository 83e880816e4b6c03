//! The names in a log's directory: what each is, so that every file is accounted for when the log is opened (rule R10).
//!
//! | name | what |
//! |---|---|
//! | 20 digits, `.log` | a segment, by number |
//! | 20 digits, `.spare` | a file to be written over: a dropped segment, the reserve for a full disk, or a segment that was being made |
//! | 20 digits, `.upload` | an object of a store's archive that is being made; removed by the store before the log is opened |
//! | `manifest`, a directory | the log of a store's manifest |
//! | `LOCK` | the directory lock, if the caller keeps it here |
//! | anything else | unknown: reported and left alone |
//!
//! Called by recovery and by the segment directory, with no lock needed.

use crate::env::DirEntry;
use std::ffi::OsString;

/// The directory of a store's manifest.
pub const MANIFEST_DIR: &str = "manifest";

/// Returns the file name of segment `number`.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// Returns the file name of spare `number`.
pub fn spare_name(number: u64) -> String {
    format!("{number:020}.spare")
}

/// Returns the file name of the object that is made of segment `number`.
pub fn upload_name(number: u64) -> String {
    format!("{number:020}.upload")
}

/// The files of a directory, by kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Number and length of each segment, by number.
    pub(super) segments: Vec<(u64, u64)>,
    /// Number and length of each spare, by number.
    pub(super) spares: Vec<(u64, u64)>,
    /// Number of each object being made.
    pub(super) uploads: Vec<u64>,
    /// All other names.
    pub(super) unknown: Vec<OsString>,
}

impl Listing {
    /// Sorts `entries` by kind.
    pub(super) fn classify(entries: Vec<DirEntry>) -> Listing {
        let mut listing = Listing::default();
        for entry in entries {
            let numbered = |suffix| entry.name.to_str().and_then(|name| parse(name, suffix)).filter(|_| !entry.is_dir);
            if let Some(number) = numbered(".log") {
                listing.segments.push((number, entry.bytes));
            } else if let Some(number) = numbered(".spare") {
                listing.spares.push((number, entry.bytes));
            } else if let Some(number) = numbered(".upload") {
                listing.uploads.push(number);
            } else if entry.name != "LOCK" && !(entry.is_dir && entry.name == MANIFEST_DIR) {
                listing.unknown.push(entry.name);
            }
        }
        listing.segments.sort_unstable();
        listing.spares.sort_unstable();
        listing
    }
}

fn parse(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_classified_and_only_ours_are_taken() {
        let entry = |name: &str, is_dir| DirEntry { name: name.into(), is_dir, bytes: 5 };
        let ours = [segment_name(2), segment_name(1), spare_name(u64::MAX), upload_name(4)];
        let strange = ["1.log", "+0000000000000000001.log", "00000000000000000001.log.bak", "99999999999999999999.log"];
        let mut entries: Vec<_> = ours.iter().map(|name| entry(name, false)).collect();
        entries.extend(strange.iter().map(|name| entry(name, false)));
        entries.push(entry("LOCK", false));
        entries.push(entry(MANIFEST_DIR, true));
        entries.push(entry(&segment_name(3), true));
        let listing = Listing::classify(entries);
        assert_eq!(listing.segments, [(1, 5), (2, 5)]);
        assert_eq!(listing.spares, [(u64::MAX, 5)]);
        assert_eq!(listing.uploads, [4]);
        assert_eq!(listing.unknown.len(), strange.len() + 1);
    }
}
