//! Reads a segment's frames front to back, and looks for frames behind a bad one.
//!
//! Called by recovery on the opening thread. Memory stays at one window, or at one frame if that is larger; a length is
//! believed only after the header's checksum and the file's length agree with it.
//!
//! **Invariants:** [`FrameReader::next`] yields only frames whose header and payload are good and that end at or before the
//! limit; after [`Step::Bad`] and [`Step::End`] it stands still.

use super::format::{self, FRAME_BYTES, Fault, FrameHeader, HEADER_BYTES, SegmentHeader};
use super::segment::frame_place;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env};
use std::path::Path;

/// How much is read at a time.
const WINDOW_BYTES: usize = 256 << 10;

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// A part of a file in memory.
struct Window<'f, F> {
    file: &'f F,
    path: &'f Path,
    file_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'f, F: DiskFile> Window<'f, F> {
    /// Returns up to `len` bytes at `offset`; fewer only at the end of the file.
    fn get(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let wanted_end = (offset + len as u64).min(self.file_bytes);
        let have_end = self.start + self.bytes.len() as u64;
        if offset < self.start || wanted_end > have_end {
            let room = usize::try_from(self.file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.bytes.resize(len.max(WINDOW_BYTES).min(room), 0);
            self.start = offset;
            self.file.read_exact_at(&mut self.bytes, offset).map_err(|error| {
                self.bytes.clear();
                Error::io("read", self.path, error)
            })?;
        }
        let at = (offset - self.start) as usize;
        let end = (at + len).min(self.bytes.len());
        Ok(self.bytes.get(at..end).unwrap_or_default())
    }
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A good frame.
    Frame {
        /// Where it begins.
        lsn: u64,
        /// Its header.
        header: FrameHeader,
        /// Its payload.
        payload: &'a [u8],
    },
    /// No frame here.
    Bad(Fault),
    /// The limit.
    End,
}

/// Reads frames in order.
pub(super) struct FrameReader<'f, E: Env> {
    env: &'f E,
    window: Window<'f, FileOf<E>>,
    header: &'f SegmentHeader,
    lsn: u64,
    limit: u64,
}

impl<'f, E: Env> FrameReader<'f, E> {
    /// Starts at `from`; frames must end at or before `limit`.
    pub(super) fn new(
        env: &'f E,
        file: &'f FileOf<E>,
        path: &'f Path,
        header: &'f SegmentHeader,
        file_bytes: u64,
        from: u64,
        limit: u64,
    ) -> FrameReader<'f, E> {
        assert!(header.base_lsn <= from && from <= limit, "a reader starts inside its segment");
        let window = Window { file, path, file_bytes, start: 0, bytes: Vec::new() };
        FrameReader { env, window, header, lsn: from, limit }
    }

    /// Returns where the next frame begins.
    pub(super) fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Returns the offset of `lsn` in the file.
    pub(super) fn offset(&self, lsn: u64) -> u64 {
        HEADER_BYTES as u64 + (lsn - self.header.base_lsn)
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self) -> Result<Step<'_>> {
        let lsn = self.lsn;
        if lsn == self.limit {
            return Ok(Step::End);
        }
        let offset = self.offset(lsn);
        let place = frame_place(self.env, self.header, lsn);
        let unchecked = self.env.planted("aof_no_crc");
        let bytes = self.window.get(offset, FRAME_BYTES)?;
        let decoded = match unchecked {
            true => FrameHeader::decode_unchecked(bytes).map_err(|_| Fault::Blank),
            false => FrameHeader::decode(bytes, &place),
        };
        let header = match decoded {
            Ok(header) => header,
            Err(fault) => return Ok(Step::Bad(fault)),
        };
        if header.durable(lsn).is_none() {
            return Ok(Step::Bad(Fault::Contradiction));
        }
        let end = lsn + header.frame_bytes();
        if end > self.limit || self.offset(end) > self.window.file_bytes {
            return Ok(Step::Bad(Fault::Overrun));
        }
        // Asked for with its header, so that most frames are read once.
        let frame = self.window.get(offset, FRAME_BYTES + header.len as usize)?;
        let payload = frame.get(FRAME_BYTES..).unwrap_or_default();
        if !unchecked && !header.payload_is_good(payload) {
            return Ok(Step::Bad(Fault::PayloadChecksum));
        }
        assert!(end > lsn && payload.len() == header.len as usize, "a frame moves the reader on");
        self.lsn = end;
        Ok(Step::Frame { lsn, header, payload })
    }
}

/// What lies behind a bad frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// The highest position that a good header behind it says was durable.
    pub(super) durable: u64,
    /// Where the header that says so begins.
    pub(super) witness: u64,
    /// Where the last good header's frame would end; the start of the scan if there is none.
    pub(super) end: u64,
}

/// Looks for good frame headers from `bad` to the end of the file, at every multiple of 8.
pub(super) fn scan_behind<E: Env>(
    env: &E,
    file: &FileOf<E>,
    path: &Path,
    segment: &SegmentHeader,
    file_bytes: u64,
    bad: u64,
) -> Result<Behind> {
    let mut behind = Behind { end: bad, ..Behind::default() };
    let mut window = Window { file, path, file_bytes, start: 0, bytes: Vec::new() };
    let mut lsn = bad;
    loop {
        let offset = HEADER_BYTES as u64 + (lsn - segment.base_lsn);
        if offset + FRAME_BYTES as u64 > file_bytes {
            return Ok(behind);
        }
        let bytes = window.get(offset, WINDOW_BYTES)?;
        let mut at = 0;
        while at + FRAME_BYTES <= bytes.len() {
            let place = frame_place(env, segment, lsn);
            if format::may_be_frame(&bytes[at..])
                && let Ok(header) = FrameHeader::decode(&bytes[at..], &place)
            {
                if let Some(durable) = header.durable(lsn).filter(|durable| *durable > behind.durable) {
                    behind = Behind { durable, witness: lsn, ..behind };
                }
                behind.end = behind.end.max(lsn + header.frame_bytes());
            }
            at += format::ALIGN as usize;
            lsn += format::ALIGN;
        }
        if at == 0 {
            return Ok(behind);
        }
    }
}
