//! `aidb aof verify`: reads every byte of a log and names what is damaged, by file and offset.
//!
//! Reads without a lock and changes nothing. Keys are not needed: checksums are of what is stored.

use super::Output;
use super::place::{existing, words};
use aidb::aof::verify::verify_store;
use aidb::env::StdEnv;
use clap::Args;
use std::path::PathBuf;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
Each fault is a line of its own: file, offset, which check fails. The offset is that of the changed byte if one byte explains
the damage, else where the damaged frame or header begins. Exits with 1 if there is a fault. Torn bytes are no fault: the writer
was ended while it wrote them, and nobody was told that they are durable. Works beside the process that appends; archived
segments that are no longer local are not looked at.";

/// Options of `aidb aof verify`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The log's directory.
    dir: PathBuf,
}

/// Prints each fault and the sum, and fails if there is a fault.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let report = verify_store(&StdEnv, existing(&options.dir)?).map_err(words)?;
    let mut output = Output::new();
    for fault in &report.faults {
        output.line(&format!("{}: offset {}: {}", fault.file.display(), fault.offset, fault.what))?;
    }
    output.line(&format!(
        "{} segments, {} frames, {} records, {} bytes read, {} torn bytes, {} faults",
        report.segments,
        report.frames,
        report.records,
        report.bytes,
        report.torn_bytes,
        report.faults.len()
    ))?;
    output.flush()?;
    match report.is_clean() {
        true => Ok(()),
        false => Err(format!("{} is damaged", options.dir.display())),
    }
}
