//! Repairs of damaged directories, with the process dying and the power lost at each of their disk operations.

use aidb::base::Result;
use aidb::env::{Disk, Env};
use aidb::lsm::ops::repair::{RepairOptions, RepairReport, repair_in};
use aidb::lsm::{Engine, KeyspaceOptions, Options, REPAIR_PLANTED_BUGS, WriteBatch};
use aidb_sim::story::{files, flip, healed, process, world};
use aidb_sim::{FaultEvent, Harness, Loss, LossMode, Outcome, SimEnv, WorldConfig, run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the default keyspace holds, and another one.
type Content = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

const DIR: &str = "/db";

fn small() -> Options {
    Options {
        memtable_bytes: 4 << 10,
        block_bytes: 128,
        block_cache_bytes: 0,
        l0_compaction_files: 4,
        level_bytes_base: 4 << 10,
        levels_max: 3,
        table_bytes: 4 << 10,
        wal_segment_bytes: 8 << 10,
        background_threads: 1,
        ..Options::default()
    }
}

fn open(env: &SimEnv) -> Result<Engine<SimEnv>> {
    Engine::open_in(env.clone(), DIR, small())
}

fn fix(env: &SimEnv) -> Result<RepairReport> {
    repair_in(env, DIR, RepairOptions { dry_run: false, options: small() })
}

fn content(env: &SimEnv) -> Result<Content> {
    let db = open(env)?;
    let content = read(&db)?;
    db.close()?;
    Ok(content)
}

fn read(db: &Engine<SimEnv>) -> Result<Content> {
    let report = db.validate_integrity()?;
    assert!(report.is_sound(), "{report}");
    let other = db.keyspace("other", KeyspaceOptions::default())?;
    let collect = |iter: aidb::DbIterator| {
        iter.map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect::<Result<_>>()
    };
    Ok([collect(db.iter())?, collect(other.iter())?])
}

/// Tables in two levels and both keyspaces, installed one after the other, and a log that holds what no table does.
fn life(env: &SimEnv) -> Result<Content> {
    let db = open(env)?;
    let other = db.keyspace("other", KeyspaceOptions::default())?;
    for round in 0..4 {
        for number in 0..8 {
            let mut batch = WriteBatch::new();
            batch.put(format!("key {number}"), format!("value {number} of round {round} {}", "x".repeat(700)));
            batch.put_in(&other, format!("key {number}"), format!("{round}"));
            db.write(batch)?;
        }
        db.flush()?;
        if round == 1 {
            db.force_compaction()?;
        }
    }
    for number in 0..8 {
        db.put(format!("log {number}"), "y".repeat(100))?;
    }
    let content = read(&db)?;
    db.close()?;
    Ok(content)
}

/// A way to damage a directory, and whether that costs anything.
struct Case {
    name: &'static str,
    damage: fn(&Harness),
    /// How the lost keys begin, and how many there are at most.
    loses: Option<(&'static str, usize)>,
}

fn remove(harness: &Harness, path: &Path) {
    harness.env().disk().remove(path).expect("it is there");
}

fn manifest(harness: &Harness) -> PathBuf {
    let mut all: Vec<PathBuf> = harness.files().into_iter().map(|file| PathBuf::from(file.path)).collect();
    all.retain(|path| path.starts_with(DIR) && path.to_string_lossy().contains("MANIFEST-"));
    all.sort();
    all.pop().expect("there is one")
}

const CASES: &[Case] = &[
    Case { name: "CURRENT is gone", damage: |harness| remove(harness, Path::new("/db/CURRENT")), loses: None },
    Case { name: "the MANIFEST is gone", damage: |harness| remove(harness, &manifest(harness)), loses: None },
    Case {
        name: "the MANIFEST is damaged behind its first record",
        damage: |harness| {
            // The last edits are readable, so that it is no torn tail.
            let path = manifest(harness);
            let len =
                harness.files().iter().find(|file| Path::new(&file.path) == path).expect("there").bytes.len() as u64;
            flip(harness, &path, len / 2);
        },
        loses: None,
    },
    Case {
        name: "a block is damaged",
        damage: |harness| flip(harness, &files(harness, DIR, ".sst")[0], 20),
        loses: Some(("key", 8)),
    },
    Case {
        name: "the log is damaged",
        damage: |harness| {
            let log = files(harness, "/db/wal", ".log");
            let last = log.last().expect("there is one");
            flip(harness, last, 4096 + 60);
        },
        loses: Some(("log", 1)),
    },
];

/// Lives, damages, repairs under `events`, repairs again without and checks what is there.
fn story(case: &'static Case, config: &WorldConfig, ios: &mut (u64, u64)) -> Outcome {
    run(config, |harness| {
        harness.set_faults(false);
        harness.set_crashes(false);
        let before = healed(harness, life);
        (case.damage)(harness);
        ios.0 = harness.mutating_ios();
        harness.set_faults(true);
        harness.set_crashes(true);
        let (_, first) = process(harness, fix);
        ios.1 = harness.mutating_ios();
        let was_whole = matches!(first, Some(Ok(_)));
        let again = healed(harness, fix);
        assert!(!(was_whole && again.needed), "{}: a second repair finds more: {again}", case.name);
        let after = healed(harness, content);
        for (before, after) in before.iter().zip(&after) {
            for (key, value) in before {
                let may_be_lost = case.loses.is_some_and(|(of, _)| key.starts_with(of.as_bytes()));
                assert!(may_be_lost || after.get(key) == Some(value), "{}: {} is lost", case.name, key.escape_ascii());
            }
            assert!(after.keys().all(|key| before.contains_key(key)), "{}: a key is invented", case.name);
        }
        let lost = before.iter().zip(&after).map(|(before, after)| before.len() - after.len()).sum::<usize>();
        assert!(lost <= case.loses.map_or(0, |(_, most)| most), "{}: {lost} keys are lost", case.name);
    })
}

/// Every crash in the repair of every case; returns the first violation.
fn crash_everywhere(planted: Option<&str>) -> Option<String> {
    for case in CASES {
        let config = |events| {
            let mut config = world(events);
            config.planted.extend(planted.map(str::to_owned));
            config
        };
        let mut ios = (0, 0);
        let calm = story(case, &config(Vec::new()), &mut ios).violation;
        if let Some(violation) = calm {
            return Some(violation.to_string());
        }
        assert!(ios.1 > ios.0 + 5, "{}: a repair of {ios:?} operations", case.name);
        for io in ios.0..ios.1 {
            for after in [false, true] {
                let mode = [LossMode::All, LossMode::Sectors, LossMode::Prefix][(io % 3) as usize];
                let power = FaultEvent::power_loss(io, after, Loss { mode, salt: io });
                for event in [FaultEvent::process_crash(io, after), power] {
                    if let Some(violation) = story(case, &config(vec![event]), &mut (0, 0)).violation {
                        return Some(format!("{}, operation {io}: {violation}", case.name));
                    }
                }
            }
        }
    }
    None
}

#[test]
fn a_repair_cut_short_anywhere_is_ended_by_a_second_one() {
    assert_eq!(crash_everywhere(None), None);
}

#[test]
fn planted_bugs_of_repairs_are_found() {
    for (bug, _) in REPAIR_PLANTED_BUGS {
        assert!(crash_everywhere(Some(bug)).is_some(), "{bug} is not found");
    }
}
