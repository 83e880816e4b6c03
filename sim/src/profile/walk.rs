//! A walk through an iterator: forwards, backwards, from both ends, or as a cursor, and what was seen on it.
//!
//! Called by the clients of databases. It judges what can be judged on the spot: entries that somebody wrote, a cursor that stands
//! where it may, an iterator that is over after an error.

use super::database::Database;
use super::engine::case::{Scan, Walk};
use super::engine::value::{KeyId, Keys, Stamp, StepId};
use super::shared::Shared;
use crate::SimEnv;
use crate::check::history::Sight;
use aidb::env::Env;
use aidb::lsm::DbIterator;
use std::ops::Bound;
use std::time::Duration;

/// Returns the bytes of `key`, or something behind the last key.
fn bound(keys: &Keys, key: KeyId) -> &[u8] {
    if key < keys.count() { keys.bytes(key) } else { &[0xff; 64] }
}

/// Returns the keys of `range` as the engine is asked for them: without a bound where there is no key behind it.
pub(super) fn bounds(keys: &Keys, range: (KeyId, KeyId)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let start = if range.0 == 0 { Bound::Unbounded } else { Bound::Included(bound(keys, range.0)) };
    let end = if range.1 == keys.count() { Bound::Unbounded } else { Bound::Excluded(bound(keys, range.1)) };
    (start, end)
}

/// One walk through an iterator.
pub(super) struct Walker<'a, S: Database> {
    env: &'a SimEnv,
    shared: &'a Shared<S>,
    id: StepId,
    scan: &'a Scan,
    range: (KeyId, KeyId),
    entries: u16,
}

/// What an end of an iterator gave.
enum Got {
    Entry(KeyId, Stamp),
    End,
    Error,
}

impl<'a, S: Database> Walker<'a, S> {
    /// Makes the walk of step `id` through the keys of `range`.
    pub(super) fn new(
        env: &'a SimEnv,
        shared: &'a Shared<S>,
        id: StepId,
        scan: &'a Scan,
        range: (KeyId, KeyId),
    ) -> Walker<'a, S> {
        Walker { env, shared, id, scan, range, entries: 0 }
    }

    /// Walks; returns what was seen of which keys.
    pub(super) fn walk(mut self, mut iterator: DbIterator) -> Vec<Sight> {
        let (start, end) = self.range;
        if let Walk::Cursor { seek, moves } = self.scan.walk {
            return self.cursor(iterator, seek, moves);
        }
        // What was seen from each end: up to where, and the entries.
        let mut front = (start, Vec::new());
        let mut back = (end, Vec::new());
        let mut forward = self.scan.walk != Walk::Backward;
        while self.entries < self.scan.limit {
            match self.next(&mut iterator, forward) {
                Got::Entry(key, stamp) if forward => {
                    front.1.push((key, stamp));
                    front.0 = key.saturating_add(1);
                }
                Got::Entry(key, stamp) => {
                    back.1.push((key, stamp));
                    back.0 = key;
                }
                Got::End => {
                    // Both ends have met: everything between them is absent.
                    front.1.extend(back.1.into_iter().rev());
                    return vec![Sight { start, end, found: front.1 }];
                }
                Got::Error => break,
            }
            forward ^= self.scan.walk == Walk::Inward;
        }
        back.1.reverse();
        let sights = [Sight { start, end: front.0, found: front.1 }, Sight { start: back.0, end, found: back.1 }];
        sights.into_iter().filter(|sight| sight.start < sight.end || !sight.found.is_empty()).collect()
    }

    fn next(&mut self, iterator: &mut DbIterator, forward: bool) -> Got {
        if self.entries == 1 && self.scan.pause_us > 0 {
            self.env.sleep(Duration::from_micros(self.scan.pause_us.into()));
        }
        self.entries += 1;
        match if forward { iterator.next() } else { iterator.next_back() } {
            None => Got::End,
            Some(Ok(entry)) => match self.shared.entry(self.id, &entry.key, &entry.value) {
                Some((key, stamp)) => Got::Entry(key, stamp),
                None => Got::Error,
            },
            Some(Err(error)) => {
                self.shared.complain(|| format!("iterator in step {}", self.id), &error);
                let more = (0..3).any(|at| {
                    let next = if (at % 2 == 0) == forward { iterator.next() } else { iterator.next_back() };
                    matches!(next, Some(Ok(_)))
                });
                if more {
                    let message = format!("step {}: the iterator goes on after: {error}", self.id);
                    self.shared.fail("iterator-after-error", message);
                }
                Got::Error
            }
        }
    }

    fn cursor(self, iterator: DbIterator, seek: KeyId, moves: u64) -> Vec<Sight> {
        let shared = self.shared;
        let (start, end) = self.range;
        let mut sights = Vec::new();
        let walked = (|| -> aidb::Result<()> {
            let mut cursor = iterator.into_cursor()?;
            let seek = seek.clamp(start, end.max(start));
            let backward = moves & 1 == 1;
            if seek >= shared.keys().count() {
                return Ok(());
            }
            let key = shared.keys().bytes(seek);
            if backward {
                cursor.seek_for_prev(key)?
            } else {
                cursor.seek(key)?
            }
            // The keys from `low` to below `high` were passed over since the last entry.
            let (mut low, mut high) = if backward { (start, (seek + 1).min(end)) } else { (seek, end) };
            let mut back = backward;
            for at in 1..=self.scan.limit.min(40) {
                if !cursor.valid() {
                    sights.push(Sight { start: low, end: high.max(low), found: Vec::new() });
                    return Ok(());
                }
                let Some((key, stamp)) = shared.entry(self.id, cursor.key(), cursor.value()) else { return Ok(()) };
                let (from, to) = if back { (key, high) } else { (low, key.saturating_add(1)) };
                if from < to {
                    sights.push(Sight { start: from, end: to, found: vec![(key, stamp)] });
                } else {
                    shared.fail(
                        "cursor",
                        format!("step {}: the cursor stands on key {key}, outside {low}..{high}", self.id),
                    );
                    return Ok(());
                }
                if at == 1 && self.scan.pause_us > 0 {
                    self.env.sleep(Duration::from_micros(self.scan.pause_us.into()));
                }
                back = moves >> at & 1 == 1;
                (low, high) = if back { (start, key) } else { (key + 1, end) };
                if back { cursor.prev()? } else { cursor.next()? }
            }
            Ok(())
        })();
        if let Err(error) = walked {
            shared.complain(|| format!("cursor in step {}", self.id), &error);
        }
        sights
    }
}
