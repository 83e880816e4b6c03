//! The command line of `sim`: what it prints, how it exits, and that a failure can be taken from seed to small case.
#![allow(clippy::disallowed_methods, reason = "reads what the program wrote")]

use std::path::Path;
use std::process::{Command, Output};

fn sim(dir: &Path, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).current_dir(dir).output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn wrong_arguments_name_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, hint) in [
        (&["run", "--seed", "1", "--profile", "raft"][..], "available: engine"),
        (&["run", "--seed", "1", "--planted", "nothing"], "available: aof_"),
        (&["swarm", "--seeds", "5..5"], "must be larger"),
        (&["swarm", "--seeds", "x"], "0..2000"),
        (&["swarm", "--time", "3d"], "90s or 10m"),
        (&["min", "nothing"], "neither a seed nor a .simcase"),
        (&["replay", "nothing.simcase"], "cannot read nothing.simcase"),
    ] {
        let (output, text) = sim(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text.contains(hint), "{arguments:?}: {text}");
    }
}

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["run", "swarm", "enum", "check", "min", "replay", "diff", "trace", "mutants", "marks"] {
        let (output, text) = sim(dir.path(), &[command, "--help"]);
        assert!(output.status.success() && text.contains("Usage: sim"), "{command}: {text}");
    }
}

#[test]
fn a_failure_goes_from_seed_to_small_case() {
    let dir = tempfile::tempdir().unwrap();
    let planted = ["--planted", "table_dir_not_synced"];
    let (output, text) = sim(dir.path(), &[&["swarm", "--seeds", "0..200", "--jobs", "1"][..], &planted].concat());
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text.lines().find(|line| line.contains("replay:")).unwrap();
    let seed = line.split("--seed ").nth(1).unwrap().split(' ').next().unwrap();
    let (output, text) = sim(dir.path(), &[&["run", "--seed", seed][..], &planted].concat());
    assert_eq!(output.status.code(), Some(1), "{text}");
    let case = text.lines().find_map(|line| line.trim().strip_prefix("case:")).unwrap().trim().to_owned();

    let (output, text) = sim(dir.path(), &["replay", &case]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(": the same run"), "{text}");
    let (output, text) = sim(dir.path(), &["min", &case, "--runs", "400", "--output", "small.simcase"]);
    assert!(output.status.success(), "{text}");
    let (output, text) = sim(dir.path(), &["replay", "small.simcase"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let size = |file: &str| std::fs::metadata(dir.path().join(file)).unwrap().len();
    assert!(size("small.simcase") < size(&case), "nothing was shrunk");
}

#[test]
fn a_trace_can_be_compared_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let (output, _) = sim(dir.path(), &["trace", "--seed", "3", "--format", "jsonl"]);
    std::fs::write(dir.path().join("a.jsonl"), &output.stdout).unwrap();
    let (output, text) = sim(dir.path(), &["diff", "3", "a.jsonl"]);
    assert!(output.status.success() && text.contains("the runs are the same"), "{text}");
    let (output, text) = sim(dir.path(), &["diff", "3", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("events are the same"), "{text}");
    let (_, text) = sim(dir.path(), &["trace", "--seed", "3", "--format", "html"]);
    assert!(text.starts_with("<!doctype html>") && text.contains("</table>"));
}
