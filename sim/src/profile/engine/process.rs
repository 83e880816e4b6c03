//! The process under test: opens the database, is judged on what it recovered, serves its clients, closes.
//!
//! [`serve_once`] is one opening by a process, [`finish`] that of the last and calm one. Both run in fibers.

use super::client::Client;
use super::meta;
use super::shared::Shared;
use super::twin::Opened;
use super::value::StepId;
use crate::check::durability::{self, Content, Recovered};
use crate::check::history::{History, Promise, Stop};
use crate::check::model;
use crate::profile::shared::lasting;
use crate::{SimEnv, Violation};
use aidb::Error;
use aidb::lsm::{DbIterator, Durability, Engine, WriteOptions};

/// Where the database lies.
pub(super) const DIR: &str = "/db";
/// The number under which reads and writes of this file stand in messages.
const OWN_STEP: StepId = StepId::MAX;

/// Opens the database, serves the clients, lets go; returns whether the process has nothing left to do.
pub(super) fn serve_once(env: &SimEnv, shared: &Shared) -> bool {
    shared.with(|state| (state.trouble, state.own.poisoned) = (None, None));
    let Some(opened) = open(env, shared) else { return true };
    if !establish(env, shared, &opened) {
        leave(shared, opened.engine, false);
        return true;
    }
    shared.run_clients(env, |number| {
        let client = Client::new(env.clone(), opened.clone(), shared.clone(), number);
        move || client.run()
    });
    if shared.failed() {
        return true;
    }
    let (end, done) = shared.ending();
    leave(shared, opened.engine, end.close || !done);
    if done {
        shared.next_segment();
    }
    done
}

/// Runs the last incarnation: no faults, everything is read, checked and written to once more.
pub(super) fn finish(env: &SimEnv, shared: &Shared) {
    shared.with(|state| (state.trouble, state.own.poisoned) = (None, None));
    let Some(opened) = open(env, shared) else { return };
    if !establish(env, shared, &opened) {
        return leave(shared, opened.engine, true);
    }
    let engine = opened.engine.clone();
    if let Err(error) = engine.flush() {
        shared.complain(|| "flush of the last opening".into(), &error);
    }
    write_once_more(shared, &opened);
    match engine.validate_integrity() {
        Ok(report) => {
            for problem in &report.problems {
                shared.complain(|| "validate_integrity of the last opening".into(), problem);
            }
        }
        Err(error) => shared.complain(|| "validate_integrity of the last opening".into(), &error),
    }
    if let Some(fault) = shared.with(|state| model::check(&state.history).err()) {
        report_model(shared, fault);
    }
    shared.with(|state| {
        meta::note(state, || "the end".into());
        state.finished = true;
    });
    leave(shared, engine, true);
}

/// Opens the database; errors are complained of, transient ones tried again.
fn open(env: &SimEnv, shared: &Shared) -> Option<Opened> {
    shared.try_again(env, "open", lasting, || Opened::open(env, &shared.plan().workload.options))
}

/// Reads everything, lets the oracle judge it, and starts a new history from it. Returns false if it could not be read.
fn establish(env: &SimEnv, shared: &Shared, opened: &Opened) -> bool {
    let Some(content) = read_all(env, shared, opened) else { return false };
    let visible = opened.engine.visible_seq().0;
    let judged: Result<(), Violation> = shared.with(|state| {
        let stop = state.stop.unwrap_or(Stop::Close);
        state.counts.recoveries += 1;
        meta::note(state, || format!("opened at {visible} with {content:?}"));
        let history = &state.history;
        model::check(history).map_err(model_violation)?;
        let needed = judge(history, Recovered { content: &content, seq: visible }, stop)?;
        let damages = |of: &Option<(usize, Violation)>| of.as_ref().map(|(damages, _)| *damages);
        if damages(&state.own.needs_damage) < damages(&needed) {
            state.own.needs_damage = needed;
        }
        state.history.restart(content, visible);
        state.stop = None;
        Ok(())
    });
    if let Err(violation) = judged {
        shared.fail(&violation.kind, violation.message);
        return false;
    }
    true
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

fn report_model(shared: &Shared, fault: model::Fault) {
    let violation = model_violation(fault);
    shared.fail(&violation.kind, violation.message);
}

/// Reads every entry, forwards or backwards; tries again after an error.
fn read_all(env: &SimEnv, shared: &Shared, opened: &Opened) -> Option<Content> {
    let backward = shared.with(|state| state.counts.recoveries % 3 == 1);
    let read = || read_keyspaces(shared, opened, backward);
    shared.try_again(env, "reading everything", Error::is_corruption, read).flatten()
}

/// Reads the default keyspace, and its twin, which every commit wrote to as well.
fn read_keyspaces(shared: &Shared, opened: &Opened, backward: bool) -> aidb::Result<Option<Content>> {
    let content = read_once(shared, opened.engine.iter(), backward)?;
    if let (Some(content), Some(twin)) = (&content, &opened.twin) {
        let Some(other) = read_once(shared, twin.iter(), !backward)? else { return Ok(None) };
        if *content != other {
            let message = format!("a keyspace holds {other:?}, the default one {content:?}");
            shared.fail("keyspaces-apart", message);
            return Ok(None);
        }
    }
    Ok(content)
}

fn read_once(shared: &Shared, mut iterator: DbIterator, backward: bool) -> aidb::Result<Option<Content>> {
    let mut content = Content::new();
    let mut previous = None;
    loop {
        let Some(entry) = (if backward { iterator.next_back() } else { iterator.next() }) else { break };
        let entry = entry?;
        let Some((key, stamp)) = shared.entry(OWN_STEP, &entry.key, &entry.value) else { return Ok(None) };
        if previous.is_some_and(|previous| (previous < key) == backward || previous == key) {
            shared.fail("wrong-read", format!("a full read gave key {key} after {previous:?}"));
            return Ok(None);
        }
        previous = Some(key);
        content.insert(key, stamp);
    }
    Ok(Some(content))
}

/// Checks that the recovered database still takes a write and numbers it behind all others.
fn write_once_more(shared: &Shared, opened: &Opened) {
    let (batch, operations) = opened.batch::<&[u8]>([(shared.keys().bytes(0), None)]);
    let index = shared.commit_called(OWN_STEP, vec![(0, None)], operations, Promise::Power);
    match opened.engine.write_opt(batch, WriteOptions { durability: Some(Durability::Sync) }) {
        Ok(info) => shared.commit_acknowledged(index, info.seq.0),
        Err(error) => {
            shared.complain(|| "the last write".into(), &error);
            shared.commit_failed(index, &error);
        }
    }
}

/// Lets go of the database, in order or not.
fn leave(shared: &Shared, engine: Engine<SimEnv>, close: bool) {
    shared.left(close.then(|| engine.close()), |state| {
        let now = state.history.tick();
        state.history.persists.push((now, Promise::Power));
    });
    let levels = engine.statistics().levels;
    shared.with(|state| state.own.tables = levels.iter().map(|level| level.files).sum());
}
