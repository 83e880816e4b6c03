//! Compacting everything because someone asked: level by level down to the last one.
//!
//! Runs on the caller's thread while the background compactions are held off. Afterwards every key lies in one level, and
//! a tombstone or hidden version only where a snapshot still needs it. The last level's tables are rewritten only if they hold tombstones.

use super::picker::{self, Compaction, Of};
use crate::base::Result;
use crate::env::{Env, EnvCondvar};
use crate::lsm::state::Core;
use crate::lsm::tree::Tree;
use crate::lsm::version::Version;
use std::collections::BTreeSet;
use std::sync::Arc;

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
        while state.manual {
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
        let dirty = version.levels()[last].iter().filter(|table| table.info().tombstones > 0);
        for table in dirty {
            self.compact_picked(tree, |version| {
                picker::in_place(&Of::new(tree, version), last, table, &BTreeSet::new())
            })?;
        }
        Ok(())
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
}
