//! `aidb aof list`: the local segments of a log, as a table or as JSON.
//!
//! Reads the headers of the segment files without a lock and changes nothing, so it works beside the process that appends.

use super::Output;
use super::place::existing;
use super::show::{hex, time};
use aidb::aof::format::{HEADER_BYTES, SegmentHeader};
use aidb::aof::names::segment_name;
use clap::Args;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Options of `aidb aof list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The log's directory.
    dir: PathBuf,
    /// One JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
}

pub(super) struct Segment {
    name: String,
    pub header: SegmentHeader,
    pub file_bytes: u64,
    /// Of the segment that follows: where this one ends.
    next: Option<(u64, u64)>,
}

/// Prints the segments.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let mut segments = read_all(existing(&options.dir)?)?;
    let bounds: Vec<_> = segments.iter().map(|segment| (segment.header.base_lsn, segment.header.base_id)).collect();
    for (segment, next) in segments.iter_mut().zip(bounds.into_iter().skip(1)) {
        segment.next = Some(next);
    }
    let mut output = Output::new();
    if !options.json {
        output.line(
            "segment   status  first id      records       from lsn          frame bytes   file bytes    key  begun",
        )?;
    }
    for segment in &segments {
        output.line(&if options.json { segment.json() } else { segment.row() })?;
    }
    output.flush()
}

/// Reads the headers of all segment files in `dir`, oldest first.
pub(super) fn read_all(dir: &Path) -> Result<Vec<Segment>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let number = name.strip_suffix(".log").and_then(|digits| digits.parse().ok());
        if number.is_some_and(|number| segment_name(number) == name)
            && let Some(segment) = read_one(&dir.join(&name), name)?
        {
            segments.push(segment);
        }
    }
    segments.sort_by_key(|segment| segment.header.segment_no);
    // Names below the newest segment's first are left over from an interrupted removal.
    let first = segments.last().map_or(0, |segment| segment.header.first_no);
    segments.retain(|segment| segment.header.segment_no >= first);
    Ok(segments)
}

/// Reads one header; none if the file was dropped meanwhile.
fn read_one(path: &Path, name: String) -> Result<Option<Segment>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    let header = SegmentHeader::decode(&bytes)
        .map_err(|fault| format!("{}: offset 0: the segment header {fault}", path.display()))?;
    Ok(Some(Segment { name, header, file_bytes, next: None }))
}

impl Segment {
    fn status(&self) -> &'static str {
        if self.next.is_some() { "sealed" } else { "active" }
    }

    fn row(&self) -> String {
        let SegmentHeader { segment_no, base_lsn, base_id, base_ts, key_id, .. } = self.header;
        let or_dash = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let records = or_dash(self.next.map(|(_, id)| id.saturating_sub(base_id)));
        let frames = or_dash(self.next.map(|(lsn, _)| lsn.saturating_sub(base_lsn)));
        let (status, file, begun) = (self.status(), self.file_bytes, time(base_ts));
        format!(
            "{segment_no:<9} {status:<7} {base_id:<13} {records:<13} {base_lsn:<17} {frames:<13} {file:<13} {key_id:<4} {begun}"
        )
    }

    fn json(&self) -> String {
        let header = &self.header;
        serde_json::json!({
            "segment": header.segment_no,
            "file": self.name,
            "status": self.status(),
            "base_id": header.base_id,
            "next_id": self.next.map(|(_, id)| id),
            "base_lsn": header.base_lsn,
            "end_lsn": self.next.map(|(lsn, _)| lsn),
            "base_ts_us": header.base_ts,
            "file_bytes": self.file_bytes,
            "epoch": header.epoch,
            "key_id": header.key_id,
            "log_id": hex(&header.log_id),
        })
        .to_string()
    }
}
