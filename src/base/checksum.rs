//! Checksums, each with the place it is used in.
//!
//! - [`crc32c`]: log headers and frames (Castagnoli: best burst detection of the 32-bit CRCs at these lengths).
//! - [`Crc64`]: whole log segments and archived objects (NVME polynomial).
//! - [`crc32`]: table blocks and the manifest (`crc32fast`, hardware accelerated).
//!
//! A checksum that guards *where* bytes lie takes the position as its first words, so that a block or frame that was
//! written to, or is read from, the wrong place fails.

use crc_fast::{CrcAlgorithm, Digest};

/// Computes CRC-32C over `words` (little-endian) followed by `parts`.
///
/// Short parts are gathered first: a digest costs more to set up and to feed than a short run of bytes to check.
pub fn crc32c(words: &[u64], parts: &[&[u8]]) -> u32 {
    if let ([], [part]) = (words, parts) {
        return crc_fast::crc32_iscsi(part);
    }
    let mut gathered = Gathered { bytes: [0; GATHERED_BYTES], used: 0, digest: None };
    for word in words {
        gathered.push(&word.to_le_bytes());
    }
    for part in parts {
        gathered.push(part);
    }
    gathered.value()
}

/// Parts up to this length are gathered.
const GATHERED_BYTES: usize = 256;

/// A CRC-32C of what is gathered, behind what was already digested.
struct Gathered {
    bytes: [u8; GATHERED_BYTES],
    used: usize,
    digest: Option<Digest>,
}

impl Gathered {
    #[inline]
    fn push(&mut self, part: &[u8]) {
        if part.len() > GATHERED_BYTES - self.used {
            return self.digest(part);
        }
        self.bytes[self.used..self.used + part.len()].copy_from_slice(part);
        self.used += part.len();
    }

    #[cold]
    fn digest(&mut self, part: &[u8]) {
        let digest = self.digest.get_or_insert_with(|| Digest::new(CrcAlgorithm::Crc32Iscsi));
        digest.update(&self.bytes[..self.used]);
        self.used = 0;
        if part.len() > GATHERED_BYTES / 2 {
            digest.update(part);
        } else {
            self.bytes[..part.len()].copy_from_slice(part);
            self.used = part.len();
        }
    }

    fn value(mut self) -> u32 {
        match &mut self.digest {
            None => crc_fast::crc32_iscsi(&self.bytes[..self.used]),
            Some(digest) => {
                digest.update(&self.bytes[..self.used]);
                digest.finalize() as u32
            }
        }
    }
}

/// Computes CRC-32 (IEEE) over `words` (little-endian) followed by `parts`.
pub fn crc32(words: &[u64], parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// A CRC-64/NVME that grows with the bytes it covers.
#[derive(Clone, Debug)]
pub struct Crc64(Digest);

impl Crc64 {
    /// Covers nothing yet.
    pub fn new() -> Crc64 {
        Crc64(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    /// Covers what has the checksum `value`.
    pub fn of(value: u64) -> Crc64 {
        // The state of the computation is the checksum, inverted.
        Crc64(Digest::new_with_init_state(CrcAlgorithm::Crc64Nvme, !value))
    }

    /// Covers `bytes` too.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of what is covered so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Crc64 {
        Crc64::new()
    }
}

/// One changed byte that explains a checksum which fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Which byte of those covered.
    pub at: usize,
    /// What it was changed by: the right byte is this one exclusive-or `mask`.
    pub mask: u8,
}

/// How a change of one byte moves through a reflected CRC.
struct Steps {
    table: [u64; 256],
    /// Which byte has a table entry with this top byte.
    by_top: [u8; 256],
    bits: u32,
}

impl Steps {
    const fn new(reflected_polynomial: u64, bits: u32) -> Steps {
        let (mut table, mut by_top) = ([0; 256], [0; 256]);
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u64, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ reflected_polynomial } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            by_top[(crc >> (bits - 8)) as usize] = byte as u8;
            byte += 1;
        }
        Steps { table, by_top, bits }
    }

    /// Finds changes of one of `len` bytes that change the checksum by `syndrome`, from the last byte on, at most `max`.
    fn locate(&self, syndrome: u64, len: usize, max: usize) -> Vec<Flip> {
        let mut flips = Vec::new();
        let mut change = syndrome;
        for at in (0..len).rev() {
            let byte = self.by_top[(change >> (self.bits - 8)) as usize];
            if self.table[usize::from(byte)] == change && byte != 0 {
                flips.push(Flip { at, mask: byte });
                if flips.len() == max {
                    break;
                }
            }
            // Undoes a zero byte.
            change = ((change ^ self.table[usize::from(byte)]) << 8) | u64::from(byte);
            change &= u64::MAX >> (64 - self.bits);
        }
        flips
    }
}

static STEPS_32C: Steps = Steps::new(0x82f6_3b78, 32);
static STEPS_64: Steps = Steps::new(0x9a6c_9329_ac4b_c9b5, 64);

/// Finds the bytes of `len` whose change explains that their CRC-32C is `found` where `stored` was expected; at most four.
///
/// Of a few kilobytes there is hardly ever more than one; of a megabyte one in twenty is not alone.
pub fn locate_crc32c(stored: u32, found: u32, len: usize) -> Vec<Flip> {
    if stored == found { Vec::new() } else { STEPS_32C.locate(u64::from(stored ^ found), len, 4) }
}

/// As [`locate_crc32c`] for CRC-64/NVME; there is never more than one in practice.
pub fn locate_crc64(stored: u64, found: u64, len: usize) -> Option<Flip> {
    let syndrome = stored ^ found;
    if syndrome == 0 { None } else { STEPS_64.locate(syndrome, len, 1).pop() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(crc32c(&[], &[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32(&[], &[b"123456789"]), 0xcbf4_3926);
        let mut crc = Crc64::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.value(), 0xae8b_1486_0a79_9888);
        let mut resumed = Crc64::new();
        resumed.update(b"1234");
        let mut resumed = Crc64::of(resumed.value());
        resumed.update(b"56789");
        assert_eq!(resumed.value(), crc.value());
        assert_eq!(Crc64::of(0).value(), Crc64::new().value());
    }

    #[test]
    fn parts_of_every_length_are_one_stream() {
        let bytes: Vec<u8> = (0..2000u32).map(|at| (at * 7) as u8).collect();
        for step in [1, 3, 64, 127, 128, 129, 255, 256, 257, 600] {
            let parts: Vec<&[u8]> = bytes.chunks(step).collect();
            assert_eq!(crc32c(&[], &parts), crc32c(&[], &[&bytes]), "{step}");
            let (head, tail) = bytes.split_at(step);
            assert_eq!(crc32c(&[], &[head, &[], tail]), crc32c(&[], &[&bytes]), "{step}");
        }
    }

    #[test]
    fn words_and_parts_are_one_stream() {
        let word = u64::from_le_bytes(*b"12345678");
        assert_eq!(crc32c(&[word], &[b"9"]), crc32c(&[], &[b"1234", b"56789"]));
        assert_eq!(crc32(&[word], &[b"9"]), crc32(&[], &[b"1234", b"56789"]));
    }

    #[test]
    fn one_changed_byte_is_located() {
        let good: Vec<u8> = (0..5000u32).map(|at| (at * 7 % 251) as u8).collect();
        let crc64 = |bytes: &[u8]| {
            let mut crc = Crc64::new();
            crc.update(bytes);
            crc.value()
        };
        for (at, mask) in [(0, 1), (1, 0x80), (77, 0xff), (2500, 0x10), (4998, 3), (4999, 0xfe)] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            let flip = Flip { at, mask };
            assert_eq!(locate_crc32c(crc32c(&[], &[&good]), crc32c(&[], &[&bad]), good.len()), [flip]);
            assert_eq!(locate_crc64(crc64(&good), crc64(&bad), good.len()), Some(flip));
        }
        assert_eq!(locate_crc32c(5, 5, 100), []);
    }
}
