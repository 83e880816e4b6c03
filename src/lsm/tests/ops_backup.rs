//! Backups over the operating system: what is restored is what was there, and damage is named.

use super::ops::{content, existing, fill, image};
use super::{key, open, value};
use crate::base::{Error, ErrorKind};
use crate::lsm::ops::backup::{list, purge, restore, verify};
use crate::lsm::{DB, KeyspaceOptions, WriteBatch};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Where backups are kept, beside other places.
fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let backups = place.path().join("backups");
    (place, backups)
}

fn restored(backups: &Path, number: u64) -> (TempDir, DB) {
    let target = tempfile::tempdir().unwrap();
    let report = restore(backups, Some(number), target.path()).unwrap();
    let db = DB::open(target.path(), existing()).unwrap();
    assert_eq!((report.number, report.seq), (number, db.visible_seq()));
    assert!(db.validate_integrity().unwrap().is_sound());
    (target, db)
}

/// Returns where an error says the damage is.
#[track_caller]
fn damage(error: &Error) -> (PathBuf, u64) {
    match error.kind() {
        ErrorKind::Corruption { file, offset } => (file.clone(), *offset),
        _ => panic!("not damage: {error}"),
    }
}

#[test]
fn each_backup_restores_its_own_moment() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    let mut then = Vec::new();
    for round in 0..5u64 {
        fill(&db, 100 * round..100 * round + 300);
        let name = format!("keyspace {round}");
        let keyspace = db.keyspace(&name, KeyspaceOptions::default()).unwrap();
        (0..round * 40).for_each(|number| keyspace.put(key(number), value(round)).unwrap());
        db.delete(key(round)).unwrap();
        if round == 3 {
            db.drop_keyspace("keyspace 1").unwrap();
            db.force_compaction().unwrap();
        }
        let report = db.backup(&backups).unwrap();
        assert_eq!((report.number, report.seq), (round + 1, db.visible_seq()));
        then.push(content(&db));
    }
    db.close().unwrap();
    drop(dir);
    assert!(verify(&backups).unwrap().is_sound());
    for (number, expected) in (1..).zip(&then) {
        let (target, db) = restored(&backups, number);
        assert_eq!(content(&db), *expected, "backup {number}");
        // It is an engine like any other: it goes on, and is backed up beside the others.
        fill(&db, 5000..5200);
        db.force_compaction().unwrap();
        db.close().unwrap();
        assert_eq!(open(&target).get(key(5199)).unwrap().unwrap(), value(5199));
    }
    let listed = list(&backups).unwrap();
    assert!(listed.problems.is_empty());
    assert_eq!(listed.backups.iter().map(|backup| backup.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(listed.backups.windows(2).all(|pair| pair[0].seq < pair[1].seq && pair[0].created <= pair[1].created));
}

#[test]
fn tables_are_kept_once_and_told_apart_by_content() {
    let ((place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..600);
    db.flush().unwrap();
    let first = db.backup(&backups).unwrap();
    assert!(first.tables > 1 && first.tables_new == first.tables && first.bytes_new == first.bytes);
    let again = db.backup(&backups).unwrap();
    assert_eq!((again.tables, again.tables_new, again.bytes_new), (first.tables, 0, 0));
    // Two engines of one origin, the same file numbers and sequence numbers, another content.
    let sides = ["left", "right"].map(|side| {
        let path = place.path().join(side);
        restore(&backups, None, &path).unwrap();
        let db = DB::open(&path, existing()).unwrap();
        (0..200).for_each(|number| db.put(key(number), side).unwrap());
        db.flush().unwrap();
        db
    });
    let numbers = sides.each_ref().map(|db| db.backup(&backups).unwrap().number);
    for (db, number) in sides.iter().zip(numbers) {
        assert_eq!(content(&restored(&backups, number).1), content(db));
    }
    assert!(verify(&backups).unwrap().is_sound());
}

#[test]
fn backup_of_nothing_restores_nothing() {
    let ((place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    assert_eq!(open(&dir).backup(&backups).unwrap().tables, 0);
    assert!(content(&restored(&backups, 1).1)[""].is_empty());
    let none = place.path().join("none");
    fs::create_dir(&none).unwrap();
    let refused = restore(&none, None, place.path().join("x")).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::NotFound, "{refused}");
    let refused = restore(&backups, Some(2), place.path().join("x")).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::NotFound, "{refused}");
    assert!(!place.path().join("x").exists());
    assert!(list(&none).unwrap().backups.is_empty() && list(place.path().join("nowhere")).is_err());
}

#[test]
fn restore_goes_into_nothing_else() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..50);
    db.backup(&backups).unwrap();
    assert_eq!(*restore(&backups, None, dir.path()).unwrap_err().kind(), ErrorKind::Locked);
    db.close().unwrap();
    let before = image(dir.path());
    assert_eq!(*restore(&backups, None, dir.path()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(image(dir.path()), before);
}

/// Two backups that share tables, and a log each.
fn two_backups(backups: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..300);
    db.force_compaction().unwrap();
    fill(&db, 300..310);
    db.backup(backups).unwrap();
    fill(&db, 310..330);
    db.backup(backups).unwrap();
}

#[test]
fn damage_is_named_and_takes_only_the_backups_that_have_it() {
    let (_place, backups) = place();
    two_backups(&backups);
    let whole = image(&backups);
    for (path, bytes) in whole.iter().filter(|(path, _)| path.file_name().is_some_and(|name| name != "LOCK")) {
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 7).chain([bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            fs::write(path, &changed).unwrap();
            let report = verify(&backups).unwrap();
            assert_eq!(report.problems.len(), 1, "{} byte {at}: {report}", path.display());
            let (file, offset) = damage(&report.problems[0]);
            assert_eq!(file, *path);
            assert!(offset <= at as u64, "{} byte {at} is reported at {offset}", path.display());
            let is_of = |number: u64| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.ends_with(".sst")
                    || name.starts_with(&format!("{number:06}"))
                    || name == format!("BACKUP-{number:06}")
            };
            for number in [1, 2] {
                let target = tempfile::tempdir().unwrap();
                match restore(&backups, Some(number), target.path()) {
                    Ok(_) => assert!(!is_of(number), "{} byte {at}", path.display()),
                    Err(error) => {
                        assert!(is_of(number), "{error}");
                        assert_eq!(damage(&error), (file.clone(), offset));
                        assert!(image(target.path()).keys().all(|path| path.ends_with("LOCK")), "{error}");
                    }
                }
            }
        }
        for cut in [0, bytes.len() / 2, bytes.len() - 1] {
            fs::write(path, &bytes[..cut]).unwrap();
            assert_eq!(damage(&verify(&backups).unwrap().problems[0]).0, *path);
        }
        fs::remove_file(path).unwrap();
        let is_manifest = path.parent() == Some(&*backups);
        assert_eq!(verify(&backups).unwrap().is_sound(), is_manifest, "{}", path.display());
        fs::write(path, bytes).unwrap();
    }
    assert!(verify(&backups).unwrap().is_sound());
}

#[test]
fn a_table_cut_short_is_made_whole_by_the_next_backup() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..200);
    db.force_compaction().unwrap();
    db.backup(&backups).unwrap();
    let table = image(&backups).into_keys().find(|path| path.extension().is_some_and(|is| is == "sst")).unwrap();
    fs::write(&table, "short").unwrap();
    assert!(!verify(&backups).unwrap().is_sound());
    assert_eq!(db.backup(&backups).unwrap().tables_new, 1);
    assert!(verify(&backups).unwrap().is_sound());
}

#[test]
fn a_damaged_engine_is_not_backed_up() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..200);
    db.force_compaction().unwrap();
    db.backup(&backups).unwrap();
    fill(&db, 200..400);
    db.force_compaction().unwrap();
    let table = image(dir.path()).into_keys().find(|path| path.extension().is_some_and(|is| is == "sst")).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    bytes[10] ^= 1;
    fs::write(&table, bytes).unwrap();
    assert_eq!(damage(&db.backup(&backups).unwrap_err()).0, table);
    let report = verify(&backups).unwrap();
    assert!(report.is_sound() && report.backups == 1, "{report}");
    assert_eq!(content(&restored(&backups, 1).1)[""].len(), 200);
}

#[test]
fn what_an_interrupted_backup_left_is_used_or_removed() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..300);
    db.backup(&backups).unwrap();
    fill(&db, 300..600);
    // Nothing is left to compact between the two.
    db.force_compaction().unwrap();
    db.put("last", "one").unwrap();
    let second = db.backup(&backups).unwrap();
    // As if the second had ended before its manifest was there.
    fs::remove_file(backups.join("BACKUP-000002")).unwrap();
    fs::write(backups.join("tables/000099.tmp"), "half a table").unwrap();
    let report = verify(&backups).unwrap();
    assert!(report.is_sound() && report.unused > 1, "{report}");
    let again = db.backup(&backups).unwrap();
    assert_eq!((again.number, again.tables_new, again.records), (2, 0, second.records));
    assert!(!backups.join("tables/000099.tmp").exists());
    assert_eq!(content(&restored(&backups, 2).1), content(&db));
    fs::remove_file(backups.join("BACKUP-000002")).unwrap();
    let removed = purge(&backups, 1).unwrap();
    assert!(removed.backups == 0 && removed.files > 1 && removed.bytes > 0, "{removed}");
    let report = verify(&backups).unwrap();
    assert!(report.is_sound() && report.unused == 0, "{report}");
}

#[test]
fn purge_keeps_the_newest_and_what_they_need() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    let mut then = Vec::new();
    for round in 0..6u64 {
        fill(&db, 50 * round..50 * round + 200);
        db.backup(&backups).unwrap();
        then.push(content(&db));
    }
    assert_eq!(*purge(&backups, 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(purge(&backups, 6).unwrap().backups, 0);
    assert_eq!(purge(&backups, 2).unwrap().backups, 4);
    let report = verify(&backups).unwrap();
    assert!(report.is_sound() && report.backups == 2 && report.unused == 0, "{report}");
    for number in [5, 6] {
        assert_eq!(content(&restored(&backups, number).1), then[number as usize - 1]);
    }
    fs::write(backups.join("BACKUP-000006"), "no manifest").unwrap();
    let before = image(&backups);
    let refused = purge(&backups, 1).unwrap_err();
    assert_eq!(damage(&refused).0, backups.join("BACKUP-000006"));
    assert_eq!(image(&backups), before);
    let listed = list(&backups).unwrap();
    assert_eq!((listed.backups.len(), listed.problems.len()), (1, 1));
    // A number is not given again while there is a file of it.
    assert_eq!(db.backup(&backups).unwrap().number, 7);
}

#[test]
fn backups_beside_writers_hold_a_prefix() {
    let ((_place, backups), dir) = (place(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u64;
            while !done.load(Ordering::Relaxed) {
                let mut batch = WriteBatch::new();
                batch.put(key(number % 97), number.to_string());
                batch.put_in(&other, key(number % 97), number.to_string());
                db.write(batch).unwrap();
                number += 1;
            }
        });
        for _ in 0..6 {
            db.backup(&backups).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    for number in 1..=6 {
        let read = content(&restored(&backups, number).1);
        assert_eq!(read[""], read["other"], "backup {number}");
    }
    assert!(verify(&backups).unwrap().is_sound());
}
