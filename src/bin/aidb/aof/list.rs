//! `aidb aof list`: the segments of a log, as a table or as JSON.
//!
//! Reads the headers of the segment files, and what the manifest says of archived ones that are no longer local, without a lock
//! and changes nothing, so it works beside the process that appends. The archive itself is not asked.

use super::Output;
use super::place::{existing, words};
use super::show::{hex, time};
use aidb::aof::format::{HEADER_BYTES, SegmentHeader};
use aidb::aof::manifest::ManifestView;
use aidb::aof::names::segment_name;
use aidb::aof::{SegmentEntry, SegmentStatus};
use aidb::env::StdEnv;
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
    let first = segments.first().map_or(u64::MAX, |segment| segment.header.segment_no);
    let archived = archived(&options.dir, first)?;
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
    for entry in &archived {
        output.line(&if options.json { archived_json(entry) } else { archived_row(entry) })?;
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

/// Returns the archived segments below number `first`, oldest first. Local ones were looked at before: one that has left the
/// disk since is missing from neither.
fn archived(dir: &Path, first: u64) -> Result<Vec<SegmentEntry>, String> {
    let manifest = ManifestView::open(StdEnv, dir).map_err(words)?;
    let is_archived = |entry: &&SegmentEntry| {
        entry.number < first && matches!(entry.status, SegmentStatus::Archived | SegmentStatus::LocalDeleted)
    };
    Ok(manifest.with(|state| state.kept().filter(is_archived).cloned().collect()))
}

fn archived_row(entry: &SegmentEntry) -> String {
    let frames = entry.end_lsn.0 - entry.base_lsn.0;
    let numbers = [entry.base_id, entry.records, entry.base_lsn.0, frames].map(|number| number.to_string());
    let [base_id, records, base_lsn, frames] = numbers;
    let columns = [base_id, records, base_lsn, frames, "-".into(), "-".into()];
    row(entry.number, "remote", &columns, &time(entry.base_ts))
}

/// Returns a line of the table; `columns` are first id, records, position, frame bytes, file bytes, key.
fn row(number: u64, status: &str, columns: &[String; 6], begun: &str) -> String {
    let [base_id, records, base_lsn, frames, file, key_id] = columns;
    format!(
        "{number:<9} {status:<7} {base_id:<13} {records:<13} {base_lsn:<17} {frames:<13} {file:<13} {key_id:<4} {begun}"
    )
}

fn archived_json(entry: &SegmentEntry) -> String {
    serde_json::json!({
        "segment": entry.number,
        "status": "remote",
        "base_id": entry.base_id,
        "next_id": entry.next_id,
        "base_lsn": entry.base_lsn.0,
        "end_lsn": entry.end_lsn.0,
        "base_ts_us": entry.base_ts,
        "object": entry.archived_key,
        "object_bytes": entry.archived_bytes,
    })
    .to_string()
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
        let columns =
            [base_id.to_string(), records, base_lsn.to_string(), frames, file.to_string(), key_id.to_string()];
        row(segment_no, status, &columns, &begun)
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
