//! Sequence numbers, value kinds, and the internal key that orders every entry of the engine.
//!
//! An internal key is a user key and a [`Tag`]: the commit's sequence number and the kind of the entry, packed in 64 bits.
//! Order: user keys ascending (bytewise), then tags **descending**, so that the newest entry of a key comes first and a
//! reader at snapshot `s` takes the first entry at or after `Tag::seek(s)`.
//!
//! Limit: sequence numbers have 56 bits; at ten million commits a second they last 228 years.

use std::cmp::Ordering;
use std::fmt;

/// Numbers commits: each operation of a batch takes the next one. Zero means "older than every snapshot".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNum(pub u64);

impl SeqNum {
    /// The largest sequence number; a reader at this one sees everything.
    pub const MAX: SeqNum = SeqNum((1 << 56) - 1);
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry says of its key. The numbers are stored and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// A tombstone: the key is deleted as of this sequence number.
    Delete = 0,
    /// The key has the entry's value as of this sequence number.
    Put = 1,
    /// Every key from this one to below the one in the value, or to the end if that is empty, is deleted as of this sequence
    /// number. It stands beside the entries of keys, never among them.
    RangeDelete = 2,
    /// The entry's value is merged onto what the key had before.
    Merge = 3,
    /// As a put, until the moment with which the entry's value begins.
    PutTtl = 4,
}

impl ValueKind {
    /// Decodes the stored number; `None` if no kind has it.
    pub fn from_u8(number: u8) -> Option<ValueKind> {
        match number {
            0 => Some(ValueKind::Delete),
            1 => Some(ValueKind::Put),
            2 => Some(ValueKind::RangeDelete),
            3 => Some(ValueKind::Merge),
            4 => Some(ValueKind::PutTtl),
            _ => None,
        }
    }
}

/// Sequence number (high 56 bits) and kind (low 8) of one entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u64);

impl Tag {
    /// Packs a sequence number and a kind.
    pub fn new(seq: SeqNum, kind: ValueKind) -> Tag {
        assert!(seq <= SeqNum::MAX, "sequence number {seq} over 56 bits");
        Tag(seq.0 << 8 | kind as u64)
    }

    /// Returns the tag that sorts before every entry visible at `seq` and after every newer one.
    pub fn seek(seq: SeqNum) -> Tag {
        Tag(seq.0 << 8 | 0xff)
    }

    /// Decodes the packed form; `None` if the kind is unknown or not one of an entry of a single key.
    pub fn from_u64(packed: u64) -> Option<Tag> {
        let kind = ValueKind::from_u8(packed as u8)?;
        (kind != ValueKind::RangeDelete).then_some(Tag(packed))
    }

    /// Returns the packed form.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// Returns the sequence number.
    pub fn seq(self) -> SeqNum {
        SeqNum(self.0 >> 8)
    }

    /// Returns the kind. A [`Tag::seek`] tag counts as a put.
    pub fn kind(self) -> ValueKind {
        match self.0 as u8 {
            0 => ValueKind::Delete,
            2 => ValueKind::RangeDelete,
            3 => ValueKind::Merge,
            4 => ValueKind::PutTtl,
            _ => ValueKind::Put,
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.kind(), self.seq())
    }
}

/// Orders internal keys: user key ascending, tag descending.
#[inline]
pub fn compare(a: (&[u8], Tag), b: (&[u8], Tag)) -> Ordering {
    a.0.cmp(b.0).then(b.1.cmp(&a.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_entries_sort_first() {
        let old = Tag::new(SeqNum(4), ValueKind::Put);
        let new = Tag::new(SeqNum(5), ValueKind::Delete);
        assert_eq!(compare((b"k", new), (b"k", old)), Ordering::Less);
        assert_eq!(compare((b"a", old), (b"b", new)), Ordering::Less);
    }

    #[test]
    fn seek_tag_stands_before_its_own_sequence() {
        let seek = Tag::seek(SeqNum(5));
        assert_eq!(compare((b"k", seek), (b"k", Tag::new(SeqNum(5), ValueKind::Put))), Ordering::Less);
        assert_eq!(compare((b"k", seek), (b"k", Tag::new(SeqNum(6), ValueKind::Delete))), Ordering::Greater);
    }

    #[test]
    fn tag_round_trips_and_refuses_unknown_kinds() {
        let tag = Tag::new(SeqNum(77), ValueKind::Delete);
        assert_eq!(Tag::from_u64(tag.to_u64()), Some(tag));
        assert_eq!((tag.seq(), tag.kind()), (SeqNum(77), ValueKind::Delete));
        assert_eq!(Tag::from_u64(77 << 8 | 2), None);
    }
}
