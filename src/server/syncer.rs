//! The thread that makes writes durable, so that no session thread ever waits for a device.
//!
//! Under `appendfsync always` a session that committed asks for [`Syncer::synced`] and waits, without blocking its thread,
//! before it sends the replies. The thread takes everybody who waits, runs one sync for all of them, and wakes them: while
//! a sync runs, the next group gathers. Under `everysec` the housekeeping task calls [`Syncer::tick`] each second.
//!
//! **Invariants:** a waiter is answered by a sync that *began* after it asked, so what it committed is covered; after a
//! failed sync every waiter gets the error and no reply claims success; [`Syncer::stop`] answers everybody first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::base::{Error, Result};
use crate::env::{Condvar, Env, EnvCondvar, EnvJoin, Mutex, StdEnv};

/// Runs syncs on behalf of sessions.
pub(super) struct Syncer {
    state: Mutex<StdEnv, State>,
    changed: Condvar<StdEnv>,
    thread: Mutex<StdEnv, Option<<StdEnv as Env>::Join>>,
    syncs: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<oneshot::Sender<Result<()>>>,
    tick: bool,
    stop: bool,
}

impl Syncer {
    /// Starts the thread; `sync` makes everything committed so far durable.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub(super) fn start(env: &StdEnv, sync: impl Fn() -> Result<()> + Send + 'static) -> std::io::Result<Arc<Syncer>> {
        let syncer = Arc::new(Syncer {
            state: Mutex::<StdEnv, _>::new(State::default()),
            changed: Condvar::<StdEnv>::default(),
            thread: Mutex::<StdEnv, _>::new(None),
            syncs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let worker = syncer.clone();
        let thread = env.spawn("aikv-syncer", move || worker.run(&sync))?;
        *syncer.thread.lock() = Some(thread);
        Ok(syncer)
    }

    /// Waits until everything committed before this call is durable.
    ///
    /// # Errors
    /// The sync failed; what is on the device is unknown.
    pub(super) async fn synced(&self) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.stop {
                return Err(Error::closed());
            }
            state.waiting.push(sender);
        }
        self.changed.notify_one();
        receiver.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    /// Asks for a sync that nobody waits for.
    pub(super) fn tick(&self) {
        self.state.lock().tick = true;
        self.changed.notify_one();
    }

    /// Returns how many syncs ran, and how many of them failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.syncs.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Answers who waits, and ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            assert!(thread.join(), "the syncer's thread does not panic");
        }
    }

    fn run(&self, sync: &dyn Fn() -> Result<()>) {
        let mut state = self.state.lock();
        loop {
            if !state.waiting.is_empty() || state.tick {
                let group = std::mem::take(&mut state.waiting);
                state.tick = false;
                drop(state);
                let outcome = sync();
                self.syncs.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = &outcome {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("cannot make writes durable: {error}");
                }
                for waiter in group {
                    // A session that was ended meanwhile no longer listens.
                    let _ = waiter.send(outcome.clone());
                }
                state = self.state.lock();
            } else if state.stop {
                return;
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_runtime<R>(future: impl Future<Output = R>) -> R {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn one_sync_serves_a_group_and_failures_reach_everybody() {
        let failing = Arc::new(AtomicU64::new(0));
        let seen = failing.clone();
        let syncer = Syncer::start(&StdEnv, move || match seen.load(Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(Error::closed()),
        })
        .unwrap();
        on_runtime(async {
            for _ in 0..3 {
                assert!(syncer.synced().await.is_ok());
            }
            failing.store(1, Ordering::SeqCst);
            let (a, b) = tokio::join!(syncer.synced(), syncer.synced());
            assert!(a.is_err() && b.is_err());
        });
        syncer.stop();
        assert!(on_runtime(syncer.synced()).is_err());
        assert_eq!(syncer.counts().0 - syncer.counts().1, 3);
    }
}
