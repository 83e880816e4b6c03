//! A client: runs its steps against the open engine and notes what it asked for and was told.
//!
//! Runs in a fiber of its own. It judges nothing but what can be judged on the spot (whole values, known keys, an iterator that
//! goes on after an error); the rest is for the checkers.

use super::case::{Op, Scan, Walk, Write};
use super::shared::Shared;
use super::twin::Opened;
use super::value::{KeyId, Stamp, StepId, encode};
use crate::SimEnv;
use crate::check::history::{Promise, Sight};
use aidb::env::Env;
use aidb::lsm::{DbIterator, Durability, Engine, Snapshot, WriteOptions};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

/// One client of one opening of the database.
pub(super) struct Client {
    pub(super) env: SimEnv,
    pub(super) opened: Opened,
    pub(super) shared: Shared,
    pub(super) number: usize,
    snapshot: Option<(Snapshot<SimEnv>, usize)>,
}

fn promise(durability: Durability) -> Promise {
    match durability {
        Durability::Buffered => Promise::None,
        Durability::Os => Promise::Process,
        Durability::Sync => Promise::Power,
    }
}

impl Client {
    pub(super) fn new(env: SimEnv, opened: Opened, shared: Shared, number: usize) -> Client {
        Client { env, opened, shared, number, snapshot: None }
    }

    /// Runs the client's steps of the current segment that were not begun yet.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        shared.each_step(self.number, |id, op| self.step(id, op));
    }

    fn step(&mut self, id: StepId, op: &Op) {
        match op {
            Op::Write { writes, level } => self.write(id, writes, level.durability()),
            Op::Get { key, snapshot } => self.get(id, *key, *snapshot),
            Op::Scan { scan, snapshot } => self.scan(id, scan, *snapshot),
            Op::Snapshot => {
                self.snapshot = None;
                let called = self.shared.tick();
                let snapshot = self.opened.engine.snapshot();
                let view = self.shared.view(id, called, Some(snapshot.seq().0));
                self.snapshot = Some((snapshot, view));
            }
            Op::Release => self.snapshot = None,
            Op::Flush => self.safe_point(id, "flush", Durability::Sync, |engine| engine.flush()),
            Op::Compact => {
                self.safe_point(id, "force_compaction", Durability::Buffered, |engine| engine.force_compaction())
            }
            Op::Persist { level } => {
                let durability = level.durability();
                self.safe_point(id, "persist", durability, |engine| engine.persist(durability));
            }
            Op::Verify => match self.opened.engine.validate_integrity() {
                Ok(report) => {
                    for problem in &report.problems {
                        self.shared.complain(|| format!("validate_integrity in step {id}"), problem);
                    }
                }
                Err(error) => self.shared.complain(|| format!("validate_integrity in step {id}"), &error),
            },
            Op::Sleep { us } => self.env.sleep(Duration::from_micros((*us).into())),
        }
    }

    fn write(&mut self, id: StepId, writes: &[Write], durability: Durability) {
        let mut last: BTreeMap<KeyId, Option<Stamp>> = BTreeMap::new();
        let stamp = |write: &Write| write.bytes.map(|bytes| Stamp { step: id, bytes });
        let (batch, operations) = self.opened.batch(writes.iter().map(|write| {
            let value = stamp(write).map(|stamp| encode(write.key, stamp));
            (self.shared.keys().bytes(write.key), value)
        }));
        last.extend(writes.iter().map(|write| (write.key, stamp(write))));
        let index = self.shared.commit_called(id, last.into_iter().collect(), operations, promise(durability));
        match self.opened.engine.write_opt(batch, WriteOptions { durability: Some(durability) }) {
            Ok(info) => self.shared.commit_acknowledged(index, info.seq.0),
            Err(error) => {
                self.shared.complain(|| format!("write in step {id}"), &error);
                self.shared.commit_failed(index, &error);
            }
        }
    }

    fn safe_point(
        &mut self,
        id: StepId,
        name: &str,
        durability: Durability,
        call: impl FnOnce(&Engine<SimEnv>) -> aidb::Result<()>,
    ) {
        let called = self.shared.tick();
        match call(&self.opened.engine) {
            Ok(()) => self.shared.with(|state| state.history.persists.push((called, promise(durability)))),
            Err(error) => {
                self.shared.complain(|| format!("{name} in step {id}"), &error);
                self.shared.in_trouble();
            }
        }
    }

    fn get(&mut self, id: StepId, key: KeyId, snapshot: bool) {
        let bytes = self.shared.keys().bytes(key);
        let called = self.shared.tick();
        let (result, view) = match &self.snapshot {
            Some((snapshot_held, view)) if snapshot => {
                (self.opened.view(id, snapshot_held).and_then(|of| of.get(bytes)), Some(*view))
            }
            _ => (self.opened.get(id, bytes), None),
        };
        match result {
            Ok(value) => {
                let mut found = Vec::new();
                if let Some(value) = value {
                    let Some(entry) = self.shared.entry(id, bytes, &value) else { return };
                    found.push(entry);
                }
                let view = view.unwrap_or_else(|| self.shared.view(id, called, None));
                self.shared.saw(view, [Sight { start: key, end: key + 1, found }]);
            }
            Err(error) => self.shared.complain(|| format!("get in step {id}"), &error),
        }
    }

    fn scan(&mut self, id: StepId, scan: &Scan, snapshot: bool) {
        let shared = self.shared.clone();
        let keys = shared.keys();
        let mut range = (scan.start.min(keys.count()), scan.end.min(keys.count()));
        let held = self.snapshot.as_ref().filter(|_| snapshot);
        let called = shared.tick();
        let iterator = match scan.prefix {
            Some(bytes) if range.0 < keys.count() => {
                let key = keys.bytes(range.0);
                let prefix = &key[..key.len().min(bytes.into())];
                range = keys.with_prefix(prefix);
                self.opened.prefix(id, held.map(|(snapshot, _)| snapshot), prefix)
            }
            _ => {
                if range.0 > range.1 {
                    return;
                }
                let start = if range.0 == 0 { Bound::Unbounded } else { Bound::Included(bound(keys, range.0)) };
                let end =
                    if range.1 == keys.count() { Bound::Unbounded } else { Bound::Excluded(bound(keys, range.1)) };
                self.opened.range(id, held.map(|(snapshot, _)| snapshot), (start, end))
            }
        };
        let view = held.map_or_else(|| shared.view(id, called, None), |(_, view)| *view);
        let walker = Walker { client: self, id, scan, range, entries: 0 };
        let sights = walker.walk(iterator);
        shared.saw(view, sights);
    }
}

/// Returns the bytes of `key`, or something behind the last key.
fn bound(keys: &super::value::Keys, key: KeyId) -> &[u8] {
    if key < keys.count() { keys.bytes(key) } else { &[0xff; 64] }
}

/// One walk through an iterator.
struct Walker<'a> {
    client: &'a Client,
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

impl Walker<'_> {
    fn walk(mut self, mut iterator: DbIterator) -> Vec<Sight> {
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
            self.client.env.sleep(Duration::from_micros(self.scan.pause_us.into()));
        }
        self.entries += 1;
        match if forward { iterator.next() } else { iterator.next_back() } {
            None => Got::End,
            Some(Ok(entry)) => match self.client.shared.entry(self.id, &entry.key, &entry.value) {
                Some((key, stamp)) => Got::Entry(key, stamp),
                None => Got::Error,
            },
            Some(Err(error)) => {
                self.client.shared.complain(|| format!("iterator in step {}", self.id), &error);
                let more = (0..3).any(|at| {
                    let next = if (at % 2 == 0) == forward { iterator.next() } else { iterator.next_back() };
                    matches!(next, Some(Ok(_)))
                });
                if more {
                    let message = format!("step {}: the iterator goes on after: {error}", self.id);
                    self.client.shared.fail("iterator-after-error", message);
                }
                Got::Error
            }
        }
    }

    fn cursor(self, iterator: DbIterator, seek: KeyId, moves: u64) -> Vec<Sight> {
        let shared = &self.client.shared;
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
                    self.client.env.sleep(Duration::from_micros(self.scan.pause_us.into()));
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
