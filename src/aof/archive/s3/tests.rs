//! The store without a server: what it says of itself, and what it does when nobody answers.

use super::*;
use crate::aof::AofError;
use crate::base::ErrorKind;

const SECRETS: [&str; 3] = ["AKIDEXAMPLE", "very/secret", "token/secret"];

fn keys() -> S3Keys {
    S3Keys::new(SECRETS[0], SECRETS[1], Some(SECRETS[2].into()))
}

/// A store at a port that nobody listens at.
fn unreachable() -> S3ArchiveStorage {
    let config = S3Config::builder("bucket")
        .endpoint("http://127.0.0.1:1")
        .allow_http(true)
        .keys(keys())
        .prefix("some/where")
        .attempts_max(2)
        .backoff_min(Duration::from_millis(1));
    S3ArchiveStorage::new(config.build().unwrap()).unwrap()
}

#[test]
fn failures_are_typed_and_show_no_key() {
    let store = unreachable();
    let errors = [
        ("put", store.put_new("a/b", &b"bytes".as_slice()).unwrap_err()),
        ("head", store.head("a/b").unwrap_err()),
        ("read", store.read("a/b", 0..5).unwrap_err()),
        ("read", store.read("a/b", 5..5).unwrap_err()),
        ("list", store.list("a/").unwrap_err()),
        ("delete", store.delete("a/b").unwrap_err()),
    ];
    for (tried, error) in &errors {
        assert_eq!(error.kind(), &ErrorKind::Remote, "{error}");
        let Some(AofError::RemoteStorage { operation, key, what, retryable }) = AofError::of(error) else {
            panic!("not the archive's: {error}")
        };
        assert_eq!((operation, *retryable), (tried, true), "{error}");
        assert!(key.starts_with("a/") && what.starts_with("cannot connect"), "{error}");
    }
    let shown = format!("{store:?} {store:#?} {:?} {:?} {errors:?}", store.config, store.access);
    let said: String = errors.iter().map(|(_, error)| error.to_string()).collect();
    for secret in SECRETS {
        assert!(!shown.contains(secret) && !said.contains(secret), "{shown} {said}");
    }
}

#[test]
fn keys_that_are_no_keys_are_refused_before_a_request() {
    let store = unreachable();
    for key in ["a//b", "../b", "", "/", "/a", "a/"] {
        let error = store.put_new(key, &b"bytes".as_slice()).unwrap_err();
        let refused = matches!(AofError::of(&error), Some(AofError::RemoteStorage { retryable: false, .. }));
        assert!(refused, "{key:?}: {error}");
    }
}

#[test]
fn bad_configuration_makes_no_store() {
    let bad = S3Config { attempts_max: 0, ..S3Config::builder("bucket").build().unwrap() };
    let error = S3ArchiveStorage::new(bad).unwrap_err();
    assert!(error.to_string().contains("attempts_max"));
}

#[test]
fn parts_grow_with_the_object() {
    assert_eq!(part_bytes(100 << 20, 16 << 20), 16 << 20);
    let huge = 1u64 << 40;
    let step = part_bytes(huge, 16 << 20);
    assert!(huge.div_ceil(step) <= PARTS_MAX && step > 16 << 20);
}
