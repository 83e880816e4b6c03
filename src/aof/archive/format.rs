//! The bytes of an archived object: one sealed segment, compressed and encrypted in blocks that can be read alone. Pure
//! functions over slices, little-endian.
//!
//! Encoders are called by [`object`](super::object)'s writer; decoders by its reader and fuzz targets, on any input: they
//! never panic, and allocate no more than a small multiple of what they are given.
//!
//! What is archived is the **image** of a segment: its header, frames and footer as in the file, up to the end of the last
//! frame; of an encrypted segment the decrypted image (see [`aof::format`](crate::aof::format)), in which every frame lies
//! where it lay in the file.
//!
//! # An object
//!
//! | offset | what |
//! |---|---|
//! | 0 | header, 128 bytes |
//! | 128 | blocks, back to back: each 65536 bytes of the image, the last one what is left |
//! | index offset | index: 8 bytes a block |
//! | then | summary, 56 bytes |
//! | then | seal, 16 bytes |
//! | end - 64 | trailer, 64 bytes |
//!
//! A block is compressed, or left raw if that is not smaller; then encrypted, and followed by its tag of 16 bytes. The number
//! of a block is its nonce, and the header its associated data. The seal is the tag of an empty message of number 2^64 - 1,
//! whose associated data are header, index, summary and the trailer's checksum of the image: it makes lengths, raw flags
//! and summary as trustworthy as the blocks. Without a key there are no tags and the seal is 0.
//!
//! # Header
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of bytes 4..128 |
//! | 4 | 7 | magic `AiDbObj` |
//! | 11 | 1 | version, 1 |
//! | 12 | 1 | codec: 0 = all blocks raw, 1 = zstd |
//! | 13 | 3 | 0 |
//! | 16 | 16 | log id |
//! | 32 | 8 | segment number |
//! | 40 | 8 | epoch of the segment |
//! | 48 | 16 | salt: random, for this object |
//! | 64 | 4 | key id, 0 = not encrypted |
//! | 68 | 4 | block bytes, 65536 |
//! | 72 | 8 | image bytes |
//! | 80 | 8 | key check, 0 if not encrypted |
//! | 88 | 40 | 0 |
//!
//! # Index entry, one a block
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | stored bytes, tag included; the highest bit says that the block is raw |
//! | 4 | 4 | CRC-32C of the block's number (8 bytes), the object's salt, and the block as stored |
//!
//! # Summary
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | base LSN |
//! | 8 | 8 | end LSN: base LSN of the segment after |
//! | 16 | 8 | base id |
//! | 24 | 8 | next id: base id of the segment after |
//! | 32 | 8 | base time, microseconds since 1970 |
//! | 40 | 8 | time of the last frame |
//! | 48 | 8 | records |
//!
//! # Trailer
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | index offset |
//! | 8 | 4 | index bytes |
//! | 12 | 4 | summary bytes, 56 |
//! | 16 | 4 | CRC-32C of the object's salt, index, summary and seal |
//! | 20 | 4 | 0 |
//! | 24 | 8 | CRC-64/NVME of the image |
//! | 32 | 8 | CRC-64/NVME of everything before the trailer |
//! | 40 | 8 | bytes of the object |
//! | 48 | 4 | 0 |
//! | 52 | 4 | CRC-32C of the object's salt and bytes 0..52 |
//! | 56 | 8 | magic `AiDbObjE` |
//!
//! **Validity.** There is no torn object: stores put objects whole, and an upload is read back before it counts. Anything
//! that fails is damage, or another object. A reader takes the header and the end, checks these, and then any block alone.
//!
//! **Evolution.** Zeros, codecs and versions are given meaning only by a new version, which older programs refuse.
//!
//! **Worked example.** The header of segment 7 of a log whose id is sixteen bytes 1, epoch 2, salt sixteen bytes 3, zstd, not
//! encrypted, of an image of 5000 bytes; then an index of one raw block of 5000 bytes with checksum 0x04030201:
//! `4201acf0 416944624f626a 01 01 000000 01010101010101010101010101010101 0700000000000000 0200000000000000 03030303030303030303030303030303 00000000 00000100 8813000000000000 0000000000000000 00000000000000000000000000000000000000000000000000000000000000000000000000000000 88130080 01020304`.

use crate::aof::crypt::{KeyScope, Purpose};
use crate::aof::format::{HEADER_BYTES, KEY_CHECK_BYTES, TAG_BYTES};
use crate::base::checksum::{Flip, crc32c, locate_crc32c};
use crate::base::coding::{get_u32, get_u64};
use std::fmt;

/// Bytes of an object's header.
pub const OBJECT_HEADER_BYTES: usize = 128;
/// Bytes of an image in a block.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of a block's entry in the index.
pub const INDEX_ENTRY_BYTES: usize = 8;
/// Bytes of the summary.
pub const SUMMARY_BYTES: usize = 56;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 64;
/// The least an object takes: without blocks.
pub const OBJECT_BYTES_MIN: u64 = (OBJECT_HEADER_BYTES + SUMMARY_BYTES + TAG_BYTES + TRAILER_BYTES) as u64;
/// The message number of the seal.
pub const SEAL_NUMBER: u64 = u64::MAX;

const VERSION: u8 = 1;
const MAGIC: [u8; 7] = *b"AiDbObj";
const END_MAGIC: [u8; 8] = *b"AiDbObjE";
const RAW: u32 = 1 << 31;

const _: () = assert!(4 + MAGIC.len() + 1 + 1 + 3 + 16 + 8 + 8 + 16 + 4 + 4 + 8 + KEY_CHECK_BYTES == 88);
const _: () = assert!(88 + 40 == OBJECT_HEADER_BYTES && 4 + 4 == INDEX_ENTRY_BYTES && 7 * 8 == SUMMARY_BYTES);
const _: () = assert!(8 + 4 + 4 + 4 + 4 + 8 + 8 + 8 + 4 + 4 + END_MAGIC.len() == TRAILER_BYTES);
const _: () = assert!(((BLOCK_BYTES + TAG_BYTES) as u64) < RAW as u64);

/// Why bytes are not a part of an archived object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fewer bytes than it takes.
    Short,
    /// The checksum fails.
    Checksum,
    /// The magic is another one.
    Magic,
    /// The checksum is good and the version is not known here.
    Version(u8),
    /// The checksum is good and a reserved field or codec is in use.
    Reserved,
    /// The checksum is good and fields contradict each other or the object's length.
    Contradiction,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Short => "ends early",
            Fault::Checksum => "fails its checksum",
            Fault::Magic => "is not of an archived segment",
            Fault::Version(version) => return write!(f, "has version {version}, newer than this program"),
            Fault::Reserved => "uses a feature newer than this program",
            Fault::Contradiction => "contradicts itself or the object's length",
        })
    }
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    Raw = 0,
    /// Zstandard, each block a frame of its own.
    Zstd = 1,
}

/// The decoded header of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeader {
    /// How blocks are compressed.
    pub codec: Codec,
    /// The log's identity.
    pub log_id: [u8; 16],
    /// The segment's number.
    pub segment_no: u64,
    /// The segment's epoch.
    pub epoch: u64,
    /// Random bytes of this object.
    pub salt: [u8; 16],
    /// The master key that the object's key is derived from, 0 = not encrypted.
    pub key_id: u32,
    /// Bytes of the segment's image.
    pub image_bytes: u64,
    /// What tells a wrong master key from the right one; 0 if there is none.
    pub key_check: [u8; KEY_CHECK_BYTES],
}

impl ObjectHeader {
    /// Returns the header's bytes.
    pub fn encode(&self) -> [u8; OBJECT_HEADER_BYTES] {
        let mut out = [0; OBJECT_HEADER_BYTES];
        out[4..11].copy_from_slice(&MAGIC);
        out[11] = VERSION;
        out[12] = self.codec as u8;
        out[16..32].copy_from_slice(&self.log_id);
        out[32..40].copy_from_slice(&self.segment_no.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        out[48..64].copy_from_slice(&self.salt);
        out[64..68].copy_from_slice(&self.key_id.to_le_bytes());
        out[68..72].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        out[72..80].copy_from_slice(&self.image_bytes.to_le_bytes());
        out[80..88].copy_from_slice(&self.key_check);
        let crc = crc32c(&[], &[&out[4..]]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// The [`Fault`]; `bytes` may hold anything.
    pub fn decode(bytes: &[u8]) -> Result<ObjectHeader, Fault> {
        let header: &[u8; OBJECT_HEADER_BYTES] = bytes.first_chunk().ok_or(Fault::Short)?;
        if header[4..11] != MAGIC {
            return Err(Fault::Magic);
        }
        if get_u32(header, 0) != Some(crc32c(&[], &[&header[4..]])) {
            return Err(Fault::Checksum);
        }
        if header[11] != VERSION {
            return Err(Fault::Version(header[11]));
        }
        let codec = match header[12] {
            0 => Codec::Raw,
            1 => Codec::Zstd,
            _ => return Err(Fault::Reserved),
        };
        if header[13..16].iter().chain(&header[88..]).any(|byte| *byte != 0) {
            return Err(Fault::Reserved);
        }
        let number = |at| get_u64(header, at).ok_or(Fault::Short);
        let decoded = ObjectHeader {
            codec,
            log_id: header[16..].first_chunk().copied().ok_or(Fault::Short)?,
            segment_no: number(32)?,
            epoch: number(40)?,
            salt: header[48..].first_chunk().copied().ok_or(Fault::Short)?,
            key_id: get_u32(header, 64).ok_or(Fault::Short)?,
            image_bytes: number(72)?,
            key_check: header[80..].first_chunk().copied().ok_or(Fault::Short)?,
        };
        let check_without_key = decoded.key_id == 0 && decoded.key_check != [0; KEY_CHECK_BYTES];
        // An image has at least its header, and is no longer than positions go.
        let in_range = (HEADER_BYTES as u64..=u64::MAX / 2).contains(&decoded.image_bytes);
        if get_u32(header, 68) != Some(BLOCK_BYTES as u32) || check_without_key || !in_range {
            return Err(Fault::Contradiction);
        }
        Ok(decoded)
    }

    /// Finds the one byte in the header at the start of `bytes` whose change explains that it fails its checksum; returns where it is and
    /// the header without the change.
    pub fn repair(bytes: &[u8]) -> Option<(usize, ObjectHeader)> {
        let header: &[u8; OBJECT_HEADER_BYTES] = bytes.first_chunk()?;
        let (stored, found) = (get_u32(header, 0)?, crc32c(&[], &[&header[4..]]));
        let fields = flips(stored, found, OBJECT_HEADER_BYTES - 4, 0, 4);
        repaired(header, flips_of_checksum(stored, found, 0).into_iter().chain(fields), ObjectHeader::decode)
    }

    /// Returns the bytes of the stored block `number` whose change explains that its checksum is not `crc`.
    pub fn locate_in_block(&self, number: u64, stored: &[u8], crc: u32) -> Vec<usize> {
        let before = size_of_val(&number) + self.salt.len();
        let found = self.block_crc(number, stored);
        flips(crc, found, before + stored.len(), before, 0).map(|flip| flip.at).collect()
    }

    /// Returns how many blocks the image has.
    pub fn blocks(&self) -> u64 {
        self.image_bytes.div_ceil(BLOCK_BYTES as u64)
    }

    /// Returns how many bytes of the image block `number` holds; 0 past the last.
    pub fn block_bytes(&self, number: u64) -> usize {
        let start = number.saturating_mul(BLOCK_BYTES as u64);
        self.image_bytes.saturating_sub(start).min(BLOCK_BYTES as u64) as usize
    }

    /// Returns what the key of the object is derived from.
    pub fn key_scope(&self) -> KeyScope {
        KeyScope {
            purpose: Purpose::Object,
            key_id: self.key_id,
            log_id: self.log_id,
            segment_no: self.segment_no,
            epoch: self.epoch,
            salt: self.salt,
        }
    }

    /// Returns the checksum of block `number` as stored.
    pub fn block_crc(&self, number: u64, stored: &[u8]) -> u32 {
        crc32c(&[number], &[&self.salt, stored])
    }
}

/// Where a block lies and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Offset in the object.
    pub offset: u64,
    /// Bytes in the object, tag included.
    pub stored_bytes: u32,
    /// Whether it is not compressed.
    pub raw: bool,
    /// Checksum of the block as stored.
    pub crc: u32,
}

/// Appends the entry of the next block to an index.
pub fn put_entry(index: &mut Vec<u8>, stored_bytes: u32, raw: bool, crc: u32) {
    assert!(stored_bytes != 0 && stored_bytes as usize <= BLOCK_BYTES + TAG_BYTES, "a block is never longer than raw");
    let word = stored_bytes | if raw { RAW } else { 0 };
    index.extend_from_slice(&word.to_le_bytes());
    index.extend_from_slice(&crc.to_le_bytes());
}

/// Reads an index whose object has `header` and an index at `index_offset`.
///
/// # Errors
/// [`Fault::Contradiction`] if the blocks do not fill exactly what lies between header and index, or one cannot hold its
/// part of the image.
pub fn decode_index(index: &[u8], header: &ObjectHeader, index_offset: u64) -> Result<Vec<Block>, Fault> {
    if index.len() as u64 != header.blocks().saturating_mul(INDEX_ENTRY_BYTES as u64) {
        return Err(Fault::Contradiction);
    }
    let tag_bytes = if header.key_id == 0 { 0 } else { TAG_BYTES };
    let mut offset = OBJECT_HEADER_BYTES as u64;
    let mut blocks = Vec::with_capacity(index.len() / INDEX_ENTRY_BYTES);
    for (number, entry) in index.chunks_exact(INDEX_ENTRY_BYTES).enumerate() {
        let word = get_u32(entry, 0).ok_or(Fault::Short)?;
        let (stored_bytes, raw) = (word & !RAW, word & RAW != 0);
        let image_bytes = header.block_bytes(number as u64);
        let content = (stored_bytes as usize).checked_sub(tag_bytes).ok_or(Fault::Contradiction)?;
        let fits = if raw { content == image_bytes } else { 0 < content && content < image_bytes };
        if !fits || (!raw && header.codec == Codec::Raw) {
            return Err(Fault::Contradiction);
        }
        blocks.push(Block { offset, stored_bytes, raw, crc: get_u32(entry, 4).ok_or(Fault::Short)? });
        offset += u64::from(stored_bytes);
    }
    if offset == index_offset { Ok(blocks) } else { Err(Fault::Contradiction) }
}

/// What the segment in an object holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectSummary {
    /// LSN of the first frame.
    pub base_lsn: u64,
    /// Where the segment after begins.
    pub end_lsn: u64,
    /// The first record number expected.
    pub base_id: u64,
    /// The record number after the last.
    pub next_id: u64,
    /// No later than the first frame's time, microseconds since 1970.
    pub base_ts: u64,
    /// Time of the last frame.
    pub max_ts: u64,
    /// How many records there are.
    pub records: u64,
}

impl ObjectSummary {
    /// Returns the summary's bytes.
    pub fn encode(&self) -> [u8; SUMMARY_BYTES] {
        let numbers =
            [self.base_lsn, self.end_lsn, self.base_id, self.next_id, self.base_ts, self.max_ts, self.records];
        let mut out = [0; SUMMARY_BYTES];
        for (field, number) in out.chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// Reads a summary of an image of `image_bytes` from the start of `bytes`.
    ///
    /// # Errors
    /// The [`Fault`]; `bytes` may hold anything.
    pub fn decode(bytes: &[u8], image_bytes: u64) -> Result<ObjectSummary, Fault> {
        let number = |at: usize| get_u64(bytes, 8 * at).ok_or(Fault::Short);
        let summary = ObjectSummary {
            base_lsn: number(0)?,
            end_lsn: number(1)?,
            base_id: number(2)?,
            next_id: number(3)?,
            base_ts: number(4)?,
            max_ts: number(5)?,
            records: number(6)?,
        };
        let frames = image_bytes.checked_sub(HEADER_BYTES as u64).ok_or(Fault::Contradiction)?;
        if summary.end_lsn.checked_sub(summary.base_lsn) != Some(frames) || summary.max_ts < summary.base_ts {
            return Err(Fault::Contradiction);
        }
        Ok(summary)
    }
}

/// The decoded trailer of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Bytes of the index.
    pub index_bytes: u32,
    /// Checksum of salt, index, summary and seal.
    pub index_crc: u32,
    /// CRC-64/NVME of the image.
    pub image_crc64: u64,
    /// CRC-64/NVME of everything before the trailer.
    pub stored_crc64: u64,
}

impl Trailer {
    /// Returns the bytes of the object that ends with this trailer.
    pub fn object_bytes(&self) -> u64 {
        let end = (SUMMARY_BYTES + TAG_BYTES + TRAILER_BYTES) as u64;
        self.index_offset.saturating_add(u64::from(self.index_bytes)).saturating_add(end)
    }

    /// Returns the trailer's bytes for an object of `salt`.
    pub fn encode(&self, salt: &[u8; 16]) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        out[..8].copy_from_slice(&self.index_offset.to_le_bytes());
        out[8..12].copy_from_slice(&self.index_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&(SUMMARY_BYTES as u32).to_le_bytes());
        out[16..20].copy_from_slice(&self.index_crc.to_le_bytes());
        out[24..32].copy_from_slice(&self.image_crc64.to_le_bytes());
        out[32..40].copy_from_slice(&self.stored_crc64.to_le_bytes());
        out[40..48].copy_from_slice(&self.object_bytes().to_le_bytes());
        let crc = crc32c(&[], &[salt, &out[..52]]);
        out[52..56].copy_from_slice(&crc.to_le_bytes());
        out[56..].copy_from_slice(&END_MAGIC);
        out
    }

    /// Reads the trailer of an object of `object_bytes` and `salt` from the start of `bytes`.
    ///
    /// # Errors
    /// The [`Fault`]; `bytes` may hold anything.
    pub fn decode(bytes: &[u8], salt: &[u8; 16], object_bytes: u64) -> Result<Trailer, Fault> {
        let trailer: &[u8; TRAILER_BYTES] = bytes.first_chunk().ok_or(Fault::Short)?;
        if trailer[56..] != END_MAGIC {
            return Err(Fault::Magic);
        }
        if get_u32(trailer, 52) != Some(crc32c(&[], &[salt, &trailer[..52]])) {
            return Err(Fault::Checksum);
        }
        if trailer[20..24].iter().chain(&trailer[48..52]).any(|byte| *byte != 0) {
            return Err(Fault::Reserved);
        }
        let decoded = Trailer {
            index_offset: get_u64(trailer, 0).ok_or(Fault::Short)?,
            index_bytes: get_u32(trailer, 8).ok_or(Fault::Short)?,
            index_crc: get_u32(trailer, 16).ok_or(Fault::Short)?,
            image_crc64: get_u64(trailer, 24).ok_or(Fault::Short)?,
            stored_crc64: get_u64(trailer, 32).ok_or(Fault::Short)?,
        };
        let lengths_agree = get_u32(trailer, 12) == Some(SUMMARY_BYTES as u32)
            && get_u64(trailer, 40) == Some(object_bytes)
            && decoded.object_bytes() == object_bytes
            && decoded.index_offset >= OBJECT_HEADER_BYTES as u64;
        if lengths_agree { Ok(decoded) } else { Err(Fault::Contradiction) }
    }

    /// Finds the one byte in the trailer at the start of `bytes` whose change explains that it cannot be read; returns where it
    /// is and the trailer without the change.
    pub fn repair(bytes: &[u8], salt: &[u8; 16], object_bytes: u64) -> Option<(usize, Trailer)> {
        let trailer: &[u8; TRAILER_BYTES] = bytes.first_chunk()?;
        let (stored, found) = (get_u32(trailer, 52)?, crc32c(&[], &[salt, &trailer[..52]]));
        let magic = trailer[56..].iter().zip(END_MAGIC).enumerate().map(|(at, (byte, good))| (56 + at, byte ^ good));
        let magic = magic.filter(|(_, mask)| *mask != 0).map(|(at, mask)| Flip { at, mask });
        let fields = flips(stored, found, salt.len() + 52, salt.len(), 0);
        let flips = magic.chain(flips_of_checksum(stored, found, 52)).chain(fields);
        repaired(trailer, flips, |bytes| Trailer::decode(bytes, salt, object_bytes))
    }
}

/// Returns the changes of one byte of the checksum at `at` that explain that it is `stored` where `found` was expected.
fn flips_of_checksum(stored: u32, found: u32, at: usize) -> Option<Flip> {
    let changed = (stored ^ found).to_le_bytes();
    let mut bytes = changed.iter().enumerate().filter(|(_, mask)| **mask != 0);
    let (byte, mask) = bytes.next().filter(|_| bytes.next().is_none())?;
    Some(Flip { at: at + byte, mask: *mask })
}

/// Returns the changes of one of `len` bytes which explain that their checksum is `found` where `stored` was expected, of
/// those behind the first `before`; offsets are counted from `from` there.
fn flips(stored: u32, found: u32, len: usize, before: usize, from: usize) -> impl Iterator<Item = Flip> {
    let flips = locate_crc32c(stored, found, len).into_iter();
    flips.filter_map(move |flip| Some(Flip { at: flip.at.checked_sub(before)? + from, ..flip }))
}

/// Undoes each of `flips` in `part`; returns the only one after which it can be decoded.
fn repaired<T, const N: usize>(
    part: &[u8; N],
    flips: impl Iterator<Item = Flip>,
    decode: impl Fn(&[u8]) -> Result<T, Fault>,
) -> Option<(usize, T)> {
    let mut good = flips.filter_map(|flip| {
        let mut part = *part;
        *part.get_mut(flip.at)? ^= flip.mask;
        Some((flip.at, decode(&part).ok()?))
    });
    good.next().filter(|_| good.next().is_none())
}

/// Finds the one byte of `bytes`, index, summary and seal, whose change explains that their checksum is not `crc`; returns where it
/// is and the bytes without the change.
pub fn repair_index(salt: &[u8; 16], bytes: &[u8], crc: u32) -> Option<(usize, Vec<u8>)> {
    let mut flips = flips(crc, index_crc(salt, bytes), salt.len() + bytes.len(), salt.len(), 0);
    let flip = flips.next().filter(|_| flips.next().is_none())?;
    let mut bytes = bytes.to_vec();
    bytes[flip.at] ^= flip.mask;
    Some((flip.at, bytes))
}

/// Returns the checksum of index, summary and seal, which lie back to back in `bytes`.
pub fn index_crc(salt: &[u8; 16], bytes: &[u8]) -> u32 {
    crc32c(&[], &[salt, bytes])
}

/// Returns what the seal covers: header, index and summary as stored, and the checksum of the image.
pub fn sealed_data(header: &[u8; OBJECT_HEADER_BYTES], index_and_summary: &[u8], image_crc64: u64) -> Vec<u8> {
    [&header[..], index_and_summary, &image_crc64.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> ObjectHeader {
        ObjectHeader {
            codec: Codec::Zstd,
            log_id: [1; 16],
            segment_no: 7,
            epoch: 2,
            salt: [3; 16],
            image_bytes: 5000,
            ..ObjectHeader::default()
        }
    }

    #[test]
    fn worked_example_is_in_the_documentation() {
        let mut bytes = example().encode().to_vec();
        let mut index = Vec::new();
        put_entry(&mut index, 5000, true, 0x0403_0201);
        bytes.extend_from_slice(&index);
        let source = include_str!("format.rs");
        let shown = source.lines().find_map(|line| line.strip_prefix("//! `")).unwrap_or_default();
        let shown: String = shown.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(shown, bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let block = Block { offset: 128, stored_bytes: 5000, raw: true, crc: 0x0403_0201 };
        assert_eq!(decode_index(&index, &example(), 128 + 5000), Ok(vec![block]));
    }

    #[test]
    fn indexes_that_lie_are_refused() {
        let header = ObjectHeader { image_bytes: BLOCK_BYTES as u64 + 5000, ..example() };
        let index = |entries: &[(u32, bool)]| {
            let mut index = Vec::new();
            entries.iter().for_each(|(bytes, raw)| put_entry(&mut index, *bytes, *raw, 0));
            index
        };
        let decode = |entries: &[(u32, bool)], header: &ObjectHeader| {
            let sum = entries.iter().map(|(bytes, _)| u64::from(*bytes)).sum::<u64>();
            decode_index(&index(entries), header, 128 + sum).map(|blocks| blocks.len())
        };
        let full = BLOCK_BYTES as u32;
        assert_eq!(decode(&[(full, true), (5000, true)], &header), Ok(2));
        assert_eq!(decode(&[(1, false), (4999, false)], &header), Ok(2));
        for wrong in [
            &[(full, true)][..],
            &[(full, true), (4999, true)],
            &[(full, true), (5001, true)],
            &[(full, false), (5000, true)],
            &[(full, true), (5000, true), (1, false)],
        ] {
            assert_eq!(decode(wrong, &header), Err(Fault::Contradiction), "{wrong:?}");
        }
        let raw = ObjectHeader { codec: Codec::Raw, ..header };
        assert_eq!(decode(&[(full, true), (100, false)], &raw), Err(Fault::Contradiction));
        let keyed = ObjectHeader { key_id: 1, ..header };
        assert_eq!(decode(&[(full + 16, true), (17, false)], &keyed), Ok(2));
        assert_eq!(decode(&[(full + 16, true), (16, false)], &keyed), Err(Fault::Contradiction));
        assert_eq!(decode(&[(full, true), (15, false)], &keyed), Err(Fault::Contradiction));
        let huge = ObjectHeader { image_bytes: u64::MAX / 2, ..header };
        assert_eq!(decode(&[(full, true)], &huge), Err(Fault::Contradiction), "no allocation for a lying length");
    }

    #[test]
    fn reserved_fields_are_refused_by_name() {
        let reseal = |at: usize, value: u8| {
            let mut bytes = example().encode();
            bytes[at] = value;
            let crc = crc32c(&[], &[&bytes[4..]]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            ObjectHeader::decode(&bytes)
        };
        assert_eq!(reseal(11, 2), Err(Fault::Version(2)));
        assert_eq!(reseal(12, 2), Err(Fault::Reserved));
        assert_eq!((reseal(13, 1), reseal(127, 1)), (Err(Fault::Reserved), Err(Fault::Reserved)));
        assert_eq!((reseal(68, 1), reseal(80, 1)), (Err(Fault::Contradiction), Err(Fault::Contradiction)));
        assert_eq!((reseal(73, 0), reseal(79, 255)), (Err(Fault::Contradiction), Err(Fault::Contradiction)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>, salt: [u8; 16], length: u64, keyed: bool) {
            let _ = ObjectHeader::decode(&bytes);
            let _ = ObjectSummary::decode(&bytes, length);
            let _ = Trailer::decode(&bytes, &salt, length);
            let header = ObjectHeader { image_bytes: bytes.len() as u64 / 8 * BLOCK_BYTES as u64, key_id: keyed.into(), ..example() };
            let _ = decode_index(&bytes, &header, length);
        }

        #[test]
        fn parts_round_trip_and_one_flipped_bit_is_noticed(
            log_id: [u8; 16], salt: [u8; 16], numbers: [u64; 3], key in (1u32.., any::<[u8; 8]>()), zstd: bool,
            image_bytes in 4096..u64::MAX / 2, records: u64, index_offset in 128..u64::MAX / 2, words: (u32, u32), bit: usize,
        ) {
            let codec = if zstd { Codec::Zstd } else { Codec::Raw };
            let [segment_no, epoch, crc] = numbers;
            let header = ObjectHeader { codec, log_id, segment_no, epoch, salt, key_id: key.0, image_bytes, key_check: key.1 };
            let mut bytes = header.encode();
            prop_assert_eq!(ObjectHeader::decode(&bytes), Ok(header));
            bytes[bit / 8 % OBJECT_HEADER_BYTES] ^= 1 << (bit % 8);
            prop_assert!(ObjectHeader::decode(&bytes).is_err());
            let summary = ObjectSummary { base_lsn: 8, end_lsn: 8 + image_bytes - 4096, base_id: 1, next_id: crc, base_ts: 5, max_ts: 6, records };
            prop_assert_eq!(ObjectSummary::decode(&summary.encode(), image_bytes), Ok(summary));
            let trailer = Trailer { index_offset, index_bytes: words.0, index_crc: words.1, image_crc64: crc, stored_crc64: !crc };
            let mut bytes = trailer.encode(&salt);
            prop_assert_eq!(Trailer::decode(&bytes, &salt, trailer.object_bytes()), Ok(trailer));
            prop_assert!(Trailer::decode(&bytes, &salt, trailer.object_bytes() + 1).is_err());
            prop_assert!(Trailer::decode(&bytes, &header.log_id, trailer.object_bytes()).is_err() || log_id == salt);
            bytes[bit / 8 % TRAILER_BYTES] ^= 1 << (bit % 8);
            prop_assert!(Trailer::decode(&bytes, &salt, trailer.object_bytes()).is_err());
        }
    }
}
