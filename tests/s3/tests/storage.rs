//! The storage against a server: what [`ArchiveStorage`] promises, and what happens when the network does not.
#![allow(clippy::disallowed_methods, reason = "tests of the real world")]

use aidb::aof::AofError;
use aidb::aof::archive::s3::{S3ArchiveStorage, S3Config, S3Keys};
use aidb::aof::archive::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use aidb::{Error, ErrorKind, Result};
use aidb_s3_tests::proxy::Action;
use aidb_s3_tests::server::{ACCESS_KEY, SECRET_KEY};
use aidb_s3_tests::target::{Target, noise};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// Asserts that the archive failed and returns what it said and whether a later attempt may succeed.
fn remote(error: &Error) -> (String, bool) {
    assert_eq!(error.kind(), &ErrorKind::Remote, "{error}");
    match AofError::of(error) {
        Some(AofError::RemoteStorage { what, retryable, .. }) => (what.clone(), *retryable),
        _ => panic!("not the archive's: {error:?}"),
    }
}

#[test]
fn objects_read_back_as_they_were_put() {
    let target = Target::start();
    let storage = target.storage();
    for bytes in [0, 1, 4096, 3 * MIB + 5] {
        let key = format!("log/{bytes}.seg");
        let content = noise(bytes as u64, bytes);
        assert_eq!(storage.put_new(&key, &content.as_slice()).unwrap(), PutOutcome::Created);
        assert_eq!(storage.head(&key).unwrap(), Some(bytes as u64));
        assert_eq!(storage.read(&key, 0..bytes as u64).unwrap(), content);
    }
    let content = noise(4096, 4096);
    for range in [0..1, 1..2, 100..101, 4095..4096, 0..4095, 17..4001] {
        let wanted = &content[range.start as usize..range.end as usize];
        assert_eq!(storage.read("log/4096.seg", range).unwrap(), wanted);
    }
    assert_eq!(storage.read("log/4096.seg", 5..5).unwrap(), b"");
    let (what, retryable) = remote(&storage.read("log/4096.seg", 4000..4097).unwrap_err());
    assert!(!retryable, "{what}");
    remote(&storage.read("log/4096.seg", 5000..5001).unwrap_err());
}

#[test]
fn an_object_is_never_replaced() {
    let target = Target::start();
    let storage = target.storage();
    assert_eq!(storage.put_new("a", &b"first".as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(storage.put_new("a", &b"second".as_slice()).unwrap(), PutOutcome::Exists);
    assert_eq!(storage.read("a", 0..5).unwrap(), b"first");
    storage.delete("a").unwrap();
    assert_eq!(storage.put_new("a", &b"third".as_slice()).unwrap(), PutOutcome::Created);
}

#[test]
fn of_many_puts_at_once_one_creates() {
    let target = Target::start();
    if !target.is_own() {
        return; // Whether a foreign server is atomic is its own matter.
    }
    let storage = target.storage();
    let outcomes: Vec<PutOutcome> = std::thread::scope(|scope| {
        let put = |number: u8| storage.put_new("race", &[number; 1000].as_slice()).unwrap();
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || put(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == PutOutcome::Created).count(), 1);
    let winner = outcomes.iter().position(|outcome| *outcome == PutOutcome::Created).unwrap();
    assert_eq!(storage.read("race", 0..1000).unwrap(), [winner as u8; 1000]);
}

#[test]
fn long_objects_go_in_parts() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.part_bytes(5 << 20).multipart_bytes(5 << 20));
    let content = noise(9, 32 * MIB + 7);
    assert_eq!(storage.put_new("parts", &content.as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(target.proxy.count("POST", "?uploads"), 1);
    assert_eq!(target.proxy.count("PUT", "partNumber="), 7);
    assert_eq!(storage.head("parts").unwrap(), Some(content.len() as u64));
    for range in [0..10, 5 * MIB - 3..5 * MIB + 3, 9 * MIB..21 * MIB, 32 * MIB..32 * MIB + 7] {
        assert_eq!(storage.read("parts", range.start as u64..range.end as u64).unwrap(), content[range]);
    }
    assert_eq!(storage.put_new("parts", &noise(1, 6 * MIB).as_slice()).unwrap(), PutOutcome::Exists);
    assert_eq!(target.proxy.count("POST", "?uploads"), 1, "the key was asked for first");
    assert_eq!(storage.put_new("whole", &noise(1, 5 * MIB).as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(target.proxy.count("POST", "?uploads"), 1, "a put of the limit is one request");
}

#[test]
fn parts_begin_at_64_mib() {
    let target = Target::start();
    let storage = target.storage();
    let content = noise(3, 64 * MIB + 1);
    assert_eq!(storage.put_new("whole", &&content[..64 * MIB]).unwrap(), PutOutcome::Created);
    assert_eq!(target.proxy.count("POST", "?uploads"), 0);
    assert_eq!(storage.put_new("parts", &content.as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(target.proxy.count("PUT", "partNumber="), 5);
    for key in ["whole", "parts"] {
        let bytes = storage.head(key).unwrap().unwrap();
        assert_eq!(storage.read(key, 0..bytes).unwrap(), content[..bytes as usize]);
    }
}

/// A source that fails in its second part.
struct Broken;

impl ObjectSource for Broken {
    fn bytes(&self) -> u64 {
        12 << 20
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        buffer.fill(1);
        if offset == 0 { Ok(()) } else { Err(Error::invalid_argument("broken on purpose")) }
    }
}

#[test]
fn a_broken_upload_in_parts_is_given_up() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.part_bytes(5 << 20).multipart_bytes(5 << 20));
    let error = storage.put_new("broken", &Broken).unwrap_err();
    assert!(error.to_string().contains("broken on purpose"), "{error}");
    assert_eq!(target.proxy.count("DELETE", "uploadId="), 1);
    target.proxy.plant("PUT", "partNumber=2", 1, Action::Answer(403, "AccessDenied"));
    let (what, retryable) = remote(&storage.put_new("broken", &noise(1, 12 * MIB).as_slice()).unwrap_err());
    assert!(what.starts_with("403 AccessDenied") && !retryable, "{what}");
    assert_eq!(target.proxy.count("DELETE", "uploadId="), 2);
    assert_eq!(target.proxy.count("POST", "uploadId="), 0);
    assert_eq!(storage.head("broken").unwrap(), None);
}

#[test]
fn a_lost_reply_to_a_completion_is_looked_up() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.part_bytes(5 << 20).multipart_bytes(5 << 20));
    let content = noise(2, 6 * MIB);
    target.proxy.plant("POST", "uploadId=", 1, Action::DoThenDrop);
    assert_eq!(storage.put_new("dropped", &content.as_slice()).unwrap(), PutOutcome::Created);
    target.proxy.plant("POST", "uploadId=", 1, Action::DoThenAnswer(400, "Whatever"));
    assert_eq!(storage.put_new("refused", &content.as_slice()).unwrap(), PutOutcome::Created);
    for key in ["dropped", "refused"] {
        assert_eq!(storage.read(key, 0..content.len() as u64).unwrap(), content);
    }
    target.proxy.plant("POST", "uploadId=", 1, Action::Answer(400, "InvalidPart"));
    let (what, _) = remote(&storage.put_new("undone", &content.as_slice()).unwrap_err());
    assert!(what.contains("InvalidPart"), "{what}");
    assert_eq!(storage.head("undone").unwrap(), None);
}

#[test]
fn listings_are_whole_and_sorted() {
    let target = Target::start();
    let storage = target.storage();
    let mut wanted = Vec::new();
    for number in 0..1_010 {
        let key = format!("log/0000-{number:04}");
        storage.put_new(&key, &vec![0; number % 7].as_slice()).unwrap();
        wanted.push(ObjectInfo { key, bytes: number as u64 % 7 });
    }
    storage.put_new("log/0001-x", &b"x".as_slice()).unwrap();
    storage.put_new("logs/other", &b"other".as_slice()).unwrap();
    assert_eq!(storage.list("log/0000-").unwrap(), wanted);
    assert_eq!(storage.list("log/0000-0007").unwrap(), wanted[7..8]);
    assert_eq!(storage.list("log/").unwrap().len(), 1_011);
    assert_eq!(storage.list("log").unwrap().len(), 1_012);
    assert_eq!(storage.list("").unwrap().len(), 1_012);
    assert_eq!(storage.list("nothing/here").unwrap(), []);
}

#[test]
fn what_is_missing_is_missing() {
    let target = Target::start();
    let storage = target.storage();
    assert_eq!(storage.head("no").unwrap(), None);
    for range in [0..10, 3..3] {
        let error = storage.read("no", range).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotFound, "{error}");
    }
    storage.delete("no").unwrap();
    storage.put_new("yes", &b"yes".as_slice()).unwrap();
    storage.delete("yes").unwrap();
    storage.delete("yes").unwrap();
    assert_eq!(storage.head("yes").unwrap(), None);
    assert_eq!(storage.list("").unwrap(), []);
}

#[test]
fn a_missing_bucket_is_no_missing_object() {
    let target = Target::start();
    let missing = S3Config { bucket: "no-such-bucket".into(), ..target.config().build().unwrap() };
    let storage = S3ArchiveStorage::new(missing).unwrap();
    if target.is_own() {
        // The server in this process makes buckets and takes them for empty; this is what others say.
        target.proxy.plant("PUT", "", 9, Action::Answer(404, "NoSuchBucket"));
        target.proxy.plant("GET", "", 9, Action::Answer(404, "NoSuchBucket"));
    }
    let errors = [
        storage.put_new("a", &b"a".as_slice()).unwrap_err(),
        storage.read("a", 0..1).unwrap_err(),
        storage.list("a").unwrap_err(),
    ];
    for error in errors {
        let (what, retryable) = remote(&error);
        assert!(what.contains("NoSuchBucket") && !retryable, "{what}");
    }
}

#[test]
fn wrong_keys_are_refused_for_good() {
    let target = Target::start();
    if !target.is_own() {
        return; // The foreign server takes every signature.
    }
    target.storage().put_new("a", &b"a".as_slice()).unwrap();
    let wrong = ["AKIDTESTSERVER", "AKIDNOBODY"];
    for access_key in wrong {
        let keys = S3Keys::new(access_key, "a-wrong-secret", Some("a-wrong-token".into()));
        let storage = target.storage_with(|config| config.keys(keys));
        for error in [
            storage.put_new("a", &b"a".as_slice()).unwrap_err(),
            storage.head("a").unwrap_err(),
            storage.read("a", 0..1).unwrap_err(),
            storage.list("").unwrap_err(),
            storage.delete("a").unwrap_err(),
        ] {
            let (what, retryable) = remote(&error);
            assert!(what.starts_with("403") && !retryable, "{what}");
            let shown = format!("{error} {error:?} {:?}", AofError::of(&error));
            assert!(!shown.contains("a-wrong") && !shown.contains(access_key), "{shown}");
        }
    }
    assert_eq!(target.storage().read("a", 0..1).unwrap(), b"a");
}

#[test]
fn a_busy_server_is_asked_again() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.attempts_max(4));
    for (method, status) in [("PUT", 503), ("HEAD", 500), ("GET", 503), ("DELETE", 500)] {
        target.proxy.plant(method, "busy", 3, Action::Answer(status, "SlowDown"));
    }
    assert_eq!(storage.put_new("busy", &b"bytes".as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(storage.head("busy").unwrap(), Some(5));
    assert_eq!(storage.read("busy", 0..5).unwrap(), b"bytes");
    storage.delete("busy").unwrap();
    for method in ["PUT", "HEAD", "GET", "DELETE"] {
        assert_eq!(target.proxy.count(method, "busy"), 4, "{method}");
    }
    target.proxy.plant("PUT", "never", 9, Action::Answer(503, "SlowDown"));
    let (what, retryable) = remote(&storage.put_new("never", &b"bytes".as_slice()).unwrap_err());
    assert!(what.starts_with("503 SlowDown planted") && retryable, "{what}");
    assert_eq!(target.proxy.count("PUT", "never"), 4, "attempts_max");
    target.proxy.plant("GET", "list-type", 2, Action::Answer(500, "InternalError"));
    assert_eq!(storage.list("").unwrap(), []);
}

#[test]
fn a_conflict_is_looked_at() {
    let target = Target::start();
    let storage = target.storage();
    for (key, status, code) in [("a", 409, "ConditionalRequestConflict"), ("b", 412, "PreconditionFailed")] {
        target.proxy.plant("PUT", key, 1, Action::Answer(status, code));
        let (what, retryable) = remote(&storage.put_new(key, &b"bytes".as_slice()).unwrap_err());
        assert!(what.contains(code) && retryable, "{what}");
        assert_eq!(storage.head(key).unwrap(), None);
        assert_eq!(storage.put_new(key, &b"bytes".as_slice()).unwrap(), PutOutcome::Created);
    }
    target.proxy.heal();
    target.proxy.plant("PUT", "landed", 1, Action::DoThenAnswer(409, "ConditionalRequestConflict"));
    assert_eq!(storage.put_new("landed", &b"bytes".as_slice()).unwrap(), PutOutcome::Exists);
}

#[test]
fn a_dropped_reply_does_not_put_twice() {
    let target = Target::start();
    let storage = target.storage();
    target.proxy.plant("PUT", "dropped", 1, Action::DoThenDrop);
    assert_eq!(storage.put_new("dropped", &b"bytes".as_slice()).unwrap(), PutOutcome::Exists);
    assert_eq!(storage.read("dropped", 0..5).unwrap(), b"bytes");
    target.proxy.plant("PUT", "unsent", 1, Action::Drop);
    assert_eq!(storage.put_new("unsent", &b"bytes".as_slice()).unwrap(), PutOutcome::Created);
    target.proxy.plant("DELETE", "unsent", 1, Action::DoThenDrop);
    storage.delete("unsent").unwrap();
    target.proxy.plant("PUT", "answered", 1, Action::DoThenAnswer(500, "InternalError"));
    assert_eq!(storage.put_new("answered", &b"bytes".as_slice()).unwrap(), PutOutcome::Exists);
}

#[test]
fn a_put_that_timed_out_may_land_late() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.request_timeout(Duration::from_millis(300)));
    target.proxy.plant("PUT", "late", 1, Action::Delay(Duration::from_secs(1)));
    let begun = Instant::now();
    let (what, retryable) = remote(&storage.put_new("late", &b"bytes".as_slice()).unwrap_err());
    assert!(what.starts_with("timed out") && retryable, "{what}");
    assert!(begun.elapsed() < Duration::from_secs(1), "the timeout held");
    assert_eq!(storage.head("late").unwrap(), None);
    let landed = || storage.head("late").unwrap().is_some();
    while !landed() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never landed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(storage.read("late", 0..5).unwrap(), b"bytes");
}

#[test]
fn a_slow_read_is_asked_again() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.request_timeout(Duration::from_secs(1)));
    storage.put_new("slow", &b"bytes".as_slice()).unwrap();
    target.proxy.plant("GET", "slow", 1, Action::DoThenDelay(Duration::from_secs(5)));
    assert_eq!(storage.read("slow", 1..4).unwrap(), b"yte");
    target.proxy.plant("HEAD", "slow", 1, Action::Delay(Duration::from_secs(5)));
    assert_eq!(storage.head("slow").unwrap(), Some(5));
    target.proxy.plant("GET", "slow", 1, Action::Drop);
    assert_eq!(storage.read("slow", 1..4).unwrap(), b"yte");
    target.proxy.plant("GET", "slow", 99, Action::Delay(Duration::from_secs(5)));
    let storage = target.storage_with(|config| config.request_timeout(Duration::from_millis(100)).attempts_max(2));
    let (what, retryable) = remote(&storage.read("slow", 0..5).unwrap_err());
    assert!(what.starts_with("timed out") && retryable, "{what}");
}

#[test]
fn a_body_that_breaks_off_is_gone_on_with() {
    let target = Target::start();
    let storage = target.storage();
    let content = noise(5, 2 * MIB);
    storage.put_new("cut", &content.as_slice()).unwrap();
    target.proxy.plant("GET", "cut", 1, Action::CutBody(100_000));
    target.proxy.plant("GET", "cut", 1, Action::CutBody(0));
    let range = 1_000..2 * MIB - 1_000;
    assert_eq!(storage.read("cut", range.start as u64..range.end as u64).unwrap(), content[range]);
    assert_eq!(target.proxy.count("GET", "cut"), 3);
}

#[test]
fn no_prefix_works_too() {
    let target = Target::start();
    let storage = target.storage_with(|config| config.prefix(""));
    let key = format!("{}-bare/x", target.prefix);
    assert_eq!(storage.put_new(&key, &b"bare".as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(storage.list(&key[..key.len() - 1]).unwrap(), [ObjectInfo { key: key.clone(), bytes: 4 }]);
    assert_eq!(storage.read(&key, 0..4).unwrap(), b"bare");
    storage.delete(&key).unwrap();
}

/// Runs [`child_with_keys_of_its_surroundings`] in a process with these variables.
fn run_child(target: &Target, variables: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_with_keys_of_its_surroundings", "--ignored"]).stdout(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        child.env_remove(name);
    }
    child.env("CHILD_ENDPOINT", format!("http://{}", target.proxy.address)).env("CHILD_BUCKET", &target.bucket);
    child.env("CHILD_KEY", format!("{}/child-{}", target.prefix, variables.len())).envs(variables.iter().copied());
    assert!(child.status().unwrap().success(), "{variables:?}");
}

#[test]
fn keys_come_from_the_environment_and_from_profiles() {
    let target = Target::start();
    let (id, secret) = match target.is_own() {
        true => (ACCESS_KEY.to_string(), SECRET_KEY.to_string()),
        false => ("AKIDANY".to_string(), "any".to_string()),
    };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let file = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    std::fs::write(home.path().join(".aws/credentials"), &file).unwrap();
    let config = file.replace("[default]", "[profile other]");
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    let home = home.path().to_str().unwrap();
    run_child(&target, &[("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret)]);
    run_child(&target, &[("HOME", home)]);
    run_child(&target, &[("HOME", home), ("AWS_PROFILE", "other"), ("AWS_REGION", "us-east-1")]);
}

#[test]
#[ignore = "started by keys_come_from_the_environment_and_from_profiles"]
fn child_with_keys_of_its_surroundings() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let config = S3Config::builder(variable("CHILD_BUCKET")).endpoint(variable("CHILD_ENDPOINT")).allow_http(true);
    let storage = S3ArchiveStorage::new(config.build().unwrap()).unwrap();
    let key = variable("CHILD_KEY");
    assert_eq!(storage.put_new(&key, &b"child".as_slice()).unwrap(), PutOutcome::Created);
    assert_eq!(storage.read(&key, 0..5).unwrap(), b"child");
    storage.delete(&key).unwrap();
}
