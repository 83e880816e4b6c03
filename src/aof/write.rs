//! The write path of [`Log`](super::Log): staging, making room, handing over, rolling, leading a group.
//!
//! Called by the log's methods on the threads of its callers; `log` has the locks, their order and the invariants.
//!
//! **No space.** A frame is staged only where the active file has bytes. If it has not, the appending thread makes room
//! first, under the I/O lock: zeros behind the file's end, or the next segment, whose file is made and filled before the
//! active one is touched. If the device is full at that point the append is refused and nothing has changed; every other
//! failed write or sync poisons.
//!
//! **A roll** holds the I/O lock: file for the next segment, rest of the active one, its sync (R4), header, name and directory
//! sync of the next (R5). Appends go on meanwhile, in the stage.

use super::format::{ALIGN, FRAME_BYTES, FrameHeader, FrameKind};
use super::index::SegmentIndex;
use super::index::format::Footer;
use super::log::{Inner, Io, Reach, count};
use super::metrics::{FlushCause, FlushSample};
use super::segment::{Closed, SegmentFile, frame_place};
use super::stage::{Room, Stage};
use super::types::{Append, Appended};
use crate::base::checksum::crc32c;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{DiskFile, Env, SyncKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// With so much a sync, or so much that is not durable yet, the space ahead is allocated and not filled with zeros: zeros
/// spare each sync the change of the file's map, but cost as much as what is written over them.
const STREAM_BYTES: u64 = 64 << 10;
/// Parts of a payload that goes without a copy are gathered up to so much, so that small ones are not written one by one.
const GATHER_BYTES: usize = 64 << 10;

impl<E: Env> Inner<E> {
    /// Fails if an earlier write or sync did.
    pub(super) fn check(&self) -> Result<()> {
        if !self.is_poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.poison.lock() {
            Some(cause) if *cause.kind() == ErrorKind::Closed => Err(cause.clone()),
            Some(cause) => Err(Error::poisoned(cause)),
            None => unreachable!("the flag is set after the cause"),
        }
    }

    /// Poisons the log because of `error` and returns it.
    pub(super) fn fail(&self, error: Error) -> Error {
        self.env.reached("aof.poison");
        self.poison.lock().get_or_insert(error.clone());
        self.is_poisoned.store(true, Ordering::Release);
        self.watch.notify();
        error
    }

    pub(super) fn stage_mark(&self, stage: &mut Stage) -> Result<u64> {
        let durable = self.durable.load(Ordering::Acquire);
        if !stage.needs_mark(durable) {
            return Ok(stage.end());
        }
        let Some(end) = stage.push_mark(&self.env, durable)? else { return Ok(stage.end()) };
        self.env.reached("aof.mark");
        count(&self.stats.marks, 1);
        self.end.store(end, Ordering::Release);
        Ok(end)
    }

    /// Appends a frame through the stage.
    pub(super) fn append_staged(&self, append: &Append<'_>, len: usize, crc: u32) -> Result<Appended> {
        loop {
            let mut stage = self.stage.lock();
            if let Some(appended) = stage.push(&self.env, append, crc, self.durable.load(Ordering::Acquire))? {
                self.end.store(appended.end.0, Ordering::Release);
                let full = stage.is_full(self.options.buffer_bytes);
                drop(stage);
                if full {
                    self.write_to(appended.end.0)?;
                }
                return Ok(appended);
            }
            drop(stage);
            // Others may take the room that is made; whoever did so has appended.
            self.make_room(&mut self.io.lock(), len)?;
        }
    }

    /// Appends a large frame: what is staged goes first, then the payload from where it lies.
    pub(super) fn append_direct(&self, append: &Append<'_>, len: usize, crc: u32) -> Result<Appended> {
        let mut io = self.io.lock();
        let appended = loop {
            self.make_room(&mut io, len)?;
            let mut stage = self.stage.lock();
            let pushed = stage.push_direct(&self.env, append, crc, self.durable.load(Ordering::Acquire))?;
            if let Some(appended) = pushed {
                stage.take(&mut io.batch);
                self.end.store(appended.end.0, Ordering::Release);
                break appended;
            }
        };
        let (mut lsn, end) = (appended.lsn.0 + FRAME_BYTES as u64, appended.end.0);
        self.env.reached("aof.direct");
        // The frame's header is the last of the batch.
        self.write_batch(&mut io)?;
        assert_eq!(io.written, lsn, "a payload follows its header");
        let padding = [0; ALIGN as usize];
        let payload_end = lsn + len as u64;
        assert!(payload_end <= end && end - payload_end < ALIGN, "a frame ends with its padding");
        let mut gathered = std::mem::take(&mut io.batch.bytes);
        for part in append.parts.iter().copied().chain([&padding[..(end - payload_end) as usize]]) {
            if gathered.len() + part.len() <= GATHER_BYTES {
                gathered.extend_from_slice(part);
                continue;
            }
            lsn = self.write_gathered(&mut io, &mut gathered, lsn)?;
            if part.len() >= GATHER_BYTES {
                self.write(&mut io, part, lsn)?;
                lsn += part.len() as u64;
            } else {
                gathered.extend_from_slice(part);
            }
        }
        lsn = self.write_gathered(&mut io, &mut gathered, lsn)?;
        assert_eq!(lsn, end, "every byte of the frame was written");
        io.batch.bytes = gathered;
        io.written = end;
        io.records += u64::from(append.count);
        self.advance_written(end);
        Ok(appended)
    }

    /// Writes what was gathered to `lsn`, and returns where it ends.
    fn write_gathered(&self, io: &mut Io<E>, gathered: &mut Vec<u8>, lsn: u64) -> Result<u64> {
        if !gathered.is_empty() {
            self.write(io, gathered, lsn)?;
        }
        let end = lsn + gathered.len() as u64;
        gathered.clear();
        Ok(end)
    }

    /// Makes room for a frame with a payload of `len` bytes: more space for the active segment, or the next one.
    ///
    /// # Errors
    /// With [`ErrorKind::NoSpace`] the log is as it was before, and goes on once there is space.
    fn make_room(&self, io: &mut Io<E>, len: usize) -> Result<()> {
        loop {
            self.check()?;
            let (room, limit) = {
                let mut stage = self.stage.lock();
                if stage.closed {
                    return Err(Error::closed());
                }
                (stage.wants(len), stage.limit())
            };
            let made = match room {
                Room::Enough => return Ok(()),
                Room::Until(lsn) => self.grow(io, lsn, limit),
                Room::Next => self.roll(io),
            };
            made.map_err(|error| self.refuse(io, error))?;
        }
    }

    /// Passes the reason on why there is no room; any but a full device poisons the log.
    pub(super) fn refuse(&self, io: &mut Io<E>, error: Error) -> Error {
        if *error.kind() != ErrorKind::NoSpace || self.check().is_err() {
            return self.fail(error);
        }
        self.env.reached("aof.refused");
        if self.env.planted("aof_refusal_drops_batch") {
            self.stage.lock().take(&mut io.batch);
            io.batch.bytes.clear();
        }
        error
    }

    /// Gives the active segment's file the bytes before `lsn`.
    fn grow(&self, io: &mut Io<E>, lsn: u64, limit: u64) -> Result<()> {
        let active = &io.active;
        io.file_bytes = active.grow(io.file_bytes, active.offset(lsn), active.offset(limit), self.is_stream())?;
        self.stage.lock().set_room(io.file_bytes);
        Ok(())
    }

    /// Returns true if syncs are far apart.
    pub(super) fn is_stream(&self) -> bool {
        // In this order: the end may only have grown since.
        let durable = self.durable.load(Ordering::Acquire);
        let waiting = self.end.load(Ordering::Acquire) - durable;
        waiting.max(self.sync_bytes.load(Ordering::Relaxed)) >= STREAM_BYTES
    }

    /// Asks for a spare once a quarter of the segment that begins at `base_lsn` is taken.
    pub(super) fn set_spare_at(&self, base_lsn: u64) {
        self.spare_at.store(base_lsn + self.options.segment_bytes / 4, Ordering::Relaxed);
    }

    fn advance_written(&self, written: u64) {
        if self.written.fetch_max(written, Ordering::AcqRel) < written {
            self.watch.notify();
        }
    }

    /// Writes everything before `target`.
    pub(super) fn write_to(&self, target: u64) -> Result<()> {
        let mut io = self.io.lock();
        self.check()?;
        self.drain(&mut io, target)
    }

    fn drain(&self, io: &mut Io<E>, target: u64) -> Result<()> {
        while io.written < target {
            self.check()?;
            self.stage.lock().take(&mut io.batch);
            self.write_batch(io)?;
        }
        self.advance_written(io.written);
        Ok(())
    }

    /// Writes the batch, all of which lies in the active segment.
    fn write_batch(&self, io: &mut Io<E>) -> Result<()> {
        if io.batch.bytes.is_empty() {
            return Ok(());
        }
        assert_eq!(io.batch.start, io.written, "batches follow each other");
        let mut bytes = std::mem::take(&mut io.batch.bytes);
        self.write(io, &bytes, io.written)?;
        io.written += bytes.len() as u64;
        io.records += std::mem::take(&mut io.batch.records);
        bytes.clear();
        io.batch.bytes = bytes;
        Ok(())
    }

    fn write(&self, io: &mut Io<E>, bytes: &[u8], lsn: u64) -> Result<()> {
        count(&self.stats.writes, 1);
        if let Some(crc) = &mut io.crc {
            crc.update(bytes);
        }
        io.active.write(bytes, lsn, io.file_bytes).map_err(|error| self.fail(error))
    }

    /// Writes the FOOTER of the active segment, which ends at `end`.
    fn write_footer(&self, io: &mut Io<E>, index: SegmentIndex, ts: u64, end: u64) -> Result<()> {
        let Some(crc) = &io.crc else { unreachable!("kept whenever an index is") };
        let (lsn, base_lsn) = (io.written, io.active.header.base_lsn);
        let footer = Footer { index, crc64: crc.value() };
        let payload = footer.encode(base_lsn);
        let header = FrameHeader {
            payload_crc: crc32c(&[], &[&payload]),
            len: payload.len() as u32,
            count: 0,
            kind: FrameKind::Footer,
            tagged: false,
            first_id: footer.index.next_id,
            ts,
            durable_back: ((lsn - self.durable.load(Ordering::Acquire)) / ALIGN) as u32,
            tag: 0,
        };
        assert_eq!(lsn + header.frame_bytes(), end, "a FOOTER has the space that was kept for it");
        let mut frame = header.encode(&frame_place(&self.env, &io.active.header, lsn)).to_vec();
        frame.extend_from_slice(&payload);
        self.write(io, &frame, lsn)?;
        io.written = end;
        Ok(())
    }

    /// Makes sure that the active segment can be ended without more space.
    fn make_room_for_footer(&self, io: &mut Io<E>) -> Result<()> {
        loop {
            let end = self.stage.lock().sealed_end();
            if io.active.offset(end) <= io.file_bytes {
                return Ok(());
            }
            self.grow(io, end, end)?;
        }
    }

    /// Ends the active segment and begins the next one.
    ///
    /// # Errors
    /// With [`ErrorKind::NoSpace`] and no poison there is no next one, and the active one goes on.
    pub(super) fn roll(&self, io: &mut Io<E>) -> Result<()> {
        self.env.reached("aof.roll");
        // What may fail for want of space comes first.
        self.make_room_for_footer(io)?;
        let blank = self.segments.lock().blank_with_space()?;
        let (next, index) = {
            let mut stage = self.stage.lock();
            let ended = stage.end_segment(&self.env, &mut io.batch, blank.file_bytes());
            self.end.store(stage.end(), Ordering::Release);
            ended
        };
        self.write_batch(io)?;
        if let Some(index) = index {
            self.write_footer(io, index, next.base_ts, next.base_lsn)?;
        }
        assert_eq!(next.base_lsn, io.written, "a segment begins where the one before ends");
        // Before the sync, and whether or not the next segment comes: what is durable was written.
        self.advance_written(io.written);
        let old = &io.active;
        assert_eq!(next.segment_no, old.header.segment_no + 1, "segments are numbered without a gap");
        let reach = Reach { lsn: io.written, records: io.records };
        self.sync(old, reach, FlushCause::Roll, "aof_roll_without_sync")?;
        let closed = Closed {
            header: old.header,
            number: old.header.segment_no,
            base_lsn: old.header.base_lsn,
            end_lsn: io.written,
            file_bytes: io.file_bytes,
        };
        let mut segments = self.segments.lock();
        segments.closed.push_back(closed);
        let made = segments.begin(blank, &next, &mut |_| Ok(())).map_err(|error| self.fail(error))?;
        drop(segments);
        assert_eq!(made.end_lsn, io.written, "a segment begins where the one before ends");
        count(&self.stats.rolls, 1);
        count(&self.stats.recycled, u64::from(made.recycled));
        io.crc = self.options.index.then_some(made.crc);
        io.active = Arc::new(made.segment);
        io.file_bytes = made.file_bytes;
        self.set_spare_at(io.written);
        let (waits, full) = {
            let mut stage = self.stage.lock();
            stage.begun(made.file_bytes);
            (stage.end() > io.written, stage.is_full(self.options.buffer_bytes))
        };
        if waits {
            self.env.reached("aof.staged_over_roll");
        }
        if full {
            // Before others find the I/O lock free: none of them is to wait for so much at once.
            self.drain(io, self.end.load(Ordering::Acquire))?;
            io.batch.bytes.shrink_to(self.options.buffer_bytes);
        }
        Ok(())
    }

    /// Leads a group.
    pub(super) fn lead(&self, cause: FlushCause) -> Result<()> {
        let mut io = self.io.lock();
        let served = self.group.close();
        let target = self.end.load(Ordering::Acquire);
        let drained = self.drain(&mut io, target);
        let (active, target) = (io.active.clone(), Reach { lsn: io.written, records: io.records });
        drop(io);
        if served > 1 {
            self.env.reached("aof.group");
        }
        let begun = self.env.now();
        let led = drained.and_then(|()| self.sync(&active, target, cause, "aof_ack_before_sync"));
        self.group.end(served, self.env.now().since(begun));
        led
    }

    /// Makes everything before `target` durable, which ends in `file`. `skip` names the planted bug that does not.
    fn sync(&self, file: &SegmentFile<E>, target: Reach, cause: FlushCause, skip: &'static str) -> Result<()> {
        let mut reached = self.syncing.lock();
        self.check()?;
        if reached.lsn >= target.lsn {
            // A roll has overtaken this group.
            self.env.reached("aof.sync_overtaken");
            return Ok(());
        }
        let begun = self.env.now();
        let mut synced = Ok(());
        if !self.env.planted(skip) {
            count(&self.stats.syncs, 1);
            synced = file.file.sync(SyncKind::Data);
        }
        let ok = synced.is_ok() || self.env.planted("aof_ignore_sync_error");
        self.flushes.record(&FlushSample {
            cause,
            ok,
            records: target.records - reached.records,
            bytes: target.lsn - reached.lsn,
            time: self.env.now().since(begun),
        });
        if let (Err(error), false) = (synced, ok) {
            return Err(self.fail(Error::io("sync", &file.path, error)));
        }
        let bytes = target.lsn - reached.lsn;
        self.sync_bytes.store((3 * self.sync_bytes.load(Ordering::Relaxed) + bytes) / 4, Ordering::Relaxed);
        *reached = target;
        let late = self.env.planted("aof_ack_later_appends");
        let durable = if late { self.end.load(Ordering::Acquire) } else { target.lsn };
        let before = self.durable.fetch_max(durable, Ordering::AcqRel);
        assert!(before <= durable && durable <= self.end.load(Ordering::Acquire), "what is durable was appended");
        self.watch.notify();
        Ok(())
    }
}
