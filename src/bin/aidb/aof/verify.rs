//! `aidb aof verify`: reads every byte of a log and names what is damaged, by file and offset.
//!
//! Reads without a lock and changes nothing. Keys are needed for encrypted objects of an archive only: other checksums are of
//! what is stored.

use super::Output;
use super::place::{Archived, Place, existing, words};
use aidb::aof::{Aof, AofConfig};
use aidb::env::StdEnv;
use clap::Args;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
Each fault is a line of its own: file, offset, which check fails. The offset is that of the changed byte if one byte explains
the damage, else where the damaged frame or header begins. Exits with 1 if there is a fault. Torn bytes are no fault: the writer
was ended while it wrote them, and nobody was told that they are durable. Works beside the process that appends.

Archived objects are looked at with --archive only, whole; those that are encrypted need the keys. Which there are the
manifest says: where that is damaged, none is looked at.";

/// Options of `aidb aof verify`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    archived: Archived,
}

/// Prints each fault and the sum, and fails if there is a fault.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let dir = existing(&options.place.dir)?;
    let (encryption, archive) = (options.place.keys.ring()?, options.archived.config()?);
    let config = AofConfig { encryption, archive, ..AofConfig::default() };
    let report = Aof::verify_read_only(StdEnv, dir, &config).map_err(words)?;
    let mut output = Output::new();
    for fault in &report.faults {
        output.line(&format!("{}: offset {}: {}", fault.file.display(), fault.offset, fault.what))?;
    }
    output.line(&format!(
        "{} segments, {} frames, {} records, {} bytes read, {} objects, {} torn bytes, {} faults",
        report.segments,
        report.frames,
        report.records,
        report.bytes,
        report.objects,
        report.torn_bytes,
        report.faults.len()
    ))?;
    output.flush()?;
    match report.is_clean() {
        true => Ok(()),
        false => Err(format!("{} is damaged", dir.display())),
    }
}
