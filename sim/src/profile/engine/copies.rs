//! Checkpoints and backups that the process under test makes: by a client, judged when the database is next opened.
//!
//! **Invariant.** A checkpoint that was acknowledged opens after any crash, and so does one that was not but has a file `CURRENT`
//! and none that says `INCOMPLETE`. A backup that was acknowledged can be restored after any crash, and whatever is in the backup
//! directory is sound. Each holds, in every keyspace, what a snapshot that was taken during the call may show, at the
//! sequence number that it says it stands at: the model judges it as one.
//!
//! **Tripped by** `checkpoint_without_log`, `checkpoint_current_first`, `checkpoint_copy_not_synced`, `backup_manifest_first`,
//! `backup_table_not_synced`.

use super::process::read_keyspaces;
use super::shared::Shared;
use super::twin::Opened;
use super::value::StepId;
use crate::SimEnv;
use crate::check::durability::Content;
use crate::check::history::{Sight, Time, View};
use crate::profile::shared::{ATTEMPTS, lasting};
use aidb::backup::{list_in, purge_in, restore_in, verify_in};
use aidb::env::{Disk, Env};
use aidb::lsm::Engine;
use aidb::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where backups lie.
const BACKUPS: &str = "/backups";

/// What a step made.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    step: StepId,
    called: Time,
    /// When it was acknowledged, and with which sequence number.
    made: Option<(Time, u64)>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Checkpoint,
    /// With its number, once that is known.
    Backup(Option<u64>),
}

impl Copy {
    fn name(&self) -> String {
        let kind = if self.kind == Kind::Checkpoint { "checkpoint" } else { "backup" };
        format!("the {kind} of step {}", self.step)
    }
}

fn checkpoint_dir(step: StepId) -> PathBuf {
    PathBuf::from(format!("/checkpoint-{step}"))
}

fn begin(shared: &Shared, step: StepId, kind: Kind) {
    shared.with(|state| {
        let called = state.history.tick();
        state.own.backups |= kind != Kind::Checkpoint;
        state.own.copies.push(Copy { step, called, made: None, kind });
    });
}

fn made(shared: &Shared, step: StepId, seq: u64, kind: Kind) {
    shared.with(|state| {
        let at = state.history.tick();
        if let Some(copy) = state.own.copies.iter_mut().find(|copy| copy.step == step) {
            (copy.made, copy.kind) = (Some((at, seq)), kind);
        }
    });
}

/// Makes a checkpoint.
pub(super) fn checkpoint(engine: &Engine<SimEnv>, shared: &Shared, step: StepId) {
    begin(shared, step, Kind::Checkpoint);
    match engine.checkpoint(checkpoint_dir(step)) {
        Ok(report) => made(shared, step, report.seq.0, Kind::Checkpoint),
        Err(error) => shared.complain(|| format!("checkpoint in step {step}"), &error),
    }
}

/// Makes a backup, and removes all but the newest after most steps; one that another client is making is in the way.
pub(super) fn backup(env: &SimEnv, engine: &Engine<SimEnv>, shared: &Shared, step: StepId) {
    begin(shared, step, Kind::Backup(None));
    match engine.backup(BACKUPS) {
        Ok(report) => made(shared, step, report.seq.0, Kind::Backup(Some(report.number))),
        Err(error) if *error.kind() == ErrorKind::Locked => {}
        Err(error) => shared.complain(|| format!("backup in step {step}"), &error),
    }
    if !step.is_multiple_of(4) {
        purge(env, shared);
    }
}

/// Removes all backups but the newest.
fn purge(env: &SimEnv, shared: &Shared) {
    // Before, because a crash may strike it.
    shared.with(|state| state.own.purged = true);
    match purge_in(env, BACKUPS, 1) {
        Err(error) if *error.kind() != ErrorKind::Locked => shared.complain(|| "purging the backups".into(), &error),
        _ => {}
    }
}

/// Opens what was made since the database was last opened, and adds what it holds to the history.
pub(super) fn judge(env: &SimEnv, shared: &Shared) {
    while let Some(copy) = shared.with(|state| state.own.copies.last().cloned()) {
        match copy.kind {
            Kind::Checkpoint => judge_checkpoint(env, shared, &copy),
            Kind::Backup(number) => {
                if copy.made.is_some() && is_kept(env, shared, number) {
                    judge_backup(env, shared, &copy, number);
                }
            }
        }
        // Only then, because a crash may strike the removal.
        shared.with(|state| state.own.copies.pop());
        if copy.kind == Kind::Checkpoint {
            remove_all(env, &checkpoint_dir(copy.step));
        }
    }
    if shared.with(|state| state.own.backups) {
        look_after_backups(env, shared);
    }
}

/// Returns false if a purge may have removed the backup, because there is a newer one.
fn is_kept(env: &SimEnv, shared: &Shared, number: Option<u64>) -> bool {
    let newer =
        || list_in(env, BACKUPS).is_ok_and(|list| list.backups.iter().any(|backup| Some(backup.number) > number));
    !shared.with(|state| state.own.purged) || !newer()
}

/// Tries `read` until it gives an answer, and adds that to the history.
fn judge_one(
    env: &SimEnv,
    shared: &Shared,
    copy: &Copy,
    mut read: impl FnMut(u32) -> aidb::Result<Option<(Content, u64)>>,
) {
    for attempt in 0..ATTEMPTS {
        match read(attempt) {
            Ok(Some((content, seq))) => return saw(shared, copy, content, seq),
            Ok(None) => return,
            Err(error) => {
                shared.complain(|| copy.name(), &error);
                if lasting(&error) {
                    return;
                }
            }
        }
        env.sleep(Duration::from_millis(10));
    }
}

fn judge_checkpoint(env: &SimEnv, shared: &Shared, copy: &Copy) {
    let dir = checkpoint_dir(copy.step);
    let entries = env.disk().list(&dir).unwrap_or_default();
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if copy.made.is_some() || (has("CURRENT") && !has("INCOMPLETE")) {
        judge_one(env, shared, copy, |_| read(env, shared, copy, &dir));
    }
}

fn judge_backup(env: &SimEnv, shared: &Shared, copy: &Copy, number: Option<u64>) {
    judge_one(env, shared, copy, |attempt| {
        let dir = PathBuf::from(format!("/restored-{}-{}-{attempt}", copy.step, env.rand_u64()));
        let content = restore_in(env, BACKUPS, number, &dir).and_then(|_| read(env, shared, copy, &dir));
        remove_all(env, &dir);
        content
    });
}

/// Checks every backup that is there, and keeps the newest.
fn look_after_backups(env: &SimEnv, shared: &Shared) {
    let nothing = |error: &Error| {
        // No backup came so far as to make the directory.
        *error.kind() == ErrorKind::Io && env.disk().list(Path::new(BACKUPS)).is_err()
    };
    match verify_in(env, BACKUPS) {
        Ok(report) => {
            for problem in list_in(env, BACKUPS).iter().flat_map(|list| &list.problems).chain(&report.problems) {
                shared.complain(|| "verifying the backups".into(), problem);
            }
        }
        Err(error) if nothing(&error) => return,
        Err(error) => shared.complain(|| "verifying the backups".into(), &error),
    }
    purge(env, shared);
}

fn saw(shared: &Shared, copy: &Copy, content: Content, seq: u64) {
    if let Some((_, told)) = copy.made.filter(|(_, told)| *told != seq) {
        // A damaged end of its log looks torn.
        let what = format!("it opens at sequence {seq}, told was {told}");
        return shared.complain(|| copy.name(), &Error::corruption(&checkpoint_dir(copy.step), 0, what));
    }
    let end = shared.keys().count();
    shared.with(|state| {
        let opened = copy.made.map_or_else(|| state.history.tick(), |(at, _)| at);
        let sights = vec![Sight { start: 0, end, found: content.into_iter().collect() }];
        state.history.views.push(View {
            step: copy.step,
            called: copy.called,
            opened,
            seq: Some(seq),
            late: true,
            sights,
        });
    });
}

/// Reads all of a copy with the sequence number it stands at; `None` if it holds what nobody wrote.
fn read(env: &SimEnv, shared: &Shared, copy: &Copy, dir: &Path) -> aidb::Result<Option<(Content, u64)>> {
    let opened = Opened::open_at(env, &shared.plan().workload.options, dir, false)?;
    let seq = opened.engine.visible_seq().0;
    let content = read_keyspaces(shared, &opened, false)?;
    for problem in &opened.engine.validate_integrity()?.problems {
        shared.complain(|| copy.name(), problem);
    }
    opened.engine.close()?;
    Ok(content.map(|content| (content, seq)))
}

/// Gives the space back, as far as that is possible.
fn remove_all(env: &SimEnv, dir: &Path) {
    let Ok(entries) = env.disk().list(dir) else { return };
    for entry in entries {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            remove_all(env, &path);
        } else {
            let _ = env.disk().remove(&path);
        }
    }
}
