//! Reads a segment's frames front to back, and looks for frames behind a bad one.
//!
//! Called by recovery on the opening thread. Memory stays at one window, or at one frame if that is larger; a length is
//! believed only after the header's checksum and the file's length agree with it.
//!
//! **Invariants:** [`FrameReader::next`] yields only frames whose header and payload are good and that end at or before the
//! limit; after [`Step::Bad`] and [`Step::End`] it stands still.

use super::crypt::SegmentKey;
use super::format::{self, FRAME_BYTES, Fault, FrameHeader, HEADER_BYTES, SegmentHeader};
use super::read::ReadAt;
use super::segment::frame_place;
use crate::base::Result;
use crate::env::Env;
use std::ops::Range;
use std::sync::Arc;

/// How much is read at a time.
const WINDOW_BYTES: usize = 256 << 10;
/// How much is read first where only a few frames may be wanted; doubled each time.
const PROBE_BYTES: usize = 8 << 10;

/// A part of a source in memory.
struct Window<R> {
    source: R,
    /// Nothing at or after this offset is read.
    stop: u64,
    start: u64,
    /// Room for the largest window so far: what was read once is not filled with zeros again.
    bytes: Vec<u8>,
    /// How many of the bytes are of the source.
    have: usize,
    /// How much is read next time.
    step: usize,
}

impl<R: ReadAt> Window<R> {
    fn new(source: R, stop: u64) -> Window<R> {
        Window { source, stop, start: 0, bytes: Vec::new(), have: 0, step: WINDOW_BYTES }
    }

    /// Makes `len` bytes at `offset` available, or as many as there are, and returns where they lie in `self.bytes`.
    fn get(&mut self, offset: u64, len: usize) -> Result<Range<usize>> {
        let wanted_end = (offset + len as u64).min(self.stop);
        let have_end = self.start + self.have as u64;
        if offset < self.start || wanted_end > have_end {
            self.slide(offset, len)?;
        }
        let at = ((offset - self.start) as usize).min(self.have);
        Ok(at..(at + len).min(self.have))
    }

    /// Moves on to `offset`; bytes that are there already are kept and not read again.
    fn slide(&mut self, offset: u64, len: usize) -> Result<()> {
        let have_end = self.start + self.have as u64;
        let kept = if offset >= self.start { have_end.saturating_sub(offset) as usize } else { 0 };
        let room = usize::try_from(self.stop.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.bytes.copy_within(self.have - kept..self.have, 0);
        (self.start, self.have) = (offset, kept);
        let wanted = len.max(self.step).min(room).max(kept);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        self.step = (2 * self.step).min(WINDOW_BYTES);
        self.have += self.source.read_at(&mut self.bytes[kept..wanted], offset + kept as u64)?;
        Ok(())
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
pub(super) struct FrameReader<E: Env, R> {
    env: E,
    window: Window<R>,
    header: SegmentHeader,
    file_bytes: u64,
    lsn: u64,
    limit: u64,
    /// The current frame's payload, in the window or in `plain`.
    payload: Range<usize>,
    key: Option<Arc<SegmentKey>>,
    /// The current frame's payload if it was encrypted.
    plain: Vec<u8>,
}

impl<E: Env, R: ReadAt> FrameReader<E, R> {
    /// Starts at `from` of a source that holds `file_bytes`; frames must end at or before `limit`.
    pub(super) fn new(
        env: &E,
        source: R,
        header: &SegmentHeader,
        file_bytes: u64,
        from: u64,
        limit: u64,
    ) -> FrameReader<E, R> {
        assert!(header.base_lsn <= from && from <= limit, "a reader starts inside its segment");
        let stop = file_bytes.min(offset_of(header, limit));
        let window = Window::new(source, stop);
        FrameReader {
            env: env.clone(),
            window,
            header: *header,
            file_bytes,
            lsn: from,
            limit,
            payload: 0..0,
            key: None,
            plain: Vec::new(),
        }
    }

    /// Decrypts payloads with `key`.
    pub(super) fn with_key(mut self, key: Option<Arc<SegmentKey>>) -> FrameReader<E, R> {
        self.key = key;
        self
    }

    /// Reads little at first: only a few frames may be wanted.
    pub(super) fn probing(mut self) -> FrameReader<E, R> {
        self.window.step = PROBE_BYTES;
        self
    }

    /// Returns the offset of `lsn` in the source.
    pub(super) fn offset(&self, lsn: u64) -> u64 {
        offset_of(&self.header, lsn)
    }

    /// Returns where the next frame begins.
    pub(super) fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Returns what is read.
    pub(super) fn source(&self) -> &R {
        &self.window.source
    }

    /// Returns the payload of the frame read last.
    pub(super) fn payload(&self) -> &[u8] {
        let bytes = if self.plain.is_empty() { &self.window.bytes } else { &self.plain };
        &bytes[self.payload.clone()]
    }

    /// Moves the limit on.
    pub(super) fn extend(&mut self, limit: u64) {
        assert!(limit >= self.limit, "what is visible stays visible");
        self.limit = limit;
        self.window.stop = self.file_bytes.min(offset_of(&self.header, limit));
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self) -> Result<Step<'_>> {
        let lsn = self.lsn;
        Ok(match self.advance()? {
            None => Step::End,
            Some(Err(fault)) => Step::Bad(fault),
            Some(Ok(header)) => Step::Frame { lsn, header, payload: self.payload() },
        })
    }

    /// Reads the next frame's header, or none at the limit; its [`payload`](Self::payload) stays until the next call.
    pub(super) fn advance(&mut self) -> Result<Option<Result<FrameHeader, Fault>>> {
        let lsn = self.lsn;
        self.payload = 0..0;
        if lsn == self.limit {
            return Ok(None);
        }
        let offset = offset_of(&self.header, lsn);
        let place = frame_place(&self.env, &self.header, lsn);
        let unchecked = self.env.planted("aof_no_crc");
        let range = self.window.get(offset, FRAME_BYTES)?;
        let bytes = &self.window.bytes[range];
        let decoded = match unchecked {
            true => FrameHeader::decode_unchecked(bytes).map_err(|_| Fault::Blank),
            false => FrameHeader::decode(bytes, &place),
        };
        let header = match decoded {
            Ok(header) => header,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        if header.durable(lsn).is_none() {
            return Ok(Some(Err(Fault::Contradiction)));
        }
        if let Err(fault) = self.header.admit(&header) {
            return Ok(Some(Err(fault)));
        }
        let end = lsn + header.frame_bytes();
        if end > self.limit || offset_of(&self.header, end) > self.file_bytes {
            return Ok(Some(Err(Fault::Overrun)));
        }
        // Asked for with its header, so that most frames are read once.
        let frame = self.window.get(offset, FRAME_BYTES + header.stored_bytes() as usize)?;
        let stored = (frame.start + FRAME_BYTES).min(frame.end)..frame.end;
        if !unchecked && !header.payload_is_good(&self.window.bytes[stored.clone()]) {
            return Ok(Some(Err(Fault::PayloadChecksum)));
        }
        let mut payload = stored.start..(stored.start + header.len as usize).min(stored.end);
        self.plain.clear();
        if let Some(key) = self.key.as_ref().filter(|_| header.tagged) {
            self.plain.extend_from_slice(&self.window.bytes[stored]);
            if !key.open_frame(&header, lsn, &mut self.plain) {
                return Ok(Some(Err(Fault::Authentication)));
            }
            payload = 0..payload.len();
        }
        assert!(end > lsn && payload.len() == header.len as usize, "a frame moves the reader on");
        self.lsn = end;
        self.payload = payload;
        Ok(Some(Ok(header)))
    }
}

/// Returns the offset of `lsn` in the file of the segment of `header`.
fn offset_of(header: &SegmentHeader, lsn: u64) -> u64 {
    (HEADER_BYTES as u64).saturating_add(lsn - header.base_lsn)
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

/// Looks for good frame headers from `bad` to the end of the `file_bytes` of `source`, at every multiple of 8.
pub(super) fn scan_behind<E: Env>(
    env: &E,
    source: impl ReadAt,
    segment: &SegmentHeader,
    file_bytes: u64,
    bad: u64,
) -> Result<Behind> {
    let mut behind = Behind { end: bad, ..Behind::default() };
    let mut window = Window::new(source, file_bytes);
    let mut lsn = bad;
    loop {
        let offset = offset_of(segment, lsn);
        if offset + FRAME_BYTES as u64 > file_bytes {
            return Ok(behind);
        }
        let range = window.get(offset, WINDOW_BYTES)?;
        let bytes = &window.bytes[range];
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

/// Looks for the next good frame header behind `bad`, as [`scan_behind`] does, and returns where it begins.
pub(super) fn next_frame<E: Env>(
    env: &E,
    source: impl ReadAt,
    segment: &SegmentHeader,
    file_bytes: u64,
    bad: u64,
) -> Result<Option<u64>> {
    let mut window = Window::new(source, file_bytes);
    let mut lsn = bad + format::ALIGN;
    loop {
        let offset = offset_of(segment, lsn);
        if offset + FRAME_BYTES as u64 > file_bytes {
            return Ok(None);
        }
        let range = window.get(offset, WINDOW_BYTES)?;
        let bytes = &window.bytes[range];
        let mut at = 0;
        while at + FRAME_BYTES <= bytes.len() {
            let place = frame_place(env, segment, lsn);
            if format::may_be_frame(&bytes[at..]) && FrameHeader::decode(&bytes[at..], &place).is_ok() {
                return Ok(Some(lsn));
            }
            at += format::ALIGN as usize;
            lsn += format::ALIGN;
        }
        if at == 0 {
            return Ok(None);
        }
    }
}
