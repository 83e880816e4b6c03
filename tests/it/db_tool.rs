//! `aidb` on a database as a process: looking into one that is being written changes nothing; copies open.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use aidb::{DB, Durability, KeyspaceOptions, Options, WriteBatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `aidb`; what it printed, or its one line of complaint.
fn aidb(words: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_aidb")).args(words).output().expect("aidb runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    match output.status.code() {
        Some(0) => Ok(out),
        Some(1) => {
            assert!(err.starts_with("aidb: ") && err.lines().count() == 1, "{err}");
            Err(err)
        }
        code => panic!("{words:?} ended with {code:?}: {err}"),
    }
}

/// Everything below `dir`: names and bytes.
fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(image(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            // Else the writer has just removed it.
            files.insert(path, bytes);
        }
    }
    files
}

fn small() -> Options {
    Options { memtable_bytes: 4 << 10, table_bytes: 4 << 10, ..Options::default() }
}

/// A database of tables and log, open.
fn database(dir: &Path) -> DB {
    let db = DB::open(dir, Options { durability: Durability::Os, ..small() }).expect("it opens");
    let events = db.keyspace("events", KeyspaceOptions::default()).expect("a keyspace");
    for number in 0..300 {
        let mut batch = WriteBatch::new();
        batch.put(format!("user:{number:03}"), format!("value {number}\n"));
        batch.put_in(&events, [0, (number % 256) as u8], "event");
        db.write(batch).expect("written");
    }
    // Nothing is left to be done in the background.
    db.force_compaction().expect("compacted");
    db.put("user:last", "in the log").expect("written");
    db
}

#[test]
fn looking_beside_a_writer_changes_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().to_str().expect("text");
    let db = database(place.path());
    // The writer has work of its own to end, a finite amount; what looking changed would change each time.
    let unchanged = (0..20).any(|_| {
        let before = image(place.path());
        look_everywhere(dir);
        image(place.path()) == before
    });
    assert!(unchanged, "looking changes files");
    assert!(aidb(&["checkpoint", dir, "/nowhere"]).expect_err("it is open").contains("another process has it open"));
    db.close().expect("closed");
}

/// Looks into the database in `dir` in every way.
fn look_everywhere(dir: &str) {
    assert_eq!(aidb(&["get", dir, "user:007"]).expect("found"), "value 7\n\n");
    assert_eq!(aidb(&["get", dir, "user:last"]).expect("found"), "in the log\n");
    assert_eq!(aidb(&["get", dir, "--keyspace", "events", "\\x00\\x07"]).expect("found"), "event\n");
    assert!(aidb(&["get", dir, "nobody"]).expect_err("no key").contains("nobody"));
    assert!(aidb(&["get", dir, "--keyspace", "nothing", "k"]).expect_err("no keyspace").contains("nothing"));
    assert_eq!(aidb(&["scan", dir]).expect("read").lines().count(), 301);
    assert_eq!(aidb(&["scan", dir, "--from", "user:298", "--to", "user:last"]).expect("read"), {
        "user:298\tvalue 298\\n\nuser:299\tvalue 299\\n\n"
    });
    let words = ["scan", dir, "--prefix", "user:", "--reverse", "--limit", "2", "--keys"];
    assert_eq!(aidb(&words).expect("read"), "user:last\nuser:299\n");
    assert_eq!(aidb(&["scan", dir, "--keyspace", "events", "--limit", "1", "--keys"]).expect("read"), "\\x00\\x00\n");
    let levels = aidb(&["levels", dir]).expect("read");
    assert!(levels.contains("  user:000..=") && levels.contains("keyspace events"), "{levels}");
    assert!(aidb(&["stats", dir]).expect("read").contains("amplification"));
    assert!(aidb(&["stats", "--prometheus", dir]).expect("read").contains("# TYPE aidb_engine_level_bytes gauge"));
    assert!(aidb(&["verify", dir]).expect("sound").contains("sound"));
}

#[test]
fn checkpoint_is_a_database_and_damage_is_named() {
    let place = tempfile::tempdir().expect("a directory");
    let (dir, copy) = (place.path().join("db"), place.path().join("copy"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    database(&dir).close().expect("closed");
    aidb(&["checkpoint", &text(&dir), &text(&copy)]).expect("made");
    assert!(aidb(&["checkpoint", &text(&dir), &text(&copy)]).expect_err("there").contains("not empty"));
    assert_eq!(aidb(&["scan", &text(&copy)]), aidb(&["scan", &text(&dir)]));
    let table =
        image(&copy).into_keys().find(|path| path.extension().is_some_and(|ext| ext == "sst")).expect("a table");
    let mut bytes = std::fs::read(&table).expect("read");
    bytes[3] ^= 1;
    std::fs::remove_file(&table).expect("the name goes, the other one stays");
    std::fs::write(&table, bytes).expect("written");
    assert!(aidb(&["verify", &text(&copy)]).is_err());
    assert!(aidb(&["verify", &text(&dir)]).expect("sound").contains("sound"));
    for command in ["get", "scan", "levels", "stats", "verify"] {
        let mut words = vec![command, "/nowhere"];
        words.extend((command == "get").then_some("key"));
        assert!(aidb(&words).expect_err("no database").contains("/nowhere"));
    }
}

#[test]
fn backups_are_made_listed_verified_purged_and_restored() {
    let place = tempfile::tempdir().expect("a directory");
    let (dir, backups, again) = (place.path().join("db"), place.path().join("backups"), place.path().join("again"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (dir, backups, again) = (text(&dir), text(&backups), text(&again));
    database(Path::new(&dir)).close().expect("closed");
    for number in 1..=3 {
        let made = aidb(&["backup", "create", &dir, &backups]).expect("made");
        assert!(made.starts_with(&format!("backup {number}: ")), "{made}");
    }
    let listed = aidb(&["backup", "list", &backups]).expect("listed");
    assert_eq!(listed.lines().count(), 3);
    assert!(aidb(&["backup", "verify", &backups]).expect("sound").contains("3 backups"));
    assert!(aidb(&["backup", "purge", &backups, "--keep", "2"]).expect("purged").contains("1 backups"));
    assert!(aidb(&["restore", &backups, &again, "--number", "1"]).expect_err("purged").contains("no backup 1"));
    aidb(&["restore", &backups, &again]).expect("restored");
    assert_eq!(aidb(&["scan", &again]), aidb(&["scan", &dir]));
    assert!(aidb(&["restore", &backups, &again]).expect_err("there").contains("not empty"));
    let table = image(Path::new(&backups)).into_keys().find(|path| path.extension().is_some_and(|is| is == "sst"));
    let table = table.expect("a table");
    std::fs::write(&table, "damage").expect("written");
    assert!(aidb(&["backup", "verify", &backups]).is_err());
    let refused = aidb(&["restore", &backups, &text(&place.path().join("none"))]).expect_err("damaged");
    assert!(refused.contains(&text(&table)) && refused.contains("offset"), "{refused}");
}

#[test]
fn a_range_is_compacted() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().to_str().expect("text");
    let db = database(place.path());
    (0..100).for_each(|number| db.delete(format!("user:{number:03}")).expect("deleted"));
    db.close().expect("closed");
    let tombstones = || {
        let levels = aidb(&["levels", dir]).expect("read");
        let columns =
            levels.lines().filter(|line| line.contains("..=")).filter_map(|line| line.split_whitespace().nth(4));
        columns.map(|count| count.parse::<u64>().expect("a number")).sum::<u64>()
    };
    assert!(aidb(&["compact", dir, "--keyspace", "nothing"]).expect_err("no keyspace").contains("nothing"));
    assert!(aidb(&["compact", dir, "--from", "user:0", "--to", "user:1"]).expect("done").contains("bytes of tables"));
    assert_eq!(tombstones(), 0);
    assert_eq!(aidb(&["scan", dir]).expect("read").lines().count(), 201);
    aidb(&["compact", dir, "--keyspace", "events"]).expect("done");
    aidb(&["compact", dir]).expect("done");
    assert!(aidb(&["compact", "/nowhere"]).expect_err("no database").contains("/nowhere"));
}

/// Changes a byte of `path`.
fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("read");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn every_file_is_dumped_and_damage_passed_over() {
    let place = tempfile::tempdir().expect("a directory");
    let (dir, backups) = (place.path().join("db"), place.path().join("backups"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    database(&dir).close().expect("closed");
    aidb(&["backup", "create", &text(&dir), &text(&backups)]).expect("made");
    let is_ours = |path: &PathBuf| !path.ends_with("LOCK") && path.extension().is_none_or(|is| is != "spare");
    let files = || image(place.path()).into_keys().filter(is_ours);
    let find = |what: &str| files().find(|path| text(path).contains(what)).unwrap_or_else(|| panic!("no {what}"));
    let dump = |path: &Path| aidb(&["dump", &text(path)]);
    for path in files().filter(|path| std::fs::metadata(path).expect("there").len() > 0) {
        assert!(
            dump(&path).is_ok_and(|text| text.contains('#') || text.starts_with("MANIFEST-")),
            "{}",
            path.display()
        );
    }
    let table = find(".sst");
    let whole = dump(&table).expect("sound");
    assert!(whole.contains("\tPut\tuser:007\tvalue 7\\n") || whole.contains("\tPut\t\\x00\\x07\tevent"), "{whole}");
    let two = aidb(&["dump", &text(&table), "--limit", "2"]).expect("sound");
    assert_eq!(two.lines().filter(|line| line.contains("\tPut\t")).count(), 2);
    // One block is lost, the others are not; without the index they are found all the same.
    let entries = |text: &str| text.lines().filter(|line| line.contains("\tPut\t")).count();
    damage(&table, 3);
    assert!(dump(&table).expect_err("damaged").contains("is damaged"));
    damage(&table, 3);
    let len = std::fs::metadata(&table).expect("there").len() as usize;
    damage(&table, len - 100);
    let output = Command::new(env!("CARGO_BIN_EXE_aidb")).args(["dump", &text(&table)]).output();
    let output = output.expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && printed.contains("footer: "), "{printed}");
    assert_eq!(entries(&printed), entries(&whole));
    let segment = find("wal/");
    assert!(dump(&segment).expect("sound").contains("\tPut\t"), "operations of the log");
    damage(&find("BACKUP-"), 40);
    assert!(dump(&find("BACKUP-")).is_err());
    std::fs::write(place.path().join("other"), "text").expect("written");
    assert!(
        aidb(&["dump", &text(&place.path().join("other"))]).expect_err("not ours").contains("no file of a database")
    );
}

#[test]
fn a_damaged_database_is_repaired() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("db");
    let name = dir.to_str().expect("text");
    database(&dir).close().expect("closed");
    let before = aidb(&["scan", name]).expect("read");
    assert!(aidb(&["repair", name]).expect("sound").starts_with("sound"));
    std::fs::remove_file(dir.join("CURRENT")).expect("removed");
    assert!(aidb(&["scan", name]).is_err());
    let dry = aidb(&["repair", name, "--dry-run"]).expect("nothing is lost");
    assert!(dry.starts_with("needs repair, and no entry is lost") && dry.contains("CURRENT"), "{dry}");
    let report = aidb(&["repair", name]).expect("nothing is lost");
    assert!(report.starts_with("repaired") && report.contains("moved to"), "{report}");
    assert_eq!(aidb(&["scan", name]).expect("read"), before);
    let is_table = |path: &PathBuf| path.parent() == Some(&dir) && path.extension().is_some_and(|is| is == "sst");
    let table = image(&dir).into_keys().find(is_table).expect("a table");
    damage(&table, 3);
    assert!(aidb(&["verify", name]).is_err());
    assert!(aidb(&["repair", name]).expect_err("a block is lost").contains("are lost"));
    assert!(aidb(&["verify", name]).expect("it is sound again").contains("sound"));
    assert!(aidb(&["repair", name]).expect("sound").starts_with("sound"));
    assert!(dir.join("lost").join(table.file_name().expect("a name")).is_file());
    assert!(aidb(&["repair", "/nowhere"]).expect_err("no database").contains("/nowhere"));
}
