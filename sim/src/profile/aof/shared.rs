//! What outlives the simulated process: the history, how far each client is, and what went wrong.
//!
//! Shared between the fibers of a run and its body, which all live on one OS thread. It is never borrowed across an operation of
//! the environment.

use super::case::{End, Op, Step, Workload};
use super::record::{Stamp, StepId};
use crate::check::aof_history::{Got, History, Known, Open, Stop, Time};
use crate::check::errors::Complaint;
use crate::profile::Counts;
use crate::{SimEnv, Violation};
use aidb::{Error, ErrorKind};
use std::cell::RefCell;
use std::ops::Range;
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
        Plan { workload: workload.clone(), segments }
    }
}

/// What retention may have been set: age in microseconds, and bytes.
pub(super) type Limits = (Option<u64>, Option<u64>);

/// What changes in a run.
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
    pub(super) complaints: Vec<Complaint>,
    /// A violation, unless something at rest was damaged since the log was last opened.
    pub(super) unless_damaged: Option<Violation>,
    /// Whether damage keeps the log from being opened or read.
    pub(super) unavailable: bool,
    /// Whether the last opening could read everything.
    pub(super) finished: bool,
    /// Faults so far that make syncs fail.
    pub(super) sync_failures: usize,
    /// Every retention that was in force.
    pub(super) limits: Vec<Limits>,
    /// How often the log was opened.
    pub(super) openings: u64,
    /// Whether the manifest was tampered with since the last opening.
    pub(super) manifest_kept: bool,
    /// Whether the manifest was ever tampered with, or refused: attempts may be forgotten.
    pub(super) manifest_always_kept: bool,
    /// Whether objects of the archive may be gone or damaged.
    pub(super) archive_lost: bool,
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
        let options = &plan.workload.options;
        let state = State {
            history: History::new(),
            stop: None,
            segment: 0,
            begun,
            violation: None,
            trouble: None,
            complaints: Vec::new(),
            unless_damaged: None,
            unavailable: false,
            finished: false,
            sync_failures: 0,
            limits: vec![(options.retention_age_us, options.retention_bytes)],
            openings: 0,
            manifest_kept: true,
            manifest_always_kept: true,
            archive_lost: false,
            counts: Counts::default(),
        };
        Shared(Rc::new(Inner { plan, state: RefCell::new(state) }))
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Runs `body` on the state.
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut State) -> R) -> R {
        body(&mut self.0.state.borrow_mut())
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

    /// Notes an error that the log returned; whether a fault explains it is judged when the run is over.
    pub(super) fn complain(&self, what: impl FnOnce() -> String, error: &Error) {
        self.with(|state| state.complaints.push(Complaint::new(what(), error)));
    }

    /// As [`complain`](Self::complain), of something that changes the log: the clients stop soon.
    pub(super) fn trouble(&self, what: impl FnOnce() -> String, error: &Error) {
        self.complain(what, error);
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Remote) {
            self.with(|state| {
                let at = state.history.tick();
                state.trouble.get_or_insert(at);
            });
        }
    }

    /// Notes that an append is called; returns the id that its first record will have at least.
    pub(super) fn append_called(&self, step: StepId, records: Vec<u32>, tag: u32) -> u64 {
        self.with(|state| {
            let called = state.history.tick();
            state.history.open.insert(step, Open { records, tag, called });
            state.history.next_known()
        })
    }

    /// Notes that an append returned.
    pub(super) fn append_returned(&self, step: StepId, floor: u64, ids: Range<u64>, lsn: u64, ts: u64) {
        let fault = self.with(|state| {
            let history = &mut state.history;
            history.tick();
            let Some(Open { records, tag, .. }) = history.open.remove(&step) else {
                return Some(format!("step {step} was answered twice"));
            };
            if ids.end - ids.start != records.len() as u64 {
                return Some(format!("step {step} appended {} records and got the ids {ids:?}", records.len()));
            }
            if ids.start < floor {
                return Some(format!(
                    "step {step} got the ids {ids:?}; {floor} and later ones were free when it began"
                ));
            }
            for (index, (id, bytes)) in ids.clone().zip(records).enumerate() {
                let stamp = Stamp { step, index: index as u32, bytes };
                if let Some(other) = history.known.insert(id, Known { stamp, lsn, ts, tag }) {
                    return Some(format!("steps {} and {step} both got id {id}", other.stamp.step));
                }
            }
            None
        });
        if let Some(message) = fault {
            self.fail("ids", message);
        }
    }

    /// Notes that an append changed nothing.
    pub(super) fn append_refused(&self, step: StepId) {
        self.with(|state| drop(state.history.open.remove(&step)));
    }

    /// Notes that everything below `next` survives a power loss.
    pub(super) fn promise(&self, next: u64) {
        self.with(|state| state.history.promise(next));
    }

    /// Judges a record that a reader got.
    pub(super) fn judge(&self, who: &str, got: &Got) -> bool {
        let judged = self.with(|state| state.history.judge(got));
        judged.map_err(|message| self.fail("wrong-read", format!("{who}: {message}"))).is_ok()
    }

    /// Returns the oldest id that must still be there.
    pub(super) fn first_most(&self, env: &SimEnv) -> u64 {
        let peak = env.wall_peak_us();
        self.with(|state| {
            let first = state.history.first_max.max(retained(&state.history, &state.limits, peak));
            first.min(state.history.pinned())
        })
    }
}

/// Returns the id before which retention may have dropped everything.
///
/// An append without an answer may be there behind all that is known, and then goes as the others do: its time is no earlier than
/// theirs, and what is known of its place is only that.
pub(super) fn retained(history: &History, limits: &[Limits], wall_peak_us: u64) -> u64 {
    let unanswered = history.open.values().flat_map(|open| &open.records).copied();
    let size = |bytes: u32| u64::from(bytes) + SLACK_RECORD_BYTES;
    let (count, open_bytes) =
        unanswered.fold((0, SLACK_BYTES), |(count, bytes), record| (count + 1, bytes + size(record)));
    let all = history.next_known().max(history.first_max) + count;
    let last = history.known.last_key_value().map(|(_, last)| *last);
    let (last_lsn, last_ts) = last.map_or((0, 0), |last| (last.lsn, last.ts));
    let in_last = history.known.values().rev().take_while(|known| known.lsn == last_lsn);
    let end = last_lsn + in_last.map(|known| size(known.stamp.bytes)).sum::<u64>() + open_bytes;
    let peak = wall_peak_us.max(last_ts);
    let mut first = 1;
    for (age, bytes) in limits {
        let expired = |ts: u64| age.is_some_and(|age| ts.saturating_add(age) <= peak);
        if expired(last_ts) || bytes.is_some_and(|bytes| open_bytes >= bytes) {
            first = first.max(all);
        }
        for (id, known) in &history.known {
            if expired(known.ts) {
                first = first.max(id + 1);
            }
            if bytes.is_some_and(|bytes| end - known.lsn >= bytes) {
                first = first.max(*id);
            }
        }
    }
    first
}

/// What a store may count beyond the frames of the records known: marks, footers, frames whose records are not known.
const SLACK_BYTES: u64 = 4 << 10;
/// What a record takes beyond its bytes.
const SLACK_RECORD_BYTES: u64 = 64;
