//! Data blocks: searched as they are stored, without being parsed.
//!
//! [`BlockBuilder`] belongs to the table's writer. [`Block`] is a view over decompressed bytes, made anew for each lookup:
//! decoding reads the header of eight bytes and nothing else. Layout in [`format`](super::format).
//!
//! - A point lookup compares one byte of hash with the fingerprint column, eight entries at a time, and looks at the few
//!   entries that match; a seek searches the column of heads, which fits few cache lines, and looks at an entry only where
//!   two heads are equal.
//! - Versions of a key stand together, newest first, and may go on in the next block.
//! - Bytes may be anything: each offset is checked where it is used, and what does not fit is [`Damage`]. Only
//!   [`Block::check`] looks at everything.

use super::format::{Damage, head_bytes, head_of, load_head, put_u16, set_u16};
use crate::base::coding::{Decoder, get_u16, get_u64, put_u64, put_varint, varint_len};
use crate::base::hash::hash64;
use crate::base::key::{Tag, compare};
use crate::base::limits::KEY_BYTES_MAX;
use std::cmp::Ordering;
use std::ops::Range;

const HEADER_BYTES: usize = 8;
const TAG_BYTES: usize = 8;
const HEAD_BYTES_MAX: usize = 8;
/// What an entry takes beside key and value: tag, length, fingerprint, offset.
const ENTRY_OVERHEAD_BYTES: usize = TAG_BYTES + 1 + 1 + 2;
const ENTRY_OUTSIDE: Damage = "an entry lies outside its block";

/// Returns the byte of `hash64(user key, 0)` that the fingerprint column keeps.
#[inline]
pub(super) fn fingerprint(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// Collects the entries of one block, in order.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    entries: Vec<Pending>,
    prefix_len: usize,
}

#[derive(Debug)]
struct Pending {
    key_end: usize,
    value_end: usize,
    tag: Tag,
    fingerprint: u8,
}

impl BlockBuilder {
    /// Adds an entry, which the caller keeps in order.
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) {
        self.add_hashed(key, hash64(key, 0), tag, value);
    }

    /// [`add`](Self::add) with `hash` = `hash64(key, 0)`.
    pub(super) fn add_hashed(&mut self, key: &[u8], hash: u64, tag: Tag, value: &[u8]) {
        assert!(key.len() <= KEY_BYTES_MAX, "key of {} bytes", key.len());
        self.prefix_len = match self.entries.first() {
            None => key.len(),
            Some(first) => common_len(&self.keys[..first.key_end.min(self.prefix_len)], key),
        };
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        self.entries.push(Pending {
            key_end: self.keys.len(),
            value_end: self.values.len(),
            tag,
            fingerprint: fingerprint(hash),
        });
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the last key and tag.
    pub fn last(&self) -> Option<(&[u8], Tag)> {
        let last = self.entries.len().checked_sub(1)?;
        Some((self.key(last), self.entries[last].tag))
    }

    /// Returns about how many bytes the block takes; short suffixes take a few more.
    pub fn estimated_bytes(&self) -> usize {
        let shared = self.prefix_len * self.entries.len().saturating_sub(1);
        HEADER_BYTES + self.keys.len() - shared + self.values.len() + ENTRY_OVERHEAD_BYTES * self.entries.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.entries[before].key_end);
        &self.keys[start..self.entries[at].key_end]
    }

    /// Appends the block to `out` and empties the builder.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let (count, prefix_len) = (self.entries.len(), self.prefix_len);
        assert!((1..=usize::from(u16::MAX)).contains(&count), "block of {count} entries");
        let suffix_len_max = (0..count).map(|at| self.key(at).len() - prefix_len).max().unwrap_or(0);
        let width = suffix_len_max.min(HEAD_BYTES_MAX);
        put_u16(out, count as u16);
        put_u16(out, u16::try_from(prefix_len).expect("bounded by KEY_BYTES_MAX"));
        out.extend_from_slice(&[width as u8, 0, 0, 0]);
        out.extend_from_slice(&self.keys[..prefix_len]);
        out.extend(self.entries.iter().map(|entry| entry.fingerprint));
        for at in 0..count {
            let head = head_bytes(head_of(&self.key(at)[prefix_len..], width));
            out.extend_from_slice(&head[..width]);
        }
        let offsets_at = out.len();
        out.resize(offsets_at + 2 * count, 0);
        let entries_at = out.len();
        let mut value_start = 0;
        for at in 0..count {
            let offset =
                u16::try_from(out.len() - entries_at).expect("a block of more than one entry is at most 64 KiB");
            set_u16(out, offsets_at + 2 * at, offset);
            let (entry, suffix) = (&self.entries[at], &self.key(at)[prefix_len..]);
            put_u64(out, entry.tag.to_u64());
            put_varint(out, suffix.len() as u64);
            out.extend_from_slice(&suffix[width.min(suffix.len())..]);
            out.extend_from_slice(&self.values[value_start..entry.value_end]);
            value_start = entry.value_end;
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
        self.prefix_len = 0;
    }

    /// Appends the block that holds just one entry, without a copy of the value in between.
    pub(super) fn single(key: &[u8], hash: u64, tag: Tag, value: &[u8], out: &mut Vec<u8>) {
        out.reserve(entry_bytes_max(key, value));
        put_u16(out, 1);
        put_u16(out, u16::try_from(key.len()).expect("bounded by KEY_BYTES_MAX"));
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(key);
        out.push(fingerprint(hash));
        put_u16(out, 0);
        put_u64(out, tag.to_u64());
        out.push(0);
        out.extend_from_slice(value);
    }
}

/// Returns how many bytes a key and value take in a block at most, its header included.
pub(super) fn entry_bytes_max(key: &[u8], value: &[u8]) -> usize {
    HEADER_BYTES + ENTRY_OVERHEAD_BYTES + varint_len(key.len() as u64) + key.len() + value.len()
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where the parts of a block begin: what a cursor keeps beside the block's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    count: usize,
    prefix_len: usize,
    width: usize,
}

/// A view over the bytes of a block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

/// One entry in place.
struct Entry<'a> {
    tag: Tag,
    /// Length of the key without the block's prefix.
    suffix_len: usize,
    /// What of the key is neither in the prefix nor in the head.
    rest: &'a [u8],
    value: Range<usize>,
}

/// A key to search for, split as the block splits its own.
struct Target<'t> {
    head: u64,
    rest: &'t [u8],
    suffix_len: usize,
    tag: Tag,
}

impl<'a> Block<'a> {
    /// Takes a block that came out of its seal.
    ///
    /// # Errors
    /// The check that failed: the header's columns must lie within the block.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Block<'a>, Damage> {
        let (Some(count), Some(prefix_len), Some(width)) = (get_u16(bytes, 0), get_u16(bytes, 2), bytes.get(4)) else {
            return Err("the block is shorter than its header");
        };
        let layout =
            Layout { count: usize::from(count), prefix_len: usize::from(prefix_len), width: usize::from(*width) };
        if layout.count == 0 || layout.width > HEAD_BYTES_MAX {
            return Err("the block's header is impossible");
        }
        let block = Block { bytes, layout };
        // The last head is read as eight bytes: its own and what follows, at least one offset and one entry.
        if bytes.len() < block.entries_at() + TAG_BYTES + 1 {
            return Err("the block is shorter than its columns");
        }
        Ok(block)
    }

    /// Restores a view from its parts; `layout` came from [`layout`](Self::layout) over the same bytes.
    #[inline]
    pub(super) fn with(bytes: &'a [u8], layout: Layout) -> Block<'a> {
        Block { bytes, layout }
    }

    /// Returns where the parts begin.
    #[inline]
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the number of entries, at least one.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.layout.count
    }

    /// Returns the bytes that the ranges of values are of.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    fn prefix(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + self.layout.prefix_len]
    }

    #[inline]
    fn fingerprints_at(&self) -> usize {
        HEADER_BYTES + self.layout.prefix_len
    }

    #[inline]
    fn heads_at(&self) -> usize {
        self.fingerprints_at() + self.layout.count
    }

    #[inline]
    fn offsets_at(&self) -> usize {
        self.heads_at() + self.layout.width * self.layout.count
    }

    #[inline]
    fn entries_at(&self) -> usize {
        self.offsets_at() + 2 * self.layout.count
    }

    #[inline]
    fn head(&self, at: usize) -> u64 {
        let head = load_head(self.bytes, self.heads_at() + at * self.layout.width, self.layout.width);
        head.expect("decode saw nine bytes after the last head")
    }

    #[inline]
    fn entry_start(&self, at: usize) -> Result<usize, Damage> {
        let offset = get_u16(self.bytes, self.offsets_at() + 2 * at).ok_or(ENTRY_OUTSIDE)?;
        Ok(self.entries_at() + usize::from(offset))
    }

    #[inline]
    fn entry(&self, at: usize) -> Result<Entry<'a>, Damage> {
        let start = self.entry_start(at)?;
        let end = if at + 1 < self.layout.count { self.entry_start(at + 1)? } else { self.bytes.len() };
        let bytes = self.bytes.get(start..end).ok_or(ENTRY_OUTSIDE)?;
        let tag = get_u64(bytes, 0).and_then(Tag::from_u64).ok_or("an entry has no tag")?;
        let (suffix_len, rest_at) = match bytes.get(TAG_BYTES) {
            Some(len) if *len < 0x80 => (usize::from(*len), TAG_BYTES + 1),
            Some(_) => {
                let mut decoder = Decoder::new(&bytes[TAG_BYTES..]);
                let len = decoder.varint().ok_or("an entry has no key length")?;
                (usize::try_from(len).unwrap_or(usize::MAX), TAG_BYTES + decoder.position())
            }
            None => return Err("an entry has no key length"),
        };
        if suffix_len > KEY_BYTES_MAX - self.layout.prefix_len {
            return Err("an entry's key is too long");
        }
        let value_at = rest_at + suffix_len.saturating_sub(self.layout.width);
        let rest = bytes.get(rest_at..value_at).ok_or("an entry's key ends outside it")?;
        Ok(Entry { tag, suffix_len, rest, value: start + value_at..end })
    }

    #[inline]
    fn target<'t>(&self, suffix: &'t [u8], tag: Tag) -> Target<'t> {
        let width = self.layout.width;
        let rest = suffix.get(width..).unwrap_or_default();
        Target { head: head_of(suffix, width), rest, suffix_len: suffix.len(), tag }
    }

    /// Compares the user key of entry `at` with the target's.
    #[inline]
    fn compare_key(&self, at: usize, entry: &Entry<'_>, target: &Target<'_>) -> Ordering {
        let order = self.head(at).cmp(&target.head);
        order.then_with(|| entry.rest.cmp(target.rest)).then_with(|| entry.suffix_len.cmp(&target.suffix_len))
    }

    /// Returns the newest entry of `key` at or below `tag` (see [`Tag::seek`]) with the range of its value;
    /// `hash` is `hash64(key, 0)`. An older version may stand in the next block if there is none here.
    ///
    /// # Errors
    /// The check that failed, of the entries looked at.
    #[inline]
    pub fn get(&self, key: &[u8], hash: u64, tag: Tag) -> Result<Option<(Tag, Range<usize>)>, Damage> {
        let Some(suffix) = key.strip_prefix(self.prefix()) else { return Ok(None) };
        let target = self.target(suffix, tag);
        let column = &self.bytes[self.fingerprints_at()..self.heads_at()];
        let mut from = 0;
        while let Some(at) = find_byte(column, from, fingerprint(hash)) {
            from = at + 1;
            if self.head(at) != target.head {
                continue;
            }
            let entry = self.entry(at)?;
            // The first version here is the newest; one that is too new is passed over with the keys that differ.
            if entry.suffix_len == target.suffix_len && entry.rest == target.rest && entry.tag <= tag {
                return Ok(Some((entry.tag, entry.value)));
            }
        }
        Ok(None)
    }

    /// Returns the number of the first entry at or after `(key, tag)`, or the number of entries.
    ///
    /// # Errors
    /// The check that failed, of the entries looked at.
    pub fn lower_bound(&self, key: &[u8], tag: Tag) -> Result<usize, Damage> {
        let Some(suffix) = key.strip_prefix(self.prefix()) else {
            return Ok(if key < self.prefix() { 0 } else { self.len() });
        };
        let target = self.target(suffix, tag);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            let mut order = self.head(middle).cmp(&target.head);
            if order.is_eq() {
                let entry = self.entry(middle)?;
                order = self.compare_key(middle, &entry, &target).then_with(|| target.tag.cmp(&entry.tag));
            }
            if order.is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Reads entry `at`: replaces `key` by its user key, returns its tag and the range of its value.
    ///
    /// # Errors
    /// The check that failed.
    pub fn read(&self, at: usize, key: &mut Vec<u8>) -> Result<(Tag, Range<usize>), Damage> {
        key.clear();
        key.extend_from_slice(self.prefix());
        self.read_next(at, key)
    }

    /// [`read`](Self::read) where `key` holds the key of another entry of this block.
    #[inline]
    pub(super) fn read_next(&self, at: usize, key: &mut Vec<u8>) -> Result<(Tag, Range<usize>), Damage> {
        let entry = self.entry(at)?;
        key.truncate(self.layout.prefix_len);
        let head = head_bytes(self.head(at));
        key.extend_from_slice(&head[..entry.suffix_len.min(self.layout.width)]);
        key.extend_from_slice(entry.rest);
        Ok((entry.tag, entry.value))
    }

    /// Checks everything: each entry in place and in order, no byte unused, each fingerprint right.
    ///
    /// # Errors
    /// The check that failed.
    pub fn check(&self) -> Result<(), Damage> {
        if self.bytes[5..HEADER_BYTES] != [0; 3] || self.entry_start(0)? != self.entries_at() {
            return Err("the block's header or first entry is not as this version writes it");
        }
        let (mut key, mut before) = (Vec::new(), None::<(Vec<u8>, Tag)>);
        for at in 0..self.len() {
            let (tag, _) = self.read(at, &mut key)?;
            if before.as_ref().is_some_and(|(last, last_tag)| compare((last, *last_tag), (&key, tag)).is_ge()) {
                return Err("the block's entries are out of order");
            }
            if self.bytes[self.fingerprints_at() + at] != fingerprint(hash64(&key, 0)) {
                return Err("a fingerprint is not its key's");
            }
            let suffix = &key[self.layout.prefix_len..];
            if self.head(at) != head_of(suffix, self.layout.width) {
                return Err("a head is not its key's");
            }
            before = Some((key.clone(), tag));
        }
        // One entry's value must not hide others: sizes are bounded where offsets are.
        if self.len() > 1 && self.entry_start(self.len() - 1)? >= self.bytes.len() {
            return Err(ENTRY_OUTSIDE);
        }
        Ok(())
    }
}

/// Returns the first position at or after `from` where `column` holds `byte`; eight at a time.
#[inline]
fn find_byte(column: &[u8], mut from: usize, byte: u8) -> Option<usize> {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
    while let Some(word) = get_u64(column, from) {
        let differs = word ^ pattern;
        // The high bit of each byte that is zero in `differs`, exactly.
        let zeros = !(((differs & LOW) + LOW) | differs | LOW);
        if zeros != 0 {
            return Some(from + zeros.trailing_zeros() as usize / 8);
        }
        from += 8;
    }
    column.get(from..)?.iter().position(|at| *at == byte).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{SeqNum, ValueKind};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>;

    fn entries() -> impl Strategy<Value = Model> {
        let key = (prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..13), 0usize..3)
            .prop_map(|(tail, shared)| [&b"same-head:"[..shared * 5], &tail].concat());
        let tag = (0u64..6).prop_map(|seq| std::cmp::Reverse(seq << 8 | 1));
        prop::collection::btree_map((key, tag), prop::collection::vec(any::<u8>(), 0..200), 1..60)
    }

    fn tag(packed: std::cmp::Reverse<u64>) -> Tag {
        Tag::from_u64(packed.0).unwrap()
    }

    fn build(model: &Model) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        for ((key, packed), value) in model {
            builder.add(key, tag(*packed), value);
        }
        let (mut out, estimated) = (Vec::new(), builder.estimated_bytes());
        builder.finish(&mut out);
        assert!(out.len() <= estimated + model.len() * 9 && builder.is_empty());
        out
    }

    proptest! {
        #[test]
        fn matches_a_sorted_map(model in entries(), probes in entries()) {
            let bytes = build(&model);
            let block = Block::decode(&bytes).unwrap();
            block.check().unwrap();
            prop_assert_eq!(block.len(), model.len());
            let mut key = Vec::new();
            for (at, ((wanted, packed), value)) in model.iter().enumerate() {
                let (found, range) = block.read(at, &mut key).unwrap();
                prop_assert_eq!((&key, found, &bytes[range]), (wanted, tag(*packed), &value[..]));
            }
            for (wanted, packed) in probes.keys().chain(model.keys()) {
                let at = block.lower_bound(wanted, tag(*packed)).unwrap();
                let before = model.range(..(wanted.clone(), *packed)).count();
                prop_assert_eq!(at, before);
                let seek = Tag::seek(tag(*packed).seq());
                let expected = model.range((wanted.clone(), std::cmp::Reverse(seek.to_u64()))..).next();
                let expected = expected.filter(|((key, _), _)| key == wanted).map(|((_, packed), value)| (tag(*packed), &value[..]));
                let found = block.get(wanted, hash64(wanted, 0), seek).unwrap();
                prop_assert_eq!(found.map(|(tag, range)| (tag, &bytes[range])), expected);
            }
        }

        #[test]
        fn survives_anything(mut bytes: Vec<u8>, model in entries(), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
            exercise(&bytes);
            if bytes.len() > 16 {
                bytes[0] = 1;
                bytes[1..8].fill(0);
                exercise(&bytes);
            }
            let mut bytes = build(&model);
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            exercise(&bytes);
        }
    }

    fn exercise(bytes: &[u8]) {
        let Ok(block) = Block::decode(bytes) else { return };
        let _ = block.check();
        let mut key = Vec::new();
        for at in 0..block.len() {
            if let Ok((tag, range)) = block.read(at, &mut key) {
                assert!(range.end <= bytes.len());
                let _ = block.lower_bound(&key, tag);
                let _ = block.get(&key, hash64(&key, 0), tag);
            }
        }
        let _ = block.lower_bound(b"", Tag::seek(SeqNum::MAX));
        let _ = block.get(b"k", 0, Tag::seek(SeqNum::MAX));
    }

    #[test]
    fn find_byte_finds_each_position() {
        for len in 0..40 {
            for at in 0..len {
                let mut column = vec![0x80; len];
                column[at] = 0x81;
                assert_eq!(find_byte(&column, 0, 0x81), Some(at));
                assert_eq!(find_byte(&column, at + 1, 0x81), None);
                assert_eq!(find_byte(&column, 0, 0x01), None);
            }
        }
    }

    #[test]
    fn a_jumbo_entry_fits() {
        let mut builder = BlockBuilder::default();
        let value = vec![3; 1 << 20];
        let (key, tag) = ([b'k'; KEY_BYTES_MAX], Tag::new(SeqNum(1), ValueKind::Put));
        builder.add(&key, tag, &value);
        let (mut out, mut single) = (Vec::new(), Vec::new());
        builder.finish(&mut out);
        BlockBuilder::single(&key, hash64(&key, 0), tag, &value, &mut single);
        assert_eq!(out, single);
        let block = Block::decode(&out).unwrap();
        block.check().unwrap();
        let (_, range) = block.get(&key, hash64(&key, 0), Tag::seek(SeqNum::MAX)).unwrap().unwrap();
        assert_eq!(out[range], value);
    }
}
