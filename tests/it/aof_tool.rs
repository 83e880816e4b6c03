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
