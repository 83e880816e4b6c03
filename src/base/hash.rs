//! One hash function and the maps built on it: the same answer in every process, on every machine.
//!
//! The standard library's maps hash with a random key, so their iteration order differs from run to run and a simulated
//! run would not replay. [`Map`] and [`Set`] are the same maps with a fixed hash. Not for keys that a remote peer chooses
//! in bulk: use a `BTreeMap` there.
//!
//! Source: wyhash's 64 x 64 -> 128 bit multiply-and-fold, reduced to what short keys need.

use std::hash::{BuildHasherDefault, Hasher};

/// A hash map whose order depends on its content alone.
#[expect(clippy::disallowed_types, reason = "this is the replacement: the hasher is fixed")]
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;
/// A hash set whose order depends on its content alone.
#[expect(clippy::disallowed_types, reason = "this is the replacement: the hasher is fixed")]
pub type Set<K> = std::collections::HashSet<K, BuildHasherDefault<FixedHasher>>;

const P0: u64 = 0xa076_1d64_78bd_642f;
const P1: u64 = 0xe703_7ed1_a0b4_28db;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Hashes `bytes` to 64 well mixed bits; `seed` selects one of 2^64 functions.
///
/// Stored in table filters, so the function is part of the format and never changes.
#[inline]
pub fn hash64(bytes: &[u8], seed: u64) -> u64 {
    let mut state = seed ^ P0;
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<16>() {
        let a = u64::from_le_bytes(*head.first_chunk().expect("16 bytes hold 8"));
        let b = u64::from_le_bytes(*head.last_chunk().expect("16 bytes hold 8"));
        state = fold(a ^ P1, b ^ state);
        rest = tail;
    }
    let (a, b) = match rest.len() {
        8.. => {
            let a = u64::from_le_bytes(*rest.first_chunk().expect("at least 8 bytes"));
            let b = u64::from_le_bytes(*rest.last_chunk().expect("at least 8 bytes"));
            (a, b)
        }
        4.. => {
            let a = u32::from_le_bytes(*rest.first_chunk().expect("at least 4 bytes"));
            let b = u32::from_le_bytes(*rest.last_chunk().expect("at least 4 bytes"));
            (u64::from(a), u64::from(b))
        }
        1.. => {
            let middle = rest[rest.len() / 2];
            (u64::from(rest[0]) << 16 | u64::from(middle) << 8 | u64::from(rest[rest.len() - 1]), 0)
        }
        0 => (0, 0),
    };
    fold(P1 ^ bytes.len() as u64, fold(a ^ P1, b ^ state))
}

/// The [`Hasher`] behind [`Map`] and [`Set`].
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash64(bytes, self.0);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0 ^ value ^ P0, P1);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_byte_matters() {
        let bytes: Vec<u8> = (0..64).collect();
        let mut seen = Set::default();
        for len in 0..=64 {
            assert!(seen.insert(hash64(&bytes[..len], 0)), "length {len} collides");
        }
        for at in 0..64 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(seen.insert(hash64(&flipped, 0)), "byte {at} is ignored");
        }
        assert_ne!(hash64(b"abc", 0), hash64(b"abc", 1));
    }

    #[test]
    fn known_answers_pin_the_format() {
        assert_eq!(
            [hash64(b"", 0), hash64(b"a", 0), hash64(b"aidb", 0), hash64(b"0123456789abcdefg", 0)],
            [4808886099364463827, 7852112099385141351, 8339354510245155794, 9064665495420513508]
        );
    }
}
