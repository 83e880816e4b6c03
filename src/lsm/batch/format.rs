//! Bytes of a write batch and of the log record that carries a commit group.
//!
//! A batch is a run of operations, each:
//!
//! | size | field |
//! |---|---|
//! | 1 | bits 0 to 6, kind: 0 delete, 1 put, 2 range delete, 3 merge, 4 put that expires; others are reserved and refused. Bit 7: a keyspace follows, else it is 0 |
//! | varint | number of the keyspace, at least 1 (with bit 7 only); 4,294,967,295: of none, the operation does nothing |
//! | varint | key length, at most 65,535 |
//! | ... | key; of a range delete the first one |
//! | varint | value length (not of a delete), at most 1 GiB |
//! | ... | value (not of a delete); of a merge its operand, of a range delete the key that it ends before, empty if it has no end, of kind 4 as [`ttl`](crate::lsm::ttl) says |
//!
//! A log record is the payload of one DATA frame of the log, little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | sequence number of the first operation |
//! | 8 | 4 | number of operations, at least 1; operation `i` has sequence number first + `i` |
//! | 12 | ... | operations of every batch of the group, in commit order |
//!
//! The frame around it carries length and checksum (position included), so a record is whole or absent; anything else
//! found here is damage that the checksum missed, or a program error. It evolves by new kinds.
//!
//! Example: `put("k", "v")` as commit 7 is `07 00 00 00 00 00 00 00  01 00 00 00  01 01 6b 01 76`.

use crate::base::coding::{Decoder, put_slice, put_varint};
use crate::base::key::{SeqNum, ValueKind};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::lsm::ranges::ends_behind;
use crate::lsm::ttl::format::{EXPIRY_BYTES, is_committed};

/// Bytes before the operations of a log record.
pub const RECORD_HEADER_BYTES: usize = 12;
const _: () = assert!(RECORD_HEADER_BYTES == size_of::<u64>() + size_of::<u32>());

/// The number of no keyspace: an operation there does nothing but use up its sequence number, for tables that were ingested.
pub const NOWHERE: u32 = u32::MAX;
/// Says that the number of a keyspace follows the kind.
const KEYSPACE_FOLLOWS: u8 = 0x80;

/// One operation of a batch; the value of a delete is empty, that of a range delete the key that it ends before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Number of the keyspace, 0 for the default one.
    pub keyspace: u32,
    /// What it does to the key.
    pub kind: ValueKind,
    /// The key; of a range delete the first one.
    pub key: &'a [u8],
    /// The value of a put, the operand of a merge, the end of a range delete, else empty.
    pub value: &'a [u8],
}

/// Appends one operation.
#[inline]
pub fn put_operation(out: &mut Vec<u8>, operation: Operation<'_>) {
    if operation.keyspace == 0 {
        out.push(operation.kind as u8);
    } else {
        out.push(operation.kind as u8 | KEYSPACE_FOLLOWS);
        put_varint(out, operation.keyspace.into());
    }
    put_slice(out, operation.key);
    if operation.kind != ValueKind::Delete {
        put_slice(out, operation.value);
    }
}

/// Returns the header of a log record of `count` operations from sequence number `first`.
pub fn record_header(first: SeqNum, count: u32) -> [u8; RECORD_HEADER_BYTES] {
    assert!(count > 0, "a log record without operations");
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..8].copy_from_slice(&first.0.to_le_bytes());
    header[8..].copy_from_slice(&count.to_le_bytes());
    header
}

/// A decoded log record; its operations were checked whole.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Sequence number of the first operation.
    pub first: SeqNum,
    /// Number of operations.
    pub count: u32,
    operations: &'a [u8],
}

impl<'a> Record<'a> {
    /// Returns the operations in order.
    pub fn operations(&self) -> Operations<'a> {
        Operations::new(self.operations)
    }
}

/// Decodes and checks a whole log record; the error says what is wrong.
pub fn decode_record(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    let mut decoder = Decoder::new(bytes);
    let first = decoder.u64().ok_or("log record shorter than its header")?;
    let count = decoder.u32().ok_or("log record shorter than its header")?;
    if count == 0 {
        return Err("log record without operations");
    }
    if first == 0 || first.checked_add(u64::from(count)).is_none_or(|end| end > SeqNum::MAX.0) {
        return Err("log record with a sequence number out of range");
    }
    let operations = decoder.rest();
    let mut seen = 0u32;
    for operation in Operations::new(operations) {
        let operation = operation?;
        if operation.kind == ValueKind::PutTtl && !is_committed(operation.value) {
            return Err("operation with no moment at which its value expires");
        }
        seen = seen.saturating_add(1);
    }
    if seen != count {
        return Err("log record with another number of operations than its header says");
    }
    Ok(Record { first: SeqNum(first), count, operations })
}

/// Walks operations of unknown origin; after an error it ends.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    rest: Decoder<'a>,
    failed: bool,
}

impl<'a> Operations<'a> {
    /// Starts at the first operation of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Operations<'a> {
        Operations { rest: Decoder::new(bytes), failed: false }
    }

    #[inline]
    fn decode(&mut self) -> Result<Operation<'a>, &'static str> {
        let first = self.rest.u8().ok_or("operation without a kind")?;
        let kind = ValueKind::from_u8(first & !KEYSPACE_FOLLOWS).ok_or("operation of an unknown kind")?;
        let keyspace = if first & KEYSPACE_FOLLOWS == 0 { 0 } else { self.decode_keyspace()? };
        let key = self.rest.slice().ok_or("operation with its key cut short")?;
        let value = match kind {
            ValueKind::Delete => &[],
            ValueKind::Put | ValueKind::Merge | ValueKind::PutTtl | ValueKind::RangeDelete => {
                self.rest.slice().ok_or("operation with its value cut short")?
            }
        };
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err("operation with a key or value over its limit");
        }
        if kind == ValueKind::RangeDelete && (value.len() > KEY_BYTES_MAX || !ends_behind(value, key)) {
            return Err("range delete with an end over its limit or not behind its begin");
        }
        if kind == ValueKind::PutTtl && value.len() < EXPIRY_BYTES {
            return Err("operation with its expiry cut short");
        }
        Ok(Operation { keyspace, kind, key, value })
    }

    fn decode_keyspace(&mut self) -> Result<u32, &'static str> {
        let number = self.rest.varint().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| *number > 0).ok_or("operation with the number of its keyspace out of range")
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>, &'static str>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let operation = self.decode();
        self.failed = operation.is_err();
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn worked_example() {
        let mut bytes = record_header(SeqNum(7), 1).to_vec();
        put_operation(&mut bytes, Operation { keyspace: 0, kind: ValueKind::Put, key: b"k", value: b"v" });
        assert_eq!(bytes, b"\x07\0\0\0\0\0\0\0\x01\0\0\0\x01\x01k\x01v");
        let record = decode_record(&bytes).unwrap();
        assert_eq!((record.first, record.count), (SeqNum(7), 1));
        assert_eq!(record.operations().next().unwrap().unwrap().value, b"v");
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut bytes = record_header(SeqNum(7), 3).to_vec();
        put_operation(&mut bytes, Operation { keyspace: 300, kind: ValueKind::Put, key: b"k", value: b"v" });
        put_operation(&mut bytes, Operation { keyspace: 0, kind: ValueKind::Delete, key: b"k2", value: b"" });
        put_operation(&mut bytes, Operation { keyspace: 5, kind: ValueKind::RangeDelete, key: b"", value: b"k" });
        for len in 0..bytes.len() {
            assert!(decode_record(&bytes[..len]).is_err(), "length {len}");
        }
        let operations: Vec<_> = decode_record(&bytes).unwrap().operations().map(Result::unwrap).collect();
        assert_eq!(operations.iter().map(|operation| operation.keyspace).collect::<Vec<_>>(), [300, 0, 5]);
    }

    #[test]
    fn a_range_delete_of_nothing_is_refused() {
        for (key, value, legal) in
            [(&b"a"[..], &b"b"[..], true), (b"a", b"", true), (b"a", b"a", false), (b"b", b"a", false)]
        {
            let mut bytes = record_header(SeqNum(7), 1).to_vec();
            put_operation(&mut bytes, Operation { keyspace: 0, kind: ValueKind::RangeDelete, key, value });
            assert_eq!(decode_record(&bytes).is_ok(), legal, "{key:?} to {value:?}");
        }
    }

    proptest! {
        #[test]
        fn decoder_survives_anything(bytes: Vec<u8>) {
            let _ = decode_record(&bytes);
        }
    }
}
