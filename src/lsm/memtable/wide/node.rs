//! Nodes and entries of the wide memtable: how they lie in memory, and what of them readers may look at.
//!
//! Used by the table's readers, cursors and writer. All memory comes from one [`Arena`]; 4-byte references lead to it.
//!
//! | part | bytes | what |
//! |---|---|---|
//! | `Keys::order` | 8 | the [`Permutation`]: publishes all else |
//! | `Keys::heads` | 14 x 8 | 8 bytes of each key behind the node's prefix, as numbers that sort as the keys do |
//! | `Keys::entries` | 14 x 4 | the entries; in an inner node the first ones of its children but the first |
//! | `skip` | 4 | length of the prefix that all keys of the node's range share; fixed when the node is made |
//! | `Leaf::next` | 4 | the following leaf. A leaf takes 192 bytes, three cache lines |
//! | `Inner::children` | 15 x 4 | one before the first separator, then one for each slot. 256 bytes, four lines |
//!
//! - A slot is written before the order that names it is stored with `Release`, and never again. So a reader may look at
//!   slots below the length of an order that it loaded with `Acquire`, without atomics and without looking twice.
//! - An entry is written before the first slot that refers to it is published, and never again.
//! - What a reference leads to is written before the reference is stored with `Release`.
#![expect(unsafe_code, reason = "a leaf module: nodes in an arena, read while one thread writes")]

use super::super::arena::{ALIGN, Arena, Place, prefetch};
use super::super::sync::{AtomicU32, AtomicU64, Ordering, Slot};
use super::order::{Permutation, SLOTS_MAX};
use crate::base::key::{Tag, compare};
use crate::lsm::table::format::head_behind;
use std::array::from_fn;
use std::cmp::Ordering as Order;
use std::marker::PhantomData;

/// Entries of a leaf, separators of an inner node. Few under the model checker, so that it gets to see splits.
pub(super) const WIDTH: usize = if cfg!(all(loom, test)) { 3 } else { SLOTS_MAX };
const CACHE_LINE: usize = 64;

/// Refers to a `T` in the store of one table.
pub(super) struct Ref<T> {
    place: Place,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Ref<T> {
        *self
    }
}

impl<T> Copy for Ref<T> {}

impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Ref<T>) -> bool {
        self.place == other.place
    }
}

impl<T> Ref<T> {
    #[inline]
    pub(super) fn place(self) -> Place {
        self.place
    }

    /// Takes back what [`place`](Self::place) returned.
    ///
    /// # Safety
    /// The place is that of a `T`, in the store that the reference will be used with.
    #[inline]
    pub(super) unsafe fn from_place(place: Place) -> Ref<T> {
        debug_assert_ne!(place, 0);
        Ref { place, kind: PhantomData }
    }
}

/// Followed in memory by the key and the value.
#[repr(C)]
pub(super) struct Header {
    tag: Tag,
    key_len: u32,
    value_len: u32,
}

const _: () = assert!(size_of::<Header>() == 16 && align_of::<Header>() <= ALIGN);

/// An entry of a store that is borrowed for `'s`.
#[derive(Clone, Copy)]
pub(super) struct Entry<'s> {
    header: *const Header,
    store: PhantomData<&'s Store>,
}

impl<'s> Entry<'s> {
    /// Takes a pointer to an entry back.
    ///
    /// # Safety
    /// It came from [`header`](Self::header) of an entry whose store outlives `'s`.
    #[inline]
    pub(super) unsafe fn from_header(header: *const Header) -> Entry<'s> {
        Entry { header, store: PhantomData }
    }

    #[inline]
    pub(super) fn header(self) -> *const Header {
        self.header
    }

    #[inline]
    pub(super) fn tag(self) -> Tag {
        // SAFETY: an `Entry` is made only for a header that was written whole before anyone could refer to it, in memory
        // that lives as long as the store, which is borrowed.
        unsafe { (*self.header).tag }
    }

    #[inline]
    pub(super) fn key(self) -> &'s [u8] {
        // SAFETY: as for `tag`; the key was written right behind the header, in the same allocation.
        unsafe {
            let start = self.header.add(1).cast::<u8>();
            std::slice::from_raw_parts(start, (*self.header).key_len as usize)
        }
    }

    #[inline]
    pub(super) fn value(self) -> &'s [u8] {
        // SAFETY: as for `key`: the value follows the key.
        unsafe {
            let start = self.header.add(1).cast::<u8>().add((*self.header).key_len as usize);
            std::slice::from_raw_parts(start, (*self.header).value_len as usize)
        }
    }

    /// Compares the entry with what is searched for.
    #[inline]
    pub(super) fn compare(self, target: &Target<'_>) -> Order {
        compare((self.key(), self.tag()), (target.key, target.tag))
    }
}

/// What is searched for.
#[derive(Clone, Copy)]
pub(super) struct Target<'t> {
    pub(super) key: &'t [u8],
    pub(super) tag: Tag,
}

/// Which entries [`Keys::rank`] counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Those before the target.
    Before,
    /// Those before the target, and the target.
    UpTo,
}

/// What leaves and inner nodes have in common.
#[repr(C)]
pub(super) struct Keys {
    order: AtomicU64,
    heads: [Slot<u64>; WIDTH],
    entries: [Slot<Place>; WIDTH],
}

impl Keys {
    fn new(items: &[(u64, Ref<Header>)]) -> Keys {
        assert!(items.len() <= WIDTH);
        Keys {
            order: AtomicU64::new(Permutation::identity(items.len()).word()),
            heads: from_fn(|at| Slot::new(items.get(at).map_or(0, |item| item.0))),
            entries: from_fn(|at| Slot::new(items.get(at).map_or(0, |item| item.1.place))),
        }
    }

    #[inline]
    pub(super) fn order(&self) -> Permutation {
        Permutation::from_word(self.order.load(Ordering::Acquire))
    }

    /// Returns the head at position `at` of an order that came from [`order`](Self::order).
    #[inline]
    pub(super) fn head(&self, order: Permutation, at: usize) -> u64 {
        assert!(at < order.len());
        // SAFETY: the order was loaded with `Acquire`, and holds only slots that were written before it was stored.
        unsafe { self.heads[order.slot(at)].get() }
    }

    /// Returns the entry at position `at` of an order that came from [`order`](Self::order).
    #[inline]
    pub(super) fn entry(&self, order: Permutation, at: usize) -> Ref<Header> {
        assert!(at < order.len());
        // SAFETY: as for `head`; the slot was given the place of an entry.
        unsafe { Ref::from_place(self.entries[order.slot(at)].get()) }
    }

    /// Counts the entries before the target, or up to it. `head` is the target's; the target is in the node's range, or
    /// the first behind it.
    #[inline]
    pub(super) fn rank(
        &self,
        store: &Store,
        order: Permutation,
        head: u64,
        target: &Target<'_>,
        count: Count,
    ) -> usize {
        let (mut from, mut to) = (0, 0);
        for slot in &self.heads[..order.len()] {
            // SAFETY: as for `head`: an order of length `n` holds the slots below `n`.
            let other = unsafe { slot.get() };
            from += usize::from(other < head);
            to += usize::from(other <= head);
        }
        // Where heads are equal, the entries decide.
        while from < to {
            let middle = from.midpoint(to);
            match (store.entry(self.entry(order, middle)).compare(target), count) {
                (Order::Less, _) | (Order::Equal, Count::UpTo) => from = middle + 1,
                _ => to = middle,
            }
        }
        from
    }

    /// Writes the next free slot, that which `order.with(..)` adds.
    ///
    /// # Safety
    /// The caller is the only writer, and `order` the one that it stored last.
    unsafe fn fill(&self, order: Permutation, head: u64, entry: Ref<Header>) -> usize {
        let slot = order.len();
        // SAFETY: readers look only at slots below the length of an order, and none had this slot yet.
        unsafe {
            self.heads[slot].set(head);
            self.entries[slot].set(entry.place);
        }
        slot
    }

    /// Shows readers `order`, and with it the slots that were filled before.
    fn publish(&self, order: Permutation) {
        self.order.store(order.word(), Ordering::Release);
    }
}

/// Entries of one range.
#[repr(C, align(64))]
pub(super) struct Leaf {
    pub(super) keys: Keys,
    pub(super) skip: u32,
    /// 0: there is none.
    next: AtomicU32,
}

/// Nodes of one range, and what separates them.
#[repr(C, align(64))]
pub(super) struct Inner {
    pub(super) keys: Keys,
    pub(super) skip: u32,
    children: [AtomicU32; WIDTH + 1],
}

#[cfg(not(all(loom, test)))]
const _: () = assert!(size_of::<Leaf>() == 3 * CACHE_LINE && size_of::<Inner>() == 4 * CACHE_LINE);

impl Leaf {
    pub(super) fn new(skip: u32, items: &[(u64, Ref<Header>)], next: Option<Ref<Leaf>>) -> Leaf {
        Leaf { keys: Keys::new(items), skip, next: AtomicU32::new(next.map_or(0, Ref::place)) }
    }

    /// Returns the following leaf.
    #[inline]
    pub(super) fn next(&self) -> Option<Ref<Leaf>> {
        let place = self.next.load(Ordering::Acquire);
        // SAFETY: `new` and `set_next` store nothing but places of leaves.
        (place != 0).then(|| unsafe { Ref::from_place(place) })
    }

    /// Puts `next` behind this leaf; the writer alone does.
    pub(super) fn set_next(&self, next: Ref<Leaf>) {
        self.next.store(next.place, Ordering::Release);
    }

    /// Adds an entry at position `at`.
    ///
    /// # Safety
    /// The caller is the only writer, and `order` the one that it stored last.
    pub(super) unsafe fn insert(&self, order: Permutation, at: usize, head: u64, entry: Ref<Header>) {
        // SAFETY: promised by the caller.
        unsafe { self.keys.fill(order, head, entry) };
        self.keys.publish(order.with(at));
    }

    /// Tells cursors in this leaf that its entries are in others now.
    pub(super) fn mark_replaced(&self) {
        self.keys.publish(self.keys.order().replaced());
    }
}

impl Inner {
    /// Makes a node of children and, between each two, the first entry of the second.
    pub(super) fn new(skip: u32, separators: &[(u64, Ref<Header>)], children: &[Place]) -> Inner {
        assert!(children.len() == separators.len() + 1);
        let child = |at: usize| AtomicU32::new(children.get(at).copied().unwrap_or_default());
        Inner { keys: Keys::new(separators), skip, children: from_fn(child) }
    }

    /// Returns where the child behind `at` separators is kept.
    #[inline]
    fn index(order: Permutation, at: usize) -> usize {
        if at == 0 { 0 } else { order.slot(at - 1) + 1 }
    }

    /// Returns the child behind `at` separators.
    #[inline]
    pub(super) fn child(&self, order: Permutation, at: usize) -> Place {
        self.children[Inner::index(order, at)].load(Ordering::Acquire)
    }

    /// Adds a child and the separator before it, behind `at` other separators.
    ///
    /// # Safety
    /// The caller is the only writer, and `order` the one that it stored last.
    pub(super) unsafe fn insert(&self, order: Permutation, at: usize, separator: (u64, Ref<Header>), child: Place) {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.keys.fill(order, separator.0, separator.1) };
        self.children[slot + 1].store(child, Ordering::Relaxed);
        self.keys.publish(order.with(at));
    }

    /// Puts `child` in the place of the one behind `at` separators; the writer alone does, after it has changed the order.
    pub(super) fn replace(&self, order: Permutation, at: usize, child: Place) {
        self.children[Inner::index(order, at)].store(child, Ordering::Release);
    }
}

/// Where the nodes and entries of one table are.
pub(super) struct Store {
    arena: Arena,
}

impl Store {
    pub(super) fn new() -> Store {
        Store { arena: Arena::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    #[inline]
    pub(super) fn entry(&self, at: Ref<Header>) -> Entry<'_> {
        // SAFETY: a reference is made for an entry of this store, and came by way of a release store and an acquiring load.
        Entry { header: unsafe { self.arena.at(at.place) }.cast(), store: PhantomData }
    }

    #[inline]
    pub(super) fn leaf(&self, at: Ref<Leaf>) -> &Leaf {
        // SAFETY: as for `entry`; a leaf is written before its place is stored, and then changes only by its atomics and
        // in slots that nobody reads.
        unsafe { &*self.arena.at(at.place).cast::<Leaf>() }
    }

    #[inline]
    pub(super) fn inner(&self, at: Ref<Inner>) -> &Inner {
        // SAFETY: as for `leaf`.
        unsafe { &*self.arena.at(at.place).cast::<Inner>() }
    }

    /// Writes an entry that nobody can reach yet.
    ///
    /// # Safety
    /// The caller is the only writer.
    pub(super) unsafe fn new_entry(&self, target: &Target<'_>, value: &[u8]) -> Ref<Header> {
        let bytes = size_of::<Header>() + target.key.len() + value.len();
        // SAFETY: the caller is the only writer. All writes stay within the `bytes` that were given out, which nobody else
        // can reach, and the header is aligned as the allocation is.
        unsafe {
            let (place, start) = self.arena.alloc_at(bytes, ALIGN);
            let (key_len, value_len) = (target.key.len() as u32, value.len() as u32);
            start.cast::<Header>().write(Header { tag: target.tag, key_len, value_len });
            let key_at = start.add(size_of::<Header>()).as_ptr();
            key_at.copy_from_nonoverlapping(target.key.as_ptr(), target.key.len());
            key_at.add(target.key.len()).copy_from_nonoverlapping(value.as_ptr(), value.len());
            Ref::from_place(place)
        }
    }

    /// Moves a node to where readers can be led to it.
    ///
    /// # Safety
    /// The caller is the only writer.
    pub(super) unsafe fn new_node<T>(&self, node: T) -> Ref<T> {
        const { assert!(align_of::<T>() == CACHE_LINE && !std::mem::needs_drop::<T>()) };
        // SAFETY: the caller is the only writer; the allocation has the node's size and alignment and nobody else's eyes.
        unsafe {
            let (place, start) = self.arena.alloc_at(size_of::<T>(), align_of::<T>());
            start.cast::<T>().write(node);
            Ref::from_place(place)
        }
    }

    /// Asks for the cache lines of a leaf or inner node.
    #[inline]
    pub(super) fn prefetch_node(&self, place: Place) {
        // SAFETY: places are those of this store's nodes.
        let start = unsafe { self.arena.at(place) };
        for line in 0..3 {
            prefetch(start.wrapping_add(line * CACHE_LINE));
        }
    }

    /// Asks for the first two cache lines of an entry.
    #[inline]
    pub(super) fn prefetch_entry(&self, at: Ref<Header>) {
        // SAFETY: places are those of this store's entries.
        let start = unsafe { self.arena.at(at.place) };
        prefetch(start);
        prefetch(start.wrapping_add(CACHE_LINE));
    }
}

/// Returns the head of `key` in a node that skips its first `skip` bytes.
#[inline]
pub(super) fn head(key: &[u8], skip: u32) -> u64 {
    head_behind(key, skip as usize)
}

/// Returns the length of the prefix that two keys share.
pub(super) fn shared(a: Entry<'_>, b: Entry<'_>) -> u32 {
    a.key().iter().zip(b.key()).take_while(|(a, b)| a == b).count() as u32
}
