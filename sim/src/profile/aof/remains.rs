//! What is left when all is done: checked by the last opening, on a well disk and with a well archive.
//!
//! **Invariants.** What has expired is gone, but for pins and the segment that the oldest kept record is in. The directory of the
//! log and that of its manifest keep a reserve for a full disk (R9), and hold no file that nobody takes in (R10). Each object of the
//! archive is named by the manifest, as a segment's or as that of an upload that was given up, unless the manifest was lost. A put that lands
//! after its upload was given up and collected twice leaves an object that nobody knows of.
//!
//! **Tripped by** `aof_ttl_uses_wall_only`, `aof_no_reserve`, `aof_spares_forgotten`, `aof_archive_attempt_forgotten`.

use super::process::DIR;
use super::shared::Shared;
use crate::{SimArchive, SimEnv, Violation};
use aidb::aof::Aof;
use aidb::aof::manifest::ManifestView;
use aidb::env::{Disk, Env};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How many seconds a round of the background thread takes at most.
const ROUND_SECONDS_MAX: u32 = 60;
/// How many spares a log keeps for a full disk.
const RESERVES: usize = 2;

/// Reports a violation, unless something at rest was damaged.
fn fail(shared: &Shared, kind: &str, message: String) {
    shared.with(|state| {
        state.own.unless_damaged.get_or_insert_with(|| Violation { kind: kind.into(), message });
    });
}

/// Returns the id before which everything has expired by now: it goes with the next round of the background thread.
pub(super) fn due(env: &SimEnv, shared: &Shared, aof: &Aof<SimEnv>) -> u64 {
    let Some(age) = shared.plan().workload.options.retention_age_us else { return 0 };
    let last_ts = shared.with(|state| state.history.known.last_key_value().map_or(0, |(_, last)| last.ts));
    let oldest = env.wall().0.max(last_ts).saturating_sub(age);
    let segments = aof.segments();
    let expired = segments.windows(2).take_while(|pair| pair[1].base_ts < oldest).last();
    expired.map_or(0, |pair| pair[1].base_id)
}

/// Checks that what was due is gone, or goes soon: a round of the background thread may upload a lot.
pub(super) fn is_gone(env: &SimEnv, shared: &Shared, aof: &Aof<SimEnv>, due: u64) {
    let pinned = aof.pins().into_values().min().unwrap_or(u64::MAX);
    let due = due.min(pinned);
    for _ in 0..ROUND_SECONDS_MAX {
        if aof.first_id() >= due {
            return;
        }
        env.sleep(Duration::from_secs(1));
    }
    let first = aof.first_id();
    // A background thread that has failed for good has stopped.
    if first < due && aof.background_errors().is_empty() {
        fail(shared, "kept", format!("the log begins with id {first}; everything before {due} has expired"));
    }
}

/// Checks the directories and the archive, once the log is closed.
pub(super) fn are_accounted_for(env: &SimEnv, shared: &Shared) {
    let manifest = Path::new(DIR).join("manifest");
    for dir in [Path::new(DIR), &manifest] {
        let Ok(entries) = env.disk().list(dir) else { return };
        let names: Vec<String> = entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
        let is_spare = |name: &&String| name.ends_with(".spare");
        let spares = names.iter().filter(is_spare).count();
        // One made ahead, and one of a segment dropped last.
        let most = RESERVES + shared.plan().workload.options.spare_segments.max(1) + 2;
        if spares < RESERVES {
            fail(shared, "reserve", format!("{} holds {spares} spares: {names:?}", dir.display()));
        }
        if spares > most {
            fail(shared, "stray-file", format!("{} holds {spares} spares, at most {most} are kept", dir.display()));
        }
        // The last is what somebody moved aside.
        let known = ["LOCK", "manifest", "manifest.aside"];
        let is_numbered = |name: &str| [".log", ".spare", ".upload"].iter().any(|suffix| name.ends_with(suffix));
        let strays = |name: &&String| !is_numbered(name) && !known.contains(&name.as_str());
        if let Some(stray) = names.iter().find(strays) {
            fail(shared, "stray-file", format!("{} holds {stray}", dir.display()));
        }
    }
    if shared.with(|state| state.own.manifest_always_kept) {
        objects(env, shared);
    }
}

fn objects(env: &SimEnv, shared: &Shared) {
    let state = match ManifestView::open(env.clone(), Path::new(DIR)) {
        Ok(view) => view.state(),
        Err(error) => return shared.complain(|| "reading the manifest at the end".into(), &error),
    };
    let archived = state.entries.values().map(|entry| &entry.archived_key);
    let named: BTreeSet<&String> = archived.chain(state.attempts.keys()).collect();
    let late = SimArchive.landed_late();
    if let Some(key) = SimArchive.objects().keys().find(|key| !named.contains(key) && !late.contains(*key)) {
        fail(shared, "stray-object", format!("the archive holds {key}, which the manifest does not name"));
    }
}
