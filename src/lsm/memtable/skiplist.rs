//! [`SkipList`]: the reference memtable, a skip list in an arena with one writer and wait-free readers.
//!
//! **Invariants.** A node is written whole before it is linked, and never changed afterwards but for its links. Links of level 0
//! hold every node in internal key order; those of level `l` a subsequence of level `l - 1`. Nodes are freed with the list.
//!
//! **Why readers need no lock.** The writer fills a node, then stores its address into its predecessors' links with `Release`,
//! level 0 first. A reader loads each link with `Acquire`, so whatever node it reaches, it sees filled. A link only ever
//! changes to a node in between, so a reader that saw the old one is still on a sorted path; at worst it passes an entry that
//! is being inserted right now. There is no removal, hence no reclamation and no ABA: the two orderings are the whole proof, and
//! what a model checker would explore is a single store against single loads. The tests compare with a `BTreeMap` and run
//! readers against the writer.
//!
//! **Writer.** One at a time, held by a flag that panics on a second one rather than by a lock, as the engine's commit leader
//! is alone anyhow. It remembers where it inserted last: ascending keys are appended without a search.
//!
//! A node keeps the first 8 bytes of its key as an integer, so most comparisons need nothing else of it. Heights come from a
//! xorshift in the list, with a fixed seed: the same inserts give the same list.
#![expect(unsafe_code, reason = "a leaf type: nodes of variable length, linked while others read")]

use super::Memtable;
use super::arena::{ALIGN, Arena, prefetch};
use super::filter::MemtableFilter;
use crate::base::Result;
use crate::base::key::{SeqNum, Tag};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::lsm::iter::InternalIterator;
use std::cell::UnsafeCell;
use std::cmp::Ordering as Order;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Levels; with a quarter of each level's nodes on the next this suits 4^12 entries.
const HEIGHT_MAX: usize = 12;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Followed in memory by `height` links, the key and the value.
#[repr(C)]
struct Node {
    /// The first 8 bytes of the key, padded with zeros, in the order of the keys.
    head: u64,
    tag: Tag,
    key_len: u32,
    value_len: u32,
    height: usize,
}

type Link = AtomicPtr<Node>;

const _: () = assert!(align_of::<Node>() <= ALIGN && size_of::<Node>().is_multiple_of(align_of::<Link>()));
const _: () = assert!(KEY_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(VALUE_BYTES_MAX <= u32::MAX as usize);

/// What is searched for.
#[derive(Clone, Copy)]
struct Target<'t> {
    head: u64,
    key: &'t [u8],
    tag: Tag,
}

impl<'t> Target<'t> {
    #[inline]
    fn new(key: &'t [u8], tag: Tag) -> Target<'t> {
        Target { head: crate::lsm::table::format::head_of(key, 8), key, tag }
    }
}

/// A skip list in an arena: one writer, wait-free readers.
pub struct SkipList {
    arena: Arena,
    /// Says of most absent keys that they are; absent itself in a list made without.
    filter: Option<MemtableFilter>,
    /// The links of a node before the first.
    first: [Link; HEIGHT_MAX],
    height: AtomicUsize,
    len: AtomicUsize,
    writing: AtomicBool,
    writer: UnsafeCell<Writer>,
}

/// What only the writer touches.
struct Writer {
    random: u64,
    /// The node before the last insertion on each level, then the inserted node where it reaches; null is the list's start.
    last: [*const Node; HEIGHT_MAX],
}

// SAFETY: nodes are owned by the arena and not tied to a thread; `writer` is touched only while `writing` is held.
unsafe impl Send for SkipList {}
// SAFETY: readers reach nodes only through links (see the top of the file); `writer` is guarded by `writing`.
unsafe impl Sync for SkipList {}

impl Default for SkipList {
    fn default() -> SkipList {
        SkipList::new()
    }
}

impl SkipList {
    /// Makes an empty list.
    pub fn new() -> SkipList {
        SkipList::build(None)
    }

    /// Makes an empty list that answers for absent keys from a filter, sized for `memtable_bytes` of entries.
    pub fn with_filter(memtable_bytes: usize) -> SkipList {
        SkipList::build(Some(MemtableFilter::new(memtable_bytes)))
    }

    fn build(filter: Option<MemtableFilter>) -> SkipList {
        SkipList {
            arena: Arena::new(),
            filter,
            first: [const { Link::new(null_mut()) }; HEIGHT_MAX],
            height: AtomicUsize::new(1),
            len: AtomicUsize::new(0),
            writing: AtomicBool::new(false),
            writer: UnsafeCell::new(Writer { random: SEED, last: [null(); HEIGHT_MAX] }),
        }
    }

    /// Returns the link of `node` (null: the list's start) on `level`.
    #[inline]
    fn link(&self, node: *const Node, level: usize) -> &Link {
        if node.is_null() {
            return &self.first[level];
        }
        // SAFETY: `node` is one of this list's, alive as long as `self` is borrowed; it was reached on `level` or below, so
        // it has that link, which `new_node` initialised right behind the header.
        unsafe {
            debug_assert!(level < (*node).height);
            &*node.add(1).cast::<Link>().add(level)
        }
    }

    #[inline]
    fn following(&self, node: *const Node, level: usize) -> *const Node {
        self.link(node, level).load(Ordering::Acquire)
    }

    /// Returns the key of `node`, which is not null.
    #[inline]
    fn key(&self, node: *const Node) -> &[u8] {
        // SAFETY: as for `link`; the key's bytes follow the links and were written before the node was linked.
        unsafe {
            let start = node.add(1).cast::<Link>().add((*node).height).cast::<u8>();
            std::slice::from_raw_parts(start, (*node).key_len as usize)
        }
    }

    /// Returns the value of `node`, which is not null.
    #[inline]
    fn value(&self, node: *const Node) -> &[u8] {
        // SAFETY: as for `key`: the value's bytes follow the key's in the same allocation.
        unsafe {
            let key_start = node.add(1).cast::<Link>().add((*node).height).cast::<u8>();
            std::slice::from_raw_parts(key_start.add((*node).key_len as usize), (*node).value_len as usize)
        }
    }

    #[inline]
    fn tag(&self, node: *const Node) -> Tag {
        // SAFETY: as for `link`: a node of this list, filled before it was linked.
        unsafe { (*node).tag }
    }

    /// Compares the internal key of `node`, which is not null, with the target's.
    #[inline]
    fn compare(&self, node: *const Node, target: &Target<'_>) -> Order {
        // SAFETY: as for `link`.
        let head = unsafe { (*node).head };
        if head != target.head {
            return head.cmp(&target.head);
        }
        self.key(node).cmp(target.key).then_with(|| target.tag.cmp(&self.tag(node)))
    }

    /// Returns the last node before the target (null: none) and the first at or after it (null: none).
    #[inline]
    fn search(&self, target: &Target<'_>, mut visit: impl FnMut(usize, *const Node)) -> (*const Node, *const Node) {
        let mut before = null();
        let mut known_after = null();
        let mut level = self.height.load(Ordering::Relaxed) - 1;
        loop {
            let after = self.following(before, level);
            if level > 0 {
                // Where the search goes on if it does not go right: fetched while `after` is.
                prefetch(self.following(before, level - 1).cast());
            }
            // What was too far on the level above is too far here.
            if after != known_after && !after.is_null() && self.compare(after, target).is_lt() {
                before = after;
                continue;
            }
            visit(level, before);
            if level == 0 {
                return (before, after);
            }
            known_after = after;
            level -= 1;
        }
    }

    fn last_node(&self) -> *const Node {
        let mut node = null();
        for level in (0..self.height.load(Ordering::Relaxed)).rev() {
            loop {
                let after = self.following(node, level);
                if after.is_null() {
                    break;
                }
                node = after;
            }
        }
        node
    }

    /// Writes a node that nobody can reach yet.
    ///
    /// # Safety
    /// The caller holds `writing`.
    unsafe fn new_node(&self, target: &Target<'_>, value: &[u8], height: usize) -> *mut Node {
        let links_bytes = height * size_of::<Link>();
        let bytes = size_of::<Node>() + links_bytes + target.key.len() + value.len();
        // SAFETY: the caller is the only writer. All writes below stay within the `bytes` that were given out, which nobody
        // else can reach; header and links are aligned because the allocation and their sizes are.
        unsafe {
            let node = self.arena.alloc(bytes).cast::<Node>().as_ptr();
            let (key_len, value_len) = (target.key.len() as u32, value.len() as u32);
            node.write(Node { head: target.head, tag: target.tag, key_len, value_len, height });
            let links = node.add(1).cast::<Link>();
            for level in 0..height {
                links.add(level).write(Link::new(null_mut()));
            }
            let key_at = links.add(height).cast::<u8>();
            key_at.copy_from_nonoverlapping(target.key.as_ptr(), target.key.len());
            key_at.add(target.key.len()).copy_from_nonoverlapping(value.as_ptr(), value.len());
            node
        }
    }

    /// Finds for each level the node after which the target belongs.
    fn predecessors(&self, target: &Target<'_>, last: &mut [*const Node; HEIGHT_MAX]) {
        // Ascending inserts: the target belongs right behind the last one, on every level.
        let after_last = self.following(last[0], 0);
        if !last[0].is_null() && after_last.is_null() && self.compare(last[0], target).is_lt() {
            return;
        }
        last.fill(null());
        let (_, after) = self.search(target, |level, before| last[level] = before);
        assert!(after.is_null() || self.compare(after, target).is_ne(), "internal key inserted twice");
    }
}

impl Writer {
    /// Draws a height: each further level has a chance of a quarter.
    fn draw_height(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let bits = self.random.wrapping_mul(SEED) >> 32;
        (1 + bits.trailing_zeros() as usize / 2).min(HEIGHT_MAX)
    }
}

impl Memtable for SkipList {
    type Iter = SkipListIterator;

    fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) {
        assert!(key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX, "entry over the limits");
        assert!(!self.writing.swap(true, Ordering::Acquire), "two writers in one memtable");
        // SAFETY: `writing` is held, so this is the only reference.
        let writer = unsafe { &mut *self.writer.get() };
        let target = Target::new(key, tag);
        self.predecessors(&target, &mut writer.last);
        let height = writer.draw_height();
        if let Some(filter) = &self.filter {
            // Before the entry is linked, and so before anyone may ask for it.
            filter.insert(key);
        }
        // SAFETY: `writing` is held.
        let node = unsafe { self.new_node(&target, value, height) };
        if height > self.height.load(Ordering::Relaxed) {
            // A reader that sees the new height before the links just finds them empty.
            self.height.store(height, Ordering::Relaxed);
        }
        for level in 0..height {
            let before = self.link(writer.last[level], level);
            self.link(node, level).store(before.load(Ordering::Relaxed), Ordering::Relaxed);
            before.store(node, Ordering::Release);
            writer.last[level] = node;
        }
        self.len.store(self.len.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.writing.store(false, Ordering::Release);
    }

    fn get(&self, key: &[u8], seq: SeqNum) -> Option<(Tag, &[u8])> {
        if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(key)) {
            return None;
        }
        let target = Target::new(key, Tag::seek(seq));
        let (_, node) = self.search(&target, |_, _| {});
        (!node.is_null() && self.key(node) == key).then(|| (self.tag(node), self.value(node)))
    }

    fn iter(self: &Arc<Self>) -> SkipListIterator {
        SkipListIterator { list: self.clone(), node: null() }
    }

    fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

/// A cursor over a [`SkipList`], which it keeps alive.
pub struct SkipListIterator {
    list: Arc<SkipList>,
    /// Null: not valid.
    node: *const Node,
}

// SAFETY: the node belongs to `list`, which the cursor keeps alive and which may be read from any thread.
unsafe impl Send for SkipListIterator {}

impl SkipListIterator {
    #[inline]
    fn node(&self) -> *const Node {
        assert!(!self.node.is_null(), "the cursor stands on no entry");
        self.node
    }
}

impl InternalIterator for SkipListIterator {
    fn valid(&self) -> bool {
        !self.node.is_null()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.node = self.list.following(null(), 0);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.node = self.list.last_node();
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.node = self.list.search(&Target::new(key, tag), |_, _| {}).1;
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let target = Target::new(key, tag);
        let (before, after) = self.list.search(&target, |_, _| {});
        let exact = !after.is_null() && self.list.compare(after, &target).is_eq();
        self.node = if exact { after } else { before };
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if !self.node.is_null() {
            self.node = self.list.following(self.node, 0);
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if !self.node.is_null() {
            let target = Target::new(self.list.key(self.node), self.list.tag(self.node));
            self.node = self.list.search(&target, |_, _| {}).0;
        }
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.list.key(self.node())
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.list.tag(self.node())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.list.value(self.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::hash64;
    use crate::base::key::{ValueKind, compare};
    use crate::lsm::iter::testing::{VecIterator, steps, walk};
    use proptest::prelude::*;

    fn put(seq: u64) -> Tag {
        Tag::new(SeqNum(seq), ValueKind::Put)
    }

    proptest! {
        #[test]
        fn matches_a_sorted_vec(raw in prop::collection::vec((prop::collection::vec(0u8..3, 0..11), 0u64..4, any::<bool>()), 0..80), steps in steps(), ascending: bool) {
            let mut shuffled = raw.clone();
            if ascending {
                shuffled.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            }
            let entries = VecIterator::sorted(raw, 1);
            let list = Arc::new(SkipList::new());
            let mut missing = entries.clone();
            for (key, seq, is_put) in shuffled {
                let kind = if is_put { ValueKind::Put } else { ValueKind::Delete };
                let tag = Tag::new(SeqNum(seq), kind);
                if let Some(at) = missing.iter().position(|entry| (&entry.0, entry.1) == (&key, tag)) {
                    let entry = missing.remove(at);
                    list.insert(&entry.0, entry.1, &entry.2);
                }
            }
            prop_assert_eq!(list.len(), entries.len());
            for (key, tag, _) in &entries {
                for seq in [tag.seq(), SeqNum::MAX, SeqNum(tag.seq().0.saturating_sub(1))] {
                    let wanted = entries.iter().find(|entry| entry.0 == *key && entry.1 <= Tag::seek(seq));
                    prop_assert_eq!(list.get(key, seq), wanted.map(|entry| (entry.1, &entry.2[..])));
                }
                prop_assert_eq!(list.get(&[&key[..], b"absent"].concat(), SeqNum::MAX), None);
            }
            walk(&mut list.iter(), &mut VecIterator::new(entries), &steps);
        }
    }

    #[test]
    fn the_same_inserts_give_the_same_list() {
        let run = || {
            let list = SkipList::new();
            (0..1000u64)
                .for_each(|seq| list.insert(format!("{}", hash64(&[seq as u8], seq)).as_bytes(), put(seq), b"v"));
            (list.bytes(), list.height.load(Ordering::Relaxed))
        };
        assert_eq!(run(), run());
        assert!(run().1 > 2);
    }

    #[test]
    #[should_panic(expected = "inserted twice")]
    fn an_internal_key_goes_in_once() {
        let list = SkipList::new();
        list.insert(b"k", put(1), b"a");
        list.insert(b"a", put(2), b"b");
        list.insert(b"k", put(1), b"c");
    }

    #[test]
    fn long_values_and_empty_keys() {
        let list = SkipList::new();
        let value = vec![5; 3 << 20];
        list.insert(b"", put(1), &value);
        list.insert(&[0xff; KEY_BYTES_MAX], put(2), b"");
        assert_eq!(list.get(b"", SeqNum::MAX), Some((put(1), &value[..])));
        assert_eq!(list.get(&[0xff; KEY_BYTES_MAX], SeqNum::MAX), Some((put(2), &b""[..])));
        assert!(list.bytes() > value.len());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "real threads are what this tests")]
    fn readers_see_whole_entries_in_order_while_one_writes() {
        const ENTRIES: u64 = 6_000;
        let key_of =
            |number: u64| format!("{:05}", hash64(&[number as u8, (number >> 8) as u8], 0) % 100_000).into_bytes();
        let value_of = |key: &[u8], seq: u64| [key, format!(":{seq}").as_bytes()].concat();
        let list = Arc::new(SkipList::new());
        let inserted = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..2)
            .map(|reader: u64| {
                let (list, inserted) = (list.clone(), inserted.clone());
                std::thread::spawn(move || {
                    let mut rounds = 0u64;
                    loop {
                        let done = inserted.load(Ordering::Acquire) as u64;
                        if done > 0 {
                            let number = hash64(&[rounds as u8, reader as u8], rounds) % done;
                            let key = key_of(number);
                            let (tag, value) = list.get(&key, SeqNum(number + 1)).expect("inserted before");
                            assert_eq!((tag.seq(), value), (SeqNum(number + 1), &value_of(&key, number + 1)[..]));
                        }
                        if rounds.is_multiple_of(256) {
                            let mut iter = list.iter();
                            iter.seek_to_first().unwrap();
                            let (mut seen, mut last) = (0, None::<(Vec<u8>, Tag)>);
                            while iter.valid() {
                                let here = (iter.key().to_vec(), iter.tag());
                                assert_eq!(iter.value(), value_of(&here.0, here.1.seq().0));
                                assert!(last.is_none_or(|last| compare((&last.0, last.1), (&here.0, here.1)).is_lt()));
                                last = Some(here);
                                seen += 1;
                                iter.next().unwrap();
                            }
                            assert!(seen >= done);
                        }
                        rounds += 1;
                        if done == ENTRIES {
                            return;
                        }
                    }
                })
            })
            .collect();
        for number in 0..ENTRIES {
            let key = key_of(number);
            list.insert(&key, put(number + 1), &value_of(&key, number + 1));
            inserted.store(number as usize + 1, Ordering::Release);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}
