//! `aidb aof` as a process: what it prints, what it refuses, how it exits.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a command printed and how it ended.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aidb"));
    command.arg("aof").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(child: Child) -> Done {
    let output = child.wait_with_output().expect("aidb ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `aidb aof` with `words` and `input`.
fn aof(words: &[&str], input: &[u8]) -> Done {
    let mut child = command(words).spawn().expect("aidb runs");
    // A command that refuses its options does not read.
    let _ = child.stdin.take().expect("piped").write_all(input);
    finish(child)
}

/// The same, and it must end well.
#[track_caller]
fn good(words: &[&str], input: &[u8]) -> String {
    let done = aof(words, input);
    assert_eq!(done.code, Some(0), "{words:?}: {}", done.err);
    done.out
}

/// The same, and it must fail with one line.
#[track_caller]
fn refused(words: &[&str], input: &[u8]) -> String {
    let done = aof(words, input);
    assert_eq!(done.code, Some(1), "{words:?}: {}", done.out);
    assert!(done.err.starts_with("aidb: ") && done.err.lines().count() == 1, "{}", done.err);
    done.err
}

fn place() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log").to_str().expect("text").to_owned();
    (dir, log)
}

/// The segment files of a log, oldest first.
fn segments(log: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(log).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|name| name == "log")).collect();
    files.sort();
    files
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = std::fs::read(file).expect("read");
    bytes[offset] ^= 1;
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn records_are_appended_and_numbered() {
    let (_dir, log) = place();
    assert_eq!(good(&["append", &log, "--print-ids"], b"a\nb\nc"), "1\n2\n3\n");
    let prefixed = ["append", &log, "--input", "prefixed", "--batch", "2", "--wait", "--print-ids"];
    assert_eq!(good(&prefixed, b"\x01\0\0\0d\0\0\0\0\x02\0\0\0fg"), "4\n5\n6\n");
    for strategy in ["sync", "async", "batched:2", "periodic:5", "batched:2,periodic:5"] {
        good(&["append", &log, "--strategy", strategy], b"more\n");
    }
    let done = aof(&["append", &log], b"");
    assert!(done.code == Some(0) && done.err.contains("0 records appended; the next id is 12"), "{}", done.err);
}

#[test]
fn bad_input_and_options_are_named() {
    let (_dir, log) = place();
    let text = refused(&["append", &log, "--input", "prefixed"], b"\x01\0\0\0a\x05\0\0\0b");
    assert!(text.contains("1 of 5 bytes"), "{text}");
    assert_eq!(good(&["append", &log, "--print-ids"], b"x\n"), "2\n", "what came before is kept");
    assert!(refused(&["append", &log, "--segment-bytes", "5"], b"").contains("segment_bytes 5"));
    assert_eq!(aof(&["append", &log, "--strategy", "often"], b"").code, Some(2));
    let (_other, file) = place();
    std::fs::write(&file, "no directory").expect("written");
    assert!(refused(&["append", &file], b"").contains(&file));
}

#[test]
fn a_log_has_one_writer() {
    let (_dir, log) = place();
    let mut first = command(&["append", &log, "--wait", "--print-ids"]).spawn().expect("aidb runs");
    let mut input = first.stdin.take().expect("piped");
    input.write_all(b"held\n").expect("it reads");
    let mut id = [0; 2];
    first.stdout.as_mut().expect("piped").read_exact(&mut id).expect("it prints");
    assert_eq!(&id, b"1\n");
    assert!(refused(&["append", &log], b"x\n").contains(&log));
    drop(input);
    assert_eq!(finish(first).code, Some(0));
}

#[test]
fn closed_pipe_ends_quietly() {
    let (_dir, log) = place();
    let lines: Vec<u8> = (0..20_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let mut child = command(&["append", &log, "--print-ids"]).spawn().expect("aidb runs");
    drop(child.stdout.take());
    child.stdin.take().expect("piped").write_all(&lines).expect("it reads to the end");
    let done = finish(child);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    assert_eq!(good(&["append", &log, "--print-ids"], b"x\n"), "20001\n", "the input counts, not the output");
}

#[test]
fn dump_shows_frames_and_finds_damage() {
    let (_dir, log) = place();
    good(&["append", &log, "--wait"], b"alpha\nbe\xffta\ngamma\n");
    let file = segments(&log).remove(0);
    let name = file.to_str().expect("text");
    let text = good(&["dump", name, "--records", "text"], b"");
    assert!(text.starts_with("# segment 1, version "), "{text}");
    assert!(text.contains("\n4096\t0\tdata\t1\t1\t") && text.contains("\n\t2\tbe\\xffta\n"), "{text}");
    assert!(good(&["dump", name, "--records", "hex"], b"").contains("\n\t1\t616c706861\n"));
    // The second frame's payload: the third says that the log was durable beyond it.
    flip(&file, 4096 + 48 + 42);
    let text = refused(&["dump", name], b"");
    assert!(text.contains(name) && text.contains("is damaged"), "{text}");
    flip(&file, 20);
    assert!(refused(&["dump", name], b"").contains("header fails its header checksum"));
    assert!(refused(&["dump", "/no/such/file"], b"").contains("/no/such/file"));
}

#[test]
fn segments_are_listed_beside_the_writer() {
    let (_dir, log) = place();
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let small = ["append", &log, "--segment-bytes", "8192", "--wait", "--print-ids"];
    let mut writer = command(&small).spawn().expect("aidb runs");
    let mut input = writer.stdin.take().expect("piped");
    input.write_all(&line.repeat(9)).expect("it reads");
    let mut ids = [0; 2 * 9];
    writer.stdout.as_mut().expect("piped").read_exact(&mut ids).expect("it prints");
    let table = good(&["list", &log], b"");
    assert!(table.starts_with("segment ") && table.contains("\n1         sealed  1 "), "{table}");
    let json = good(&["list", &log, "--json"], b"");
    let parsed: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert!(parsed.len() >= 3 && parsed[0]["base_id"] == 1 && parsed[0]["next_id"] == parsed[1]["base_id"], "{json}");
    assert_eq!(parsed.last().expect("one")["status"], "active");
    drop(input);
    assert_eq!(finish(writer).code, Some(0));
    flip(&segments(&log)[0], 100);
    let text = refused(&["list", &log], b"");
    assert!(text.contains("00000000000000000001.log: offset 0"), "{text}");
    assert!(refused(&["list", "/no/such/directory"], b"").contains("/no/such/directory"));
}

#[test]
fn keys_are_needed_and_never_shown() {
    let (dir, log) = place();
    let file = dir.path().join("keys");
    let (keys, secret) = (file.to_str().expect("text"), "5e".repeat(32));
    std::fs::write(&file, format!("1 {secret}\n")).expect("written");
    good(&["append", &log, "--keys", keys, "--wait"], b"classified\n");
    let segment = segments(&log).remove(0);
    let name = segment.to_str().expect("text");
    assert!(!good(&["dump", name], b"").contains("classified"));
    assert!(good(&["dump", name, "--records", "text", "--keys", keys], b"").contains("\t1\tclassified\n"));
    assert!(refused(&["dump", name, "--records", "text"], b"").contains("no keys were given"));
    std::fs::write(&file, format!("1 {}\n", "5f".repeat(32))).expect("written");
    let text = refused(&["dump", name, "--records", "text", "--keys", keys], b"");
    assert!(text.contains("is not the key") && !text.contains("5f5f"), "{text}");
    std::fs::write(&file, format!("1 {}\n", &secret[1..])).expect("written");
    let text = refused(&["append", &log, "--keys", keys], b"");
    assert!(text.contains("line 1") && !text.contains("5e5e"), "{text}");
}

#[test]
fn sealed_segments_are_archived_to_a_directory() {
    let (dir, log) = place();
    let target = dir.path().join("archive").to_str().expect("text").to_owned();
    let lines: Vec<u8> = (1..=500).flat_map(|number| format!("{number:0100}\n").into_bytes()).collect();
    good(&["append", &log, "--segment-bytes", "16384"], &lines);
    let done = good(&["archive", &log, "--to", &target, "--seal", "--level", "3"], b"");
    assert!(done.ends_with(&format!(" segments are archived in {target}\n")), "{done}");
    assert_eq!(segments(&log).len(), 2, "one archived segment stays, and the one being written");
    assert!(refused(&["append", &log], b"x\n").contains("archive is not configured"));
    assert_eq!(good(&["append", &log, "--archive", &target, "--print-ids"], b"x\n"), "501\n");
    assert!(refused(&["archive", "/no/such/directory", "--to", &target], b"").contains("/no/such/directory"));
    if cfg!(not(feature = "s3")) {
        assert!(refused(&["archive", &log, "--to", "s3://bucket/logs"], b"").contains("--features s3"));
    }
}

/// `count` lines of 99 digits, from 1 on.
fn lines(count: u32) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number:099}\n").into_bytes()).collect()
}

#[test]
fn changed_bytes_are_named_with_file_and_offset() {
    let (_dir, log) = place();
    good(&["append", &log, "--segment-bytes", "16384"], &lines(300));
    let clean = good(&["verify", &log], b"");
    assert!(clean.contains(" 300 records, ") && clean.ends_with(" 0 torn bytes, 0 faults\n"), "{clean}");
    let files = segments(&log);
    let mut manifest = segments(&format!("{log}/manifest"));
    let places = [(&files[0], 20), (&files[1], 4096 + 3), (&files[2], 4096 + 77), (&manifest.remove(0), 4096 + 5)];
    for (number, (file, offset)) in places.iter().enumerate() {
        flip(file, *offset);
        let done = aof(&["verify", &log], b"");
        assert_eq!(done.code, Some(1), "{}", done.out);
        assert_eq!(done.err, format!("aidb: {log} is damaged\n"));
        for (file, offset) in &places[..=number] {
            let named = done.out.lines().filter(|line| line.starts_with(&format!("{}: ", file.display())));
            let named: Vec<&str> = named.collect();
            let start = format!("{}: offset {offset}: ", file.display());
            assert!(named.len() == 1 && named[0].starts_with(&start), "{offset}: {}", done.out);
        }
        assert!(done.out.ends_with(&format!(" {} faults\n", number + 1)), "{}", done.out);
    }
    for (file, offset) in places {
        flip(file, offset);
    }
    assert_eq!(good(&["verify", &log], b""), clean);
    std::fs::remove_file(&files[1]).expect("removed");
    let done = aof(&["verify", &log], b"");
    assert!(done.code == Some(1) && done.out.contains(&format!("{}: offset 0: ", files[1].display())), "{}", done.out);
    assert!(refused(&["verify", "/no/such/directory"], b"").contains("/no/such/directory"));
}

#[test]
fn changed_bytes_of_archived_objects_are_named() {
    let (dir, log) = place();
    let (file, target) = (dir.path().join("keys"), dir.path().join("archive").to_str().expect("text").to_owned());
    let keys = file.to_str().expect("text");
    std::fs::write(&file, format!("1 {}\n", "5e".repeat(32))).expect("written");
    good(&["append", &log, "--segment-bytes", "16384", "--keys", keys], &lines(1000));
    good(&["archive", &log, "--to", &target, "--seal", "--level", "3", "--keys", keys], b"");
    let with = ["--archive", &target, "--keys", keys];
    let verify = [&["verify", &log][..], &with].concat();
    let clean = good(&verify, b"");
    assert!(clean.contains(" 1000 records, ") && clean.ends_with(" objects, 0 torn bytes, 0 faults\n"), "{clean}");
    assert!(!clean.contains(" 0 objects"), "{clean}");
    assert!(good(&["verify", &log], b"").contains(" 0 objects, 0 torn bytes, 0 faults"), "the archive is not named");
    let all = good(&[&["tail", &log, "--from-id", "1"][..], &with].concat(), b"");
    assert!(all.as_bytes() == lines(1000), "archived records are shown");
    let listed = good(&["list", &log, "--json"], b"");
    let parsed: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert!(parsed[0]["status"] == "remote" && parsed[0]["base_id"] == 1, "{listed}");
    assert!(parsed.windows(2).all(|pair| pair[0]["next_id"] == pair[1]["base_id"]), "{listed}");
    assert!(good(&["list", &log], b"").contains("\n1         remote  1 "));
    let mut objects = Vec::new();
    let mut dirs = vec![PathBuf::from(&target)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { dirs.push(entry) } else { objects.push(entry) }
        }
    }
    objects.sort();
    assert!(objects.len() > 3, "{objects:?}");
    let object = &objects[1];
    let len = object.metadata().expect("a file").len() as usize;
    let name = object.strip_prefix(&target).expect("in the archive").display().to_string();
    for offset in [0, 20, 60, 100, 200, len / 2, len - 150, len - 100, len - 70, len - 30, len - 1] {
        flip(object, offset);
        let done = aof(&verify, b"");
        assert_eq!(done.code, Some(1), "{}", done.out);
        assert!(done.out.starts_with(&format!("{name}: offset {offset}: ")), "{offset} of {len}: {}", done.out);
        assert!(done.out.ends_with(" 1 faults\n"), "{}", done.out);
        flip(object, offset);
    }
    let text = refused(&["verify", &log, "--archive", &target], b"");
    assert!(text.contains("no keys were given") && !text.contains("5e5e"), "{text}");
    assert_eq!(good(&verify, b""), clean);
}

#[test]
fn a_log_that_is_written_verifies_clean() {
    let (dir, log) = place();
    let file = dir.path().join("keys");
    let keys = file.to_str().expect("text");
    std::fs::write(&file, format!("1 {}\n", "5e".repeat(32))).expect("written");
    let writing = ["append", &log, "--segment-bytes", "65536", "--strategy", "batched:10", "--keys", keys];
    let mut writer = command(&writing).spawn().expect("aidb runs");
    let mut input = writer.stdin.take().expect("piped");
    for _ in 0..20 {
        input.write_all(&lines(2000)).expect("it reads");
        if Path::new(&log).is_dir() {
            good(&["verify", &log], b"");
        }
    }
    drop(input);
    assert_eq!(finish(writer).code, Some(0));
    assert!(good(&["verify", &log], b"").contains(" 40000 records, "));
}

#[test]
fn tail_shows_the_last_records_or_some_from_a_place_on() {
    let (_dir, log) = place();
    good(&["append", &log], b"one\ntwo\nth\xffree\nfour\n");
    let done = command(&["tail", &log]).output().expect("aidb runs");
    assert!(done.status.success() && done.stdout == b"one\ntwo\nth\xffree\nfour\n");
    assert_eq!(good(&["tail", &log, "-n", "1"], b""), "four\n");
    assert_eq!(good(&["tail", &log, "--from-id", "1", "--until-id", "3"], b""), "one\ntwo\n");
    assert_eq!(good(&["tail", &log, "--from-id", "2", "--count", "1"], b""), "two\n");
    let json = good(&["tail", &log, "-n", "2", "--format", "json"], b"");
    let parsed: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert!(parsed.len() == 2 && parsed[0]["id"] == 3 && parsed[0]["hex"] == "7468ff726565", "{json}");
    assert!(parsed[1]["text"] == "four" && parsed[1].get("hex").is_none(), "{json}");
    let (lsn, ts) = (parsed[1]["lsn"].to_string(), parsed[1]["ts_us"].to_string());
    assert_eq!(good(&["tail", &log, "--from-lsn", &lsn], b""), "four\n");
    assert!(good(&["tail", &log, "--from-time", &ts, "--format", "hex"], b"").ends_with("\t666f7572\n"));
    let hex = good(&["tail", &log, "-n", "1", "--format", "hex"], b"");
    assert!(hex.starts_with(&format!("4\t{lsn}\t2")) && hex.ends_with("Z\t666f7572\n"), "{hex}");
    assert_eq!(aof(&["tail", &log, "-n", "1", "--from-id", "1"], b"").code, Some(2));
    assert!(refused(&["tail", "/no/such/directory"], b"").contains("/no/such/directory"));
    // In a sealed segment; in the newest one damage may be what the writer has not finished.
    let (_other, log) = place();
    good(&["append", &log, "--segment-bytes", "16384"], &lines(300));
    flip(&segments(&log)[0], 4096 + 40 + 1);
    let text = refused(&["tail", &log, "--from-id", "1"], b"");
    assert!(text.contains("00000000000000000001.log") && text.contains("4096"), "{text}");
}

#[test]
fn tail_follows_a_running_append() {
    let (_dir, log) = place();
    let mut writer =
        command(&["append", &log, "--wait", "--print-ids", "--segment-bytes", "8192"]).spawn().expect("aidb");
    let mut input = writer.stdin.take().expect("piped");
    input.write_all(b"begun\n").expect("it reads");
    let mut id = [0; 2];
    writer.stdout.as_mut().expect("piped").read_exact(&mut id).expect("it prints");
    let follow = ["tail", &log, "--follow", "--from-id", "1", "--count", "201"];
    let [durable, written] = [&follow[..], &[&follow[..], &["--written"]].concat()].map(|words| {
        let mut tail = command(words).spawn().expect("aidb runs");
        let mut seen = [0; 6];
        tail.stdout.as_mut().expect("piped").read_exact(&mut seen).expect("it prints");
        assert_eq!(&seen, b"begun\n", "while the writer is idle");
        tail
    });
    let more = lines(200);
    for line in more.chunks(1000) {
        input.write_all(line).expect("it reads");
    }
    // They end by themselves, the writer still open.
    for tail in [written, durable] {
        let done = finish(tail);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
        assert!(done.out.as_bytes() == more, "{}", done.out);
    }
    drop(input);
    assert_eq!(finish(writer).code, Some(0));
}

#[test]
fn tail_ends_quietly_when_nobody_reads_it() {
    let (_dir, log) = place();
    good(&["append", &log], &lines(20_000));
    let closed = |words: &[&str]| {
        let mut child = command(words).spawn().expect("aidb runs");
        drop(child.stdout.take());
        child
    };
    for words in [&["tail", &log, "--from-id", "1"][..], &["tail", &log, "--from-id", "1", "--follow"]] {
        let done = finish(closed(words));
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{words:?}");
    }
    // One that waits for more ends with the next record.
    let mut tail = command(&["tail", &log, "--follow", "-n", "1"]).spawn().expect("aidb runs");
    let mut seen = [0; 100];
    tail.stdout.as_mut().expect("piped").read_exact(&mut seen).expect("it prints");
    drop(tail.stdout.take());
    good(&["append", &log], b"more\n");
    let done = finish(tail);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
}

#[test]
fn metrics_of_a_directory_are_prometheus_text() {
    let (_dir, log) = place();
    good(&["append", &log, "--segment-bytes", "16384"], &lines(300));
    let text = good(&["metrics", &log], b"");
    let value = |name: &str| {
        let start = format!("aidb_aof_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(start.as_str()));
        value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    };
    assert_eq!((value("local_records"), value("local_first_id"), value("durable_id")), (300.0, 1.0, 301.0));
    let files = segments(&log);
    assert_eq!(value("local_segments"), files.len() as f64);
    let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert_eq!(value("local_file_bytes"), bytes as f64);
    assert!(value("last_record_timestamp_seconds") > 1.7e9);
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")) {
        assert!(text.contains(&format!("\n{name} ")) && text.contains(&format!("# HELP {name} ")), "{text}");
    }
    assert!(refused(&["metrics", "/no/such/directory"], b"").contains("/no/such/directory"));
}
