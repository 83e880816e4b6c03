//! `aidb aof` and the example with a bucket, as processes: what they do, what they print, and that no key is shown.
#![allow(clippy::disallowed_methods, reason = "tests of the real world")]

use aidb_s3_tests::proxy::Action;
use aidb_s3_tests::server::{ACCESS_KEY, SECRET_KEY};
use aidb_s3_tests::target::Target;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A server, and what a user's shell knows of it.
struct Shell {
    target: Target,
    secret: String,
}

impl Shell {
    /// Returns none with another server than the one in this process: its keys are not known here.
    fn start() -> Option<Shell> {
        let target = Target::start();
        target.is_own().then(|| Shell { target, secret: SECRET_KEY.into() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", self.endpoint())
            .env("RUST_LOG", "trace")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.target.proxy.address)
    }

    fn bucket(&self) -> String {
        format!("s3://{}/{}", self.target.bucket, self.target.prefix)
    }

    fn ended(&self, mut command: Command, input: &[u8]) -> Output {
        let mut child = command.spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        // A command that refuses its options does not read.
        let _ = to.write_all(input);
        drop(to);
        let output = child.wait_with_output().unwrap();
        for shown in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(shown).contains(&self.secret), "a secret is shown");
        }
        output
    }

    fn aof(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_aidb"));
        command.arg("aof").args(words);
        self.ended(command, input)
    }

    #[track_caller]
    fn good(&self, words: &[&str], input: &[u8]) -> String {
        let output = self.aof(words, input);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The files of the server's objects.
    fn objects(&self) -> Vec<PathBuf> {
        let root = self.target.root.as_ref().unwrap().path().join(&self.target.bucket);
        let mut files = Vec::new();
        walk(&root, &mut files);
        files.retain(|file| file.extension().is_some_and(|name| name == "seg"));
        files.sort();
        files
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { walk(&entry, files) } else { files.push(entry) }
    }
}

fn lines(count: u32) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number:0299}\n").into_bytes()).collect()
}

#[test]
fn a_log_is_archived_listed_read_and_verified() {
    let Some(shell) = Shell::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (log, bucket) = (dir.path().join("log").to_str().unwrap().to_owned(), shell.bucket());
    shell.good(&["append", &log, "--segment-bytes", "262144"], &lines(4000));
    // A put that fails is tried again.
    shell.target.proxy.plant("PUT", "", 2, Action::Answer(503, "SlowDown"));
    let done = shell.good(&["archive", &log, "--to", &bucket, "--seal", "--level", "3"], b"");
    assert!(done.ends_with(&format!(" segments are archived in {bucket}\n")), "{done}");
    let objects = shell.objects();
    assert!(objects.len() > 3, "{objects:?}");
    assert!(shell.good(&["list", &log], b"").contains("\n1         remote  1 "));
    let tail = ["tail", &log, "--from-id", "1", "--archive", &bucket];
    assert!(shell.good(&tail, b"").as_bytes() == lines(4000));
    assert_eq!(shell.good(&["append", &log, "--archive", &bucket, "--print-ids"], b"more\n"), "4001\n");
    let verify = ["verify", &log, "--archive", &bucket];
    let clean = shell.good(&verify, b"");
    assert!(clean.contains(" 4001 records, ") && clean.contains(&format!(" {} objects, ", objects.len())), "{clean}");
    let mut bytes = std::fs::read(&objects[1]).unwrap();
    let (name, at) = (objects[1].file_name().unwrap().to_str().unwrap(), bytes.len() / 3);
    bytes[at] ^= 4;
    std::fs::write(&objects[1], bytes).unwrap();
    let output = shell.aof(&verify, b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains(&format!("{name}: offset {at}: ")), "{text}");
}

#[test]
fn what_a_user_gets_wrong_is_said_in_a_line() {
    let Some(mut shell) = Shell::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log").to_str().unwrap().to_owned();
    shell.good(&["append", &log], b"one\n");
    let refused = |shell: &Shell, target: &str| {
        let output = shell.aof(&["archive", &log, "--to", target, "--seal"], b"");
        let text = String::from_utf8(output.stderr).unwrap();
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert!(
            output.status.code() == Some(1) && last.starts_with("aidb: "),
            "{target}: {:?}: {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
        last
    };
    let bucket = shell.bucket();
    shell.secret = "not/the+secret+of+this+key".into();
    let text = refused(&shell, &bucket);
    assert!(text.contains("403") || text.contains("SignatureDoesNotMatch") || text.contains("denied"), "{text}");
    assert!(refused(&shell, "s3://").contains("bucket"));
}

#[test]
fn the_example_runs() {
    let Some(shell) = Shell::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut command = shell.command(env!("CARGO_BIN_EXE_aof_s3"));
    command.args([&shell.target.bucket, &shell.endpoint()]).env("TMPDIR", dir.path());
    let output = shell.ended(command, b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with("5000 records read back\n"), "{text}");
    assert!(shell.objects().len() > 1);
}
