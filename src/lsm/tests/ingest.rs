//! Sorted ingest over the operating system: order, levels, snapshots, writers beside it, copies and reopening, against a map.

use super::{key, open, tiny, value};
use crate::lsm::{DB, DbIterator, KeyspaceOptions, Options, Snapshot};
use crate::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn all(iter: DbIterator) -> Map {
    iter.map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect::<Result<_>>().unwrap()
}

fn files(db: &DB) -> Vec<u64> {
    db.statistics().levels.iter().map(|level| level.files).collect()
}

#[test]
fn what_overlaps_nothing_goes_to_the_lowest_level_and_what_does_above_it() {
    let dir = TempDir::new().unwrap();
    let db = DB::open(dir.path(), Options { l0_compaction_files: 60, l0_stall_files: 100, ..tiny() }).unwrap();
    db.ingest((0..500).map(|number| (key(number), value(number)))).unwrap();
    let first = files(&db);
    assert!(first[..2] == [0, 0] && first[2] > 1, "{first:?}");
    db.ingest((100..110).map(|number| (key(number), "newer"))).unwrap();
    assert_eq!(files(&db), [first[0], first[1] + 1, first[2]]);
    db.ingest((105..120).map(|number| (key(number), "newest"))).unwrap();
    assert_eq!(files(&db), [first[0] + 1, first[1] + 1, first[2]]);
    for (number, expected) in [(104, "newer"), (105, "newest"), (119, "newest")] {
        assert_eq!(db.get(key(number)).unwrap().unwrap(), expected.as_bytes());
    }
    assert_eq!(db.get(key(120)).unwrap().unwrap(), value(120));
    assert!(db.validate_integrity().unwrap().is_sound());
    db.force_compaction().unwrap();
    assert_eq!(db.iter().count(), 500);
    assert_eq!(db.get(key(107)).unwrap().unwrap(), b"newest");
}

#[test]
fn keys_out_of_order_change_nothing() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let seq = db.put("a", "1").map(|()| db.visible_seq()).unwrap();
    for keys in [["b", "b"], ["c", "b"]] {
        let error = db.ingest(keys.map(|key| (key, ""))).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("must ascend: \"b\" follows"), "{error}");
    }
    assert!(db.ingest([(vec![0; 70_000], "")]).is_err());
    assert!(db.ingest((0..5000).rev().map(|number| (key(number), value(number)))).is_err());
    assert_eq!(db.ingest::<&str, &str>([]).unwrap().seq, seq);
    assert_eq!((db.visible_seq(), db.iter().count()), (seq, 1));
    assert!(db.validate_integrity().unwrap().is_sound(), "files are left over");
}

#[test]
fn snapshots_do_not_see_it_and_later_writes_win() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    for number in 0..50 {
        db.put(key(number), "old").unwrap();
    }
    let before = db.snapshot();
    let info = db.ingest((0..100).map(|number| (key(number), "ingested"))).unwrap();
    assert_eq!(db.visible_seq(), info.seq);
    db.put(key(7), "later").unwrap();
    let check = |before: &Snapshot, db: &DB| {
        assert_eq!(all(before.iter()).into_values().filter(|value| value == b"old").count(), 50);
        assert!(before.get(key(70)).unwrap().is_none() && before.iter().next_back().unwrap().unwrap().key == key(49));
        assert_eq!(
            (db.get(key(6)).unwrap().unwrap(), db.get(key(7)).unwrap().unwrap()),
            ("ingested".as_bytes().into(), b"later"[..].into())
        );
        let mut cursor = db.range(key(5)..=key(9));
        assert_eq!(cursor.next_back().unwrap().unwrap().value, b"ingested");
    };
    check(&before, &db);
    db.force_compaction().unwrap();
    check(&before, &db);
    drop(before);
    let events = db.keyspace("events", KeyspaceOptions::default()).unwrap();
    events.ingest([("a", "1"), ("b", "2")]).unwrap();
    drop(events);
    db.close().unwrap();
    let db = open(&dir);
    assert_eq!((db.iter().count(), db.get(key(7)).unwrap().unwrap()), (100, b"later"[..].into()));
    assert_eq!(all(db.keyspace("events", KeyspaceOptions::default()).unwrap().iter()).len(), 2);
}

#[test]
fn writers_of_the_same_keys_go_on_beside_it() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut last = 0u64;
            while !stop.load(Ordering::Relaxed) {
                last += 1;
                db.put(key(last % 40), last.to_string()).unwrap();
            }
            last
        });
        for round in 0..30u64 {
            let info = db.ingest((0..200).map(|number| (key(number * 3), format!("round {round}")))).unwrap();
            // The writer never comes to this one.
            let seen = db.snapshot();
            assert!(
                seen.get(key(300)).unwrap().unwrap() == format!("round {round}").as_bytes()
                    && db.visible_seq() >= info.seq
            );
        }
        stop.store(true, Ordering::Relaxed);
        let last = writer.join().unwrap();
        if last > 0 {
            let newest = db.get(key(last % 40)).unwrap().unwrap();
            assert!(newest == last.to_string().as_bytes() || newest.starts_with(b"round"));
        }
    });
    assert!(db.validate_integrity().unwrap().is_sound());
    let before = all(db.iter());
    db.close().unwrap();
    assert_eq!(all(open(&dir).iter()), before);
}

#[test]
fn a_map_is_matched_through_reopening_and_copies() {
    for seed in 0..6u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (dir, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (mut db, mut map, mut held) = (open(&dir), Map::new(), None::<(Snapshot, Map)>);
        for step in 0..250u64 {
            match random(20) {
                0..10 => {
                    let (key, value) = (key(random(150)), value(step));
                    db.put(&key, &value).unwrap();
                    map.insert(key, value);
                }
                10..12 => {
                    let key = key(random(150));
                    db.delete(&key).unwrap();
                    map.remove(&key);
                }
                12..15 => {
                    let (from, every) = (random(150), 1 + random(4));
                    let keys = (from..(from + random(60)).min(150)).filter(|number| number % every == 0);
                    let entries: Map = keys.map(|number| (key(number), value(step + number))).collect();
                    db.ingest(&entries).unwrap();
                    map.extend(entries);
                }
                15 => db.flush().unwrap(),
                16 if step % 3 == 0 => db.force_compaction().unwrap(),
                17 => held = Some((db.snapshot(), map.clone())),
                18 if step % 5 == 0 => {
                    let target = copies.path().join(step.to_string());
                    db.checkpoint(&target).unwrap();
                    assert_eq!(all(DB::open(&target, tiny()).unwrap().iter()), map);
                    db.backup(copies.path().join("backups")).unwrap();
                    crate::backup::verify(copies.path().join("backups")).unwrap();
                    assert_eq!(all(DB::open_read_only(dir.path(), tiny()).unwrap().iter()), map);
                }
                19 if step % 4 == 0 => {
                    held = None;
                    db.close().unwrap();
                    db = open(&dir);
                }
                _ => {}
            }
            let probe = key(random(150));
            assert_eq!(db.get(&probe).unwrap().map(|value| value.to_vec()), map.get(&probe).cloned(), "seed {seed}");
        }
        assert_eq!(all(db.iter()), map, "seed {seed}");
        let mut backward: Vec<_> = db.iter().rev().map(|entry| entry.unwrap().key).collect();
        backward.reverse();
        assert!(backward.iter().eq(map.keys()), "seed {seed}");
        if let Some((snapshot, then)) = held {
            assert_eq!(all(snapshot.iter()), then, "seed {seed}");
        }
        assert!(db.validate_integrity().unwrap().is_sound());
    }
}

#[test]
fn repair_knows_what_was_ingested() {
    for damage in ["CURRENT", "MANIFEST"] {
        let dir = TempDir::new().unwrap();
        let db = open(&dir);
        for number in 0..50 {
            db.put(key(number), "old").unwrap();
        }
        db.ingest((0..300).map(|number| (key(number), value(number)))).unwrap();
        db.put(key(3), "later").unwrap();
        let before = all(db.iter());
        db.close().unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.file_name().unwrap().to_str().unwrap().starts_with(damage) {
                std::fs::remove_file(entry).unwrap();
            }
        }
        let report = crate::repair(dir.path(), crate::RepairOptions { options: tiny(), ..Default::default() }).unwrap();
        assert!(report.needed && !report.loses_entries(), "{report}");
        assert_eq!(all(open(&dir).iter()), before, "{report}");
    }
}
