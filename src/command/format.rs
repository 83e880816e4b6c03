//! How databases lie in a store: the keys, and the record that says what a user's key is.
//!
//! **Store keys.** The first byte is the zone. Integers in keys are big-endian, so that bytes sort as numbers.
//!
//! | zone | rest of the key | value |
//! |---|---|---|
//! | 0 system | `"layout"` | which epoch each database has, see below |
//! | 0 system | `"count"`, epoch u32 | keys u64, keys with an expiry u64 |
//! | 1 record | epoch u32, slot u16, hash u32, user key | the record of one key, see below |
//! | 2 subkey | epoch u32, slot u16, user key length u32, user key, version u64, what the type needs | of the type |
//! | 3 expiry | epoch u32, milliseconds u64, slot u16, hash u32, user key | empty |
//!
//! An epoch is one life of a database: `FLUSHDB` gives it a new epoch and the old one's keys are removed later. Within an
//! epoch, slots of Redis Cluster are ranges, so that a slot moves as a range. `hash` is the upper half of `hash64(key, 0)`:
//! slot and hash together are the 46-bit **position** of a key, and `SCAN` cursors are positions, good for ever.
//!
//! **Record.** Integers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | type: 1 string, 2 list, 3 set, 4 sorted set, 5 hash, 6 stream; others are reserved and refused |
//! | 1 | 1 | flags: 1 EXPIRY, 2 SPLIT, 12 (two bits) string encoding; the other four are reserved, zero, and refused |
//! | 2 | 8 | if EXPIRY: milliseconds since 1970 at which the key is gone |
//! | . | 8 | if SPLIT: version, different in each life of the key; a subkey of another version is dead |
//! | . | 8 | if SPLIT: number of elements |
//! | . | rest | payload: the string; a small collection, packed; or for SPLIT, hints of the type (first and last element) |
//!
//! String encoding: 0 as the value suggests (integer, short or long text), 1 grown in place (`raw`), 2 text though it
//! looks like an integer. It is what `OBJECT ENCODING` tells and has no other meaning. A string is never SPLIT.
//! Deleting a key deletes its record alone; what it leaves in zone 2 is dead by its version.
//!
//! **Layout.** format version u8 (1), next epoch u32, number of databases u32, an epoch u32 for each, then number of dead
//! epochs u32 and those. Nothing may follow.
//!
//! A store checks its bytes, so there are no checksums here; a decoder still meets arbitrary bytes with `None`.
//! Example: `SET a 7 PX ..` at slot 15495 is key `01 | 00000000 | 3c87 | hash | 61`, value `01 01 | expiry | 37`.

use super::slot::slot;
use crate::base::coding::{Decoder, put_u32, put_u64};
use crate::base::hash::hash64;
use crate::base::limits;

/// Longest user key in bytes; what surrounds it in a store key fits beside it.
pub const USER_KEY_BYTES_MAX: usize = limits::KEY_BYTES_MAX - 64;
/// Positions are below this.
pub const POSITION_END: u64 = 1 << 46;
/// Store key of the layout.
pub const LAYOUT_KEY: &[u8] = b"\x00layout";

const LAYOUT_VERSION: u8 = 1;
const FLAG_EXPIRY: u8 = 1;
const FLAG_SPLIT: u8 = 2;
const ENCODING_SHIFT: u8 = 2;
const FLAGS_KNOWN: u8 = 0b1111;

/// First byte of a store key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Zone {
    /// What the databases know of themselves.
    System = 0,
    /// One record for each key.
    Record = 1,
    /// Elements of split collections.
    Subkey = 2,
    /// Keys by time of expiry.
    Expiry = 3,
}

/// The type of a key.
#[expect(missing_docs, reason = "each is the type of that name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    String = 1,
    List = 2,
    Set = 3,
    Zset = 4,
    Hash = 5,
    Stream = 6,
}

impl Kind {
    /// Decodes the stored number.
    pub fn from_u8(number: u8) -> Option<Kind> {
        [Kind::String, Kind::List, Kind::Set, Kind::Zset, Kind::Hash, Kind::Stream]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// Returns what `TYPE` replies.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// How a string wants to be called by `OBJECT ENCODING`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// By its value: `int`, `embstr` or `raw`.
    #[default]
    ByValue = 0,
    /// `raw`, having grown in place.
    Raw = 1,
    /// Text by its length, even if it looks like an integer.
    Text = 2,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type.
    pub kind: Kind,
    /// For strings.
    pub encoding: Encoding,
    /// When the key is gone, in milliseconds since 1970.
    pub expiry: Option<u64>,
    /// Version and number of elements of a split collection.
    pub split: Option<(u64, u64)>,
    /// Where the payload begins in the record.
    pub payload_at: usize,
}

impl Header {
    /// Returns the header of a string.
    pub fn string(encoding: Encoding, expiry: Option<u64>) -> Header {
        Header { kind: Kind::String, encoding, expiry, split: None, payload_at: if expiry.is_some() { 10 } else { 2 } }
    }

    /// Reads the front of a record; `None` if no record begins so.
    #[inline]
    pub fn decode(record: &[u8]) -> Option<Header> {
        let mut decoder = Decoder::new(record);
        let kind = Kind::from_u8(decoder.u8()?)?;
        let flags = decoder.u8()?;
        if flags & !FLAGS_KNOWN != 0 {
            return None;
        }
        let encoding = match flags >> ENCODING_SHIFT {
            0 => Encoding::ByValue,
            1 if kind == Kind::String => Encoding::Raw,
            2 if kind == Kind::String => Encoding::Text,
            _ => return None,
        };
        let expiry = if flags & FLAG_EXPIRY != 0 { Some(decoder.u64()?) } else { None };
        let split = if flags & FLAG_SPLIT == 0 {
            None
        } else if kind == Kind::String {
            return None;
        } else {
            Some((decoder.u64()?, decoder.u64()?))
        };
        Some(Header { kind, encoding, expiry, split, payload_at: decoder.position() })
    }

    /// Appends the front of a record.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let expiry = if self.expiry.is_some() { FLAG_EXPIRY } else { 0 };
        let split = if self.split.is_some() { FLAG_SPLIT } else { 0 };
        out.extend_from_slice(&[self.kind as u8, expiry | split | (self.encoding as u8) << ENCODING_SHIFT]);
        if let Some(expiry) = self.expiry {
            put_u64(out, expiry);
        }
        if let Some((version, size)) = self.split {
            put_u64(out, version);
            put_u64(out, size);
        }
    }

    /// Tells whether the key is gone at `now_ms`.
    #[inline]
    pub fn expired(&self, now_ms: u64) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now_ms)
    }
}

/// Hashes a user key, for its position and for everything else that wants a hash of it.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    hash64(key, 0)
}

/// Returns slot and hash of a key as one number, by which keys are ordered.
#[inline]
pub fn position(key: &[u8], key_hash: u64) -> u64 {
    u64::from(slot(key)) << 32 | key_hash >> 32
}

/// Begins a store key of `zone` and `epoch`.
#[inline]
pub fn put_prefix(out: &mut Vec<u8>, zone: Zone, epoch: u32) {
    out.push(zone as u8);
    out.extend_from_slice(&epoch.to_be_bytes());
}

/// Appends a position to a store key.
#[inline]
pub fn put_position(out: &mut Vec<u8>, position: u64) {
    debug_assert!(position < POSITION_END);
    out.extend_from_slice(&position.to_be_bytes()[2..]);
}

/// Appends the store key of a user key's record.
#[inline]
pub fn put_record_key(out: &mut Vec<u8>, epoch: u32, position: u64, key: &[u8]) {
    out.reserve(11 + key.len());
    put_prefix(out, Zone::Record, epoch);
    put_position(out, position);
    out.extend_from_slice(key);
}

/// Reads position and user key from a record's store key.
#[inline]
pub fn parse_record_key(raw: &[u8]) -> Option<(u64, &[u8])> {
    let (head, key) = raw.split_first_chunk::<11>()?;
    if head[0] != Zone::Record as u8 {
        return None;
    }
    let mut position = [0; 8];
    position[2..].copy_from_slice(&head[5..]);
    let position = u64::from_be_bytes(position);
    (position < POSITION_END).then_some((position, key))
}

/// Appends the store key that lists a user key under its time of expiry.
pub fn put_expiry_key(out: &mut Vec<u8>, epoch: u32, expiry: u64, position: u64, key: &[u8]) {
    put_prefix(out, Zone::Expiry, epoch);
    out.extend_from_slice(&expiry.to_be_bytes());
    put_position(out, position);
    out.extend_from_slice(key);
}

/// Reads time of expiry, position and user key from a store key of the expiry zone.
pub fn parse_expiry_key(raw: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (head, rest) = raw.split_first_chunk::<13>()?;
    let (at, key) = rest.split_first_chunk::<6>()?;
    if head[0] != Zone::Expiry as u8 {
        return None;
    }
    let mut position = [0; 8];
    position[2..].copy_from_slice(at);
    let position = u64::from_be_bytes(position);
    (position < POSITION_END).then_some((u64::from_be_bytes(*head.last_chunk()?), position, key))
}

/// Returns the first store key of `zone` and `epoch`, and the first one after all of them.
pub fn epoch_range(zone: Zone, epoch: u32) -> (Vec<u8>, Vec<u8>) {
    let mut from = Vec::with_capacity(5);
    put_prefix(&mut from, zone, epoch);
    let mut to = Vec::with_capacity(5);
    match epoch.checked_add(1) {
        Some(next) => put_prefix(&mut to, zone, next),
        None => to.push(zone as u8 + 1),
    }
    (from, to)
}

/// Returns the store key of an epoch's counters.
pub fn count_key(epoch: u32) -> Vec<u8> {
    [&b"\x00count"[..], &epoch.to_be_bytes()].concat()
}

/// Encodes the counters of an epoch: keys, and keys with an expiry.
pub fn encode_counts(keys: u64, expires: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put_u64(&mut out, keys);
    put_u64(&mut out, expires);
    out
}

/// Decodes the counters of an epoch.
pub fn decode_counts(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut decoder = Decoder::new(bytes);
    let counts = (decoder.u64()?, decoder.u64()?);
    (decoder.is_empty() && counts.1 <= counts.0).then_some(counts)
}

/// Which epoch each database has, and which epochs are dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number that the next new epoch gets.
    pub next_epoch: u32,
    /// By database.
    pub epochs: Vec<u32>,
    /// Epochs whose keys are still to be removed.
    pub dead: Vec<u32>,
}

impl Layout {
    /// Encodes the layout.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![LAYOUT_VERSION];
        put_u32(&mut out, self.next_epoch);
        for list in [&self.epochs, &self.dead] {
            put_u32(&mut out, u32::try_from(list.len()).expect("databases and dead epochs are far fewer"));
            list.iter().for_each(|&epoch| put_u32(&mut out, epoch));
        }
        out
    }

    /// Decodes a layout; `None` if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Layout> {
        let mut decoder = Decoder::new(bytes);
        if decoder.u8()? != LAYOUT_VERSION {
            return None;
        }
        let next_epoch = decoder.u32()?;
        let mut list = || {
            let len = decoder.u32()? as usize;
            let mut bytes = Decoder::new(decoder.take(len.checked_mul(4)?)?);
            (0..len).map(|_| bytes.u32().filter(|&epoch| epoch < next_epoch)).collect::<Option<Vec<u32>>>()
        };
        let layout = Layout { next_epoch, epochs: list()?, dead: list()? };
        decoder.is_empty().then_some(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let mut key = Vec::new();
        put_record_key(&mut key, 3, position(b"a", key_hash(b"a")), b"a");
        assert_eq!(key, b"\x01\0\0\0\x03\x3c\x87\x6c\xf8\x4e\x5a\x61");
        let mut record = Vec::new();
        Header::string(Encoding::Raw, Some(0x0102)).encode(&mut record);
        assert_eq!(record, b"\x01\x05\x02\x01\0\0\0\0\0\0");
        let layout = Layout { next_epoch: 9, epochs: vec![1, 8], dead: vec![2] };
        assert_eq!(layout.encode(), b"\x01\x09\0\0\0\x02\0\0\0\x01\0\0\0\x08\0\0\0\x01\0\0\0\x02\0\0\0");
        assert_eq!(count_key(1), b"\0count\0\0\0\x01");
    }

    #[test]
    fn reserved_values_are_refused() {
        for record in [&b""[..], b"\x01", b"\x00\x00", b"\x07\x00", b"\x01\x10", b"\x01\x02", b"\x01\x0c", b"\x02\x04"]
        {
            assert_eq!(Header::decode(record), None, "{record:?}");
        }
        assert_eq!(Header::decode(b"\x01\x01\0\0\0"), None, "expiry cut short");
    }

    #[test]
    fn positions_out_of_range_are_refused() {
        assert_eq!(parse_record_key(b"\x01\0\0\0\x03\x40\0\0\0\0\0a"), None);
        assert_eq!(parse_record_key(b"\x01\0\0\0\x03\x3f\xff\xff\xff\xff\xffa"), Some((POSITION_END - 1, &b"a"[..])));
        assert_eq!(parse_expiry_key(b"\x03\0\0\0\x03\0\0\0\0\0\0\0\x01\xff\0\0\0\0\0a"), None);
    }

    proptest! {
        #[test]
        fn headers_round_trip(kind in 1u8..=6, encoding in 0u8..3, expiry: Option<u64>, split: Option<(u64, u64)>) {
            let kind = Kind::from_u8(kind).expect("in range");
            let string = kind == Kind::String;
            let encoding = [Encoding::ByValue, Encoding::Raw, Encoding::Text][if string { encoding.into() } else { 0 }];
            let split = split.filter(|_| !string);
            let mut out = Vec::new();
            Header { kind, encoding, expiry, split, payload_at: 0 }.encode(&mut out);
            let expected = Header { kind, encoding, expiry, split, payload_at: out.len() };
            out.extend_from_slice(b"payload");
            prop_assert_eq!(Header::decode(&out), Some(expected));
        }

        #[test]
        fn keys_round_trip(epoch: u32, expiry: u64, key: Vec<u8>) {
            let at = position(&key, key_hash(&key));
            let mut raw = Vec::new();
            put_record_key(&mut raw, epoch, at, &key);
            prop_assert_eq!(parse_record_key(&raw), Some((at, &key[..])));
            let (from, to) = epoch_range(Zone::Record, epoch);
            prop_assert!(from <= raw && raw < to);
            raw.clear();
            put_expiry_key(&mut raw, epoch, expiry, at, &key);
            prop_assert_eq!(parse_expiry_key(&raw), Some((expiry, at, &key[..])));
        }

        #[test]
        fn decoders_survive_anything(bytes: Vec<u8>) {
            Header::decode(&bytes);
            parse_record_key(&bytes);
            parse_expiry_key(&bytes);
            decode_counts(&bytes);
            if let Some(layout) = Layout::decode(&bytes) {
                prop_assert_eq!(layout.encode(), bytes);
            }
        }
    }
}
