//! What the profiles that test a database have in common: evidence, judgement, the walk through everything.
//!
//! Called by their clients, and by their processes when they open and let go of it.

use super::engine::value::{KeyId, Keys, Stamp, StepId, decode};
use super::shared::{Shared, State, Subject};
use crate::check::durability::{self, Content, Recovered};
use crate::check::history::{Commit, Ending, History, Promise, Sight, Stop, Time, View};
use crate::check::{model, scrub};
use crate::env::wall_seen;
use crate::{Harness, SimEnv, Violation};
use aidb::env::{Disk, Env, read_file};
use aidb::lsm::{DbIterator, Engine};
use aidb::{Error, ErrorKind};
use std::path::Path;

/// Where the database lies.
pub(super) const DIR: &str = "/db";
/// The number under which reads and writes of nobody's step stand in messages.
pub(super) const OWN_STEP: StepId = StepId::MAX;

/// A subject that is a database with self-describing values.
pub(super) trait Database: Subject<Fixed = Keys, History = History> {
    /// Returns what it keeps as a database.
    fn kept(own: &mut Self::Own) -> &mut Kept;
}

/// What changes in a run of a database.
#[derive(Default)]
pub(super) struct Kept {
    /// When it was first told in this opening that writes are refused.
    pub(super) poisoned: Option<Time>,
    /// A violation, unless so many places at rest were damaged before the database was last opened.
    needs_damage: Option<(usize, Violation)>,
    /// How many tables the engine says it has, when it was last asked.
    tables: u64,
}

impl Kept {
    /// Takes in an error; refused is what is called after somebody was told so.
    pub(super) fn complained(&mut self, history: &mut History, error: &Error) {
        if *error.kind() == ErrorKind::Poisoned && self.poisoned.is_none() {
            self.poisoned = Some(history.tick());
        }
    }

    /// Returns what is wrong, unless that much was damaged.
    pub(super) fn survived(&mut self, harness: &Harness) -> Option<Violation> {
        let damages = harness.damage().len();
        self.needs_damage.take().filter(|(needed, _)| damages < *needed).map(|(_, violation)| violation)
    }
}

impl<S: Database> Shared<S> {
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
            let poisoned = S::kept(&mut state.own).poisoned;
            let commit = &mut state.history.commits[index];
            let refused = matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Closed | ErrorKind::ReadOnly);
            if refused && poisoned.is_some_and(|poisoned| poisoned < commit.called) {
                commit.ending = Ending::Refused;
            }
            state.trouble.get_or_insert(at);
        });
    }

    /// Opens a view; returns its index.
    pub(super) fn view(&self, step: StepId, called: Time, seq: Option<u64>) -> usize {
        self.with(|state| {
            let opened = state.history.tick();
            state.history.views.push(View { step, called, opened, seq, late: false, sights: Vec::new() });
            state.history.views.len() - 1
        })
    }

    /// Adds what was seen through a view.
    pub(super) fn saw(&self, view: usize, sights: impl IntoIterator<Item = Sight>) {
        self.with(|state| state.history.views[view].sights.extend(sights));
    }

    /// Notes that the database is opened anew.
    pub(super) fn opens(&self) {
        self.with(|state| {
            (state.trouble, S::kept(&mut state.own).poisoned) = (None, None);
            state.history.opens(state.stop == Some(Stop::Close));
        });
    }

    /// Lets the checkers judge what a reopened database holds, and `more` of them, and starts a new history from it.
    /// Returns false if something is wrong.
    pub(super) fn established(
        &self,
        content: Content,
        visible: u64,
        more: impl FnOnce(&mut State<S>, &Content) -> Result<(), Violation>,
    ) -> bool {
        let judged: Result<(), Violation> = self.with(|state| {
            let stop = state.stop.unwrap_or(Stop::Close);
            state.counts.recoveries += 1;
            // What the clock has shown by now is what was read by.
            state.history.tick();
            model::check(&state.history).map_err(model_violation)?;
            more(state, &content)?;
            let needed = judge(&state.history, Recovered { content: &content, seq: visible }, stop)?;
            let damages = |of: &Option<(usize, Violation)>| of.as_ref().map(|(damages, _)| *damages);
            let kept = S::kept(&mut state.own);
            if damages(&kept.needs_damage) < damages(&needed) {
                kept.needs_damage = needed;
            }
            state.history.restart(content, visible);
            state.stop = None;
            Ok(())
        });
        judged.map_err(|violation| self.fail(&violation.kind, violation.message)).is_ok()
    }

    /// Judges what was read since, when nothing is opened any more.
    pub(super) fn judge_reads(&self) {
        if let Some(violation) = self.with(|state| model::check(&state.history).err()).map(model_violation) {
            self.fail(&violation.kind, violation.message);
        }
    }

    /// Has the structure checked; whatever is wrong is complained of.
    pub(super) fn verify(&self, engine: &Engine<SimEnv>, who: &str) {
        match engine.validate_integrity() {
            Ok(report) => {
                for problem in &report.problems {
                    self.complain(|| format!("validate_integrity {who}"), problem);
                }
            }
            Err(error) => self.complain(|| format!("validate_integrity {who}"), &error),
        }
    }

    /// Walks through everything; `None` if it is not what anybody wrote.
    pub(super) fn read_once(&self, mut iterator: DbIterator, backward: bool) -> aidb::Result<Option<Content>> {
        let mut content = Content::new();
        let mut previous = None;
        loop {
            let Some(entry) = (if backward { iterator.next_back() } else { iterator.next() }) else { break };
            let entry = entry?;
            let Some((key, stamp)) = self.entry(OWN_STEP, &entry.key, &entry.value) else { return Ok(None) };
            if previous.is_some_and(|previous| (previous < key) == backward || previous == key) {
                self.fail("wrong-read", format!("a full read gave key {key} after {previous:?}"));
                return Ok(None);
            }
            previous = Some(key);
            content.insert(key, stamp);
        }
        Ok(Some(content))
    }

    /// Lets go of the database, in order or not.
    pub(super) fn leave(&self, engine: Engine<SimEnv>, close: bool) {
        let closed = close.then(|| engine.close());
        wall_seen(engine.clock());
        self.left(closed, |state| {
            let now = state.history.tick();
            state.history.persists.push((now, Promise::Power));
        });
        let levels = engine.statistics().levels;
        self.with(|state| S::kept(&mut state.own).tables = levels.iter().map(|level| level.files).sum());
    }

    /// Looks at the files that a database left which was closed.
    pub(super) fn scrub(&self, harness: &mut Harness) {
        let env = harness.env();
        let (closed, tables) = self.with(|state| (state.stop == Some(Stop::Close), S::kept(&mut state.own).tables));
        if !closed || !harness.damage().is_empty() {
            return;
        }
        let current = read_file(env.disk(), &Path::new(DIR).join("CURRENT"));
        let scrubbed = match (env.disk().list(Path::new(DIR)), current) {
            (Ok(entries), Ok(current)) => scrub::check(&entries, &current, tables),
            (Err(error), _) | (_, Err(error)) => Err(format!("the directory cannot be read: {error}")),
        };
        if let Err(message) = scrubbed {
            harness.violation("scrub", message);
        }
    }
}

/// Returns a hash of what a database held.
pub(super) fn state_hash(history: &History) -> u64 {
    history
        .base
        .iter()
        .fold(0, |hash, (key, stamp)| aidb::base::hash::hash64(&stamp.step.to_le_bytes(), hash ^ u64::from(*key)))
}

/// Judges the content without damage at rest, then with more and more of it: how much it needs, and what is wrong otherwise.
fn judge(history: &History, recovered: Recovered<'_>, stop: Stop) -> Result<Option<(usize, Violation)>, Violation> {
    let mut wrong = None;
    for damages in [0, 1, 2, 4, 8] {
        match durability::check(history, recovered, stop, damages) {
            Ok(()) => return Ok(wrong.map(|wrong| (damages, wrong))),
            Err(fault) => wrong.get_or_insert(durability_violation(fault)),
        };
    }
    Err(wrong.expect("none of them was right"))
}

fn durability_violation(fault: durability::Fault) -> Violation {
    match fault {
        durability::Fault::Lost(message) => Violation { kind: "lost-write".into(), message },
        durability::Fault::NotAPrefix(message) => Violation { kind: "not-a-prefix".into(), message },
        durability::Fault::Behind(message) => Violation { kind: "sequence".into(), message },
    }
}

fn model_violation(fault: model::Fault) -> Violation {
    match fault {
        model::Fault::Read(message) => Violation { kind: "wrong-read".into(), message },
        model::Fault::Sequence(message) => Violation { kind: "sequence".into(), message },
    }
}
