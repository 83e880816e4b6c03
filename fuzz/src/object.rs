//! Archived objects: what is written is read back; any bytes are an object that reads, or an error that names it.
//!
//! The first byte of an input says what the rest is. Flag 1 compresses, flag 2 encrypts. Flag 4: the rest is an object, and
//! its checksums are made good, so that the fuzzer gets past them; without it the rest is first taken as an object as it is,
//! then as an image to be archived, of which one byte of the object is changed.

use super::memory::MemoryEnv;
use aidb::aof::archive::format::{
    BLOCK_BYTES, INDEX_ENTRY_BYTES, OBJECT_BYTES_MIN, OBJECT_HEADER_BYTES, ObjectHeader, ObjectSummary, SUMMARY_BYTES,
    TRAILER_BYTES, Trailer, index_crc,
};
use aidb::aof::archive::object::{ObjectReader, ObjectSpec, ObjectWriter};
use aidb::aof::archive::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use aidb::aof::format::{HEADER_BYTES, TAG_BYTES};
use aidb::aof::read::ReadAt;
use aidb::aof::{AofError, KeyRing};
use aidb::base::checksum::crc32c;
use aidb::base::coding::{get_u32, get_u64, put_u32};
use aidb::{ErrorKind, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "log/1.seg";

/// One object in memory.
#[derive(Debug)]
pub struct OneObject(pub Vec<u8>);

impl ArchiveStorage for OneObject {
    fn put_new(&self, _: &str, _: &dyn ObjectSource) -> Result<PutOutcome> {
        Ok(PutOutcome::Exists)
    }
    fn head(&self, _: &str) -> Result<Option<u64>> {
        Ok(Some(self.0.len() as u64))
    }
    fn read(&self, _: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = bytes.and_then(|(start, end)| self.0.get(start..end));
        Ok(bytes.expect("a reader stays within its object").to_vec())
    }
    fn list(&self, _: &str) -> Result<Vec<ObjectInfo>> {
        Ok(Vec::new())
    }
    fn delete(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

/// Returns the keys of these targets.
pub fn ring() -> KeyRing {
    KeyRing::new(2, [(1, [1; 32]), (2, [2; 32])]).expect("a ring")
}

/// Reads `input` as an object, and archives it as an image.
pub fn object(input: &[u8]) {
    let Some((&flags, rest)) = input.split_first() else { return };
    parts(rest);
    if flags & 4 != 0 {
        let mut bytes = rest.to_vec();
        mend(&mut bytes);
        read(bytes);
        return;
    }
    read(rest.to_vec());
    let level = (flags & 1 != 0).then_some(3);
    let keys = (flags & 2 != 0).then(ring);
    let Some((place, rest)) = rest.split_first_chunk::<4>() else { return };
    let mut image = rest.to_vec();
    image.resize(HEADER_BYTES + rest.len(), 7);
    let object = written(&image, level, keys.as_ref());
    assert!(read(object.clone()).is_some_and(|read| read == image), "an object gives its image back");
    let at = get_u32(place, 0).unwrap_or(0) as usize % object.len();
    for bit in [1, 0x80] {
        let mut changed = object.clone();
        changed[at] ^= bit;
        assert!(read(changed).is_none(), "byte {at} of {} is changed unnoticed", object.len());
    }
}

/// Writes the object of `image`.
pub fn written(image: &[u8], compression_level: Option<i32>, keys: Option<&KeyRing>) -> Vec<u8> {
    let (env, path) = (MemoryEnv::default(), Path::new("/1.upload"));
    let image_bytes = image.len() as u64;
    let spec = ObjectSpec { log_id: [7; 16], segment_no: 1, epoch: 1, image_bytes, compression_level, keys };
    let mut writer = ObjectWriter::create(&env, path, &spec).expect("a disk without faults");
    writer.push(image).expect("a disk without faults");
    let summary = ObjectSummary {
        base_lsn: 8,
        end_lsn: 8 + image_bytes - HEADER_BYTES as u64,
        base_id: 1,
        next_id: 4,
        base_ts: 5,
        max_ts: 6,
        records: 3,
    };
    let file = writer.finish(summary).expect("a disk without faults");
    let mut bytes = vec![0; file.bytes() as usize];
    file.read_at(&mut bytes, 0).expect("a disk without faults");
    assert_eq!(bytes, env.get(path).expect("the file"));
    bytes
}

fn parts(bytes: &[u8]) {
    if let Ok(header) = ObjectHeader::decode(bytes) {
        assert_eq!(header.encode()[..], bytes[..OBJECT_HEADER_BYTES]);
        let last = header.blocks() - 1;
        assert_eq!(last * BLOCK_BYTES as u64 + header.block_bytes(last) as u64, header.image_bytes);
        assert_eq!(header.block_bytes(last + 1), 0);
    }
    if let Ok(summary) = ObjectSummary::decode(bytes, bytes.len() as u64) {
        assert_eq!(summary.encode()[..], bytes[..SUMMARY_BYTES]);
    }
    if let Ok(trailer) = Trailer::decode(bytes, &[3; 16], bytes.len() as u64) {
        assert_eq!(trailer.encode(&[3; 16])[..], bytes[..TRAILER_BYTES]);
    }
}

/// Reads the whole image in every way; none if the object is refused somewhere, by name.
fn read(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let length = bytes.len() as u64;
    let opened = ObjectReader::open(Arc::new(OneObject(bytes)), KEY, length, Some(&ring()));
    let reader = named(opened)?;
    assert!(reader.bytes() <= (length * BLOCK_BYTES as u64), "an image of blocks that are there");
    let mut image = Vec::new();
    let mut whole = true;
    for number in 0..reader.blocks() {
        match named(reader.block(number)) {
            Some(block) => image.extend_from_slice(&block),
            None => whole = false,
        }
    }
    let mut again = vec![0; image.len().min(1 << 20)];
    if whole {
        assert_eq!(image.len() as u64, reader.bytes());
        assert_eq!(named(reader.read_at(&mut again, 0)), Some(image.len().min(1 << 20)));
        assert_eq!(again, image[..again.len()]);
    }
    named(reader.verify())?;
    assert!(whole, "an object that verifies is read whole");
    Some(image)
}

fn named<T>(result: Result<T>) -> Option<T> {
    let error = match result {
        Ok(found) => return Some(found),
        Err(error) => error,
    };
    match (error.kind(), AofError::of(&error)) {
        (ErrorKind::Corruption { file, .. }, _) | (_, Some(AofError::EncryptionError { file, .. })) => {
            assert_eq!(file, Path::new(KEY));
        }
        _ => panic!("{error:?}"),
    }
    None
}

/// Gives good checksums to the parts of an object that lie where its fields say.
fn mend(bytes: &mut [u8]) -> Option<()> {
    if (bytes.len() as u64) < OBJECT_BYTES_MIN {
        return None;
    }
    let word = |value| {
        let mut out = Vec::new();
        put_u32(&mut out, value);
        out
    };
    let crc = crc32c(&[], &[&bytes[4..OBJECT_HEADER_BYTES]]);
    bytes[..4].copy_from_slice(&word(crc));
    let salt: [u8; 16] = bytes[48..].first_chunk().copied()?;
    let length = bytes.len();
    let end = length - TRAILER_BYTES;
    let index_at = usize::try_from(get_u64(bytes, end)?).ok().filter(|at| *at <= end)?;
    let index_end = index_at + (end - index_at).checked_sub(SUMMARY_BYTES + TAG_BYTES)?;
    let mut at = OBJECT_HEADER_BYTES;
    for (number, entry) in (index_at..index_end).step_by(INDEX_ENTRY_BYTES).enumerate() {
        let next = at + (get_u32(bytes, entry)? & !(1 << 31)) as usize;
        let crc = crc32c(&[number as u64], &[&salt, bytes.get(at..next)?]);
        bytes.get_mut(entry + 4..entry + 8)?.copy_from_slice(&word(crc));
        at = next;
    }
    let crc = index_crc(&salt, &bytes[index_at..end]);
    bytes[end + 16..end + 20].copy_from_slice(&word(crc));
    let crc = crc32c(&[], &[&salt, &bytes[end..end + 52]]);
    bytes[end + 52..end + 56].copy_from_slice(&word(crc));
    Some(())
}
