//! Compacting because someone asked: everything, or what lies in a range of keys, level by level down to the last one.
//!
//! Runs on the caller's thread. Afterwards every key that was there lies in one level, and a tombstone or hidden version
//! only where a snapshot still needs it. The last level's tables are rewritten only if they hold tombstones, or if values may
//! have expired or are filtered.
//!
//! - All: background compactions are held off until the end.
//! - A range: they are held off only while the inputs in one level are chosen, all at once: what goes down meanwhile on
//!   other ways ends up below too. Each level is done once, so writers cannot keep it going.
//! - Closing the engine ends either.

use super::picker::{self, Compaction, Of};
use crate::base::Result;
use crate::env::{Env, EnvCondvar};
use crate::lsm::iterator::Bounds;
use crate::lsm::state::{Core, State};
use crate::lsm::table::TableInfo;
use crate::lsm::tree::Tree;
use crate::lsm::version::Version;
use std::collections::BTreeSet;
use std::sync::Arc;

fn has_tombstones(info: &TableInfo) -> bool {
    info.tombstones > 0 || info.ranges.is_some()
}

impl<E: Env> Core<E> {
    /// Compacts every table of `trees` that is there now.
    pub(in crate::lsm) fn compact_all(&self, trees: &[Arc<Tree<E>>]) -> Result<()> {
        self.hold_off()?;
        let result = trees.iter().try_for_each(|tree| self.compact_levels(tree));
        self.purge_obsolete();
        let mut state = self.state.lock();
        state.manual = false;
        if result.is_ok() {
            state.compaction_error = None;
        }
        self.work.notify_all();
        self.progress.notify_all();
        drop(state);
        result
    }

    /// Waits until no compaction runs and none starts.
    fn hold_off(&self) -> Result<()> {
        let mut state = self.state.lock();
        while state.manual || state.ingesting {
            self.check_open()?;
            self.progress.wait(&mut state);
        }
        self.check_open()?;
        state.manual = true;
        while state.compacting > 0 {
            self.progress.wait(&mut state);
        }
        Ok(())
    }

    fn compact_levels(&self, tree: &Arc<Tree<E>>) -> Result<()> {
        let last = tree.current().version.levels().len() - 1;
        for level in 0..last {
            self.compact_picked(tree, |version| {
                let picked = picker::whole_level(&Of::new(tree, version), level, &BTreeSet::new())?;
                Some(Compaction { movable: false, ..picked })
            })?;
        }
        let version = Arc::clone(&tree.current().version);
        let all = self.rewrites_all(tree);
        let dirty = version.levels()[last].iter().filter(|table| all || has_tombstones(table.info()));
        for table in dirty {
            self.compact_picked(tree, |version| {
                picker::in_place(&Of::new(tree, version), last, table, &BTreeSet::new())
            })?;
        }
        Ok(())
    }

    /// Whether tables of the last level may hold what goes, beside those with tombstones.
    fn rewrites_all(&self, tree: &Tree<E>) -> bool {
        self.clock.is_used() || tree.options().compaction_filter.is_some()
    }

    fn compact_picked(
        &self,
        tree: &Tree<E>,
        pick: impl FnOnce(&Arc<Version<E>>) -> Option<Compaction<E>>,
    ) -> Result<()> {
        self.check_running()?;
        let mut state = self.state.lock();
        let Some(compaction) = state.trees.get(&tree.id).and_then(|of| pick(&of.version)) else { return Ok(()) };
        self.occupy(&mut state, &compaction);
        drop(state);
        let result = self.compact(&compaction);
        drop(self.release(&compaction));
        result
    }

    /// Compacts every table of `tree` that is there now and holds keys within `bounds`, or range tombstones over some.
    pub(in crate::lsm) fn compact_bounds(&self, tree: &Arc<Tree<E>>, bounds: &Bounds) -> Result<()> {
        let last = tree.current().version.levels().len() - 1;
        for level in 0..last {
            self.compact_claimed(tree, |of, busy| {
                let tables = &of.version.levels()[level];
                let meant: Vec<_> = tables.iter().filter(|table| bounds.meet(table.info())).cloned().collect();
                match meant.is_empty() {
                    true => Claim::Nothing,
                    // What stays in level 0 must be newer than what goes.
                    false if level == 0 => picker::whole_level(of, 0, busy).into(),
                    false => picker::build(of, level, meant, busy).into(),
                }
            })?;
        }
        let version = Arc::clone(&tree.current().version);
        let all = self.rewrites_all(tree);
        let dirty = version.levels()[last].iter();
        let dirty = dirty.filter(|table| (all || has_tombstones(table.info())) && bounds.meet(table.info()));
        for table in dirty {
            self.compact_claimed(tree, |of, busy| {
                match of.version.levels()[last].iter().any(|there| Arc::ptr_eq(there, table)) {
                    true => picker::in_place(of, last, table, busy).into(),
                    false => Claim::Nothing,
                }
            })?;
        }
        self.purge_obsolete();
        Ok(())
    }

    /// Runs the compaction that `claim` chooses once its inputs are free; none starts while it waits for that.
    fn compact_claimed(
        &self,
        tree: &Arc<Tree<E>>,
        claim: impl Fn(&Of<'_, E>, &BTreeSet<u64>) -> Claim<E>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        while state.manual || state.ingesting {
            self.check_going(&state)?;
            self.progress.wait(&mut state);
        }
        state.manual = true;
        let claimed = loop {
            if let Err(error) = self.check_going(&state) {
                break Err(error);
            }
            let Some(there) = state.trees.get(&tree.id) else { break Ok(None) };
            match claim(&Of::new(tree, &there.version), &state.busy) {
                Claim::Nothing => break Ok(None),
                Claim::Ready(compaction) => break Ok(Some(compaction)),
                Claim::Busy => self.progress.wait(&mut state),
            }
        };
        state.manual = false;
        if let Ok(Some(compaction)) = &claimed {
            self.occupy(&mut state, compaction);
        }
        self.work.notify_all();
        self.progress.notify_all();
        drop(state);
        let Some(compaction) = claimed? else { return Ok(()) };
        // Rewritten, not moved: what is hidden is to go.
        let compaction = Compaction { movable: false, ..compaction };
        let result = self.compact(&compaction);
        drop(self.release(&compaction));
        result
    }

    fn check_going(&self, state: &State<E>) -> Result<()> {
        self.check_open()?;
        state.poisoned.clone().map_or(Ok(()), Err)
    }
}

/// What there is to compact in one step.
enum Claim<E: Env> {
    Nothing,
    /// Another compaction has some of it.
    Busy,
    Ready(Compaction<E>),
}

impl<E: Env> From<Option<Compaction<E>>> for Claim<E> {
    fn from(picked: Option<Compaction<E>>) -> Claim<E> {
        picked.map_or(Claim::Busy, Claim::Ready)
    }
}
