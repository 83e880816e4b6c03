//! The frames that were appended and not yet handed to the operating system.
//!
//! Appending threads fill a [`Stage`] under the append lock: one copy and two short checksums a frame, no I/O. Whoever
//! holds the I/O lock takes its content as a [`Batch`] and leaves an empty buffer.
//!
//! **Room.** A frame is staged only where the active segment's file has bytes already, so handing it over needs no space:
//! [`Stage::push`] declines a frame that finds no room, and the caller makes room under the I/O lock, or is told that the
//! device is full, before anything has changed. Room for one MARK is always held back.
//!
//! **A roll** goes on in the next segment at once: its frames gather here while the one before is made durable and the file
//! is being named, up to [`ROLLING_BYTES`].
//!
//! **Invariants:** `start + bytes.len() == end`; no frame crosses the end of its segment; times never go back; no frame
//! claims more as durable than is before itself; all that is staged lies in one segment.

use super::crypt::{KeyRing, KeyScope, SegmentKey, assign_key, current_key};
use super::error::AofError;
use super::format::{ALIGN, FRAME_BYTES, FrameHeader, FrameKind, HEADER_BYTES, SegmentHeader, frame_bytes};
use super::index::format::footer_frame_bytes;
use super::index::{Noted, SegmentIndex};
use super::segment::{frame_place, random_bytes};
use super::types::{Append, Appended, Find, LogOptions, Lsn};
use crate::base::checksum::crc32c;
use crate::base::{Error, Result};
use crate::env::Env;

/// Payload of a MARK.
pub(super) const MARK_PAYLOAD: [u8; 8] = [0; 8];
/// Bytes of a MARK.
const MARK_BYTES: u64 = frame_bytes(MARK_PAYLOAD.len() as u64);

/// Bytes that may wait while a segment is begun: appends go on over a roll of some 50 ms at 80 MB/s.
const ROLLING_BYTES: usize = 4 << 20;

/// The frames between the last hand-over and the end of the log.
pub(super) struct Stage {
    /// The frames.
    bytes: Vec<u8>,
    /// Records of the frames.
    records: u64,
    /// Of the segment of the next frame, if one is kept.
    index: Option<SegmentIndex>,
    /// Position of the first byte.
    start: u64,
    /// Where the next frame begins.
    end: u64,
    /// The segment of the next frame.
    segment: SegmentHeader,
    /// Of the segment of the next frame, if it is encrypted.
    key: Option<SegmentKey>,
    keys: Option<KeyRing>,
    /// Time of the group.
    ts: u64,
    /// Id of the next record, if ids are contiguous.
    next_id: u64,
    /// Highest position that a frame claims as durable.
    claimed: u64,
    /// End of the last frame that is not a MARK.
    content_end: u64,
    /// Set once: no more appends.
    pub(super) closed: bool,
    /// The segment has no name yet.
    rolling: bool,
    /// Frames may lie before this: the file of the segment has the bytes.
    room: u64,
    /// Where the segment ends at the latest.
    limit: u64,
    segment_bytes: u64,
    ids_contiguous: bool,
}

/// What a frame takes that is to be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing: there is room.
    Enough,
    /// The file must have the bytes before this position.
    Until(u64),
    /// The next segment.
    Next,
}

/// What was taken out of a stage.
#[derive(Default)]
pub(super) struct Batch {
    /// The frames.
    pub(super) bytes: Vec<u8>,
    /// Records of the frames, but for a direct one.
    pub(super) records: u64,
    /// Position of the first byte.
    pub(super) start: u64,
}

/// Where the log stands when staging begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// End of the log; everything before is durable.
    pub(super) end: u64,
    /// The segment being written.
    pub(super) segment: SegmentHeader,
    /// Time of the last frame.
    pub(super) ts: u64,
    /// Id of the next record.
    pub(super) next_id: u64,
    /// Highest position that a frame claims as durable.
    pub(super) claimed: u64,
    /// End of the last frame that is not a MARK.
    pub(super) content_end: u64,
}

impl Stage {
    /// Continues at `position` in a file of `file_bytes`.
    pub(super) fn new(position: Position, file_bytes: u64, options: &LogOptions, index: Option<SegmentIndex>) -> Stage {
        let Position { end, segment, ts, next_id, claimed, content_end } = position;
        assert!(content_end <= end && claimed <= end && segment.base_lsn <= end, "a stage continues a log");
        assert_eq!(
            segment.key_id,
            options.keys.as_ref().map_or(0, KeyRing::current),
            "new segments use the current key"
        );
        let key = options.keys.as_ref().map(|ring| current_key(ring, &KeyScope::of_segment(&segment)));
        let mut stage = Stage {
            bytes: Vec::new(),
            records: 0,
            index,
            start: end,
            end,
            segment,
            key,
            keys: options.keys.clone(),
            ts,
            next_id,
            claimed,
            content_end,
            closed: false,
            rolling: false,
            room: 0,
            limit: 0,
            segment_bytes: options.segment_bytes,
            ids_contiguous: options.ids_contiguous,
        };
        stage.set_room(file_bytes);
        stage
    }

    /// Lets frames be staged in a file of `file_bytes`.
    pub(super) fn set_room(&mut self, file_bytes: u64) {
        let base_lsn = self.segment.base_lsn;
        self.limit = self.limit.max(base_lsn + self.segment_bytes - HEADER_BYTES as u64);
        self.room = self.limit.min(base_lsn + (file_bytes - HEADER_BYTES as u64) / ALIGN * ALIGN);
    }

    /// Returns what a frame with a payload of `len` bytes takes; makes the segment longer if it would be the first there.
    pub(super) fn wants(&mut self, len: usize) -> Room {
        let until = self.end + self.segment.frame_bytes(len as u64) + self.held_back();
        if until <= self.room {
            return Room::Enough;
        }
        if self.end == self.segment.base_lsn {
            self.limit = self.limit.max(until);
        }
        if until <= self.limit { Room::Until(until) } else { Room::Next }
    }

    /// Returns the bytes behind the next frame that are kept for what ends the segment.
    fn held_back(&self) -> u64 {
        // The next frame may be one more entry.
        MARK_BYTES + self.index.as_ref().map_or(0, |index| footer_frame_bytes(index.sparse.entries().len() + 1))
    }

    /// Returns where the segment ends at the latest.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns true if the segment holds a frame of the caller.
    pub(super) fn has_content(&self) -> bool {
        self.content_end > self.segment.base_lsn
    }

    /// Returns where the segment would end now, with its FOOTER.
    pub(super) fn sealed_end(&self) -> u64 {
        self.end + self.index.as_ref().map_or(0, |index| footer_frame_bytes(index.sparse.entries().len()))
    }

    /// Ends the segment and goes on in the next one, whose file has `file_bytes`. What is staged goes to `batch`. Returns the
    /// header of the next segment, and what the FOOTER of the ended one is to say if it has one, for which the space before
    /// the next one is.
    pub(super) fn end_segment<E: Env>(
        &mut self,
        env: &E,
        batch: &mut Batch,
        file_bytes: u64,
    ) -> (SegmentHeader, Option<SegmentIndex>) {
        self.take(batch);
        self.end = self.sealed_end();
        self.start = self.end;
        let mut next = SegmentHeader {
            segment_no: self.segment.segment_no + 1,
            base_lsn: self.end,
            base_id: self.next_id,
            base_ts: self.ts,
            salt: random_bytes(env),
            ..self.segment
        };
        self.key = assign_key(self.keys.as_ref(), &mut next);
        let ended = self.index.take();
        self.index = ended.as_ref().map(|_| SegmentIndex::new(next.base_id));
        (self.segment, self.rolling, self.limit) = (next, true, 0);
        self.set_room(file_bytes);
        (next, ended)
    }

    /// The segment of the next frame has its name, and a file of `file_bytes`.
    pub(super) fn begun(&mut self, file_bytes: u64) {
        self.rolling = false;
        self.set_room(file_bytes);
    }

    /// Returns true if so much waits that it is to be handed over; `buffer_bytes` are enough unless a segment is being begun.
    pub(super) fn is_full(&self, buffer_bytes: usize) -> bool {
        self.bytes.len() >= if self.rolling { ROLLING_BYTES } else { buffer_bytes }
    }

    /// Returns true if less than an eighth of the segment is left.
    pub(super) fn ends_soon(&self) -> bool {
        self.limit.saturating_sub(self.end) < self.segment_bytes / 8
    }

    /// Returns where the next frame begins.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the log's identity.
    pub(super) fn log_id(&self) -> [u8; 16] {
        self.segment.log_id
    }

    /// Returns the time of the last frame.
    pub(super) fn ts(&self) -> u64 {
        self.ts
    }

    /// Returns the id of the next record, if ids are contiguous.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Returns where a search for `what` begins in the segment of the next frame; none while nobody can read it.
    pub(super) fn find(&self, what: Find) -> Option<Lsn> {
        let index = &self.index.as_ref().filter(|_| !self.rolling)?.sparse;
        let (begins_before, found) = match what {
            Find::Id(id) => (self.segment.base_id <= id, index.at_id(id)),
            Find::Time(ts) => (self.segment.base_ts < ts, index.at_time(ts)),
            Find::Lsn(lsn) => (self.segment.base_lsn <= lsn.0, index.at_lsn(lsn.0)),
        };
        begins_before.then_some(Lsn(found.unwrap_or(self.segment.base_lsn)))
    }

    /// Returns true if everything is durable, and no frame says so yet.
    pub(super) fn needs_mark(&self, durable: u64) -> bool {
        durable >= self.content_end && self.claimed < self.content_end
    }

    /// Stages a whole frame, or returns none if there is no room for it.
    pub(super) fn push<E: Env>(
        &mut self,
        env: &E,
        append: &Append<'_>,
        crc: u32,
        durable: u64,
    ) -> Result<Option<Appended>> {
        let Some((appended, header)) = self.push_header(env, append, crc, durable)? else { return Ok(None) };
        self.records += u64::from(append.count);
        for part in append.parts {
            self.bytes.extend_from_slice(part);
        }
        if header.tagged {
            self.seal_last(env, header, appended.lsn.0);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN as usize), 0);
        assert_eq!(self.start + self.bytes.len() as u64, self.end, "bytes and positions agree");
        Ok(Some(appended))
    }

    /// Stages a frame's header only; the caller writes the payload behind it, after it has taken the stage under the same
    /// lock.
    pub(super) fn push_direct<E: Env>(
        &mut self,
        env: &E,
        append: &Append<'_>,
        crc: u32,
        durable: u64,
    ) -> Result<Option<Appended>> {
        assert!(self.key.is_none(), "a payload is encrypted where it is staged");
        Ok(self.push_header(env, append, crc, durable)?.map(|(appended, _)| appended))
    }

    /// Encrypts the frame at `lsn`, whose payload ends what is staged.
    fn seal_last<E: Env>(&mut self, env: &E, header: FrameHeader, lsn: u64) {
        let at = self.bytes.len() - FRAME_BYTES - header.len as usize;
        let (Some(key), true) = (&self.key, self.start + at as u64 == lsn) else { unreachable!("tagged by the key") };
        let tag = key.seal_frame(&header, lsn, &mut self.bytes[at + FRAME_BYTES..]);
        self.bytes.extend_from_slice(&tag);
        let header = FrameHeader { payload_crc: crc32c(&[], &[&self.bytes[at + FRAME_BYTES..]]), ..header };
        self.bytes[at..at + FRAME_BYTES].copy_from_slice(&header.encode(&frame_place(env, &self.segment, lsn)));
    }

    fn push_header<E: Env>(
        &mut self,
        env: &E,
        append: &Append<'_>,
        crc: u32,
        durable: u64,
    ) -> Result<Option<(Appended, FrameHeader)>> {
        let len: usize = append.parts.iter().map(|part| part.len()).sum();
        let counts = self.ids_contiguous && append.kind == FrameKind::Data;
        let first_id = match append.first_id {
            None if !self.ids_contiguous => return Err(Error::invalid_argument("first_id is missing")),
            None => self.next_id,
            Some(got) if counts && got != self.next_id => {
                return Err(AofError::NextId { expected: got, next: self.next_id }.into());
            }
            Some(first_id) => first_id,
        };
        let is_mark = append.kind == FrameKind::Mark;
        if self.closed && !is_mark {
            return Err(Error::closed());
        }
        let size = if is_mark { MARK_BYTES } else { self.segment.frame_bytes(len as u64) };
        if self.end + size + if is_mark { 0 } else { self.held_back() } > self.room {
            return Ok(None);
        }
        if self.bytes.is_empty() {
            // One reading a group; the wall clock may step back, the log's time does not.
            self.ts = self.ts.max(env.wall().0);
        }
        let lsn = self.end;
        let claim = if env.planted("aof_marks_never_advance") { 0 } else { durable };
        assert!(durable <= lsn, "nothing is durable before it is appended");
        let back = (lsn - claim) / ALIGN;
        let header = FrameHeader {
            payload_crc: crc,
            len: u32::try_from(len).unwrap_or_else(|_| unreachable!("bounded by the caller")),
            count: append.count,
            kind: append.kind,
            tagged: self.key.is_some() && append.kind.is_callers(),
            first_id,
            ts: self.ts,
            durable_back: u32::try_from(back).unwrap_or_else(|_| unreachable!("a segment is synced before the next")),
            tag: append.tag,
        };
        assert_eq!(header.frame_bytes(), size, "the frame has the size that was checked");
        self.bytes.extend_from_slice(&header.encode(&frame_place(env, &self.segment, lsn)));
        self.end += size;
        if counts {
            self.next_id += u64::from(append.count);
        }
        self.claimed = self.claimed.max(durable);
        if let Some(index) = &mut self.index {
            let lsn = if env.planted("aof_index_points_past") { self.end } else { lsn };
            let Append { kind, count, .. } = *append;
            index.note(&Noted { lsn, kind, count, len: header.len, first_id, ts: self.ts });
        }
        if !is_mark {
            self.content_end = self.end;
        }
        Ok(Some((Appended { first_id, ts: self.ts, lsn: Lsn(lsn), end: Lsn(self.end) }, header)))
    }

    /// Stages a MARK and returns where it ends; none if there is no room for it.
    pub(super) fn push_mark<E: Env>(&mut self, env: &E, durable: u64) -> Result<Option<u64>> {
        let parts: [&[u8]; 1] = [&MARK_PAYLOAD];
        let mark = Append { kind: FrameKind::Mark, count: 0, first_id: Some(self.next_id), tag: 0, parts: &parts };
        Ok(self.push(env, &mark, crc32c(&[], &parts), durable)?.map(|appended| appended.end.0))
    }

    /// Moves everything into `batch`, whose buffer stays here for the next frames.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        assert!(batch.bytes.is_empty(), "a batch is written before the next");
        std::mem::swap(&mut self.bytes, &mut batch.bytes);
        batch.records = std::mem::take(&mut self.records);
        batch.start = self.start;
        // A direct frame's payload is not among the bytes.
        self.start = self.end;
    }
}
