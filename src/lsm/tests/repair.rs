//! Repair over the operating system: what is damaged, what is saved, and that the report tells of all that is lost.

use super::{key, tiny, value};
use crate::lsm::ops::repair::{RepairOptions, RepairReport, repair};
use crate::lsm::{DB, KeyspaceOptions, Options};
use crate::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn fix(dir: &Path) -> RepairReport {
    repair(dir, RepairOptions { options: tiny(), ..RepairOptions::default() }).unwrap()
}

fn content(dir: &Path) -> [Content; 2] {
    let db = DB::open(dir, tiny()).unwrap();
    assert!(db.validate_integrity().unwrap().is_sound());
    let events = db.keyspace("events", KeyspaceOptions::default()).unwrap();
    let all = |iter: crate::lsm::DbIterator| {
        iter.map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect::<Result<Content>>().unwrap()
    };
    [all(db.iter()), all(events.iter())]
}

/// Every file below `dir`, but for locks.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false if entry.ends_with("LOCK") => {}
            false => _ = found.insert(entry.clone(), fs::read(&entry).unwrap()),
        }
    }
    found
}

fn find(dir: &Path, what: &str) -> Vec<PathBuf> {
    files(dir).into_keys().filter(|path| path.strip_prefix(dir).unwrap().to_str().unwrap().starts_with(what)).collect()
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    files(dir)
        .into_keys()
        .filter(|path| path.parent() == Some(dir) && path.extension().is_some_and(|is| is == "sst"))
        .collect()
}

/// Several levels, a second keyspace, deletes, and a log that holds what no table does.
fn life(dir: &Path) {
    let db = DB::open(dir, tiny()).unwrap();
    let events = db.keyspace("events", KeyspaceOptions::default()).unwrap();
    for number in 0..600 {
        db.put(key(number * 7 % 400), value(number)).unwrap();
        events.put(key(number % 50), value(number)).unwrap();
        if number % 83 == 0 {
            db.delete_range(key(number % 400)..key(number % 400 + 9)).unwrap();
        }
        if number % 5 == 0 {
            db.delete(key(number * 3 % 400)).unwrap();
        }
    }
    db.flush().unwrap();
    for number in 0..20 {
        db.put(key(1000 + number), value(number)).unwrap();
    }
    db.close().unwrap();
}

#[test]
fn a_sound_directory_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    life(dir.path());
    let before = files(dir.path());
    let report = fix(dir.path());
    assert!(!report.needed && report.to_string().starts_with("sound"), "{report}");
    assert_eq!(files(dir.path()), before);
    let db = DB::open(dir.path(), tiny()).unwrap();
    let refused = repair(dir.path(), RepairOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Locked);
    drop(db);
    let empty = TempDir::new().unwrap();
    assert_eq!(repair(empty.path(), RepairOptions::default()).unwrap_err().kind(), &ErrorKind::InvalidArgument);
}

#[test]
fn without_current_or_manifest_nothing_is_lost() {
    for damage in 0..5 {
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        life(dir);
        let before = content(dir);
        let manifest = find(dir, "MANIFEST-").remove(0);
        match damage {
            0 => fs::remove_file(dir.join("CURRENT")).unwrap(),
            1 => fs::write(dir.join("CURRENT"), "MANIFEST-000001 12345678\n").unwrap(),
            2 => fs::remove_file(&manifest).unwrap(),
            3 => fs::write(&manifest, "not any more").unwrap(),
            _ => {
                fs::remove_file(&manifest).unwrap();
                fs::remove_file(dir.join("CURRENT")).unwrap();
            }
        }
        assert!(DB::open(dir, tiny()).is_err());
        let image = files(dir);
        let dry = repair(dir, RepairOptions { dry_run: true, options: tiny() }).unwrap();
        assert!(dry.needed && dry.to_string().starts_with("needs repair"));
        assert_eq!(files(dir), image);
        let report = fix(dir);
        assert!(report.needed && !report.loses_entries(), "{report}");
        assert_eq!(report.tables_written == 0, damage < 2, "{report}");
        assert_eq!(content(dir), before);
        assert!(!fix(dir).needed);
    }
}

#[test]
fn a_damaged_block_costs_its_entries_alone() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    life(dir);
    let before = content(dir);
    let table = tables(dir).pop().unwrap();
    let mut bytes = fs::read(&table).unwrap();
    bytes[10] ^= 1;
    fs::write(&table, &bytes).unwrap();
    let report = fix(dir);
    assert_eq!((report.lost.len(), report.tables_written), (1, 1), "{report}");
    assert!(report.loses_entries() && report.to_string().contains("keys from"), "{report}");
    let set_aside = dir.join("lost").join(table.file_name().unwrap());
    assert!(report.moved.contains(&set_aside) && fs::read(&set_aside).unwrap() == bytes, "{report}");
    let after = content(dir);
    let wrong = |of: usize| before[of].iter().filter(|(key, value)| after[of].get(*key) != Some(value)).count();
    assert!(wrong(0) + wrong(1) <= 20 && (wrong(0) == 0 || wrong(1) == 0), "{} and {}", wrong(0), wrong(1));
}

#[test]
fn what_lies_behind_a_gap_of_the_log_is_saved() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let options = Options { memtable_bytes: 1 << 20, wal_segment_bytes: 8 << 10, ..tiny() };
    let db = DB::open(dir, options).unwrap();
    for number in 0..300 {
        db.put(key(number), value(number)).unwrap();
    }
    db.close().unwrap();
    let before = content(dir);
    // Opening has flushed nothing.
    let segment = find(dir, "wal").into_iter().find(|path| path.extension().is_some_and(|kind| kind == "log")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096 + 60] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert!(DB::open(dir, tiny()).unwrap_err().is_corruption());
    let report = fix(dir);
    assert_eq!(report.log_gaps.len(), 1, "{report}");
    let lost: u64 = report.lost_seqs.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
    let after = content(dir);
    assert!(lost >= 1 && report.loses_entries(), "{report}");
    assert_eq!(after[0].len() as u64 + lost, before[0].len() as u64, "{report}");
    assert!(!fix(dir).needed);
}

/// What was ever written to each key of the default keyspace: sequence number and value.
type Past = BTreeMap<Vec<u8>, Vec<(u64, Option<Vec<u8>>)>>;

fn random_life(dir: &Path, random: &mut impl FnMut(u64) -> u64) -> Past {
    let mut past = Past::new();
    let mut db = DB::open(dir, tiny()).unwrap();
    let mut seq = 0;
    for _ in 0..100 + random(700) {
        let (of, choice) = (key(random(120)), random(100));
        let new = (choice < 80).then(|| value(seq));
        match &new {
            Some(new) => db.put(&of, new).unwrap(),
            None => db.delete(&of).unwrap(),
        }
        seq += 1;
        past.entry(of).or_default().push((seq, new));
        match random(200) {
            0 => db.flush().unwrap(),
            1 => db.force_compaction().unwrap(),
            2 => {
                db.close().unwrap();
                db = DB::open(dir, tiny()).unwrap();
            }
            _ => {}
        }
    }
    db.close().unwrap();
    past
}

/// Changes one file in some way.
fn damage(dir: &Path, random: &mut impl FnMut(u64) -> u64) -> String {
    let mut all: Vec<PathBuf> =
        files(dir).into_iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(path, _)| path).collect();
    all.retain(|path| path.extension().is_none_or(|is| is != "spare"));
    let path = all.swap_remove(random(all.len() as u64) as usize);
    let mut bytes = fs::read(&path).unwrap();
    let at = random(bytes.len() as u64) as usize;
    let how = random(5);
    match how {
        0 => fs::remove_file(&path).unwrap(),
        1 => bytes.truncate(at),
        2 => bytes[at..].iter_mut().take(200).for_each(|byte| *byte = 0),
        _ => bytes[at] ^= 1 << random(8),
    }
    if how > 0 {
        fs::write(&path, bytes).unwrap();
    }
    format!("{} in way {how} at {at}", path.display())
}

#[test]
fn whatever_is_damaged_the_report_tells_of_all_that_is_lost() {
    for seed in 0..40u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        let past = random_life(dir, &mut random);
        let what = damage(dir, &mut random);
        let report = fix(dir);
        let db = DB::open(dir, tiny()).unwrap_or_else(|error| panic!("seed {seed}, {what}: {error}\n{report}"));
        let last = db.visible_seq().0;
        for (key, versions) in &past {
            let found = db.get(key).unwrap().map(|value| value.to_vec());
            let (seq, newest) = versions.last().unwrap();
            if found == *newest {
                continue;
            }
            let is_old = versions.iter().any(|(_, old)| *old == found) || found.is_none();
            assert!(is_old, "seed {seed}, {what}: {key:?} has an invented value\n{report}");
            let inside = |lost: &crate::lsm::ops::repair::Lost| {
                lost.loses_entries
                    && lost.keys.0.as_ref().is_none_or(|from| from <= key)
                    && lost.keys.1.as_ref().is_none_or(|to| key <= to)
            };
            let told = report.lost.iter().any(inside)
                || report.lost_seqs.iter().any(|(first, last)| (first.0..=last.0).contains(seq))
                || *seq > last
                || newest.is_none() && !report.notes.is_empty();
            assert!(told, "seed {seed}, {what}: {key:?} is lost and not told of, written at {seq}\n{report}");
        }
        let invented = db.iter().map(|entry| entry.unwrap().key).find(|key| !past.contains_key(key));
        assert_eq!(invented, None, "seed {seed}, {what}");
        assert!(db.validate_integrity().unwrap().is_sound());
        db.close().unwrap();
        assert!(!fix(dir).needed, "seed {seed}, {what}");
    }
}
