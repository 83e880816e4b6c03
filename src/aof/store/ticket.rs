//! [`Ticket`]: where a batch went, and the means to wait until it is durable.
//!
//! Made by every append; the caller may drop it at once. Waiting on a thread joins the group commit on that thread: there is
//! no hand-over to another one. A task that awaits it wakes the flusher, which makes it durable for all tasks at once.

use super::super::types::{Appended, Lsn};
use super::super::watch::WakerKey;
use super::Shared;
use crate::base::Result;
use crate::env::{Env, StdEnv};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Where a batch went. Dropping it changes nothing.
///
/// # Durability
/// The batch survives a power loss once [`wait`](Ticket::wait) returned, or the ticket was awaited.
#[must_use = "what was appended is durable when the ticket was waited for, or later by the flush strategy"]
pub struct Ticket<E: Env = StdEnv> {
    shared: Arc<Shared<E>>,
    appended: Appended,
    ids_end: u64,
    key: WakerKey,
}

impl<E: Env> Ticket<E> {
    pub(super) fn new(shared: &Arc<Shared<E>>, appended: Appended, records: u64) -> Ticket<E> {
        Ticket { shared: Arc::clone(shared), appended, ids_end: appended.first_id + records, key: WakerKey::default() }
    }

    /// Returns the ids of the batch's records.
    pub fn ids(&self) -> Range<u64> {
        self.appended.first_id..self.ids_end
    }

    /// Returns where the batch begins in the log.
    pub fn lsn(&self) -> Lsn {
        self.appended.lsn
    }

    /// Returns where the next batch begins.
    pub fn end(&self) -> Lsn {
        self.appended.end
    }

    /// Returns the time of the batch, microseconds since 1970; never less than the one before.
    pub fn ts(&self) -> u64 {
        self.appended.ts
    }

    /// Returns true if the batch survives a power loss.
    pub fn is_durable(&self) -> bool {
        self.shared.log.durable() >= self.appended.end
    }

    /// Blocks until the batch survives a power loss. One sync serves all threads that wait for one.
    ///
    /// # Errors
    /// What the write or sync met, or [`Poisoned`](crate::ErrorKind::Poisoned): whether the batch survives is then unknown
    /// until the store is opened again.
    pub fn wait(&self) -> Result<()> {
        self.shared.log.sync_for(self.appended.end, self.shared.wait_cause)
    }
}

impl<E: Env> Future for Ticket<E> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let ticket = self.get_mut();
        if ticket.is_durable() {
            return Poll::Ready(Ok(()));
        }
        let shared = &*ticket.shared;
        shared.log.watch().enter(&mut ticket.key, context.waker());
        shared.flusher.request(ticket.appended.end);
        let going_on = shared.check_going_on();
        match going_on {
            _ if ticket.is_durable() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<E: Env> Drop for Ticket<E> {
    fn drop(&mut self) {
        if self.key.is_entered() {
            self.shared.log.watch().leave(&mut self.key);
        }
    }
}

impl<E: Env> std::fmt::Debug for Ticket<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("ids", &self.ids()).field("lsn", &self.lsn()).finish_non_exhaustive()
    }
}
