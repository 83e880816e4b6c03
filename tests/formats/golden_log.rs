//! Golden files of the log's second format version: archived objects in every combination.

use super::fuzz::object::{OneObject, ring, written};
use super::{corpus, rewriting};
use aidb::aof::KeyRing;
use aidb::aof::archive::object::ObjectReader;
use aidb::aof::read::ReadAt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn v2(name: &str) -> PathBuf {
    corpus("formats/v2").join(name)
}

/// Compares `bytes` with the golden file `name`.
fn same(name: &str, bytes: &[u8]) {
    let golden = fs::read(v2(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = golden.iter().zip(bytes).position(|(golden, written)| golden != written);
    assert_eq!(differs, None, "{name} is written differently from this byte on");
    assert_eq!(golden.len(), bytes.len(), "{name} is written with another length");
}

/// Writes every golden file of this version.
pub(crate) fn write_all() {
    fs::create_dir_all(v2("")).unwrap();
    for (name, level, keyed) in OBJECTS {
        fs::write(v2(name), written(&object_image(), level, keyed.then(ring).as_ref())).unwrap();
    }
}

// --- archived objects ---------------------------------------------------------------------------------------------------

/// Name, zstd level, whether it is encrypted.
const OBJECTS: [(&str, Option<i32>, bool); 4] = [
    ("object_plain.seg", None, false),
    ("object_zstd.seg", Some(3), false),
    ("object_encrypted.seg", None, true),
    ("object_zstd_encrypted.seg", Some(3), true),
];

/// A little more than a block.
fn object_image() -> Vec<u8> {
    let mut image = vec![0; 4096];
    for number in 0..5000u32 {
        image.extend_from_slice(format!("record {number}; ").as_bytes());
    }
    image
}

#[test]
fn archived_objects() {
    if rewriting() {
        return;
    }
    let rotated = KeyRing::new(9, [(2, [2; 32]), (9, [9; 32])]).unwrap();
    for (name, level, keyed) in OBJECTS {
        // What zstd makes of the same bytes may change with its version; that it is read may not.
        if level.is_none() {
            same(name, &written(&object_image(), level, keyed.then(ring).as_ref()));
        }
        let bytes = fs::read(v2(name)).unwrap();
        let length = bytes.len() as u64;
        let reader = ObjectReader::open(Arc::new(OneObject(bytes)), name, length, Some(&rotated)).unwrap();
        reader.verify().unwrap();
        let mut image = vec![0; reader.bytes() as usize];
        assert_eq!(reader.read_at(&mut image, 0).unwrap(), image.len());
        assert!(image == object_image(), "{name}");
        assert_eq!((reader.summary().base_lsn, reader.summary().records), (8, 3));
        assert_eq!((reader.header().segment_no, reader.header().key_id), (1, if keyed { 2 } else { 0 }));
    }
}
