//! Archived objects against a store in memory: every combination of compression and encryption, and every damage.

use super::format::{BLOCK_BYTES, ObjectSummary};
use super::object::{ObjectFile, ObjectReader, ObjectSpec, ObjectWriter};
use super::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use crate::aof::AofError;
use crate::aof::crypt::KeyRing;
use crate::aof::format::HEADER_BYTES;
use crate::aof::read::ReadAt;
use crate::aof::test_env::TestEnv;
use crate::base::checksum::Crc64;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, Env, Mutex, StdEnv};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "p/00/1.seg";
const PATH: &str = "dir/1.upload";

/// Objects in memory, and the most that was read at once.
#[derive(Default)]
struct Memory(Mutex<StdEnv, BTreeMap<String, Vec<u8>>>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl ArchiveStorage for Memory {
    fn put_new(&self, key: &str, source: &dyn ObjectSource) -> Result<PutOutcome> {
        let mut bytes = vec![0; source.bytes() as usize];
        source.read_at(&mut bytes, 0)?;
        self.0.lock().insert(key.to_string(), bytes);
        Ok(PutOutcome::Created)
    }
    fn head(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.0.lock().get(key).map(|bytes| bytes.len() as u64))
    }
    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let objects = self.0.lock();
        let object = objects.get(key).ok_or_else(Error::closed)?;
        // As stores do: what there is of the range.
        let end = (range.end as usize).min(object.len());
        Ok(object[(range.start as usize).min(end)..end].to_vec())
    }
    fn list(&self, _: &str) -> Result<Vec<ObjectInfo>> {
        Ok(Vec::new())
    }
    fn delete(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

fn ring() -> KeyRing {
    KeyRing::new(5, [(5, [5; 32]), (4, [4; 32])]).unwrap()
}

/// Every combination of compression and encryption.
fn ways() -> [(Option<i32>, Option<KeyRing>); 4] {
    [(None, None), (Some(3), None), (None, Some(ring())), (Some(3), Some(ring()))]
}

/// Compressible and incompressible stretches.
fn image(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = |at: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if (at / 50_000).is_multiple_of(2) { b"the quick brown fox "[at % 20] } else { (state >> 56) as u8 }
    };
    (0..bytes).map(&mut next).collect()
}

fn written(env: &TestEnv, image: &[u8], level: Option<i32>, keys: Option<&KeyRing>) -> ObjectFile<TestEnv> {
    let spec = ObjectSpec {
        log_id: [7; 16],
        segment_no: 1,
        epoch: 2,
        image_bytes: image.len() as u64,
        compression_level: level,
        keys,
    };
    let mut writer = ObjectWriter::create(env, Path::new(PATH), &spec).unwrap();
    for part in image.chunks(10_007) {
        writer.push(part).unwrap();
    }
    let end_lsn = 800 + (image.len() - HEADER_BYTES) as u64;
    let summary = ObjectSummary { base_lsn: 800, end_lsn, base_id: 1, next_id: 9, base_ts: 5, max_ts: 6, records: 8 };
    writer.finish(summary).unwrap()
}

fn put(env: &TestEnv, image: &[u8], level: Option<i32>, keys: Option<&KeyRing>) -> (Arc<Memory>, Vec<u8>) {
    let file = written(env, image, level, keys);
    let storage = Arc::new(Memory::default());
    storage.put_new(KEY, &file).unwrap();
    let bytes = storage.read(KEY, 0..file.bytes()).unwrap();
    let mut crc = Crc64::new();
    crc.update(&bytes);
    assert_eq!((file.crc64(), file.bytes()), (crc.value(), bytes.len() as u64));
    file.remove(env).unwrap();
    assert_eq!(env.disk().list(Path::new("dir")).unwrap(), []);
    (storage, bytes)
}

fn open_bytes(bytes: Vec<u8>, keys: Option<&KeyRing>) -> Result<ObjectReader> {
    let (storage, length) = (Memory::default(), bytes.len() as u64);
    storage.0.lock().insert(KEY.to_string(), bytes);
    ObjectReader::open(Arc::new(storage), KEY, length, keys)
}

/// Reads everything, in ways that a reader might.
fn read_all(reader: &ObjectReader) -> Result<Vec<u8>> {
    let mut out = vec![0; reader.bytes() as usize];
    assert_eq!(reader.read_at(&mut out, 0)?, out.len());
    Ok(out)
}

/// Returns where `result` found damage in the object, or panics.
fn damage<T>(result: Result<T>) -> u64 {
    match result.map(drop).unwrap_err().kind() {
        ErrorKind::Corruption { file, offset } if file == Path::new(KEY) => *offset,
        kind => panic!("{kind:?}"),
    }
}

#[test]
fn images_come_back_from_every_combination() {
    let env = TestEnv::default();
    for bytes in [HEADER_BYTES, HEADER_BYTES + 8, BLOCK_BYTES, BLOCK_BYTES + 1, 40 * BLOCK_BYTES + 4321] {
        let image = image(bytes);
        for (level, keys) in ways() {
            let (_, object) = put(&env, &image, level, keys.as_ref());
            let mut crc = Crc64::new();
            crc.update(&object);
            let reader = open_bytes(object, keys.as_ref()).unwrap();
            assert_eq!(reader.verify().unwrap(), crc.value());
            assert!(read_all(&reader).unwrap() == image, "{bytes} {level:?}");
            for (number, block) in image.chunks(BLOCK_BYTES).enumerate() {
                assert!(reader.block(number as u64).unwrap() == block);
            }
            for (offset, wanted) in [(0, 1), (bytes - 1, 5), (bytes, 5), (bytes + 9, 1), (bytes / 2, 200_000)] {
                let mut buffer = vec![0; wanted];
                let count = reader.read_at(&mut buffer, offset as u64).unwrap();
                let expected = &image[offset.min(bytes)..(offset + wanted).min(bytes)];
                assert!(buffer[..count] == *expected, "{wanted} at {offset}");
            }
            assert_eq!((reader.summary().records, reader.header().segment_no), (8, 1));
        }
    }
}

#[test]
fn compression_saves_and_leaves_raw_what_it_cannot() {
    let env = TestEnv::default();
    let image = image(4 * 50_000);
    let plain = put(&env, &image, None, None).1.len();
    let packed = put(&env, &image, Some(3), None).1.len();
    assert!(packed < plain * 6 / 10, "{packed} of {plain}");
    assert_eq!(put(&env, &image, Some(3), Some(&ring())).1.len(), packed + 4 * 16);
    assert!(ObjectWriter::create(&env, Path::new(PATH), &ObjectSpec { compression_level: Some(3), ..spec() }).is_ok());
}

fn spec() -> ObjectSpec<'static> {
    ObjectSpec { log_id: [0; 16], segment_no: 1, epoch: 1, image_bytes: 4096, compression_level: None, keys: None }
}

#[test]
fn no_two_objects_share_a_key_and_none_shows_its_image() {
    let env = TestEnv::default();
    let image = image(BLOCK_BYTES);
    let (first, second) = (put(&env, &image, None, Some(&ring())).1, put(&env, &image, None, Some(&ring())).1);
    let same = first[128..BLOCK_BYTES].iter().zip(&second[128..]).filter(|(a, b)| a == b).count();
    assert!(same < 1000, "{same} bytes are the same");
    let fox = b"quick brown";
    assert!(!first.windows(fox.len()).any(|bytes| bytes == fox));
}

#[test]
fn any_flipped_byte_is_named() {
    let env = TestEnv::default();
    let image = image(BLOCK_BYTES + 5000);
    for (level, keys) in ways() {
        let (_, object) = put(&env, &image, level, keys.as_ref());
        let reader = open_bytes(object.clone(), keys.as_ref()).unwrap();
        let second = reader.blocks_at(1);
        let index = reader.blocks_at(2);
        let last = object.len() as u64 - 64;
        // Every byte of what is small, and some of each block.
        let near = |at: u64| at.saturating_sub(20)..at + 20;
        let sampled = (128..index).step_by(997).chain(near(second)).chain(index - 20..object.len() as u64);
        for at in (0..148).chain(sampled) {
            let mut damaged = object.clone();
            damaged[at as usize] ^= 0x10;
            let found = open_bytes(damaged, keys.as_ref()).and_then(|reader| reader.verify());
            let part = [last, index, second, 128, 0].into_iter().find(|start| at >= *start).unwrap();
            if part == 0 && matches!(AofError::of(found.as_ref().unwrap_err()), Some(AofError::EncryptionError { .. }))
            {
                panic!("a damaged header is not a wrong key");
            }
            assert_eq!(damage(found), part, "byte {at}");
        }
    }
}

#[test]
fn cut_grown_and_foreign_objects_are_named() {
    let env = TestEnv::default();
    let image = image(BLOCK_BYTES + 5000);
    for (level, keys) in ways() {
        let (storage, object) = put(&env, &image, level, keys.as_ref());
        let other = put(&env, &image, level, keys.as_ref()).1;
        for length in (0..400).chain((400..object.len()).step_by(1009)).chain(object.len() - 100..object.len()) {
            damage(open_bytes(object[..length].to_vec(), keys.as_ref()));
        }
        damage(open_bytes([&object[..], &[0; 8]].concat(), keys.as_ref()));
        // The head of one and the end of the other.
        let middle = object.len() - 300;
        damage(open_bytes([&object[..middle], &other[middle..]].concat(), keys.as_ref()));
        let mut block = object.clone();
        block[128..328].copy_from_slice(&other[400..600]);
        assert_eq!(damage(open_bytes(block, keys.as_ref()).and_then(|reader| reader.verify())), 128);
        damage(open_bytes(image.clone(), keys.as_ref()));
        damage(open_bytes(vec![0; 1 << 20], keys.as_ref()));
        // A store that answers with less than was asked for.
        let short = ObjectReader::open(storage, KEY, object.len() as u64 + 1000, keys.as_ref()).unwrap_err();
        assert_eq!(short.kind(), &ErrorKind::Remote);
        let reader = open_bytes(object, keys.as_ref()).unwrap();
        reader.expect(&[7; 16], 1).unwrap();
        assert_eq!((damage(reader.expect(&[7; 16], 2)), damage(reader.expect(&[8; 16], 1))), (0, 0));
    }
}

#[test]
fn missing_and_wrong_keys_are_told_from_damage() {
    let env = TestEnv::default();
    let (_, object) = put(&env, &image(9000), Some(3), Some(&ring()));
    let wrong = KeyRing::new(5, [(5, [6; 32])]).unwrap();
    let without = KeyRing::new(4, [(4, [4; 32])]).unwrap();
    let rotated = KeyRing::new(6, [(5, [5; 32]), (6, [6; 32])]).unwrap();
    for (keys, expected) in [
        (None, "no keys were given"),
        (Some(&wrong), "not the key this file was written with"),
        (Some(&without), "not in the key ring"),
    ] {
        let error = open_bytes(object.clone(), keys).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Key);
        assert!(error.to_string().contains(expected) && error.to_string().contains(KEY), "{error}");
    }
    open_bytes(object, Some(&rotated)).unwrap().verify().unwrap();
}

#[test]
fn an_object_that_was_made_up_fails_its_seal_or_its_tags() {
    let env = TestEnv::default();
    let image = image(BLOCK_BYTES + 5000);
    let (_, object) = put(&env, &image, None, Some(&ring()));
    let reader = open_bytes(object.clone(), Some(&ring())).unwrap();
    // Whoever changes a block and mends every checksum still has no tag.
    let mended = |change: &dyn Fn(&mut ObjectSummary, &mut Vec<u8>)| {
        use super::format::{Trailer, index_crc, put_entry};
        let (second, index_at) = (reader.blocks_at(1), reader.blocks_at(2));
        let mut summary = *reader.summary();
        let mut blocks = object[..index_at as usize].to_vec();
        change(&mut summary, &mut blocks);
        let mut index = Vec::new();
        for (number, range) in [128..second as usize, second as usize..index_at as usize].into_iter().enumerate() {
            let stored = &blocks[range];
            put_entry(&mut index, stored.len() as u32, true, reader.header().block_crc(number as u64, stored));
        }
        let index_bytes = index.len() as u32;
        index.extend_from_slice(&summary.encode());
        index.extend_from_slice(&object[index_at as usize + index.len()..object.len() - 64]);
        let salt = reader.header().salt;
        let mut stored = Crc64::new();
        stored.update(&blocks);
        stored.update(&index);
        let trailer = Trailer {
            index_offset: index_at,
            index_bytes,
            index_crc: index_crc(&salt, &index),
            image_crc64: reader.image_crc64(),
            stored_crc64: stored.value(),
        };
        let bytes = [&blocks[..], &index, &trailer.encode(&salt)].concat();
        open_bytes(bytes, Some(&ring())).and_then(|reader| reader.verify())
    };
    mended(&|_, _| ()).unwrap();
    let seal_at = object.len() as u64 - 80;
    assert_eq!(damage(mended(&|summary, _| summary.records += 1)), seal_at);
    assert_eq!(damage(mended(&|_, blocks| blocks[200] ^= 1)), seal_at, "the seal covers the checksums");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_change_gives_the_image_or_a_named_error(way in 0..4usize, bytes in 4096..200_000usize, changes: Vec<(usize, u8)>, cut: Option<usize>) {
        let (level, keys) = ways()[way].clone();
        let env = TestEnv::default();
        let image = image(bytes);
        let (_, mut object) = put(&env, &image, level, keys.as_ref());
        for (at, value) in changes {
            let at = at % object.len();
            object[at] = value;
        }
        if let Some(cut) = cut {
            object.truncate(cut % object.len());
        }
        match open_bytes(object, keys.as_ref()) {
            Err(error) => prop_assert!(error.is_corruption(), "{error}"),
            Ok(reader) => for number in 0..reader.blocks() {
                let start = number as usize * BLOCK_BYTES;
                match reader.block(number) {
                    Ok(block) => prop_assert!(block == image[start..(start + BLOCK_BYTES).min(bytes)]),
                    Err(error) => prop_assert!(error.is_corruption(), "{error}"),
                }
            }
        }
    }
}
