//! What the wide memtable publishes with: atomics and plain cells, or those of the model checker in its place.
//!
//! Used by `wide` alone. Built with `--cfg loom`, the tests run the same code under loom, which tries the orders in which
//! threads may run and the values that loads may return, and fails where a [`Slot`] is read without a happens-before
//! from its write.
#![expect(unsafe_code, reason = "a cell that readers share without a lock")]

#[cfg(all(loom, test))]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(all(loom, test)))]
pub(super) use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// A value that is written once, before the store that publishes it.
pub(super) struct Slot<T>(UnsafeCell<T>);

impl<T: Copy> Slot<T> {
    pub(super) fn new(value: T) -> Slot<T> {
        Slot(UnsafeCell::new(value))
    }

    /// Returns the value.
    ///
    /// # Safety
    /// The last [`set`](Self::set) happened before this call, and none runs at the same time.
    #[inline]
    pub(super) unsafe fn get(&self) -> T {
        #[cfg(all(loom, test))]
        // SAFETY: promised by the caller, and checked by loom.
        return self.0.with(|value| unsafe { *value });
        #[cfg(not(all(loom, test)))]
        // SAFETY: promised by the caller.
        return unsafe { *self.0.get() };
    }

    /// Replaces the value.
    ///
    /// # Safety
    /// No other thread reads or writes the slot until the caller has published it.
    #[inline]
    pub(super) unsafe fn set(&self, value: T) {
        #[cfg(all(loom, test))]
        // SAFETY: promised by the caller, and checked by loom.
        self.0.with_mut(|place| unsafe { *place = value });
        #[cfg(not(all(loom, test)))]
        // SAFETY: promised by the caller.
        unsafe {
            *self.0.get() = value;
        }
    }
}
