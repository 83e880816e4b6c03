//! Archived segments as objects in S3: compressed, encrypted, both, put whole and in parts, read in pieces.
#![allow(clippy::disallowed_methods, reason = "tests of the real world")]

use aidb::aof::KeyRing;
use aidb::aof::archive::format::ObjectSummary;
use aidb::aof::archive::object::{ObjectReader, ObjectSpec, ObjectWriter};
use aidb::aof::archive::{ArchiveStorage, ObjectSource, PutOutcome};
use aidb::aof::read::ReadAt;
use aidb::env::StdEnv;
use aidb::{ErrorKind, Result};
use aidb_s3_tests::proxy::Action;
use aidb_s3_tests::target::{Target, noise};
use std::sync::Arc;

const PLAIN: &[u8] = b"plain text of a segment ";

fn keys() -> KeyRing {
    KeyRing::new(3, [(3, [9; 32])]).unwrap()
}

/// An image with text and with noise.
fn image(bytes: usize) -> Vec<u8> {
    let mut image = vec![0; 4096];
    while image.len() < bytes {
        image.extend_from_slice(&PLAIN.repeat(1_000));
        image.extend_from_slice(&noise(image.len() as u64, 50_000));
    }
    image.truncate(bytes);
    image
}

fn put(storage: &dyn ArchiveStorage, key: &str, image: &[u8], level: Option<i32>, keys: Option<&KeyRing>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let spec = ObjectSpec {
        log_id: [1; 16],
        segment_no: 4,
        epoch: 1,
        image_bytes: image.len() as u64,
        compression_level: level,
        keys,
    };
    let mut writer = ObjectWriter::create(&StdEnv, &dir.path().join("4.upload"), &spec).unwrap();
    writer.push(image).unwrap();
    let end_lsn = image.len() as u64 - 4096;
    let summary = ObjectSummary { base_lsn: 0, end_lsn, base_id: 1, next_id: 9, base_ts: 5, max_ts: 6, records: 8 };
    let file = writer.finish(summary).unwrap();
    assert_eq!(storage.put_new(key, &file).unwrap(), PutOutcome::Created);
    assert_eq!(storage.put_new(key, &file).unwrap(), PutOutcome::Exists);
    let bytes = file.bytes();
    assert_eq!(storage.head(key).unwrap(), Some(bytes));
    file.remove(&StdEnv).unwrap();
    bytes
}

fn read(reader: &ObjectReader, offset: usize, bytes: usize) -> Vec<u8> {
    let mut piece = vec![0; bytes];
    let mut done = 0;
    while done < bytes {
        let count = reader.read_at(&mut piece[done..], (offset + done) as u64).unwrap();
        assert!(count > 0, "the image ends early");
        done += count;
    }
    piece
}

#[test]
fn every_combination_comes_back() {
    let target = Target::start();
    // The small limit makes the large ones go in parts.
    let storage = Arc::new(target.storage_with(|config| config.part_bytes(5 << 20).multipart_bytes(5 << 20)));
    for (number, (level, ring)) in
        [(None, None), (Some(3), None), (None, Some(keys())), (Some(3), Some(keys()))].into_iter().enumerate()
    {
        for bytes in [4096, 70_000, 14 << 20] {
            let image = image(bytes);
            let key = format!("log/{number}-{bytes}.seg");
            let stored = put(&*storage, &key, &image, level, ring.as_ref());
            let reader = ObjectReader::open(storage.clone(), &key, stored, ring.as_ref()).unwrap();
            reader.expect(&[1; 16], 4).unwrap();
            reader.verify().unwrap();
            assert!(read(&reader, 0, bytes) == image, "{key}");
            for (offset, length) in [(0, 1), (bytes - 1, 1), (bytes / 3, bytes / 3), (4000, 96)] {
                assert!(read(&reader, offset, length) == image[offset..offset + length], "{key} at {offset}");
            }
            let object = storage.read(&key, 0..stored).unwrap();
            let shown = object.windows(PLAIN.len()).any(|window| window == PLAIN);
            assert!(!shown || ring.is_none(), "{key} shows what it holds");
        }
    }
    assert_eq!(target.proxy.count("POST", "?uploads"), 4);
}

#[test]
fn the_key_has_to_be_the_one() {
    let target = Target::start();
    let storage = Arc::new(target.storage());
    let stored = put(&*storage, "x.seg", &image(100_000), Some(3), Some(&keys()));
    let others = [None, Some(KeyRing::new(3, [(3, [8; 32])]).unwrap()), Some(KeyRing::new(4, [(4, [9; 32])]).unwrap())];
    for ring in others {
        let refused: Result<ObjectReader> = ObjectReader::open(storage.clone(), "x.seg", stored, ring.as_ref());
        assert_eq!(refused.unwrap_err().kind(), &ErrorKind::Key);
    }
}

#[test]
fn a_broken_network_changes_nothing() {
    let target = Target::start();
    let storage = Arc::new(target.storage());
    let image = image(3 << 20);
    target.proxy.plant("PUT", "x.seg", 2, Action::Answer(503, "SlowDown"));
    let stored = put(&*storage, "x.seg", &image, Some(1), Some(&keys()));
    let reader = ObjectReader::open(storage, "x.seg", stored, Some(&keys())).unwrap();
    for action in [Action::CutBody(1_000), Action::Drop, Action::Answer(500, "InternalError"), Action::DoThenDrop] {
        target.proxy.plant("GET", "x.seg", 2, action);
        assert!(read(&reader, 1, image.len() - 1) == image[1..], "{action:?}");
    }
    reader.verify().unwrap();
}

#[test]
fn a_changed_byte_in_the_bucket_is_found() {
    let target = Target::start();
    let Some(root) = &target.root else { return };
    let storage = Arc::new(target.storage());
    let stored = put(&*storage, "x.seg", &image(200_000), None, None);
    let path = root.path().join(&target.bucket).join(&target.prefix).join("x.seg");
    let good = std::fs::read(&path).unwrap();
    for at in [100, 5_000, good.len() / 2, good.len() - 10] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, bad).unwrap();
        let found = ObjectReader::open(storage.clone(), "x.seg", stored, None).and_then(|reader| reader.verify());
        let error = found.unwrap_err();
        assert!(error.is_corruption() && error.to_string().contains("x.seg"), "{at}: {error}");
    }
}
