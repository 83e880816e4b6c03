//! What outlives the simulated process: the history, how far each client is, and what went wrong.
//!
//! Shared between the fibers of a run and its body, which all live on one OS thread. It is never borrowed across an operation of
//! the environment.

use super::case::{End, Op, Step, Workload};
use super::value::{KeyId, Keys, Stamp, StepId, decode};
use crate::Violation;
use crate::check::errors::Complaint;
use crate::check::history::{Commit, Ending, History, Promise, Sight, Stop, Time, View};
use crate::profile::Counts;
use aidb::{Error, ErrorKind};
use std::cell::RefCell;
use std::rc::Rc;

/// The steps between two barriers, by client.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub(super) clients: Vec<Vec<(StepId, Op)>>,
    /// How it ends.
    pub(super) end: End,
}

/// What does not change in a run.
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) keys: Keys,
    pub(super) segments: Vec<Segment>,
}

impl Plan {
    pub(super) fn new(workload: &Workload) -> Plan {
        let clients = usize::from(workload.clients());
        let empty = || Segment { clients: vec![Vec::new(); clients], end: End::default() };
        let mut segments = vec![empty()];
        for step in &workload.steps {
            match step {
                Step::Client { id, client, op } => {
                    let last = segments.last_mut().expect("there is always one");
                    last.clients[usize::from(*client)].push((*id, op.clone()));
                }
                Step::Reopen(end) => {
                    segments.last_mut().expect("there is always one").end = *end;
                    segments.push(empty());
                }
            }
        }
        Plan { workload: workload.clone(), keys: workload.keys(), segments }
    }
}

/// What changes in a run.
#[derive(Default)]
pub(super) struct State {
    pub(super) history: History,
    /// The worst stop since the content was last established.
    pub(super) stop: Option<Stop>,
    pub(super) segment: usize,
    /// How many steps of the segment each client has begun.
    pub(super) begun: Vec<usize>,
    pub(super) violation: Option<Violation>,
    /// When a write first failed in this opening.
    pub(super) trouble: Option<Time>,
    /// When it was first told in this opening that writes are refused.
    pub(super) poisoned: Option<Time>,
    pub(super) complaints: Vec<Complaint>,
    /// A violation, unless so many places at rest were damaged before the database was last opened.
    pub(super) needs_damage: Option<(usize, Violation)>,
    /// Whether damage keeps the database from being opened.
    pub(super) unavailable: bool,
    /// Whether the last opening could read everything.
    pub(super) finished: bool,
    /// How many tables the engine says it has, when it was last asked.
    pub(super) tables: u64,
    /// Faults so far that make syncs fail.
    pub(super) sync_failures: usize,
    pub(super) counts: Counts,
}

/// The plan and the state of a run.
#[derive(Clone)]
pub(super) struct Shared(Rc<Inner>);

struct Inner {
    plan: Plan,
    state: RefCell<State>,
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Shared {
        let begun = vec![0; plan.segments[0].clients.len()];
        let state = State { begun, ..State::default() };
        Shared(Rc::new(Inner { plan, state: RefCell::new(state) }))
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.0.plan.keys
    }

    /// Runs `body` on the state.
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut State) -> R) -> R {
        body(&mut self.0.state.borrow_mut())
    }

    pub(super) fn tick(&self) -> Time {
        self.with(|state| state.history.tick())
    }

    /// Records a violation; the first one counts.
    pub(super) fn fail(&self, kind: &str, message: String) {
        self.with(|state| {
            state.violation.get_or_insert_with(|| Violation { kind: kind.into(), message });
        });
    }

    pub(super) fn failed(&self) -> bool {
        self.with(|state| state.violation.is_some())
    }

    /// Notes an error that the engine returned; whether a fault explains it is judged when the run is over.
    pub(super) fn complain(&self, what: impl FnOnce() -> String, error: &Error) {
        self.with(|state| {
            state.complaints.push(Complaint::new(what(), error));
            if *error.kind() == ErrorKind::Poisoned && state.poisoned.is_none() {
                state.poisoned = Some(state.history.tick());
            }
        });
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
            if refused && state.poisoned.is_some_and(|poisoned| poisoned < commit.called) {
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
