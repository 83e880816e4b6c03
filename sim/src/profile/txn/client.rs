//! A client: runs its steps against the open engine and notes what it asked for and was told.

use super::Shared;
use super::attempt::{Attempt, Over, promise, whole};
use super::case::{Act, Close, Manner, Op, is_account};
use super::opened::Opened;
use crate::SimEnv;
use crate::check::history::Promise;
use crate::profile::engine::case::{Level, Write};
use crate::profile::engine::value::{KeyId, Stamp, StepId, encode};
use crate::profile::walk::Walker;
use aidb::env::Env;
use aidb::lsm::{WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::time::Duration;

/// One client of one opening of the database.
pub(super) struct Client {
    pub(super) env: SimEnv,
    pub(super) opened: Opened,
    pub(super) shared: Shared,
    pub(super) number: usize,
}

impl Client {
    /// Runs the client's steps of the current segment that were not begun yet.
    pub(super) fn run(self) {
        self.shared.each_step(self.number, |id, op| self.step(id, op));
    }

    fn step(&self, id: StepId, op: &Op) {
        match op {
            Op::Transaction { manner, acts, close, tries } => self.transaction((id, *manner), acts, *close, *tries),
            Op::Write { writes, level } => self.write(id, writes, *level),
            Op::Audit { back } => self.audit(id, *back),
            Op::Flush => self.safe_point(id, "flush", Promise::Power, || self.opened.engine.flush()),
            Op::Compact => {
                let compact = || self.opened.engine.force_compaction();
                self.safe_point(id, "force_compaction", Promise::None, compact);
            }
            Op::Persist { level } => {
                let persist = || self.opened.engine.persist(level.durability());
                self.safe_point(id, "persist", promise(*level), persist);
            }
            Op::Sleep { us } => self.env.sleep(Duration::from_micros((*us).into())),
        }
    }

    fn transaction(&self, of: (StepId, Manner), acts: &[Act], close: Close, tries: u8) {
        let mut written = 0;
        for _ in 0..=tries {
            let mut attempt = Attempt::begin(&self.env, &self.opened, &self.shared, of, &mut written);
            let done = acts.iter().try_for_each(|act| attempt.act(act));
            if self.shared.failed() {
                return;
            }
            let done = done.and_then(|()| match close {
                Close::Commit(level) => attempt.commit(level),
                Close::RollBack | Close::Drop => {
                    attempt.undo(close == Close::RollBack);
                    Ok(())
                }
            });
            if !matches!(done, Err(Over::Conflict)) {
                return;
            }
        }
    }

    fn write(&self, id: StepId, writes: &[Write], level: Level) {
        let mut batch = WriteBatch::new();
        let mut last: BTreeMap<KeyId, Option<Stamp>> = BTreeMap::new();
        for write in writes.iter().filter(|write| !is_account(write.key)) {
            let stamp = write.bytes.map(|bytes| Stamp::put(id, bytes));
            let (keys, value) = (self.shared.keys(), stamp.map(|stamp| encode(write.key, stamp)));
            match write.until {
                Some(_) => self.opened.push_range(&mut batch, keys, write.key),
                None => self.opened.push(&mut batch, keys, write.key, value.as_deref()),
            }
            last.insert(write.key, stamp);
        }
        let operations = batch.len() as u64;
        if operations == 0 {
            return;
        }
        let index = self.shared.commit_called(id, last.into_iter().collect(), operations, promise(level));
        match self.opened.engine.write_opt(batch, WriteOptions { durability: Some(level.durability()) }) {
            Ok(info) => self.shared.commit_acknowledged(index, info.seq.0),
            Err(error) => {
                self.shared.complain(|| format!("write in step {id}"), &error);
                self.shared.commit_failed(index, &error);
            }
        }
    }

    fn audit(&self, id: StepId, back: bool) {
        let called = self.shared.tick();
        let snapshot = self.opened.engine.snapshot();
        let view = self.shared.view(id, called, Some(snapshot.seq().0));
        let mut all = Vec::new();
        for part in self.opened.parts((0, self.shared.keys().count())) {
            let iterator = match self.opened.seen(&self.shared, &snapshot, part) {
                Ok(iterator) => iterator,
                Err(error) => return self.shared.complain(|| format!("snapshot in step {id}"), &error),
            };
            let sights = Walker::new(&self.env, &self.shared, id, &whole(part, back), part).walk(iterator);
            let complete = sights.iter().any(|sight| (sight.start, sight.end) == part);
            all.extend(sights.iter().flat_map(|sight| sight.found.iter().copied()));
            self.shared.saw(view, sights);
            if !complete {
                return;
            }
        }
        self.shared.balanced(|| format!("the audit of step {id}"), all);
    }

    fn safe_point(&self, id: StepId, name: &str, promise: Promise, call: impl FnOnce() -> aidb::Result<()>) {
        let called = self.shared.tick();
        match call() {
            Ok(()) => self.shared.with(|state| state.history.persists.push((called, promise))),
            Err(error) => {
                self.shared.complain(|| format!("{name} in step {id}"), &error);
                self.shared.in_trouble();
            }
        }
    }
}
