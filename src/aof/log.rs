//! The physical log: [`Log`], which appends frames, makes them durable in groups, and drops old segments.
//!
//! Called from any number of threads; a clone is the same log. The caller holds the directory's lock.
//!
//! **Three places, three locks.** Frames wait in the `Stage` (append lock: a copy and two checksums, no I/O), are
//! handed to the operating system as one write (I/O lock), and become durable by a data sync (sync lock), during which both
//! others are free. Order: I/O, then append or sync; the directory of segments last.
//!
//! **Group commit.** [`Log::sync_to`] makes one thread the leader: it gathers for a moment, takes what is staged, writes
//! it and syncs. Who arrives meanwhile waits and forms the next group. *Gathering:* the leader steps aside up to 30 times
//! until as many have arrived as in recent groups; threads that the last sync woke up come back within microseconds, and
//! a sync takes a hundred.
//!
//! **Invariants**
//! - `durable <= written <= end`; each only grows. Acknowledgements follow positions (R8).
//! - A segment is durable before the next one has a name (R4), and the next one's name before a byte of it (R5).
//! - One sync at a time: a failure is reported to one caller only by some systems, and must be seen by all.
//! - After a failed write or sync nothing is written, synced or acknowledged any more (R7).
//! - No byte before `written` is written again.
//!
//! **Limits:** a frame of [`BATCH_BYTES_MAX`]; positions of 63 bits.

use super::chain::{At, Span};
use super::format::{ALIGN, FRAME_BYTES, FrameKind, SegmentHeader};
use super::metrics::{FlushCause, FlushSample, FlushStats};
use super::read::SegmentReader;
use super::recovery::{self, Recovered};
use super::segment::{Closed, SegmentFile, Segments};
use super::stage::{Batch, Stage};
use super::types::{Append, Appended, Find, Frame, LogOptions, LogStats, Lsn, RecoveryReport, SegmentInfo};
use super::watch::Watch;
use crate::base::checksum::crc32c;
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Condvar, DiskFile, Env, EnvCondvar, Mutex, SyncKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// From this size a payload goes to the operating system without a copy.
const DIRECT_BYTES: usize = 256 << 10;
/// How often a leader steps aside for its group.
const GATHER_STEPS: u32 = 30;

/// The physical log in one directory.
///
/// # Durability
/// Appended frames survive a process crash once [`write_out`](Log::write_out) returned, and a power loss once
/// [`sync_to`](Log::sync_to) returned. Of the others a prefix survives. Dropping a log does neither.
pub struct Log<E: Env>(Arc<Inner<E>>);

impl<E: Env> Clone for Log<E> {
    fn clone(&self) -> Log<E> {
        Log(self.0.clone())
    }
}

struct Inner<E: Env> {
    env: E,
    options: LogOptions,
    stage: Mutex<E, Stage>,
    io: Mutex<E, Io<E>>,
    syncing: Mutex<E, Reach>,
    segments: Mutex<E, Segments<E>>,
    group: Mutex<E, Group>,
    group_done: Condvar<E>,
    poison: Mutex<E, Option<Error>>,
    is_poisoned: AtomicBool,
    end: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    watch: Watch<E>,
    flushes: FlushStats<E>,
    /// Threads that entered `sync_to` since the last group was taken.
    arrived: AtomicU64,
    stats: Counters,
}

/// The segment being written.
struct Io<E: Env> {
    active: Arc<SegmentFile<E>>,
    file_bytes: u64,
    written: u64,
    /// Records before `written`, counted from the open.
    records: u64,
    batch: Batch,
}

/// How far a sync reaches: a position, and the records before it, counted from the open.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    lsn: u64,
    records: u64,
}

/// Who leads.
#[derive(Default)]
struct Group {
    led: bool,
    /// How many threads recent syncs have served.
    size: u64,
}

#[derive(Default)]
struct Counters {
    appends: AtomicU64,
    bytes: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    rolls: AtomicU64,
    recycled: AtomicU64,
    marks: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl<E: Env> Log<E> {
    /// Opens the log in `dir`, creating it if there is none, and hands every kept frame to `replay`, oldest first.
    ///
    /// What `replay` sees is durable. A torn tail is cut off and reported. The caller holds the lock of `dir` or of a
    /// directory above.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) names file and offset of what is damaged or missing; an error of
    /// `replay` is passed on. Nothing is lost by a failed open: it may be tried again.
    pub fn open(
        env: E,
        dir: &Path,
        options: LogOptions,
        replay: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<(Log<E>, RecoveryReport)> {
        options.validate()?;
        let Recovered { segments, active, position, index, report } = recovery::recover(&env, dir, &options, replay)?;
        let stage = Stage::new(position, &options, index);
        let io = Io {
            active: Arc::new(active.segment),
            file_bytes: active.file_bytes,
            written: position.end,
            records: 0,
            batch: Batch::default(),
        };
        let inner = Inner {
            options,
            stage: Mutex::<E, _>::new(stage),
            io: Mutex::<E, _>::new(io),
            syncing: Mutex::<E, _>::new(Reach { lsn: position.end, records: 0 }),
            segments: Mutex::<E, _>::new(segments),
            group: Mutex::<E, _>::new(Group::default()),
            group_done: Condvar::<E>::default(),
            poison: Mutex::<E, _>::new(None),
            is_poisoned: AtomicBool::new(false),
            end: AtomicU64::new(position.end),
            written: AtomicU64::new(position.end),
            durable: AtomicU64::new(position.end),
            watch: Watch::default(),
            flushes: FlushStats::default(),
            arrived: AtomicU64::new(0),
            stats: Counters::default(),
            env,
        };
        Ok((Log(Arc::new(inner)), report))
    }

    /// Stages a frame and returns where it went.
    ///
    /// It reaches the operating system with the next [`write_out`](Self::write_out) or `sync_to`, or when
    /// [`buffer_bytes`](LogOptions::buffer_bytes) are staged. Frames of 256 KiB and more are written at once.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty or too long payload, a kind that is the log's
    /// own, or an id that does not continue; [`Poisoned`](crate::ErrorKind::Poisoned), [`Closed`](crate::ErrorKind::Closed);
    /// or what the write met.
    pub fn append(&self, append: &Append<'_>) -> Result<Appended> {
        let inner = &*self.0;
        let len = append.parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        if len == 0 || len > BATCH_BYTES_MAX || !append.kind.is_callers() {
            let what = format_args!("frame of kind {:?} with {len} bytes (1..={BATCH_BYTES_MAX})", append.kind);
            return Err(Error::invalid_argument(what));
        }
        inner.check()?;
        let crc = crc32c(&[], append.parts);
        let appended = if len >= DIRECT_BYTES {
            inner.append_direct(append, crc)?
        } else {
            let mut stage = inner.stage.lock();
            if stage.closed {
                return Err(Error::closed());
            }
            let appended = stage.push(&inner.env, append, crc, inner.durable.load(Ordering::Acquire))?;
            inner.end.store(appended.end.0, Ordering::Release);
            let full = stage.len() >= inner.options.buffer_bytes;
            drop(stage);
            if full {
                inner.write_to(appended.end.0)?;
            }
            appended
        };
        count(&inner.stats.appends, 1);
        count(&inner.stats.bytes, super::format::frame_bytes(len as u64));
        Ok(appended)
    }

    /// Hands everything staged before the call to the operating system, where it survives the process.
    ///
    /// # Errors
    /// What the write met; the log is poisoned then.
    pub fn write_out(&self) -> Result<()> {
        self.0.write_to(self.0.end.load(Ordering::Acquire))
    }

    /// Returns once everything before `end` survives a power loss; one sync serves all threads that wait for one.
    ///
    /// # Errors
    /// What the write or sync met, or [`Poisoned`](crate::ErrorKind::Poisoned): whether the frames survive is then unknown
    /// until the log is opened again.
    ///
    /// # Panics
    /// If `end` was not yet appended.
    pub fn sync_to(&self, end: Lsn) -> Result<()> {
        self.sync_for(end, FlushCause::Forced)
    }

    /// As [`sync_to`](Self::sync_to); the flush is counted under `cause` if this thread makes it.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    ///
    /// # Panics
    /// If `end` was not yet appended.
    pub fn sync_for(&self, end: Lsn, cause: FlushCause) -> Result<()> {
        let inner = &*self.0;
        assert!(end.0 <= inner.end.load(Ordering::Acquire), "sync_to({end}) is past the end of the log");
        if inner.durable.load(Ordering::Acquire) >= end.0 {
            return Ok(());
        }
        inner.arrived.fetch_add(1, Ordering::Relaxed);
        let mut group = inner.group.lock();
        loop {
            if inner.durable.load(Ordering::Acquire) >= end.0 {
                return Ok(());
            }
            inner.check()?;
            if group.led {
                inner.group_done.wait(&mut group);
                continue;
            }
            group.led = true;
            let size = group.size;
            drop(group);
            let led = inner.lead(size, cause);
            group = inner.group.lock();
            group.led = false;
            // Shrinks slowly: a thread that was late once is still expected.
            group.size =
                led.as_ref().map_or(0, |served| (*served).max(size - size.saturating_sub(*served).div_ceil(4)));
            inner.group_done.notify_all();
            led?;
        }
    }

    /// Writes a MARK if everything is durable and no frame says so yet; to be called when the log is idle.
    ///
    /// A MARK lets recovery tell damage in the last frames from a torn write. It is not synced.
    ///
    /// # Errors
    /// What the write met.
    pub fn mark(&self) -> Result<()> {
        let inner = &*self.0;
        inner.check()?;
        let end = {
            let mut stage = inner.stage.lock();
            if stage.closed {
                return Ok(());
            }
            inner.stage_mark(&mut stage)?
        };
        inner.write_to(end)
    }

    /// Returns where the next frame will begin.
    pub fn end(&self) -> Lsn {
        Lsn(self.0.end.load(Ordering::Acquire))
    }

    /// Returns where the next frame will begin and the id of its first record, taken under the append lock: every append
    /// that has returned is before it, and every append that begins later sees what the caller did before the call.
    pub fn position(&self) -> (Lsn, u64) {
        let stage = self.0.stage.lock();
        (Lsn(stage.end()), stage.next_id())
    }

    /// Returns the id of the next record, if ids are contiguous.
    pub fn next_id(&self) -> u64 {
        self.0.stage.lock().next_id()
    }

    /// Returns up to where the operating system has the log: it survives the process.
    pub fn written(&self) -> Lsn {
        Lsn(self.0.written.load(Ordering::Acquire))
    }

    /// Returns what is notified after [`written`](Self::written) or [`durable`](Self::durable) has moved on, and when the log is
    /// poisoned or closed.
    pub fn watch(&self) -> &Watch<E> {
        &self.0.watch
    }

    /// Returns the counters of flushes.
    pub fn flushes(&self) -> &FlushStats<E> {
        &self.0.flushes
    }

    /// Returns the segments in the directory, oldest first; the last one is being written.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.0.segments.lock().infos()
    }

    /// Returns a frame's start in the segment being written from where a search for `what` goes forward; none if an older
    /// segment holds it.
    pub fn find(&self, what: Find) -> Option<Lsn> {
        self.0.stage.lock().find(what)
    }

    /// Returns up to where the log survives a power loss.
    ///
    /// A position kept elsewhere must not be above it: after a power loss the log continues from where it ended, and
    /// later frames would take positions that are taken for old.
    pub fn durable(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// Drops whole segments that end at or before `lsn`; the segment being written stays.
    ///
    /// Durable when it returns. Costs a directory sync for each dropped segment.
    ///
    /// # Errors
    /// What the directory met; the log is poisoned then.
    pub fn truncate_before(&self, lsn: Lsn) -> Result<()> {
        let inner = &*self.0;
        let mut segments = inner.segments.lock();
        // Under the lock: a roll that fails while it holds it has closed the segment being written and has no other.
        inner.check()?;
        let dropped = segments.drop_before(lsn.0).and_then(|_| segments.ensure_reserve());
        drop(segments);
        dropped.map_err(|error| inner.fail(error))
    }

    /// Returns the segment at `at`.
    pub fn locate(&self, at: At) -> Option<Span> {
        self.0.segments.lock().locate(at)
    }

    /// Opens segment `number` for reading. Its file is not written over while the reader is held (R11).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was dropped; what reading its header met.
    pub fn open_segment(&self, number: u64) -> Result<Arc<SegmentReader<E>>> {
        self.0.segments.lock().open_reader(number)
    }

    /// Returns why the log refuses writes, if it does.
    pub fn poisoned(&self) -> Option<Error> {
        self.0.check().err()
    }

    /// Returns the counters.
    pub fn stats(&self) -> LogStats {
        let stats = &self.0.stats;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogStats {
            appends: read(&stats.appends),
            bytes: read(&stats.bytes),
            writes: read(&stats.writes),
            syncs: read(&stats.syncs),
            rolls: read(&stats.rolls),
            recycled: read(&stats.recycled),
            marks: read(&stats.marks),
        }
    }

    /// Refuses further appends, makes everything durable and writes a MARK. Closing again does nothing.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn close(&self) -> Result<()> {
        let inner = &*self.0;
        let end = {
            let mut stage = inner.stage.lock();
            stage.closed = true;
            stage.end()
        };
        inner.watch.notify();
        self.sync_for(Lsn(end), FlushCause::Close)?;
        let end = inner.stage_mark(&mut inner.stage.lock())?;
        self.sync_for(Lsn(end), FlushCause::Close)
    }
}

impl<E: Env> Inner<E> {
    /// Fails if an earlier write or sync did.
    fn check(&self) -> Result<()> {
        if !self.is_poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.poison.lock() {
            Some(cause) => Err(Error::poisoned(cause)),
            None => unreachable!("the flag is set after the cause"),
        }
    }

    /// Poisons the log because of `error` and returns it.
    fn fail(&self, error: Error) -> Error {
        self.env.reached("aof.poison");
        self.poison.lock().get_or_insert(error.clone());
        self.is_poisoned.store(true, Ordering::Release);
        self.watch.notify();
        error
    }

    fn stage_mark(&self, stage: &mut Stage) -> Result<u64> {
        let durable = self.durable.load(Ordering::Acquire);
        if !stage.needs_mark(durable) {
            return Ok(stage.end());
        }
        self.env.reached("aof.mark");
        count(&self.stats.marks, 1);
        let end = stage.push_mark(&self.env, durable)?;
        self.end.store(end, Ordering::Release);
        Ok(end)
    }

    /// Appends a large frame: what is staged goes first, then the payload from where it lies.
    fn append_direct(&self, append: &Append<'_>, crc: u32) -> Result<Appended> {
        let mut io = self.io.lock();
        self.check()?;
        let appended = {
            let mut stage = self.stage.lock();
            if stage.closed {
                return Err(Error::closed());
            }
            let appended = stage.push_direct(&self.env, append, crc, self.durable.load(Ordering::Acquire))?;
            stage.take(&mut io.batch);
            self.end.store(appended.end.0, Ordering::Release);
            appended
        };
        let (mut lsn, end) = (appended.lsn.0 + FRAME_BYTES as u64, appended.end.0);
        self.env.reached("aof.direct");
        // The frame's header is the last of the batch.
        self.write_batch(&mut io)?;
        assert_eq!(io.written, lsn, "a payload follows its header");
        for part in append.parts {
            self.write(&mut io, part, lsn)?;
            lsn += part.len() as u64;
        }
        assert!(lsn <= end && end - lsn < ALIGN, "a frame ends with its padding");
        if lsn < end {
            self.write(&mut io, &[0; ALIGN as usize][..(end - lsn) as usize], lsn)?;
        }
        io.written = end;
        io.records += u64::from(append.count);
        self.advance_written(end);
        Ok(appended)
    }

    fn advance_written(&self, written: u64) {
        if self.written.fetch_max(written, Ordering::AcqRel) < written {
            self.watch.notify();
        }
    }

    /// Writes everything before `target`.
    fn write_to(&self, target: u64) -> Result<()> {
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

    /// Writes the batch, beginning segments where it says so.
    fn write_batch(&self, io: &mut Io<E>) -> Result<()> {
        let mut batch = std::mem::take(&mut io.batch);
        assert!(batch.bytes.is_empty() || batch.start == io.written, "batches follow each other");
        let end = batch.start + batch.bytes.len() as u64;
        loop {
            if let Some(cut) = batch.cuts.pop_front_if(|cut| cut.base_lsn == io.written) {
                self.roll(io, &cut)?;
            }
            if io.written == end {
                break;
            }
            let stop = batch.cuts.front().map_or(end, |cut| cut.base_lsn);
            assert!(io.written < stop && stop <= end, "cuts lie within their batch");
            let range = (io.written - batch.start) as usize..(stop - batch.start) as usize;
            self.write(io, &batch.bytes[range], io.written)?;
            io.written = stop;
        }
        assert!(batch.cuts.is_empty(), "a cut is followed by a frame");
        io.records += std::mem::take(&mut batch.records);
        batch.bytes.clear();
        io.batch = batch;
        Ok(())
    }

    fn write(&self, io: &mut Io<E>, bytes: &[u8], lsn: u64) -> Result<()> {
        count(&self.stats.writes, 1);
        let written = io.active.write(bytes, lsn, io.file_bytes, self.options.segment_bytes);
        io.file_bytes = written.map_err(|error| self.fail(error))?;
        Ok(())
    }

    /// Ends the active segment and begins the one of `cut`.
    fn roll(&self, io: &mut Io<E>, cut: &SegmentHeader) -> Result<()> {
        self.env.reached("aof.roll");
        let old = &io.active;
        assert_eq!(cut.segment_no, old.header.segment_no + 1, "segments are numbered without a gap");
        let reach = Reach { lsn: cut.base_lsn, records: io.records };
        self.sync(old, reach, FlushCause::Roll, "aof_roll_without_sync")?;
        let closed = Closed {
            header: old.header,
            number: old.header.segment_no,
            base_lsn: old.header.base_lsn,
            end_lsn: cut.base_lsn,
            file_bytes: io.file_bytes,
        };
        let mut segments = self.segments.lock();
        segments.closed.push_back(closed);
        let made = segments.make(cut, false, &mut |_| Ok(())).map_err(|error| self.fail(error))?;
        drop(segments);
        assert_eq!(made.end_lsn, io.written, "a segment begins where the one before ends");
        count(&self.stats.rolls, 1);
        count(&self.stats.recycled, u64::from(made.recycled));
        io.active = Arc::new(made.segment);
        io.file_bytes = made.file_bytes;
        Ok(())
    }

    /// Leads a group; returns how many threads it served.
    fn lead(&self, size: u64, cause: FlushCause) -> Result<u64> {
        for _ in 0..GATHER_STEPS {
            if self.arrived.load(Ordering::Relaxed) >= size {
                break;
            }
            self.env.relax();
        }
        let (served, active, target) = {
            let mut io = self.io.lock();
            let served = self.arrived.swap(0, Ordering::Relaxed);
            let target = self.end.load(Ordering::Acquire);
            self.drain(&mut io, target)?;
            (served, io.active.clone(), Reach { lsn: io.written, records: io.records })
        };
        if served > 1 {
            self.env.reached("aof.group");
        }
        self.sync(&active, target, cause, "aof_ack_before_sync")?;
        Ok(served)
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
        *reached = target;
        let late = self.env.planted("aof_ack_later_appends");
        let durable = if late { self.end.load(Ordering::Acquire) } else { target.lsn };
        let before = self.durable.fetch_max(durable, Ordering::AcqRel);
        assert!(before <= durable && durable <= self.end.load(Ordering::Acquire), "what is durable was appended");
        self.watch.notify();
        Ok(())
    }
}

const _: () = assert!(DIRECT_BYTES > FRAME_BYTES && FrameKind::Data as u8 != 0);
