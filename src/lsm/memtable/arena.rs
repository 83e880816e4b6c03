//! [`Arena`]: memory for the nodes of one memtable, given back all at once.
//!
//! The memtable's writer allocates; readers hold what it gave out. Chunks are never moved or freed before the arena is
//! dropped, so a pointer into one is good for as long as the arena is borrowed or shared.
//!
//! - One thread allocates at a time: [`Arena::alloc`] is unsafe for just that.
//! - Chunks double from 4 KiB to 1 MiB, so that a tiny memtable takes little; an allocation of more than a quarter of a chunk
//!   gets one of its own and wastes nothing.
//!
//! Tested through the skip list, differentially and with concurrent readers.
#![expect(unsafe_code, reason = "a leaf type: memory whose lifetime is the arena's, not a single owner's")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

const CHUNK_BYTES_MIN: usize = 4 * 1024;
const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Every allocation starts at a multiple of this.
pub(super) const ALIGN: usize = 8;

/// Memory that is given out piece by piece and freed as a whole.
pub(super) struct Arena {
    chunks: UnsafeCell<Chunks>,
    bytes: AtomicUsize,
}

struct Chunks {
    all: Vec<(NonNull<u8>, Layout)>,
    /// The rest of the newest shared chunk.
    free: *mut u8,
    free_bytes: usize,
    next_chunk_bytes: usize,
}

// SAFETY: `chunks` is touched only by `alloc`, whose contract allows one thread at a time, and by `drop`, which has
// exclusive access. The raw pointers are owned by the arena and not tied to a thread.
unsafe impl Send for Arena {}
// SAFETY: as above; through a shared reference only `alloc` (one thread at a time by contract) and an atomic are reached.
unsafe impl Sync for Arena {}

impl Arena {
    pub(super) fn new() -> Arena {
        let chunks =
            Chunks { all: Vec::new(), free: std::ptr::null_mut(), free_bytes: 0, next_chunk_bytes: CHUNK_BYTES_MIN };
        Arena { chunks: UnsafeCell::new(chunks), bytes: AtomicUsize::new(0) }
    }

    /// Returns how many bytes were given out.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns `bytes` bytes, uninitialised, aligned to [`ALIGN`], valid until the arena is dropped and disjoint from all
    /// other allocations.
    ///
    /// # Safety
    /// No other call of `alloc` on this arena runs at the same time, and each call happens after the one before.
    pub(super) unsafe fn alloc(&self, bytes: usize) -> NonNull<u8> {
        let bytes = bytes.max(1).next_multiple_of(ALIGN);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        // SAFETY: the caller is the only one in `alloc`, and nothing else touches the chunks while the arena is shared.
        let chunks = unsafe { &mut *self.chunks.get() };
        if bytes > chunks.free_bytes {
            if bytes > chunks.next_chunk_bytes / 4 {
                return chunks.new_chunk(bytes);
            }
            let chunk_bytes = chunks.next_chunk_bytes;
            chunks.next_chunk_bytes = (2 * chunk_bytes).min(CHUNK_BYTES_MAX);
            chunks.free = chunks.new_chunk(chunk_bytes).as_ptr();
            chunks.free_bytes = chunk_bytes;
        }
        let start = chunks.free;
        chunks.free_bytes -= bytes;
        // SAFETY: `bytes` is at most `free_bytes`, so the sum stays within the chunk or one past its end.
        chunks.free = unsafe { start.add(bytes) };
        NonNull::new(start).expect("a chunk does not start at null")
    }
}

impl Chunks {
    fn new_chunk(&mut self, bytes: usize) -> NonNull<u8> {
        assert!(bytes > 0);
        let layout = Layout::from_size_align(bytes, ALIGN).expect("limits keep an entry far below isize::MAX");
        // SAFETY: the layout's size is not zero.
        let chunk = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        self.all.push((chunk, layout));
        chunk
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for (chunk, layout) in self.chunks.get_mut().all.drain(..) {
            // SAFETY: each chunk came from `alloc` with this layout and is freed once, here.
            unsafe { dealloc(chunk.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_and_disjoint() {
        let arena = Arena::new();
        let mut pieces = Vec::new();
        for round in 0..2000usize {
            let bytes = if round % 500 == 7 { 3 << 20 } else { round % 97 };
            // SAFETY: one thread.
            let piece = unsafe { arena.alloc(bytes) };
            assert_eq!(piece.as_ptr() as usize % ALIGN, 0);
            // SAFETY: the arena gave out that many bytes and nobody else has them.
            unsafe { piece.as_ptr().write_bytes(round as u8, bytes) };
            pieces.push((piece, bytes, round as u8));
        }
        for (piece, bytes, fill) in pieces {
            // SAFETY: written above, and the arena is alive.
            let bytes = unsafe { std::slice::from_raw_parts(piece.as_ptr(), bytes) };
            assert!(bytes.iter().all(|byte| *byte == fill));
        }
        assert!(arena.bytes() >= 4 * (3 << 20));
    }
}
