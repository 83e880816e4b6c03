//! [`Writer`]: how entries get into the wide memtable, and how its nodes are split.
//!
//! Runs on the thread of the commit leader, one at a time. What readers rely on is stated in the module above; here, the
//! two orderings are [`Writer::split_leaf`] and [`Writer::hand_up`].
//!
//! - A full leaf is split in halves, the new entry with them; the last leaf, when the new entry comes behind it, gets a new
//!   neighbour and stays full. Inner nodes likewise.
//! - A new node skips the prefix that the first key of its range and the first behind it share, if that is at least 4
//!   bytes more than the old node skipped: else the heads still tell keys apart, and need not be read from the entries.
//! - Nodes at the edges of the tree have a range that is open on one side, so they skip nothing.
#![expect(unsafe_code, reason = "calls what is safe for the only writer alone")]

use super::node::{Count, Entry, Header, Inner, Leaf, Ref, Store, Target, WIDTH, head, shared};
use super::order::Permutation;
use super::{Order, Ordering, WideTable, pack, unpack};
use crate::lsm::memtable::arena::Place;
use std::sync::atomic::Ordering as Plain;

/// Levels of inner nodes; with seven children at least this suits more entries than an arena holds.
const HEIGHT_MAX: usize = 16;
/// Bytes by which a prefix grows at least.
const SKIP_GAIN_MIN: u32 = 4;

/// A head and its entry.
type Item = (u64, Ref<Header>);

/// The only writer of a table, until [`end`](Writer::end). A writer that panics leaves the table to its readers.
pub(super) struct Writer<'t> {
    table: &'t WideTable,
    store: &'t Store,
}

/// The inner nodes from the root down to a leaf, each with the number of separators before the child that was taken.
struct Path {
    steps: [(Place, usize); HEIGHT_MAX],
    height: usize,
}

/// What came of a child that was full.
struct Split {
    /// Takes the child's place. `None`: the child stays.
    left: Option<Place>,
    /// The first entry of `right`.
    separator: Ref<Header>,
    right: Place,
}

/// The first entry of a range and the first behind it; `None` where it is open.
#[derive(Clone, Copy)]
struct Fences {
    low: Option<Ref<Header>>,
    high: Option<Ref<Header>>,
}

/// Makes the only node of an empty table.
pub(super) fn first_leaf(store: &Store) -> Ref<Leaf> {
    // SAFETY: the table is being made: nobody else has the store.
    unsafe { store.new_node(Leaf::new(0, &[], None)) }
}

/// Returns the inner node at `place`, the root's of a tree with inner nodes or a child above the lowest level.
#[inline]
pub(super) fn inner_at(place: Place) -> Ref<Inner> {
    // SAFETY: the tree has the same height everywhere; callers count levels from the root's word, which holds the height.
    unsafe { Ref::from_place(place) }
}

/// Returns the leaf at `place`, a child of the lowest inner nodes, or the root of a tree without.
#[inline]
pub(super) fn leaf_at(place: Place) -> Ref<Leaf> {
    // SAFETY: as for `inner_at`.
    unsafe { Ref::from_place(place) }
}

impl<'t> Writer<'t> {
    pub(super) fn begin(table: &'t WideTable) -> Writer<'t> {
        assert!(!table.writing.swap(true, Plain::Acquire), "two writers in one memtable");
        Writer { table, store: &table.store }
    }

    pub(super) fn end(self) {
        self.table.len.store(self.table.len.load(Plain::Relaxed) + 1, Plain::Relaxed);
        self.table.writing.store(false, Plain::Release);
    }

    pub(super) fn insert(&self, target: &Target<'_>, value: &[u8]) {
        if self.append(target, value) {
            return;
        }
        let (path, at) = self.descend(target);
        let leaf = self.store.leaf(at);
        let order = leaf.keys.order();
        let head = head(target.key, leaf.skip);
        let position = leaf.keys.rank(self.store, order, head, target, Count::Before);
        let twice = position < order.len()
            && leaf.keys.head(order, position) == head
            && self.entry(leaf.keys.entry(order, position)).compare(target) == Order::Equal;
        assert!(!twice, "internal key inserted twice");
        // SAFETY: this is the only writer.
        let entry = unsafe { self.store.new_entry(target, value) };
        if order.len() < WIDTH {
            // SAFETY: this is the only writer, and nothing was stored since `order` was loaded.
            unsafe { leaf.insert(order, position, head, entry) };
        } else {
            self.split_leaf(&path, at, position, (head, entry));
        }
    }

    /// Inserts behind all entries, if that is where the target belongs and there is room in the last leaf.
    fn append(&self, target: &Target<'_>, value: &[u8]) -> bool {
        let leaf = self.store.leaf(leaf_at(self.table.tail.load(Plain::Relaxed)));
        let order = leaf.keys.order();
        if order.len() == WIDTH || order.len() == 0 {
            return false;
        }
        let (last, head) = (order.len() - 1, head(target.key, 0));
        assert!(leaf.skip == 0, "the last leaf has a range without an end");
        let behind = match leaf.keys.head(order, last).cmp(&head) {
            Order::Equal => self.entry(leaf.keys.entry(order, last)).compare(target) == Order::Less,
            unequal => unequal == Order::Less,
        };
        if behind {
            // SAFETY: this is the only writer, and nothing was stored since `order` was loaded.
            unsafe { leaf.insert(order, order.len(), head, self.store.new_entry(target, value)) };
        }
        behind
    }

    fn entry(&self, at: Ref<Header>) -> Entry<'t> {
        self.store.entry(at)
    }

    fn descend(&self, target: &Target<'_>) -> (Path, Ref<Leaf>) {
        let (mut place, height) = unpack(self.table.root.load(Ordering::Relaxed));
        let mut path = Path { steps: [(0, 0); HEIGHT_MAX], height: height as usize };
        for step in &mut path.steps[..height as usize] {
            let inner = self.store.inner(inner_at(place));
            let order = inner.keys.order();
            let at = inner.keys.rank(self.store, order, head(target.key, inner.skip), target, Count::UpTo);
            *step = (place, at);
            place = inner.child(order, at);
            self.store.prefetch_node(place);
        }
        (path, leaf_at(place))
    }

    /// Returns the range of the node below the first `steps` of the path.
    fn fences(&self, path: &Path, steps: usize) -> Fences {
        let (mut low, mut high) = (None, None);
        for (place, at) in path.steps[..steps].iter().rev() {
            let keys = &self.store.inner(inner_at(*place)).keys;
            let order = keys.order();
            if low.is_none() && *at > 0 {
                low = Some(keys.entry(order, at - 1));
            }
            if high.is_none() && *at < order.len() {
                high = Some(keys.entry(order, *at));
            }
        }
        Fences { low, high }
    }

    /// Returns what a new node of that range skips, where the old one skipped `skip`.
    fn skip(&self, fences: Fences, skip: u32) -> u32 {
        let (Some(low), Some(high)) = (fences.low, fences.high) else {
            assert!(skip == 0, "a range without an end was part of one with two");
            return 0;
        };
        let prefix = shared(self.entry(low), self.entry(high));
        assert!(prefix >= skip, "the range of a new node is part of the old one's");
        let grown = if prefix >= skip + SKIP_GAIN_MIN { prefix } else { skip };
        grown + u32::from(self.table.planted.prefix_too_long && grown > 0)
    }

    /// Gives `items` the heads of a node that skips `to` instead of `from`.
    fn rebase(&self, items: &mut [Item], from: u32, to: u32) {
        if from == to {
            return;
        }
        items.iter().for_each(|item| self.store.prefetch_entry(item.1));
        for item in items {
            item.0 = head(self.entry(item.1).key(), to);
        }
    }

    /// Finds the leaf before the one that the path leads to.
    fn leaf_before(&self, path: &Path) -> Option<Ref<Leaf>> {
        let steps = &path.steps[..path.height];
        let turn = steps.iter().rposition(|(_, at)| *at > 0)?;
        let (place, at) = steps[turn];
        let inner = self.store.inner(inner_at(place));
        let mut place = inner.child(inner.keys.order(), at - 1);
        for _ in turn + 1..path.height {
            let inner = self.store.inner(inner_at(place));
            let order = inner.keys.order();
            place = inner.child(order, order.len());
        }
        Some(leaf_at(place))
    }

    /// Inserts `new` at `position` of a full leaf.
    fn split_leaf(&self, path: &Path, at: Ref<Leaf>, position: usize, new: Item) {
        let leaf = self.store.leaf(at);
        let mut items = self.items(&leaf.keys, leaf.keys.order(), position, new);
        let (next, fences) = (leaf.next(), self.fences(path, path.height));
        let is_last = next.is_none();
        let cut = if is_last && position == WIDTH { WIDTH } else { items.len().div_ceil(2) };
        let separator = items[cut].1;
        let left_skip = self.skip(Fences { high: Some(separator), ..fences }, leaf.skip);
        let right_skip = self.skip(Fences { low: Some(separator), ..fences }, leaf.skip);
        let (left_items, right_items) = items.split_at_mut(cut);
        self.rebase(left_items, leaf.skip, left_skip);
        self.rebase(right_items, leaf.skip, right_skip);
        // SAFETY: this is the only writer.
        let right = unsafe { self.store.new_node(Leaf::new(right_skip, right_items, next)) };
        if is_last {
            self.table.tail.store(right.place(), Plain::Relaxed);
        }
        if cut == WIDTH && left_skip == leaf.skip {
            leaf.set_next(right);
            self.hand_up(path, Split { left: None, separator, right: right.place() });
            return;
        }
        let before = self.leaf_before(path);
        // SAFETY: this is the only writer.
        let left = unsafe { self.store.new_node(Leaf::new(left_skip, left_items, Some(right))) };
        self.hand_up(path, Split { left: Some(left.place()), separator, right: right.place() });
        if let Some(before) = before {
            self.store.leaf(before).set_next(left);
        }
        leaf.mark_replaced();
    }

    /// Returns the items of a full node with a new one at `position`.
    fn items(&self, keys: &super::Keys, order: Permutation, position: usize, new: Item) -> [Item; WIDTH + 1] {
        assert!(order.len() == WIDTH);
        std::array::from_fn(|at| match at.cmp(&position) {
            Order::Equal => new,
            Order::Less => (keys.head(order, at), keys.entry(order, at)),
            Order::Greater => (keys.head(order, at - 1), keys.entry(order, at - 1)),
        })
    }

    /// Tells the parents what came of the leaf that the path leads to.
    fn hand_up(&self, path: &Path, mut split: Split) {
        for step in (0..path.height).rev() {
            let (place, at) = path.steps[step];
            let inner = self.store.inner(inner_at(place));
            let order = inner.keys.order();
            let item = (head(self.entry(split.separator).key(), inner.skip), split.separator);
            if order.len() == WIDTH {
                split = self.split_inner(path, step, item, &split);
                continue;
            }
            // SAFETY: this is the only writer, and nothing was stored since `order` was loaded.
            unsafe { inner.insert(order, at, item, split.right) };
            if let Some(left) = split.left {
                // After the order: a reader that gets this child sees the order with its right neighbour.
                inner.replace(order, at, left);
            }
            return;
        }
        let (root, height) = unpack(self.table.root.load(Ordering::Relaxed));
        assert!((height as usize) < HEIGHT_MAX, "a tree higher than its memory");
        let separator = (head(self.entry(split.separator).key(), 0), split.separator);
        let children = [split.left.unwrap_or(root), split.right];
        // SAFETY: this is the only writer.
        let root = unsafe { self.store.new_node(Inner::new(0, &[separator], &children)) };
        self.table.root.store(pack(root.place(), height + 1), Ordering::Release);
    }

    /// Splits the full inner node at `step` of the path, with what came of its child.
    fn split_inner(&self, path: &Path, step: usize, item: Item, child: &Split) -> Split {
        let (place, at) = path.steps[step];
        let inner = self.store.inner(inner_at(place));
        let order = inner.keys.order();
        let mut items = self.items(&inner.keys, order, at, item);
        let mut children: [Place; WIDTH + 2] = std::array::from_fn(|position| match position.cmp(&(at + 1)) {
            Order::Equal => child.right,
            Order::Less => inner.child(order, position),
            Order::Greater => inner.child(order, position - 1),
        });
        children[at] = child.left.unwrap_or(children[at]);
        let fences = self.fences(path, step);
        let cut = if fences.high.is_none() && at == WIDTH { WIDTH } else { WIDTH / 2 };
        let separator = items[cut].1;
        let left_skip = self.skip(Fences { high: Some(separator), ..fences }, inner.skip);
        let right_skip = self.skip(Fences { low: Some(separator), ..fences }, inner.skip);
        let (left_items, right_items) = items.split_at_mut(cut);
        let right_items = &mut right_items[1..];
        self.rebase(left_items, inner.skip, left_skip);
        self.rebase(right_items, inner.skip, right_skip);
        // SAFETY: this is the only writer.
        let right = unsafe { self.store.new_node(Inner::new(right_skip, right_items, &children[cut + 1..])) };
        let stays = cut == WIDTH && child.left.is_none() && left_skip == inner.skip;
        let left = (!stays).then(|| {
            // SAFETY: as above.
            let left = unsafe { self.store.new_node(Inner::new(left_skip, left_items, &children[..=cut])) };
            left.place()
        });
        Split { left, separator, right: right.place() }
    }
}
