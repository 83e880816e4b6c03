//! The payload of a FOOTER frame: the index of a sealed segment. Little-endian, as all of the log. Pure functions.
//!
//! Encoded by the log when it ends a segment of a log with `LogOptions::index`; decoded by readers, verification and the archive,
//! on any thread and any input: decoding never panics, and allocates no more than the payload has.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 24 n | entries, oldest first: id (8), time (8), offset from the segment's base LSN (4), 0 (4) |
//! | 24 n | 8 | frames of the caller (DATA, META, REWRITE) |
//! | + 8 | 8 | records: the sum of the counts of DATA frames |
//! | + 16 | 8 | payload bytes of the caller's frames |
//! | + 24 | 8 | id of the first record of a DATA frame; if there is none, the next id |
//! | + 32 | 8 | next id: after the last record of a DATA frame |
//! | + 40 | 8 | time of the first frame of the caller, microseconds since 1970; 0 if there is none |
//! | + 48 | 8 | time of the last frame of the caller; 0 if there is none |
//! | + 56 | 8 | CRC-64/NVME of the file from offset 0 to the start of the FOOTER frame, segment header included |
//! | + 64 | 4 | n |
//! | + 68 | 4 | length of this payload: 24 n + 72 |
//!
//! **Finding it.** The FOOTER is the last frame of its segment and ends without padding, so the four bytes before the
//! segment's end are its payload's length, and its frame begins that and a frame header earlier. Its frame is checked like any
//! other; what looks like a length and is none leads to bytes that fail.
//!
//! **Which segments have one:** those of version 2 that were ended by a roll or a seal. A segment that a crash ended has
//! none; nor has one of a log without index.
//!
//! **Entries** are as in [`SparseIndex`]: the first DATA frame, then each first one that begins 4096 bytes
//! or more behind the entry before.
//!
//! **Worked example.** One DATA frame of one record `hello`, id 7, time 1,000,000, at the base LSN, and a CRC-64 of 9:
//! `0700000000000000 40420f0000000000 00000000 00000000 0100000000000000 0100000000000000 0500000000000000 0700000000000000
//! 0800000000000000 40420f0000000000 40420f0000000000 0900000000000000 01000000 60000000`.

use super::super::format::{ALIGN, FRAME_BYTES, Fault, frame_bytes};
use super::{IndexEntry, SegmentIndex, SparseIndex};
use crate::base::coding::{Decoder, put_u32, put_u64};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 24;
/// Bytes of a footer's payload without entries.
pub const FOOTER_FIXED_BYTES: usize = 72;
/// Bytes at the end of a segment that hold the length of its footer's payload.
pub const FOOTER_LEN_BYTES: usize = 4;

const _: () = assert!(8 + 8 + 4 + 4 == ENTRY_BYTES && 8 * 8 + 4 + FOOTER_LEN_BYTES == FOOTER_FIXED_BYTES);
const _: () = assert!(ENTRY_BYTES.is_multiple_of(ALIGN as usize) && FOOTER_FIXED_BYTES.is_multiple_of(ALIGN as usize));
const _: () = assert!(FRAME_BYTES.is_multiple_of(ALIGN as usize), "a footer has no padding");

/// Returns the bytes of the FOOTER frame of an index with `entries` entries.
pub const fn footer_frame_bytes(entries: usize) -> u64 {
    frame_bytes((entries * ENTRY_BYTES + FOOTER_FIXED_BYTES) as u64)
}

/// Returns where the FOOTER frame begins in a segment that ends at offset `end`, if it has one, from its last four bytes.
pub fn footer_start(last: [u8; FOOTER_LEN_BYTES], end: u64) -> Option<u64> {
    let len = u32::from_le_bytes(last);
    let is_len = len as usize >= FOOTER_FIXED_BYTES && (len as usize - FOOTER_FIXED_BYTES).is_multiple_of(ENTRY_BYTES);
    end.checked_sub(frame_bytes(u64::from(len))).filter(|_| is_len)
}

/// What a footer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// The index and the counts.
    pub index: SegmentIndex,
    /// CRC-64/NVME of the file up to the FOOTER frame.
    pub crc64: u64,
}

impl Footer {
    /// Returns the payload, for a segment that begins at `base_lsn`.
    pub fn encode(&self, base_lsn: u64) -> Vec<u8> {
        let index = &self.index;
        let entries = index.sparse.entries();
        let len = entries.len() * ENTRY_BYTES + FOOTER_FIXED_BYTES;
        let mut out = Vec::with_capacity(len);
        for entry in entries {
            put_u64(&mut out, entry.id);
            put_u64(&mut out, entry.ts);
            let offset = u32::try_from(entry.lsn - base_lsn);
            put_u32(&mut out, offset.unwrap_or_else(|_| unreachable!("a segment with two frames is below 4 GiB")));
            put_u32(&mut out, 0);
        }
        let ids = [index.first_id.unwrap_or(index.next_id), index.next_id];
        let counts = [index.frames, index.records, index.payload_bytes, ids[0], ids[1]];
        for number in counts.into_iter().chain([index.first_ts, index.last_ts, self.crc64]) {
            put_u64(&mut out, number);
        }
        put_u32(&mut out, entries.len() as u32);
        put_u32(&mut out, len as u32);
        assert_eq!(out.len(), len, "the length is what was reckoned");
        out
    }

    /// Reads the payload of the FOOTER frame of a segment that begins at `base_lsn`.
    ///
    /// # Errors
    /// [`Fault::Short`], [`Fault::Reserved`] or [`Fault::Contradiction`]; `payload` may hold anything.
    pub fn decode(payload: &[u8], base_lsn: u64) -> Result<Footer, Fault> {
        let (entries, fixed) = payload
            .len()
            .checked_sub(FOOTER_FIXED_BYTES)
            .and_then(|at| payload.split_at_checked(at))
            .ok_or(Fault::Short)?;
        let mut fixed = Decoder::new(fixed);
        let mut number = || fixed.u64().ok_or(Fault::Short);
        let [frames, records, payload_bytes, first_id, next_id] =
            [number()?, number()?, number()?, number()?, number()?];
        let [first_ts, last_ts, crc64] = [number()?, number()?, number()?];
        let (count, len) = (fixed.u32().ok_or(Fault::Short)?, fixed.u32().ok_or(Fault::Short)?);
        if len as usize != payload.len() || (count as usize).checked_mul(ENTRY_BYTES) != Some(entries.len()) {
            return Err(Fault::Contradiction);
        }
        let mut decoded: Vec<IndexEntry> = Vec::with_capacity(entries.len() / ENTRY_BYTES);
        let mut entries = Decoder::new(entries);
        while !entries.is_empty() {
            let (id, ts) = (entries.u64().ok_or(Fault::Short)?, entries.u64().ok_or(Fault::Short)?);
            let (offset, zero) = (entries.u32().ok_or(Fault::Short)?, entries.u32().ok_or(Fault::Short)?);
            let lsn = base_lsn.checked_add(u64::from(offset)).ok_or(Fault::Contradiction)?;
            if zero != 0 {
                return Err(Fault::Reserved);
            }
            let follows = decoded.last().is_none_or(|last| last.lsn < lsn && last.ts <= ts);
            if !follows || !u64::from(offset).is_multiple_of(ALIGN) {
                return Err(Fault::Contradiction);
            }
            decoded.push(IndexEntry { id, ts, lsn });
        }
        if decoded.is_empty() && (records != 0 || first_id != next_id) {
            return Err(Fault::Contradiction);
        }
        let index = SegmentIndex {
            first_id: (!decoded.is_empty()).then_some(first_id),
            sparse: SparseIndex::from_entries(decoded),
            frames,
            records,
            payload_bytes,
            next_id,
            first_ts,
            last_ts,
        };
        Ok(Footer { index, crc64 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::format::FrameKind;
    use super::super::Noted;
    use super::*;
    use proptest::prelude::*;

    fn example() -> Footer {
        let mut index = SegmentIndex::new(7);
        index.note(&Noted { lsn: 48, kind: FrameKind::Data, count: 1, len: 5, first_id: 7, ts: 1_000_000 });
        Footer { index, crc64: 9 }
    }

    #[test]
    fn worked_example_is_in_the_documentation() {
        let payload = example().encode(48);
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let source = include_str!("format.rs").replace("\n//! ", " ");
        let shown = source.split("a CRC-64 of 9: `").nth(1).and_then(|rest| rest.split('`').next()).unwrap_or_default();
        let shown: String = shown.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(shown, hex);
        assert_eq!(Footer::decode(&payload, 48), Ok(example()));
    }

    #[test]
    fn footer_is_found_from_the_end() {
        let payload = example().encode(48);
        let frame = footer_frame_bytes(1);
        assert_eq!(frame, 40 + payload.len() as u64);
        assert_eq!(footer_start(*payload.last_chunk().unwrap(), 5000), Some(5000 - frame));
        assert_eq!(footer_start(*payload.last_chunk().unwrap(), frame - 1), None);
        assert_eq!(footer_start([0; 4], 5000), None);
        assert_eq!(footer_start([73, 0, 0, 0], 5000), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>, base: u64) {
            let _ = Footer::decode(&bytes, base);
        }

        #[test]
        fn footers_round_trip(frames in proptest::collection::vec((0u8..3, 1u16..5, 1u32..9000, 0u64..10), 0..60), crc64: u64, base in 0u64..1 << 50) {
            let mut index = SegmentIndex::new(1);
            let (mut lsn, mut id, mut ts) = (base * 8, 1, 5);
            for (kind, count, len, passed) in frames {
                let kind = [FrameKind::Data, FrameKind::Meta, FrameKind::Mark][kind as usize];
                ts += passed;
                index.note(&Noted { lsn, kind, count, len, first_id: id, ts });
                if kind == FrameKind::Data {
                    id += u64::from(count);
                }
                lsn += frame_bytes(u64::from(len));
            }
            let footer = Footer { index, crc64 };
            let payload = footer.encode(base * 8);
            prop_assert_eq!(frame_bytes(payload.len() as u64), footer_frame_bytes(footer.index.sparse.entries().len()));
            prop_assert_eq!(Footer::decode(&payload, base * 8), Ok(footer));
        }
    }
}
