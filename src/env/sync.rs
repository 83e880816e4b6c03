//! Locks, condition variables and joins of an [`Env`].

use super::Env;
use std::time::Duration;

/// A mutual exclusion lock of the environment `E`.
pub type Mutex<E, T> = lock_api::Mutex<<E as Env>::RawMutex, T>;
/// The guard of a [`Mutex`].
pub type MutexGuard<'a, E, T> = lock_api::MutexGuard<'a, <E as Env>::RawMutex, T>;
/// A reader-writer lock of the environment `E`.
pub type RwLock<E, T> = lock_api::RwLock<<E as Env>::RawRwLock, T>;
/// The condition variable of the environment `E`.
pub type Condvar<E> = <E as Env>::Condvar;

/// A condition variable over locks of type `R`. Waits may end without a notification: callers loop.
pub trait EnvCondvar<R: lock_api::RawMutex>: Default + Send + Sync + 'static {
    /// Releases the lock, blocks until notified, takes the lock again.
    fn wait<T>(&self, guard: &mut lock_api::MutexGuard<'_, R, T>);

    /// Like [`wait`](Self::wait) for at most `timeout`; returns true if the time ran out.
    fn wait_for<T>(&self, guard: &mut lock_api::MutexGuard<'_, R, T>, timeout: Duration) -> bool;

    /// Wakes one waiter.
    fn notify_one(&self);

    /// Wakes every waiter.
    fn notify_all(&self);
}

/// A started thread.
pub trait EnvJoin: Send + Sync + 'static {
    /// Blocks until the thread has ended; returns false if it panicked.
    fn join(self) -> bool;
}
