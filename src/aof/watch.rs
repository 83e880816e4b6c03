//! [`Watch`]: how threads and tasks learn that a log has moved on.
//!
//! Whoever moves the log (a leader after a sync or a write, the caller that poisons or closes it, the background thread)
//! first publishes the change, then calls [`Watch::notify`]. Whoever waits looks at the log itself: the watch carries no
//! values. Any thread; wakers are called on the notifying thread, outside the lock.
//!
//! **No wake-up is lost:** a waiter enters itself under the lock before it looks, and a notifier looks for waiters after it
//! has published, with a fence between the two on both sides: one of them sees the other. With nobody waiting, a
//! notification is a fence and one relaxed load.
//!
//! Not to be called with a lock that a waiter's condition takes: conditions run under the watch's lock.

use crate::env::{Condvar, Env, EnvCondvar, Mono, Mutex};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::task::Waker;
use std::time::Duration;

/// Wakes those who wait for a change of the log.
pub struct Watch<E: Env> {
    /// Blocked threads and entered wakers.
    watching: AtomicU64,
    wakers: Mutex<E, Wakers>,
    changed: Condvar<E>,
}

#[derive(Default)]
struct Wakers {
    by_key: BTreeMap<u64, Waker>,
    next_key: u64,
}

impl<E: Env> Default for Watch<E> {
    fn default() -> Watch<E> {
        Watch {
            watching: AtomicU64::new(0),
            wakers: Mutex::<E, _>::new(Wakers::default()),
            changed: Condvar::<E>::default(),
        }
    }
}

impl<E: Env> Watch<E> {
    /// Wakes everyone who waits; to be called after the change is visible.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.watching.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let woken = {
            let mut wakers = self.wakers.lock();
            let woken = std::mem::take(&mut wakers.by_key);
            self.watching.fetch_sub(woken.len() as u64, Ordering::Relaxed);
            self.changed.notify_all();
            woken
        };
        for waker in woken.into_values() {
            waker.wake();
        }
    }

    /// Blocks until `done`, at most for `timeout`; returns what `done` said last.
    ///
    /// `done` is called under the watch's lock and must take no other.
    pub fn wait(&self, env: &E, timeout: Option<Duration>, mut done: impl FnMut() -> bool) -> bool {
        if done() {
            return true;
        }
        let end = timeout.map(|timeout| env.now().after(timeout));
        let mut wakers = self.wakers.lock();
        self.watching.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let is_done = loop {
            if done() {
                break true;
            }
            match end.map(|end: Mono| end.since(env.now())) {
                Some(left) if left.is_zero() => break false,
                Some(left) => {
                    self.changed.wait_for(&mut wakers, left);
                }
                None => self.changed.wait(&mut wakers),
            }
        };
        self.watching.fetch_sub(1, Ordering::Relaxed);
        is_done
    }

    /// Enters `waker` for the next notification, in place of the one that `key` stands for. The caller looks again
    /// afterwards: what happened before is not notified.
    pub fn enter(&self, key: &mut WakerKey, waker: &Waker) {
        let mut wakers = self.wakers.lock();
        let number = *key.0.get_or_insert_with(|| {
            wakers.next_key += 1;
            wakers.next_key
        });
        match wakers.by_key.get_mut(&number) {
            Some(entered) => entered.clone_from(waker),
            None => {
                wakers.by_key.insert(number, waker.clone());
                self.watching.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(wakers);
        fence(Ordering::SeqCst);
    }

    /// Takes back what [`enter`](Self::enter) entered, if it is still there.
    pub fn leave(&self, key: &mut WakerKey) {
        let Some(number) = key.0.take() else { return };
        let mut wakers = self.wakers.lock();
        if wakers.by_key.remove(&number).is_some() {
            self.watching.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns how many threads and tasks wait.
    pub fn watching(&self) -> u64 {
        self.watching.load(Ordering::Relaxed)
    }
}

/// The place of one task in a [`Watch`]. Its owner calls [`Watch::leave`] before it goes.
#[derive(Debug, Default)]
pub struct WakerKey(Option<u64>);

impl WakerKey {
    /// Returns true if it was ever entered and not taken back.
    pub fn is_entered(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{EnvJoin, StdEnv};
    use std::sync::Arc;
    use std::task::Wake;

    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn waker_is_called_once_and_can_leave() {
        let watch = Watch::<StdEnv>::default();
        let count = Arc::new(Count(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let (mut one, mut other) = (WakerKey::default(), WakerKey::default());
        watch.enter(&mut one, &waker);
        watch.enter(&mut one, &waker);
        watch.enter(&mut other, &waker);
        assert_eq!(watch.watching(), 2);
        watch.leave(&mut other);
        watch.notify();
        watch.notify();
        assert_eq!((count.0.load(Ordering::SeqCst), watch.watching()), (1, 0));
        watch.leave(&mut one);
        assert_eq!(watch.watching(), 0);
    }

    #[test]
    fn waiting_ends_with_the_condition_or_the_time() {
        let watch = Arc::new(Watch::<StdEnv>::default());
        assert!(!watch.wait(&StdEnv, Some(Duration::from_millis(1)), || false));
        let value = Arc::new(AtomicU64::new(0));
        let rounds = 2000;
        let other = {
            let (watch, value) = (Arc::clone(&watch), Arc::clone(&value));
            let body = move || {
                for round in 0..rounds {
                    assert!(watch.wait(&StdEnv, None, || value.load(Ordering::Relaxed) > 2 * round));
                    value.store(2 * round + 2, Ordering::Relaxed);
                    watch.notify();
                }
            };
            StdEnv.spawn("other", body).unwrap()
        };
        for round in 0..rounds {
            value.store(2 * round + 1, Ordering::Relaxed);
            watch.notify();
            assert!(watch.wait(&StdEnv, None, || value.load(Ordering::Relaxed) == 2 * round + 2));
        }
        assert!(other.join());
        assert_eq!(watch.watching(), 0);
    }
}
