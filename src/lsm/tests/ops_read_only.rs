//! Read-only views over the operating system: what they see, and that they change nothing.

use super::ops::{Content, collect, content, fill, image, names};
use super::{key, open, tiny, value};
use crate::base::ErrorKind;
use crate::lsm::{DB, Durability, KeyspaceOptions, Options, ReadOnly, WriteBatch};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn view_content(view: &ReadOnly) -> BTreeMap<String, Content> {
    let names = view.keyspaces().into_iter();
    let named = names.map(|name| (name.clone(), collect(view.keyspace(&name).unwrap().iter())));
    named.chain([(String::new(), collect(view.iter()))]).collect()
}

#[test]
fn read_only_view_stands_still_until_it_is_refreshed() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    fill(&db, 0..700);
    let events = db.keyspace("events", KeyspaceOptions::default()).unwrap();
    events.put("first", "event").unwrap();
    db.persist(Durability::Os).unwrap();
    let before = content(&db);
    let view = DB::open_read_only(dir.path(), tiny()).unwrap();
    assert_eq!((view.visible_seq(), view_content(&view)), (db.visible_seq(), before.clone()));
    for number in 0..700 {
        db.delete(key(number)).unwrap();
    }
    db.put("after", "everything").unwrap();
    events.put("second", "event").unwrap();
    db.force_compaction().unwrap();
    assert_eq!(view_content(&view), before);
    assert_eq!(view.get(key(3)).unwrap().unwrap(), value(3));
    assert!(view.verify().is_sound() && view.path() == dir.path());
    assert_eq!(view.clone().refresh().unwrap(), db.visible_seq());
    assert_eq!(view_content(&view), content(&db));
    assert!(view.contains_key("after").unwrap() && !view.contains_key(key(3)).unwrap());
    let of = |view: &ReadOnly| view.tables().unwrap().iter().map(|(_, table)| table.file_bytes).sum::<u64>();
    assert_eq!(view.statistics().table_bytes(), of(&view) + of(&view.keyspace("events").unwrap()));
    assert_eq!(view.statistics().keyspaces, 1);
    for refused in [view.put("k", "v"), view.delete("k"), view.write(WriteBatch::new()).map(|_| ())] {
        assert_eq!(refused.unwrap_err().kind(), &ErrorKind::ReadOnly);
    }
}

#[test]
fn read_only_view_of_a_database_that_was_not_closed_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // All of it stays in the log: nothing moves in the background while the files are copied.
    let db = DB::open(dir.path(), Options { memtable_bytes: 64 << 20, ..tiny() }).unwrap();
    fill(&db, 0..300);
    db.persist(Durability::Sync).unwrap();
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    for (path, bytes) in image(dir.path()) {
        let to = copy.join(path.strip_prefix(dir.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    let before = image(&copy);
    let view = DB::open_read_only(&copy, tiny()).unwrap();
    assert_eq!(view_content(&view), content(&db));
    drop(view);
    assert_eq!(image(&copy), before);
}

#[test]
fn read_only_view_of_a_checkpoint_needs_no_log() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(&dir);
    fill(&db, 0..300);
    db.flush().unwrap();
    db.checkpoint(place.path()).unwrap();
    let view = DB::open_read_only(place.path(), tiny()).unwrap();
    assert_eq!(view_content(&view), content(&db));
    assert!(!place.path().join("wal").exists());
}

#[test]
fn read_only_open_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |dir: &Path| DB::open_read_only(dir, tiny()).unwrap_err().kind().clone();
    assert_eq!(kind(&dir.path().join("nothing")), ErrorKind::Io);
    assert_eq!(kind(dir.path()), ErrorKind::InvalidArgument);
    assert!(names(dir.path()).is_empty());
    let db = open(&dir);
    fill(&db, 0..500);
    db.force_compaction().unwrap();
    db.close().unwrap();
    let table = names(dir.path()).into_iter().find(|name| name.ends_with(".sst")).unwrap();
    let table = dir.path().join(table);
    fs::remove_file(&table).unwrap();
    assert_eq!(kind(dir.path()), ErrorKind::Corruption { file: table, offset: 0 });
}

#[test]
fn read_only_view_follows_keyspaces_that_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let view = DB::open_read_only(dir.path(), tiny()).unwrap();
    assert_eq!(view.keyspace("events").unwrap_err().kind(), &ErrorKind::NotFound);
    let events = db.keyspace("events", KeyspaceOptions::default()).unwrap();
    events.put("key", "value").unwrap();
    db.persist(Durability::Os).unwrap();
    view.refresh().unwrap();
    let then = view.keyspace("events").unwrap();
    assert_eq!(then.get("key").unwrap().unwrap(), b"value");
    assert!(!view.contains_key("key").unwrap());
    assert_eq!(view.keyspaces(), ["events"]);
    db.drop_keyspace("events").unwrap();
    assert_eq!(then.get("key").unwrap().unwrap(), b"value");
    then.refresh().unwrap();
    for refused in [then.get("key").map(|_| ()), then.tables().map(|_| ()), then.iter().next().unwrap().map(|_| ())] {
        assert_eq!(refused.unwrap_err().kind(), &ErrorKind::InvalidArgument);
    }
    assert!(view.keyspaces().is_empty() && view.get("key").unwrap().is_none());
}

#[test]
fn read_only_views_beside_a_writer_see_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..3000u64 {
                let mut batch = WriteBatch::new();
                batch.put(key(number % 97), number.to_string());
                batch.put_in(&other, key(number % 97), number.to_string());
                db.write(batch).unwrap();
            }
        });
        let view = DB::open_read_only(dir.path(), tiny()).unwrap();
        let beside = view.keyspace("other").unwrap();
        let mut last = view.visible_seq();
        while !writer.is_finished() {
            match view.refresh() {
                Ok(seq) => assert!(seq >= last, "what was seen stays"),
                Err(error) => assert_eq!(*error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            last = view.visible_seq();
            assert_eq!(collect(view.iter()), collect(beside.iter()), "both keyspaces at {last}");
        }
    });
}
