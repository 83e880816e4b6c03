//! What the engine's runs keep beside what all profiles do: keys, commits, views.

use super::Subject;
use super::value::{KeyId, Keys, Stamp, StepId, decode};
use crate::Violation;
use crate::check::history::{Commit, Ending, Promise, Sight, Time, View};
use crate::profile::shared;
use aidb::{Error, ErrorKind};

/// The plan and the state of a run.
pub(super) type Shared = shared::Shared<Subject>;
/// What changes in a run.
pub(super) type State = shared::State<Subject>;

/// What changes in a run of the engine only.
#[derive(Default)]
pub(super) struct Own {
    /// When it was first told in this opening that writes are refused.
    pub(super) poisoned: Option<Time>,
    /// A violation, unless so many places at rest were damaged before the database was last opened.
    pub(super) needs_damage: Option<(usize, Violation)>,
    /// How many tables the engine says it has, when it was last asked.
    pub(super) tables: u64,
    /// What clients were told, in order, if somebody compares it.
    pub(super) answers: Option<Vec<String>>,
}

impl Shared {
    pub(super) fn keys(&self) -> &Keys {
        &self.plan().fixed
    }

    /// Decodes an entry; a key or value that nobody wrote is a violation.
    pub(super) fn entry(&self, step: StepId, key: &[u8], value: &[u8]) -> Option<(KeyId, Stamp)> {
        let Some(id) = self.keys().find(key) else {
            self.fail("wrong-bytes", format!("step {step} read a key that nobody wrote: {key:02x?}"));
            return None;
        };
        match decode(id, value) {
            Ok(stamp) => Some((id, stamp)),
            Err(what) => {
                self.fail("wrong-bytes", format!("step {step} read a wrong value for key {id}: {what}"));
                None
            }
        }
    }

    /// Notes that a commit is called; returns its index.
    pub(super) fn commit_called(
        &self,
        step: StepId,
        writes: Vec<(KeyId, Option<Stamp>)>,
        operations: u64,
        promise: Promise,
    ) -> usize {
        self.with(|state| {
            let called = state.history.tick();
            let ending = Ending::Unknown;
            state.history.commits.push(Commit { step, writes, operations, promise, called, ending });
            state.history.commits.len() - 1
        })
    }

    /// Notes that a commit was acknowledged with `last` as its last sequence number.
    pub(super) fn commit_acknowledged(&self, index: usize, last: u64) {
        self.with(|state| {
            let at = state.history.tick();
            let commit = &mut state.history.commits[index];
            let first = (last + 1).saturating_sub(commit.operations);
            commit.ending = Ending::Acknowledged { at, first, last };
        });
    }

    /// Notes that a commit failed. Refused is what is called after somebody was told that writes are refused.
    pub(super) fn commit_failed(&self, index: usize, error: &Error) {
        self.with(|state| {
            let at = state.history.tick();
            let commit = &mut state.history.commits[index];
            let refused = matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Closed | ErrorKind::ReadOnly);
            if refused && state.own.poisoned.is_some_and(|poisoned| poisoned < commit.called) {
                commit.ending = Ending::Refused;
            }
            state.trouble.get_or_insert(at);
        });
    }

    /// Opens a view; returns its index.
    pub(super) fn view(&self, step: StepId, called: Time, seq: Option<u64>) -> usize {
        self.with(|state| {
            let opened = state.history.tick();
            state.history.views.push(View { step, called, opened, seq, sights: Vec::new() });
            state.history.views.len() - 1
        })
    }

    /// Adds what was seen through a view.
    pub(super) fn saw(&self, view: usize, sights: impl IntoIterator<Item = Sight>) {
        self.with(|state| state.history.views[view].sights.extend(sights));
    }
}
