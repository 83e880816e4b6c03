//! The bytes of the manifest: the payloads of its log's frames, little-endian. Pure functions over slices.
//!
//! The manifest is a log of its own ([`aof::format`](crate::aof::format) has its frames, with checksums, order and torn tails).
//! Each frame of kind META holds the edits of one commit, which count together or not at all. Each frame of kind REWRITE holds
//! the edits that make the whole state out of an empty one: what lies before it no longer counts. The first frame that
//! counts is a REWRITE.
//!
//! # Payload
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | ... | edits, back to back, at least one |
//!
//! # Edit: a tag byte, then its fields
//!
//! `v` is a varint, `slice` a varint length and as many bytes.
//!
//! | tag | edit | fields |
//! |---|---|---|
//! | 1 | log id | 16 bytes |
//! | 2 | first id | v |
//! | 3 | fence | v |
//! | 4 | pin | name slice (UTF-8), id v |
//! | 5 | unpin | name slice |
//! | 6 | entry | number v, status 1 byte, base LSN v, end LSN v, base id v, next id v, base time v, last time v, records v, original bytes v, original CRC-64 8 bytes, key slice, archived bytes v, archived CRC-64 8 bytes |
//! | 7 | entry forgotten | number v |
//! | 8 | attempt | key slice, segment number v, since v, status 1 byte |
//! | 9 | attempt dropped | key slice |
//!
//! Status of an entry: 3 upload intent, 4 archived, 5 local deleted, 6 remote deleted. Status of an attempt: 1 live, 2 abandoned,
//! 3 collected. Positions count bytes, times microseconds since 1970; CRC-64 is NVME.
//!
//! **Validity.** A frame whose checksums are good and whose payload does not decode, or whose edits contradict the state
//! ([`ManifestState::apply`](super::state::ManifestState::apply)), is damage, whatever lies behind it.
//!
//! **Evolution.** Other versions, tags and status bytes are refused; new ones come with a new version.
//!
//! **Worked example.** A commit of two edits: first id 300; attempt `k` of segment 7 since time 5, abandoned:
//! `01 02 ac02 08 01 6b 07 05 02`.

use super::state::{Attempt, AttemptStatus, Edit, SegmentEntry, SegmentStatus};
use crate::aof::Lsn;
use crate::base::coding::{Decoder, put_slice, put_u64, put_varint};

const VERSION: u8 = 1;
const LOG_ID: u8 = 1;
const FIRST_ID: u8 = 2;
const FENCE: u8 = 3;
const PIN: u8 = 4;
const UNPIN: u8 = 5;
const ENTRY: u8 = 6;
const FORGET: u8 = 7;
const ATTEMPT: u8 = 8;
const DROP_ATTEMPT: u8 = 9;

const _: () = assert!(SegmentStatus::UploadIntent as u8 == 3 && SegmentStatus::RemoteDeleted as u8 == 6);
const _: () = assert!(AttemptStatus::Live as u8 == 1 && AttemptStatus::Collected as u8 == 3);

/// Returns the payload of `edits`.
pub fn encode(edits: &[Edit]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for edit in edits {
        put_edit(&mut out, edit);
    }
    out
}

fn put_edit(out: &mut Vec<u8>, edit: &Edit) {
    let number = |out: &mut Vec<u8>, tag, value: u64| {
        out.push(tag);
        put_varint(out, value);
    };
    let name = |out: &mut Vec<u8>, tag, value: &str| {
        out.push(tag);
        put_slice(out, value.as_bytes());
    };
    match edit {
        Edit::LogId(log_id) => {
            out.push(LOG_ID);
            out.extend_from_slice(log_id);
        }
        Edit::FirstId(id) => number(out, FIRST_ID, *id),
        Edit::Fence(fence) => number(out, FENCE, *fence),
        Edit::Pin { name: pin, id } => {
            name(out, PIN, pin);
            put_varint(out, *id);
        }
        Edit::Unpin { name: pin } => name(out, UNPIN, pin),
        Edit::Entry(entry) => {
            out.push(ENTRY);
            put_entry(out, entry);
        }
        Edit::Forget(segment) => number(out, FORGET, *segment),
        Edit::Attempt { key, attempt } => {
            name(out, ATTEMPT, key);
            put_varint(out, attempt.segment);
            put_varint(out, attempt.since);
            out.push(attempt.status as u8);
        }
        Edit::DropAttempt(key) => name(out, DROP_ATTEMPT, key),
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &SegmentEntry) {
    put_varint(out, entry.number);
    out.push(entry.status as u8);
    let numbers = [
        entry.base_lsn.0,
        entry.end_lsn.0,
        entry.base_id,
        entry.next_id,
        entry.base_ts,
        entry.max_ts,
        entry.records,
        entry.original_bytes,
    ];
    for number in numbers {
        put_varint(out, number);
    }
    put_u64(out, entry.original_crc64);
    put_slice(out, entry.archived_key.as_bytes());
    put_varint(out, entry.archived_bytes);
    put_u64(out, entry.archived_crc64);
}

/// Reads a payload.
///
/// # Errors
/// What is wrong; `payload` may hold anything.
pub fn decode(payload: &[u8]) -> Result<Vec<Edit>, &'static str> {
    let mut decoder = Decoder::new(payload);
    match decoder.u8() {
        None => return Err("it is empty"),
        Some(VERSION) => {}
        Some(_) => return Err("its version is newer than this program"),
    }
    let mut edits = Vec::new();
    while let Some(tag) = decoder.u8() {
        if !(LOG_ID..=DROP_ATTEMPT).contains(&tag) {
            return Err("it has an edit newer than this program");
        }
        edits.push(take_edit(tag, &mut decoder).ok_or("it has a malformed edit")?);
    }
    if edits.is_empty() { Err("it has no edit") } else { Ok(edits) }
}

fn take_edit(tag: u8, decoder: &mut Decoder<'_>) -> Option<Edit> {
    Some(match tag {
        LOG_ID => Edit::LogId(*decoder.take(16)?.first_chunk()?),
        FIRST_ID => Edit::FirstId(decoder.varint()?),
        FENCE => Edit::Fence(decoder.varint()?),
        PIN => Edit::Pin { name: take_name(decoder)?, id: decoder.varint()? },
        UNPIN => Edit::Unpin { name: take_name(decoder)? },
        ENTRY => Edit::Entry(take_entry(decoder)?),
        FORGET => Edit::Forget(decoder.varint()?),
        ATTEMPT => Edit::Attempt {
            key: take_name(decoder)?,
            attempt: Attempt {
                segment: decoder.varint()?,
                since: decoder.varint()?,
                status: match decoder.u8()? {
                    1 => AttemptStatus::Live,
                    2 => AttemptStatus::Abandoned,
                    3 => AttemptStatus::Collected,
                    _ => return None,
                },
            },
        },
        DROP_ATTEMPT => Edit::DropAttempt(take_name(decoder)?),
        _ => return None,
    })
}

fn take_name(decoder: &mut Decoder<'_>) -> Option<String> {
    Some(std::str::from_utf8(decoder.slice()?).ok()?.to_string())
}

fn take_entry(decoder: &mut Decoder<'_>) -> Option<SegmentEntry> {
    Some(SegmentEntry {
        number: decoder.varint()?,
        status: match decoder.u8()? {
            3 => SegmentStatus::UploadIntent,
            4 => SegmentStatus::Archived,
            5 => SegmentStatus::LocalDeleted,
            6 => SegmentStatus::RemoteDeleted,
            _ => return None,
        },
        base_lsn: Lsn(decoder.varint()?),
        end_lsn: Lsn(decoder.varint()?),
        base_id: decoder.varint()?,
        next_id: decoder.varint()?,
        base_ts: decoder.varint()?,
        max_ts: decoder.varint()?,
        records: decoder.varint()?,
        original_bytes: decoder.varint()?,
        original_crc64: decoder.u64()?,
        archived_key: take_name(decoder)?,
        archived_bytes: decoder.varint()?,
        archived_crc64: decoder.u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::manifest::ManifestState;
    use proptest::prelude::*;

    #[test]
    fn worked_example_is_in_the_documentation() {
        let attempt = Attempt { segment: 7, since: 5, status: AttemptStatus::Abandoned };
        let edits = [Edit::FirstId(300), Edit::Attempt { key: "k".into(), attempt }];
        let bytes = encode(&edits);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let source = include_str!("format.rs");
        let shown = source.lines().find_map(|line| line.strip_prefix("//! `01")).unwrap_or_default();
        let shown: String = shown.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(format!("01{shown}"), hex);
        assert_eq!(decode(&bytes), Ok(edits.to_vec()));
    }

    #[test]
    fn unknown_versions_tags_and_statuses_are_refused() {
        assert!(decode(&[]).is_err() && decode(&[1]).is_err());
        assert_eq!(decode(&[2, 2, 0]), Err("its version is newer than this program"));
        assert_eq!(decode(&[1, 10]), Err("it has an edit newer than this program"));
        assert_eq!(decode(&[1, 0]), Err("it has an edit newer than this program"));
        assert_eq!(decode(&[1, ATTEMPT, 1, b'k', 7, 5, 4]), Err("it has a malformed edit"));
        assert_eq!(decode(&[1, PIN, 1, 0xff, 7]), Err("it has a malformed edit"), "a name is UTF-8");
    }

    fn entries() -> impl Strategy<Value = SegmentEntry> {
        let status = prop_oneof![
            Just(SegmentStatus::UploadIntent),
            Just(SegmentStatus::Archived),
            Just(SegmentStatus::LocalDeleted),
            Just(SegmentStatus::RemoteDeleted)
        ];
        (any::<[u64; 12]>(), status, "[a-z0-9/]{0,40}").prop_map(|(numbers, status, archived_key)| SegmentEntry {
            number: numbers[0],
            status,
            base_lsn: Lsn(numbers[1]),
            end_lsn: Lsn(numbers[2]),
            base_id: numbers[3],
            next_id: numbers[4],
            base_ts: numbers[5],
            max_ts: numbers[6],
            records: numbers[7],
            original_bytes: numbers[8],
            original_crc64: numbers[9],
            archived_key,
            archived_bytes: numbers[10],
            archived_crc64: numbers[11],
        })
    }

    fn edits() -> impl Strategy<Value = Edit> {
        let attempt = (any::<u64>(), any::<u64>()).prop_map(|(segment, since)| Attempt {
            segment,
            since,
            status: AttemptStatus::Live,
        });
        prop_oneof![
            any::<[u8; 16]>().prop_map(Edit::LogId),
            any::<u64>().prop_map(Edit::FirstId),
            any::<u64>().prop_map(Edit::Fence),
            (any::<String>(), any::<u64>()).prop_map(|(name, id)| Edit::Pin { name, id }),
            any::<String>().prop_map(|name| Edit::Unpin { name }),
            entries().prop_map(Edit::Entry),
            any::<u64>().prop_map(Edit::Forget),
            (any::<String>(), attempt).prop_map(|(key, attempt)| Edit::Attempt { key, attempt }),
            any::<String>().prop_map(Edit::DropAttempt),
        ]
    }

    proptest! {
        #[test]
        fn edits_round_trip(edits in proptest::collection::vec(edits(), 1..8)) {
            prop_assert_eq!(decode(&encode(&edits)), Ok(edits));
        }

        #[test]
        fn any_bytes_decode_without_panic(mut bytes: Vec<u8>) {
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            let mut state = ManifestState::default();
            if let Ok(edits) = decode(&bytes) {
                for edit in &edits {
                    let _ = state.apply(edit);
                }
                prop_assert_eq!(decode(&encode(&edits)), Ok(edits));
            }
        }

        #[test]
        fn a_state_is_made_of_its_edits(edits in proptest::collection::vec(edits(), 0..20)) {
            let mut state = ManifestState::default();
            for edit in &edits {
                let _ = state.apply(edit);
            }
            let mut copy = ManifestState::default();
            for edit in decode(&encode(&state.edits())).unwrap() {
                prop_assert_eq!(copy.apply(&edit), Ok(()));
            }
            prop_assert_eq!(copy, state);
        }
    }
}
