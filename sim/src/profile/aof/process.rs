//! One incarnation of the process: opens the log, has it judged, serves the clients, and ends in order or not.

use super::client::Client;
use super::reader::{self, Reading};
use super::record::Stamp;
use super::remains;
use super::shared::{Shared, retained};
use crate::check::aof_history::Stop;
use crate::check::aof_recovery::{self, Fault, Recovered, Rules};
use crate::profile::shared::{ATTEMPTS, lasting};
use crate::{SimEnv, Violation};
use aidb::aof::{Aof, AofConfig, AofError, From};
use aidb::env::{Env, EnvJoin};
use aidb::{Error, ErrorKind};
use std::time::Duration;

/// The log's directory.
pub(super) const DIR: &str = "/log";
/// The step of the record that the last opening appends.
const OWN_STEP: u32 = 0;

/// Returns the configuration of the current opening.
pub(super) fn config(shared: &Shared) -> AofConfig {
    let opening = shared.with(|state| state.own.openings);
    shared.plan().workload.options.config(opening)
}

/// Opens the log, serves the clients, lets go; returns whether the process has nothing left to do.
pub(super) fn serve_once(env: &SimEnv, shared: &Shared) -> bool {
    shared.with(|state| state.trouble = None);
    let Some(aof) = open(env, shared) else { return true };
    if !establish(env, shared, &aof) {
        leave(shared, &aof, false);
        return true;
    }
    let followers: Vec<_> = (0..shared.plan().workload.followers.len())
        .map(|number| {
            let (env, aof, shared) = (env.clone(), aof.clone(), shared.clone());
            let follow = move |env: SimEnv| {
                let follower = shared.plan().workload.followers[number];
                let who = format!("follower {number}");
                let (written, pause_us) = (follower.written, follower.pause_us);
                Reading { env: &env, aof: &aof, shared: &shared, who, written, pause_us }.follow(follower.from);
            };
            env.clone().spawn_local(format!("follower {number}"), move || follow(env))
        })
        .collect();
    shared.run_clients(env, |number| {
        let client = Client { env: env.clone(), aof: aof.clone(), shared: shared.clone(), number };
        move || client.run()
    });
    if shared.failed() {
        leave(shared, &aof, true);
        return true;
    }
    let (end, done) = shared.ending();
    // A follower ends when the log is closed, and only then.
    leave(shared, &aof, end.close || !done || !followers.is_empty());
    for follower in followers {
        follower.join();
    }
    drop(aof);
    if done {
        shared.next_segment();
    }
    done
}

/// Runs the last incarnation: no faults, everything is read, checked and appended to once more.
pub(super) fn finish(env: &SimEnv, shared: &Shared) {
    shared.with(|state| state.trouble = None);
    let Some(aof) = open(env, shared) else { return };
    if !establish(env, shared, &aof) {
        leave(shared, &aof, true);
        return;
    }
    append_once_more(shared, &aof);
    match aof.verify() {
        Ok(report) => {
            for fault in &report.faults {
                let error = Error::corruption(&fault.file, fault.offset, &fault.what);
                shared.complain(|| "verify of the last opening".into(), &error);
            }
        }
        Err(error) => shared.complain(|| "verify of the last opening".into(), &error),
    }
    // Time for what runs in the background.
    let due = remains::due(env, shared, &aof);
    env.sleep(Duration::from_micros(shared.plan().workload.options.background_us * 40));
    remains::is_gone(env, shared, &aof, due);
    shared.with(|state| state.finished = true);
    if leave(shared, &aof, true) {
        remains::are_accounted_for(env, shared);
    }
}

/// Opens the log; errors are complained of, transient ones tried again.
fn open(env: &SimEnv, shared: &Shared) -> Option<Aof<SimEnv>> {
    shared.try_again(env, "open", lasting, || {
        shared.with(|state| state.own.openings += 1);
        Aof::open(env.clone(), DIR, config(shared)).map(|(aof, _)| aof)
    })
}

/// Reads everything, lets the oracle judge it, and starts a new history from it. Returns false if it could not be read.
fn establish(env: &SimEnv, shared: &Shared, aof: &Aof<SimEnv>) -> bool {
    let Some(recovered) = read_all(env, shared, aof) else { return false };
    let peak = env.wall_peak_us();
    let fired = env.fired();
    let archive_lost = fired.iter().any(super::loses_objects);
    let rot_bytes = aof_recovery::ROT_BYTES + fired.iter().map(super::damaged_bytes).max().unwrap_or(0);
    let judged = shared.with(|state| {
        let first_retained = retained(&state.history, &state.own.limits, peak);
        let manifest_kept = state.own.manifest_kept;
        let stop = state.stop.unwrap_or(Stop::Close);
        let rules = Rules { stop, damaged: false, rot_bytes, manifest_kept, archive_lost, first_retained };
        state.counts.recoveries += 1;
        let judged = aof_recovery::check(&state.history, &recovered, rules).or_else(|fault| {
            // Whether something was damaged is known when the incarnation is over.
            let lenient = aof_recovery::check(&state.history, &recovered, Rules { damaged: true, ..rules });
            if lenient.is_ok() {
                state.own.unless_damaged.get_or_insert_with(|| violation(fault.clone()));
            }
            lenient.map_err(|_| fault)
        });
        judged.map(|known| {
            let history = &mut state.history;
            let before = std::mem::replace(&mut history.known, known);
            history.truncated.extend(before.range(..recovered.first_id));
            history.pins_settled();
            history.open.clear();
            (history.durable, history.written) = (recovered.next_id, recovered.next_id);
            history.first_min = recovered.first_id;
            history.first_max = history.first_max.max(recovered.first_id);
            if !manifest_kept {
                history.fence = 0;
                history.pins.clear();
            }
            state.own.manifest_kept = true;
            state.stop = None;
        })
    });
    if let Err(fault) = judged {
        let violation = violation(fault);
        shared.fail(&violation.kind, violation.message);
        return false;
    }
    true
}

fn violation(fault: Fault) -> Violation {
    let (kind, message) = match fault {
        Fault::Lost(message) => ("lost-record", message),
        Fault::Wrong(message) => ("wrong-record", message),
        Fault::Front(message) => ("front", message),
    };
    Violation { kind: kind.into(), message }
}

/// Reads every record; tries again after an error, and steps over what the archive has lost.
fn read_all(env: &SimEnv, shared: &Shared, aof: &Aof<SimEnv>) -> Option<Recovered> {
    let mut recovered = Recovered { first_id: aof.first_id(), ..Recovered::default() };
    let mut from = From::First;
    let mut attempts = 0;
    loop {
        let error = match read_on(aof, &mut recovered, from) {
            Ok(()) => break,
            Err(error) => error,
        };
        let truncated = matches!(AofError::of(&error), Some(AofError::Truncated { .. }));
        if !truncated {
            shared.complain(|| "reading everything".into(), &error);
        }
        let next = recovered.records.last().map_or(recovered.first_id, |last| last.id + 1);
        let next = recovered.unreadable.last().map_or(next, |(_, to)| next.max(*to));
        attempts += 1;
        from = From::Id(next);
        if truncated {
            // Retention went on meanwhile: start over.
            recovered = Recovered { first_id: aof.first_id(), ..Recovered::default() };
            from = From::First;
        } else if error.is_corruption() || *error.kind() == ErrorKind::NotFound {
            let lost = env.fired().iter().any(super::loses_objects);
            let behind = aof.segments().into_iter().find(|entry| entry.base_id <= next && next < entry.next_id);
            let Some(behind) = behind.filter(|_| lost) else {
                shared.with(|state| state.unavailable = true);
                return None;
            };
            recovered.unreadable.push((next, behind.next_id));
            from = From::Id(behind.next_id);
            attempts = 0;
        }
        if attempts > ATTEMPTS {
            return None;
        }
        env.sleep(Duration::from_millis(10));
    }
    // Retention goes on meanwhile: what was read counts, if anything was.
    let read =
        recovered.records.first().map(|first| first.id).into_iter().chain(recovered.unreadable.first().map(|of| of.0));
    recovered.first_id = read.min().unwrap_or_else(|| aof.first_id());
    recovered.next_id = aof.next_id();
    Some(recovered)
}

fn read_on(aof: &Aof<SimEnv>, recovered: &mut Recovered, from: From) -> aidb::Result<()> {
    for record in aof.cursor(from)? {
        recovered.records.push(reader::got(&record?));
    }
    Ok(())
}

/// Checks that the recovered log still takes a record and numbers it behind all others.
fn append_once_more(shared: &Shared, aof: &Aof<SimEnv>) {
    let stamp = Stamp { step: OWN_STEP, index: 0, bytes: 40 };
    let floor = shared.append_called(OWN_STEP, vec![stamp.bytes], 0);
    let appended = aof.append(&super::record::encode(stamp)).and_then(|ticket| ticket.wait().map(|()| ticket));
    match appended {
        Ok(ticket) => shared.append_returned(OWN_STEP, floor, ticket.ids(), ticket.lsn().0, ticket.ts()),
        Err(error) => shared.complain(|| "the last append".into(), &error),
    }
}

/// Lets go of the log, in order or not; returns whether it was closed.
fn leave(shared: &Shared, aof: &Aof<SimEnv>, close: bool) -> bool {
    shared.left(close.then(|| aof.close()), |state| {
        let next = state.history.next_known();
        state.history.promise(next);
    })
}
