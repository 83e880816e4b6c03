//! What the log's runs keep beside what all profiles do: appends, promises, retention.

use super::Subject;
use super::case::AofOptions;
use super::record::{Stamp, StepId};
use crate::check::aof_history::{Got, History, Known, Open};
use crate::profile::shared;
use crate::{SimEnv, Violation};
use aidb::{Error, ErrorKind};
use std::ops::Range;

/// The plan and the state of a run.
pub(super) type Shared = shared::Shared<Subject>;
/// What changes in a run.
pub(super) type State = shared::State<Subject>;

/// What retention may have been set: age in microseconds, and bytes.
pub(super) type Limits = (Option<u64>, Option<u64>);

/// What changes in a run of the log only.
pub(super) struct Own {
    /// A violation, unless something at rest was damaged since the log was last opened.
    pub(super) unless_damaged: Option<Violation>,
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
}

impl Own {
    pub(super) fn new(options: &AofOptions) -> Own {
        Own {
            unless_damaged: None,
            limits: vec![(options.retention_age_us, options.retention_bytes)],
            openings: 0,
            manifest_kept: true,
            manifest_always_kept: true,
            archive_lost: false,
        }
    }
}

impl Shared {
    /// As [`complain`](Self::complain), of something that changes the log: the clients stop soon.
    pub(super) fn trouble(&self, what: impl FnOnce() -> String, error: &Error) {
        self.complain(what, error);
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Remote) {
            self.in_trouble();
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
            let first = state.history.first_max.max(retained(&state.history, &state.own.limits, peak));
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
