//! [`Permutation`]: the word by which a node of the wide memtable publishes its slots.
//!
//! Slots are filled from the first up and never emptied, so that a word of `n` positions holds the slots `0..n`; the word
//! says which position each has. Stored by the writer, loaded by readers; here it is a plain value.
//!
//! Source: Masstree (Mao, Kohler, Morris: Cache Craftiness for Fast Multicore Key-Value Storage), 4.6.2.

/// Most slots that a word has room for.
pub(super) const SLOTS_MAX: usize = 14;

/// The order of a node's slots: nibble `i` is the slot at position `i`, bits 56 to 59 are the number of positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Permutation(u64);

const LEN_SHIFT: u32 = 56;
const NIBBLES: u64 = (1 << LEN_SHIFT) - 1;
/// Set in a leaf whose entries are in other leaves now.
const REPLACED: u64 = 1 << 60;

const _: () = assert!(4 * SLOTS_MAX == LEN_SHIFT as usize);

impl Permutation {
    /// Returns the order of `len` slots in which slot and position are the same.
    pub(super) fn identity(len: usize) -> Permutation {
        (0..len).fold(Permutation::default(), Permutation::with)
    }

    #[inline]
    pub(super) fn from_word(word: u64) -> Permutation {
        Permutation(word)
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        (self.0 >> LEN_SHIFT & 15) as usize
    }

    /// Returns the slot at position `at`.
    #[inline]
    pub(super) fn slot(self, at: usize) -> usize {
        debug_assert!(at < self.len(), "position {at} of {}", self.len());
        (self.0 >> (4 * at) & 15) as usize
    }

    /// Returns the position of `slot`, which the order holds.
    pub(super) fn position(self, slot: usize) -> usize {
        (0..self.len()).find(|at| self.slot(*at) == slot).expect("a slot never leaves the order")
    }

    /// Returns the order that has the next free slot at position `at`, and what was there and behind one further.
    pub(super) fn with(self, at: usize) -> Permutation {
        let len = self.len();
        assert!(at <= len && len < SLOTS_MAX && !self.is_replaced());
        let before = (1 << (4 * at)) - 1;
        let behind = (self.0 & NIBBLES & !before) << 4;
        Permutation((self.0 & before) | (len as u64) << (4 * at) | behind | (len as u64 + 1) << LEN_SHIFT)
    }

    /// Returns the order with the mark of a leaf that others have replaced.
    pub(super) fn replaced(self) -> Permutation {
        Permutation(self.0 | REPLACED)
    }

    #[inline]
    pub(super) fn is_replaced(self) -> bool {
        self.0 & REPLACED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::hash64;

    #[test]
    fn behaves_like_a_vector_of_slots() {
        for seed in 0..200u64 {
            let (mut order, mut model) = (Permutation::default(), Vec::new());
            for len in 0..SLOTS_MAX {
                let at = (hash64(&[len as u8], seed) % (len as u64 + 1)) as usize;
                order = order.with(at);
                model.insert(at, len);
                assert_eq!((0..order.len()).map(|at| order.slot(at)).collect::<Vec<_>>(), model);
                assert!(model.iter().enumerate().all(|(at, slot)| order.position(*slot) == at));
            }
            assert!(!order.is_replaced() && order.replaced().is_replaced());
            assert_eq!(order.replaced().len(), SLOTS_MAX);
            assert_eq!(Permutation::from_word(order.word()), order);
        }
        assert_eq!(Permutation::identity(5), (0..5).fold(Permutation::default(), Permutation::with));
    }
}
