//! `aikv` as a process: wrong flags, an occupied directory or port, the orderly end.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use std::process::Output;

use crate::support::{Process, command};

fn refused(flags: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let Output { status, stderr, .. } = command(dir.path(), flags).output().expect("aikv runs");
    let text = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.starts_with("aikv: ") && text.lines().count() == 1, "{text}");
    text
}

#[test]
fn wrong_flags_and_files_are_named() {
    assert!(refused(&["--prot", "7000"]).contains("--prot; did you mean --port?"));
    assert!(refused(&["--port", "99999"]).contains("--port: argument must be between 0 and 65535"));
    assert!(refused(&["--appendfsync", "often"]).contains("everysec, always, no"));
    assert!(refused(&["--config", "/no/such/file.toml"]).contains("/no/such/file.toml"));
    assert!(refused(&["--bind", "not-an-address"]).contains("not-an-address"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[server]\nprot = 1\n").expect("written");
    let text = refused(&["--config", file.path().to_str().expect("text")]);
    assert!(text.contains("unknown key \"prot\" in [server]; did you mean \"port\"?"), "{text}");
}

#[test]
fn an_occupied_directory_or_port_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Process::start(dir.path(), &[]);
    let output = command(dir.path(), &[]).output().expect("aikv runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(dir.path().to_str().expect("text")) && text.contains("in use"), "{text}");
    let port = first.address.port().to_string();
    let text = refused(&["--port", &port]);
    assert!(text.contains(&format!("127.0.0.1:{port} is already in use")), "{text}");
}

#[test]
fn sigterm_ends_it_orderly_and_keeps_the_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Process::start(dir.path(), &["--appendfsync", "no"]);
    let mut client = server.connect();
    client.ask("SET kept 1", "+OK\r\n");
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(client.rest(), "");
    let server = Process::start(dir.path(), &[]);
    server.connect().ask("GET kept", "$1\r\n1\r\n");
    let mut client = server.connect();
    client.send("SHUTDOWN NOSAVE\r\n");
    assert_eq!(client.rest(), "");
    assert_eq!(server.wait(), Some(0));
}
