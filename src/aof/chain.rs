//! The segments of a log in order, as readers see them: [`Chain`], [`Span`] and where to begin.
//!
//! A cursor knows no files: it asks a [`Chain`] which segment holds a place, opens it, and reads. [`LogChain`] is the chain
//! of a log that is being written, all of it local. The store puts archived segments before the local ones by a chain of its
//! own, and a read-only open has one that looks at the directory.
//!
//! Called on any thread. Implementations lock for as long as a search takes, and never across reading frames.
//!
//! **Invariants**
//! - Spans are numbered without a gap, and each but the last ends where the next begins.
//! - What is visible only grows; what is truncated stays so.

use super::log::Log;
use super::names::segment_name;
use super::read::SegmentReader;
use super::segment::{Closed, Segments};
use super::types::{Find, Lsn};
use super::watch::Watch;
use crate::base::{Error, ErrorKind, Result};
use crate::env::Env;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a segment without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position in the chain, from 1.
    pub number: u64,
    /// Where its first frame begins.
    pub base_lsn: Lsn,
    /// Where the next segment begins; none while it is being written.
    pub end_lsn: Option<Lsn>,
    /// The first record number expected.
    pub base_id: u64,
    /// No later than its first frame's time, microseconds since 1970.
    pub base_ts: u64,
    /// This life of its file, or zeros if that is not known.
    pub salt: [u8; 16],
}

/// Which segment to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The oldest one.
    First,
    /// The one of this number.
    Number(u64),
    /// The last one that begins at or before this position, else the oldest.
    Lsn(Lsn),
    /// The last one whose first expected record is this one or before, else the oldest.
    Id(u64),
    /// The last one whose time begins before this, microseconds since 1970, else the oldest.
    Time(u64),
}

impl At {
    /// Returns the index of the segment among `count` spans, oldest first, that `span` hands out.
    pub fn index_in(self, count: usize, span: impl Fn(usize) -> Span) -> Option<usize> {
        let last_with = |holds: &dyn Fn(&Span) -> bool| {
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = low + (high - low) / 2;
                if holds(&span(middle)) { low = middle + 1 } else { high = middle }
            }
            (count > 0).then(|| low.saturating_sub(1))
        };
        match self {
            At::First => (count > 0).then_some(0),
            At::Number(number) => last_with(&|span| span.number <= number).filter(|at| span(*at).number == number),
            At::Lsn(lsn) => last_with(&|span| span.base_lsn <= lsn),
            At::Id(id) => last_with(&|span| span.base_id <= id),
            At::Time(ts) => last_with(&|span| span.base_ts < ts),
        }
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Those that survive a power loss. What was read is never taken back.
    #[default]
    Durable,
    /// Those that the operating system has: they survive the process, and a power loss may take them back.
    Written,
}

/// Where a log begins for its readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First {
    /// Where the oldest kept segment begins.
    pub lsn: Lsn,
    /// The oldest record kept; older ones in the oldest segment are not shown.
    pub id: u64,
}

/// What became of waiting for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is more.
    More,
    /// There will never be more: the log was closed.
    Closed,
    /// The time ran out.
    TimedOut,
}

/// The segments of a log, wherever they are.
pub trait Chain<E: Env>: Send + Sync + 'static {
    /// Returns where the log begins now.
    ///
    /// # Errors
    /// A chain that has to look at a directory may fail to.
    fn first(&self) -> Result<First>;

    /// Returns up to where can be read now: the end of a frame.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    fn visible(&self, visibility: Visibility) -> Result<Lsn>;

    /// Returns the segment at `at`, or none if there is none.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    fn locate(&self, at: At) -> Result<Option<Span>>;

    /// Opens a segment for reading; it stays readable while the reader is held, whatever is truncated.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it is no longer there; what reading its header met.
    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>>;

    /// Returns where to begin reading to find `at` in the segment being written: a frame at or before it. None if that is
    /// not known; the segment is read from its start then.
    fn hint(&self, _at: At) -> Option<Lsn> {
        None
    }

    /// Returns true if the file behind `reader` still is that segment. Asked after a bad frame, where another process may
    /// have written over it.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    fn is_current(&self, _reader: &SegmentReader<E>) -> Result<bool> {
        Ok(true)
    }

    /// Returns true if another process writes the log, which may move or drop a segment between two looks. What such a look
    /// meets counts only if the next one meets it too.
    fn is_foreign(&self) -> bool {
        false
    }

    /// Returns true if there may be more later, false once the log was closed.
    ///
    /// # Errors
    /// What broke the log, which will not grow any more.
    fn is_open(&self) -> Result<bool>;

    /// Blocks until more than `seen` is visible, at most for `timeout`.
    ///
    /// # Errors
    /// As [`is_open`](Self::is_open).
    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited>;

    /// Returns what wakes tasks that wait for more, if there is such a thing.
    fn watch(&self) -> Option<&Watch<E>> {
        None
    }
}

/// The local segments of a log that is being written.
pub struct LogChain<E: Env>(pub Log<E>);

impl<E: Env> Chain<E> for LogChain<E> {
    fn first(&self) -> Result<First> {
        let first = self.0.locate(At::First);
        Ok(first.map_or(First::default(), |span| First { lsn: span.base_lsn, id: span.base_id }))
    }

    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        Ok(match visibility {
            Visibility::Durable if self.0.env().planted("aof_reader_past_durable") => self.0.written(),
            Visibility::Durable => self.0.durable(),
            Visibility::Written => self.0.written(),
        })
    }

    fn locate(&self, at: At) -> Result<Option<Span>> {
        Ok(self.0.locate(at))
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        self.0.open_segment(span.number)
    }

    fn hint(&self, at: At) -> Option<Lsn> {
        match at {
            At::Id(id) => self.0.find(Find::Id(id)),
            At::Time(ts) => self.0.find(Find::Time(ts)),
            At::Lsn(lsn) => self.0.find(Find::Lsn(lsn)),
            At::First | At::Number(_) => None,
        }
    }

    fn is_open(&self) -> Result<bool> {
        let Some(error) = self.0.poisoned() else { return Ok(!self.0.has_stopped()) };
        // A log that its last handle has left is closed for its readers, not broken.
        if *error.kind() == ErrorKind::Closed { Ok(false) } else { Err(error) }
    }

    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        let log = &self.0;
        let is_more = || match visibility {
            Visibility::Durable => log.durable() > seen,
            Visibility::Written => log.written() > seen,
        };
        let done = log.watch().wait(log.env(), timeout, || is_more() || log.has_stopped());
        match done {
            false => Ok(Waited::TimedOut),
            // The last flush may have come with the end.
            true if is_more() => Ok(Waited::More),
            true => self.is_open().map(|is_open| if is_open { Waited::More } else { Waited::Closed }),
        }
    }

    fn watch(&self) -> Option<&Watch<E>> {
        Some(self.0.watch())
    }
}

impl Closed {
    fn span(&self) -> Span {
        Span {
            number: self.number,
            base_lsn: Lsn(self.base_lsn),
            end_lsn: Some(Lsn(self.end_lsn)),
            base_id: self.header.base_id,
            base_ts: self.header.base_ts,
            salt: self.header.salt,
        }
    }
}

impl<E: Env> Segments<E> {
    /// Returns the segment at `at`.
    pub(super) fn locate(&self, at: At) -> Option<Span> {
        let closed = self.closed.len();
        // While a roll is under way the last closed segment is still the active one.
        let is_new = |number: u64| self.closed.back().is_none_or(|last| last.number < number);
        let active = self.active.filter(|active| is_new(active.segment_no)).map(|active| Span {
            number: active.segment_no,
            base_lsn: Lsn(active.base_lsn),
            end_lsn: None,
            base_id: active.base_id,
            base_ts: active.base_ts,
            salt: active.salt,
        });
        let span = |index: usize| match (self.closed.get(index), active) {
            (Some(closed), _) => closed.span(),
            (None, Some(active)) => active,
            (None, None) => unreachable!("the index is below the count"),
        };
        at.index_in(closed + usize::from(active.is_some()), span).map(span)
    }

    /// Opens segment `number` for reading, or returns the reader that exists.
    ///
    /// Under the lock of the segments, so that the file cannot be dropped before it is open.
    pub(super) fn open_reader(&mut self, number: u64) -> Result<Arc<SegmentReader<E>>> {
        let Some(span) = self.locate(At::Number(number)) else {
            return Err(Error::not_found(format_args!("segment {number} of {} is gone", self.dir.display())));
        };
        let existing = self.readers.get(&number).and_then(std::sync::Weak::upgrade);
        let reader = match existing {
            Some(reader) => reader,
            None => {
                let opened = SegmentReader::open_local(&self.env, &self.dir, number, span.end_lsn, self.keys.as_ref());
                let reader = Arc::new(opened.map_err(|error| match error.kind() {
                    // Under the lock nobody can have dropped it.
                    ErrorKind::NotFound => Error::corruption(
                        &self.dir.join(segment_name(number)),
                        0,
                        "the segment is missing: somebody has removed it",
                    ),
                    _ => error,
                })?);
                self.readers.retain(|_, reader| reader.strong_count() > 0);
                self.readers.insert(number, Arc::downgrade(&reader));
                reader
            }
        };
        if let Some(end) = span.end_lsn {
            reader.seal(end);
        }
        Ok(reader)
    }

    /// Returns true if a dropped segment's file may be written over: nobody reads it (R11).
    pub(super) fn may_recycle(&mut self, number: u64) -> bool {
        let read = self.readers.remove(&number).is_some_and(|reader| reader.strong_count() > 0);
        !read || self.env.planted("aof_recycle_under_reader")
    }
}
