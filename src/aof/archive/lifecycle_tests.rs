//! The lives of segments against a disk and an archive in memory: every crash, every fault of the archive, every planted bug.

use super::ArchiveStorage;
use super::rebuild::{ReconcileReport, Source, prepare};
use super::remote::{self, Remote};
use super::test_storage::{Mishap, TestStorage};
use super::upload::{Archiver, ArchiverOptions, Progress, log_prefix, segment_of_key};
use crate::aof::chain::{At, Chain};
use crate::aof::cursor::{Cursor, From};
use crate::aof::manifest::{AttemptStatus, Edit, Manifest, SegmentStatus};
use crate::aof::names::{MANIFEST_DIR, segment_name};
use crate::aof::test_env::TestEnv;
use crate::aof::{Append, FrameKind, KeyRing, Log, LogOptions, Lsn};
use crate::base::coding::put_slice;
use crate::base::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "aof";

/// Five records of this size fill a segment.
const RECORD_BYTES: usize = 700;

struct Store {
    env: TestEnv,
    log: Log<TestEnv>,
    manifest: Arc<Manifest<TestEnv>>,
    remote: Arc<Remote<TestEnv>>,
    archiver: Archiver<TestEnv>,
    report: ReconcileReport,
}

fn record(id: u64) -> Vec<u8> {
    (0..RECORD_BYTES as u64).map(|at| (id * 31 + at / 7) as u8).collect()
}

fn options(keys: Option<KeyRing>) -> ArchiverOptions {
    ArchiverOptions { prefix: "aidb".into(), local_segments: 1, attempts_max: 4, compression_level: None, keys }
}

fn open_with(env: &TestEnv, storage: &Arc<TestStorage>, keys: Option<KeyRing>) -> Result<Store> {
    let storage: Arc<dyn ArchiveStorage> = storage.clone();
    let prepared = prepare(env, Path::new(DIR))?;
    let log_options =
        LogOptions { segment_bytes: 8192, ids_contiguous: true, replay_from: Lsn(u64::MAX), ..LogOptions::default() };
    let (log, _) = Log::open(env.clone(), Path::new(DIR), log_options, &mut |_| Ok(()))?;
    let source = Source { storage: &storage, prefix: "aidb", keys: keys.as_ref() };
    let (manifest, report) = prepared.reconcile(&log, Some(source))?;
    let remote = Remote::new(env.clone(), storage.clone(), keys.clone(), manifest.clone(), 1 << 20);
    let archiver =
        Archiver::new(env.clone(), DIR.into(), log.clone(), manifest.clone(), remote.clone(), options(keys))?;
    Ok(Store { env: env.clone(), log, manifest, remote, archiver, report })
}

fn open(env: &TestEnv, storage: &Arc<TestStorage>) -> Result<Store> {
    open_with(env, storage, None)
}

impl Store {
    fn append(&self, count: u64) -> Result<()> {
        for _ in 0..count {
            let mut payload = Vec::new();
            put_slice(&mut payload, &record(self.log.next_id()));
            let append = Append { kind: FrameKind::Data, count: 1, first_id: None, tag: 0, parts: &[&payload] };
            let end = self.log.append(&append)?.end;
            self.log.sync_to(end)?;
        }
        Ok(())
    }

    fn chain(&self) -> Arc<dyn Chain<TestEnv>> {
        Arc::new(remote::chain(self.log.clone(), self.manifest.clone(), Some(self.remote.clone())))
    }

    fn ids(&self) -> Result<Vec<u64>> {
        self.ids_from(From::First)
    }

    fn ids_from(&self, from: From) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        for read in Cursor::new(self.chain(), from) {
            let read = read?;
            assert_eq!(read.bytes, record(read.id), "record {}", read.id);
            ids.push(read.id);
        }
        Ok(ids)
    }

    /// Steps until nothing is to be done, letting time pass.
    fn settle(&mut self) -> Result<()> {
        for _ in 0..10_000 {
            match self.archiver.step()? {
                Progress::Worked => {}
                Progress::Waits(time) => self.env.advance(time.as_nanos() as u64),
                Progress::Idle => return Ok(()),
            }
        }
        panic!("the archiver does not come to rest");
    }

    /// As [`settle`](Self::settle), whatever the archive reports.
    fn settle_whatever(&mut self) {
        for _ in 0..100 {
            if self.settle().is_ok() {
                return;
            }
        }
        panic!("the archiver does not recover");
    }

    fn truncate(&self, id: u64) -> Result<()> {
        self.manifest.commit(&[Edit::FirstId(id)])?;
        self.drop_local()
    }

    fn drop_local(&self) -> Result<()> {
        let first = self.manifest.state().first_id;
        let segments = self.log.segments();
        let needed = segments.iter().rev().find(|segment| segment.base_id <= first);
        needed.map_or(Ok(()), |needed| self.log.truncate_before(needed.base_lsn))
    }

    fn archived_keys(&self) -> Vec<String> {
        let state = self.manifest.state();
        let archived = state.kept().filter(|entry| entry.status != SegmentStatus::UploadIntent);
        let mut keys: Vec<String> = archived.map(|entry| entry.archived_key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    fn local(&self) -> Vec<u64> {
        self.log.segments().iter().map(|segment| segment.number).collect()
    }
}

fn new() -> (TestEnv, Arc<TestStorage>) {
    (TestEnv::default(), Arc::new(TestStorage::default()))
}

/// A store with everything that can be archived in the archive: eight segments of five records, and two records more.
fn archived(env: &TestEnv, storage: &Arc<TestStorage>) -> Store {
    let mut store = open(env, storage).unwrap();
    store.append(42).unwrap();
    store.settle().unwrap();
    store
}

fn segment_path(number: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(number))
}

#[test]
fn sealed_segments_leave_the_disk_and_are_read_as_before() {
    let (env, storage) = new();
    let store = archived(&env, &storage);
    assert_eq!(store.local(), [8, 9]);
    assert_eq!(storage.keys().len(), 8);
    assert_eq!(storage.keys(), store.archived_keys());
    assert_eq!((store.archiver.stats().archived, store.archiver.stats().local_deleted), (8, 7));
    let prefix = log_prefix("aidb", &store.manifest.state().log_id);
    let numbers: Vec<u64> = storage.keys().iter().filter_map(|key| segment_of_key(&prefix, key)).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(env.files().iter().all(|path| !path.to_string_lossy().contains("upload")), "{:?}", env.files());
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=42));
    for id in 1..=42 {
        assert_eq!(store.ids_from(From::Id(id)).unwrap(), Vec::from_iter(id..=42));
    }
    assert_eq!(store.ids_from(From::TailMinus(20)).unwrap(), Vec::from_iter(23..=42));
    drop(store);
    env.lose_power();
    let store = open(&env, &storage).unwrap();
    assert_eq!((store.report.archived_segments, store.report.rebuilt), (8, false));
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=42));
}

#[test]
fn no_step_copies_the_state_of_the_manifest() {
    let (env, storage) = new();
    let mut store = open(&env, &storage).unwrap();
    store.append(42).unwrap();
    storage.script(3, Mishap::ReplyLost);
    let first = Arc::as_ptr(&store.manifest.state());
    for _ in 0..10_000 {
        match store.archiver.step() {
            Ok(Progress::Idle) => break,
            Ok(Progress::Waits(time)) => env.advance(time.as_nanos() as u64),
            Ok(Progress::Worked) | Err(_) => {}
        }
        assert_eq!(Arc::as_ptr(&store.manifest.state()), first);
    }
    assert_eq!(store.local(), [8, 9]);
    store.manifest.commit(&[Edit::FirstId(30)]).unwrap();
    store.drop_local().unwrap();
    store.settle().unwrap();
    assert_eq!((Arc::as_ptr(&store.manifest.state()), storage.keys().len()), (first, 3));
}

#[test]
fn cursor_reads_on_while_its_segment_is_archived_and_unlinked() {
    let (env, storage) = new();
    let mut store = open(&env, &storage).unwrap();
    store.append(42).unwrap();
    let mut cursor = Cursor::new(store.chain(), From::First);
    for id in 1..=3 {
        assert_eq!(cursor.next().unwrap().unwrap().id, id);
    }
    store.settle().unwrap();
    assert_eq!(store.local(), [8, 9]);
    let rest: Vec<u64> = cursor.map(|read| read.unwrap().id).collect();
    assert_eq!(rest, Vec::from_iter(4..=42));
}

#[test]
fn encrypted_objects_are_read_with_the_key_and_not_without() {
    let (env, storage) = new();
    let ring = KeyRing::new(3, [(3, [9; 32])]).unwrap();
    let mut store = open_with(&env, &storage, Some(ring)).unwrap();
    store.append(42).unwrap();
    store.settle().unwrap();
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=42));
    drop(store);
    let store = open(&env, &storage).unwrap();
    assert_eq!(*store.ids().unwrap_err().kind(), ErrorKind::Key);
}

#[test]
fn every_mishap_of_a_put_is_overcome_and_leaves_nothing_behind() {
    use Mishap::*;
    for mishap in [Refused, ReplyLost, Late(0), Late(1), Late(7), Late(30), ExistsNot, ExistsOther, Damaged, Forgotten]
    {
        for at in 0..16 {
            let (env, storage) = new();
            let mut store = open(&env, &storage).unwrap();
            store.append(22).unwrap();
            storage.script(at, mishap);
            store.settle_whatever();
            storage.calm();
            assert_eq!(store.local(), [4, 5], "{mishap:?} at {at}");
            assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=22));
            // What lands late is removed at the latest when the store is opened next.
            (0..40).for_each(|_| drop(storage.head("x")));
            drop(store);
            let mut store = open(&env, &storage).unwrap();
            store.settle_whatever();
            assert_eq!(storage.keys(), store.archived_keys(), "{mishap:?} at {at}");
            assert!(store.manifest.state().attempts.is_empty());
            assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=22));
        }
    }
}

#[test]
fn an_archive_that_is_away_is_asked_more_and_more_rarely_and_reported() {
    let (env, storage) = new();
    let mut store = open(&env, &storage).unwrap();
    store.append(12).unwrap();
    storage.script_all(1000, Mishap::Refused);
    let (mut reported, mut waited) = (0, 0);
    let before = storage.operations();
    while storage.operations() < before + 24 {
        match store.archiver.step() {
            Ok(Progress::Waits(time)) => {
                env.advance(time.as_nanos() as u64);
                waited += time.as_millis();
            }
            Ok(_) => {}
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::Remote);
                reported += 1;
            }
        }
    }
    assert!((2..12).contains(&reported), "{reported}");
    assert!(waited > 60_000, "{waited}");
    assert_eq!(store.local(), [1, 2, 3]);
    store.append(3).unwrap();
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=15));
}

/// A life with uploads, truncations of archived and of local segments, and more uploads.
fn life(env: &TestEnv, storage: &Arc<TestStorage>, acknowledged: &mut u64, first: &mut u64) -> Result<()> {
    let mut store = open(env, storage)?;
    let append = |store: &Store, count: u64, acknowledged: &mut u64| -> Result<()> {
        for _ in 0..count {
            store.append(1)?;
            *acknowledged += 1;
        }
        Ok(())
    };
    append(&store, 17, acknowledged)?;
    store.settle()?;
    *first = 8;
    store.truncate(8)?;
    store.settle()?;
    append(&store, 13, acknowledged)?;
    for _ in 0..3 {
        store.archiver.step()?;
    }
    // Local segments go too, one of them while it is being uploaded.
    *first = 24;
    store.truncate(24)?;
    store.settle()?;
    append(&store, 6, acknowledged)?;
    store.settle()?;
    store.manifest.close()?;
    store.log.close()
}

/// Returns what is wrong with the records after a crash.
fn fault_in(ids: &[u64], acknowledged: u64, first: u64) -> Option<String> {
    let in_order = ids.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let begins = ids.first().is_none_or(|id| *id <= first.max(1));
    let ends = ids.last().copied().unwrap_or(0) >= acknowledged || acknowledged < first;
    (!in_order || !begins || !ends).then(|| format!("{ids:?}, {acknowledged} acknowledged, first {first}"))
}

#[test]
fn every_crash_leaves_every_record_readable_once() {
    for power in [false, true] {
        for crash in 0.. {
            let (env, storage) = new();
            let (mut acknowledged, mut first) = (0, 1);
            // Every third life meets a lost reply as well, whose put has to be given up.
            if crash % 3 == 0 {
                storage.script(crash / 3 % 20, Mishap::Late(crash % 5));
            }
            env.die_at(Some(crash));
            let lived = life(&env, &storage, &mut acknowledged, &mut first);
            env.die_at(None);
            storage.calm();
            if power {
                env.lose_power();
            }
            let mut store = open(&env, &storage).unwrap_or_else(|error| panic!("crash {crash}: {error}"));
            let ids = store.ids().unwrap_or_else(|error| panic!("crash {crash}: {error}"));
            assert_eq!(fault_in(&ids, acknowledged, first), None, "crash {crash}");
            store.settle_whatever();
            assert_eq!(store.ids().unwrap(), ids, "crash {crash}");
            store.append(7).unwrap();
            store.settle_whatever();
            drop(store);
            let mut store = open(&env, &storage).unwrap();
            store.settle_whatever();
            assert_eq!(storage.keys(), store.archived_keys(), "crash {crash}");
            assert!(store.manifest.state().attempts.is_empty(), "crash {crash}");
            let all = store.ids().unwrap();
            assert_eq!(all[..ids.len()], ids, "crash {crash}");
            assert_eq!(all.len(), ids.len() + 7, "crash {crash}");
            if lived.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn truncated_segments_leave_the_archive_oldest_first_when_nobody_reads_them() {
    let (env, storage) = new();
    let mut store = archived(&env, &storage);
    let mut cursor = Cursor::new(store.chain(), From::Id(7));
    assert_eq!(cursor.next().unwrap().unwrap().id, 7);
    store.truncate(18).unwrap();
    store.settle().unwrap();
    // Segment 1 goes, 2 is being read, 3 waits for it.
    assert_eq!(storage.keys().len(), 7);
    assert_eq!(store.ids().unwrap(), Vec::from_iter(18..=42));
    for id in 8..=10 {
        assert_eq!(cursor.next().unwrap().unwrap().id, id);
    }
    assert!(cursor.next().unwrap().is_err(), "the next segment is truncated");
    drop(cursor);
    store.settle().unwrap();
    assert_eq!(storage.keys(), store.archived_keys());
    assert_eq!((storage.keys().len(), store.archiver.stats().remote_deleted), (5, 3));
    assert_eq!(store.ids().unwrap(), Vec::from_iter(18..=42));
}

#[test]
fn a_truncation_leaves_no_hole_between_the_archive_and_the_disk() {
    let (env, storage) = new();
    let store = archived(&env, &storage);
    // Two more segments that are complete and not archived.
    store.append(12).unwrap();
    let mut cursor = Cursor::new(store.chain(), From::Id(36));
    assert_eq!(cursor.next().unwrap().unwrap().id, 36);
    store.truncate(52).unwrap();
    assert_eq!(store.local(), [11]);
    // Before the archiver has looked, what is archived of the truncated part is still known.
    assert_eq!(store.manifest.state().kept().count(), 8);
    let first = store.chain().locate(At::First).unwrap().unwrap();
    assert_eq!(first.number, 11);
    for id in 37..=40 {
        assert_eq!(cursor.next().unwrap().unwrap().id, id);
    }
    assert!(cursor.next().unwrap().is_err(), "the next segment is truncated");
    assert_eq!(store.ids().unwrap(), [52, 53, 54]);
    assert_eq!(store.ids_from(From::Time(0)).unwrap(), [52, 53, 54]);
}

#[test]
fn a_truncation_that_was_cut_off_is_finished() {
    let (env, storage) = new();
    let store = open(&env, &storage).unwrap();
    store.append(22).unwrap();
    store.manifest.commit(&[Edit::FirstId(12)]).unwrap();
    drop(store);
    let store = open(&env, &storage).unwrap();
    assert_eq!(store.local().first(), Some(&3));
    assert_eq!(store.ids().unwrap(), Vec::from_iter(12..=22));
}

#[test]
fn missing_or_damaged_objects_are_named_and_nothing_else_is_lost() {
    let (env, storage) = new();
    drop(archived(&env, &storage));
    let keys = storage.keys();
    for damaged in [false, true] {
        let store = open(&env, &storage).unwrap();
        let mut lost = None;
        storage.change(|objects| match damaged {
            true => {
                let bytes = objects.get_mut(&keys[3]).unwrap();
                lost = Some(bytes.clone());
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            false => lost = objects.remove(&keys[3]),
        });
        let error = store.ids().unwrap_err();
        assert!(error.is_corruption() && error.to_string().contains(&keys[3]), "{error}");
        assert_eq!(store.ids_from(From::Id(21)).unwrap(), Vec::from_iter(21..=42));
        let before: Vec<_> = Cursor::new(store.chain(), From::First).map_while(|read| read.ok()).collect();
        assert_eq!(before.len(), 15);
        storage.change(|objects| drop(objects.insert(keys[3].clone(), lost.unwrap())));
    }
    assert_eq!(open(&env, &storage).unwrap().ids().unwrap(), Vec::from_iter(1..=42));
}

#[test]
fn reads_of_the_archive_are_few_and_blocks_stay_in_the_cache() {
    let (env, storage) = new();
    let store = archived(&env, &storage);
    let reads = |what: &dyn Fn()| {
        let before = storage.reads();
        what();
        storage.reads() - before
    };
    // Header and end of each object, and its one block.
    let first = reads(&|| assert_eq!(store.ids().unwrap().len(), 42));
    assert!(first <= 7 * 3, "{first}");
    let again = reads(&|| assert_eq!(store.ids().unwrap().len(), 42));
    assert!(again <= 7 * 2, "{again}");
    assert!(store.remote.cache_stats().hits >= 7);
}

/// Removes the manifest durably.
fn lose_manifest(env: &TestEnv) {
    for path in env.files() {
        if path.starts_with(Path::new(DIR).join(MANIFEST_DIR)) {
            env.forget(&path);
        }
    }
}

#[test]
fn a_lost_manifest_is_rebuilt_from_both_sides() {
    let (env, storage) = new();
    drop(archived(&env, &storage));
    env.lose_power();
    lose_manifest(&env);
    let mut store = open(&env, &storage).unwrap();
    assert!(store.report.rebuilt);
    assert_eq!((store.report.archived_segments, store.report.unlisted), (7, 1), "the object of 8 is not taken");
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=42));
    store.append(10).unwrap();
    store.settle().unwrap();
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=52));
}

#[test]
fn rebuilding_takes_a_whole_object_of_several_and_names_what_is_behind_a_gap() {
    let (env, storage) = new();
    drop(archived(&env, &storage));
    env.lose_power();
    let keys = storage.keys();
    storage.change(|objects| {
        // Two other attempts of segment 5, before and after by name, both damaged in the middle.
        for attempt in ["0000000000000000", "ffffffffffffffff"] {
            let mut bytes = objects[&keys[4]].clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            objects.insert(format!("{}{attempt}.seg", &keys[4][..keys[4].len() - 20]), bytes);
        }
        objects.insert("aidb/other/1.seg".into(), vec![1]);
        objects.remove(&keys[2]);
    });
    lose_manifest(&env);
    let store = open(&env, &storage).unwrap();
    assert_eq!(store.report.beyond_gap, [1, 2]);
    assert_eq!(store.ids().unwrap(), Vec::from_iter(16..=42));
    assert_eq!(store.manifest.state().entries[&5].archived_key, keys[4]);
}

#[test]
fn missing_local_files_are_read_remotely_or_named() {
    // The oldest is kept here although it is archived.
    let (env, storage) = new();
    drop(archived(&env, &storage));
    let fork = env.fork_durable();
    fork.forget(&segment_path(8));
    let store = open(&fork, &storage).unwrap();
    assert_eq!(store.report.missing_local, 1);
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=42));

    // A hole, with an archived segment in front of it.
    let (env, storage) = new();
    let mut store = open(&env, &storage).unwrap();
    store.archiver = Archiver::new(
        env.clone(),
        DIR.into(),
        store.log.clone(),
        store.manifest.clone(),
        store.remote.clone(),
        ArchiverOptions { local_segments: 3, ..options(None) },
    )
    .unwrap();
    store.append(42).unwrap();
    store.settle().unwrap();
    assert_eq!(store.local(), [6, 7, 8, 9]);
    drop(store);
    let fork = env.fork_durable();
    fork.forget(&segment_path(7));
    let store = open(&fork, &storage).unwrap();
    assert_eq!((store.report.missing_local > 0, store.local().first()), (true, Some(&8)));
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=42));
}

#[test]
fn segments_that_neither_side_has_are_named() {
    let (env, storage) = new();
    let store = open(&env, &storage).unwrap();
    store.append(42).unwrap();
    drop(store);
    let refused = |env: &TestEnv, number: u64| {
        let error = open(env, &storage).err().unwrap_or_else(|| panic!("segment {number} is not missed"));
        assert!(error.is_corruption() && error.to_string().contains(&segment_name(number)), "{error}");
    };
    for number in [1, 4] {
        let fork = env.fork_durable();
        fork.forget(&segment_path(number));
        refused(&fork, number);
    }
    let mut store = open(&env, &storage).unwrap();
    store.settle().unwrap();
    drop(store);
    let newest = env.fork_durable();
    let last = newest.files().iter().filter(|path| path.extension().is_some_and(|end| end == "log")).count();
    assert!(last > 2);
    for path in newest.files() {
        let is_log = path.parent() == Some(Path::new(DIR)) && path.extension().is_some_and(|end| end == "log");
        if is_log && path > segment_path(8) {
            newest.forget(&path);
        }
    }
    assert!(open(&newest, &storage).is_err(), "the newest segments are missed");
    let empty = env.fork_durable();
    for path in empty.files() {
        if path.parent() == Some(Path::new(DIR)) {
            empty.forget(&path);
        }
    }
    let error = open(&empty, &storage).err().unwrap();
    assert!(error.to_string().contains("not taken for a new one"), "{error}");
}

#[test]
fn an_object_whose_commit_was_lost_to_damage_is_adopted() {
    let (env, storage) = new();
    let mut store = open(&env, &storage).unwrap();
    store.append(12).unwrap();
    store.settle().unwrap();
    // As if the commits after the intent of segment 2 had never been.
    let mut state = (*store.manifest.state()).clone();
    let entry = state.entries.get_mut(&1).unwrap();
    entry.status = SegmentStatus::UploadIntent;
    state.entries.remove(&2);
    drop(store);
    env.lose_power();
    lose_manifest(&env);
    let (manifest, _) = Manifest::open(env.clone(), Path::new(DIR)).unwrap();
    manifest.create(state).unwrap();
    drop(manifest);
    let mut store = open(&env, &storage).unwrap();
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=12));
    store.settle().unwrap();
    assert_eq!(store.ids().unwrap(), Vec::from_iter(1..=12));
}

/// Runs `holds` without and with `bug`: it must hold, and must not.
fn rule(bug: &'static str, holds: impl Fn(&TestEnv, &Arc<TestStorage>) -> bool) {
    let (env, storage) = new();
    assert!(holds(&env, &storage), "broken without any bug");
    let (env, storage) = new();
    env.plant(bug);
    assert!(!holds(&env, &storage), "{bug} goes unnoticed");
}

/// Archives what there is, opens again twice, and returns true if all 42 records are still there.
fn survives(env: &TestEnv, storage: &Arc<TestStorage>) -> bool {
    for _ in 0..3 {
        let Ok(mut store) = open(env, storage) else { return false };
        if store.log.next_id() == 1 {
            store.append(42).unwrap();
        }
        for _ in 0..2 {
            let _ = store.settle();
        }
        if !store.ids().is_ok_and(|ids| ids == Vec::from_iter(1..=42)) {
            return false;
        }
    }
    true
}

// The first operation is the listing of an open without a manifest.
#[test]
fn planted_bugs_of_uploads_lose_records() {
    rule("aof_archive_without_verify", |env, storage| {
        storage.script(1, Mishap::Damaged);
        survives(env, storage)
    });
    rule("aof_archive_timeout_is_success", |env, storage| {
        storage.script(1, Mishap::Refused);
        survives(env, storage)
    });
    rule("aof_archive_key_reused", |env, storage| {
        storage.script(1, Mishap::ReplyLost);
        survives(env, storage)
    });
    rule("aof_archive_collect_unlisted", survives);
    rule("aof_archive_local_deleted_before_commit", |env, storage| {
        let mut store = open(env, storage).unwrap();
        store.append(42).unwrap();
        storage.script(0, Mishap::Forgotten);
        (0..4).for_each(|_| drop(store.archiver.step()));
        drop(store);
        survives(env, storage)
    });
}

#[test]
fn planted_bug_deletes_what_is_being_read() {
    rule("aof_archive_remote_deleted_under_reader", |env, storage| {
        let mut store = archived(env, storage);
        let remote = store.remote.clone();
        let mut cursor = Cursor::new(store.chain(), From::Id(7));
        cursor.next().unwrap().unwrap();
        store.truncate(18).unwrap();
        store.settle().unwrap();
        drop(remote);
        let second = storage.keys().iter().filter(|key| key.contains("00000000000000000002-")).count();
        second == 1
    });
}

#[test]
fn attempts_under_way_at_a_crash_are_given_up() {
    let (env, storage) = new();
    let mut store = open(&env, &storage).unwrap();
    store.append(12).unwrap();
    // Built, intended, put.
    (0..3).for_each(|_| assert_eq!(store.archiver.step().unwrap(), Progress::Worked));
    assert_eq!(storage.keys().len(), 1);
    drop(store);
    let mut store = open(&env, &storage).unwrap();
    let statuses: Vec<AttemptStatus> = store.manifest.state().attempts.values().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [AttemptStatus::Abandoned]);
    assert!(store.chain().locate(At::First).unwrap().is_some());
    store.settle().unwrap();
    assert_eq!(storage.keys(), store.archived_keys());
    assert_eq!(store.archiver.stats().collected, 1);
}
