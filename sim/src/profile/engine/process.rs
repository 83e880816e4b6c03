//! The process under test: opens the database, is judged on what it recovered, serves its clients, closes.
//!
//! [`serve_once`] is one opening by a process, [`finish`] that of the last and calm one. Both run in fibers.

use super::client::Client;
use super::copies;
use super::meta;
use super::shared::Shared;
use super::twin::{Change, Opened};
use crate::SimEnv;
use crate::check::durability::Content;
use crate::check::history::Promise;
use crate::profile::database::OWN_STEP;
use crate::profile::shared::lasting;
use aidb::Error;
use aidb::lsm::{Durability, WriteOptions};

/// Opens the database, serves the clients, lets go; returns whether the process has nothing left to do.
pub(super) fn serve_once(env: &SimEnv, shared: &Shared) -> bool {
    shared.opens();
    let Some(opened) = open(env, shared) else { return true };
    if !establish(env, shared, &opened) {
        shared.leave(opened.engine, false);
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
    shared.with(|state| {
        meta::note(state, || "the end".into());
        state.finished = true;
    });
    shared.leave(engine, true);
}

/// Opens the database; errors are complained of, transient ones tried again.
fn open(env: &SimEnv, shared: &Shared) -> Option<Opened> {
    shared.try_again(env, "open", lasting, || Opened::open(env, &shared.plan().workload.options))
}

/// Reads everything, lets the oracle judge it, and starts a new history from it. Returns false if it could not be read.
fn establish(env: &SimEnv, shared: &Shared, opened: &Opened) -> bool {
    let Some(content) = read_all(env, shared, opened) else { return false };
    copies::judge(env, shared);
    if shared.failed() {
        return false;
    }
    let visible = opened.engine.visible_seq().0;
    shared.with(|state| meta::note(state, || format!("opened at {visible} with {content:?}")));
    shared.established(content, visible, |_, _| Ok(()))
}

/// Reads every entry, forwards or backwards; tries again after an error.
fn read_all(env: &SimEnv, shared: &Shared, opened: &Opened) -> Option<Content> {
    let backward = shared.with(|state| state.counts.recoveries % 3 == 1);
    let read = || read_keyspaces(shared, opened, backward);
    shared.try_again(env, "reading everything", Error::is_corruption, read).flatten()
}

/// Reads the default keyspace, and its twin, which every commit wrote to as well.
pub(super) fn read_keyspaces(shared: &Shared, opened: &Opened, backward: bool) -> aidb::Result<Option<Content>> {
    // What expires does so for both at once.
    let snapshot = opened.engine.snapshot();
    let content = shared.read_once(snapshot.iter(), backward)?;
    if let (Some(content), Some(twin)) = (&content, &opened.twin) {
        let Some(other) = shared.read_once(snapshot.of(twin)?.iter(), !backward)? else { return Ok(None) };
        if *content != other {
            let message = format!("a keyspace holds {other:?}, the default one {content:?}");
            shared.fail("keyspaces-apart", message);
            return Ok(None);
        }
    }
    Ok(content)
}

/// Checks that the recovered database still takes a write and numbers it behind all others.
fn write_once_more(shared: &Shared, opened: &Opened) {
    let (batch, operations) = opened.batch([Change::Delete(shared.keys().bytes(0))]);
    let index = shared.commit_called(OWN_STEP, vec![(0, None)], operations, Promise::Power);
    match opened.engine.write_opt(batch, WriteOptions { durability: Some(Durability::Sync) }) {
        Ok(info) => shared.commit_acknowledged(index, info.seq.0),
        Err(error) => {
            shared.complain(|| "the last write".into(), &error);
            shared.commit_failed(index, &error);
        }
    }
}
