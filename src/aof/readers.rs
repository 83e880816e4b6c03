//! Who reads: [`Readers`] counts cursors, keeps recently read segments open, and hands out both.
//!
//! A chain over another chain: cursors open segments through it and find those that were read lately, with their indexes.
//! Any thread; its lock is held for a look into a small table, and while a segment is opened.
//!
//! **Invariants**
//! - At most `cursors_max` cursors exist.
//! - A segment that a cursor stands in (a pin) is never closed. So at most `segments_max` segments are open, or as many as
//!   there are cursors if that is more.
//! - An idle segment is closed before it is truncated, so that its file can be used again.

use super::chain::{At, Chain, First, Span, Visibility, Waited};
use super::cursor::{self, Cursor, From, Record};
use super::error::AofError;
use super::read::SegmentReader;
use super::types::Lsn;
use super::watch::Watch;
use crate::base::Result;
use crate::env::{Env, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How readers fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// Cursors at the moment.
    pub cursors: usize,
    /// Segments open at the moment.
    pub segments: usize,
    /// Segments that were open when they were asked for.
    pub hits: u64,
    /// Segments that had to be opened.
    pub misses: u64,
}

/// An open segment and when it was asked for last.
struct Entry<E: Env> {
    reader: Arc<SegmentReader<E>>,
    used: u64,
}

struct Table<E: Env> {
    entries: BTreeMap<u64, Entry<E>>,
    clock: u64,
}

/// The right to be a cursor, given back when dropped.
#[derive(Debug)]
pub(super) struct Pass(Arc<AtomicUsize>);

impl Drop for Pass {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a pass is given back once");
    }
}

/// The readers of one log.
pub struct Readers<E: Env> {
    chain: Arc<dyn Chain<E>>,
    table: Mutex<E, Table<E>>,
    segments_max: usize,
    cursors: Arc<AtomicUsize>,
    cursors_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<E: Env> Readers<E> {
    /// Reads `chain` with at most `cursors_max` cursors, keeping up to `segments_max` segments open.
    pub fn new(chain: Arc<dyn Chain<E>>, segments_max: usize, cursors_max: usize) -> Arc<Readers<E>> {
        Arc::new(Readers {
            chain,
            table: Mutex::<E, _>::new(Table { entries: BTreeMap::new(), clock: 0 }),
            segments_max,
            cursors: Arc::default(),
            cursors_max,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Returns a cursor.
    ///
    /// # Errors
    /// [`AofError::ReaderLimitExceeded`].
    pub fn cursor(self: &Arc<Self>, from: From) -> Result<Cursor<E>> {
        let limit = self.cursors_max;
        let entered = self
            .cursors
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < limit).then_some(count + 1));
        if entered.is_err() {
            return Err(AofError::ReaderLimitExceeded { limit }.into());
        }
        Ok(Cursor::new(self.clone(), from).with_pass(Pass(self.cursors.clone())))
    }

    /// Returns the record `id`.
    ///
    /// # Errors
    /// [`AofError::Truncated`], [`AofError::NotYet`]; what reading met.
    pub fn read(self: &Arc<Self>, id: u64) -> Result<Record> {
        let chain: Arc<dyn Chain<E>> = self.clone();
        cursor::read_one(&chain, id)
    }

    /// Closes segments that end at or before `lsn` and that no cursor stands in; to be called before they are truncated.
    pub fn release_before(&self, lsn: Lsn) {
        let mut table = self.table.lock();
        let is_kept = |reader: &Arc<SegmentReader<E>>| {
            Arc::strong_count(reader) > 1 || reader.end_lsn().is_none_or(|end| end > lsn)
        };
        table.entries.retain(|_, entry| is_kept(&entry.reader));
    }

    /// Returns the counters.
    pub fn stats(&self) -> ReaderStats {
        ReaderStats {
            cursors: self.cursors.load(Ordering::Acquire),
            segments: self.table.lock().entries.len(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

impl<E: Env> Table<E> {
    fn get(&mut self, number: u64) -> Option<Arc<SegmentReader<E>>> {
        self.clock += 1;
        let entry = self.entries.get_mut(&number)?;
        entry.used = self.clock;
        Some(entry.reader.clone())
    }

    fn put(&mut self, number: u64, reader: Arc<SegmentReader<E>>, segments_max: usize) {
        self.clock += 1;
        self.entries.insert(number, Entry { reader, used: self.clock });
        while self.entries.len() > segments_max {
            let idle = self.entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.reader) == 1);
            let Some(oldest) = idle.min_by_key(|(_, entry)| entry.used).map(|(number, _)| *number) else { break };
            self.entries.remove(&oldest);
        }
    }
}

impl<E: Env> Chain<E> for Readers<E> {
    fn first(&self) -> Result<First> {
        self.chain.first()
    }

    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        self.chain.visible(visibility)
    }

    fn locate(&self, at: At) -> Result<Option<Span>> {
        self.chain.locate(at)
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        let known = self.table.lock().get(span.number).filter(|reader| reader.is_of(span));
        // The span of an archived segment does not tell whether the file that was opened before it left the disk still is it.
        let known = match known {
            Some(reader) if span.salt == [0; 16] && !self.chain.is_current(&reader)? => None,
            known => known,
        };
        let reader = match known {
            Some(reader) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                reader
            }
            None => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                let reader = self.chain.open(span)?;
                self.table.lock().put(span.number, reader.clone(), self.segments_max);
                reader
            }
        };
        if let Some(end) = span.end_lsn {
            reader.seal(end);
        }
        Ok(reader)
    }

    fn hint(&self, at: At) -> Option<Lsn> {
        self.chain.hint(at)
    }

    fn is_current(&self, reader: &SegmentReader<E>) -> Result<bool> {
        self.chain.is_current(reader)
    }

    fn is_foreign(&self) -> bool {
        self.chain.is_foreign()
    }

    fn is_open(&self) -> Result<bool> {
        self.chain.is_open()
    }

    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        self.chain.wait(seen, visibility, timeout)
    }

    fn watch(&self) -> Option<&Watch<E>> {
        self.chain.watch()
    }
}

impl<E: Env> std::fmt::Debug for Readers<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Readers({:?})", self.stats())
    }
}
