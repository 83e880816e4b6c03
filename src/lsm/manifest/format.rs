//! Bytes of `MANIFEST-NNNNNN` and of `CURRENT`. Little-endian.
//!
//! The file opens with a header, then holds records, each at a multiple of 8:
//!
//! | offset | size | header |
//! |---|---|---|
//! | 0 | 8 | magic `AIDBMANI` |
//! | 8 | 4 | format version, 3 |
//! | 12 | 4 | CRC-32 over (file number, bytes 0..12) |
//!
//! | offset | size | record |
//! |---|---|---|
//! | 0 | 4 | CRC-32 over (file number, offset of the record, bytes 4..16) |
//! | 4 | 4 | CRC-32 of the payload |
//! | 8 | 4 | payload length, at least 1 |
//! | 12 | 4 | reserved, 0 |
//! | 16 | ... | payload: one version edit; then zeros to a multiple of 8 |
//!
//! The first record is the whole state and is durable before `CURRENT` names the file. Every record is synced before it
//! counts, so only the last can be torn: a bad record is a torn tail if it is not the first and no valid record lies
//! anywhere behind it, else it is damage. File number and offset in the checksum keep stale bytes out.
//!
//! A version edit is a run of fields, each a tag byte and varints (`v`), slices (varint length, bytes) or 8 bytes (`u64`):
//!
//! | tag | field |
//! |---|---|
//! | 1 | next file number: v |
//! | 2 | last sequence number that tables hold: v |
//! | 3 | log position from which replay is needed: v |
//! | 4 | table removed: level v, file number v |
//! | 5 | table added: level v, file number v, file bytes v, entries v, tombstones v, raw bytes v, smallest key slice, its tag u64, largest key slice, its tag u64, smallest sequence number v, largest v |
//! | 6 | the keyspace that the fields 4, 5, 7 to 9 and 11 behind it are about, 0 if there is none: v |
//! | 7 | keyspace created: its name, 1 to 255 bytes of UTF-8, a slice |
//! | 8 | keyspace dropped, with its tables |
//! | 9 | last sequence number that the keyspace's tables hold all before: v |
//! | 10 | number of the next keyspace: v |
//! | 11 | name of the operator that the keyspace's merges are made for, 1 to 255 bytes of UTF-8, a slice |
//! | 12 | range tombstones of the table that the field 5 before it adds: their number v, begin slice, end slice (empty: none) |
//! | 13 | latest moment of the clock by which values expire, in microseconds since 1970-01-01 UTC: v |
//!
//! Other tags are refused. Version 1 has the fields 1 to 5, and what field 2 says holds for keyspace 0 as field 9; it is read
//! forever. Version 2 has the fields 1 to 10. It evolves by new tags under a new format version.
//!
//! `CURRENT` is one line, `MANIFEST-NNNNNN cccccccc\n`: the name, then its CRC-32 in hexadecimal.

use crate::aof::Lsn;
use crate::base::checksum::crc32;
use crate::base::coding::{Decoder, get_u32, put_slice, put_u32, put_u64, put_varint};
use crate::base::key::{SeqNum, Tag};
use crate::base::limits::{KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX};
use crate::lsm::files::{manifest_name, parse_number};
use crate::lsm::merge::OPERATOR_NAME_BYTES_MAX;
use crate::lsm::ranges::{RangeInfo, ends_behind};
use crate::lsm::table::TableInfo;

const MAGIC: &[u8; 8] = b"AIDBMANI";
const VERSION: u32 = 3;
/// The version without keyspaces.
const VERSION_1: u32 = 1;
/// Bytes of the file header.
pub const FILE_HEADER_BYTES: usize = 16;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 16;
const ALIGNMENT: usize = 8;
/// Levels that an edit may name.
pub const LEVELS_MAX: usize = 16;
const _: () = assert!(FILE_HEADER_BYTES.is_multiple_of(ALIGNMENT) && RECORD_HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// A change of the set of tables, or (in the first record) all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// No file has this number or a larger one.
    pub next_file: Option<u64>,
    /// Tables hold every commit up to this one.
    pub last_seq: Option<SeqNum>,
    /// Commits after `last_seq` lie in the log from here on.
    pub wal_lsn: Option<Lsn>,
    /// No keyspace has this number or a larger one.
    pub next_keyspace: Option<u32>,
    /// The latest moment of the clock by which values expire, in microseconds since 1970-01-01 UTC.
    pub clock: Option<u64>,
    /// What changes in the keyspaces.
    pub trees: Vec<TreeEdit>,
}

/// A change of one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeEdit {
    /// Its number.
    pub keyspace: u32,
    /// The name it is created under.
    pub created: Option<String>,
    /// It is gone, and its tables.
    pub dropped: bool,
    /// Its tables hold every one of its commits up to this one.
    pub flushed: Option<SeqNum>,
    /// The name of the operator that its merges are made for.
    pub merge_operator: Option<String>,
    /// Tables removed: level and file number.
    pub removed: Vec<(usize, u64)>,
    /// Tables added, with their level.
    pub added: Vec<(usize, TableInfo)>,
}

impl VersionEdit {
    /// Appends the encoded edit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let scalars = [
            (1, self.next_file),
            (2, self.last_seq.map(|seq| seq.0)),
            (3, self.wal_lsn.map(|lsn| lsn.0)),
            (10, self.next_keyspace.map(u64::from)),
            (13, self.clock),
        ];
        for (tag, value) in scalars {
            if let Some(value) = value {
                out.push(tag);
                put_varint(out, value);
            }
        }
        for (at, tree) in self.trees.iter().enumerate() {
            tree.encode(out, at == 0);
        }
    }

    /// Decodes a whole payload; the error says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<VersionEdit, &'static str> {
        let mut edit = VersionEdit::default();
        let mut decoder = Decoder::new(bytes);
        while let Some(tag) = decoder.u8() {
            let known = match tag {
                1 => decoder.varint().map(|number| edit.next_file = Some(number)),
                2 => decode_seq(&mut decoder).map(|seq| edit.last_seq = Some(seq)),
                3 => decoder.varint().map(|lsn| edit.wal_lsn = Some(Lsn(lsn))),
                4 => decode_removed(&mut decoder).map(|removed| edit.tree().removed.push(removed)),
                5 => decode_added(&mut decoder).map(|added| edit.tree().added.push(added)),
                6 => decode_keyspace(&mut decoder)
                    .map(|keyspace| edit.trees.push(TreeEdit { keyspace, ..TreeEdit::default() })),
                7 => decode_name(&mut decoder, KEYSPACE_NAME_BYTES_MAX).map(|name| edit.tree().created = Some(name)),
                8 => {
                    edit.tree().dropped = true;
                    Some(())
                }
                9 => decode_seq(&mut decoder).map(|seq| edit.tree().flushed = Some(seq)),
                10 => decode_keyspace(&mut decoder).map(|number| edit.next_keyspace = Some(number)),
                11 => decode_name(&mut decoder, OPERATOR_NAME_BYTES_MAX)
                    .map(|name| edit.tree().merge_operator = Some(name)),
                12 => {
                    let (_, table) = edit.tree().added.last_mut().ok_or("range tombstones of no table")?;
                    decode_ranges(&mut decoder).map(|ranges| table.ranges = Some(ranges))
                }
                13 => decoder.varint().map(|moment| edit.clock = Some(moment)),
                _ => return Err("version edit with an unknown field"),
            };
            known.ok_or("version edit with a malformed field")?;
        }
        Ok(edit)
    }

    /// Returns the keyspace that the field being read is about.
    fn tree(&mut self) -> &mut TreeEdit {
        if self.trees.is_empty() {
            self.trees.push(TreeEdit::default());
        }
        self.trees.last_mut().expect("pushed above")
    }

    /// Says what an edit of version 1 means for the only keyspace.
    fn upgrade(mut self) -> VersionEdit {
        if self.last_seq.is_some() {
            self.tree().flushed = self.last_seq;
        }
        self
    }
}

impl TreeEdit {
    fn encode(&self, out: &mut Vec<u8>, first: bool) {
        // Field 6 is left out where a reader takes it for granted.
        if !first || self.keyspace != 0 || *self == TreeEdit::default() {
            out.push(6);
            put_varint(out, self.keyspace.into());
        }
        if let Some(name) = &self.created {
            out.push(7);
            put_slice(out, name.as_bytes());
        }
        if self.dropped {
            out.push(8);
        }
        if let Some(seq) = self.flushed {
            out.push(9);
            put_varint(out, seq.0);
        }
        if let Some(name) = &self.merge_operator {
            out.push(11);
            put_slice(out, name.as_bytes());
        }
        for (level, file_no) in &self.removed {
            out.push(4);
            put_varint(out, *level as u64);
            put_varint(out, *file_no);
        }
        for (level, info) in &self.added {
            out.push(5);
            put_varint(out, *level as u64);
            for value in [info.file_no, info.file_bytes, info.entries, info.tombstones, info.raw_bytes] {
                put_varint(out, value);
            }
            for (key, tag) in [&info.smallest, &info.largest] {
                put_slice(out, key);
                put_u64(out, tag.to_u64());
            }
            put_varint(out, info.seq_min.0);
            put_varint(out, info.seq_max.0);
            if let Some(ranges) = &info.ranges {
                out.push(12);
                put_varint(out, ranges.count);
                put_slice(out, &ranges.begin);
                put_slice(out, &ranges.end);
            }
        }
    }
}

fn decode_keyspace(decoder: &mut Decoder<'_>) -> Option<u32> {
    u32::try_from(decoder.varint()?).ok()
}

fn decode_name(decoder: &mut Decoder<'_>, bytes_max: usize) -> Option<String> {
    let name = str::from_utf8(decoder.slice()?).ok()?;
    (1..=bytes_max).contains(&name.len()).then(|| name.to_owned())
}

fn decode_seq(decoder: &mut Decoder<'_>) -> Option<SeqNum> {
    decoder.varint().map(SeqNum).filter(|seq| *seq <= SeqNum::MAX)
}

fn decode_level(decoder: &mut Decoder<'_>) -> Option<usize> {
    usize::try_from(decoder.varint()?).ok().filter(|level| *level < LEVELS_MAX)
}

fn decode_removed(decoder: &mut Decoder<'_>) -> Option<(usize, u64)> {
    Some((decode_level(decoder)?, decoder.varint()?))
}

fn decode_key(decoder: &mut Decoder<'_>) -> Option<(Vec<u8>, Tag)> {
    let key = decoder.slice().filter(|key| key.len() <= KEY_BYTES_MAX)?;
    Some((key.to_vec(), Tag::from_u64(decoder.u64()?)?))
}

fn decode_added(decoder: &mut Decoder<'_>) -> Option<(usize, TableInfo)> {
    let level = decode_level(decoder)?;
    let info = TableInfo {
        file_no: decoder.varint()?,
        file_bytes: decoder.varint()?,
        entries: decoder.varint()?,
        tombstones: decoder.varint()?,
        raw_bytes: decoder.varint()?,
        smallest: decode_key(decoder)?,
        largest: decode_key(decoder)?,
        seq_min: decode_seq(decoder)?,
        seq_max: decode_seq(decoder)?,
        ranges: None,
    };
    (info.smallest.0 <= info.largest.0 && info.seq_min <= info.seq_max).then_some((level, info))
}

fn decode_ranges(decoder: &mut Decoder<'_>) -> Option<RangeInfo> {
    let count = decoder.varint()?;
    let mut key = || decoder.slice().filter(|key| key.len() <= KEY_BYTES_MAX).map(<[u8]>::to_vec);
    let (begin, end) = (key()?, key()?);
    (count > 0 && ends_behind(&end, &begin)).then_some(RangeInfo { count, begin, end })
}

/// Appends the header of file `file_no` to an empty buffer.
pub fn put_file_header(out: &mut Vec<u8>, file_no: u64) {
    assert!(out.is_empty(), "the header stands at the start of the file");
    out.extend_from_slice(MAGIC);
    put_u32(out, VERSION);
    put_u32(out, crc32(&[file_no], &[&out[..]]));
    assert_eq!(out.len(), FILE_HEADER_BYTES);
}

/// Appends the record of `edit`, which will lie at `offset` of file `file_no`.
pub fn put_record(out: &mut Vec<u8>, file_no: u64, offset: u64, edit: &VersionEdit) {
    assert!(offset.is_multiple_of(ALIGNMENT as u64), "record at offset {offset}");
    let mut payload = Vec::new();
    edit.encode(&mut payload);
    assert!(!payload.is_empty(), "a version edit that changes nothing");
    let mut header = Vec::with_capacity(RECORD_HEADER_BYTES);
    put_u32(&mut header, crc32(&[], &[&payload]));
    put_u32(&mut header, u32::try_from(payload.len()).expect("a version edit over 4 GiB"));
    put_u32(&mut header, 0);
    put_u32(out, crc32(&[file_no, offset], &[&header]));
    out.extend_from_slice(&header);
    out.extend_from_slice(&payload);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Returns the payload of the record at `offset` and where the next one lies; `None` unless it is valid.
fn record_at(bytes: &[u8], file_no: u64, offset: usize) -> Option<(&[u8], usize)> {
    let header = bytes.get(offset..offset.checked_add(RECORD_HEADER_BYTES)?)?;
    let len = get_u32(header, 8)? as usize;
    let end = (offset + RECORD_HEADER_BYTES).checked_add(len)?;
    if len == 0 || end > bytes.len() || get_u32(header, 12)? != 0 {
        return None;
    }
    if get_u32(header, 0)? != crc32(&[file_no, offset as u64], &[&header[4..]]) {
        return None;
    }
    let payload = &bytes[offset + RECORD_HEADER_BYTES..end];
    (get_u32(header, 4)? == crc32(&[], &[payload])).then_some((payload, end.next_multiple_of(ALIGNMENT)))
}

/// Damage found while decoding: where, and what is wrong.
pub type Damage = (u64, &'static str);

/// Decodes the whole of file `file_no`: its edits in order, and where they end; what follows is a torn tail.
pub fn decode_file(bytes: &[u8], file_no: u64) -> Result<(Vec<VersionEdit>, u64), Damage> {
    let header = bytes.get(..FILE_HEADER_BYTES).ok_or((0, "manifest shorter than its header"))?;
    if &header[..8] != MAGIC || get_u32(header, 12) != Some(crc32(&[file_no], &[&header[..12]])) {
        return Err((0, "manifest header checksum"));
    }
    let version = get_u32(header, 8).filter(|version| (VERSION_1..=VERSION).contains(version));
    let version = version.ok_or((8, "manifest of an unknown format version"))?;
    let mut edits = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while let Some((payload, next)) = record_at(bytes, file_no, at) {
        let edit = VersionEdit::decode(payload).map_err(|what| (at as u64, what))?;
        edits.push(if version == VERSION_1 { edit.upgrade() } else { edit });
        at = next;
    }
    if edits.is_empty() {
        return Err((at as u64, "manifest without its first record"));
    }
    if (at + ALIGNMENT..bytes.len()).step_by(ALIGNMENT).any(|later| record_at(bytes, file_no, later).is_some()) {
        return Err((at as u64, "manifest record damaged, with valid records behind it"));
    }
    Ok((edits, at as u64))
}

/// A stretch of a MANIFEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it takes.
    pub bytes: u64,
    /// The edit, or what is wrong.
    pub content: Result<VersionEdit, &'static str>,
}

/// Splits the whole of file `file_no` into good records and what lies between, whatever is damaged. A part that is wrong stands for
/// the header, or for what was written torn or damaged; of version 1 if the header is readable and says so.
pub fn parts(bytes: &[u8], file_no: u64) -> Vec<Part> {
    let part = |from: usize, to: usize, content| Part { offset: from as u64, bytes: (to - from) as u64, content };
    let header = bytes.get(..FILE_HEADER_BYTES);
    let header = header.filter(|header| get_u32(header, 12) == Some(crc32(&[file_no], &[&header[..12]])));
    let mut parts = Vec::new();
    if header.is_none() {
        parts.push(part(0, bytes.len().min(FILE_HEADER_BYTES), Err("manifest header checksum")));
    }
    let is_first = header.is_some_and(|header| get_u32(header, 8) == Some(VERSION_1));
    let (mut at, mut bad_from) = (FILE_HEADER_BYTES, FILE_HEADER_BYTES);
    let what = "no good record";
    while at < bytes.len() {
        let Some((payload, next)) = record_at(bytes, file_no, at) else {
            at += ALIGNMENT;
            continue;
        };
        if bad_from < at {
            parts.push(part(bad_from, at, Err(what)));
        }
        let edit = VersionEdit::decode(payload).map(|edit| if is_first { edit.upgrade() } else { edit });
        parts.push(part(at, next.min(bytes.len()), edit));
        (at, bad_from) = (next, next);
    }
    if bad_from < bytes.len() {
        parts.push(part(bad_from, bytes.len(), Err(what)));
    }
    parts
}

/// Returns the content of `CURRENT` that names MANIFEST `number`.
pub fn encode_current(number: u64) -> String {
    let name = manifest_name(number);
    format!("{name} {:08x}\n", crc32(&[], &[name.as_bytes()]))
}

/// Decodes the content of `CURRENT`.
pub fn decode_current(bytes: &[u8]) -> Result<u64, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "CURRENT is not text")?;
    let digits =
        text.strip_prefix("MANIFEST-").and_then(|rest| rest.split_once(' ')).ok_or("CURRENT names no manifest")?.0;
    let number = parse_number(digits).ok_or("CURRENT names no manifest")?;
    if encode_current(number) == text { Ok(number) } else { Err("CURRENT checksum") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::ValueKind;
    use proptest::prelude::*;

    fn edit(number: u64) -> VersionEdit {
        let info = TableInfo {
            file_no: number,
            file_bytes: 4096,
            entries: 3,
            tombstones: 1,
            raw_bytes: 100,
            smallest: (b"a".to_vec(), Tag::new(SeqNum(3), ValueKind::Put)),
            largest: (b"b".to_vec(), Tag::new(SeqNum(1), ValueKind::Delete)),
            seq_min: SeqNum(1),
            seq_max: SeqNum(3),
            ranges: None,
        };
        let ranges = RangeInfo { count: 2, begin: b"0".to_vec(), end: vec![] };
        let with_ranges = TableInfo { file_no: number + 9, ranges: Some(ranges), ..info.clone() };
        let tree = TreeEdit {
            flushed: Some(SeqNum(3)),
            removed: vec![(0, 1), (1, 2)],
            added: vec![(1, info), (1, with_ranges)],
            ..TreeEdit::default()
        };
        let merge_operator = Some("aidb.max".into());
        let created = TreeEdit { keyspace: 1, created: Some("events".into()), merge_operator, ..TreeEdit::default() };
        let dropped = TreeEdit { keyspace: 1, dropped: true, ..TreeEdit::default() };
        VersionEdit {
            next_file: Some(number + 1),
            last_seq: Some(SeqNum(3)),
            wal_lsn: Some(Lsn(4096)),
            next_keyspace: Some(2),
            clock: Some(1 << 50),
            trees: vec![tree, created, dropped],
        }
    }

    fn file(file_no: u64, edits: &[VersionEdit]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_file_header(&mut bytes, file_no);
        for edit in edits {
            let offset = bytes.len() as u64;
            put_record(&mut bytes, file_no, offset, edit);
        }
        bytes
    }

    #[test]
    fn edits_round_trip() {
        let edits = [edit(7), VersionEdit { next_file: Some(9), ..VersionEdit::default() }];
        let bytes = file(5, &edits);
        assert_eq!(decode_file(&bytes, 5), Ok((edits.to_vec(), bytes.len() as u64)));
        assert!(decode_file(&bytes, 6).is_err(), "the bytes of another file");
    }

    #[test]
    fn last_record_may_be_torn_at_every_byte() {
        let whole = file(5, &[edit(7)]).len();
        let bytes = file(5, &[edit(7), edit(8)]);
        let payload_end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        for len in whole..payload_end {
            let (edits, end) = decode_file(&bytes[..len], 5).unwrap();
            assert_eq!((edits.len(), end), (1, whole as u64), "cut at {len}");
        }
        for len in 0..whole - ALIGNMENT {
            assert!(decode_file(&bytes[..len], 5).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn damage_before_a_valid_record_is_refused_at_every_byte() {
        let bytes = file(5, &[edit(7), edit(8), edit(9)]);
        let second = file(5, &[edit(7)]).len();
        let third = file(5, &[edit(7), edit(8)]).len();
        for at in 0..third {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            match decode_file(&damaged, 5) {
                Err((offset, _)) => assert!(offset <= at as u64, "damage at {at} reported at {offset}"),
                // The padding behind a record carries nothing.
                Ok((edits, _)) => assert_eq!(edits.len(), 3, "damage at {at} of {second}"),
            }
        }
    }

    #[test]
    fn current_round_trips_and_refuses_damage() {
        let text = encode_current(12);
        assert_eq!(decode_current(text.as_bytes()), Ok(12));
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert!(decode_current(&damaged).is_err(), "byte {at}");
            assert!(decode_current(&text.as_bytes()[..at]).is_err(), "length {at}");
        }
    }

    proptest! {
        #[test]
        fn decoders_survive_anything(bytes: Vec<u8>) {
            let _ = VersionEdit::decode(&bytes);
            let _ = decode_file(&bytes, 1);
            let _ = decode_current(&bytes);
            let mut with_header = file(1, &[edit(7)]);
            with_header.extend_from_slice(&bytes);
            prop_assert_eq!(decode_file(&with_header, 1).unwrap().0.len(), 1);
        }
    }
}
