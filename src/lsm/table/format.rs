//! The bytes of a table. Little-endian, except where a column holds key bytes as a number.
//!
//! ```text
//! file        := data blocks | filter? | index | range tombstones? | properties | footer      (no gap between them)
//! each but the footer is a sealed block:
//!   payload   possibly compressed
//!   u8        compression of the payload: 0 none, 1 LZ4 block, 2 Snappy raw
//!   u32       length of the payload once decompressed
//!   u32       CRC-32 over u64 file number, u64 file offset of the payload, payload, and the two fields above
//!
//! data block (decompressed), n entries in internal key order, at most 65,536 bytes unless n = 1:
//!   0  u16    n, at least 1
//!   2  u16    p, length of the common prefix of all its user keys
//!   4  u8     w, 0 to 8: bytes a key has in the head column
//!   5  [u8;3] zero
//!   8  [p]    the common prefix
//!      [n]    fingerprints: bits 56..64 of hash64(user key, 0)
//!      [w*n]  heads: the first w bytes of each key's suffix (what follows the prefix), padded with zeros
//!      [2*n]  u16 offset of each entry from the first; the last entry ends with the block
//!      entries: u64 tag | varint length of the suffix | the suffix from byte w on | value
//!
//! index (never compressed), n data blocks, block i spans the file's bytes from end i-1 (or 0) to end i:
//!   0  u32    n            4  u16  p, length of the prefix all separators share        6  u16  zero
//!   8  [p]    the common prefix
//!      [8*n]  u64 end of each sealed block
//!      [8*n]  u64 tag of each separator
//!      [4*n]  u32 end of each separator's suffix, then the suffixes
//!   Separator i is at or after the last internal key of block i and before the first of block i+1.
//!
//! filter (never compressed): u32 number of 256-byte blocks | u8 probes a key, 1 to 30 | [u8;3] zero | the blocks
//!   h = hash64(user key, 0); block = (h >> 32) * blocks >> 32; bits from ten 11-bit fields a multiplication: see Filter
//!
//! range tombstones (never compressed): see `ranges::format`
//!
//! properties: (varint id | varint length | bytes)*, ids ascending; unknown ids are skipped
//!   1 smallest: u64 tag, user key     2 largest: the same
//!   3 keyspace: varint number, its name; not there for the default keyspace
//!   4 ingested: varint sequence number, older than the one that the MANIFEST gives every entry; those stored are 0
//!
//! footer, the last 152 bytes
//!   0    u64  file number                     8    u64  end of the data blocks (they start at 0)
//!   16   u64  filter offset, 24 u64 length    32   u64  index offset, 40 u64 length
//!   48   u64  range tombstones offset, 56 u64 length: 0 if there are none
//!   64   u64  properties offset, 72 u64 length
//!   80   u64  entries                         88   u64  tombstones
//!   96   u64  bytes of all keys and values    104  u64  smallest, 112 u64 largest sequence number, range tombstones too
//!   120  u64  data blocks                     128  u32  bits of filter a key, 132 u32 zero
//!   136  u32  format version                  140  u32  CRC-32 over u64 file number, u64 footer offset, bytes 0..140
//!   144  [8]  "AiDbSST" and a zero byte
//! ```
//!
//! **Damage.** Every byte lies under one CRC or is a fixed magic byte, and each CRC covers where its block lies, so a flipped
//! bit and a block of another place or file both fail. There is no torn tail: a table is synced before anything names it, so
//! whatever is wrong with one is corruption.
//!
//! **Evolution.** [`FormatVersion`] is append-only and each version is read forever. Programs that knew no range tombstones
//! refuse a table with some. Without a new version: properties may be added. With one: anything; the magic and the last 16 bytes keep their meaning. A reader refuses a version it does not know.
//!
//! **Example.** `a = "1"` at sequence 5 in a block of its own: `0100 0100 00 000000 | 61 | 6c | (no heads) | 0000 |
//! 0105000000000000 00 31`, then `00 16000000` and the CRC: prefix "a", an empty suffix, one entry of ten bytes.

pub use super::block::{Block, BlockBuilder};
pub use super::filter::{Filter, FilterBuilder};
pub use super::index::{Index, IndexBuilder};

use super::TableInfo;
use super::compress::{self, Compression};
use crate::base::checksum::crc32;
use crate::base::coding::{Decoder, get_u32, get_u64, put_slice, put_u32, put_u64, put_varint};
use crate::base::key::{SeqNum, Tag, compare};
use crate::base::limits::{KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::lsm::ranges::RangeInfo;
use bytes::Bytes;
use std::cmp::Ordering;

/// Says which check failed; the caller adds file and offset.
pub type Damage = &'static str;

/// The last eight bytes of every table.
pub const MAGIC: [u8; 8] = *b"AiDbSST\0";
/// Length of the footer.
pub const FOOTER_BYTES: usize = 152;
/// What sealing adds to a payload.
pub const SEAL_BYTES: usize = 9;
/// Longest decompressed block: one entry with the longest key and value.
pub const BLOCK_RAW_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + 1024;

const FOOTER_CRC_AT: usize = 140;
const PROPERTY_SMALLEST: u64 = 1;
const PROPERTY_LARGEST: u64 = 2;
const PROPERTY_KEYSPACE: u64 = 3;
const PROPERTY_INGESTED: u64 = 4;

const _: () = assert!(FOOTER_CRC_AT + 4 + MAGIC.len() == FOOTER_BYTES);
const _: () = assert!(BLOCK_RAW_BYTES_MAX < u32::MAX as usize);

/// The versions of this format. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FormatVersion {
    /// What the table above says.
    V1 = 1,
}

impl FormatVersion {
    /// The version that is written.
    pub const NEWEST: FormatVersion = FormatVersion::V1;
}

/// Reads `width` bytes (at most 8) at `at` as a big-endian number whose first byte is the most significant of eight.
/// Needs 8 readable bytes at `at`.
#[inline]
pub(super) fn load_head(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let word = u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
    Some(if width == 0 { 0 } else { word & (u64::MAX << (64 - 8 * width)) })
}

/// Returns the head of `suffix`: its first `width` bytes (at most 8), padded with zeros, as [`load_head`] reads them.
#[inline]
pub(in crate::lsm) fn head_of(suffix: &[u8], width: usize) -> u64 {
    if width == 8
        && let Some(first) = suffix.first_chunk()
    {
        return u64::from_be_bytes(*first);
    }
    let mut padded = [0; 8];
    let len = suffix.len().min(width);
    padded[..len].copy_from_slice(&suffix[..len]);
    u64::from_be_bytes(padded)
}

/// Returns the head of what follows the first `skip` bytes of `key`, which has as many: 8 bytes, padded with zeros.
#[inline]
pub(in crate::lsm) fn head_behind(key: &[u8], skip: usize) -> u64 {
    let suffix = &key[skip..];
    match (suffix.first_chunk(), key.last_chunk()) {
        (Some(first), _) => u64::from_be_bytes(*first),
        // The last 8 bytes of the key are what remains and something before it.
        (None, Some(last)) if !suffix.is_empty() => u64::from_be_bytes(*last) << (64 - 8 * suffix.len()),
        _ => head_of(suffix, 8),
    }
}

/// Returns the bytes of a head.
#[inline]
pub(super) fn head_bytes(head: u64) -> [u8; 8] {
    head.to_be_bytes()
}

/// Appends `value` as 2 bytes.
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Overwrites the 2 bytes at `at`.
pub(super) fn set_u16(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Appends `payload` sealed for `offset` of file `file_no`, compressed if that is asked for and shrinks it.
pub fn seal(out: &mut Vec<u8>, file_no: u64, offset: u64, compression: Compression, payload: &[u8]) {
    assert!(payload.len() <= BLOCK_RAW_BYTES_MAX, "block of {} bytes", payload.len());
    let start = out.len();
    let used = compress::compress(compression, payload, out);
    seal_stored(out, start, file_no, offset, used, payload.len());
}

/// Seals the stored payload `out[start..]`, which decompresses to `raw_len` bytes.
pub(super) fn seal_stored(
    out: &mut Vec<u8>,
    start: usize,
    file_no: u64,
    offset: u64,
    used: Compression,
    raw_len: usize,
) {
    out.push(used as u8);
    put_u32(out, u32::try_from(raw_len).expect("bounded by BLOCK_RAW_BYTES_MAX"));
    let crc = crc32(&[file_no, offset], &[&out[start..]]);
    put_u32(out, crc);
}

/// Splits a sealed block into stored payload, compression and decompressed length, once its CRC holds.
/// `check_crc` is true but for a planted bug.
fn open_seal(stored: &[u8], file_no: u64, offset: u64, check_crc: bool) -> Result<(usize, Compression, usize), Damage> {
    let crc_at = stored.len().checked_sub(4).ok_or("the block is shorter than its checksum")?;
    let payload_len = stored.len().checked_sub(SEAL_BYTES).ok_or("the block is shorter than its seal")?;
    let crc = get_u32(stored, crc_at).ok_or("the block has no checksum")?;
    if check_crc && crc != crc32(&[file_no, offset], &[&stored[..crc_at]]) {
        return Err("block checksum mismatch");
    }
    let compression = Compression::from_u8(stored[payload_len]).ok_or("unknown block compression")?;
    let raw_len = get_u32(stored, payload_len + 1).ok_or("the block has no length")? as usize;
    if raw_len > compress::raw_len_max(compression, payload_len).min(BLOCK_RAW_BYTES_MAX) {
        return Err("the block's decompressed length is impossible");
    }
    Ok((payload_len, compression, raw_len))
}

/// Checks the sealed block `stored`, which lay at `offset` of file `file_no`, and returns its payload decompressed.
///
/// # Errors
/// The check that failed. Never allocates more than 255 times the length of `stored`.
pub fn unseal(stored: &[u8], file_no: u64, offset: u64) -> Result<Bytes, Damage> {
    unseal_slice(stored, file_no, offset, true)
}

/// Returns how long the sealed block is that begins with `bytes`, at `offset` of file `file_no`: to where its seal is good.
pub fn sealed_bytes(bytes: &[u8], file_no: u64, offset: u64) -> Option<usize> {
    let payload_len_max = bytes.len().checked_sub(SEAL_BYTES)?.min(BLOCK_RAW_BYTES_MAX);
    // A checksum is computed only where the fields before it can be true.
    let plausible = |len: &usize| match (Compression::from_u8(bytes[*len]), get_u32(bytes, len + 1)) {
        (Some(Compression::None), Some(raw_len)) => raw_len as usize == *len,
        (Some(used), Some(raw_len)) => {
            (*len..=compress::raw_len_max(used, *len).min(BLOCK_RAW_BYTES_MAX)).contains(&(raw_len as usize))
        }
        _ => false,
    };
    let is_good = |len: &usize| get_u32(bytes, len + 5) == Some(crc32(&[file_no, offset], &[&bytes[..len + 5]]));
    (1..=payload_len_max).find(|len| plausible(len) && is_good(len)).map(|len| len + SEAL_BYTES)
}

/// [`unseal`] that may leave out the CRC, for a planted bug.
pub(super) fn unseal_slice(stored: &[u8], file_no: u64, offset: u64, check_crc: bool) -> Result<Bytes, Damage> {
    let (payload_len, compression, raw_len) = open_seal(stored, file_no, offset, check_crc)?;
    match compression {
        Compression::None if raw_len != payload_len => Err("the block's length differs from its payload's"),
        Compression::None => Ok(Bytes::copy_from_slice(&stored[..payload_len])),
        _ => compress::decompress(compression, &stored[..payload_len], raw_len).map(Bytes::from),
    }
}

/// [`unseal_slice`] that takes over the memory of a block stored as is.
pub(super) fn unseal_owned(mut stored: Vec<u8>, file_no: u64, offset: u64, check_crc: bool) -> Result<Bytes, Damage> {
    let (payload_len, compression, raw_len) = open_seal(&stored, file_no, offset, check_crc)?;
    match compression {
        Compression::None if raw_len != payload_len => Err("the block's length differs from its payload's"),
        Compression::None => {
            stored.truncate(payload_len);
            Ok(Bytes::from(stored))
        }
        _ => compress::decompress(compression, &stored[..payload_len], raw_len).map(Bytes::from),
    }
}

/// A stretch of the file; `bytes` is 0 for a part the table does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handle {
    /// Where it starts.
    pub offset: u64,
    /// Its length, seal included.
    pub bytes: u64,
}

/// The fixed end of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The number of the file it was written for.
    pub file_no: u64,
    /// End of the data blocks.
    pub data_bytes: u64,
    /// The filter, if there is one.
    pub filter: Handle,
    /// The index.
    pub index: Handle,
    /// The range tombstones, if there are any.
    pub range_tombstones: Handle,
    /// The properties.
    pub properties: Handle,
    /// Number of entries.
    pub entries: u64,
    /// Number of tombstones among them.
    pub tombstones: u64,
    /// Bytes of all keys and values.
    pub raw_bytes: u64,
    /// Smallest sequence number.
    pub seq_min: SeqNum,
    /// Largest sequence number.
    pub seq_max: SeqNum,
    /// Number of data blocks.
    pub blocks: u64,
    /// Bits of filter a key, as asked for.
    pub filter_bits_per_key: u32,
}

impl Footer {
    /// Appends the footer, which will lie at `offset`.
    pub fn encode(&self, out: &mut Vec<u8>, offset: u64) {
        let start = out.len();
        put_u64(out, self.file_no);
        put_u64(out, self.data_bytes);
        for handle in [self.filter, self.index, self.range_tombstones, self.properties] {
            put_u64(out, handle.offset);
            put_u64(out, handle.bytes);
        }
        for number in [self.entries, self.tombstones, self.raw_bytes, self.seq_min.0, self.seq_max.0, self.blocks] {
            put_u64(out, number);
        }
        put_u32(out, self.filter_bits_per_key);
        put_u32(out, 0);
        put_u32(out, FormatVersion::NEWEST as u32);
        assert_eq!(out.len() - start, FOOTER_CRC_AT);
        let crc = crc32(&[self.file_no, offset], &[&out[start..]]);
        put_u32(out, crc);
        out.extend_from_slice(&MAGIC);
    }

    /// Decodes the last [`FOOTER_BYTES`] of a file of `file_bytes` bytes that should be `file_no`.
    ///
    /// What it returns is consistent: the parts follow one another without a gap up to the footer.
    ///
    /// # Errors
    /// The check that failed.
    pub fn decode(bytes: &[u8], file_no: u64, file_bytes: u64) -> Result<Footer, Damage> {
        let bytes: &[u8; FOOTER_BYTES] = bytes.try_into().map_err(|_| "the file is shorter than a footer")?;
        let offset = file_bytes.checked_sub(FOOTER_BYTES as u64).ok_or("the file is shorter than a footer")?;
        if bytes[FOOTER_BYTES - MAGIC.len()..] != MAGIC {
            return Err("not a table: wrong magic");
        }
        if get_u32(bytes, 136) != Some(FormatVersion::V1 as u32) {
            return Err("unknown table format version, or a damaged one");
        }
        let stored_no = get_u64(bytes, 0).ok_or("short footer")?;
        if get_u32(bytes, FOOTER_CRC_AT) != Some(crc32(&[stored_no, offset], &[&bytes[..FOOTER_CRC_AT]])) {
            return Err("footer checksum mismatch");
        }
        let footer = Footer::parse(bytes).ok_or("short footer")?;
        if footer.file_no != file_no {
            return Err("the table was written for another file number");
        }
        footer.check(offset)?;
        Ok(footer)
    }

    fn parse(bytes: &[u8]) -> Option<Footer> {
        let mut d = Decoder::new(bytes);
        let (file_no, data_bytes) = (d.u64()?, d.u64()?);
        let mut handle = || Some(Handle { offset: d.u64()?, bytes: d.u64()? });
        let (filter, index, range_tombstones, properties) = (handle()?, handle()?, handle()?, handle()?);
        let (entries, tombstones, raw_bytes) = (d.u64()?, d.u64()?, d.u64()?);
        let (seq_min, seq_max) = (SeqNum(d.u64()?), SeqNum(d.u64()?));
        let (blocks, filter_bits_per_key) = (d.u64()?, d.u32()?);
        Some(Footer {
            file_no,
            data_bytes,
            filter,
            index,
            range_tombstones,
            properties,
            entries,
            tombstones,
            raw_bytes,
            seq_min,
            seq_max,
            blocks,
            filter_bits_per_key,
        })
    }

    fn check(&self, footer_offset: u64) -> Result<(), Damage> {
        let mut end = self.data_bytes;
        for (part, optional) in
            [(self.filter, true), (self.index, false), (self.range_tombstones, true), (self.properties, false)]
        {
            if part.offset != end || (part.bytes < SEAL_BYTES as u64 && !(optional && part.bytes == 0)) {
                return Err("the footer's parts do not follow one another");
            }
            end = end.checked_add(part.bytes).ok_or("the footer's parts do not follow one another")?;
        }
        if end != footer_offset {
            return Err("the footer's parts do not fill the file");
        }
        if self.entries == 0 || self.blocks == 0 || self.blocks > self.entries || self.tombstones > self.entries {
            return Err("the footer's counts contradict each other");
        }
        if self.seq_min > self.seq_max || self.seq_max > SeqNum::MAX {
            return Err("the footer's sequence numbers are out of order");
        }
        Ok(())
    }

    /// Joins footer, properties and range tombstones to what the public sees.
    pub(super) fn info(&self, file_bytes: u64, properties: Properties, ranges: Option<RangeInfo>) -> TableInfo {
        TableInfo {
            file_no: self.file_no,
            file_bytes,
            entries: self.entries,
            tombstones: self.tombstones,
            raw_bytes: self.raw_bytes,
            smallest: properties.smallest,
            largest: properties.largest,
            seq_min: self.seq_min,
            seq_max: self.seq_max,
            ranges,
        }
    }
}

/// What of a table has no fixed length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// The first internal key.
    pub smallest: (Vec<u8>, Tag),
    /// The last internal key.
    pub largest: (Vec<u8>, Tag),
    /// Number and name of the keyspace whose entries these are, if that is not the default one: for repair, where no MANIFEST says it.
    pub keyspace: Option<(u32, String)>,
    /// Entries are stored without their sequence number, which is higher than this one: for repair too.
    pub ingested_after: Option<SeqNum>,
}

impl Properties {
    /// Appends the properties.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut field = Vec::new();
        for (id, (key, tag)) in [(PROPERTY_SMALLEST, &self.smallest), (PROPERTY_LARGEST, &self.largest)] {
            field.clear();
            put_u64(&mut field, tag.to_u64());
            field.extend_from_slice(key);
            put_varint(out, id);
            put_slice(out, &field);
        }
        if let Some((number, name)) = &self.keyspace {
            field.clear();
            put_varint(&mut field, (*number).into());
            field.extend_from_slice(name.as_bytes());
            put_varint(out, PROPERTY_KEYSPACE);
            put_slice(out, &field);
        }
        if let Some(seq) = self.ingested_after {
            field.clear();
            put_varint(&mut field, seq.0);
            put_varint(out, PROPERTY_INGESTED);
            put_slice(out, &field);
        }
    }

    /// Decodes properties that came out of their seal.
    ///
    /// # Errors
    /// The check that failed.
    pub fn decode(bytes: &[u8]) -> Result<Properties, Damage> {
        let mut decoder = Decoder::new(bytes);
        let (mut smallest, mut largest, mut keyspace, mut ingested_after, mut last_id) = (None, None, None, None, 0);
        while !decoder.is_empty() {
            let id = decoder.varint().ok_or("a property has no id")?;
            let field = decoder.slice().ok_or("a property ends early")?;
            if id <= last_id {
                return Err("the properties are out of order");
            }
            last_id = id;
            match id {
                PROPERTY_SMALLEST => smallest = Some(internal_key(field)?),
                PROPERTY_LARGEST => largest = Some(internal_key(field)?),
                PROPERTY_KEYSPACE => keyspace = Some(keyspace_of(field).ok_or("a property holds no keyspace")?),
                PROPERTY_INGESTED => {
                    let seq = Decoder::new(field).varint().map(SeqNum).filter(|seq| *seq <= SeqNum::MAX);
                    ingested_after = Some(seq.ok_or("a property holds no sequence number")?);
                }
                _ => {}
            }
        }
        let (smallest, largest) = smallest.zip(largest).ok_or("a property is missing")?;
        if compare((&smallest.0, smallest.1), (&largest.0, largest.1)) == Ordering::Greater {
            return Err("the largest key is before the smallest");
        }
        Ok(Properties { smallest, largest, keyspace, ingested_after })
    }
}

fn keyspace_of(field: &[u8]) -> Option<(u32, String)> {
    let mut decoder = Decoder::new(field);
    let number = decoder.varint().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)?;
    let name = str::from_utf8(decoder.rest()).ok()?;
    (1..=KEYSPACE_NAME_BYTES_MAX).contains(&name.len()).then(|| (number, name.to_owned()))
}

fn internal_key(field: &[u8]) -> Result<(Vec<u8>, Tag), Damage> {
    let tag = get_u64(field, 0).and_then(Tag::from_u64).ok_or("a property holds no tag")?;
    let key = &field[8..];
    if key.len() > KEY_BYTES_MAX {
        return Err("a property holds a key that is too long");
    }
    Ok((key.to_vec(), tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::ValueKind;
    use proptest::prelude::*;

    fn footer() -> Footer {
        Footer {
            file_no: 7,
            data_bytes: 100,
            filter: Handle { offset: 100, bytes: 0 },
            index: Handle { offset: 100, bytes: 50 },
            range_tombstones: Handle { offset: 150, bytes: 0 },
            properties: Handle { offset: 150, bytes: 30 },
            entries: 3,
            tombstones: 1,
            raw_bytes: 60,
            seq_min: SeqNum(4),
            seq_max: SeqNum(9),
            blocks: 2,
            filter_bits_per_key: 15,
        }
    }

    #[test]
    fn the_head_behind_a_prefix_is_that_of_the_rest() {
        let key: Vec<u8> = (1..=20).collect();
        for len in 0..=key.len() {
            for skip in 0..=len {
                assert_eq!(head_behind(&key[..len], skip), head_of(&key[skip..len], 8), "{len} behind {skip}");
            }
        }
    }

    #[test]
    fn the_worked_example_holds() {
        let mut block = BlockBuilder::default();
        block.add(b"a", Tag::new(SeqNum(5), ValueKind::Put), b"1");
        let mut payload = Vec::new();
        block.finish(&mut payload);
        let mut sealed = Vec::new();
        seal(&mut sealed, 1, 0, Compression::None, &payload);
        let hex: String = sealed[..sealed.len() - 4].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0100010000000000".to_owned() + "61" + "6c" + "0000" + "0105000000000000" + "00" + "31" + "00" + "16000000"
        );
    }

    #[test]
    fn footer_round_trips_and_every_flip_shows() {
        let mut bytes = Vec::new();
        footer().encode(&mut bytes, 180);
        let file_bytes = 180 + FOOTER_BYTES as u64;
        assert_eq!(Footer::decode(&bytes, 7, file_bytes), Ok(footer()));
        assert!(Footer::decode(&bytes, 8, file_bytes).is_err(), "another file's");
        assert!(Footer::decode(&bytes, 7, file_bytes + 1).is_err(), "at another place");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&bytes, 7, file_bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn footer_with_a_gap_is_refused() {
        for break_it in [
            |footer: &mut Footer| footer.data_bytes -= 1,
            |footer: &mut Footer| footer.index.bytes = u64::MAX,
            |footer: &mut Footer| footer.properties.bytes += 1,
            |footer: &mut Footer| footer.tombstones = 4,
            |footer: &mut Footer| footer.seq_min = SeqNum(10),
        ] {
            let mut broken = footer();
            break_it(&mut broken);
            let mut bytes = Vec::new();
            broken.encode(&mut bytes, 180);
            assert!(Footer::decode(&bytes, 7, 180 + FOOTER_BYTES as u64).is_err());
        }
    }

    #[test]
    fn a_block_of_another_place_is_refused() {
        for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
            let mut stored = Vec::new();
            seal(&mut stored, 3, 4096, compression, &[9; 500]);
            assert_eq!(unseal(&stored, 3, 4096).unwrap(), vec![9; 500]);
            assert_eq!(unseal_owned(stored.clone(), 3, 4096, true).unwrap(), vec![9; 500]);
            assert!(unseal(&stored, 3, 0).is_err());
            assert!(unseal(&stored, 4, 4096).is_err());
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_allocation() {
        for used in [Compression::None, Compression::Lz4, Compression::Snappy] {
            let mut stored = vec![0; 40];
            seal_stored(&mut stored, 0, 1, 0, used, 1 << 30);
            assert!(unseal(&stored, 1, 0).unwrap_err().contains("impossible"));
        }
    }

    #[test]
    fn properties_skip_what_they_do_not_know() {
        let tag = Tag::new(SeqNum(1), ValueKind::Put);
        let keyspace = Some((7, "events".to_owned()));
        let properties = Properties {
            smallest: (b"a".to_vec(), tag),
            largest: (b"b".to_vec(), tag),
            keyspace,
            ingested_after: Some(SeqNum(300)),
        };
        let mut bytes = Vec::new();
        properties.encode(&mut bytes);
        put_varint(&mut bytes, 77);
        put_slice(&mut bytes, b"of a later version");
        assert_eq!(Properties::decode(&bytes), Ok(properties));
    }

    proptest! {
        #[test]
        fn decoders_survive_anything(bytes: Vec<u8>) {
            let _ = unseal(&bytes, 1, 0);
            let _ = unseal_slice(&bytes, 1, 0, false);
            let _ = unseal_owned(bytes.clone(), 1, 0, false);
            let _ = Properties::decode(&bytes);
            let _ = Footer::decode(&bytes, 1, bytes.len() as u64);
        }
    }
}
