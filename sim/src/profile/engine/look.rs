//! A read-only view taken beside the writer, by a client that shares nothing with it but the disk.
//!
//! **Invariant.** It shows one moment of the commit order, in every keyspace, with all that was acknowledged as handed to the operating
//! system or synced before; and it changes nothing, which every other checker judges.
//!
//! It may show what no reader of the writer sees yet: the log has a commit before the memtable does. So it binds no later view.
//!
//! **Tripped by** `read_only_without_log`, `read_only_removes_orphans`.

use super::shared::Shared;
use super::value::StepId;
use crate::SimEnv;
use crate::check::durability::Content;
use crate::check::history::{Promise, Sight, Time, View};
use crate::profile::database::DIR;
use aidb::lsm::Engine;

/// Opens a view, reads everything, and adds it to the history.
pub(super) fn look(env: &SimEnv, shared: &Shared, step: StepId) {
    let least = shared.with(|state| {
        state.history.tick();
        let kept = |promise: Promise| promise >= Promise::Process;
        let commits = state.history.commits.iter().filter(|commit| kept(state.history.promise(commit)));
        commits.filter_map(|commit| commit.seqs()).map(|(_, last)| last).max().unwrap_or(0)
    });
    match read(env, shared) {
        Ok(None) => {}
        Ok(Some((_, seq))) if seq < least => {
            let message = format!("step {step}: the read-only view ends at sequence {seq}, {least} was acknowledged");
            shared.fail("wrong-read", message);
        }
        Ok(Some((content, seq))) => {
            let end = shared.keys().count();
            let sights = vec![Sight { start: 0, end, found: content.into_iter().collect() }];
            let view = View { step, called: 0, opened: Time::MAX, seq: Some(seq), late: true, sights };
            shared.with(|state| state.history.views.push(view));
        }
        Err(error) => shared.complain(|| format!("the read-only view of step {step}"), &error),
    }
}

fn read(env: &SimEnv, shared: &Shared) -> aidb::Result<Option<(Content, u64)>> {
    let options = &shared.plan().workload.options;
    let view = Engine::open_read_only_in(env.clone(), DIR, options.options())?;
    let Some(content) = shared.read_once(view.iter(), false)? else { return Ok(None) };
    if options.twin_memtable_bytes > 0 {
        let twin = view.keyspace("twin")?;
        let Some(other) = shared.read_once(twin.iter(), true)? else { return Ok(None) };
        if content != other {
            let message = format!("a read-only keyspace holds {other:?}, the default one {content:?}");
            shared.fail("keyspaces-apart", message);
            return Ok(None);
        }
    }
    Ok(Some((content, view.visible_seq().0)))
}
