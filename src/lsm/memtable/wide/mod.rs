//! [`WideTable`]: the fast memtable, a B+tree of wide nodes in an arena with one writer and wait-free readers.
//!
//! ```text
//! root (place, height)     inner:  c0 | s1 c1 | s2 c2 ...   c(i) holds what is >= s(i) and < s(i+1)
//!                                  /        \
//!                leaf -> leaf -> leaf  ->  leaf             each with up to 14 entries, linked forwards
//! ```
//!
//! **Invariants.** An entry is written once and never moves; separators are entries too. A node covers a fixed range: from
//! its separator (in a leaf: its first entry) to the next one; the range of a node that is read now may have become smaller,
//! never larger. All keys of the range share the first `skip` bytes. Published slots of a node never change; only an inner
//! node's children and a leaf's `next` do. Two orderings of the writer:
//!
//! 1. What is stored with `Release` leads to things written before it. A new slot becomes visible by the node's order.
//! 2. When a full node is split, its entries go to two new ones and it stays as it is, whole. First the parent's order gets
//!    the right one with its separator, then the left one takes the old one's place among the children; last, the leaf
//!    before it gets the left one as its `next`, and the old one its mark. All of that before `insert` returns.
//!
//! **No entry is missed** whose insert returned before the read began. Consider a node that the read passes through, and
//! the reference to it, which it loaded from a node of which the same holds (from the root at first). Had the node been
//! replaced before the read began, all references to it would have been by 2., and the read would have loaded a newer one.
//! So it was replaced later or never: either way it has every entry of its range that came before the read. That the
//! target is in its range: a reader takes a child and then looks at the order again. If it is the order by which the child
//! was chosen, the child had not been replaced by a smaller one, as its separator would have come first; else the
//! reader chooses again, at most 14 times, as that is how often an order changes. Nodes at the right edge can be split
//! without being replaced: all that leads to the new part is new.
//!
//! **Falling off the end.** The first entry at or after a target may be in the following leaf. The reader compares whole keys
//! there, since the target lies before that leaf's range, and goes on as long as it finds smaller ones: those are being
//! inserted meanwhile.
//!
//! **Writer.** One at a time, held by a flag that panics on a second one; its part is in `writer`. Entries that come in
//! ascending order are appended to the last leaf without a search, and fill leaves to the brim.
//!
//! **Checked** against a sorted vector and the skip list, with readers beside the writer, and under loom with nodes of
//! three: `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib lsm::memtable::wide::model`.
//!
//! A split leaves 192 bytes behind that nobody needs, for about seven entries: the price of readers that never look twice.

mod cursor;
#[cfg(all(loom, test))]
mod model;
mod node;
mod order;
#[cfg(all(not(loom), test))]
mod tests;
mod writer;

pub use cursor::WideIterator;

use super::Memtable;
use super::any::Planted;
use super::filter::MemtableFilter;
use super::sync::{AtomicU64, Ordering};
use crate::base::key::{SeqNum, Tag};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use node::{Count, Entry, Inner, Keys, Leaf, Ref, Store, Target, head};
use order::Permutation;
use std::cmp::Ordering as Order;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use writer::Writer;

const _: () = assert!(KEY_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(VALUE_BYTES_MAX <= u32::MAX as usize);

/// A B+tree of wide nodes in an arena: one writer, wait-free readers.
pub struct WideTable {
    store: Store,
    /// Says of most absent keys that they are; absent itself in a table made without.
    filter: Option<MemtableFilter>,
    planted: Planted,
    /// The root's place in the low half, how many levels of inner nodes there are in the high half.
    root: AtomicU64,
    len: AtomicUsize,
    writing: AtomicBool,
    /// Place of the last leaf; only the writer looks.
    tail: AtomicU32,
}

impl Default for WideTable {
    fn default() -> WideTable {
        WideTable::new()
    }
}

impl WideTable {
    /// Makes an empty table.
    pub fn new() -> WideTable {
        WideTable::build(None, Planted::default())
    }

    /// Makes an empty table that answers for absent keys from a filter, sized for `memtable_bytes` of entries.
    pub fn with_filter(memtable_bytes: usize) -> WideTable {
        WideTable::build(Some(MemtableFilter::new(memtable_bytes)), Planted::default())
    }

    pub(super) fn build(filter: Option<MemtableFilter>, planted: Planted) -> WideTable {
        let store = Store::new();
        let root = writer::first_leaf(&store);
        WideTable {
            store,
            filter,
            planted,
            root: AtomicU64::new(pack(root.place(), 0)),
            len: AtomicUsize::new(0),
            writing: AtomicBool::new(false),
            tail: AtomicU32::new(root.place()),
        }
    }

    /// Walks from the root to a leaf by the children that `choose` names.
    #[inline]
    fn descend(&self, choose: impl Fn(&Inner, Permutation) -> usize) -> Ref<Leaf> {
        let (mut place, mut height) = unpack(self.root.load(Ordering::Acquire));
        while height > 0 {
            let inner = self.store.inner(writer::inner_at(place));
            let mut order = inner.keys.order();
            place = loop {
                let child = inner.child(order, choose(inner, order));
                self.store.prefetch_node(child);
                let order_now = inner.keys.order();
                if order_now == order {
                    break child;
                }
                order = order_now;
            };
            height -= 1;
        }
        writer::leaf_at(place)
    }

    /// Finds the leaf in whose range the target is, or with [`Count::Before`] what comes right before it.
    #[inline]
    fn leaf_of(&self, target: &Target<'_>, count: Count) -> Ref<Leaf> {
        self.descend(|inner, order| inner.keys.rank(&self.store, order, head(target.key, inner.skip), target, count))
    }

    #[inline]
    fn rank(&self, leaf: &Leaf, order: Permutation, target: &Target<'_>, count: Count) -> usize {
        leaf.keys.rank(&self.store, order, head(target.key, leaf.skip), target, count)
    }

    /// Finds the first entry at or after the target.
    #[inline]
    fn at_or_after(&self, target: &Target<'_>) -> Option<Found> {
        let at = self.leaf_of(target, Count::UpTo);
        let leaf = self.store.leaf(at);
        let order = leaf.keys.order();
        let position = self.rank(leaf, order, target, Count::Before);
        if position < order.len() {
            return Some(Found { leaf: at, order, position });
        }
        if self.planted.stops_at_leaf_end {
            return None;
        }
        self.at_or_after_in(leaf.next(), target)
    }

    /// Finds the first entry at or after the target in `at` and the leaves that follow.
    fn at_or_after_in(&self, mut at: Option<Ref<Leaf>>, target: &Target<'_>) -> Option<Found> {
        while let Some(found) = at {
            let leaf = self.store.leaf(found);
            let order = leaf.keys.order();
            let far = |at: usize| self.entry(&leaf.keys, order, at).compare(target) != Order::Less;
            if let Some(position) = (0..order.len()).find(|at| far(*at)) {
                return Some(Found { leaf: found, order, position });
            }
            at = leaf.next();
        }
        None
    }

    /// Finds the last entry before the target, or up to it.
    fn last_before(&self, target: &Target<'_>, count: Count) -> Option<Found> {
        let at = self.leaf_of(target, count);
        let leaf = self.store.leaf(at);
        let order = leaf.keys.order();
        // A leaf but the first begins with its separator, by which it was chosen: so it has one.
        let position = self.rank(leaf, order, target, count).checked_sub(1)?;
        Some(Found { leaf: at, order, position })
    }

    fn first(&self) -> Option<Found> {
        let leaf = self.descend(|_, _| 0);
        let order = self.store.leaf(leaf).keys.order();
        (order.len() > 0).then_some(Found { leaf, order, position: 0 })
    }

    fn last(&self) -> Option<Found> {
        let leaf = self.descend(|_, order| order.len());
        let order = self.store.leaf(leaf).keys.order();
        Some(Found { leaf, order, position: order.len().checked_sub(1)? })
    }

    #[inline]
    fn entry(&self, keys: &Keys, order: Permutation, at: usize) -> Entry<'_> {
        self.store.entry(keys.entry(order, at))
    }
}

/// An entry, by the leaf and the order in which it was seen.
#[derive(Clone, Copy)]
struct Found {
    leaf: Ref<Leaf>,
    order: Permutation,
    position: usize,
}

fn pack(place: u32, height: u32) -> u64 {
    u64::from(height) << 32 | u64::from(place)
}

#[inline]
fn unpack(root: u64) -> (u32, u32) {
    (root as u32, (root >> 32) as u32)
}

impl Memtable for WideTable {
    type Iter = WideIterator;

    fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) {
        assert!(key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX, "entry over the limits");
        if let Some(filter) = &self.filter {
            // Before the entry is published, and so before anyone may ask for it.
            filter.insert(key);
        }
        let writer = Writer::begin(self);
        writer.insert(&Target { key, tag }, value);
        writer.end();
    }

    fn get(&self, key: &[u8], seq: SeqNum) -> Option<(Tag, &[u8])> {
        if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(key)) {
            return None;
        }
        let found = self.at_or_after(&Target { key, tag: Tag::seek(seq) })?;
        let entry = self.entry(&self.store.leaf(found.leaf).keys, found.order, found.position);
        (entry.key() == key).then(|| (entry.tag(), entry.value()))
    }

    fn iter(self: &Arc<Self>) -> WideIterator {
        WideIterator::new(self)
    }

    fn bytes(&self) -> usize {
        self.store.bytes()
    }

    fn len(&self) -> usize {
        self.len.load(std::sync::atomic::Ordering::Relaxed)
    }
}
