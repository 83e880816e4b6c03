//! The payload of a DATA frame of the store: `count` records (of the frame's header) back to back. Pure functions over slices.
//!
//! | size | what |
//! |---|---|
//! | 1 to 5 | length of the record: varint, seven bits a byte, low bits first, high bit set on all but the last |
//! | length | the record, which may be empty |
//!
//! The records fill the payload exactly. The frame's checksums cover all of it: a payload that does not decode although they
//! are good was not written by this store, and is damage.
//!
//! **Evolution.** None within this layout: another one takes a frame kind or flag of its own.
//!
//! **Worked example.** The records `hi`, the empty one, and `log`: `02 6869 00 03 6c6f67`.

use crate::base::coding::{Decoder, varint_len};
use crate::base::limits::BATCH_BYTES_MAX;

/// Most bytes of a length.
pub const LENGTH_BYTES_MAX: usize = 5;
/// Most bytes of one record: with its length it fills a batch.
pub const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX - LENGTH_BYTES_MAX;
/// Most records of one batch.
pub const RECORDS_MAX: usize = u16::MAX as usize;

const _: () = assert!(varint_len(BATCH_BYTES_MAX as u64) <= LENGTH_BYTES_MAX);

/// The encoded length of a record, on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    bytes: [u8; LENGTH_BYTES_MAX],
    len: u8,
}

impl Length {
    /// Encodes `len`.
    ///
    /// # Panics
    /// If `len` is over [`RECORD_BYTES_MAX`].
    pub fn encode(len: usize) -> Length {
        assert!(len <= RECORD_BYTES_MAX, "the caller has checked the length");
        let mut bytes = [0; LENGTH_BYTES_MAX];
        let mut rest = len;
        let mut at = 0;
        while rest >= 0x80 {
            bytes[at] = rest as u8 | 0x80;
            rest >>= 7;
            at += 1;
        }
        bytes[at] = rest as u8;
        Length { bytes, len: at as u8 + 1 }
    }

    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A payload that is not `count` records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The records of a payload, front to back. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    decoder: Decoder<'a>,
    left: u16,
}

impl<'a> Records<'a> {
    /// Reads `payload` as `count` records; it may hold anything.
    pub fn new(payload: &'a [u8], count: u16) -> Records<'a> {
        Records { decoder: Decoder::new(payload), left: count }
    }

    /// Returns how many records were not read yet.
    pub fn left(&self) -> u16 {
        self.left
    }

    /// Returns the offset in the payload of what is read next; after a record, of its end.
    pub fn position(&self) -> usize {
        self.decoder.position()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Result<&'a [u8], Malformed>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        match self.decoder.slice() {
            Some(record) if self.left > 0 || self.decoder.is_empty() => Some(Ok(record)),
            _ => {
                self.left = 0;
                Some(Err(Malformed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(records: &[Vec<u8>]) -> Vec<u8> {
        records.iter().flat_map(|record| [Length::encode(record.len()).as_slice(), record].concat()).collect()
    }

    #[test]
    fn worked_example_is_what_the_text_shows() {
        let bytes = encode(&[b"hi".to_vec(), Vec::new(), b"log".to_vec()]);
        assert_eq!(bytes, [2, 0x68, 0x69, 0, 3, 0x6c, 0x6f, 0x67]);
    }

    #[test]
    fn more_or_fewer_records_than_counted_are_malformed() {
        let bytes = encode(&[b"hi".to_vec(), b"log".to_vec()]);
        let decode = |count| Records::new(&bytes, count).collect::<Result<Vec<_>, _>>();
        assert_eq!(decode(2), Ok(vec![&b"hi"[..], b"log"]));
        assert_eq!((decode(1), decode(3)), (Err(Malformed), Err(Malformed)));
        assert_eq!(Records::new(&bytes[..4], 2).last(), Some(Err(Malformed)));
    }

    #[test]
    fn longest_length_fits() {
        let length = Length::encode(RECORD_BYTES_MAX);
        assert!(length.as_slice().len() <= LENGTH_BYTES_MAX);
        assert_eq!(Decoder::new(length.as_slice()).varint(), Some(RECORD_BYTES_MAX as u64));
    }

    proptest! {
        #[test]
        fn records_round_trip(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let bytes = encode(&records);
            let decoded: Result<Vec<_>, _> = Records::new(&bytes, records.len() as u16).collect();
            prop_assert_eq!(decoded.unwrap(), records);
        }

        #[test]
        fn any_payload_decodes_without_panic(bytes: Vec<u8>, count: u16) {
            let mut records = Records::new(&bytes, count);
            prop_assert!(records.by_ref().count() <= usize::from(count));
            prop_assert!(records.position() <= bytes.len());
        }
    }
}
