//! Opens a log's directory: classifies its files, checks the chain, replays the frames, and begins a new segment.
//!
//! Called once by [`Log::open`](super::Log::open) on its thread, before anything else touches the directory. Every step
//! may be cut off by a crash and the next open starts over: nothing is overwritten or dropped before its successor is
//! durable.
//!
//! 1. List the directory; names that are not ours are left alone and reported (R10).
//! 2. Read all segment headers: numbers without a gap, one log id, ascending base LSNs (R6). A bad header is damage. Numbers
//!    below the last one's `first_no` are of dropped segments whose names came back: nothing in them counts.
//! 3. Read every segment but the last: it ends exactly at its successor's base LSN, which was made after it was synced
//!    (R4), so a bad frame is damage (R2). Its frames are replayed as they are read.
//! 4. Read the last segment to the first bad frame, `X`. If a good frame behind it says that the log was durable
//!    beyond `X`, `X` is damage (R2); else the log ends there, be it torn or clean.
//! 5. The frames from `D`, the highest position that a good frame vouches for, to `X` may be in the page cache only, even
//!    after a sync that failed. Make them durable before anyone sees them (R3): copy them into the new segment, whose
//!    base LSN is `D` and which takes over from there. The old bytes are not written over: a crash on the way leaves
//!    them as they were. A MARK behind the copy vouches for it.
//!    A FOOTER among them, of a segment whose successor was not made, becomes a MARK of its length: the segment goes on.
//! 6. Name the new segment and sync the directory (R5). It replaces the last one if that held nothing before `D`, else it
//!    follows it. Nothing is ever appended to a file with a recovered tail (R1).
//! 7. Replay the last segment.
//!
//! **After a failed directory sync** names may be in the cache only, and a later sync need not write them. Only the last
//! segment's can be: bytes and successors come after it is durable. If nothing was ever appended to it, which an empty one
//! shows, and otherwise a MARK of step 5 at its very end, all of it is copied and it is replaced: a new name.
//!
//! **On a full disk** step 5 writes the tail over itself, and step 6 uses the reserve (R9).

use super::crypt::{SegmentKey, assign_key, segment_key};
use super::format::{
    FRAME_BYTES, Fault, FormatVersion, FrameHeader, FrameKind, HEADER_BYTES, SegmentHeader, frame_bytes,
};
use super::index::{Noted, SegmentIndex};
use super::names::{Listing, segment_name, spare_name};
use super::read::BorrowedFile;
use super::scan::{FrameReader, Step, scan_behind};
use super::segment::{Closed, Made, SegmentFile, Segments, TailWriter, frame_place, random_bytes};
use super::stage::{MARK_PAYLOAD, Position};
use super::types::{Frame, LogOptions, Lsn, RecoveryReport};
use crate::base::checksum::{Crc64, crc32c};
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, SyncKind};
use std::path::Path;
use std::sync::Arc;

/// Number and bytes of a file that waits to be used again.
type Spare = (u64, u64);

/// What receives the frames.
pub(super) type Replay<'a> = &'a mut dyn FnMut(Frame<'_>) -> Result<()>;

/// A log that is ready to be appended to.
pub(super) struct Recovered<E: Env> {
    pub(super) segments: Segments<E>,
    pub(super) active: Made<E>,
    pub(super) position: Position,
    /// Of the segment being written, if one is kept.
    pub(super) index: Option<SegmentIndex>,
    pub(super) report: RecoveryReport,
}

/// A segment file found in the directory.
struct Found<E: Env> {
    segment: SegmentFile<E>,
    file_bytes: u64,
    key: Option<Arc<SegmentKey>>,
}

/// What the frames so far say.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Time of the last one.
    ts: u64,
    /// Number after the last record.
    next_id: u64,
    /// The highest position vouched for.
    durable: u64,
    /// Where the last frame of the caller ends.
    content_end: u64,
    /// How many frames of the caller.
    frames: u64,
    /// Whether the last one is a MARK that recovery put behind a copied tail.
    copied: bool,
}

impl Seen {
    fn note(&mut self, lsn: u64, header: &FrameHeader) {
        self.ts = self.ts.max(header.ts);
        self.copied = header.kind == FrameKind::Mark && header.count > 0;
        self.durable = self.durable.max(header.durable(lsn).unwrap_or(0));
        if header.kind == FrameKind::Data {
            self.next_id = header.first_id.saturating_add(u64::from(header.count));
        }
        if header.kind.is_callers() {
            self.content_end = lsn + header.frame_bytes();
            self.frames += 1;
        }
    }
}

/// Opens the log in `dir`.
pub(super) fn recover<E: Env>(env: &E, dir: &Path, options: &LogOptions, replay: Replay<'_>) -> Result<Recovered<E>> {
    let disk = env.disk();
    disk.create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
    let listing = Listing::classify(disk.list(dir).map_err(|error| Error::io("list", dir, error))?);
    if let (true, Some(parent)) = (listing.segments.is_empty(), dir.parent()) {
        // An earlier open may have died between making the directory and this.
        disk.sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
    }
    let opening = Opening { env, dir, options };
    let (mut chain, stale) = opening.read_headers(&listing)?;
    opening.check_chain(&chain)?;
    let (mut segments, dropped) = opening.segments(&listing, &chain)?;
    let mut report = RecoveryReport { segments: chain.len() as u64, unknown: listing.unknown, ..Default::default() };
    let last = chain.pop();
    let mut seen = Seen::default();
    if let Some(first) = chain.first().or(last.as_ref()) {
        report.first_lsn = Lsn(first.segment.header.base_lsn);
        seen.next_id = first.segment.header.base_id;
    }
    for (at, found) in chain.iter().enumerate() {
        let next = chain.get(at + 1).or(last.as_ref());
        let end = next.map_or(found.segment.header.base_lsn, |next| next.segment.header.base_lsn);
        if end > options.replay_from.0 {
            opening.replay_closed(found, end, &mut seen, replay)?;
        } else if let Some(next) = next {
            seen.next_id = next.segment.header.base_id;
        }
        segments.closed.push_back(found.closed(end));
    }
    segments.ensure_reserve()?;
    let (active, position) = match &last {
        None => opening.begin(&mut segments)?,
        Some(last) => {
            let from = seen;
            let end = opening.examine(last, &mut seen, &mut report)?;
            report.tail_bytes = end - seen.durable;
            if seen.copied {
                opening.env.reached("aof.name_renewed");
                seen.durable = last.segment.header.base_lsn;
            }
            let begun = opening.continue_after(last, end, &seen, &mut segments)?;
            seen = Seen { durable: seen.durable, ..from };
            opening.replay_last(last, end, &mut seen, replay)?;
            begun
        }
    };
    let index = match &last {
        Some(last) if options.index => Some(opening.index_of_tail(last, &position)?),
        _ => options.index.then(|| SegmentIndex::new(position.next_id)),
    };
    drop(last);
    segments.spares.extend(dropped);
    segments.remove_stale(&stale)?;
    segments.drop_spares()?;
    segments.ensure_reserve()?;
    report.end = Lsn(position.end);
    report.frames = seen.frames;
    Ok(Recovered { segments, active, position, index, report })
}

impl<E: Env> Found<E> {
    fn closed(&self, end_lsn: u64) -> Closed {
        let header = &self.segment.header;
        Closed {
            header: *header,
            number: header.segment_no,
            base_lsn: header.base_lsn,
            end_lsn,
            file_bytes: self.file_bytes,
        }
    }

    fn reader<'f>(&'f self, env: &E, from: u64, limit: u64) -> FrameReader<E, BorrowedFile<'f, E>> {
        FrameReader::new(env, self.source(), &self.segment.header, self.file_bytes, from, limit)
            .with_key(self.key.clone())
    }

    fn source(&self) -> BorrowedFile<'_, E> {
        BorrowedFile { file: &self.segment.file, path: &self.segment.path, bytes: self.file_bytes }
    }

    /// Damage at `lsn`.
    fn damage(&self, lsn: u64, what: impl std::fmt::Display) -> Error {
        Error::corruption(&self.segment.path, self.segment.offset(lsn), what)
    }
}

/// Tries again with the reserve where there was no space.
fn or_if_full<T>(made: Result<T>, with_reserve: impl FnOnce() -> Result<T>) -> Result<T> {
    made.or_else(|error| if *error.kind() == ErrorKind::NoSpace { with_reserve() } else { Err(error) })
}

/// Makes the segment of `header` without frames.
fn make_empty<E: Env>(segments: &mut Segments<E>, header: &SegmentHeader) -> Result<Made<E>> {
    // Twice: with the reserve, if nothing else is left.
    or_if_full(segments.make(header, false, &mut |_| Ok(())), || segments.make(header, true, &mut |_| Ok(())))
}

struct Opening<'a, E: Env> {
    env: &'a E,
    dir: &'a Path,
    options: &'a LogOptions,
}

impl<E: Env> Opening<'_, E> {
    /// Returns the chain of segments, and the numbers of those that do not count.
    fn read_headers(&self, listing: &Listing) -> Result<(Vec<Found<E>>, Vec<u64>)> {
        let mut chain: Vec<Found<E>> = Vec::new();
        let mut stale = Vec::new();
        let mut first_no = 0;
        for (number, _) in listing.segments.iter().rev() {
            if *number < first_no {
                stale.push(*number);
                continue;
            }
            let path = self.dir.join(segment_name(*number));
            let opened = self.env.disk().open(&path, OpenMode::ReadWrite);
            let file = opened.map_err(|error| Error::io("open", &path, error))?;
            let (header, file_bytes) = read_header(&file).map_err(|error| Error::io("read", &path, error))?;
            let header = header.map_err(|fault| Error::corruption(&path, 0, format_args!("segment header {fault}")))?;
            if header.segment_no != *number {
                let what = format_args!("segment header has number {}, the name {number}", header.segment_no);
                return Err(Error::corruption(&path, 0, what));
            }
            let key = segment_key(self.options.keys.as_ref(), &header, &path)?.map(Arc::new);
            if chain.is_empty() {
                first_no = header.first_no;
            }
            chain.push(Found { segment: SegmentFile { file, path, header }, file_bytes, key });
        }
        chain.reverse();
        Ok((chain, stale))
    }

    /// Checks that the segments belong together and none is missing between them.
    fn check_chain(&self, chain: &[Found<E>]) -> Result<()> {
        for pair in chain.windows(2) {
            let (before, after) = (&pair[0].segment.header, &pair[1].segment.header);
            if after.segment_no != before.segment_no + 1 && !self.env.planted("aof_gap_ignored") {
                let path = self.dir.join(segment_name(before.segment_no + 1));
                return Err(Error::corruption(&path, 0, "the segment is missing, and a later one exists"));
            }
            let path = &pair[1].segment.path;
            if after.log_id != before.log_id {
                return Err(Error::corruption(path, 0, "the segment belongs to another log"));
            }
            if after.base_lsn <= before.base_lsn || after.epoch < before.epoch {
                return Err(Error::corruption(path, 0, "the segment does not continue the one before"));
            }
        }
        Ok(())
    }

    /// Sets up the directory of segments with its spares. The second part are spares that were segments before the chain:
    /// until a segment with a higher `first_no` has a durable name, their old names may come back, and they must not be
    /// written over.
    fn segments(&self, listing: &Listing, chain: &[Found<E>]) -> Result<(Segments<E>, Vec<Spare>)> {
        let first_no = chain.first().map_or(0, |found| found.segment.header.segment_no);
        let mut dropped = Vec::new();
        let mut segments = Segments {
            env: self.env.clone(),
            dir: self.dir.to_path_buf(),
            segment_bytes: self.options.segment_bytes,
            spares_max: self.options.spare_segments,
            keys: self.options.keys.clone(),
            closed: Default::default(),
            spares: Vec::new(),
            spare_next: listing.spares.last().map_or(1, |(number, _)| number.saturating_add(1)),
            making_spare: false,
            active: None,
            active_bytes: 0,
            readers: Default::default(),
        };
        for (number, bytes) in listing.spares.iter().filter(|_| !self.env.planted("aof_spares_forgotten")) {
            let path = self.dir.join(spare_name(*number));
            let opened = self.env.disk().open(&path, OpenMode::Read);
            let header = opened.and_then(|file| read_header(&file)).map_err(|error| Error::io("read", &path, error))?.0;
            // A rename that a crash cut in two has left two names of one file.
            if chain.iter().any(|found| header == Ok(found.segment.header)) {
                self.env.reached("aof.spare_is_live");
                segments.remove_spare(*number)?;
            } else if header.is_ok_and(|header| header.segment_no < first_no) {
                dropped.push((*number, *bytes));
            } else {
                segments.spares.push((*number, *bytes));
            }
        }
        Ok((segments, dropped))
    }

    fn check_id(&self, found: &Found<E>, lsn: u64, header: &FrameHeader, seen: &Seen) -> Result<()> {
        if self.options.ids_contiguous && header.kind == FrameKind::Data && header.first_id != seen.next_id {
            let what = format_args!("frame begins with id {}, the next id is {}", header.first_id, seen.next_id);
            return Err(found.damage(lsn, what));
        }
        Ok(())
    }

    /// Reads a segment that ends at `end` and replays it.
    fn replay_closed(&self, found: &Found<E>, end: u64, seen: &mut Seen, replay: Replay<'_>) -> Result<()> {
        let mut reader = found.reader(self.env, found.segment.header.base_lsn, end);
        loop {
            match reader.next()? {
                Step::Frame { lsn, header, payload } => {
                    self.check_id(found, lsn, &header, seen)?;
                    seen.note(lsn, &header);
                    deliver(lsn, &header, payload, replay)?;
                }
                Step::End => return Ok(()),
                Step::Bad(_) if self.env.planted("aof_gap_ignored") => return Ok(()),
                Step::Bad(fault) => {
                    return Err(found.damage(reader.lsn(), format_args!("frame {fault}, and a later segment exists")));
                }
            }
        }
    }

    /// Finds the end of the last segment, and what is vouched for.
    fn examine(&self, last: &Found<E>, seen: &mut Seen, report: &mut RecoveryReport) -> Result<u64> {
        let header = &last.segment.header;
        seen.durable = seen.durable.max(header.base_lsn);
        seen.ts = seen.ts.max(header.base_ts);
        let limit = header.base_lsn + (last.file_bytes - HEADER_BYTES as u64) / 8 * 8;
        let mut reader = last.reader(self.env, header.base_lsn, limit);
        let fault = loop {
            match reader.next()? {
                Step::Frame { lsn, header, .. } => {
                    self.check_id(last, lsn, &header, seen)?;
                    seen.note(lsn, &header);
                }
                Step::Bad(fault) => break fault,
                Step::End => break Fault::Blank,
            }
        };
        let end = reader.lsn();
        assert!(seen.durable <= end, "good frames vouch for what is before them");
        if fault.is_never_torn() {
            return Err(last.damage(end, format_args!("frame {fault}")));
        }
        let segment = &last.segment;
        let behind = scan_behind(self.env, last.source(), header, last.file_bytes, end)?;
        if behind.durable > end && !self.env.planted("aof_marks_ignored") {
            self.env.reached("aof.damage_below_mark");
            let witness = segment.offset(behind.witness);
            let what = format_args!("frame {fault}, and the one at offset {witness} says that it was durable");
            return Err(last.damage(end, what));
        }
        if seen.next_id < self.options.ids_durable {
            let known = self.options.ids_durable;
            let what = format_args!("frame {fault}, and the records before id {known} are known to have been durable");
            return Err(last.damage(end, what));
        }
        report.torn_bytes = behind.end - end;
        if report.torn_bytes > 0 {
            self.env.reached("aof.torn_tail");
        }
        Ok(end)
    }

    /// Begins an empty log.
    fn begin(&self, segments: &mut Segments<E>) -> Result<(Made<E>, Position)> {
        let next_id = u64::from(self.options.ids_contiguous);
        let mut header = SegmentHeader {
            log_id: random_bytes(self.env),
            version: FormatVersion::lowest(self.options.index, false),
            segment_no: 1,
            base_id: next_id,
            base_ts: self.env.wall().0,
            epoch: 1,
            salt: random_bytes(self.env),
            ..SegmentHeader::default()
        };
        assign_key(self.options.keys.as_ref(), &mut header);
        let made = make_empty(segments, &header)?;
        let ts = header.base_ts;
        let position = Position { end: 0, segment: header, ts, next_id, claimed: 0, content_end: 0 };
        Ok((made, position))
    }

    /// Makes the tail durable and begins the segment that continues the log at `end`.
    fn continue_after(
        &self,
        last: &Found<E>,
        end: u64,
        seen: &Seen,
        segments: &mut Segments<E>,
    ) -> Result<(Made<E>, Position)> {
        let old = &last.segment.header;
        let position = |segment: SegmentHeader, end, claimed| Position {
            end,
            segment,
            ts: seen.ts,
            next_id: seen.next_id,
            claimed,
            content_end: seen.content_end.max(segment.base_lsn).min(end),
        };
        if self.env.planted("aof_append_after_torn_tail") {
            self.rewrite(last, seen.durable, end)?;
            let segment = SegmentFile { file: self.reopen(last)?, path: last.segment.path.clone(), header: *old };
            let crc = Crc64::new();
            let made = Made { segment, file_bytes: last.file_bytes, end_lsn: end, recycled: false, crc };
            return Ok((made, position(*old, end, seen.durable)));
        }
        let copy_from = if self.env.planted("aof_no_tail_rewrite") { end } else { seen.durable };
        let (next_id, ts) = self.first_behind(last, copy_from, end, seen)?;
        let from_copy = Seen { next_id, ts, ..*seen };
        let header = self.successor(old, copy_from, &from_copy, copy_from < end);
        let vouch = seen.content_end > copy_from && !seen.copied;
        self.follow(last, &header, segments);
        let mut copy = |tail: &mut TailWriter<'_, E>| self.copy(last, copy_from, end, vouch, tail);
        let made = or_if_full(segments.make(&header, false, &mut copy), || {
            self.env.reached("aof.full_disk_open");
            segments.make(&header, true, &mut copy)
        });
        let (made, header) = match made {
            Err(error) if *error.kind() == ErrorKind::NoSpace => {
                // A copy is durable already, and writing over it could only tear it.
                if !seen.copied {
                    self.rewrite(last, copy_from, end)?;
                }
                let header = self.successor(old, end, seen, false);
                self.follow(last, &header, segments);
                (segments.make(&header, true, &mut |_| Ok(()))?, header)
            }
            made => (made?, header),
        };
        let end_lsn = made.end_lsn;
        assert!(
            end_lsn >= end && end_lsn <= end + frame_bytes(MARK_PAYLOAD.len() as u64),
            "nothing but a MARK is added"
        );
        let (made, header) = match &self.options.keys {
            Some(_) if header.key_id == 0 => self.begin_encrypting(made, seen, segments)?,
            _ => (made, header),
        };
        // Either the base or a MARK vouches for all of the caller's frames.
        Ok((made, position(header, end_lsn, seen.content_end.max(header.base_lsn))))
    }

    /// Ends a segment that holds a plain tail, and begins the first encrypted one.
    fn begin_encrypting(
        &self,
        plain: Made<E>,
        seen: &Seen,
        segments: &mut Segments<E>,
    ) -> Result<(Made<E>, SegmentHeader)> {
        let Made { segment, file_bytes, end_lsn, .. } = plain;
        let mut header = SegmentHeader {
            segment_no: segment.header.segment_no + 1,
            base_lsn: end_lsn,
            base_id: seen.next_id,
            base_ts: seen.ts,
            salt: random_bytes(self.env),
            ..segment.header
        };
        assign_key(self.options.keys.as_ref(), &mut header);
        segments.closed.push_back(Found { segment, file_bytes, key: None }.closed(end_lsn));
        Ok((make_empty(segments, &header)?, header))
    }

    /// Puts `last` among the closed segments if the one of `header` follows it, and not if it replaces it.
    fn follow(&self, last: &Found<E>, header: &SegmentHeader, segments: &mut Segments<E>) {
        segments.closed.pop_back_if(|closed| closed.number == last.segment.header.segment_no);
        if header.segment_no > last.segment.header.segment_no {
            segments.closed.push_back(last.closed(header.base_lsn));
        }
    }

    /// Returns the id of the first record at or after `lsn`, a frame's start, and the time of the first frame there.
    fn first_behind(&self, last: &Found<E>, lsn: u64, end: u64, seen: &Seen) -> Result<(u64, u64)> {
        let mut reader = last.reader(self.env, lsn, end);
        let mut ts = None;
        loop {
            match reader.next()? {
                Step::Frame { header, .. } if header.kind == FrameKind::Data => {
                    return Ok((header.first_id, ts.unwrap_or(header.ts)));
                }
                Step::Frame { header, .. } => ts = ts.or(Some(header.ts)),
                Step::End => return Ok((seen.next_id, ts.unwrap_or(seen.ts))),
                Step::Bad(fault) => {
                    return Err(last.damage(reader.lsn(), format_args!("frame {fault}, at second sight")));
                }
            }
        }
    }

    /// The header of the segment that takes over at `base_lsn`.
    ///
    /// It is encrypted if there are keys, but for one that `copies` frames of a plain segment: they would become longer, and
    /// a copy keeps positions.
    fn successor(&self, old: &SegmentHeader, base_lsn: u64, seen: &Seen, copies: bool) -> SegmentHeader {
        assert!(base_lsn >= old.base_lsn, "a segment takes over after its predecessor's start");
        let replaces = base_lsn == old.base_lsn;
        let mut header = SegmentHeader {
            log_id: old.log_id,
            segment_no: if replaces { old.segment_no } else { old.segment_no + 1 },
            base_lsn,
            base_id: if replaces { old.base_id } else { seen.next_id },
            // No frame before the segment is later: ages are counted by this.
            base_ts: if replaces { old.base_ts } else { seen.ts },
            epoch: old.epoch + 1,
            first_no: 0,
            salt: random_bytes(self.env),
            version: old.version.max(FormatVersion::lowest(self.options.index, false)),
            ..SegmentHeader::default()
        };
        if old.key_id != 0 || !copies {
            assign_key(self.options.keys.as_ref(), &mut header);
        }
        header
    }

    /// Copies the frames of `from..end`, sealed for their new place, and a MARK if `vouch`.
    fn copy(&self, last: &Found<E>, from: u64, end: u64, vouch: bool, tail: &mut TailWriter<'_, E>) -> Result<()> {
        let to = *tail.header();
        let key = segment_key(self.options.keys.as_ref(), &to, &last.segment.path)?;
        let mut stored = Vec::new();
        let mut reader = last.reader(self.env, from, end);
        let mut ts = to.base_ts;
        loop {
            assert_eq!(reader.lsn(), tail.lsn(), "a copy keeps positions");
            match reader.next()? {
                Step::Frame { lsn, header, payload } => {
                    ts = header.ts;
                    // The segment was to end here, and goes on: a MARK of the same length keeps the place.
                    let ends = header.kind == FrameKind::Footer;
                    let blank = if ends { vec![0; payload.len()] } else { Vec::new() };
                    let payload = if ends { &blank } else { payload };
                    let header = match ends {
                        true => FrameHeader { payload_crc: crc32c(&[], &[payload]), kind: FrameKind::Mark, ..header },
                        false => header,
                    };
                    let place = frame_place(self.env, &to, lsn);
                    if header.tagged {
                        stored.clear();
                        stored.extend_from_slice(payload);
                        let tag = key.as_ref().map(|key| key.seal_frame(&header, lsn, &mut stored));
                        stored.extend_from_slice(&tag.unwrap_or_default());
                        let payload_crc = crc32c(&[], &[&stored]);
                        tail.push(&FrameHeader { payload_crc, ..header }.encode(&place))?;
                        tail.push(&stored)?;
                    } else {
                        tail.push(&header.encode(&place))?;
                        tail.push(payload)?;
                    }
                    tail.pad();
                }
                Step::End => break,
                Step::Bad(fault) => {
                    return Err(last.damage(reader.lsn(), format_args!("frame {fault}, at second sight")));
                }
            }
        }
        if vouch {
            self.env.reached("aof.tail_copied");
            let mark = FrameHeader {
                payload_crc: crc32c(&[], &[&MARK_PAYLOAD]),
                len: MARK_PAYLOAD.len() as u32,
                count: 1,
                kind: FrameKind::Mark,
                tagged: false,
                first_id: 0,
                ts,
                durable_back: 0,
                tag: 0,
            };
            tail.push(&mark.encode(&frame_place(self.env, &to, end)))?;
            tail.push(&MARK_PAYLOAD)?;
        }
        Ok(())
    }

    /// Writes the frames of `from..end` over themselves and syncs them.
    fn rewrite(&self, last: &Found<E>, from: u64, end: u64) -> Result<()> {
        let segment = &last.segment;
        let mut buffer = vec![0; 64 << 10];
        let (mut at, stop) = (segment.offset(from), segment.offset(end));
        while at < stop {
            let part = &mut buffer[..(stop - at).min(64 << 10) as usize];
            segment.file.read_exact_at(part, at).map_err(|error| Error::io("read", &segment.path, error))?;
            segment.file.write_at(part, at).map_err(|error| Error::io("write", &segment.path, error))?;
            at += part.len() as u64;
        }
        segment.file.sync(SyncKind::All).map_err(|error| Error::io("sync", &segment.path, error))
    }

    /// Returns the index of the frames that the segment of `position` begins with: copies of the last ones of `last`.
    fn index_of_tail(&self, last: &Found<E>, position: &Position) -> Result<SegmentIndex> {
        let mut index = SegmentIndex::new(position.segment.base_id);
        let base_lsn = position.segment.base_lsn;
        if base_lsn >= position.content_end {
            return Ok(index);
        }
        let mut reader = last.reader(self.env, base_lsn, position.content_end);
        loop {
            match reader.next()? {
                Step::Frame { lsn, header, .. } => {
                    let FrameHeader { kind, count, len, first_id, ts, .. } = header;
                    index.note(&Noted { lsn, kind, count, len, first_id, ts });
                }
                Step::End => return Ok(index),
                Step::Bad(fault) => {
                    return Err(last.damage(reader.lsn(), format_args!("frame {fault}, at second sight")));
                }
            }
        }
    }

    fn reopen(&self, last: &Found<E>) -> Result<<E::Disk as Disk>::File> {
        let path = &last.segment.path;
        self.env.disk().open(path, OpenMode::ReadWrite).map_err(|error| Error::io("open", path, error))
    }

    /// Replays the last segment, whose end is known.
    fn replay_last(&self, last: &Found<E>, end: u64, seen: &mut Seen, replay: Replay<'_>) -> Result<()> {
        let mut reader = last.reader(self.env, last.segment.header.base_lsn, end);
        loop {
            match reader.next()? {
                Step::Frame { lsn, header, payload } => {
                    seen.note(lsn, &header);
                    deliver(lsn, &header, payload, replay)?;
                }
                Step::End => return Ok(()),
                Step::Bad(fault) => {
                    return Err(last.damage(reader.lsn(), format_args!("frame {fault}, at second sight")));
                }
            }
        }
    }
}

fn read_header<F: DiskFile>(file: &F) -> std::io::Result<(Result<SegmentHeader, Fault>, u64)> {
    let file_bytes = file.len()?;
    let mut bytes = vec![0; (HEADER_BYTES as u64).min(file_bytes) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let header = if bytes.len() < HEADER_BYTES { Err(Fault::Short) } else { SegmentHeader::decode(&bytes) };
    Ok((header, file_bytes))
}

fn deliver(lsn: u64, header: &FrameHeader, payload: &[u8], replay: Replay<'_>) -> Result<()> {
    if !header.kind.is_callers() {
        return Ok(());
    }
    assert!(payload.len() + FRAME_BYTES <= header.frame_bytes() as usize, "a frame holds its payload");
    replay(Frame {
        lsn: Lsn(lsn),
        end: Lsn(lsn + header.frame_bytes()),
        kind: header.kind,
        count: header.count,
        first_id: header.first_id,
        tag: header.tag,
        ts: header.ts,
        payload,
    })
}
