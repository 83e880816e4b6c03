//! The index of a table: which block may hold a key. One flat array, searched in memory, loaded once.
//!
//! Built by the table's writer, asked by every lookup and seek, from any thread.
//!
//! - Block `i` holds what lies after separator `i - 1` up to separator `i`, in internal key order. Where two blocks share a
//!   user key the separator carries the tag of its block's last entry, so a lookup at any sequence number reads one block.
//! - Separators ascend strictly, and so do the ends of the blocks; [`Index::decode`] checks both.
//!
//! A search compares eight bytes of each separator, kept as integers in an array of their own, and looks at a whole
//! separator only where those are equal.

use super::format::{Damage, Handle, SEAL_BYTES, head_of, put_u16};
use crate::base::coding::{Decoder, put_u32, put_u64};
use crate::base::key::{Tag, compare};
use crate::base::limits::KEY_BYTES_MAX;
use bytes::Bytes;
use std::cmp::Ordering;

const HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 8 + 8 + 4;
const HEAD_BYTES: usize = 8;

/// Returns the shortest internal key at or after `last` and before `next`.
pub(super) fn separator<'k>(last: (&'k [u8], Tag), next: (&'k [u8], Tag)) -> (&'k [u8], Tag) {
    debug_assert!(compare(last, next).is_lt());
    if last.0 == next.0 {
        return last;
    }
    let oldest = Tag::from_u64(0).expect("kind 0 is a tombstone");
    let common = last.0.iter().zip(next.0).take_while(|(a, b)| a == b).count();
    // Where they part, the next key's byte is the greater: cut there it lies between them, unless it is the whole key.
    if common < last.0.len() && common + 1 < next.0.len() {
        return (&next.0[..=common], oldest);
    }
    (last.0, oldest)
}

/// Collects the blocks of a table.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    keys: Vec<u8>,
    entries: Vec<(usize, Tag, u64)>,
}

impl IndexBuilder {
    /// Adds the next block: its separator and where its seal ends in the file.
    pub fn add(&mut self, key: &[u8], tag: Tag, end: u64) {
        self.keys.extend_from_slice(key);
        self.entries.push((self.keys.len(), tag, end));
    }

    /// Returns the number of blocks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns about how long the index would be.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.entries.len() * ENTRY_BYTES + self.keys.len()
    }

    /// Appends the index.
    pub fn finish(&self, out: &mut Vec<u8>) {
        let keys: Vec<&[u8]> = (0..self.entries.len())
            .map(|at| &self.keys[at.checked_sub(1).map_or(0, |before| self.entries[before].0)..self.entries[at].0])
            .collect();
        let (first, last) = (keys.first().copied().unwrap_or_default(), keys.last().copied().unwrap_or_default());
        let prefix_len = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        put_u32(out, u32::try_from(keys.len()).expect("a table has less than 2^32 blocks"));
        put_u16(out, u16::try_from(prefix_len).expect("bounded by KEY_BYTES_MAX"));
        put_u16(out, 0);
        out.extend_from_slice(&first[..prefix_len]);
        self.entries.iter().for_each(|entry| put_u64(out, entry.2));
        self.entries.iter().for_each(|entry| put_u64(out, entry.1.to_u64()));
        let mut end = 0;
        for key in &keys {
            end += key.len() - prefix_len;
            put_u32(out, u32::try_from(end).expect("an index is less than 4 GiB"));
        }
        keys.iter().for_each(|key| out.extend_from_slice(&key[prefix_len..]));
    }
}

/// An index as loaded.
#[derive(Clone, Debug)]
pub struct Index {
    bytes: Bytes,
    prefix_len: usize,
    suffixes_at: usize,
    heads: Vec<u64>,
    tags: Vec<Tag>,
    ends: Vec<u64>,
    suffix_ends: Vec<u32>,
}

impl Index {
    /// Takes an index that came out of its seal and describes a file whose data blocks end at `data_bytes`.
    ///
    /// # Errors
    /// The check that failed. Allocates less than three times the length of `bytes`.
    pub fn decode(bytes: Bytes, data_bytes: u64) -> Result<Index, Damage> {
        let index = Index::parse(bytes).ok_or("the index's length contradicts its header")?;
        let mut start = 0;
        for at in 0..index.len() {
            let end = index.ends[at];
            if end < start || end - start <= SEAL_BYTES as u64 {
                return Err("the index's blocks overlap");
            }
            start = end;
            if at > 0 && compare(index.suffix_and_tag(at - 1), index.suffix_and_tag(at)).is_ge() {
                return Err("the index's separators are out of order");
            }
        }
        if start != data_bytes {
            return Err("the index's blocks do not fill the data");
        }
        Ok(index)
    }

    fn parse(bytes: Bytes) -> Option<Index> {
        let mut d = Decoder::new(&bytes);
        let (count, prefix_len, zero) = (d.u32()? as usize, usize::from(d.u16()?), d.u16()?);
        d.take(prefix_len)?;
        if count == 0 || zero != 0 || d.rest().len() / ENTRY_BYTES < count {
            return None;
        }
        let ends = (0..count).map(|_| d.u64()).collect::<Option<Vec<_>>>()?;
        let tags = (0..count).map(|_| d.u64().and_then(Tag::from_u64)).collect::<Option<Vec<_>>>()?;
        let suffix_ends = (0..count).map(|_| d.u32()).collect::<Option<Vec<_>>>()?;
        let suffixes = d.rest();
        let (mut heads, mut start) = (Vec::with_capacity(count), 0);
        for end in &suffix_ends {
            let suffix = suffixes.get(start..*end as usize)?;
            if prefix_len + suffix.len() > KEY_BYTES_MAX {
                return None;
            }
            heads.push(head_of(suffix, HEAD_BYTES));
            start = *end as usize;
        }
        if start != suffixes.len() {
            return None;
        }
        let suffixes_at = d.position();
        Some(Index { bytes, prefix_len, suffixes_at, heads, tags, ends, suffix_ends })
    }

    /// Returns the number of blocks, at least one.
    #[expect(clippy::len_without_is_empty, reason = "an index is never empty")]
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Returns how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.heads.len() * (3 * size_of::<u64>() + size_of::<u32>())
    }

    /// Returns where block `at` lies.
    #[inline]
    pub fn block(&self, at: usize) -> Handle {
        let offset = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Handle { offset, bytes: self.ends[at] - offset }
    }

    /// Returns true if separator `at` is at or after `(key, tag)`.
    pub fn covers(&self, at: usize, key: &[u8], tag: Tag) -> bool {
        match key.strip_prefix(self.prefix()) {
            Some(suffix) => compare(self.suffix_and_tag(at), (suffix, tag)).is_ge(),
            None => key < self.prefix(),
        }
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + self.prefix_len]
    }

    #[inline]
    fn suffix_and_tag(&self, at: usize) -> (&[u8], Tag) {
        let start = at.checked_sub(1).map_or(0, |before| self.suffix_ends[before] as usize);
        let suffixes = &self.bytes[self.suffixes_at..];
        (&suffixes[start..self.suffix_ends[at] as usize], self.tags[at])
    }

    /// Returns the first block whose separator is at or after `(key, tag)`: the only one that may hold it.
    #[inline]
    pub fn find(&self, key: &[u8], tag: Tag) -> Option<usize> {
        let Some(suffix) = key.strip_prefix(self.prefix()) else {
            return (key < self.prefix()).then_some(0);
        };
        let head = head_of(suffix, HEAD_BYTES);
        let mut low = self.heads.partition_point(|at| *at < head);
        if self.heads.get(low) == Some(&head) {
            let equal = self.heads[low..].partition_point(|at| *at == head);
            let (mut from, mut to) = (low, low + equal);
            while from < to {
                let middle = (from + to) / 2;
                if compare(self.suffix_and_tag(middle), (suffix, tag)) == Ordering::Less {
                    from = middle + 1;
                } else {
                    to = middle;
                }
            }
            low = from;
        }
        (low < self.len()).then_some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{SeqNum, ValueKind};
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::BTreeSet;

    fn keys() -> impl Strategy<Value = BTreeSet<(Vec<u8>, Reverse<u64>)>> {
        let key = prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..12);
        prop::collection::btree_set((key, (0u64..4).prop_map(|seq| Reverse(seq << 8 | 1))), 1..50)
    }

    proptest! {
        #[test]
        fn finds_what_a_sorted_set_finds(keys in keys(), shared: bool, probes in keys()) {
            let full = |key: &[u8]| if shared { [b"pre".as_slice(), key].concat() } else { key.to_vec() };
            let tag = |packed: Reverse<u64>| Tag::from_u64(packed.0).unwrap();
            let mut builder = IndexBuilder::default();
            for (at, (key, packed)) in keys.iter().enumerate() {
                builder.add(&full(key), tag(*packed), (at as u64 + 1) * 100);
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            prop_assert!(bytes.len() <= builder.bytes());
            let index = Index::decode(bytes.into(), keys.len() as u64 * 100).unwrap();
            for (key, packed) in probes.iter().chain(&keys) {
                let before = keys.range(..(key.clone(), *packed)).count();
                let found = index.find(&full(key), tag(*packed));
                prop_assert_eq!(found, (before < keys.len()).then_some(before));
                for at in 0..index.len() {
                    prop_assert_eq!(index.covers(at, &full(key), tag(*packed)), at >= before);
                }
            }
            if shared {
                prop_assert_eq!(index.find(b"a", tag(Reverse(0))), Some(0));
                prop_assert_eq!(index.find(b"q", tag(Reverse(0))), None);
            }
            prop_assert_eq!(index.block(0), Handle { offset: 0, bytes: 100 });
        }

        #[test]
        fn separators_separate(keys in keys()) {
            let keys: Vec<_> = keys.iter().map(|(key, packed)| (&key[..], Tag::from_u64(packed.0).unwrap())).collect();
            for pair in keys.windows(2) {
                let between = separator(pair[0], pair[1]);
                prop_assert!(compare(pair[0], between).is_le() && compare(between, pair[1]).is_lt());
            }
        }

        #[test]
        fn decoder_survives_anything(bytes: Vec<u8>, keys in keys(), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
            let _ = Index::decode(bytes.into(), 100);
            let mut builder = IndexBuilder::default();
            for (at, (key, packed)) in keys.iter().enumerate() {
                builder.add(key, Tag::from_u64(packed.0).unwrap(), (at as u64 + 1) * 100);
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(index) = Index::decode(bytes.into(), keys.len() as u64 * 100) {
                let _ = index.find(b"\x00\x01", Tag::seek(SeqNum(3)));
                assert_eq!(index.block(index.len() - 1).offset + index.block(index.len() - 1).bytes, keys.len() as u64 * 100);
            }
        }
    }

    #[test]
    fn a_shorter_key_between_is_found() {
        let tag = Tag::new(SeqNum(9), ValueKind::Put);
        assert_eq!(separator((b"apple", tag), (b"banana", tag)).0, b"b");
        assert_eq!(separator((b"apple", tag), (b"b", tag)).0, b"apple");
        assert_eq!(separator((b"a", tag), (b"apple", tag)).0, b"a");
        let older = Tag::new(SeqNum(8), ValueKind::Put);
        assert_eq!(separator((b"a", tag), (b"a", older)), (&b"a"[..], tag));
    }
}
