//! [`DurableWatch`]: following how far a store is durable, on a thread or in a task.
//!
//! A replicator or a consumer that may only act on what survives asks here instead of polling. Any number of them; an append
//! or sync without any pays nothing.

use super::super::types::Lsn;
use super::super::watch::WakerKey;
use super::Shared;
use crate::base::{Error, Result};
use crate::env::{Env, StdEnv};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Follows how far a store is durable.
pub struct DurableWatch<E: Env = StdEnv> {
    shared: Arc<Shared<E>>,
    seen: Lsn,
    key: WakerKey,
}

impl<E: Env> DurableWatch<E> {
    pub(super) fn new(shared: &Arc<Shared<E>>) -> DurableWatch<E> {
        DurableWatch { shared: Arc::clone(shared), seen: shared.log.durable(), key: WakerKey::default() }
    }

    /// Returns up to where the store survives a power loss now.
    pub fn lsn(&self) -> Lsn {
        self.shared.log.durable()
    }

    /// Returns the id after the last record that survives a power loss now.
    pub fn id(&self) -> u64 {
        self.shared.durable_id()
    }

    /// Blocks until the store is durable beyond `lsn` and returns how far; none if `timeout` ran out first.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) or [`Closed`](crate::ErrorKind::Closed): it will not come so far.
    pub fn wait_past(&mut self, lsn: Lsn, timeout: Option<Duration>) -> Result<Option<Lsn>> {
        let shared = &*self.shared;
        let over = || shared.log.durable() > lsn || shared.ended();
        shared.log.watch().wait(&shared.env, timeout, over);
        let durable = shared.log.durable();
        if durable > lsn {
            self.seen = durable;
            return Ok(Some(durable));
        }
        shared.check_going_on()?;
        Ok(None)
    }

    /// Returns a future that is ready once the store is durable further than this watch has said before.
    ///
    /// # Errors
    /// As [`wait_past`](Self::wait_past).
    pub fn changed(&mut self) -> Changed<'_, E> {
        Changed(self)
    }
}

impl<E: Env> Drop for DurableWatch<E> {
    fn drop(&mut self) {
        self.shared.log.watch().leave(&mut self.key);
    }
}

impl<E: Env> std::fmt::Debug for DurableWatch<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableWatch").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Made by [`DurableWatch::changed`].
#[must_use = "futures do nothing unless awaited"]
pub struct Changed<'w, E: Env = StdEnv>(&'w mut DurableWatch<E>);

impl<E: Env> std::fmt::Debug for Changed<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Changed").field(&self.0).finish()
    }
}

impl<E: Env> Future for Changed<'_, E> {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let watch = &mut *self.get_mut().0;
        watch.shared.log.watch().enter(&mut watch.key, context.waker());
        let durable = watch.shared.log.durable();
        let ready = if durable > watch.seen { Ok(()) } else { watch.shared.check_going_on() };
        match ready {
            Ok(()) if durable <= watch.seen => Poll::Pending,
            ready => {
                watch.shared.log.watch().leave(&mut watch.key);
                watch.seen = watch.seen.max(durable);
                Poll::Ready(ready.map(|()| durable))
            }
        }
    }
}

impl<E: Env> Shared<E> {
    /// Returns true if nothing more will become durable: poisoned or closed.
    pub(super) fn ended(&self) -> bool {
        self.check_going_on().is_err()
    }

    /// Fails if nothing more will become durable.
    pub(super) fn check_going_on(&self) -> Result<()> {
        match self.log.poisoned() {
            Some(error) => Err(error),
            None if self.closed.load(std::sync::atomic::Ordering::Acquire) => Err(Error::closed()),
            None => Ok(()),
        }
    }
}
