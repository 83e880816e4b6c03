//! The appends of an [`Aof`], which may wait for room, be refused instead, be conditional, or wait until durable.
//!
//! Called on any thread. The plain path is: look for news from the background and for pressure (loads only), append to the
//! log (its one lock), compare with the flusher's alarm (two loads).

use super::super::AofError;
use super::super::format::FrameKind;
use super::super::manifest::Edit;
use super::super::record::format::{LENGTH_BYTES_MAX, Length, RECORD_BYTES_MAX, RECORDS_MAX};
use super::super::types::{Append, Appended};
use super::{Aof, Shared, Ticket};
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::Env;
use std::ops::Range;

/// Records of a batch that are smaller on average are joined first: a checksum of many small parts costs more than the copy.
const SMALL_BYTES: usize = 1 << 10;

impl<E: Env> Aof<E> {
    /// Appends one record, at most 2 GiB less 4101 bytes; an empty one is a record too.
    ///
    /// Waits for room while [`pending_bytes_max`](super::AofConfig::pending_bytes_max) bytes are not durable, or
    /// [`unarchived_segments_max`](super::AofConfig::unarchived_segments_max) segments not archived.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a record that is too long; [`AofError::Backpressure`] if
    /// there was no room for [`pressure_timeout`](super::AofConfig::pressure_timeout);
    /// [`Poisoned`](crate::ErrorKind::Poisoned); [`Closed`](crate::ErrorKind::Closed); what a write met; or, once, what
    /// background work met. After an error nothing was appended.
    ///
    /// # Durability
    /// As the [`FlushStrategy`](super::FlushStrategy) says, or when the ticket was waited for.
    pub fn append(&self, record: &[u8]) -> Result<Ticket<E>> {
        self.append_tagged(0, record)
    }

    /// Appends one record with the caller's mark `tag`, which cursors return.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_tagged(&self, tag: u32, record: &[u8]) -> Result<Ticket<E>> {
        self.shared.admit()?;
        let appended = self.shared.append_one(None, tag, record)?;
        self.shared.appended(appended.first_id + 1, &appended);
        Ok(Ticket::new(&self.shared, appended, 1))
    }

    /// As [`append`](Self::append), but never waits for room.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`AofError::WouldBlock`].
    pub fn try_append(&self, record: &[u8]) -> Result<Ticket<E>> {
        self.shared.try_admit()?;
        let appended = self.shared.append_one(None, 0, record)?;
        self.shared.appended(appended.first_id + 1, &appended);
        Ok(Ticket::new(&self.shared, appended, 1))
    }

    /// Appends up to 65,535 records, which are recovered together or not at all.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) also for no records, or too many.
    pub fn append_batch(&self, records: &[impl AsRef<[u8]>]) -> Result<Ticket<E>> {
        let appended = self.append_records(records)?;
        let count = records.len() as u64;
        self.shared.appended(appended.first_id + count, &appended);
        Ok(Ticket::new(&self.shared, appended, count))
    }

    /// As [`append_batch`](Self::append_batch), and blocks until the records survive a power loss; returns their ids.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch) and [`Ticket::wait`].
    pub fn append_batch_sync(&self, records: &[impl AsRef<[u8]>]) -> Result<Range<u64>> {
        let appended = self.append_records(records)?;
        self.sync_own(&appended)?;
        Ok(appended.first_id..appended.first_id + records.len() as u64)
    }

    /// Appends a batch; the flusher is not told.
    fn append_records(&self, records: &[impl AsRef<[u8]>]) -> Result<Appended> {
        if records.is_empty() || records.len() > RECORDS_MAX {
            let what = format_args!("batch of {} records, 1 to {RECORDS_MAX}", records.len());
            return Err(Error::invalid_argument(what));
        }
        let bytes = records.iter().fold(0usize, |sum, record| sum.saturating_add(record.as_ref().len()));
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::invalid_argument(format_args!("batch of {bytes} bytes, at most {BATCH_BYTES_MAX}")));
        }
        let append = |parts: &[&[u8]]| {
            self.shared.admit()?;
            let count = records.len() as u16;
            self.shared.log.append(&Append { kind: FrameKind::Data, count, first_id: None, tag: 0, parts })
        };
        let lengths = records.iter().map(|record| Length::encode(record.as_ref().len()));
        if bytes < records.len() * SMALL_BYTES {
            let mut payload = Vec::with_capacity(bytes + records.len() * LENGTH_BYTES_MAX);
            for (length, record) in lengths.zip(records) {
                payload.extend_from_slice(length.as_slice());
                payload.extend_from_slice(record.as_ref());
            }
            return append(&[&payload]);
        }
        let lengths: Vec<Length> = lengths.collect();
        let parts = lengths.iter().zip(records).flat_map(|(length, record)| [length.as_slice(), record.as_ref()]);
        append(&parts.collect::<Vec<&[u8]>>())
    }

    /// Appends one record and blocks until it survives a power loss; returns its id as a range of one.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`Ticket::wait`].
    pub fn append_sync(&self, record: &[u8]) -> Result<Range<u64>> {
        self.shared.admit()?;
        let appended = self.shared.append_one(None, 0, record)?;
        self.sync_own(&appended)?;
        Ok(appended.first_id..appended.first_id + 1)
    }

    /// Makes durable what the calling thread has appended. It joins the group commit itself: the flusher stays asleep.
    fn sync_own(&self, appended: &Appended) -> Result<()> {
        self.shared.tell_spare(appended);
        self.shared.log.sync_for(appended.end, self.shared.wait_cause)
    }

    /// Appends one record if it gets the id `next_id`, and if no higher `fence` was ever seen.
    ///
    /// For a writer that replaces another one: it takes a higher fence, and from its first call on every call with a lower
    /// one is refused, also after a crash. Other appends are not fenced.
    ///
    /// # Errors
    /// [`AofError::Fenced`], [`AofError::NextId`]; what raising the fence met in the manifest; as [`append`](Self::append).
    ///
    /// # Durability
    /// A raised fence survives a power loss before the record is appended, and stays if the record is refused.
    pub fn append_if(&self, next_id: u64, fence: u64, record: &[u8]) -> Result<Ticket<E>> {
        let shared = &self.shared;
        shared.admit()?;
        // Held while appending, so that nobody passes with a fence that was overtaken meanwhile.
        let mut highest = shared.fence.lock();
        if fence < *highest {
            return Err(AofError::Fenced { fence, highest: *highest }.into());
        }
        if fence > *highest {
            if !shared.env.planted("aof_fence_not_persisted") {
                shared.commit(Edit::Fence(fence))?;
            }
            *highest = fence;
        }
        let appended = shared.append_one(Some(next_id), 0, record)?;
        drop(highest);
        shared.appended(next_id + 1, &appended);
        Ok(Ticket::new(shared, appended, 1))
    }
}

impl<E: Env> Shared<E> {
    /// Wakes the threads that an append, after which the next id is `next_id`, gives work.
    #[inline]
    fn appended(&self, next_id: u64, appended: &Appended) {
        self.flusher.appended(next_id, appended.end);
        self.tell_spare(appended);
    }

    /// Wakes the background thread if the next segment's file should be made.
    #[inline]
    fn tell_spare(&self, appended: &Appended) {
        if self.log.tell_spare(appended.end) {
            self.background.kick();
        }
    }

    #[inline]
    fn append_one(&self, first_id: Option<u64>, tag: u32, record: &[u8]) -> Result<Appended> {
        if record.len() > RECORD_BYTES_MAX {
            let what = format_args!("record of {} bytes, at most {RECORD_BYTES_MAX}", record.len());
            return Err(Error::invalid_argument(what));
        }
        let length = Length::encode(record.len());
        let parts = &[length.as_slice(), record];
        self.log.append(&Append { kind: FrameKind::Data, count: 1, first_id, tag, parts })
    }
}
