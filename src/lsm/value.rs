//! [`Value`]: the bytes a read returns, cheap to clone and independent of the store's lifetime.
//!
//! Large values are slices of the cached block they were read from and keep that block alive; small ones are copied out,
//! so that a kept value of a few bytes does not pin a block ([`Value::ZERO_COPY_BYTES_MIN`] is the border).

use bytes::Bytes;
use std::fmt;
use std::ops::{Deref, RangeFrom};

/// The value of one key, as it was when it was read. Dereferences to `[u8]`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Bytes);

impl Value {
    /// Values of at least this many bytes share the memory of the block they lie in; shorter ones are copied.
    pub const ZERO_COPY_BYTES_MIN: usize = 1024;

    /// Takes `range` of `block`: shared if it is long, copied if it is short.
    pub(crate) fn from_block(block: &Bytes, range: std::ops::Range<usize>) -> Value {
        if range.len() >= Value::ZERO_COPY_BYTES_MIN {
            Value(block.slice(range))
        } else {
            Value(Bytes::copy_from_slice(&block[range]))
        }
    }

    /// Copies `bytes`.
    pub fn copy_from_slice(bytes: &[u8]) -> Value {
        Value(Bytes::copy_from_slice(bytes))
    }

    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Returns the part of the value from byte `range.start` on, sharing its memory.
    ///
    /// # Panics
    /// If the start lies past the end.
    pub fn slice_from(&self, range: RangeFrom<usize>) -> Value {
        Value(self.0.slice(range))
    }

    /// Gives the bytes out without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Gives the bytes out as a vector; copies unless this is the only owner of all of its memory.
    pub fn into_vec(self) -> Vec<u8> {
        self.0.into()
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Value {
        Value(bytes)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value(bytes.into())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::copy_from_slice(bytes)
    }
}

impl From<Value> for Bytes {
    fn from(value: Value) -> Bytes {
        value.0
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Vec<u8> {
        value.into_vec()
    }
}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl PartialEq<&[u8]> for Value {
    fn eq(&self, other: &&[u8]) -> bool {
        self.0 == *other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Value {
    fn eq(&self, other: &[u8; N]) -> bool {
        self.0 == other[..]
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Value {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.0 == other[..]
    }
}

impl PartialEq<Vec<u8>> for Value {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.0 == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_share_the_block_and_short_ones_do_not() {
        let block = Bytes::from(vec![7u8; 8192]);
        let inside = |value: &Value| block.as_ptr_range().contains(&value.as_ptr());
        assert!(inside(&Value::from_block(&block, 10..10 + Value::ZERO_COPY_BYTES_MIN)));
        assert!(!inside(&Value::from_block(&block, 10..9 + Value::ZERO_COPY_BYTES_MIN)));
    }

    #[test]
    fn compares_with_what_users_write() {
        let value = Value::from(b"abc".to_vec());
        assert_eq!(value, b"abc");
        assert_eq!(value, b"abc"[..]);
        assert_eq!(value.slice_from(1..), b"bc".to_vec());
        assert_eq!(Vec::from(value), b"abc");
    }
}
