//! A client: runs its steps against the open engine and notes what it asked for and was told.
//!
//! Runs in a fiber of its own. It judges nothing but what can be judged on the spot (whole values, known keys, an iterator that
//! goes on after an error); the rest is for the checkers.

use super::case::{Op, Scan, Write};
use super::shared::Shared;
use super::twin::{Change, Opened};
use super::value::{KeyId, Stamp, StepId, encode};
use super::{copies, look};
use crate::SimEnv;
use crate::check::history::{Promise, Sight};
use crate::env::wall_seen;
use crate::profile::walk::{Walker, bounds};
use aidb::env::Env;
use aidb::lsm::{Durability, Engine, Snapshot, WriteOptions};
use std::collections::BTreeMap;
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
        wall_seen(self.opened.engine.clock());
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
            Op::Verify => self.shared.verify(&self.opened.engine, &format!("in step {id}")),
            Op::Checkpoint => copies::checkpoint(&self.opened.engine, &self.shared, id),
            Op::Backup => copies::backup(&self.env, &self.opened.engine, &self.shared, id),
            Op::Look => look::look(&self.env, &self.shared, id),
            Op::Sleep { us } => self.env.sleep(Duration::from_micros((*us).into())),
        }
    }

    fn write(&mut self, id: StepId, writes: &[Write], durability: Durability) {
        let mut last: BTreeMap<KeyId, Option<Stamp>> = BTreeMap::new();
        let keys = self.shared.keys();
        let (batch, operations) = self.opened.batch(writes.iter().map(|write| {
            if let Some(until) = write.until {
                let until = until.min(keys.count());
                last.extend((write.key..until).map(|key| (key, None)));
                return Change::DeleteRange(bounds(keys, (write.key, until)));
            }
            let before = last.get(&write.key).copied();
            // Two operands that lie upon whatever was there before are more than the history can say.
            let merge = write.merge && !before.flatten().is_some_and(Stamp::is_operand);
            let stamp = |bytes| if merge { Stamp::operand(id, bytes) } else { Stamp::put(id, bytes) };
            let stamp = write.bytes.map(stamp);
            let after = before.map_or(stamp, |before| stamp.map(|stamp| stamp.onto(before)));
            last.insert(write.key, after);
            let name = keys.bytes(write.key);
            match stamp.map(|stamp| encode(write.key, stamp)) {
                Some(operand) if merge => Change::Merge(name, operand),
                Some(value) if write.ttl_us.is_some() => {
                    Change::Expiring(name, value, Duration::from_micros(write.ttl_us.unwrap_or(0).into()))
                }
                Some(value) => Change::Put(name, value),
                None => Change::Delete(name),
            }
        }));
        // Of several writes to a key the last one counts.
        let ttls: BTreeMap<KeyId, Option<u32>> = writes.iter().map(|write| (write.key, write.ttl_us)).collect();
        let expiring = || ttls.iter().filter_map(|(key, ttl)| Some((*key, u64::from((*ttl)?))));
        self.shared.with(|state| expiring().for_each(|(key, ttl)| state.history.fading.expires(key, id, ttl)));
        let index = self.shared.commit_called(id, last.into_iter().collect(), operations, promise(durability));
        match self.opened.engine.write_opt(batch, WriteOptions { durability: Some(durability) }) {
            Ok(info) => self.shared.commit_acknowledged(index, info.seq.0),
            Err(error) => {
                self.shared.complain(|| format!("write in step {id}"), &error);
                self.shared.commit_failed(index, &error);
            }
        }
        self.shared.with(|state| expiring().for_each(|(key, ttl)| state.history.fading.committed(key, id, ttl)));
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
                self.opened.range(id, held.map(|(snapshot, _)| snapshot), bounds(keys, range))
            }
        };
        let view = held.map_or_else(|| shared.view(id, called, None), |(_, view)| *view);
        let walker = Walker::new(&self.env, &shared, id, scan, range);
        let sights = walker.walk(iterator);
        shared.saw(view, sights);
    }
}
