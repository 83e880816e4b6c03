//! Sorted ingest with the process dying, the power lost or the disk failing at each of its operations: all of it is there, or nothing.

use aidb::base::Result;
use aidb::env::{Env, EnvJoin};
use aidb::lsm::{Engine, INGEST_PLANTED_BUGS, Options};
use aidb_sim::story::{healed, process, world};
use aidb_sim::{At, Fault, FaultEvent, FaultPlan, Loss, LossMode, Outcome, Schedule, SimEnv, WorldConfig, run};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

const DIR: &str = "/db";
/// Keys that are ingested.
const KEYS: u32 = 40;

fn open(env: &SimEnv) -> Result<Engine<SimEnv>> {
    let options = Options {
        memtable_bytes: 4 << 10,
        block_bytes: 128,
        block_cache_bytes: 0,
        l0_compaction_files: 2,
        level_bytes_base: 4 << 10,
        levels_max: 3,
        table_bytes: 1 << 10,
        wal_segment_bytes: 8 << 10,
        background_threads: 1,
        ..Options::default()
    };
    Engine::open_in(env.clone(), DIR, options)
}

fn key(number: u32) -> String {
    format!("key {number:03}")
}

/// Older values of some keys in a table and in the memtable, the ingest over both, a newer value. `acknowledged` counts the last two.
fn life(env: &SimEnv, acknowledged: &Cell<u32>) -> Result<()> {
    let db = open(env)?;
    for number in [0, 7, 11] {
        db.put(key(number), "old")?;
    }
    db.flush()?;
    db.put(key(7), "in the memtable")?;
    let before = db.snapshot();
    db.ingest((0..KEYS).map(|number| (key(number), format!("ingested {}", "x".repeat(60)))))?;
    acknowledged.set(1);
    assert!(db.get(key(7))?.is_some_and(|value| value.starts_with(b"ingested")), "an older value is seen");
    assert_eq!(before.get(key(7))?.as_deref(), Some(&b"in the memtable"[..]));
    assert!(before.get(key(1))?.is_none(), "an older snapshot sees it");
    db.put(key(3), "later")?;
    acknowledged.set(2);
    drop(before);
    db.force_compaction()?;
    db.close()
}

fn content(db: &Engine<SimEnv>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let report = db.validate_integrity()?;
    assert!(report.is_sound(), "{report}");
    db.iter().map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect()
}

fn check(env: &SimEnv, acknowledged: u32) -> Result<()> {
    let db = open(env)?;
    let found = content(&db)?;
    let ingested = found.values().filter(|value| value.starts_with(b"ingested")).count() as u32;
    let later = found.get(key(3).as_bytes()).is_some_and(|value| value == b"later");
    assert!([0, KEYS - u32::from(later)].contains(&ingested), "{ingested} of {KEYS} keys are there");
    assert!(acknowledged < 1 || ingested > 0, "what was acknowledged is lost");
    assert!(acknowledged < 2 || later, "the write behind it is lost");
    assert!(ingested > 0 || !later, "the write behind it is there, and it is not");
    // Sequence numbers go on behind it: what is written now is found at the next start.
    db.put(key(5), "after")?;
    let expected = content(&db)?;
    db.close()?;
    let db = open(env)?;
    assert!(content(&db)? == expected && expected[key(5).as_bytes()] == b"after");
    db.close()
}

fn story(config: &WorldConfig) -> Outcome {
    run(config, |harness| {
        let acknowledged = Rc::new(Cell::new(0));
        let mine = Rc::clone(&acknowledged);
        process(harness, move |env| life(env, &mine));
        harness.power_loss(Loss::ALL);
        healed(harness, move |env| check(env, acknowledged.get()));
    })
}

/// Returns the first violation over every fault at every operation.
fn fail_everywhere(planted: Option<&str>) -> Option<String> {
    let config = |events| {
        let mut config = world(events);
        config.planted.extend(planted.map(str::to_owned));
        config
    };
    let calm = story(&config(Vec::new()));
    if let Some(violation) = calm.violation {
        return Some(violation.to_string());
    }
    for io in 0..calm.mutating_ios {
        let mode = [LossMode::All, LossMode::Sectors, LossMode::Prefix][(io % 3) as usize];
        let events = [
            FaultEvent::process_crash(io, false),
            FaultEvent::process_crash(io, true),
            FaultEvent::power_loss(io, false, Loss { mode, salt: io }),
            FaultEvent::power_loss(io, true, Loss { mode, salt: io }),
            FaultEvent::power_loss(io, true, Loss::ALL),
            FaultEvent { at: At::Io(io), fault: Fault::SyncFail { no_space: false, salt: io } },
            FaultEvent { at: At::Io(io), fault: Fault::WriteFail { salt: io } },
            FaultEvent { at: At::Io(io), fault: Fault::NoSpace { ios: 3, salt: io } },
        ];
        for event in events {
            if let Some(violation) = story(&config(vec![event])).violation {
                return Some(format!("{event:?}: {violation}"));
            }
        }
    }
    None
}

#[test]
fn an_ingest_cut_short_anywhere_is_there_wholly_or_not_at_all() {
    assert_eq!(fail_everywhere(None), None);
}

/// fjall 1202338: a wrong sequence number after an ingest.
#[test]
fn planted_bugs_of_ingest_are_found() {
    for (bug, _) in INGEST_PLANTED_BUGS {
        let found = fail_everywhere(Some(bug)).or_else(|| flush_beside_it(Some(bug)));
        assert!(found.is_some(), "{bug} is not found");
    }
}

/// Returns the first violation over schedules of ingests beside a writer whose memtables reach over the ingested keys without
/// having one of them, and a reader who looks twice through each snapshot.
fn flush_beside_it(planted: Option<&str>) -> Option<String> {
    (0..150).find_map(|seed| {
        let schedule = Schedule::Random { one_in: 3 };
        let plan = FaultPlan::Explicit(Vec::new());
        let mut config = WorldConfig { schedule, plan, leak_check: false, ..WorldConfig::calm(seed) };
        config.planted.extend(planted.map(str::to_owned));
        let outcome = run(&config, |harness| {
            process(harness, |env| {
                let db = open(env).expect("the disk is well");
                let (writer, reader) = (db.clone(), db.clone());
                let writing = env.spawn("writer", move || {
                    for number in 0..40u32 {
                        let of = ["a", "z"][number as usize % 2];
                        writer.put(format!("{of}{number}"), "w".repeat(900)).expect("the disk is well");
                    }
                });
                let reading = env.spawn("reader", move || {
                    for _ in 0..10 {
                        let snapshot = reader.snapshot();
                        let look = || snapshot.get(key(1)).expect("the disk is well").map(|value| value.to_vec());
                        assert_eq!(look(), look(), "a snapshot changes");
                    }
                });
                for round in 0..6 {
                    let entries = (0..4).map(|number| (key(number), format!("round {round}")));
                    db.ingest(entries).expect("the disk is well");
                }
                writing.expect("there is room for a thread").join();
                reading.expect("there is room for a thread").join();
                let expected = content(&db).expect("the disk is well");
                assert_eq!(expected.len(), 44);
                db.close().expect("the disk is well");
                let db = open(env).expect("the disk is well");
                assert_eq!(content(&db).expect("the disk is well"), expected);
                db.close().expect("the disk is well");
            });
        });
        outcome.violation.map(|violation| format!("seed {seed}: {violation}"))
    })
}

#[test]
fn an_ingest_beside_flushes_opens_again_and_changes_no_snapshot() {
    assert_eq!(flush_beside_it(None), None);
}

/// Whatever the schedule, readers see none or all of it, and the last of two writers of a key wins.
#[test]
fn writers_and_readers_beside_it_see_all_or_nothing() {
    for seed in 0..60 {
        let schedule = Schedule::Random { one_in: 3 };
        let plan = FaultPlan::Explicit(Vec::new());
        let config = WorldConfig { schedule, plan, leak_check: false, ..WorldConfig::calm(seed) };
        let outcome = run(&config, |harness| {
            let (exit, done) = process(harness, |env| {
                let db = open(env).expect("the disk is well");
                let writer = db.clone();
                let writing = env.spawn("writer", move || {
                    for number in 0..60u32 {
                        writer.put(key(number % 20), format!("written {number}")).expect("the disk is well");
                    }
                });
                let writing = writing.expect("there is room for a thread");
                for round in 0..4 {
                    let entries = (0..KEYS).map(|number| (key(number), format!("round {round}")));
                    let seq = db.ingest(entries).expect("the disk is well").seq;
                    let snapshot = db.snapshot();
                    assert!(snapshot.seq() >= seq);
                    // The writer does not come to these.
                    let seen: Vec<Vec<u8>> = snapshot
                        .range(key(20)..)
                        .map(|entry| entry.expect("the disk is well").value.to_vec())
                        .collect();
                    assert_eq!(seen.len(), 20);
                    assert!(seen.iter().all(|value| *value == format!("round {round}").into_bytes()));
                }
                writing.join();
                let expected = content(&db).expect("the disk is well");
                db.close().expect("the disk is well");
                let db = open(env).expect("the disk is well");
                assert_eq!(content(&db).expect("the disk is well"), expected);
                db.close().expect("the disk is well");
            });
            assert!(done.is_some(), "{exit:?}");
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
