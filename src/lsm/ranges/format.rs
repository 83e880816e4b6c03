//! Bytes of the range tombstones of a table: the payload of one sealed block, never compressed.
//!
//! | size | field |
//! |---|---|
//! | varint | number of fragments, at least 1 |
//!
//! and for each fragment, ascending:
//!
//! | size | field |
//! |---|---|
//! | varint | length of the key it begins with, at most 65,535 |
//! | ... | the key |
//! | varint | length of the key it ends before, at most 65,535; 0 in the last fragment if it has no end |
//! | ... | the key |
//! | varint | number of sequence numbers, at least 1 |
//! | varint each | the sequence numbers, descending, at least 1 |
//!
//! Fragments do not overlap: each begins at or after the end of the one before. Every key of a fragment is deleted at each of
//! its sequence numbers. The seal around the block carries checksum, file number and offset; what is wrong inside it is
//! damage all the same. It evolves with the version of the table.
//!
//! Example: `a` to `c` deleted at 5 and 9 is `01  01 61  01 63  02 09 05`.

use crate::base::coding::{Decoder, put_slice, put_varint};
use crate::base::key::SeqNum;
use crate::base::limits::KEY_BYTES_MAX;

/// A part of the key space with the range tombstones that cover all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The first key.
    pub begin: Vec<u8>,
    /// The key it ends before; empty if it has no end.
    pub end: Vec<u8>,
    /// The sequence numbers, descending.
    pub seqs: Vec<SeqNum>,
}

/// Appends `fragments`, which ascend and do not overlap.
pub fn encode(out: &mut Vec<u8>, fragments: &[Fragment]) {
    put_varint(out, fragments.len() as u64);
    for fragment in fragments {
        put_slice(out, &fragment.begin);
        put_slice(out, &fragment.end);
        put_varint(out, fragment.seqs.len() as u64);
        fragment.seqs.iter().for_each(|seq| put_varint(out, seq.0));
    }
}

/// Decodes and checks a whole block.
///
/// # Errors
/// The check that failed.
pub fn decode(bytes: &[u8]) -> Result<Vec<Fragment>, &'static str> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.varint().ok_or("range tombstones without their number")?;
    let mut fragments: Vec<Fragment> = Vec::new();
    for _ in 0..count {
        let fragment = fragment(&mut decoder)?;
        if fragments.last().is_some_and(|last| last.end.is_empty() || last.end > fragment.begin) {
            return Err("range tombstones are out of order");
        }
        fragments.push(fragment);
    }
    if fragments.is_empty() || !decoder.is_empty() {
        return Err("range tombstones of another number than the block says");
    }
    Ok(fragments)
}

fn fragment(decoder: &mut Decoder<'_>) -> Result<Fragment, &'static str> {
    let mut key = || decoder.slice().filter(|key| key.len() <= KEY_BYTES_MAX).map(<[u8]>::to_vec);
    let (begin, end) = key().zip(key()).ok_or("a range tombstone with a key cut short or over its limit")?;
    if !end.is_empty() && end <= begin {
        return Err("a range tombstone that ends before it begins");
    }
    let count = decoder.varint().ok_or("a range tombstone ends early")?;
    let mut seqs: Vec<SeqNum> = Vec::new();
    for _ in 0..count {
        let seq = decoder.varint().map(SeqNum).ok_or("a range tombstone ends early")?;
        let newest = seqs.last().map_or(SeqNum(SeqNum::MAX.0 + 1), |last| *last);
        if seq >= newest || seq == SeqNum(0) {
            return Err("a range tombstone with its sequence numbers out of order");
        }
        seqs.push(seq);
    }
    if seqs.is_empty() {
        return Err("a range tombstone without a sequence number");
    }
    Ok(Fragment { begin, end, seqs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragments() -> Vec<Fragment> {
        let seqs = |seqs: &[u64]| seqs.iter().map(|seq| SeqNum(*seq)).collect();
        vec![
            Fragment { begin: b"a".to_vec(), end: b"c".to_vec(), seqs: seqs(&[9, 5]) },
            Fragment { begin: b"c".to_vec(), end: vec![], seqs: seqs(&[300]) },
        ]
    }

    #[test]
    fn worked_example() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &fragments()[..1]);
        assert_eq!(bytes, b"\x01\x01a\x01c\x02\x09\x05");
    }

    #[test]
    fn fragments_round_trip_and_every_truncation_is_refused() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &fragments());
        assert_eq!(decode(&bytes), Ok(fragments()));
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "length {len}");
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err());
    }

    #[test]
    fn contradictions_are_refused() {
        let breaks: [fn(&mut Vec<Fragment>); 6] = [
            |fragments| fragments.clear(),
            |fragments| fragments.swap(0, 1),
            |fragments| fragments[1].begin = b"b".to_vec(),
            |fragments| fragments[0].end = b"a".to_vec(),
            |fragments| fragments[0].seqs = vec![SeqNum(5), SeqNum(5)],
            |fragments| fragments[1].seqs = vec![SeqNum(0)],
        ];
        for (number, break_it) in breaks.iter().enumerate() {
            let (mut broken, mut bytes) = (fragments(), Vec::new());
            break_it(&mut broken);
            encode(&mut bytes, &broken);
            assert!(decode(&bytes).is_err(), "break {number}");
        }
    }

    proptest! {
        #[test]
        fn decoder_survives_anything(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
