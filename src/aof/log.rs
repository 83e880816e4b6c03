//! The physical log: [`Log`], which appends frames, makes them durable in groups, and drops old segments.
//!
//! Called from any number of threads; a clone is the same log. The caller holds the directory's lock.
//!
//! **Three places, three locks.** Frames wait in the `Stage` (append lock: a copy and two checksums, no I/O), are
//! handed to the operating system as one write (I/O lock), and become durable by a data sync (sync lock), during which both
//! others are free. Order: I/O, then append or sync; the directory of segments last.
//!
//! **Group commit.** [`Log::sync_to`] makes one thread of those who wait the leader: it takes what is staged, writes it and
//! syncs. Who arrives meanwhile forms the next `Group`.
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
use super::format::{FRAME_BYTES, FrameKind};
use super::group::{Group, Turn};
use super::metrics::{FlushCause, FlushStats};
use super::read::SegmentReader;
use super::recovery::{self, Recovered};
use super::segment::{self, SegmentFile, Segments};
use super::stage::{Batch, Stage};
use super::types::{Append, Appended, Find, Frame, LogOptions, LogStats, Lsn, RecoveryReport, SegmentInfo};
use super::watch::Watch;
use crate::base::checksum::{Crc64, crc32c};
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Env, Mutex};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// From this size a payload goes to the operating system without a copy.
const DIRECT_BYTES: usize = 256 << 10;

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

pub(super) struct Inner<E: Env> {
    pub(super) env: E,
    pub(super) options: LogOptions,
    pub(super) stage: Mutex<E, Stage>,
    pub(super) io: Mutex<E, Io<E>>,
    pub(super) syncing: Mutex<E, Reach>,
    pub(super) segments: Mutex<E, Segments<E>>,
    pub(super) group: Group<E>,
    pub(super) poison: Mutex<E, Option<Error>>,
    pub(super) is_poisoned: AtomicBool,
    pub(super) is_closed: AtomicBool,
    pub(super) end: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) watch: Watch<E>,
    pub(super) flushes: FlushStats<E>,
    /// Bytes that recent syncs have made durable each, about.
    pub(super) sync_bytes: AtomicU64,
    /// From this end on a spare is wanted; the largest number once somebody was told.
    pub(super) spare_at: AtomicU64,
    pub(super) stats: Counters,
}

/// The segment being written.
pub(super) struct Io<E: Env> {
    pub(super) active: Arc<SegmentFile<E>>,
    pub(super) file_bytes: u64,
    pub(super) written: u64,
    /// Records before `written`, counted from the open.
    pub(super) records: u64,
    /// Of the active file's bytes before `written`; only if its segment is to have a FOOTER.
    pub(super) crc: Option<Crc64>,
    pub(super) batch: Batch,
}

/// How far a sync reaches: a position, and the records before it, counted from the open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    pub(super) lsn: u64,
    pub(super) records: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) appends: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) rolls: AtomicU64,
    pub(super) recycled: AtomicU64,
    pub(super) marks: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
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
        let stage = Stage::new(position, active.file_bytes, &options, index);
        let io = Io {
            active: Arc::new(active.segment),
            file_bytes: active.file_bytes,
            written: position.end,
            records: 0,
            crc: options.index.then_some(active.crc),
            batch: Batch::default(),
        };
        let inner = Inner {
            options,
            stage: Mutex::<E, _>::new(stage),
            io: Mutex::<E, _>::new(io),
            syncing: Mutex::<E, _>::new(Reach { lsn: position.end, records: 0 }),
            segments: Mutex::<E, _>::new(segments),
            group: Group::default(),
            poison: Mutex::<E, _>::new(None),
            is_poisoned: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            end: AtomicU64::new(position.end),
            written: AtomicU64::new(position.end),
            durable: AtomicU64::new(position.end),
            watch: Watch::default(),
            flushes: FlushStats::default(),
            sync_bytes: AtomicU64::new(0),
            spare_at: AtomicU64::new(0),
            stats: Counters::default(),
            env,
        };
        inner.set_spare_at(position.segment.base_lsn);
        Ok((Log(Arc::new(inner)), report))
    }

    /// Stages a frame and returns where it went.
    ///
    /// It reaches the operating system with the next [`write_out`](Self::write_out) or `sync_to`, or when
    /// [`buffer_bytes`](LogOptions::buffer_bytes) are staged. Frames of 256 KiB and more are written at once,
    /// unless the log is encrypted.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty or too long payload, or a kind that is the log's
    /// own; [`AofError::NextId`](super::AofError::NextId) for an id that does not continue; [`NoSpace`](crate::ErrorKind::NoSpace) if the device is full: nothing was
    /// appended or changed, and the log goes on once there is space; [`Poisoned`](crate::ErrorKind::Poisoned),
    /// [`Closed`](crate::ErrorKind::Closed); or what the write met.
    pub fn append(&self, append: &Append<'_>) -> Result<Appended> {
        let inner = &*self.0;
        let len = append.parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        if len == 0 || len > BATCH_BYTES_MAX || !append.kind.is_callers() {
            let what = format_args!("frame of kind {:?} with {len} bytes (1..={BATCH_BYTES_MAX})", append.kind);
            return Err(Error::invalid_argument(what));
        }
        inner.check()?;
        let appended = match &inner.options.keys {
            // The checksum is that of the encrypted payload.
            Some(_) => inner.append_staged(append, len, 0)?,
            None if len >= DIRECT_BYTES => inner.append_direct(append, len, crc32c(&[], append.parts))?,
            None => inner.append_staged(append, len, crc32c(&[], append.parts))?,
        };
        count(&inner.stats.appends, 1);
        count(&inner.stats.bytes, appended.end.0 - appended.lsn.0);
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
        while inner.durable.load(Ordering::Acquire) < end.0 {
            inner.check()?;
            if inner.group.join(&inner.env) == Turn::Lead {
                inner.lead(cause)?;
            }
        }
        Ok(())
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

    /// Returns the log's identity: random, the same in every segment.
    pub fn log_id(&self) -> [u8; 16] {
        self.0.stage.lock().log_id()
    }

    /// Returns the time of the last frame, microseconds since 1970.
    pub fn last_ts(&self) -> u64 {
        self.0.stage.lock().ts()
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

    /// Ends the segment being written, if it holds a frame of the caller, and returns where the one being written now begins.
    ///
    /// # Durability
    /// Everything before the returned position survives a power loss.
    ///
    /// # Errors
    /// [`NoSpace`](crate::ErrorKind::NoSpace) if there is none for the next segment: nothing has changed;
    /// [`Closed`](crate::ErrorKind::Closed), or as [`sync_to`](Self::sync_to).
    pub fn seal(&self) -> Result<Lsn> {
        self.roll_if(Stage::has_content)
    }

    /// Ends the segment being written if less than an eighth of it is left. To be called in the background: appends, which
    /// would find it full, go on meanwhile.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn roll_ahead(&self) -> Result<()> {
        self.roll_if(|stage| stage.has_content() && stage.ends_soon()).map(|_| ())
    }

    /// Ends the segment being written if `due` says so, and returns where the one being written now begins.
    fn roll_if(&self, due: impl FnOnce(&Stage) -> bool) -> Result<Lsn> {
        let inner = &*self.0;
        let mut io = inner.io.lock();
        inner.check()?;
        let due = {
            let stage = inner.stage.lock();
            if stage.closed {
                return Err(Error::closed());
            }
            due(&stage)
        };
        if due {
            inner.roll(&mut io).map_err(|error| inner.refuse(&mut io, error))?;
        }
        Ok(Lsn(io.active.header.base_lsn))
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

    /// Returns true, once a segment, if so much of the segment being written is taken at `end` that the next one's file
    /// should be made: whoever is told sees to it that [`prepare_spare`](Self::prepare_spare) is called soon.
    #[inline]
    pub fn tell_spare(&self, end: Lsn) -> bool {
        let at = &self.0.spare_at;
        end.0 >= at.load(Ordering::Relaxed) && at.swap(u64::MAX, Ordering::Relaxed) != u64::MAX
    }

    /// Returns true if so much of the segment being written is taken that the next one's file should be made.
    pub fn wants_spare(&self) -> bool {
        let at = self.0.spare_at.load(Ordering::Relaxed);
        at == u64::MAX || self.0.end.load(Ordering::Acquire) >= at
    }

    /// Makes one spare file of a whole segment's length, zeros and durable, if there is none, so that the next roll and what
    /// is appended after it need no space and sync fast. Returns true if it made one. To be called in the background: it
    /// writes a segment's worth of zeros, and holds no lock that appends wait for. Where syncs are far apart the space is
    /// only allocated: zeros would cost as much as what is written over them.
    ///
    /// # Errors
    /// [`NoSpace`](crate::ErrorKind::NoSpace) if there is none: nothing has changed. What else writing zeros met; the log goes
    /// on without the spare.
    pub fn prepare_spare(&self) -> Result<bool> {
        let inner = &*self.0;
        inner.check()?;
        let Some((number, path)) = inner.segments.lock().spare_to_make() else { return Ok(false) };
        let made = segment::make_spare(&inner.env, &path, inner.options.segment_bytes, inner.is_stream());
        inner.segments.lock().spare_made(number, made.is_ok());
        made.map(|()| true)
    }

    /// Returns why the log refuses writes, if it does.
    pub fn poisoned(&self) -> Option<Error> {
        self.0.check().err()
    }

    /// Returns how many segments were begun after the first; see [`LogStats::rolls`].
    pub fn rolls(&self) -> u64 {
        self.0.stats.rolls.load(Ordering::Relaxed)
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

    /// Refuses everything from now on, and returns once no write or sync is under way: the directory can be given back.
    /// What was not made durable before is lost or not, as after a crash.
    pub fn abandon(&self) {
        let inner = &*self.0;
        let _no_write = inner.io.lock();
        let _no_sync = inner.syncing.lock();
        let _no_drop = inner.segments.lock();
        inner.poison.lock().get_or_insert(Error::closed());
        inner.is_poisoned.store(true, Ordering::Release);
        inner.watch.notify();
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
        self.sync_for(Lsn(end), FlushCause::Close)?;
        inner.is_closed.store(true, Ordering::Release);
        inner.watch.notify();
        Ok(())
    }

    /// Returns true once the log will not grow any more: it was closed, or is poisoned. Takes no lock.
    pub(super) fn has_stopped(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire) || self.0.is_poisoned.load(Ordering::Acquire)
    }

    /// Returns the environment.
    pub(super) fn env(&self) -> &E {
        &self.0.env
    }
}

const _: () = assert!(DIRECT_BYTES > FRAME_BYTES && FrameKind::Data as u8 != 0);
