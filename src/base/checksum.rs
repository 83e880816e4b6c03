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
pub fn crc32c(words: &[u64], parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for word in words {
        digest.update(&word.to_le_bytes());
    }
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
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
    }

    #[test]
    fn words_and_parts_are_one_stream() {
        let word = u64::from_le_bytes(*b"12345678");
        assert_eq!(crc32c(&[word], &[b"9"]), crc32c(&[], &[b"1234", b"56789"]));
        assert_eq!(crc32(&[word], &[b"9"]), crc32(&[], &[b"1234", b"56789"]));
    }
}
