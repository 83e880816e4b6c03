//! What a cursor yields: [`RecordRef`] without a copy, [`Record`] with one.

use super::super::types::Lsn;
use bytes::Bytes;

/// One record, borrowed from the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its number.
    pub id: u64,
    /// Where the frame of its batch begins.
    pub lsn: Lsn,
    /// When its batch's group began, microseconds since 1970; never goes back along the log.
    pub ts: u64,
    /// As appended.
    pub tag: u32,
    /// As appended; may be empty.
    pub bytes: &'a [u8],
}

impl RecordRef<'_> {
    /// Copies the record.
    pub fn to_record(&self) -> Record {
        let bytes = Bytes::copy_from_slice(self.bytes);
        Record { id: self.id, lsn: self.lsn, ts: self.ts, tag: self.tag, bytes }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub id: u64,
    /// Where the frame of its batch begins.
    pub lsn: Lsn,
    /// When its batch's group began, microseconds since 1970; never goes back along the log.
    pub ts: u64,
    /// As appended.
    pub tag: u32,
    /// As appended; may be empty. Its own allocation, so that keeping it keeps nothing else.
    pub bytes: Bytes,
}
