//! What has to happen now and then: expired keys are removed, `everysec` syncs, idle clients are closed, rates are taken.
//!
//! One task; work that may touch a device runs on a blocking thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Server;
use crate::base::ErrorKind;
use crate::command::Context;
use crate::env::Env;

const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_SECOND: u64 = 10;
/// Keys that one step of maintenance removes at most; a full step is followed by another one.
const STEP_KEYS_MAX: usize = 200;
/// Steps between two ticks at most.
const STEPS_MAX: usize = 20;

/// Runs until the server stops.
pub(super) async fn run(server: Arc<Server>) {
    let maintaining = Arc::new(AtomicBool::new(false));
    let mut timer = tokio::time::interval(TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut commands_before = 0;
    for tick in 0_u64.. {
        tokio::select! {
            biased;
            () = server.stopping() => return,
            _ = timer.tick() => {}
        }
        if !maintaining.swap(true, Ordering::AcqRel) {
            let (server, maintaining) = (server.clone(), maintaining.clone());
            tokio::task::spawn_blocking(move || {
                maintain(&server);
                maintaining.store(false, Ordering::Release);
            });
        }
        if tick % TICKS_PER_SECOND == 0 {
            let commands = server.stats.commands.get();
            server.stats.commands_per_second.set(commands.saturating_sub(commands_before));
            commands_before = commands;
            if server.syncs_every_second() {
                server.syncer.tick();
            }
            close_idle(&server);
        }
    }
}

fn maintain(server: &Server) {
    for _ in 0..STEPS_MAX {
        let context = Context { now_ms: server.env.wall().millis(), seed: server.env.rand_u64() };
        match server.backend.maintain(context, server.active_expire(), STEP_KEYS_MAX) {
            Ok(true) if !server.stopping.load(Ordering::Acquire) => {}
            Ok(_) => return,
            // The orderly end may have closed the data meanwhile.
            Err(error) if error.kind() == &ErrorKind::Closed => return,
            Err(error) => return server.write_failed(&error),
        }
    }
}

fn close_idle(server: &Server) {
    let limit = server.config().timeout_seconds;
    if limit == 0 {
        return;
    }
    let now = server.env.now();
    for client in server.clients.all() {
        if now.since(client.notes(|notes| notes.active)).as_secs() > limit {
            client.kill();
        }
    }
}
