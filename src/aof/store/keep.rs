//! What is kept: truncation, pins and retention. All of them move one number up, the *first id*, the oldest record shown.
//!
//! Called by users on any thread and by the background thread. The first id is committed to the manifest, then whole
//! segments before it are dropped; the rest of the segment it lies in stays on the disk and is not shown.
//!
//! **Invariants**
//! - The first id only grows, and is never above the lowest pin or the id after the last durable record.
//! - It is durable before a file goes: what was once shown as gone stays gone.
//! - Ages are counted by the log's own times, `now = max(wall clock, time of the last record)`: neither a clock that steps back nor
//!   one that stands still drops early, and what is gone does not come back.
//!
//! A local file is unlinked under a cursor that stands in it, which goes on reading (rule R11); objects in the archive wait for
//! cursors.

use super::super::AofError;
use super::super::manifest::{Edit, SegmentEntry};
use super::config::Retention;
use super::{Aof, Shared};
use crate::base::{Error, ErrorKind, Result};
use crate::env::Env;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Most pins, and most bytes of a pin's name.
const PINS_MAX: usize = 1024;
const PIN_NAME_BYTES_MAX: usize = 256;

impl<E: Env> Aof<E> {
    /// Returns the id of the oldest record that is shown; the next id, if there is none.
    pub fn first_id(&self) -> u64 {
        // A truncation is in force for cursors once the manifest holds it.
        let committed = self.shared.manifest.with(|state| state.first_id);
        self.shared.first_id.load(Ordering::Acquire).max(committed)
    }

    /// Forgets the records before `id`, as far as pins allow, and returns the id of the oldest record now.
    ///
    /// Space is given back in whole segments. An `id` below the oldest record changes nothing.
    ///
    /// # Errors
    /// [`AofError::NotYet`] if `id` is above the next one; what the manifest or the directory met.
    ///
    /// # Durability
    /// The records stay gone after a power loss once this returned.
    pub fn truncate_before(&self, id: u64) -> Result<u64> {
        self.shared.tell()?;
        let (end, next) = self.shared.log.position();
        if id > next {
            return Err(AofError::NotYet { id, next }.into());
        }
        if id > self.shared.durable_id() {
            // The first id must not be above what a power loss leaves.
            self.shared.log.sync_to(end)?;
        }
        self.shared.advance_first(id)
    }

    /// Changes the retention; the background thread applies it from now on. It is not stored.
    ///
    /// # Errors
    /// As [`Retention::validate`].
    pub fn retain(&self, retention: Retention) -> Result<()> {
        retention.validate()?;
        self.shared.keeping.lock().retention = retention;
        self.shared.background.kick();
        Ok(())
    }

    /// Keeps the records from `id` on until [`unpin`](Self::unpin), whatever truncation and retention say. A pin of
    /// the same name moves, in either direction.
    ///
    /// # Errors
    /// [`AofError::Truncated`] or [`AofError::NotYet`] for an `id` that is not between the oldest record and the next one;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a name of over 256 bytes or the 1,025th pin; what the manifest met.
    ///
    /// # Durability
    /// The pin survives a power loss once this returned.
    pub fn pin(&self, name: &str, id: u64) -> Result<()> {
        let shared = &self.shared;
        let mut keeping = shared.keeping.lock();
        if name.is_empty() || name.len() > PIN_NAME_BYTES_MAX {
            let what = format_args!("name of a pin with {} bytes, 1 to {PIN_NAME_BYTES_MAX}", name.len());
            return Err(Error::invalid_argument(what));
        }
        if keeping.pins.len() >= PINS_MAX && !keeping.pins.contains_key(name) {
            return Err(Error::invalid_argument(format_args!("there are {PINS_MAX} pins, the limit; unpin one first")));
        }
        let (first, next) = (shared.first_id.load(Ordering::Acquire), shared.log.next_id());
        if id < first {
            return Err(AofError::Truncated { id, first }.into());
        }
        if id > next {
            return Err(AofError::NotYet { id, next }.into());
        }
        shared.commit(Edit::Pin { name: name.into(), id })?;
        keeping.pins.insert(name.into(), id);
        Ok(())
    }

    /// Takes a pin away; returns whether there was one.
    ///
    /// # Errors
    /// What the manifest met; the pin stays then.
    pub fn unpin(&self, name: &str) -> Result<bool> {
        let mut keeping = self.shared.keeping.lock();
        if !keeping.pins.contains_key(name) {
            return Ok(false);
        }
        self.shared.commit(Edit::Unpin { name: name.into() })?;
        keeping.pins.remove(name);
        drop(keeping);
        self.shared.background.kick();
        Ok(true)
    }

    /// Returns all pins by name.
    pub fn pins(&self) -> BTreeMap<String, u64> {
        self.shared.keeping.lock().pins.clone()
    }
}

/// What decides on keeping.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    pub(super) pins: BTreeMap<String, u64>,
    pub(super) retention: Retention,
}

impl<E: Env> Shared<E> {
    /// Moves the first id up to `id`, as far as pins allow, drops what lies before it, and returns it.
    fn advance_first(&self, id: u64) -> Result<u64> {
        let keeping = self.keeping.lock();
        self.advance_first_with(&keeping, id)
    }

    fn advance_first_with(&self, keeping: &Keeping, id: u64) -> Result<u64> {
        let bound = keeping.pins.values().copied().min().unwrap_or(u64::MAX);
        let bound = if self.env.planted("aof_truncate_ignores_pins") { u64::MAX } else { bound };
        let (to, first) = (id.min(bound), self.first_id.load(Ordering::Acquire));
        if to <= first {
            return Ok(first);
        }
        assert!(to <= self.durable_id(), "only durable records are forgotten");
        if !self.env.planted("aof_truncation_not_persisted") {
            self.commit(Edit::FirstId(to))?;
        }
        self.first_id.store(to, Ordering::Release);
        self.drop_local(to)?;
        // Objects in the archive are the background's.
        self.background.kick();
        Ok(to)
    }

    /// Drops the local segments that end before record `first`.
    pub(super) fn drop_local(&self, first: u64) -> Result<()> {
        let segments = self.log.segments();
        let needed = segments.iter().rev().find(|segment| segment.base_id <= first);
        match needed {
            Some(needed) => {
                self.readers.release_before(needed.base_lsn);
                self.log.truncate_before(needed.base_lsn)
            }
            None => Ok(()),
        }
    }

    /// Applies the retention.
    pub(super) fn retain_once(&self) -> Result<()> {
        let keeping = self.keeping.lock();
        let Retention { age, bytes } = keeping.retention;
        if age.is_none() && bytes.is_none() {
            return Ok(());
        }
        let mut segments = self.entries();
        let mut keep_from = 0;
        if let Some(age) = age {
            let last_ts = self.log.last_ts();
            let wall = self.env.wall().0;
            let now = if self.env.planted("aof_ttl_uses_wall_only") { wall } else { wall.max(last_ts) };
            let oldest = now.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
            if last_ts < oldest && segments.last().is_some_and(|active| active.records > 0) {
                segments = self.seal_expired(segments)?;
            }
            keep_from = keep_from.max(expired(&segments, oldest));
        }
        if let Some(bytes) = bytes {
            keep_from = keep_from.max(beyond(&segments, self.log.durable().0, bytes));
        }
        self.env.reached(if keep_from > self.first_id.load(Ordering::Acquire) {
            "aof.expired"
        } else {
            "aof.retained"
        });
        self.advance_first_with(&keeping, keep_from).map(|_| ())
    }

    /// Ends the segment being written, all of whose records have expired.
    fn seal_expired(&self, segments: Vec<SegmentEntry>) -> Result<Vec<SegmentEntry>> {
        match self.log.seal() {
            // Space that is given back by older segments may do.
            Err(error) if *error.kind() == ErrorKind::NoSpace && self.log.poisoned().is_none() => Ok(segments),
            sealed => sealed.map(|_| self.entries()),
        }
    }
}

/// Returns the first id of the oldest segment that may hold a record of time `oldest` or later.
fn expired(segments: &[SegmentEntry], oldest: u64) -> u64 {
    // A segment's times are no later than the next one's base time.
    let kept = segments.windows(2).find(|pair| pair[1].base_ts >= oldest);
    let kept = kept.map(|pair| &pair[0]).or(segments.last());
    kept.map_or(0, |segment| segment.base_id)
}

/// Returns the first id of the oldest segment that is needed to keep `bytes` of a log that is durable up to `end`.
fn beyond(segments: &[SegmentEntry], end: u64, bytes: u64) -> u64 {
    let kept = segments.iter().rev().find(|segment| end - segment.base_lsn.0.min(end) >= bytes).or(segments.first());
    kept.map_or(0, |segment| segment.base_id)
}
