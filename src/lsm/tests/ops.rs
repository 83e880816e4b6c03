//! Checkpoints over the operating system: what they leave behind opens with all keyspaces, or is refused.

use super::{key, open, tiny, value};
use crate::base::ErrorKind;
use crate::lsm::{DB, DbIterator, KeyspaceOptions, Options, WriteBatch};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) type Content = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn fill(db: &DB, keys: std::ops::Range<u64>) {
    for number in keys {
        db.put(key(number), value(number)).unwrap();
    }
}

pub(super) fn collect(iter: DbIterator) -> Content {
    iter.map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec())).unwrap()).collect()
}

/// What every keyspace holds, by name.
pub(super) fn content(db: &DB) -> BTreeMap<String, Content> {
    let names = db.keyspaces().into_iter();
    let named =
        names.map(|name| (name.clone(), collect(db.keyspace(&name, KeyspaceOptions::default()).unwrap().iter())));
    named.chain([(String::new(), collect(db.iter()))]).collect()
}

pub(super) fn existing() -> Options {
    Options { create_if_missing: false, ..tiny() }
}

/// Everything below `dir`: names and bytes.
pub(super) fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(image(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn checkpoint_is_an_engine_of_its_own_and_stays_as_it_was() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = place.path().join("a/b");
    let db = open(&dir);
    fill(&db, 0..900);
    let events = db.keyspace("events", KeyspaceOptions::default()).unwrap();
    let mut both = WriteBatch::new();
    both.delete(key(7));
    both.put_in(&events, "deleted", key(7));
    db.write(both).unwrap();
    let before = content(&db);
    let report = db.checkpoint(&target).unwrap();
    assert_eq!((report.seq, report.copied), (db.visible_seq(), 0));
    assert!(report.tables > 0 && report.records > 0 && report.to_string().contains("tables"));
    for number in 0..900 {
        db.put(key(number), "overwritten").unwrap();
    }
    events.put("deleted", "nothing").unwrap();
    db.force_compaction().unwrap();
    drop(events);
    db.close().unwrap();
    drop(dir);
    let copy = DB::open(&target, existing()).unwrap();
    assert_eq!(copy.visible_seq(), report.seq);
    assert_eq!(content(&copy), before);
    assert!(copy.validate_integrity().unwrap().is_sound());
    assert!(!copy.drop_keyspace("other").unwrap());
    let next = copy.keyspace("next", KeyspaceOptions::default()).unwrap();
    assert_eq!(next.id(), 2, "numbers of keyspaces go on");
    drop(next);
    fill(&copy, 900..1800);
    copy.force_compaction().unwrap();
    copy.close().unwrap();
    let copy = DB::open(&target, existing()).unwrap();
    assert_eq!(copy.get(key(1799)).unwrap().unwrap(), value(1799));
    assert_eq!(content(&copy)[""].len(), before[""].len() + 900);
}

#[test]
fn checkpoint_of_a_flushed_engine_needs_no_log() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..300);
    db.flush().unwrap();
    let report = db.checkpoint(place.path()).unwrap();
    assert_eq!(report.records, 0);
    assert!(!place.path().join("wal").exists());
    assert_eq!(content(&DB::open(place.path(), existing()).unwrap()), content(&db));
}

#[test]
fn checkpoint_of_nothing_opens_as_nothing() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = place.path().join("copy");
    assert_eq!(open(&dir).checkpoint(&target).unwrap().tables, 0);
    let copy = DB::open(&target, existing()).unwrap();
    assert!(content(&copy)[""].is_empty());
}

#[test]
fn checkpoint_of_dropped_keyspaces_leaves_them_out() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    let names = ["a", "b", "c"];
    for name in names {
        let keyspace = db.keyspace(name, KeyspaceOptions::default()).unwrap();
        (0..40).for_each(|number| keyspace.put(key(number), value(number)).unwrap());
    }
    db.drop_keyspace("b").unwrap();
    db.put("last", "one").unwrap();
    db.checkpoint(place.path()).unwrap();
    let copy = DB::open(place.path(), existing()).unwrap();
    assert_eq!(copy.keyspaces(), ["a", "c"]);
    assert_eq!(content(&copy), content(&db));
}

#[test]
fn checkpoint_into_a_directory_in_use_is_refused_and_changes_nothing() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..50);
    fs::write(place.path().join("letter"), "dear").unwrap();
    let refused = db.checkpoint(place.path()).unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::InvalidArgument);
    assert!(refused.to_string().contains("letter"), "{refused}");
    assert_eq!(db.checkpoint(dir.path()).unwrap_err().kind(), &ErrorKind::Locked);
    let other = place.path().join("other");
    let open_there = DB::open(&other, tiny()).unwrap();
    assert_eq!(db.checkpoint(&other).unwrap_err().kind(), &ErrorKind::Locked);
    drop(open_there);
    assert_eq!(db.checkpoint(&other).unwrap_err().kind(), &ErrorKind::InvalidArgument);
    db.close().unwrap();
    assert_eq!(db.checkpoint(place.path().join("new")).unwrap_err().kind(), &ErrorKind::Closed);
    assert!(!place.path().join("new").exists());
}

#[test]
fn checkpoint_without_current_is_refused() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..500);
    db.checkpoint(place.path()).unwrap();
    fs::remove_file(place.path().join("CURRENT")).unwrap();
    let before = image(place.path());
    assert!(DB::open(place.path(), tiny()).unwrap_err().is_corruption());
    assert_eq!(image(place.path()), before);
}

#[test]
fn checkpoint_that_did_not_finish_is_refused_and_not_filled_again() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..500);
    db.checkpoint(place.path()).unwrap();
    fs::write(place.path().join("INCOMPLETE"), "").unwrap();
    let before = image(place.path());
    for refused in [
        DB::open(place.path(), tiny()).map(|_| ()),
        DB::open_read_only(place.path(), tiny()).map(|_| ()),
        db.checkpoint(place.path()).map(|_| ()),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    }
    assert!(DB::open(place.path(), tiny()).unwrap_err().to_string().contains("INCOMPLETE"));
    assert_eq!(image(place.path()), before);
}

#[test]
fn checkpoints_beside_writers_hold_a_prefix() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u64;
            while !done.load(Ordering::Relaxed) {
                let mut batch = WriteBatch::new();
                // Each batch writes the next place of a ring, in both keyspaces.
                batch.put(key(number % 97), number.to_string());
                batch.put_in(&other, key(number % 97), number.to_string());
                batch.put("count", number.to_string());
                db.write(batch).unwrap();
                number += 1;
            }
        });
        for round in 0..8 {
            let target = place.path().join(round.to_string());
            db.checkpoint(&target).unwrap();
            let copy = DB::open(&target, existing()).unwrap();
            let read = content(&copy);
            let Some(count) = read[""].get(&b"count"[..]) else { continue };
            let count: u64 = String::from_utf8_lossy(count).parse().unwrap();
            for number in count.saturating_sub(96)..=count {
                for name in ["", "other"] {
                    let found = &read[name][&key(number % 97)];
                    assert_eq!(found, number.to_string().as_bytes(), "batch {number} of {count} in {name:?}");
                }
            }
            copy.close().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
