//! Keys and values of the workload: whatever bytes come back, one can tell what they are.
//!
//! A [`Keys`] is the sorted universe of a run: a [`KeyId`] is a position in it, so ids order as the keys' bytes do. A value names
//! the operation that wrote it, its key and its length, and the rest is a pattern made from these, so that a stale, mixed, torn or
//! misplaced value never passes for another one.
//!
//! ```text
//! value: step id u32, key id u32, length u32 (little-endian), then length - 12 bytes of pattern(step id, key id)
//! ```
//!
//! An operand of a merge is the same with the highest bit of the length set. Merging appends, so that a merged value tells which
//! operands it was made of, and onto what, in which order.

pub use crate::profile::steps::StepId;
use aidb::base::coding::{Decoder, put_u32, put_u64};
use aidb::base::hash::hash64;
use aidb::lsm::{CompactionFilter, Verdict};
use serde::{Deserialize, Serialize};

/// A position in [`Keys`].
pub type KeyId = u16;

/// How many bytes each value has at least.
pub const VALUE_BYTES_MIN: u32 = 20;

/// Tells an operand from a value that was put.
const OPERAND: u32 = 1 << 31;
/// What an operand lies upon that was not merged yet.
const ANYTHING: u64 = u64::MAX;

/// A value as the model keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The operation that wrote it, or its last operand.
    pub step: StepId,
    /// The length in bytes of what that operation wrote.
    pub bytes: u32,
    /// A hash of what it was merged onto; 0 if it was put.
    pub under: u64,
}

impl Stamp {
    /// Returns a value that is put.
    pub fn put(step: StepId, bytes: u32) -> Stamp {
        Stamp { step, bytes, under: 0 }
    }

    /// Returns an operand, whatever it will be merged onto.
    pub fn operand(step: StepId, bytes: u32) -> Stamp {
        Stamp { step, bytes, under: ANYTHING }
    }

    /// Returns whether it is an operand that is to be merged onto something.
    pub fn is_operand(self) -> bool {
        self.under == ANYTHING
    }

    /// Returns what this makes of a key that had `before`.
    pub fn onto(self, before: Option<Stamp>) -> Stamp {
        if !self.is_operand() {
            return self;
        }
        let under = before.map_or(1, |before| {
            let mut bytes = before.step.to_le_bytes().to_vec();
            put_u32(&mut bytes, before.bytes);
            (hash64(&bytes, before.under) >> 1).max(2)
        });
        Stamp { under, ..self }
    }

    /// Returns whether it was merged.
    pub fn is_merged(self) -> bool {
        self.under != 0
    }
}

/// What keys look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyShape {
    /// Five characters, `k0042`.
    Short,
    /// A long common prefix, then a number.
    LongPrefix,
    /// Groups with a common prefix of a few bytes: `g3/0007`.
    Grouped,
    /// One to six bytes out of 0x00, 0x01, 0x7f, 0xfe and 0xff, where keys are prefixes of one another.
    Binary,
}

/// The sorted keys of a run.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// Builds `count` keys.
    pub fn new(shape: KeyShape, count: KeyId) -> Keys {
        let mut keys: Vec<Vec<u8>> = (0..u32::from(count)).map(|number| key_of(shape, number)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), usize::from(count), "keys differ");
        Keys(keys)
    }

    /// Returns how many keys there are.
    pub fn count(&self) -> KeyId {
        self.0.len() as KeyId
    }

    /// Returns the bytes of a key.
    pub fn bytes(&self, key: KeyId) -> &[u8] {
        &self.0[usize::from(key)]
    }

    /// Finds a key by its bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<KeyId> {
        self.0.binary_search_by(|key| key.as_slice().cmp(bytes)).ok().map(|at| at as KeyId)
    }

    /// Returns the ids whose keys start with `prefix`, as a half-open range.
    pub fn with_prefix(&self, prefix: &[u8]) -> (KeyId, KeyId) {
        let start = self.0.partition_point(|key| key.as_slice() < prefix);
        let end = start + self.0[start..].partition_point(|key| key.starts_with(prefix));
        (start as KeyId, end as KeyId)
    }
}

fn key_of(shape: KeyShape, number: u32) -> Vec<u8> {
    match shape {
        KeyShape::Short => format!("k{number:04}").into_bytes(),
        KeyShape::LongPrefix => format!("a/rather/long/prefix/that/all/keys/share/{number:06}").into_bytes(),
        KeyShape::Grouped => format!("g{}/{:04}", number % 7, number / 7).into_bytes(),
        KeyShape::Binary => {
            const BYTES: [u8; 5] = [0x00, 0x01, 0x7f, 0xfe, 0xff];
            // Bijective base 5: 1, 2 .. 5, 11, 12 ..: no two numbers give the same digits.
            let (mut rest, mut key) = (number + 1, Vec::new());
            while rest > 0 {
                key.push(BYTES[((rest - 1) % 5) as usize]);
                rest = (rest - 1) / 5;
            }
            key
        }
    }
}

/// Whether a compaction filter removes what step `step` wrote.
pub fn filtered_step(step: StepId) -> bool {
    step % 4 == 1
}

/// Removes values of some steps.
#[derive(Clone, Copy, Debug)]
pub struct Filter;

impl CompactionFilter for Filter {
    fn name(&self) -> &str {
        "some steps"
    }

    fn filter(&self, _level: usize, _key: &[u8], value: &[u8]) -> Verdict {
        match Decoder::new(value).u32() {
            Some(step) if filtered_step(step) => Verdict::Remove,
            _ => Verdict::Keep,
        }
    }
}

/// Builds the value, or the operand, that operation `stamp.step` writes to `key`.
pub fn encode(key: KeyId, stamp: Stamp) -> Vec<u8> {
    assert!(stamp.bytes >= VALUE_BYTES_MIN, "a value has at least {VALUE_BYTES_MIN} bytes");
    let mut value = Vec::with_capacity(stamp.bytes as usize + 8);
    put_u32(&mut value, stamp.step);
    put_u32(&mut value, key.into());
    put_u32(&mut value, if stamp.is_merged() { stamp.bytes | OPERAND } else { stamp.bytes });
    let mut state = hash64(&value, 1);
    while value.len() < stamp.bytes as usize {
        put_u64(&mut value, state);
        // Half of the patterns compress well, half do not.
        if stamp.step.is_multiple_of(2) {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(23) ^ 0x1405_7b7e_f767_814f;
        }
    }
    value.truncate(stamp.bytes as usize);
    value
}

/// Reads a value back and compares every byte of it; says what is wrong otherwise.
pub fn decode(key: KeyId, value: &[u8]) -> Result<Stamp, String> {
    let mut rest = value;
    let mut before = None;
    loop {
        let stamp = decode_first(key, rest, before)?;
        rest = &rest[stamp.bytes as usize..];
        if rest.is_empty() {
            return Ok(stamp);
        }
        before = Some(stamp);
    }
}

/// Reads what `value` begins with, behind `before`.
fn decode_first(key: KeyId, value: &[u8], before: Option<Stamp>) -> Result<Stamp, String> {
    let mut head = Decoder::new(value);
    let (Some(step), Some(written_to), Some(length)) = (head.u32(), head.u32(), head.u32()) else {
        return Err(format!("{} bytes are shorter than any value written", value.len()));
    };
    if written_to != u32::from(key) {
        return Err(format!("it says that it belongs to key {written_to} (step {step})"));
    }
    let (bytes, operand) = (length & !OPERAND, length & OPERAND != 0);
    let fits = bytes >= VALUE_BYTES_MIN && bytes as usize <= value.len();
    if !fits || (!operand && before.is_some()) {
        return Err(format!("it has {} bytes and says {bytes} (step {step})", value.len()));
    }
    let stamp = if operand { Stamp::operand(step, bytes).onto(before) } else { Stamp::put(step, bytes) };
    let expected = encode(key, stamp);
    match expected.iter().zip(value).position(|(a, b)| a != b) {
        Some(at) => Err(format!("byte {at} of {bytes} differs from what step {step} wrote")),
        None => Ok(stamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_every_byte_counts() {
        for bytes in [20, 21, 27, 28, 200] {
            let stamp = Stamp::put(77, bytes);
            let value = encode(3, stamp);
            assert_eq!(decode(3, &value), Ok(stamp));
            assert!(decode(4, &value).is_err());
            assert!(decode(3, &value[..value.len() - 1]).is_err());
            for at in 0..value.len() {
                let mut flipped = value.clone();
                flipped[at] ^= 0x10;
                assert!(decode(3, &flipped).is_err(), "byte {at} is not checked");
            }
        }
    }

    #[test]
    fn merged_values_tell_their_operands_in_order() {
        let (put, first, second) = (Stamp::put(1, 20), Stamp::operand(2, 31), Stamp::operand(3, 20));
        let value = |stamps: &[Stamp]| stamps.iter().flat_map(|stamp| encode(3, *stamp)).collect::<Vec<u8>>();
        let both = second.onto(Some(first.onto(Some(put))));
        assert_eq!(decode(3, &value(&[put, first, second])), Ok(both));
        assert_eq!(decode(3, &value(&[first])), Ok(first.onto(None)));
        for other in [&[put, second, first][..], &[put, second], &[first, second], &[put, first, first, second]] {
            assert_ne!(decode(3, &value(other)), Ok(both));
        }
        assert!(decode(3, &value(&[put, put])).is_err());
        assert!(decode(3, &value(&[first, put])).is_err());
    }

    #[test]
    fn every_shape_has_distinct_sorted_keys() {
        for shape in [KeyShape::Short, KeyShape::LongPrefix, KeyShape::Grouped, KeyShape::Binary] {
            let keys = Keys::new(shape, 300);
            for id in 0..300 {
                assert_eq!(keys.find(keys.bytes(id)), Some(id));
                let (start, end) = keys.with_prefix(keys.bytes(id));
                assert!(start == id && end > id);
            }
            assert_eq!(keys.with_prefix(b""), (0, 300));
        }
    }
}
