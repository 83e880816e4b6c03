//! Floor 1: everything the engine asks of the world, as one trait.
//!
//! [`Env`] is clock, disk, threads, locks and randomness. [`StdEnv`] answers with the operating system; the simulator
//! answers from a seed. The engine is generic over it and compiles to the same code as a hand-written one.
//! The network joins this trait with replication, as `type Net` beside `type Disk`.
//!
//! **Invariant:** above this floor nothing touches `std::fs`, `std::thread`, `std::time`, a lock of another crate across an
//! `Env` operation, or a random number except through here (`.clippy.toml` and `tests/tidy.rs` hold it).
//!
//! **For implementors:** an operation may take any time and may switch to another thread; it must not call back.
//! Fault injection happens inside [`Disk`] and [`DiskFile`], so there is no memory mapping: a page fault cannot be
//! injected, and a truncated file would raise SIGBUS.

mod disk;
mod std;
mod sync;
mod time;

pub use self::std::{StdCondvar, StdDirLock, StdDisk, StdEnv, StdFile, StdJoin};
pub use disk::{DirEntry, Disk, DiskFile, OpenMode, SyncKind, read_file, write_file_atomic, write_zeros};
pub use sync::{Condvar, EnvCondvar, EnvJoin, Mutex, MutexGuard, RwLock};
pub use time::{Mono, Wall};

use ::std::io;
use ::std::time::Duration;

/// The world as a program sees it. Cheap to clone; clones are the same world.
pub trait Env: Clone + Send + Sync + 'static {
    /// The lock behind [`Mutex`].
    type RawMutex: lock_api::RawMutex + Send + Sync + 'static;
    /// The lock behind [`RwLock`].
    type RawRwLock: lock_api::RawRwLock + Send + Sync + 'static;
    /// Waits for a change under a [`Mutex`].
    type Condvar: EnvCondvar<Self::RawMutex>;
    /// A started thread.
    type Join: EnvJoin;
    /// Where files live.
    type Disk: Disk;

    /// Returns the disk.
    fn disk(&self) -> &Self::Disk;

    /// Reads the monotonic clock. Not on the path of a single get or put.
    fn now(&self) -> Mono;

    /// Reads the wall clock, which may step in either direction.
    fn wall(&self) -> Wall;

    /// Blocks the calling thread for `duration`.
    fn sleep(&self, duration: Duration);

    /// Returns 64 random bits: unpredictable in production, decided by the seed in simulation.
    fn rand_u64(&self) -> u64;

    /// Starts a thread called `name`.
    ///
    /// # Errors
    /// The operating system has no room for another thread.
    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<Self::Join>;

    /// Marks a place where the simulator may switch threads although nothing blocks.
    #[inline(always)]
    fn yield_point(&self) {}

    /// Gives other threads a moment to catch up, in a loop that is bounded anyway.
    #[inline(always)]
    fn relax(&self) {
        self.yield_point();
    }

    /// Asks whether to take a rare but legal path at `site`; always false outside simulation.
    #[inline(always)]
    fn buggify(&self, _site: &'static str) -> bool {
        false
    }

    /// Tells the simulator that a place of interest was reached, for coverage.
    #[inline(always)]
    fn reached(&self, _mark: &'static str) {}

    /// Asks whether the planted bug `name` is switched on; always false outside simulation, where it compiles to nothing.
    #[inline(always)]
    fn planted(&self, _name: &'static str) -> bool {
        false
    }
}
