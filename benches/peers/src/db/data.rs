//! What is written and asked for: keys, values that can be checked, and the orders keys come in.
//!
//! A key is its number in 16 decimal digits, so that byte order is the order of the numbers. A value is a slice of a pool of
//! half compressible bytes (each 100 bytes are 50 random ones, twice), at a place drawn from key number and generation; its
//! first and last byte are the last two digits of the key, by which an answer is checked.

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;

/// A key.
pub type Key = [u8; KEY_BYTES];

/// Returns the key of `number`.
pub fn key(mut number: u64) -> Key {
    let mut key = [b'0'; KEY_BYTES];
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

/// Returns a key that is never written and sorts directly behind the key of `number`.
pub fn missing(number: u64) -> [u8; KEY_BYTES + 1] {
    let mut missing = [b'.'; KEY_BYTES + 1];
    missing[..KEY_BYTES].copy_from_slice(&key(number));
    missing
}

fn mixed(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// Each `seed` gives other numbers.
    pub fn new(seed: u64) -> Random {
        Random(mixed(seed))
    }

    /// Draws a number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Draws a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Where values come from.
pub struct Values {
    pool: Vec<u8>,
    bytes: usize,
}

const POOL_BYTES: usize = 1 << 20;

impl Values {
    /// Values of `bytes` bytes, at least 2.
    pub fn new(bytes: usize) -> Values {
        let mut random = Random::new(42);
        let mut pool = Vec::new();
        while pool.len() < POOL_BYTES + bytes {
            let piece: Vec<u8> = (0..50).map(|_| b' ' + random.below(95) as u8).collect();
            pool.extend_from_slice(&piece);
            pool.extend_from_slice(&piece);
        }
        Values { pool, bytes }
    }

    /// Appends the value of `key`, the key of `number`, in `generation` to `out`.
    pub fn append(&self, number: u64, key: &Key, generation: u64, out: &mut Vec<u8>) {
        let at = mixed(number ^ generation << 40) as usize % POOL_BYTES;
        let first = out.len();
        out.extend_from_slice(&self.pool[at..at + self.bytes]);
        out[first] = key[KEY_BYTES - 1];
        out[first + self.bytes - 1] = key[KEY_BYTES - 2];
    }

    /// Whether `value` can be the one of `key`, by length, first and last byte.
    pub fn fits(&self, key: &[u8], value: &[u8]) -> bool {
        key.len() == KEY_BYTES
            && value.len() == self.bytes
            && value[0] == key[KEY_BYTES - 1]
            && value[self.bytes - 1] == key[KEY_BYTES - 2]
    }
}

/// Entries that are written together.
pub struct Batch {
    keys: Vec<Key>,
    values: Vec<u8>,
    value_bytes: usize,
}

impl Batch {
    /// An empty one for values of `value_bytes` bytes.
    pub fn new(value_bytes: usize) -> Batch {
        Batch { keys: Vec::new(), values: Vec::new(), value_bytes }
    }

    /// Makes it the entries of `numbers`.
    pub fn set(&mut self, values: &Values, generation: u64, numbers: impl Iterator<Item = u64>) {
        self.keys.clear();
        self.values.clear();
        for number in numbers {
            let key = key(number);
            values.append(number, &key, generation, &mut self.values);
            self.keys.push(key);
        }
    }

    /// Returns the entries.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        self.keys.iter().zip(self.values.chunks_exact(self.value_bytes))
    }
}

/// The numbers below a bound, each once, in an order that looks random.
pub struct Shuffle {
    num: u64,
    bits: u32,
}

impl Shuffle {
    /// The numbers below `num`, at least 1.
    pub fn new(num: u64) -> Shuffle {
        Shuffle { num, bits: (64 - (num - 1).leading_zeros()).max(2) }
    }

    /// Returns the number at place `at`, which is below the bound.
    pub fn at(&self, at: u64) -> u64 {
        // Each step is a bijection of the numbers of so many bits; what lands past the bound goes round again.
        let mask = (1 << self.bits) - 1;
        let mut number = at;
        loop {
            for factor in [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb_u64] {
                number = number.wrapping_mul(factor).wrapping_add(factor >> 7) & mask;
                number ^= number >> (self.bits / 2);
            }
            if number < self.num {
                return number;
            }
        }
    }
}

/// YCSB's scrambled zipfian draw (constant 0.99): few keys are asked for often, and they lie anywhere.
pub struct Zipf {
    num: u64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    /// Draws from the numbers below `num`, at least 2.
    pub fn new(num: u64) -> Zipf {
        let zeta = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-Zipf::THETA)).sum::<f64>();
        let all = zeta(num);
        let eta = (1.0 - (2.0 / num as f64).powf(1.0 - Zipf::THETA)) / (1.0 - zeta(2) / all);
        Zipf { num, zeta: all, eta }
    }

    /// Draws a number.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let unit = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = unit * self.zeta;
        let rank = if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5f64.powf(Zipf::THETA) {
            1
        } else {
            (self.num as f64 * (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - Zipf::THETA))) as u64
        };
        mixed(rank) % self.num
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers() {
        assert_eq!(&key(1234), b"0000000000001234");
        assert!(key(7)[..] < missing(7)[..] && missing(7)[..] < key(8)[..]);
    }

    #[test]
    fn values_fit_their_key_alone() {
        let values = Values::new(100);
        let mut value = Vec::new();
        values.append(57, &key(57), 3, &mut value);
        assert_eq!(value.len(), 100);
        assert!(values.fits(&key(57), &value));
        assert!(!values.fits(&key(58), &value));
        assert!(!values.fits(&key(57), &value[1..]));
    }

    #[test]
    fn a_shuffle_has_every_number_once() {
        for num in [1, 2, 3, 1000, 4096, 5000] {
            let mut numbers: Vec<u64> = (0..num).map(|at| Shuffle::new(num).at(at)).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..num));
        }
    }

    #[test]
    fn zipf_asks_for_few_keys_often() {
        let (zipf, mut random) = (Zipf::new(100_000), Random::new(1));
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..100_000 {
            *counts.entry(zipf.draw(&mut random)).or_insert(0u64) += 1;
        }
        let mut counts: Vec<u64> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert!((6_000..10_000).contains(&counts[0]), "{}", counts[0]);
    }
}
