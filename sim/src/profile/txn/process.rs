//! The process under test: opens the database, is judged on what it recovered, serves its clients, closes.

use super::Shared;
use super::client::Client;
use super::opened::Opened;
use crate::check::durability::Content;
use crate::check::history::Promise;
use crate::check::locks::Locks;
use crate::check::{bank, cycles, serial};
use crate::profile::database::OWN_STEP;
use crate::profile::shared::lasting;
use crate::{SimEnv, Violation};
use aidb::Error;
use aidb::lsm::{Durability, TransactionOptions, WriteBatch, WriteOptions};
use std::time::Duration;

/// Opens the database, serves the clients, lets go; returns whether the process has nothing left to do.
pub(super) fn serve_once(env: &SimEnv, shared: &Shared) -> bool {
    shared.opens();
    let Some(opened) = open(env, shared) else { return true };
    if !establish(env, shared, &opened) {
        shared.leave(opened.engine, false);
        return true;
    }
    shared.run_clients(env, |number| {
        let client = Client { env: env.clone(), opened: opened.clone(), shared: shared.clone(), number };
        move || client.run()
    });
    if shared.failed() {
        return true;
    }
    nothing_is_locked(shared, &opened);
    let (end, done) = shared.ending();
    shared.leave(opened.engine, end.close || !done);
    if done {
        shared.next_segment();
    }
    done
}

/// Runs the last incarnation: no faults, everything is read, checked and written to once more.
pub(super) fn finish(env: &SimEnv, shared: &Shared) {
    shared.opens();
    let Some(opened) = open(env, shared) else { return };
    if !establish(env, shared, &opened) {
        return shared.leave(opened.engine, true);
    }
    let engine = opened.engine.clone();
    if let Err(error) = engine.flush() {
        shared.complain(|| "flush of the last opening".into(), &error);
    }
    write_once_more(shared, &opened);
    shared.verify(&engine, "of the last opening");
    shared.judge_reads();
    shared.with(|state| state.finished = true);
    shared.leave(engine, true);
}

/// Opens the database; errors are complained of, transient ones tried again.
fn open(env: &SimEnv, shared: &Shared) -> Option<Opened> {
    shared.try_again(env, "open", lasting, || Opened::open(env, &shared.plan().workload))
}

/// Reads everything, lets the checkers judge it, and starts a new history from it. Returns false if something is wrong.
fn establish(env: &SimEnv, shared: &Shared, opened: &Opened) -> bool {
    let backward = shared.with(|state| state.counts.recoveries % 3 == 1);
    let read = || read_all(shared, opened, backward);
    let Some(content) = shared.try_again(env, "reading everything", Error::is_corruption, read).flatten() else {
        return false;
    };
    let visible = opened.engine.visible_seq().0;
    shared.established(content, visible, |state, content| {
        let wrong = |kind: &'static str| move |message| Violation { kind: kind.into(), message };
        let (history, txns) = (&state.history, &state.own.txns);
        let replay = || serial::check(history, txns).map_err(wrong("not-serial"));
        let no_cycle = || cycles::check(history, txns).map_err(wrong("cycle"));
        // What both notice is told by one of them, now this, now that.
        match history.commits.len() % 2 {
            0 => replay().and_then(|()| no_cycle())?,
            _ => no_cycle().and_then(|()| replay())?,
        }
        let found = content.iter().map(|(key, stamp)| (*key, *stamp));
        bank::check(found, &state.own.amounts).map_err(|message| wrong("bank")(format!("recovered: {message}")))?;
        state.own.txns.clear();
        state.own.locked.clear();
        state.own.locks = Locks::default();
        Ok(())
    })
}

/// Reads every keyspace; `None` if it is not what anybody wrote.
fn read_all(shared: &Shared, opened: &Opened, backward: bool) -> aidb::Result<Option<Content>> {
    let snapshot = opened.engine.snapshot();
    let mut all = Content::new();
    for part in opened.parts((0, shared.keys().count())) {
        match shared.read_once(opened.seen(shared, &snapshot, part)?, backward)? {
            Some(content) => all.extend(content),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Checks that every key can be locked when all transactions have ended.
fn nothing_is_locked(shared: &Shared, opened: &Opened) {
    let options =
        TransactionOptions { pessimistic: true, lock_timeout: Duration::ZERO, ..TransactionOptions::default() };
    let mut txn = opened.engine.transaction(options);
    for key in 0..shared.keys().count() {
        let bytes = shared.keys().bytes(key);
        let locked = match opened.of(key) {
            None => txn.get_for_update(bytes),
            Some(of) => txn.get_for_update_in(of, bytes),
        };
        match locked {
            Err(error) if error.is_retryable() => {
                return shared.fail("lock-left", format!("all transactions have ended, and {error}"));
            }
            Err(error) => shared.complain(|| "get_for_update at the end".into(), &error),
            Ok(_) => {}
        }
    }
}

/// Checks that the recovered database still takes a write and numbers it behind all others.
fn write_once_more(shared: &Shared, opened: &Opened) {
    let mut batch = WriteBatch::new();
    opened.push(&mut batch, shared.keys(), 0, None);
    let index = shared.commit_called(OWN_STEP, vec![(0, None)], 1, Promise::Power);
    match opened.engine.write_opt(batch, WriteOptions { durability: Some(Durability::Sync) }) {
        Ok(info) => shared.commit_acknowledged(index, info.seq.0),
        Err(error) => {
            shared.complain(|| "the last write".into(), &error);
            shared.commit_failed(index, &error);
        }
    }
}
