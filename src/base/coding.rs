//! Little-endian integers, varints and length-prefixed slices: the one home of raw byte codecs beside `format.rs` files.
//!
//! Encoders append to a `Vec<u8>`. [`Decoder`] reads from a slice that may hold anything: every read is checked and a
//! short or malformed input is `None`, never a panic; the caller turns it into an error that names file and offset.

/// Appends `value` as 4 bytes.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends `value` as 8 bytes.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends `value` as 1 to 10 bytes, seven bits each, low bits first, high bit set on all but the last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes` as a varint, then `bytes`.
pub fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Returns how many bytes [`put_varint`] takes for `value`.
pub const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Reads the 2 bytes at `at`, or `None` past the end.
pub fn get_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the 4 bytes at `at`, or `None` past the end.
pub fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the 8 bytes at `at`, or `None` past the end.
pub fn get_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads front to back through a slice of unknown content.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { bytes, at: 0 }
    }

    /// Returns how many bytes were read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns what was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Returns true once every byte was read.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Reads the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// Reads one byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// Reads two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    /// Reads four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    /// Reads eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }

    /// Reads a varint; one longer than ten bytes, over 64 bits or with a needless last byte is refused.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// Reads a varint length, then as many bytes.
    pub fn slice(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varint_round_trips(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut decoder = Decoder::new(&out);
            prop_assert_eq!(decoder.varint(), Some(value));
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn decoder_survives_anything(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(&bytes);
            while decoder.slice().is_some() {}
            prop_assert!(decoder.position() <= bytes.len());
        }
    }

    #[test]
    fn varint_refuses_overlong_and_overflow() {
        assert_eq!(Decoder::new(&[0x80, 0x00]).varint(), None);
        assert_eq!(Decoder::new(&[0xff; 11]).varint(), None);
        let mut max = vec![0xff; 9];
        max.push(2);
        assert_eq!(Decoder::new(&max).varint(), None);
    }

    #[test]
    fn fixed_reads_stop_at_the_end() {
        let mut out = Vec::new();
        put_u32(&mut out, 7);
        put_u64(&mut out, 9);
        let mut decoder = Decoder::new(&out);
        assert_eq!((decoder.u32(), decoder.u64(), decoder.u8()), (Some(7), Some(9), None));
        assert_eq!(get_u64(&out, 4), Some(9));
        assert_eq!(get_u64(&out, 5), None);
        assert_eq!(get_u16(&out, 0), Some(7));
        assert_eq!(get_u32(&out, usize::MAX), None);
    }
}
