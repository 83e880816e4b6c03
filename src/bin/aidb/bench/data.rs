//! Keys and values that can be checked: both follow from a key number and the generation that wrote it.
//!
//! A key is its number in decimal, padded with zeros to the key's length, so that byte order is numeric order. A value is
//! a slice of a pool of half compressible bytes (db_bench's: each 100 bytes are 50 random ones, twice), at an offset drawn
//! from key number and generation, with the generation in its first byte. [`Ledger`] remembers which generation each key
//! is at, so that a stale, lost, resurrected or mixed-up value is found out, for one byte of memory a key.
//!
//! **Invariant:** one workload writes one generation, so threads that write the same key agree on its value.

use std::sync::atomic::{AtomicU8, Ordering};

const POOL_BYTES_MIN: usize = 1 << 20;
const U64_DIGITS: usize = 20;

/// SplitMix64: small, seedable, good enough to draw keys with.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// Draws a number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// A key being reused: only its digits change.
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new(key_bytes: u32) -> Key {
        Key(vec![b'0'; key_bytes as usize])
    }

    /// Makes this the key of `number`.
    pub(super) fn set(&mut self, mut number: u64) -> &[u8] {
        for digit in self.0.iter_mut().rev().take(U64_DIGITS) {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.0
    }

    /// Makes this a key that is never written: it sorts directly behind the key of `number`.
    pub(super) fn set_missing(&mut self, number: u64) -> Vec<u8> {
        let mut key = self.set(number).to_vec();
        key.push(b'.');
        key
    }
}

/// Returns the number of `key`, if it is one of ours.
pub(super) fn number_of(key: &[u8], key_bytes: u32) -> Option<u64> {
    if key.len() != key_bytes as usize {
        return None;
    }
    key.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Where values come from.
pub(super) struct Values {
    pool: Vec<u8>,
    value_bytes: usize,
    seed: u64,
}

impl Values {
    pub(super) fn new(value_bytes: u32, seed: u64) -> Values {
        let value_bytes = value_bytes as usize;
        let mut random = Random::new(seed);
        let mut pool = Vec::new();
        while pool.len() < POOL_BYTES_MIN + value_bytes {
            let piece: Vec<u8> = (0..50).map(|_| b' ' + random.below(95) as u8).collect();
            pool.extend_from_slice(&piece);
            pool.extend_from_slice(&piece);
        }
        Values { pool, value_bytes, seed }
    }

    fn rest(&self, number: u64, generation: u8) -> &[u8] {
        let draw = Random::new(self.seed ^ number ^ u64::from(generation) << 56).next();
        let start = draw as usize % POOL_BYTES_MIN;
        &self.pool[start..start + self.value_bytes - 1]
    }

    /// Writes the value of `number` in `generation` to `out`.
    pub(super) fn write(&self, number: u64, generation: u8, out: &mut Vec<u8>) {
        out.clear();
        out.push(generation);
        out.extend_from_slice(self.rest(number, generation));
    }

    /// Returns the generation of `value` if it is whole and belongs to `number`.
    pub(super) fn generation_of(&self, number: u64, value: &[u8]) -> Option<u8> {
        let (&generation, rest) = value.split_first()?;
        (rest == self.rest(number, generation)).then_some(generation)
    }
}

/// What each key has to be: absent, or of a generation.
pub(super) struct Ledger {
    generations: Vec<AtomicU8>,
    /// The generation of the last workload that wrote.
    pub last: u8,
}

impl Ledger {
    /// The ledger of an empty database for `num` keys.
    pub(super) fn new(num: u64) -> Ledger {
        Ledger::from_bytes(vec![0; usize::try_from(num).expect("bounded by the options")], 0)
    }

    pub(super) fn from_bytes(generations: Vec<u8>, last: u8) -> Ledger {
        Ledger { generations: generations.into_iter().map(AtomicU8::new).collect(), last }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.generations.iter().map(|generation| generation.load(Ordering::Relaxed)).collect()
    }

    /// Returns the generation `number` is at; 0 if it is absent.
    #[inline]
    pub(super) fn get(&self, number: u64) -> u8 {
        self.generations[number as usize].load(Ordering::Relaxed)
    }

    /// Notes that `number` was written in `generation`, or deleted if that is 0.
    #[inline]
    pub(super) fn set(&self, number: u64, generation: u8) {
        self.generations[number as usize].store(generation, Ordering::Relaxed);
    }

    /// Returns how many keys are present.
    pub(super) fn present(&self) -> u64 {
        self.generations.iter().filter(|generation| generation.load(Ordering::Relaxed) != 0).count() as u64
    }

    /// Returns the first present key at or after `number`.
    pub(super) fn at_or_after(&self, number: u64) -> Option<u64> {
        (number..self.generations.len() as u64).find(|&number| self.get(number) != 0)
    }

    /// Returns the last present key before `number`.
    pub(super) fn before(&self, number: u64) -> Option<u64> {
        (0..number).rev().find(|&number| self.get(number) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers() {
        let mut key = Key::new(16);
        assert_eq!(key.set(1_234), b"0000000000001234");
        assert_eq!(key.set(7), b"0000000000000007");
        assert_eq!(number_of(key.set(99), 16), Some(99));
        assert_eq!(number_of(b"000000000000000x", 16), None);
        assert_eq!(number_of(b"7", 16), None);
        let missing = key.set_missing(7);
        assert!(*key.set(7) < *missing && *missing < *key.set(8));
    }

    #[test]
    fn values_tell_key_and_generation() {
        for value_bytes in [1, 2, 100, 5000] {
            let values = Values::new(value_bytes, 1);
            let mut value = Vec::new();
            values.write(5, 3, &mut value);
            assert_eq!(value.len(), value_bytes as usize);
            assert_eq!(values.generation_of(5, &value), Some(3));
            if value_bytes >= 100 {
                assert_eq!(values.generation_of(6, &value), None);
                value.pop();
                assert_eq!(values.generation_of(5, &value), None);
            }
        }
    }

    #[test]
    fn ledger_finds_neighbours() {
        let ledger = Ledger::new(10);
        ledger.set(3, 1);
        ledger.set(7, 2);
        assert_eq!((ledger.at_or_after(0), ledger.at_or_after(4), ledger.at_or_after(8)), (Some(3), Some(7), None));
        assert_eq!((ledger.before(10), ledger.before(7), ledger.before(3)), (Some(7), Some(3), None));
        assert_eq!(ledger.present(), 2);
    }
}
