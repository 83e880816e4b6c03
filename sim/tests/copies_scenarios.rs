//! Checkpoints, backups, restores and read-only views, with a fault at each of their disk operations in turn.

use aidb::backup::{list_in, purge_in, restore_in, verify_in};
use aidb::base::{ErrorKind, Result};
use aidb::env::{Disk, Env, EnvJoin};
use aidb::lsm::{Engine, KeyspaceOptions, Options, WriteBatch};
use aidb_sim::story::{at_each, crash_at_each, files, flip, healed, process, told};
use aidb_sim::{At, Fault, FaultEvent, FaultPlan, Harness, Loss, LossMode, Schedule, SimEnv, WorldConfig, run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Db = Engine<SimEnv>;
/// What the default keyspace holds, and another one.
type Content = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

const DIR: &str = "/db";
const COPY: &str = "/copy";
const BACKUPS: &str = "/backups";

fn small() -> Options {
    Options {
        memtable_bytes: 4 << 10,
        block_bytes: 128,
        block_cache_bytes: 0,
        l0_compaction_files: 2,
        level_bytes_base: 4 << 10,
        levels_max: 3,
        table_bytes: 4 << 10,
        wal_segment_bytes: 8 << 10,
        background_threads: 1,
        ..Options::default()
    }
}

fn open(env: &SimEnv, dir: &str) -> Result<Db> {
    Engine::open_in(env.clone(), dir, small())
}

fn content(db: &Db) -> Result<Content> {
    let other = db.keyspace("other", KeyspaceOptions::default())?;
    let collect = |iter: aidb::DbIterator| {
        iter.map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect::<Result<_>>()
    };
    Ok([collect(db.iter())?, collect(other.iter())?])
}

/// Opens what is in `dir`, checks it and reads it.
fn read(env: &SimEnv, dir: &str) -> Result<Content> {
    let db = Engine::open_in(env.clone(), dir, Options { create_if_missing: false, ..small() })?;
    let report = db.validate_integrity()?;
    assert!(report.is_sound(), "{report}");
    let content = content(&db)?;
    db.close()?;
    Ok(content)
}

fn put(db: &Db, key: &str, value: &str) -> Result<()> {
    let other = db.keyspace("other", KeyspaceOptions::default())?;
    let mut batch = WriteBatch::new();
    batch.put(key, value);
    batch.put_in(&other, key, value);
    db.write(batch).map(|_| ())
}

/// Tables in both keyspaces, a compaction, and a full log.
fn life(env: &SimEnv, round: u32) -> Result<Db> {
    let db = open(env, DIR)?;
    for number in 0..6 {
        put(&db, &format!("key {number}"), &format!("value {number} of round {round} {}", "x".repeat(200)))?;
    }
    db.flush()?;
    if round == 1 {
        db.force_compaction()?;
    }
    put(&db, "only in the log", &round.to_string())?;
    Ok(db)
}

/// Everything that the disk may do.
fn faults() -> [fn(u64) -> FaultEvent; 6] {
    [
        |io| FaultEvent::power_loss(io, true, Loss::ALL),
        |io| FaultEvent::power_loss(io, true, Loss { mode: LossMode::Sectors, salt: io }),
        |io| FaultEvent::process_crash(io, false),
        |io| FaultEvent { at: At::Io(io), fault: Fault::SyncFail { no_space: false, salt: io } },
        |io| FaultEvent { at: At::Io(io), fault: Fault::WriteFail { salt: io } },
        |io| FaultEvent { at: At::Io(io), fault: Fault::NoSpace { ios: 3, salt: io } },
    ]
}

/// Opens `COPY` on a well disk; `Err` is why it is refused.
fn opened_or_refused(harness: &mut Harness) -> std::result::Result<Content, String> {
    healed(harness, |env| Ok(read(env, COPY).map_err(|error| error.to_string())))
}

/// RocksDB, Pebble: a checkpoint whose log is not synced, or reaches past the snapshot. Here it is whole and as of the call, or
/// it does not open; and the database it was made of has lost nothing.
#[test]
fn whatever_happens_in_a_checkpoint_it_is_whole_or_it_is_none() {
    for fault in faults() {
        at_each(fault, |harness| {
            let seen = Rc::new(RefCell::new((None, false)));
            let mine = Rc::clone(&seen);
            process(harness, move |env| {
                let db = life(env, 1)?;
                mine.borrow_mut().0 = Some(content(&db)?);
                let made = db.checkpoint(COPY).is_ok();
                mine.borrow_mut().1 = made;
                put(&db, "only in the log", "a later value")?;
                db.force_compaction()?;
                db.close()
            });
            harness.power_loss(Loss::ALL);
            let (before, made) = seen.take();
            match opened_or_refused(harness) {
                Ok(read) => assert_eq!(Some(read), before),
                Err(error) => assert!(!made, "it was acknowledged and does not open: {error}"),
            }
            if let Some(before) = before {
                let now = healed(harness, |env| read(env, DIR));
                assert!(now[0].len() >= before[0].len() && now[0] == now[1]);
            }
        });
    }
}

/// The backups of a life, with what they hold if they were acknowledged.
#[derive(Clone, Default)]
struct Backups(Rc<RefCell<Vec<(u64, Content)>>>);

impl Backups {
    fn make(&self, db: &Db) -> Result<()> {
        let content = content(db)?;
        let made = db.backup(BACKUPS)?;
        self.0.borrow_mut().push((made.number, content));
        Ok(())
    }

    /// Checks that each of them is there and can be restored.
    fn assert_whole(&self, harness: &mut Harness) {
        let backups = self.0.borrow().clone();
        healed(harness, move |env| {
            if env.disk().list(Path::new(BACKUPS)).is_err() {
                assert!(backups.is_empty());
                return Ok(());
            }
            let report = verify_in(env, BACKUPS)?;
            assert!(report.is_sound(), "{report}");
            let listed = list_in(env, BACKUPS)?;
            assert!(listed.problems.is_empty());
            for (number, expected) in backups {
                let target = format!("/restored-{number}");
                restore_in(env, BACKUPS, Some(number), &target)?;
                assert_eq!(read(env, &target)?, expected, "backup {number}");
            }
            // It goes on: the next backup takes over what an interrupted one left.
            let db = open(env, DIR)?;
            let now = content(&db)?;
            let number = db.backup(BACKUPS)?.number;
            assert!(listed.backups.iter().all(|backup| backup.number < number));
            db.close()?;
            purge_in(env, BACKUPS, 1)?;
            let report = verify_in(env, BACKUPS)?;
            assert!(report.is_sound() && report.unused == 0 && report.backups == 1, "{report}");
            restore_in(env, BACKUPS, None, "/restored")?;
            assert_eq!(read(env, "/restored")?, now);
            Ok(())
        });
    }
}

fn a_life_with_backups(harness: &mut Harness) -> Backups {
    let backups = Backups::default();
    let mine = backups.clone();
    process(harness, move |env| {
        for round in 0..3 {
            let db = life(env, round)?;
            mine.make(&db)?;
            db.close()?;
        }
        // From now on only the newest counts.
        let newest = mine.0.borrow().last().cloned();
        mine.0.borrow_mut().clear();
        mine.0.borrow_mut().extend(newest);
        purge_in(env, BACKUPS, 1)
    });
    backups
}

#[test]
fn a_crash_anywhere_in_backups_and_their_purge_leaves_the_others_whole() {
    crash_at_each(|harness| {
        let backups = a_life_with_backups(harness);
        backups.assert_whole(harness);
    });
}

#[test]
fn a_failing_disk_costs_no_backup_that_was_acknowledged() {
    for fault in &faults()[3..] {
        at_each(fault, |harness| {
            let backups = a_life_with_backups(harness);
            harness.power_loss(Loss::ALL);
            backups.assert_whole(harness);
        });
    }
}

#[test]
fn a_restore_cut_short_anywhere_is_no_database_or_refused_or_whole() {
    for fault in faults() {
        at_each(fault, |harness| {
            let seen = Rc::new(RefCell::new((None, false)));
            let mine = Rc::clone(&seen);
            process(harness, move |env| {
                let db = life(env, 1)?;
                db.backup(BACKUPS)?;
                mine.borrow_mut().0 = Some(content(&db)?);
                db.close()?;
                restore_in(env, BACKUPS, None, COPY)?;
                mine.borrow_mut().1 = true;
                Ok::<_, aidb::Error>(())
            });
            harness.power_loss(Loss::ALL);
            let (expected, restored) = seen.take();
            match opened_or_refused(harness) {
                Ok(read) => assert_eq!(Some(read), expected),
                Err(error) => {
                    assert!(!restored, "it was acknowledged and does not open: {error}");
                    let clear = ["INCOMPLETE", "holds no engine", "no CURRENT", "cannot lock"];
                    assert!(clear.iter().any(|word| error.contains(word)), "{error}");
                }
            }
            // What is left of it is never taken for a new database's directory.
            if !restored && harness.files().iter().any(|file| file.path == "/copy/INCOMPLETE") {
                let refused = healed(harness, |env| Ok(open(env, COPY).err()));
                assert!(refused.is_some_and(|error| error.to_string().contains("INCOMPLETE")));
            }
        });
    }
}

/// A flipped bit anywhere in a backup is named, and only the backups that have the file are lost.
#[test]
fn a_flipped_bit_in_a_backup_is_named() {
    told(Vec::new(), |harness| {
        let (_, made) = process(harness, |env| {
            let db = life(env, 0)?;
            db.backup(BACKUPS)?;
            put(&db, "only in the log", "again")?;
            db.backup(BACKUPS)?;
            db.close()
        });
        assert!(matches!(made, Some(Ok(()))));
        let log = files(harness, "/backups/logs", "000001.log").remove(0);
        flip(harness, &log, 40);
        healed(harness, move |env| {
            let error = restore_in(env, BACKUPS, Some(1), COPY).expect_err("it is damaged");
            assert_eq!(*error.kind(), ErrorKind::Corruption { file: log.clone(), offset: 16 });
            restore_in(env, BACKUPS, Some(2), COPY)?;
            assert_eq!(read(env, COPY)?[0][&b"only in the log"[..]], b"again");
            assert_eq!(verify_in(env, BACKUPS)?.problems.len(), 1);
            Ok(())
        });
    });
}

/// A process that only reads opens the directory at any moment of the writer's life, sees a moment of it, and changes nothing.
#[test]
fn a_read_only_view_beside_a_busy_writer_sees_one_moment() {
    for seed in 0..20 {
        let schedule = Schedule::Random { one_in: 3 };
        let config = WorldConfig { schedule, leak_check: false, ..WorldConfig::calm(seed) };
        let config = WorldConfig { plan: FaultPlan::Explicit(Vec::new()), ..config };
        let outcome = run(&config, |harness| {
            let (exit, looks) = process(harness, |env| {
                let db = open(env, DIR).expect("the disk is well");
                let writer = db.clone();
                let acknowledged = Arc::new(AtomicU64::new(0));
                let told = Arc::clone(&acknowledged);
                let writing = env.spawn("writer", move || {
                    let other = writer.keyspace("other", KeyspaceOptions::default()).expect("the disk is well");
                    for number in 0..150u32 {
                        let mut batch = WriteBatch::new();
                        batch.put(format!("left {:02}", number % 40), number.to_string());
                        batch.put_in(&other, format!("right {:02}", number % 40), number.to_string());
                        batch.put("last", number.to_string());
                        let info = writer.write(batch).expect("the disk is well");
                        told.store(info.seq.0, Ordering::Relaxed);
                    }
                });
                let writing = writing.expect("there is room for a thread");
                let (mut looks, mut newest) = (0, None);
                while newest != Some(149) {
                    looks += 1;
                    newest = look(env, &acknowledged);
                }
                writing.join();
                db.close().expect("the disk is well");
                looks
            });
            assert!(looks.is_some_and(|looks| looks > 2), "the story ended early: {exit:?}");
            healed(harness, |env| read(env, DIR));
        });
        assert_eq!(outcome.violation, None);
    }
}

/// Returns the newest batch that a view shows, after checking that it shows all of it and of those before.
fn look(env: &SimEnv, acknowledged: &AtomicU64) -> Option<u32> {
    let view = match Engine::open_read_only_in(env.clone(), DIR, small()) {
        Ok(view) => view,
        Err(error) if *error.kind() == ErrorKind::WouldBlock => return None,
        Err(error) => panic!("{error}"),
    };
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    view.refresh().expect("the disk is well");
    assert!(view.visible_seq().0 >= acknowledged, "it is behind");
    let last = view.get("last").expect("the disk is well")?;
    let count: u32 = String::from_utf8_lossy(&last).parse().expect("digits");
    let other = view.keyspace("other").expect("it was written to");
    for number in count.saturating_sub(39)..=count {
        for (of, side) in [(&view, "left"), (&other, "right")] {
            let key = format!("{side} {:02}", number % 40);
            let found = of.get(&key).expect("the disk is well");
            assert_eq!(found.as_deref(), Some(number.to_string().as_bytes()), "{key} at {count}");
        }
    }
    assert!(view.verify().is_sound());
    Some(count)
}
