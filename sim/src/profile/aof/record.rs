//! Records of the workload: whatever bytes come back, one can tell what they are.
//!
//! The first record of a batch names the step that appended it, its place and its length; the rest is a pattern made from these,
//! so that a stale, mixed, torn or misplaced record never passes for another one. A record too short for that is all pattern.
//!
//! ```text
//! record: step id u32, place in the batch u32 (little-endian), then pattern(step id, place, length)
//! ```

pub use crate::profile::steps::StepId;
use aidb::base::coding::{Decoder, put_u32, put_u64};
use aidb::base::hash::hash64;
use serde::{Deserialize, Serialize};

/// How many bytes the first record of a batch has at least.
pub const RECORD_BYTES_MIN: u32 = 8;

/// A record as the oracle keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The operation that appended it.
    pub step: StepId,
    /// Its place in the batch.
    pub index: u32,
    /// Its length in bytes.
    pub bytes: u32,
}

/// Builds the bytes of a record.
pub fn encode(stamp: Stamp) -> Vec<u8> {
    let mut record = Vec::with_capacity(stamp.bytes as usize + 8);
    put_u32(&mut record, stamp.step);
    put_u32(&mut record, stamp.index);
    let mut state = hash64(&record, u64::from(stamp.bytes));
    while record.len() < stamp.bytes as usize {
        put_u64(&mut record, state);
        // Half of the patterns compress well, half do not.
        if stamp.step.is_multiple_of(2) {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(23) ^ 0x1405_7b7e_f767_814f;
        }
    }
    record.truncate(stamp.bytes as usize);
    record
}

/// Reads what a record says of itself, believing nothing: the caller compares every byte.
pub fn decode(record: &[u8]) -> Option<Stamp> {
    let mut head = Decoder::new(record);
    Some(Stamp { step: head.u32()?, index: head.u32()?, bytes: record.len() as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_themselves_and_differ() {
        for bytes in [8, 9, 15, 16, 17, 200] {
            let stamp = Stamp { step: 77, index: 3, bytes };
            assert_eq!(decode(&encode(stamp)), Some(stamp));
            assert_eq!(encode(stamp).len(), bytes as usize);
            for other in [Stamp { step: 78, ..stamp }, Stamp { index: 4, ..stamp }] {
                assert_ne!(encode(other), encode(stamp));
            }
        }
        assert_eq!(encode(Stamp { step: 1, index: 0, bytes: 0 }), b"");
        assert_eq!(decode(b"seven b"), None);
    }
}
