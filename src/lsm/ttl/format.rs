//! Bytes of a value that expires, in the log, memtables and tables. Little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | when it expires: microseconds since 1970-01-01 UTC, below 2^63 |
//! | 8 | ... | the value |
//!
//! In a batch that is not committed yet bit 63 is set, and the rest is how many microseconds after its commit it expires. The
//! commit replaces it; a log record never has it. What is checksummed is the record or block around it; fewer than 8 bytes are
//! damage. It evolves by another kind of entry.
//!
//! Example: `v`, which expires 2 microseconds after 1970 began, is `02 00 00 00 00 00 00 00  76`.

use crate::base::coding::get_u64;
use std::time::Duration;

/// Bytes before the value.
pub const EXPIRY_BYTES: usize = 8;
const _: () = assert!(EXPIRY_BYTES == size_of::<u64>());

/// Tells a time to live from the moment at which it is over.
const TO_LIVE: u64 = 1 << 63;

/// Returns `value` as it is written when it is to live for `ttl` after its commit.
pub fn encode(ttl: Duration, value: &[u8]) -> Vec<u8> {
    let micros = u64::try_from(ttl.as_micros()).map_or(TO_LIVE - 1, |micros| micros.min(TO_LIVE - 1));
    let mut bytes = Vec::with_capacity(EXPIRY_BYTES + value.len());
    bytes.extend_from_slice(&(micros | TO_LIVE).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// Turns a time to live at the start of `bytes` into the moment at which it is over, counted from `now`.
///
/// # Panics
/// If there are fewer than 8 bytes.
pub fn set_expiry(bytes: &mut [u8], now: u64) {
    let expiry = get_u64(bytes, 0).expect("an expiry stands before the value");
    if expiry & TO_LIVE != 0 {
        let expiry = now.saturating_add(expiry & !TO_LIVE).min(TO_LIVE - 1);
        bytes[..EXPIRY_BYTES].copy_from_slice(&expiry.to_le_bytes());
    }
}

/// Returns when `bytes` expire, and the value; not before `u64` microseconds over 2^63 if they were not committed yet. `None` if
/// they are too short.
pub fn decode(bytes: &[u8]) -> Option<(u64, &[u8])> {
    Some((get_u64(bytes, 0)?, &bytes[EXPIRY_BYTES..]))
}

/// Returns whether `bytes` are as they are in a log record.
pub fn is_committed(bytes: &[u8]) -> bool {
    get_u64(bytes, 0).is_some_and(|expiry| expiry & TO_LIVE == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        let mut bytes = encode(Duration::from_nanos(1999), b"v");
        assert!(!is_committed(&bytes) && decode(&bytes).is_some_and(|(expiry, _)| expiry > TO_LIVE));
        set_expiry(&mut bytes, 1);
        assert_eq!(bytes, b"\x02\0\0\0\0\0\0\0v");
        set_expiry(&mut bytes, 77);
        assert_eq!(decode(&bytes), Some((2, &b"v"[..])));
        assert!(is_committed(&bytes) && !is_committed(&bytes[..7]));
    }

    #[test]
    fn the_longest_time_to_live_ends_at_the_last_moment() {
        let mut bytes = encode(Duration::MAX, b"");
        set_expiry(&mut bytes, u64::MAX);
        assert_eq!(decode(&bytes), Some((TO_LIVE - 1, &b""[..])));
    }
}
