//! The end of a log, read frame by frame: [`LogTail`] of a log that goes on, and `ViewChain::replay` beside another process.
//!
//! A checkpoint or a backup takes what the log holds from one position on while the writer goes on. Called on any thread.
//!
//! **Invariants**
//! - The segments of a tail are open from the moment it is taken, so that dropping them does not disturb it (R11).
//! - What a tail hands out ends where the operating system had the log when it was taken.

use super::chain::{At, Chain, Span};
use super::format::FrameHeader;
use super::log::Log;
use super::read::{ReadAt, SegmentReader};
use super::types::{Frame, Lsn};
use super::view::ViewChain;
use crate::base::{Error, Result};
use crate::env::Env;
use std::sync::Arc;

/// What a log holds from one position on, held readable.
#[derive(Debug)]
pub struct LogTail<E: Env> {
    from: Lsn,
    end: Lsn,
    /// Oldest first.
    segments: Vec<Arc<SegmentReader<E>>>,
}

impl<E: Env> Log<E> {
    /// Returns the frames from `from` on, as far as the operating system has them; see [`write_out`](Log::write_out).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if some of them were dropped; what reading a segment's header met.
    pub fn tail(&self, from: Lsn) -> Result<LogTail<E>> {
        let end = self.written();
        let mut segments: Vec<Arc<SegmentReader<E>>> = Vec::new();
        let mut next = self.locate(At::Lsn(from));
        while let Some(span) = next.filter(|span| segments.is_empty() || span.base_lsn < end) {
            if segments.is_empty() && span.base_lsn > from {
                let begin = span.base_lsn;
                return Err(Error::not_found(format_args!("the log begins at {begin}, it is needed from {from}")));
            }
            segments.push(self.open_segment(span.number)?);
            next = self.locate(At::Number(span.number + 1));
        }
        Ok(LogTail { from, end, segments })
    }
}

impl<E: Env> LogTail<E> {
    /// Hands each of the caller's frames to `replay`, oldest first.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) naming the file and the offset of a bad frame; what the disk or `replay` met.
    pub fn replay(&self, replay: &mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<()> {
        for (at, reader) in self.segments.iter().enumerate() {
            let base = reader.header().base_lsn;
            let limit = self.segments.get(at + 1).map_or(self.end.0, |next| next.header().base_lsn);
            let mut frames = reader.frames(base, limit.max(base));
            loop {
                let lsn = frames.lsn();
                let header = match frames.advance()? {
                    Some(Ok(header)) => header,
                    Some(Err(fault)) => return Err(Error::corruption(reader.name(), frames.offset(lsn), fault)),
                    None => break,
                };
                if header.kind.is_callers() && lsn >= self.from.0 {
                    replay(header.frame(lsn, frames.payload()))?;
                }
            }
        }
        Ok(())
    }
}

impl FrameHeader {
    /// Returns the frame of this header, which begins at `lsn`.
    fn frame<'a>(&self, lsn: u64, payload: &'a [u8]) -> Frame<'a> {
        Frame {
            lsn: Lsn(lsn),
            end: Lsn(lsn + self.frame_bytes()),
            kind: self.kind,
            count: self.count,
            first_id: self.first_id,
            tag: self.tag,
            ts: self.ts,
            payload,
        }
    }
}

impl<E: Env> ViewChain<E> {
    /// Hands each of the caller's frames at or after `from` to `replay`, oldest first, and returns where the last good frame ends.
    ///
    /// It goes as far as the operating system had the log when this was called, or farther: what it hands out survives the
    /// death of the writer, and a power loss may take the end of it back. Frames in memory of the writer are not seen.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if frames from `from` on were dropped, before or meanwhile: what was handed out by
    /// then is good, and a later look at what they went into will tell. [`Corruption`](crate::ErrorKind::Corruption) naming
    /// the file and the offset of a bad frame before the last segment; what the disk or `replay` met.
    pub fn replay(&self, from: Lsn, replay: &mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<Lsn> {
        let spans = self.spans()?;
        if let Some(first) = spans.first().filter(|first| first.base_lsn > from) {
            let (dir, first) = (self.dir().display(), first.base_lsn);
            return Err(Error::not_found(format_args!("the log in {dir} begins at {first}, it is needed from {from}")));
        }
        let mut end = Lsn(0);
        for span in spans.iter().filter(|span| span.end_lsn.is_none_or(|end| end > from)) {
            end = self.replay_segment(span, from, replay)?;
        }
        Ok(end)
    }

    fn replay_segment(&self, span: &Span, from: Lsn, replay: &mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<Lsn> {
        let reader = self.open(span)?;
        let gone = || Error::not_found(format_args!("{} was replaced", reader.name().display()));
        let mut frames = reader.frames(span.base_lsn.0, span.end_lsn.map_or(u64::MAX / 2, |end| end.0));
        loop {
            let lsn = frames.lsn();
            let header = match frames.advance()? {
                Some(Ok(header)) => header,
                // The writer has not come farther; or damage, which only its next open can tell from that.
                Some(Err(_)) if span.end_lsn.is_none() => break,
                Some(Err(_)) if !self.is_current(&reader)? => return Err(gone()),
                Some(Err(fault)) => return Err(Error::corruption(reader.name(), frames.offset(lsn), fault)),
                None => break,
            };
            if header.kind.is_callers() && lsn >= from.0 {
                replay(header.frame(lsn, frames.payload()))?;
            }
        }
        // Where the file was written over, good frames end early.
        if self.is_current(&reader)? { Ok(Lsn(frames.lsn())) } else { Err(gone()) }
    }
}
