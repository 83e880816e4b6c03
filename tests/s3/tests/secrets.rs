//! Looks for keys in everything that is shown: errors, `Debug`, and every line of the log at its most talkative.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

use aidb::aof::AofError;
use aidb::aof::archive::ArchiveStorage;
use aidb::aof::archive::s3::{S3ArchiveStorage, S3Keys};
use aidb_s3_tests::proxy::Action;
use aidb_s3_tests::target::{Target, noise};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};

const SECRET: &str = "the-secret-key";
const TOKEN: &str = "the-session-token";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// Does everything that a storage does; returns all that it shows.
fn exercise(target: &Target, storage: &S3ArchiveStorage) -> String {
    let mut shown = format!("{storage:?} {storage:#?}");
    for action in [
        None,
        Some(Action::Answer(503, "SlowDown")),
        Some(Action::Answer(400, "ExpiredToken")),
        Some(Action::Answer(301, "PermanentRedirect")),
        Some(Action::Drop),
        Some(Action::DoThenDrop),
        Some(Action::CutBody(1)),
        Some(Action::DoThenDelay(Duration::from_secs(5))),
    ] {
        for method in ["PUT", "GET", "HEAD", "DELETE", "POST"] {
            if let Some(action) = action {
                target.proxy.plant(method, "", 99, action);
            }
        }
        let long = noise(1, 6 << 20);
        let outcomes = [
            storage.put_new("short", &b"bytes".as_slice()).map(|_| ()),
            storage.put_new("long", &long.as_slice()).map(|_| ()),
            storage.head("short").map(|_| ()),
            storage.read("short", 0..5).map(|_| ()),
            storage.list("").map(|_| ()),
            storage.delete("short"),
        ];
        target.proxy.heal();
        for error in outcomes.into_iter().filter_map(Result::err) {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                shown.push_str(&format!("{error}\n{error:?}\n{error:#?}\n"));
                cause = error.source();
            }
            shown.push_str(&format!("{:?}\n", AofError::of(&error)));
        }
    }
    shown
}

#[test]
fn no_key_is_shown_anywhere() {
    let lines = Lines::default();
    // The server of this process logs the requests it gets; what the client says is looked at.
    let client = tracing_subscriber::filter::filter_fn(|metadata| !metadata.target().starts_with("s3s"));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(client)).with(LevelFilter::TRACE);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let target = Target::start();
    let wrong = S3Keys::new("AKIDNOBODY", SECRET, Some(TOKEN.into()));
    let patience = Duration::from_millis(300);
    let small = 5 << 20;
    let config = |keys| {
        let config = target.config().request_timeout(patience).attempts_max(2).part_bytes(small).multipart_bytes(small);
        config.keys(keys).build().unwrap()
    };
    let mut shown = format!("{:?}", config(wrong.clone()));
    let refused = S3ArchiveStorage::new(config(wrong)).unwrap();
    shown.push_str(&exercise(&target, &refused));
    let accepted = S3ArchiveStorage::new(config(target.keys.clone())).unwrap();
    shown.push_str(&exercise(&target, &accepted));

    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("object_store"), "nothing was logged");
    assert!(shown.matches("archive: cannot").count() > 50, "nothing failed");
    for key in [SECRET, TOKEN, aidb_s3_tests::server::SECRET_KEY] {
        for (name, text) in [("shown", &shown), ("logged", &logged)] {
            let line = text.lines().find(|line| line.contains(key));
            assert_eq!(line, None, "{name}");
        }
    }
    println!("{} lines logged, {} bytes of errors shown", logged.lines().count(), shown.len());
}
