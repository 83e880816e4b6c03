//! The crash points of a log with an archive, told as stories: who does what, what breaks, and what must still be there.
//!
//! Most stories are told again and again, with the fault at each of their operations in turn: every write, sync and rename of the
//! disk, every put and delete of the archive. A storyteller notes each record that was acknowledged; whatever happens, it must be
//! there afterwards, once, under its id.
#![allow(clippy::disallowed_types, reason = "the storyteller is shared between fibers of one OS thread")]

use aidb::aof::archive::ArchiveStorage;
use aidb::aof::{
    Aof, AofConfig, AofError, ArchiveConfig, FlushStrategy, From, KeyRing, Retention, SegmentStatus, Visibility,
};
use aidb::env::{Disk, DiskFile, Env, EnvJoin, OpenMode};
use aidb::{ErrorKind, Result};
use aidb_sim::story::{at_each, crash_at_each, files, flip, healed, process, told};
use aidb_sim::{At, Fault, FaultEvent, Harness, Loss, LossMode, SimArchive, SimEnv};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

type Log = Aof<SimEnv>;
type Content = BTreeMap<u64, Vec<u8>>;

const DIR: &str = "/log";

/// Segments of two pages, nothing durable unless somebody waits, a background thread that looks often.
fn small() -> AofConfig {
    AofConfig {
        segment_bytes: 8192,
        flush_strategy: FlushStrategy::Batched(1 << 20),
        background_interval: Duration::from_millis(10),
        ..AofConfig::default()
    }
}

/// As [`small`], with an archive that takes every sealed segment.
fn archived() -> AofConfig {
    let mut config = small();
    let mut archive = ArchiveConfig::new(Arc::new(SimArchive));
    archive.local_segments = 0;
    config.archive = Some(archive);
    config
}

/// What the storyteller knows.
#[derive(Clone, Default)]
struct Known(Rc<RefCell<Told>>);

#[derive(Default)]
struct Told {
    acknowledged: Content,
    asked: Vec<Vec<u8>>,
    truncated: u64,
}

impl Known {
    /// Appends a record and waits until it is durable.
    fn append(&self, log: &Log, text: &str) -> Result<u64> {
        self.0.borrow_mut().asked.push(text.into());
        let ids = log.append_sync(text.as_bytes())?;
        self.0.borrow_mut().acknowledged.insert(ids.start, text.into());
        Ok(ids.start)
    }

    fn truncate(&self, log: &Log, id: u64) -> Result<()> {
        // What may be gone need not be there.
        self.0.borrow_mut().acknowledged.retain(|of, _| *of >= id);
        log.truncate_before(id)?;
        self.0.borrow_mut().truncated = id;
        Ok(())
    }

    /// Every acknowledged record is there; nothing else is but what was asked for.
    fn assert_kept(&self, content: &Content) {
        let told = self.0.borrow();
        for (id, text) in &told.acknowledged {
            let kept = content.get(id).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            assert_eq!(kept.as_deref(), Some(&*String::from_utf8_lossy(text)), "record {id} was acknowledged");
        }
        for (id, text) in content {
            assert!(told.asked.contains(text), "nobody appended record {id}");
            assert!(*id >= told.truncated, "record {id} was truncated and is back");
        }
    }
}

fn open(env: &SimEnv, config: AofConfig) -> Result<Log> {
    Aof::open(env.clone(), DIR, config).map(|(log, _)| log)
}

fn content(log: &Log) -> Result<Content> {
    log.cursor(From::First)?.map(|record| record.map(|record| (record.id, record.bytes.to_vec()))).collect()
}

/// Tells a story with `fault` at each operation of the archive.
fn remote_at_each(fault: Fault, story: impl Fn(&mut Harness)) {
    for op in 0..14 {
        told(vec![FaultEvent { at: At::Remote(op), fault }], &story);
    }
}

/// Reads what is there when disk and archive are well.
fn reopened(harness: &mut Harness, config: AofConfig) -> Content {
    SimArchive.land_all();
    healed(harness, |env| {
        let log = open(env, config)?;
        let read = content(&log)?;
        let report = log.verify()?;
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        log.close()?;
        Ok(read)
    })
}

/// A life with every kind of file: records, rolls, a truncation, a second opening; with an archive also uploads.
fn busy_life(known: &Known, env: &SimEnv, config: AofConfig) -> Result<()> {
    let log = open(env, config)?;
    for round in 0..3 {
        for number in 0..4 {
            known.append(&log, &format!("record {number} of round {round} {}", "x".repeat(600)))?;
        }
        log.seal()?;
        env.sleep(Duration::from_millis(100));
    }
    known.truncate(&log, 6)?;
    known.append(&log, "after the truncation")?;
    env.sleep(Duration::from_secs(1));
    log.close()
}

/// Lives through [`busy_life`] and another opening, and compares.
fn live(harness: &mut Harness, config: fn() -> AofConfig) {
    let known = Known::default();
    let mine = known.clone();
    process(harness, move |env| drop(busy_life(&mine, env, config())));
    let mine = known.clone();
    process(harness, move |env| {
        let log = open(env, config())?;
        mine.append(&log, "in the second opening")?;
        env.sleep(Duration::from_secs(1));
        log.close()
    });
    known.assert_kept(&reopened(harness, config()));
}

fn segments(harness: &Harness) -> Vec<PathBuf> {
    files(harness, DIR, ".log")
}

/// Writes three segments and a clean end; returns what was written.
fn three_segments(harness: &mut Harness, config: AofConfig) -> Known {
    let known = Known::default();
    let mine = known.clone();
    process(harness, move |env| {
        let log = open(env, config)?;
        for number in 0..9 {
            mine.append(&log, &format!("record {number} {}", "y".repeat(300)))?;
            if number % 3 == 2 && number < 8 {
                log.seal()?;
            }
        }
        env.sleep(Duration::from_secs(1));
        log.close()
    })
    .1
    .expect("nothing kills it")
    .expect("nothing fails");
    known
}

#[test]
fn a_crash_anywhere_in_a_life_without_archive_loses_nothing() {
    crash_at_each(|harness| live(harness, small));
}

#[test]
fn a_crash_anywhere_in_the_life_of_an_archived_log_loses_nothing() {
    // After the intent, in the middle of an upload, after the put, the verification, the commit, the unlink, in the collection.
    crash_at_each(|harness| live(harness, archived));
}

#[test]
fn a_crash_anywhere_in_the_life_of_an_encrypted_and_compressed_log_loses_nothing() {
    fn config() -> AofConfig {
        let mut config = archived();
        config.encryption = Some(KeyRing::new(7, [(7, [7; 32])]).unwrap());
        config.compression_level = Some(1);
        config
    }
    crash_at_each(|harness| live(harness, config));
}

#[test]
fn a_recovery_that_is_cut_off_again_loses_nothing() {
    let story = |harness: &mut Harness| live(harness, archived);
    let ios = told(Vec::new(), story).mutating_ios;
    for first in (0..ios).step_by(7) {
        for behind in 1..12 {
            let crash = |io, salt| FaultEvent::power_loss(io, salt % 2 == 0, Loss { mode: LossMode::Sectors, salt });
            told(vec![crash(first, behind), crash(first + behind, first)], story);
        }
    }
}

#[test]
fn a_sync_that_fails_then_a_restart_then_a_power_loss() {
    let story = |harness: &mut Harness| {
        let known = Known::default();
        let mine = known.clone();
        process(harness, move |env| drop(busy_life(&mine, env, small())));
        process(harness, |env| drop(open(env, small())));
        harness.power_loss(Loss::ALL);
        known.assert_kept(&reopened(harness, small()));
    };
    for salt in 0..2 {
        at_each(|io| FaultEvent { at: At::Io(io), fault: Fault::SyncFail { no_space: false, salt } }, story);
    }
}

#[test]
fn a_full_disk_anywhere_is_a_clean_refusal_and_the_same_handle_goes_on() {
    let story = |harness: &mut Harness| {
        let known = Known::default();
        let mine = known.clone();
        process(harness, move |env| {
            let Ok(log) = open(env, small()) else { return };
            let mut poisoned = false;
            for number in 0..30 {
                match mine.append(&log, &format!("record {number} {}", "x".repeat(400))) {
                    Ok(_) => assert!(!poisoned, "a poisoned log took record {number}"),
                    Err(error) => poisoned |= *error.kind() == ErrorKind::Poisoned,
                }
            }
            mine.assert_kept(&content(&log).expect("reads go on"));
        });
        harness.power_loss(Loss::ALL);
        known.assert_kept(&reopened(harness, small()));
    };
    at_each(|io| FaultEvent { at: At::Io(io), fault: Fault::NoSpace { ios: 6, salt: io * 2 + 1 } }, story);
}

#[test]
fn a_flipped_byte_anywhere_in_a_sealed_segment_is_named() {
    // Header, frame header, payload, and from the segment's end backwards the footer.
    for (from_start, from_end) in [(8, 0), (40, 0), (4096 + 4, 0), (4096 + 20, 0), (4096 + 60, 0), (0, 12), (0, 70)] {
        told(Vec::new(), |harness| {
            three_segments(harness, small());
            let path = segments(harness).remove(0);
            let length = harness.env().disk().open(&path, OpenMode::Read).unwrap().len().unwrap();
            flip(harness, &path, if from_end > 0 { footer_end(harness, &path, length) - from_end } else { from_start });
            let named = path.clone();
            let (_, met) = process(harness, move |env| {
                let log = match open(env, small()) {
                    Ok(log) => log,
                    Err(error) => return Some(error.to_string()),
                };
                let report = log.verify().expect("verification itself does not fail");
                report.faults.first().map(|fault| fault.file.display().to_string())
            });
            let met = met.expect("nothing kills it").expect("the damage is noticed");
            assert!(met.contains(&*named.to_string_lossy()), "{from_start} {from_end}: {met}");
        });
    }
}

/// The offset behind the last byte that is not zero.
fn footer_end(harness: &Harness, path: &Path, length: u64) -> u64 {
    let mut bytes = vec![0; length as usize];
    harness.env().disk().open(path, OpenMode::Read).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64
}

#[test]
fn rot_in_the_last_segment_below_a_mark_is_damage_and_never_a_shorter_log() {
    told(Vec::new(), |harness| {
        three_segments(harness, small());
        let path = segments(harness).pop().unwrap();
        flip(harness, &path, 4096 + 60);
        let (_, opened) = process(harness, |env| open(env, small()).map(drop));
        let error = opened.expect("nothing kills it").expect_err("a MARK says that the record was durable");
        assert!(error.is_corruption() && error.to_string().contains(&*path.to_string_lossy()), "{error}");
    });
}

#[test]
fn garbage_behind_the_last_durable_record_is_no_record() {
    for salt in 0..20 {
        told(Vec::new(), |harness| {
            let known = Known::default();
            let mine = known.clone();
            process(harness, move |env| {
                let log = open(env, small())?;
                mine.append(&log, "durable")?;
                for number in 0..10 {
                    mine.0.borrow_mut().asked.extend([b"left".to_vec(), format!("right {number}").into()]);
                    drop(log.append_batch(&[b"left".to_vec(), format!("right {number}").into_bytes()])?);
                }
                std::mem::forget(log);
                Ok::<_, aidb::Error>(())
            });
            harness.power_loss(Loss { mode: LossMode::Garbage, salt });
            let read = reopened(harness, small());
            known.assert_kept(&read);
            assert_eq!(read.len() % 2, 1, "half a batch");
        });
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_named() {
    told(Vec::new(), |harness| {
        three_segments(harness, small());
        let path = segments(harness).remove(1);
        harness.env().disk().remove(&path).unwrap();
        let (_, opened) = process(harness, |env| open(env, small()).map(drop));
        let error = opened.expect("nothing kills it").expect_err("it must not open");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    });
}

#[test]
fn an_empty_directory_beside_a_manifest_is_not_a_new_log() {
    told(Vec::new(), |harness| {
        three_segments(harness, small());
        for path in segments(harness) {
            harness.env().disk().remove(&path).unwrap();
        }
        let (_, opened) = process(harness, |env| open(env, small()).map(drop));
        opened.expect("nothing kills it").expect_err("its segments are lost");
    });
}

fn lose_manifest(harness: &Harness) {
    let (env, dir) = (harness.env(), Path::new(DIR).join("manifest"));
    for entry in env.disk().list(&dir).unwrap() {
        env.disk().remove(&dir.join(entry.name)).unwrap();
    }
}

#[test]
fn a_lost_manifest_is_rebuilt_from_segments_and_archive() {
    for config in [small, archived] {
        told(Vec::new(), |harness| {
            let known = three_segments(harness, config());
            lose_manifest(harness);
            known.assert_kept(&reopened(harness, config()));
        });
    }
}

#[test]
fn a_crash_anywhere_in_the_rebuilding_of_a_manifest_loses_nothing() {
    crash_at_each(|harness| {
        harness.set_crashes(false);
        let known = three_segments(harness, archived());
        lose_manifest(harness);
        harness.set_crashes(true);
        process(harness, |env| drop(open(env, archived())));
        known.assert_kept(&reopened(harness, archived()));
    });
}

#[test]
fn a_torn_manifest_opens_as_it_was_before_or_names_its_file() {
    told(Vec::new(), |harness| {
        let known = three_segments(harness, archived());
        let path = files(harness, "/log/manifest", ".log").pop().expect("the manifest has a segment");
        let file = harness.env().disk().open(&path, OpenMode::ReadWrite).unwrap();
        file.truncate(file.len().unwrap() - 100).unwrap();
        flip(harness, &path, 4096 + 70);
        let (_, opened) = process(harness, |env| open(env, archived()).map(drop));
        if let Err(error) = opened.expect("nothing kills it") {
            assert!(error.is_corruption() && error.to_string().contains("manifest"), "{error}");
            lose_manifest(harness);
        }
        known.assert_kept(&reopened(harness, archived()));
    });
}

#[test]
fn an_upload_whose_answer_is_lost_loses_nothing() {
    remote_at_each(Fault::RemoteLost, |harness| live(harness, archived));
}

#[test]
fn an_upload_that_lands_late_even_after_a_restart_loses_nothing() {
    for after in [0, 3, 9] {
        remote_at_each(Fault::RemoteLate { after }, |harness| live(harness, archived));
    }
}

#[test]
fn an_upload_that_is_cut_off_and_lands_all_the_same_loses_nothing() {
    let ios = told(Vec::new(), |harness| live(harness, archived)).mutating_ios;
    for op in 0..6 {
        for io in (0..ios).step_by(3) {
            let late = FaultEvent { at: At::Remote(op), fault: Fault::RemoteLate { after: 2 } };
            told(vec![late, FaultEvent::process_crash(io, false)], |harness| live(harness, archived));
        }
    }
}

#[test]
fn a_key_that_exists_already_is_never_taken_for_ours() {
    for foreign in [false, true] {
        remote_at_each(Fault::RemoteConflict { foreign, salt: 3 }, |harness| live(harness, archived));
    }
}

#[test]
fn an_object_that_is_stored_damaged_never_replaces_a_segment() {
    for salt in 0..6 {
        remote_at_each(Fault::RemoteDamaged { salt }, |harness| live(harness, archived));
    }
}

#[test]
fn an_archive_that_fails_at_any_operation_loses_nothing() {
    remote_at_each(Fault::RemoteFail, |harness| live(harness, archived));
}

#[test]
fn collection_runs_twice_and_leaves_nothing_behind() {
    crash_at_each(|harness| {
        let known = Known::default();
        let mine = known.clone();
        process(harness, move |env| drop(busy_life(&mine, env, archived())));
        for _ in 0..2 {
            process(harness, |env| {
                let log = open(env, archived())?;
                env.sleep(Duration::from_secs(5));
                log.close()
            });
        }
        known.assert_kept(&reopened(harness, archived()));
        assert_nothing_leaked(harness);
    });
}

/// Every object of the archive is a segment that the log knows.
fn assert_nothing_leaked(harness: &mut Harness) {
    let (_, known) = process(harness, |env| {
        let log = open(env, archived())?;
        env.sleep(Duration::from_secs(5));
        let entries = log.segments();
        log.close()?;
        Ok::<_, aidb::Error>(
            entries.into_iter().map(|entry| entry.archived_key).filter(|key| !key.is_empty()).collect::<Vec<_>>(),
        )
    });
    let known = known.expect("nothing kills it").expect("it opens");
    for key in SimArchive.objects().into_keys() {
        assert!(known.contains(&key), "{key} was left behind; known are {known:?}");
    }
}

#[test]
fn an_archived_object_that_is_missing_or_damaged_is_an_error_that_names_it() {
    for damage in [false, true] {
        told(Vec::new(), |harness| {
            three_segments(harness, archived());
            let key = SimArchive.objects().into_keys().next().expect("a segment is archived");
            if damage {
                SimArchive.damage(&key, 1)
            } else {
                SimArchive.lose(&key)
            }
            let named = key.clone();
            let (_, read) = process(harness, |env| content(&open(env, archived())?));
            let error = read.expect("nothing kills it").expect_err("its records cannot be read");
            assert!(error.to_string().contains(&named), "{error}");
        });
    }
}

#[test]
fn a_truncation_waits_for_a_pin_and_an_upload_of_what_it_drops_ends() {
    crash_at_each(|harness| {
        let known = Known::default();
        let mine = known.clone();
        process(harness, move |env| {
            let log = open(env, archived())?;
            for number in 0..9 {
                mine.append(&log, &format!("record {number} {}", "z".repeat(900)))?;
            }
            log.pin("reader", 4)?;
            // Beside the uploads of what it drops.
            let first = log.truncate_before(8)?;
            assert_eq!(first, 4, "the pin holds the rest");
            mine.0.borrow_mut().acknowledged.retain(|id, _| *id >= 4);
            assert_eq!(log.read(4)?.id, 4);
            log.unpin("reader")?;
            mine.truncate(&log, 8)?;
            env.sleep(Duration::from_secs(1));
            log.close()
        });
        let read = reopened(harness, archived());
        let told = known.0.borrow();
        assert!(told.acknowledged.iter().filter(|(id, _)| **id >= 8).all(|(id, text)| read.get(id) == Some(text)));
        assert!(read.keys().all(|id| *id >= told.truncated));
    });
}

#[test]
fn a_cursor_keeps_reading_a_segment_that_is_truncated_and_written_over() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let log = open(env, small())?;
            for number in 0..40u8 {
                log.append_sync(&[number; 700])?;
            }
            let mut cursor = log.cursor(From::First)?;
            assert_eq!(cursor.next().expect("there is one")?.id, 1);
            log.truncate_before(30)?;
            for number in 40..80u8 {
                log.append_sync(&[number; 700])?;
            }
            let mut next = 2;
            for record in cursor {
                match record {
                    Ok(record) => {
                        assert_eq!((record.id, record.bytes[0]), (next, next as u8 - 1));
                        next += 1;
                    }
                    Err(error) => {
                        assert!(matches!(AofError::of(&error), Some(AofError::Truncated { .. })), "{error}");
                        return Ok(());
                    }
                }
            }
            panic!("the next segment is gone, and the cursor says nothing");
            #[expect(unreachable_code)]
            Ok::<_, aidb::Error>(())
        })
        .1
        .expect("nothing kills it")
        .expect("nothing fails");
    });
}

#[test]
fn records_expire_by_the_logs_own_time_while_the_wall_clock_steps_back_and_forth() {
    let day = 86_400_000_000;
    for steps in [[day, -day], [-day, day]] {
        // Each reading of the clock steps, there and back.
        let step = |(at, micros): (u64, i64)| FaultEvent { at: At::WallRead(at), fault: Fault::WallStep { micros } };
        let events = (20..120).map(|at| (at, steps[at as usize % 2])).map(step).collect();
        told(events, |harness| {
            process(harness, |env| {
                let mut config = small();
                config.retention = Retention { age: Some(Duration::from_secs(3600)), bytes: None };
                let log = open(env, config)?;
                let mut first = 1;
                for number in 0..60u8 {
                    log.append_sync(&[number; 700])?;
                    env.sleep(Duration::from_millis(50));
                    assert!(log.first_id() >= first, "what was gone is back");
                    first = log.first_id();
                }
                assert!(log.next_id() == 61 && content(&log)?.last_key_value().is_some_and(|(id, _)| *id == 60));
                log.close()
            })
            .1
            .expect("nothing kills it")
            .expect("nothing fails");
        });
    }
}

#[test]
fn a_tailing_reader_crosses_roll_truncation_and_archive() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let log = open(env, archived())?;
            let (reading, mine) = (log.clone(), env.clone());
            let reader = env.spawn_local("reader", move || {
                let mut next = 1;
                for record in reading.cursor(From::First).expect("a cursor").follow(true) {
                    let record = record.expect("nothing it needs is gone");
                    assert_eq!((record.id, record.bytes[0]), (next, next as u8));
                    next += 1;
                    mine.sleep(Duration::from_millis(2));
                }
                assert_eq!(next, 41, "it ends when the log is closed, behind the last record");
            });
            for number in 1..=40u8 {
                log.append_sync(&[number; 900])?;
                env.sleep(Duration::from_millis(5));
                if number == 20 {
                    log.truncate_before(10)?;
                }
            }
            env.sleep(Duration::from_secs(1));
            log.close()?;
            reader.join();
            Ok::<_, aidb::Error>(())
        })
        .1
        .expect("nothing kills it")
        .expect("nothing fails");
        assert!(!SimArchive.objects().is_empty(), "nothing was archived");
    });
}

#[test]
fn two_processes_never_write_one_log_and_a_reader_beside_changes_nothing() {
    told(Vec::new(), |harness| {
        let (_, second) = process(harness, |env| {
            let log = open(env, small())?;
            log.append_sync(b"first")?;
            let second = open(env, small()).map(drop).expect_err("the first is still open");
            let reader = Aof::open_read_only(env.clone(), DIR, small())?;
            // No later frame says yet that it is durable.
            assert_eq!(reader.cursor(From::First)?.visibility(Visibility::Written).count(), 1);
            log.append_sync(b"second")?;
            log.close()?;
            open(env, small())?.close()?;
            Ok::<_, aidb::Error>(second)
        });
        let error = second.expect("nothing kills it").expect("the others succeed");
        assert_eq!(error.kind(), &ErrorKind::Locked);
        assert!(error.to_string().contains(DIR), "{error}");
    });
}

#[test]
fn segments_go_their_way_from_active_to_gone() {
    told(Vec::new(), |harness| {
        process(harness, |env| {
            let log = open(env, archived())?;
            log.append_sync(b"one")?;
            let status = |log: &Log| log.segments().first().map(|entry| entry.status);
            assert_eq!(status(&log), Some(SegmentStatus::Active));
            log.seal()?;
            log.append_sync(b"two")?;
            env.sleep(Duration::from_secs(2));
            assert_eq!(status(&log), Some(SegmentStatus::LocalDeleted));
            assert_eq!(SimArchive.list("").map(|objects| objects.len()).ok(), Some(1));
            assert_eq!(log.read(1)?.bytes[..], b"one"[..]);
            log.truncate_before(2)?;
            env.sleep(Duration::from_secs(2));
            assert!(SimArchive.objects().is_empty(), "what is truncated is removed");
            log.close()
        })
        .1
        .expect("nothing kills it")
        .expect("nothing fails");
    });
}
