//! Reading a log in order: [`Cursor`], from any record on, across segments, as far as is visible, and on as it grows.
//!
//! Owned by one thread or task at a time; any number of cursors read beside each other and beside the writer. A cursor
//! holds one segment open (a reader) and one window of it in memory: 256 KiB, or one frame if that is larger.
//!
//! ```text
//! Seek(from) -> locate a segment -> its index -> frames -> records -> end of the segment -> the next one -> ...
//!                                                  `-> end of what is visible -> none, or wait and go on
//! ```
//!
//! **Invariants**
//! - Records come in the order of their ids, each once, none missing: a gap is an error.
//! - Nothing beyond the visible end is read, let alone shown (R8).
//! - A frame is shown only if its checksums are good.
//! - After an error a cursor yields nothing more until it is told to [`seek`](Cursor::seek).

mod place;
mod record;
mod stream;
#[cfg(test)]
mod tests;

pub use record::{Record, RecordRef};
pub use stream::CursorStream;

use super::chain::{At, Chain, Span, Visibility, Waited};
use super::error::AofError;
use super::format::FrameKind;
use super::read::{ReadAt, SegmentReader};
use super::readers::Pass;
use super::scan::FrameReader;
use super::types::Lsn;
use crate::base::coding::Decoder;
use crate::base::{Error, Result};
use crate::env::Env;
use place::Wanted;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How often in a row a cursor goes after a segment that another process moves.
const MOVES_MAX: u32 = 3;

/// Where a cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The oldest record kept.
    First,
    /// The record of this id. One that was truncated is an error; one that is not there yet is waited for by a following
    /// cursor.
    Id(u64),
    /// The first frame that begins at or after this position. One that was truncated is an error.
    Lsn(Lsn),
    /// The first record of this time or later, microseconds since 1970.
    Time(u64),
    /// So many records before the visible end, or the oldest one if there are fewer.
    TailMinus(u64),
}

/// Where a cursor ends. Several ends hold together: the first one that is met counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Before the record of this id.
    Id(u64),
    /// Before the first record of this time or later, microseconds since 1970.
    Time(u64),
    /// After so many records.
    Count(u64),
    /// Before the record that would make it more bytes of records than this.
    Bytes(u64),
}

/// The ends of a cursor, and how much it has shown.
#[derive(Clone, Copy, Debug)]
struct Ends {
    id: u64,
    ts: u64,
    count: u64,
    bytes: u64,
    shown: u64,
    shown_bytes: u64,
}

impl Default for Ends {
    fn default() -> Ends {
        Ends { id: u64::MAX, ts: u64::MAX, count: u64::MAX, bytes: u64::MAX, shown: 0, shown_bytes: 0 }
    }
}

impl Ends {
    fn reached_at(&self, id: u64, ts: u64) -> bool {
        self.shown >= self.count || id >= self.id || (ts >= self.ts && self.ts != u64::MAX)
    }
}

/// The frame whose records are being shown.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    /// Offset of the next record in the payload.
    at: usize,
    left: u16,
    id: u64,
    lsn: u64,
    ts: u64,
    tag: u32,
}

/// Where a cursor stands.
#[expect(clippy::large_enum_variant, reason = "a cursor is nearly always in a segment")]
enum Stand<E: Env> {
    /// Before its first record.
    Seek(From),
    /// In a segment.
    In(FrameReader<E, Arc<SegmentReader<E>>>),
    /// After an error.
    Failed,
}

/// What there is to show.
enum Next {
    Record,
    /// Nothing more is visible.
    Nothing(Lsn),
    /// An end of the cursor's own.
    Ended,
}

/// Reads records in order; see the module's text.
///
/// Without [`follow`](Self::follow) it yields none at the visible end, and goes on from there when it is asked again later.
///
/// # Durability
/// By default what is shown survives a power loss.
pub struct Cursor<E: Env> {
    chain: Arc<dyn Chain<E>>,
    stand: Stand<E>,
    wanted: Wanted,
    batch: Batch,
    /// The next record in the payload.
    record: Range<usize>,
    /// The next record's id, once one was met.
    next_id: Option<u64>,
    ends: Ends,
    visibility: Visibility,
    follow: bool,
    _pass: Option<Pass>,
}

impl<E: Env> Cursor<E> {
    /// Returns a cursor over `chain`, which begins at `from` when it is first asked for a record.
    pub fn new(chain: Arc<dyn Chain<E>>, from: From) -> Cursor<E> {
        Cursor {
            chain,
            stand: Stand::Seek(from),
            wanted: Wanted::default(),
            batch: Batch::default(),
            record: 0..0,
            next_id: None,
            ends: Ends::default(),
            visibility: Visibility::default(),
            follow: false,
            _pass: None,
        }
    }

    pub(super) fn with_pass(self, pass: Pass) -> Cursor<E> {
        Cursor { _pass: Some(pass), ..self }
    }

    /// Ends the cursor at `until` too.
    pub fn until(mut self, until: Until) -> Cursor<E> {
        match until {
            Until::Id(id) => self.ends.id = self.ends.id.min(id),
            Until::Time(ts) => self.ends.ts = self.ends.ts.min(ts),
            Until::Count(count) => self.ends.count = self.ends.count.min(count),
            Until::Bytes(bytes) => self.ends.bytes = self.ends.bytes.min(bytes),
        }
        self
    }

    /// Chooses whether to block at the visible end until there is more. Default false.
    ///
    /// A following cursor ends when the log is closed, and fails when the log does.
    pub fn follow(mut self, follow: bool) -> Cursor<E> {
        self.follow = follow;
        self
    }

    /// Chooses which records are shown. Default [`Visibility::Durable`].
    pub fn visibility(mut self, visibility: Visibility) -> Cursor<E> {
        self.visibility = visibility;
        self
    }

    /// Begins anew at `from`; the ends stay, counting from zero.
    pub fn seek(&mut self, from: From) {
        self.stand = Stand::Seek(from);
        self.wanted = Wanted::default();
        self.batch = Batch::default();
        self.next_id = None;
        (self.ends.shown, self.ends.shown_bytes) = (0, 0);
    }

    /// Returns the next record, borrowed until the next call: no allocation, no copy.
    ///
    /// # Errors
    /// [`AofError::Truncated`] if it was truncated; [`Corruption`](crate::ErrorKind::Corruption) names file and offset;
    /// what reading met; when following, what broke the log.
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>>> {
        loop {
            match self.prepare() {
                Ok(Next::Record) => return Some(Ok(self.show())),
                Ok(Next::Ended) => return None,
                Ok(Next::Nothing(_)) if !self.follow => return None,
                Ok(Next::Nothing(seen)) => match self.chain.wait(seen, self.visibility, None) {
                    Ok(Waited::More | Waited::TimedOut) => {}
                    Ok(Waited::Closed) => return None,
                    Err(error) => return Some(Err(self.failed(error))),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// As [`next_ref`](Self::next_ref), but blocks for at most `timeout` whether or not the cursor follows; none after it.
    ///
    /// # Errors
    /// As [`next_ref`](Self::next_ref).
    pub fn next_within(&mut self, timeout: Duration) -> Option<Result<RecordRef<'_>>> {
        loop {
            match self.prepare() {
                Ok(Next::Record) => return Some(Ok(self.show())),
                Ok(Next::Ended) => return None,
                Ok(Next::Nothing(seen)) => match self.chain.wait(seen, self.visibility, Some(timeout)) {
                    Ok(Waited::More) => {}
                    Ok(Waited::Closed | Waited::TimedOut) => return None,
                    Err(error) => return Some(Err(self.failed(error))),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Returns the cursor as a stream of records; a following one waits without blocking the thread.
    pub fn into_stream(self) -> CursorStream<E> {
        CursorStream::new(self)
    }

    /// Returns the id of the next record, once one was met.
    pub fn next_id(&self) -> Option<u64> {
        self.next_id
    }

    /// Makes the next record ready in `self.batch`.
    fn prepare(&mut self) -> Result<Next> {
        for _ in 0..MOVES_MAX {
            match self.prepare_unfused() {
                Err(error) if self.has_moved(&error) => {}
                prepared => return prepared.map_err(|error| self.failed(error)),
            }
        }
        self.prepare_unfused().map_err(|error| self.failed(error))
    }

    /// Returns true if it is worth another try. A place that moves on with the log may be gone and the log still there.
    ///
    /// Beside another process also: the file it stood in may be gone and the next record not, as the segment is archived now. Or
    /// what it met while it looked for its place may have been dropped under the look: damage stays.
    fn has_moved(&mut self, error: &Error) -> bool {
        let truncated = AofError::of(error);
        if matches!(self.stand, Stand::Seek(From::First | From::Time(_) | From::TailMinus(_)))
            && matches!(truncated, Some(AofError::Truncated { .. }))
        {
            return true;
        }
        if !self.chain.is_foreign() {
            return false;
        }
        if error.is_corruption() && matches!(self.stand, Stand::Seek(_)) {
            return true;
        }
        let Some(AofError::Truncated { id, .. }) = truncated else { return false };
        let Some(next) = self.next_id.or(self.wanted.exact.then_some(self.wanted.id)) else { return false };
        let is_kept = || {
            self.chain.visible(self.visibility)?;
            Ok::<_, Error>(self.chain.first()?.id <= next)
        };
        if *id != next || !is_kept().unwrap_or(false) {
            return false;
        }
        self.stand = Stand::Seek(From::Id(next));
        self.batch = Batch::default();
        self.next_id = None;
        true
    }

    /// Ends the cursor with `error`.
    fn failed(&mut self, error: Error) -> Error {
        self.stand = Stand::Failed;
        self.batch = Batch::default();
        error
    }

    fn prepare_unfused(&mut self) -> Result<Next> {
        while self.batch.left == 0 {
            if self.ends.shown >= self.ends.count {
                return Ok(Next::Ended);
            }
            match &mut self.stand {
                Stand::Failed => return Ok(Next::Ended),
                Stand::Seek(from) => {
                    let from = *from;
                    if let Some(nothing) = self.find(from)? {
                        return Ok(nothing);
                    }
                }
                Stand::In(frames) => {
                    let lsn = frames.lsn();
                    match frames.advance() {
                        Err(error) => return Err(self.explain(error)),
                        Ok(Some(Ok(header))) if header.kind == FrameKind::Data => self.enter(lsn, &header)?,
                        Ok(Some(Ok(_))) => {}
                        Ok(Some(Err(fault))) => {
                            let error = frames.damage(lsn, format_args!("frame {fault}"));
                            return Err(self.explain(error));
                        }
                        Ok(None) => {
                            if let Some(nothing) = self.cross()? {
                                return Ok(nothing);
                            }
                        }
                    }
                }
            }
        }
        self.decode()
    }

    /// Finds the next record of the batch in its frame.
    fn decode(&mut self) -> Result<Next> {
        let Stand::In(frames) = &self.stand else { unreachable!("a record lies in a segment") };
        let batch = &self.batch;
        if self.ends.reached_at(batch.id, batch.ts) {
            return Ok(Next::Ended);
        }
        let mut decoder = Decoder::new(frames.payload().get(batch.at..).unwrap_or_default());
        let Some(bytes) = decoder.slice().filter(|_| batch.left > 1 || decoder.is_empty()) else {
            return Err(frames.damage(batch.lsn, "the frame does not hold the records it counts"));
        };
        if self.ends.shown_bytes.saturating_add(bytes.len() as u64) > self.ends.bytes {
            return Ok(Next::Ended);
        }
        let end = batch.at + decoder.position();
        self.record = end - bytes.len()..end;
        Ok(Next::Record)
    }

    /// Shows the record that [`prepare`](Self::prepare) made ready.
    fn show(&mut self) -> RecordRef<'_> {
        let Stand::In(frames) = &self.stand else { unreachable!("a record lies in a segment") };
        let batch = self.batch;
        assert!(batch.left > 0 && self.record.end >= batch.at, "a record is shown once");
        let bytes = &frames.payload()[self.record.clone()];
        self.batch.at = self.record.end;
        self.batch.left -= 1;
        self.batch.id += 1;
        self.next_id = Some(self.batch.id);
        self.ends.shown += 1;
        self.ends.shown_bytes += bytes.len() as u64;
        RecordRef { id: batch.id, lsn: Lsn(batch.lsn), ts: batch.ts, tag: batch.tag, bytes }
    }
}

impl<E: Env> Iterator for Cursor<E> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        Some(self.next_ref()?.map(|record| record.to_record()))
    }
}

impl<E: Env> std::fmt::Debug for Cursor<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at: &dyn std::fmt::Debug = match &self.stand {
            Stand::Seek(from) => from,
            Stand::In(frames) => frames.source(),
            Stand::Failed => &"failed",
        };
        f.debug_struct("Cursor").field("at", at).field("next_id", &self.next_id).finish_non_exhaustive()
    }
}

/// Returns the record `id` of `chain`.
///
/// # Errors
/// [`AofError::Truncated`], [`AofError::NotYet`], or as [`Cursor::next_ref`].
pub(super) fn read_one<E: Env>(chain: &Arc<dyn Chain<E>>, id: u64) -> Result<Record> {
    let mut cursor = Cursor::new(chain.clone(), From::Id(id));
    match cursor.next_ref() {
        Some(record) => record.map(|record| record.to_record()),
        None => Err(AofError::NotYet { id, next: cursor.visible_next_id()? }.into()),
    }
}
