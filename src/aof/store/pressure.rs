//! Back-pressure: what an append does when too much waits to become durable, or to be archived.
//!
//! Called on appending threads. Without pressure it costs three loads and a comparison; with it the thread sleeps on the
//! log's watch, which is notified when the log becomes durable further, when a segment is archived, and at the end.

use super::super::AofError;
use super::Shared;
use crate::base::{Error, Result};
use crate::env::Env;
use std::sync::atomic::Ordering;

impl<E: Env> Shared<E> {
    /// Returns how much too much there is.
    #[inline]
    fn pressure(&self) -> Option<AofError> {
        // The end is read first: it may only have grown since.
        let end = self.log.end().0;
        let have = end.saturating_sub(self.log.durable().0);
        let limit = self.config.pending_bytes_max;
        if have >= limit {
            return Some(AofError::Backpressure { what: "bytes appended and not durable", have, limit });
        }
        let limit = self.config.unarchived_segments_max as u64;
        if limit > 0 {
            let have = self.archive.unarchived(&self.log);
            if have >= limit {
                return Some(AofError::Backpressure { what: "segments sealed and not archived", have, limit });
            }
        }
        None
    }

    /// Lets an append through that may wait.
    #[inline]
    pub(super) fn admit(&self) -> Result<()> {
        self.tell()?;
        if self.pressure().is_some() { self.wait_for_room() } else { Ok(()) }
    }

    /// Lets an append through that may not wait.
    #[inline]
    pub(super) fn try_admit(&self) -> Result<()> {
        self.tell()?;
        match self.pressure() {
            None => Ok(()),
            Some(_) => {
                self.relieve();
                self.counters.would_block.fetch_add(1, Ordering::Relaxed);
                Err(AofError::WouldBlock.into())
            }
        }
    }

    /// Tells the caller what went wrong in the background.
    #[inline]
    pub(super) fn tell(&self) -> Result<()> {
        if self.errors.any_untold()
            && let Some(error) = self.errors.take()
        {
            return Err(error);
        }
        Ok(())
    }

    /// Sees to it that the pressure falls.
    fn relieve(&self) {
        self.flusher.request(self.log.end());
        self.background.kick();
    }

    #[cold]
    fn wait_for_room(&self) -> Result<()> {
        self.env.reached("aof.pressure");
        self.counters.pressure_waits.fetch_add(1, Ordering::Relaxed);
        self.relieve();
        let over = || self.pressure().is_none() || self.ended() || self.errors.any_untold();
        self.log.watch().wait(&self.env, Some(self.config.pressure_timeout), over);
        self.tell()?;
        if let Some(error) = self.log.poisoned() {
            return Err(error);
        }
        match self.pressure() {
            None => Ok(()),
            Some(_) if self.closing.load(Ordering::Acquire) => Err(Error::closed()),
            Some(pressure) => Err(pressure.into()),
        }
    }
}
