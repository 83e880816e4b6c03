//! [`Arena`]: memory for the nodes of one memtable, given back all at once.
//!
//! The memtable's writer allocates; readers hold what it gave out. Chunks are never moved or freed before the arena is
//! dropped, so a pointer into one is good for as long as the arena is borrowed or shared.
//!
//! - One thread allocates at a time: [`Arena::alloc`] and [`Arena::alloc_at`] are unsafe for just that.
//! - Chunks double from 4 KiB to 1 MiB, so that a tiny memtable takes little; an allocation of more than a quarter of a chunk
//!   gets one of its own and wastes nothing.
//! - A [`Place`] names an allocation in 4 bytes instead of 8: the number of its chunk and the offset there in units of 8
//!   bytes. A directory of chunks leads from one to the other. It is replaced by one twice as long when it is full, and the
//!   old ones stay, as a reader may be looking into them.
//!
//! **Why a reader finds its chunk.** A chunk is in the directory, and a new directory is stored, before anything in the
//! chunk is given out. A reader got its place through an acquiring load of what the writer published after that, so it
//! sees a directory that has the chunk; it loads the directory with `Acquire` as it may be a newer one still.
//!
//! Limit: 32,767 chunks, each of at least a quarter of 1 MiB once the first few are full.
//!
//! Tested through the two memtables, differentially and with concurrent readers.
#![expect(unsafe_code, reason = "a leaf type: memory whose lifetime is the arena's, not a single owner's")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const CHUNK_BYTES_MIN: usize = 4 * 1024;
const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Every allocation starts at a multiple of this.
pub(super) const ALIGN: usize = 8;
/// What chunks start at a multiple of, and the most that [`Arena::alloc_at`] can be asked for: a cache line.
const ALIGN_MAX: usize = 64;
/// Low bits of a [`Place`]: the offset in the chunk.
const OFFSET_BITS: u32 = 17;
const OFFSET_MASK: u32 = (1 << OFFSET_BITS) - 1;
const CHUNKS_MAX: usize = 1 << (u32::BITS - OFFSET_BITS);
const DIRECTORY_LEN_MIN: usize = 8;

const _: () = assert!(CHUNK_BYTES_MAX / ALIGN == 1 << OFFSET_BITS);
const _: () = assert!(CHUNKS_MAX == 32_768);

/// Where in its arena an allocation starts. Never 0.
pub(super) type Place = u32;

/// Memory that is given out piece by piece and freed as a whole.
pub(super) struct Arena {
    /// Starts of the chunks by number; number 0 is not used.
    directory: AtomicPtr<*mut u8>,
    chunks: UnsafeCell<Chunks>,
    bytes: AtomicUsize,
}

struct Chunks {
    all: Vec<(NonNull<u8>, Layout)>,
    /// The newest directory and those that it replaced.
    directories: Vec<(NonNull<u8>, Layout)>,
    directory_len: usize,
    /// Number of the newest shared chunk, and where it starts.
    shared: u32,
    shared_start: *mut u8,
    /// The rest of the newest shared chunk.
    free: *mut u8,
    free_bytes: usize,
    next_chunk_bytes: usize,
}

// SAFETY: `chunks` is touched only by `alloc_at`, whose contract allows one thread at a time, and by `drop`, which has
// exclusive access. The raw pointers are owned by the arena and not tied to a thread.
unsafe impl Send for Arena {}
// SAFETY: as above; through a shared reference only `alloc_at` (one thread at a time by contract), atomics and entries of
// the directory that were written before what leads to them was published are reached.
unsafe impl Sync for Arena {}

impl Arena {
    pub(super) fn new() -> Arena {
        let chunks = Chunks {
            all: Vec::new(),
            directories: Vec::new(),
            directory_len: 0,
            shared: 0,
            shared_start: null_mut(),
            free: null_mut(),
            free_bytes: 0,
            next_chunk_bytes: CHUNK_BYTES_MIN,
        };
        Arena { directory: AtomicPtr::new(null_mut()), chunks: UnsafeCell::new(chunks), bytes: AtomicUsize::new(0) }
    }

    /// Returns how many bytes were given out.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns `bytes` bytes, uninitialised, aligned to [`ALIGN`], valid until the arena is dropped and disjoint from all
    /// other allocations.
    ///
    /// # Safety
    /// No other call of `alloc` or `alloc_at` on this arena runs at the same time, and each happens after the one before.
    pub(super) unsafe fn alloc(&self, bytes: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.alloc_at(bytes, ALIGN) }.1
    }

    /// As [`alloc`](Self::alloc), aligned to `align`, with the place by which [`at`](Self::at) finds it again.
    ///
    /// # Safety
    /// As for `alloc`.
    pub(super) unsafe fn alloc_at(&self, bytes: usize, align: usize) -> (Place, NonNull<u8>) {
        assert!((ALIGN..=ALIGN_MAX).contains(&align) && align.is_power_of_two());
        let bytes = bytes.max(1).next_multiple_of(ALIGN);
        // SAFETY: the caller is the only one in here, and nothing else touches the chunks while the arena is shared.
        let chunks = unsafe { &mut *self.chunks.get() };
        let mut gap = chunks.free.addr().next_multiple_of(align) - chunks.free.addr();
        if gap + bytes > chunks.free_bytes {
            let chunk_bytes = chunks.next_chunk_bytes;
            chunks.next_chunk_bytes = (2 * chunk_bytes).min(CHUNK_BYTES_MAX);
            if bytes > chunk_bytes / 4 {
                let (number, start) = self.new_chunk(chunks, bytes);
                self.bytes.store(self.bytes() + bytes, Ordering::Relaxed);
                return (number << OFFSET_BITS, start);
            }
            let (number, start) = self.new_chunk(chunks, chunk_bytes);
            (chunks.shared, chunks.shared_start) = (number, start.as_ptr());
            (chunks.free, chunks.free_bytes, gap) = (start.as_ptr(), chunk_bytes, 0);
        }
        self.bytes.store(self.bytes() + gap + bytes, Ordering::Relaxed);
        // SAFETY: `gap + bytes` is at most `free_bytes`, so both sums stay within the chunk or one past its end.
        let start = unsafe { chunks.free.add(gap) };
        // SAFETY: as above.
        chunks.free = unsafe { start.add(bytes) };
        chunks.free_bytes -= gap + bytes;
        let offset = (start.addr() - chunks.shared_start.addr()) / ALIGN;
        let place = chunks.shared << OFFSET_BITS | offset as u32;
        (place, NonNull::new(start).expect("a chunk does not start at null"))
    }

    /// Returns where the allocation at `place` starts.
    ///
    /// # Safety
    /// `place` came from [`alloc_at`](Self::alloc_at) of this arena, by way of a release store and an acquiring load if it
    /// came from another thread.
    #[inline]
    pub(super) unsafe fn at(&self, place: Place) -> *mut u8 {
        // SAFETY: the directory that is seen has the chunk (see the top of the file), and the offset lies within it.
        unsafe {
            let chunk = *self.directory.load(Ordering::Acquire).add((place >> OFFSET_BITS) as usize);
            chunk.add((place & OFFSET_MASK) as usize * ALIGN)
        }
    }

    fn new_chunk(&self, chunks: &mut Chunks, bytes: usize) -> (u32, NonNull<u8>) {
        assert!(bytes > 0);
        let (chunk, layout) = allocate(bytes);
        chunks.all.push((chunk, layout));
        let number = chunks.all.len();
        assert!(number < CHUNKS_MAX, "a memtable of more chunks than places can tell apart");
        if number >= chunks.directory_len {
            self.grow_directory(chunks);
        }
        // SAFETY: the directory has room for `number`, and nobody reads that entry before this chunk is published.
        unsafe { self.directory.load(Ordering::Relaxed).add(number).write(chunk.as_ptr()) };
        (number as u32, chunk)
    }

    #[cold]
    fn grow_directory(&self, chunks: &mut Chunks) {
        let len = (2 * chunks.directory_len).max(DIRECTORY_LEN_MIN);
        let (memory, layout) = allocate(len * size_of::<*mut u8>());
        let directory = memory.cast::<*mut u8>().as_ptr();
        // SAFETY: the new directory is longer than the old one, which was written up to its length or not at all, and
        // nobody else can reach it yet; chunk memory is aligned for pointers.
        unsafe {
            directory.write_bytes(0, len);
            directory.copy_from_nonoverlapping(self.directory.load(Ordering::Relaxed), chunks.directory_len);
        }
        chunks.directories.push((memory, layout));
        chunks.directory_len = len;
        self.directory.store(directory, Ordering::Release);
    }
}

fn allocate(bytes: usize) -> (NonNull<u8>, Layout) {
    let layout = Layout::from_size_align(bytes, ALIGN_MAX).expect("limits keep an entry far below isize::MAX");
    // SAFETY: the layout's size is not zero: callers ask for at least one byte.
    let memory = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
    (memory, layout)
}

impl Drop for Arena {
    fn drop(&mut self) {
        let chunks = self.chunks.get_mut();
        for (memory, layout) in chunks.all.drain(..).chain(chunks.directories.drain(..)) {
            // SAFETY: each came from `alloc` with this layout and is freed once, here.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
    }
}

/// Asks for the cache line at `start`, which may be any address.
#[inline]
pub(super) fn prefetch(start: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads nothing the program can see and does not fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(start.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_and_disjoint_and_found_again() {
        let arena = Arena::new();
        let mut pieces = Vec::new();
        for round in 0..2000usize {
            let bytes = if round % 500 == 7 { 3 << 20 } else { round % 97 };
            let align = if round % 3 == 0 { ALIGN_MAX } else { ALIGN };
            // SAFETY: one thread.
            let (place, piece) = unsafe { arena.alloc_at(bytes, align) };
            assert_eq!(piece.as_ptr() as usize % align, 0);
            assert_ne!(place, 0);
            // SAFETY: the arena gave out that many bytes and nobody else has them.
            unsafe { piece.as_ptr().write_bytes(round as u8, bytes) };
            pieces.push((place, piece, bytes, round as u8));
        }
        for (place, piece, bytes, fill) in pieces {
            // SAFETY: the place is this arena's.
            assert_eq!(unsafe { arena.at(place) }, piece.as_ptr());
            // SAFETY: written above, and the arena is alive.
            let bytes = unsafe { std::slice::from_raw_parts(piece.as_ptr(), bytes) };
            assert!(bytes.iter().all(|byte| *byte == fill));
        }
        assert!(arena.bytes() >= 4 * (3 << 20));
    }

    #[test]
    fn values_of_a_few_kilobytes_share_chunks() {
        let arena = Arena::new();
        for _ in 0..4000 {
            // SAFETY: one thread.
            unsafe { arena.alloc(3000) };
        }
        // SAFETY: one thread.
        let chunks = unsafe { (*arena.chunks.get()).all.len() };
        assert!(chunks < 30, "{chunks} chunks for 12 MB");
    }
}
