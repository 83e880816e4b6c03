//! Cases that every engine of this kind has met, told one by one.
//!
//! Seeds and enumeration meet them too; here each has a name, a cause and an expected end. "At each" means that the story is told once
//! for each disk operation it makes, with the fault at that operation. The numbers of other projects' issues stand where a case
//! was learned from them.

use aidb::base::{ErrorKind, Result};
use aidb::env::{Disk, DiskFile, Env, OpenMode};
use aidb::lsm::{Durability, Engine, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use aidb_sim::story::{at_each, crash_at_each, files, flip, healed, process, told, world};
use aidb_sim::{At, Fault, FaultEvent, Harness, Loss, LossMode, SimEnv, run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

type Db = Engine<SimEnv>;
type Content = BTreeMap<Vec<u8>, Vec<u8>>;

const DIR: &str = "/db";

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

/// The value of a key that was acknowledged as synced, and those asked for since.
type Asked = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// What the storyteller knows of each key.
#[derive(Clone, Default)]
struct Known(Rc<RefCell<BTreeMap<Vec<u8>, Asked>>>);

impl Known {
    fn put(&self, db: &Db, key: &str, value: &str) -> Result<()> {
        self.0.borrow_mut().entry(key.into()).or_default().1.push(value.into());
        db.put(key, value)?;
        self.0.borrow_mut().insert(key.into(), (Some(value.into()), Vec::new()));
        Ok(())
    }
}

fn open(env: &SimEnv) -> Result<Db> {
    Engine::open_in(env.clone(), DIR, small())
}

fn content(db: &Db) -> Result<Content> {
    db.iter().map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect()
}

/// Reads what is there after the power went, as `loss` says.
fn after_power_loss(harness: &mut Harness, loss: Loss) -> Content {
    harness.power_loss(loss);
    reopened(harness)
}

/// Reads what is there on a disk that is well.
fn reopened(harness: &mut Harness) -> Content {
    healed(harness, |env| {
        let db = open(env)?;
        let report = db.validate_integrity()?;
        assert!(report.is_sound(), "{report}");
        let read = content(&db)?;
        db.close()?;
        Ok(read)
    })
}

fn assert_kept(content: &Content, known: &Known) {
    for (key, (acknowledged, asked)) in &*known.0.borrow() {
        let kept = content.get(key);
        let right = kept == acknowledged.as_ref() || kept.is_some_and(|kept| asked.contains(kept));
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        assert!(right, "{} is {:?}, acknowledged was {:?}", text(key), kept.map(text), acknowledged.as_ref().map(text));
    }
}

/// A story with every kind of file: log records, rolls, flushes, compactions, MANIFEST edits, a second opening.
fn busy_life(known: &Known, env: &SimEnv) -> Result<()> {
    let db = open(env)?;
    for round in 0..3 {
        for number in 0..6 {
            known.put(
                &db,
                &format!("key {number}"),
                &format!("value {number} of round {round} {}", "x".repeat(200)),
            )?;
        }
        db.flush()?;
    }
    db.force_compaction()?;
    known.put(&db, "last", "after the compaction")?;
    db.close()
}

/// RocksDB 10573, LevelDB 195: the pointer's rename must be durable before the old MANIFEST goes, at every opening.
#[test]
fn power_lost_anywhere_in_an_opening_leaves_an_old_or_a_new_manifest_in_force() {
    for mode in [LossMode::All, LossMode::Sectors, LossMode::Prefix] {
        at_each(
            |io| FaultEvent::power_loss(io, true, Loss { mode, salt: io }),
            |harness| {
                let known = Known::default();
                for _ in 0..3 {
                    let mine = known.clone();
                    process(harness, move |env| open(env).and_then(|db| mine.put(&db, "key", "value")));
                }
                assert_kept(&reopened(harness), &known);
            },
        );
    }
}

/// RocksDB 5379: a MANIFEST whose sync failed may or may not hold the edit; nothing may be deleted on the strength of it.
#[test]
fn a_sync_that_fails_anywhere_costs_no_acknowledged_write() {
    let ios = at_each(
        |io| FaultEvent { at: At::Io(io), fault: Fault::SyncFail { no_space: false, salt: io } },
        |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| drop(busy_life(&mine, env)));
            assert_kept(&after_power_loss(harness, Loss::ALL), &known);
        },
    );
    assert!(ios > 50, "the story is too short: {ios} operations");
}

/// RocksDB 12995: after a failed log write the next commit must not be acknowledged behind a hole.
#[test]
fn after_a_failed_log_write_nothing_is_acknowledged_until_it_is_opened_again() {
    at_each(
        |io| FaultEvent { at: At::Io(io), fault: Fault::WriteFail { salt: io } },
        |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| {
                let db = open(env)?;
                let mut failed = false;
                for number in 0..20 {
                    let put = mine.put(&db, &format!("key {number}"), "value");
                    assert!(!failed || put.is_err(), "a poisoned database took write {number}");
                    failed |= put.is_err();
                }
                db.close()
            });
            assert_kept(&after_power_loss(harness, Loss::ALL), &known);
        },
    );
}

/// RocksDB 6316: the disk is full in the middle of the MANIFEST; what was acknowledged stays readable, then and later.
#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    at_each(
        |io| FaultEvent { at: At::Io(io), fault: Fault::NoSpace { ios: 6, salt: io } },
        |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| {
                let Ok(db) = open(env) else { return };
                for round in 0..3 {
                    for number in 0..6 {
                        let _ = mine.put(&db, &format!("key {number}"), &format!("round {round} {}", "x".repeat(200)));
                    }
                    let _ = db.flush();
                }
                assert_kept(&content(&db).expect("reads go on"), &mine);
            });
            assert_kept(&reopened(harness), &known);
        },
    );
}

/// The disk fills up while the engine runs, and is emptied again: no restart is needed, and nothing acknowledged is lost.
#[test]
fn a_full_disk_refuses_writes_and_the_same_handle_goes_on_once_there_is_room() {
    const FILLER: &str = "/filler";
    let fill = |env: &SimEnv| {
        let file = env.disk().open(Path::new(FILLER), OpenMode::CreateNew).expect("the disk is well");
        let free = env.disk().free_space(Path::new("/")).expect("the disk is well");
        file.write_at(&vec![1; free as usize], 0).expect("there is as much");
    };
    let mut config = world(Vec::new());
    config.faults.capacity_bytes = Some(400 << 10);
    let outcome = run(&config, |harness| {
        let known = Known::default();
        let mine = known.clone();
        let (exit, told) = process(harness, move |env| {
            let db = open(env).expect("there is room");
            for round in 0..4 {
                for number in 0..8 {
                    mine.put(&db, &format!("key {number}"), &format!("{round} {}", "x".repeat(100))).expect("room");
                }
                db.flush().expect("there is room");
                fill(env);
                let mut number = 0;
                let refused = loop {
                    number += 1;
                    if let Err(error) = mine.put(&db, &format!("key {}", number % 8), &format!("full {round} {number}"))
                    {
                        break error;
                    }
                };
                assert_eq!(refused.kind(), &ErrorKind::NoSpace);
                assert_eq!(db.put("another", "value").unwrap_err().kind(), &ErrorKind::NoSpace);
                assert_kept(&content(&db).expect("reads go on"), &mine);
                env.disk().remove(Path::new(FILLER)).expect("the disk is well");
                for number in 0..40 {
                    let key = format!("key {}", number % 8);
                    mine.put(&db, &key, &format!("again {round} {}", "y".repeat(100))).expect("there is room again");
                }
            }
        });
        assert!(told.is_some(), "the story ended early: {exit:?}");
        assert_kept(&after_power_loss(harness, Loss { mode: LossMode::All, salt: 1 }), &known);
    });
    assert_eq!(outcome.violation, None);
    for mark in ["aof.refused", "lsm.write_refused"] {
        assert!(outcome.marks.contains(mark), "{mark} was not reached");
    }
}

/// redb 4.2, Pebble 347d5dc77: the recovery is itself cut off, again and again.
#[test]
fn a_crash_at_each_step_of_each_recovery_from_a_crash() {
    let known = Known::default();
    let ios = told(Vec::new(), |harness| drop(process(harness, move |env| busy_life(&known, env)))).mutating_ios;
    for first in (0..ios).step_by(5) {
        for behind in 1..=16 {
            let second =
                FaultEvent::power_loss(first + behind, behind % 2 == 0, Loss { mode: LossMode::Sectors, salt: first });
            told(
                vec![FaultEvent::power_loss(first, true, Loss { mode: LossMode::Prefix, salt: behind }), second],
                |harness| {
                    let known = Known::default();
                    let mine = known.clone();
                    process(harness, move |env| busy_life(&mine, env));
                    process(harness, |env| open(env).map(drop));
                    assert_kept(&reopened(harness), &known);
                },
            );
        }
    }
}

/// LevelDB 251, RocksDB: zeros and garbage behind the last record are no records.
#[test]
fn garbage_behind_the_last_synced_record_is_not_data() {
    for salt in 0..50 {
        told(Vec::new(), |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| {
                let db = open(env)?;
                mine.put(&db, "synced", "value")?;
                for number in 0..20 {
                    let mut batch = WriteBatch::new();
                    batch.put("left", [number]);
                    batch.put("right", [number]);
                    db.write_opt(batch, WriteOptions { durability: Some(Durability::Os) })?;
                }
                std::mem::forget(db);
                Ok::<_, aidb::Error>(())
            });
            let read = after_power_loss(harness, Loss { mode: LossMode::Garbage, salt });
            assert_kept(&read, &known);
            assert_eq!(read.get(&b"left"[..]), read.get(&b"right"[..]), "half a batch");
        });
    }
}

/// Pebble d40d24140: damage below what the log says is durable is damage, not a torn tail.
#[test]
fn a_flipped_byte_in_a_synced_record_is_reported_with_file_and_offset() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let db = open(env)?;
            (0..10).try_for_each(|number| db.put(format!("key {number}"), "value"))?;
            db.close()
        });
        let log = files(harness, "/db/wal", ".log").pop().expect("there is a log");
        flip(harness, &log, 4096 + 60);
        let (_, opened) = process(harness, |env| open(env).map(drop));
        let error = opened.expect("nothing kills it").expect_err("it must not open");
        assert!(error.is_corruption() && error.to_string().contains(&*log.to_string_lossy()), "{error}");
    });
}

/// A table's block is checked when it is read, and an iterator that met damage gives nothing more.
#[test]
fn a_flipped_byte_in_a_table_is_an_error_and_the_end_of_the_iterator() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let db = open(env)?;
            (0..40).try_for_each(|number| db.put(format!("key {number:02}"), "value ".repeat(10)))?;
            db.flush()?;
            db.close()
        });
        let table = files(harness, DIR, ".sst").into_iter().next().expect("there is a table");
        flip(harness, &table, 100);
        let (_, ended) = process(harness, |env| {
            let db = open(env)?;
            for backward in [false, true] {
                let mut iterator = db.iter();
                let mut next = || if backward { iterator.next_back() } else { iterator.next() };
                let error = std::iter::from_fn(&mut next).find_map(Result::err).expect("the damage is met");
                assert!(error.is_corruption(), "{error}");
                assert!((0..3).all(|_| !matches!(next(), Some(Ok(_)))), "the iterator goes on after an error");
            }
            assert!(!db.validate_integrity()?.is_sound(), "validation misses it");
            Ok::<_, aidb::Error>(())
        });
        ended.expect("nothing kills it").expect("the database opens, one block is damaged");
    });
}

/// RocksDB 7621: a table that no MANIFEST names must not give its number to another one.
#[test]
fn an_orphan_of_a_crash_is_removed_and_its_number_not_used_again() {
    at_each(
        |io| FaultEvent::process_crash(io, true),
        |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| busy_life(&mine, env));
            let before: Vec<PathBuf> = files(harness, DIR, ".sst");
            let mine = known.clone();
            let (_, ended) = process(harness, move |env| {
                let db = open(env)?;
                mine.put(&db, "one more", "value")?;
                db.flush()?;
                db.close()
            });
            if ended.is_some_and(|ended| ended.is_ok()) {
                let after = files(harness, DIR, ".sst");
                assert!(after.iter().max() > before.iter().max(), "{before:?} then {after:?}");
            }
            assert_kept(&reopened(harness), &known);
        },
    );
}

/// LevelDB 193, RocksDB 12489: a later log segment must not be durable while the end of the one before is not.
#[test]
fn records_across_a_roll_survive_as_a_prefix() {
    for mode in [LossMode::Sectors, LossMode::Garbage, LossMode::Prefix] {
        for salt in 0..30 {
            told(Vec::new(), |harness| {
                process(harness, |env| {
                    let db = open(env)?;
                    for number in 0..60u32 {
                        let mut batch = WriteBatch::new();
                        batch.put(format!("key {number:03}"), "x".repeat(400));
                        db.write_opt(batch, WriteOptions { durability: Some(Durability::Os) })?;
                    }
                    std::mem::forget(db);
                    Ok::<_, aidb::Error>(())
                });
                let read = after_power_loss(harness, Loss { mode, salt });
                let expected: Vec<Vec<u8>> =
                    (0..read.len()).map(|number| format!("key {number:03}").into_bytes()).collect();
                assert_eq!(read.into_keys().collect::<Vec<_>>(), expected, "a hole in the recovered records");
            });
        }
    }
}

/// Two processes never work in one directory.
#[test]
fn a_second_opening_is_refused_by_name() {
    told(Vec::new(), |harness| {
        let (_, second) = process(harness, |env| {
            let first = open(env)?;
            let second = open(env).map(drop);
            first.close()?;
            open(env)?.close()?;
            second
        });
        let error = second.expect("nothing kills it").expect_err("the first is still open");
        assert_eq!(error.kind(), &aidb::ErrorKind::Locked);
        assert!(error.to_string().contains(DIR), "{error}");
    });
}

/// Pebble 79b311b81, LevelDB 189: what a MANIFEST or CURRENT names is durable before the name is.
#[test]
fn power_lost_anywhere_in_a_life_leaves_no_name_without_its_file() {
    for mode in [LossMode::All, LossMode::Sectors] {
        let ios = at_each(
            |io| FaultEvent::power_loss(io, io % 2 == 0, Loss { mode, salt: io }),
            |harness| {
                let known = Known::default();
                let mine = known.clone();
                process(harness, move |env| busy_life(&mine, env));
                assert_kept(&reopened(harness), &known);
            },
        );
        assert!(ios > 50, "the story is too short: {ios} operations");
    }
}

/// Pebble, RocksDB: a log file that is used again still holds older records behind the new ones; they must not come back.
#[test]
fn records_of_a_log_file_used_again_do_not_come_back() {
    for salt in 0..20 {
        told(Vec::new(), |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| {
                let db = open(env)?;
                for round in 0..6 {
                    for number in 0..30 {
                        mine.put(&db, &format!("key {number}"), &format!("round {round} {}", "x".repeat(300)))?;
                    }
                    // The log before this is given back.
                    db.flush()?;
                }
                mine.put(&db, "key 0", "the last")?;
                std::mem::forget(db);
                Ok::<_, aidb::Error>(())
            })
            .1
            .expect("nothing kills it")
            .expect("nothing fails");
            let read = after_power_loss(harness, Loss { mode: LossMode::Garbage, salt });
            assert_kept(&read, &known);
            assert_eq!(read[&b"key 0"[..]], b"the last");
        });
    }
}

/// lsm-tree 42fd6e5e, LevelDB 13e3c4e: whatever level a version lies on, the newest one is found, and what is deleted stays so.
#[test]
fn what_is_deleted_or_overwritten_does_not_come_back_through_compactions() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let db = open(env)?;
            for round in 0..12u32 {
                for number in (0..40).filter(|number| (number + round) % 3 != 0) {
                    db.put(format!("key {number:02}"), format!("round {round} {}", "x".repeat(100)))?;
                }
                for number in (0..40).filter(|number| (number + round) % 3 == 0) {
                    db.delete(format!("key {number:02}"))?;
                }
                db.flush()?;
                if round % 4 == 3 {
                    db.force_compaction()?;
                }
                let read = content(&db)?;
                for number in 0..40 {
                    let key = format!("key {number:02}").into_bytes();
                    let there = db.get(&key)?.map(|value| value.to_vec());
                    assert_eq!(read.get(&key), there.as_ref(), "key {number} in round {round}");
                    assert_eq!(there.is_none(), (number + round) % 3 == 0, "key {number} in round {round}");
                    let newest = format!("round {round} ");
                    assert!(there.is_none_or(|value| value.starts_with(newest.as_bytes())), "key {number} is old");
                }
            }
            db.close()
        })
        .1
        .expect("nothing kills it")
        .expect("nothing fails");
    });
}

/// AiDb's first version read tables without regard to the snapshot; redb 4.3: a reverse iterator skipped entries.
#[test]
fn a_snapshot_sees_the_same_forwards_and_backwards_whatever_is_flushed_and_compacted() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let db = open(env)?;
            (0..60).try_for_each(|number| db.put(format!("key {number:02}"), format!("first {number}")))?;
            let snapshot = db.snapshot();
            let before = content(&db)?;
            for round in 0..4 {
                (0..60).step_by(2).try_for_each(|number| db.delete(format!("key {number:02}")))?;
                (1..60).step_by(2).try_for_each(|number| db.put(format!("key {number:02}"), "x".repeat(100)))?;
                if round % 2 == 0 {
                    db.flush()?
                } else {
                    db.force_compaction()?
                }
                let mut iterator = snapshot.iter();
                let mut backwards = Content::new();
                let mut order = Vec::new();
                while let Some(entry) = iterator.next_back() {
                    let entry = entry?;
                    order.push(entry.key.clone());
                    backwards.insert(entry.key, entry.value.to_vec());
                }
                assert!(order.is_sorted_by(|a, b| a > b), "round {round}: {order:?}");
                assert_eq!(backwards, before, "backwards in round {round}");
                let forwards: Result<Content> =
                    snapshot.iter().map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect();
                assert_eq!(forwards?, before, "forwards in round {round}");
                assert_eq!(snapshot.get("key 00")?.as_deref(), Some(&b"first 0"[..]));
            }
            drop(snapshot);
            db.close()
        })
        .1
        .expect("nothing kills it")
        .expect("nothing fails");
    });
}

/// fjall 3.1.13: a page that was never synced and is lost does not keep the database from being opened.
#[test]
fn a_lost_page_that_nobody_synced_does_not_stop_the_opening() {
    for salt in 0..50 {
        told(Vec::new(), |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| {
                let db = open(env)?;
                mine.put(&db, "synced", "value")?;
                for number in 0..15 {
                    let mut batch = WriteBatch::new();
                    batch.put(format!("key {number}"), "x".repeat(400));
                    db.write_opt(batch, WriteOptions { durability: Some(Durability::Os) })?;
                }
                std::mem::forget(db);
                Ok::<_, aidb::Error>(())
            });
            assert_kept(&after_power_loss(harness, Loss { mode: LossMode::Sectors, salt }), &known);
        });
    }
}

/// fjall 3.1.13: a flipped bit anywhere in a synced record, its sequence number too, is damage.
#[test]
fn a_flipped_bit_anywhere_in_a_synced_record_is_reported() {
    // Two frames of 40 bytes and a payload of 48, so that there are no bytes between them that nobody reads.
    for offset in (4096..4096 + 2 * 88).step_by(3) {
        told(Vec::new(), |harness| {
            process(harness, |env| {
                let db = open(env)?;
                (0..10).try_for_each(|number| db.put(format!("key {number}"), [b'v'; 28]))?;
                db.close()
            });
            let log = files(harness, "/db/wal", ".log").pop().expect("there is a log");
            flip(harness, &log, offset);
            let (_, opened) = process(harness, |env| open(env).map(drop));
            let error = opened.expect("nothing kills it").err();
            assert!(error.as_ref().is_some_and(|error| error.is_corruption()), "at {offset}: {error:?}");
        });
    }
}

/// How far the story of a dropped keyspace has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// So many of its keys were acknowledged.
    Filling(u32),
    Dropping,
    Dropped,
    MadeAgain,
    WrittenAgain,
}

const DROPPED_KEYS: u32 = 12;

fn drops_a_keyspace(env: &SimEnv, stage: &RefCell<Stage>) -> Result<()> {
    let db = open(env)?;
    let keyspace = db.keyspace("gone", KeyspaceOptions::default())?;
    db.put("kept", "by the default keyspace")?;
    for number in 0..DROPPED_KEYS {
        keyspace.put(format!("key {number:02}"), "x".repeat(100))?;
        *stage.borrow_mut() = Stage::Filling(number + 1);
        // Half of it is in a table, half in the log.
        if number == DROPPED_KEYS / 2 {
            keyspace.flush()?;
        }
    }
    *stage.borrow_mut() = Stage::Dropping;
    assert!(db.drop_keyspace("gone")?);
    *stage.borrow_mut() = Stage::Dropped;
    let again = db.keyspace("gone", KeyspaceOptions::default())?;
    *stage.borrow_mut() = Stage::MadeAgain;
    assert_eq!(again.iter().count(), 0, "a keyspace made again is empty");
    again.put("new", "value")?;
    *stage.borrow_mut() = Stage::WrittenAgain;
    db.close()
}

/// fjall 5a6db12: what is in the log of a dropped keyspace comes back in none, whenever the process dies.
#[test]
fn a_keyspace_is_dropped_whole_or_not_at_all() {
    crash_at_each(|harness| {
        let stage = Rc::new(RefCell::new(Stage::Filling(0)));
        let mine = Rc::clone(&stage);
        let told = process(harness, move |env| drops_a_keyspace(env, &mine)).1;
        assert!(told.is_none_or(|told| told.is_ok()), "only a crash ends it");
        let stage = *stage.borrow();
        healed(harness, move |env| {
            let db = open(env)?;
            let was_there = db.keyspaces() == ["gone"];
            let keyspace = db.keyspace("gone", KeyspaceOptions::default())?;
            let keys: Vec<Vec<u8>> =
                keyspace.iter().map(|entry| entry.map(|entry| entry.key)).collect::<Result<_>>()?;
            let (old, new) = (keys.iter().filter(|key| key.starts_with(b"key")).count() as u32, keyspace.get("new")?);
            let is_whole = was_there && old == DROPPED_KEYS && new.is_none();
            let right = match stage {
                Stage::Filling(acknowledged) => old >= acknowledged && old <= acknowledged + 1 && new.is_none(),
                Stage::Dropping => is_whole || (!was_there && keys.is_empty()),
                Stage::Dropped => keys.is_empty(),
                Stage::MadeAgain => was_there && old == 0,
                Stage::WrittenAgain => was_there && old == 0 && new.is_some(),
            };
            assert!(right, "at {stage:?} it was there: {was_there}, with {keys:?}");
            assert!(stage == Stage::Filling(0) || db.get("kept")?.is_some(), "the default keyspace is untouched");
            assert!(db.validate_integrity()?.is_sound());
            db.close()
        });
    });
}

/// A keyspace begins behind what was written before it, and so behind what a power loss may take.
#[test]
fn a_keyspace_made_behind_writes_that_are_lost_keeps_its_own() {
    let late = |db: &Db| db.keyspace("late", KeyspaceOptions::default());
    for mode in [LossMode::All, LossMode::Prefix] {
        let loses = |io| FaultEvent::power_loss(io, true, Loss { mode, salt: io });
        at_each(loses, |harness| {
            process(harness, move |env| {
                let db = open(env)?;
                for number in 0..9 {
                    let mut batch = WriteBatch::new();
                    batch.put(format!("lost {number}"), "value");
                    db.write_opt(batch, WriteOptions { durability: Some(Durability::Os) })?;
                }
                late(&db).map(drop)
            });
            let mut kept = Vec::new();
            for round in ["first", "second"] {
                let (_, wrote) = process(harness, move |env| {
                    let db = open(env)?;
                    // It dies and is not closed.
                    std::mem::forget(db.clone());
                    late(&db)?.put(round, "value")
                });
                kept.extend(wrote.and_then(Result::ok).map(|()| round.as_bytes().to_vec()));
            }
            let keys: Vec<Vec<u8>> = healed(harness, move |env| {
                let db = open(env)?;
                let keys = late(&db)?.iter().map(|entry| entry.map(|entry| entry.key)).collect::<Result<_>>()?;
                db.close()?;
                Ok(keys)
            });
            assert!(kept.iter().all(|key| keys.contains(key)), "kept {kept:?}, found {keys:?}");
        });
    }
}
