//! Reads what is readable of a damaged log's directory: every good frame in order, and the gaps between them.
//!
//! Called by whoever repairs what the log is for, with the log closed. Nothing is changed. A log is opened only if it is whole
//! ([`Log::open`](super::Log::open)); this is for when it is not, and later records are wanted all the same.
//!
//! - A frame counts if it passes every check at its place: position, log and life of the file are part of its checksum, so what is
//!   found behind damage is of this log, in order.
//! - A torn tail is no gap: nothing good lies behind it.
//! - Of a segment whose header is damaged in more than one byte, or that is encrypted, nothing is read.

use super::format::{FrameHeader, HEADER_BYTES, SegmentHeader};
use super::names::{Listing, segment_name};
use super::read::{LocalFile, ReadAt, read_header};
use super::scan::{FrameReader, Step, next_frame};
use super::types::{Frame, Lsn};
use crate::base::{Error, Result};
use crate::env::{Disk, Env, read_file};
use std::path::{Path, PathBuf};

/// A stretch of the log without a good frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The file, which may be missing.
    pub file: PathBuf,
    /// Where in the file it begins.
    pub offset: u64,
    /// Where in the log it begins.
    pub from: Lsn,
    /// Where the next good frame begins.
    pub to: Lsn,
    /// What is wrong.
    pub what: String,
}

/// Hands every good frame of the log in `dir` to `see`, in order, and returns what lies between.
///
/// # Errors
/// The directory cannot be listed, a file cannot be opened, or what `see` returns.
pub fn salvage<E: Env>(env: &E, dir: &Path, see: &mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<Vec<Gap>> {
    let mut salvage = Salvage { env, dir, gaps: Vec::new(), open: None };
    let headers = salvage.headers()?;
    for (at, header) in headers.iter().enumerate() {
        let limit = headers.get(at + 1).map(|next| next.base_lsn);
        salvage.segment(header, limit, see)?;
    }
    let last = headers.last().map_or(0, |last| last.base_lsn);
    // What lies in the last segment alone, with nothing good behind it, is a torn tail.
    if let Some(gap) = salvage.open.take_if(|gap| gap.from.0 < last) {
        salvage.gaps.push(Gap { to: Lsn(last), ..gap });
    }
    Ok(salvage.gaps)
}

struct Salvage<'a, E: Env> {
    env: &'a E,
    dir: &'a Path,
    gaps: Vec<Gap>,
    /// A gap that has no good frame behind it yet.
    open: Option<Gap>,
}

impl<E: Env> Salvage<'_, E> {
    /// Reads the headers of all segments that count, oldest first.
    fn headers(&mut self) -> Result<Vec<SegmentHeader>> {
        let listed = self.env.disk().list(self.dir).map_err(|error| Error::io("list", self.dir, error))?;
        let mut headers: Vec<SegmentHeader> = Vec::new();
        for (number, _) in Listing::classify(listed).segments {
            let path = self.dir.join(segment_name(number));
            let header = self.header(&path)?.and_then(|header| {
                let before = headers.last().map_or(0, |last| last.base_lsn);
                match header {
                    _ if header.segment_no != number => Err("the segment header has another number".to_owned()),
                    _ if header.key_id != 0 => Err("the segment is encrypted".to_owned()),
                    _ if header.base_lsn < before => Err("the segment begins before the one before it".to_owned()),
                    _ => Ok(header),
                }
            });
            match header {
                Ok(header) => {
                    // Names of dropped segments come back in a crash.
                    headers.retain(|older| older.segment_no >= header.first_no);
                    headers.push(header);
                }
                Err(what) => {
                    let from = Lsn(headers.last().map_or(0, |last| last.base_lsn));
                    self.gaps.push(Gap { file: path, offset: 0, from, to: from, what });
                }
            }
        }
        Ok(headers)
    }

    fn header(&self, path: &Path) -> Result<std::result::Result<SegmentHeader, String>> {
        let file = LocalFile::open(self.env, path)?;
        Ok(match read_header(&file) {
            Ok(Ok(header)) => Ok(header),
            Ok(Err(fault)) => {
                let bytes = read_file(self.env.disk(), path).unwrap_or_default();
                SegmentHeader::repair(&bytes).map(|(_, header)| header).ok_or(format!("the segment header {fault}"))
            }
            Err(error) => Err(error.to_string()),
        })
    }

    /// Reads one segment, whose frames end at `limit` if that is known.
    fn segment(
        &mut self,
        header: &SegmentHeader,
        limit: Option<u64>,
        see: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = self.dir.join(segment_name(header.segment_no));
        let file = LocalFile::open(self.env, &path)?;
        let mut from = header.base_lsn;
        loop {
            let frames = FrameReader::new(self.env, &file, header, file.bytes(), from, limit.unwrap_or(u64::MAX / 2));
            let Some((bad, what)) = self.frames(frames, see)? else { return Ok(()) };
            let offset = HEADER_BYTES as u64 + (bad - header.base_lsn);
            let gap = Gap { file: path.clone(), offset, from: Lsn(bad), to: Lsn(bad), what };
            self.open.get_or_insert(gap);
            let next = next_frame(self.env, &file, header, file.bytes(), bad).unwrap_or_default();
            match next.filter(|next| limit.is_none_or(|limit| *next < limit)) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Reads good frames; returns where there is none, and why.
    fn frames(
        &mut self,
        mut frames: FrameReader<E, &LocalFile<E>>,
        see: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<Option<(u64, String)>> {
        loop {
            let what = match frames.next() {
                Ok(Step::End) => return Ok(None),
                Ok(Step::Frame { lsn, header, payload }) => {
                    let FrameHeader { kind, count, tag, ts, first_id, .. } = header;
                    let end = Lsn(lsn + header.frame_bytes());
                    self.gaps.extend(self.open.take().map(|gap| Gap { to: Lsn(lsn), ..gap }));
                    if kind.is_callers() {
                        see(Frame { lsn: Lsn(lsn), end, kind, count, first_id, tag, ts, payload })?;
                    }
                    continue;
                }
                Ok(Step::Bad(fault)) => format!("what lies here {fault}"),
                Err(error) => error.to_string(),
            };
            return Ok(Some((frames.lsn(), what)));
        }
    }
}
