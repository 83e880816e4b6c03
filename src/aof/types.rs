//! What callers of the log pass in and get back: positions, options, appends, frames, reports, counters.
//!
//! Used by [`super::log`] and its callers on any thread; plain data without behaviour beyond validation.

use super::crypt::KeyRing;
use super::format::{FrameKind, HEADER_BYTES};
use crate::base::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// A position in the log: ever-growing, counted in bytes of frames (segment headers take none), a multiple of 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a segment file, header included. Default 64 MiB; at least 8 KiB and a multiple of 4096.
    ///
    /// Space is given back in whole segments; recovery reads the last one twice. One frame larger than a segment gets a
    /// longer segment of its own.
    pub segment_bytes: u64,
    /// How many dropped segments are kept to be written over. Default 1. More only helps if drops come in bursts.
    pub spare_segments: usize,
    /// How many bytes [`append`](super::log::Log::append) gathers before it hands them to the system. Default 128 KiB: they
    /// are still in the processor's cache when the system copies them.
    ///
    /// Bounds what a process crash can take from appends that nobody waited for.
    pub buffer_bytes: usize,
    /// Whether `first_id` must continue where the frame before ended, checked when appending and when recovering.
    /// The first id of a new log is then 1. Default false: the caller counts in its own way.
    pub ids_contiguous: bool,
    /// Records before this id are known to have been durable: a log that ends before them is damaged, not torn. Default 0.
    pub ids_durable: u64,
    /// Where replay begins. Default 0. Closed segments that end at or before it are taken by their headers and not read;
    /// the last one is always read.
    pub replay_from: Lsn,
    /// Whether a sealed segment ends with an index of its frames. Default false.
    pub index: bool,
    /// The keys that payloads are encrypted with, of which new segments use the current one. Default none: not encrypted.
    ///
    /// They must include the key of every segment that is there. A log may begin to be encrypted at any open, segment by
    /// segment; it cannot be opened without keys again until its encrypted segments are gone.
    pub keys: Option<KeyRing>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 64 << 20,
            spare_segments: 1,
            buffer_bytes: 128 << 10,
            ids_contiguous: false,
            ids_durable: 0,
            replay_from: Lsn(0),
            index: false,
            keys: None,
        }
    }
}

impl LogOptions {
    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) names the option.
    pub fn validate(&self) -> Result<()> {
        let header = HEADER_BYTES as u64;
        if self.segment_bytes < 2 * header || self.segment_bytes > 1 << 32 || !self.segment_bytes.is_multiple_of(header)
        {
            return Err(Error::invalid_argument(format_args!(
                "segment_bytes {} is not a multiple of {header} in {}..={}",
                self.segment_bytes,
                2 * header,
                1u64 << 32
            )));
        }
        if self.spare_segments > 64 {
            return Err(Error::invalid_argument(format_args!("spare_segments {} is over 64", self.spare_segments)));
        }
        if self.buffer_bytes > 1 << 30 {
            return Err(Error::invalid_argument(format_args!("buffer_bytes {} is over 1 GiB", self.buffer_bytes)));
        }
        Ok(())
    }
}

/// One batch to append as one frame: it is recovered whole or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// [`FrameKind::Data`], [`FrameKind::Meta`] or [`FrameKind::Rewrite`]; the other kinds are the log's own.
    pub kind: FrameKind,
    /// How many records the payload holds, by the caller's count.
    pub count: u16,
    /// The first record's number, by the caller's count; none for the next one of a log whose ids are contiguous.
    pub first_id: Option<u64>,
    /// The caller's mark (a Raft group, a user).
    pub tag: u32,
    /// The payload, concatenated; together at least 1 byte and at most [`BATCH_BYTES_MAX`](crate::base::limits::BATCH_BYTES_MAX).
    pub parts: &'a [&'a [u8]],
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first record's number.
    pub first_id: u64,
    /// Microseconds since 1970 when the frame's group began.
    pub ts: u64,
    /// Where the frame begins.
    pub lsn: Lsn,
    /// Where the next one begins, for [`sync_to`](super::log::Log::sync_to).
    pub end: Lsn,
}

/// What to look for in the segment being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// The record of this id.
    Id(u64),
    /// The first frame of this time or later, microseconds since 1970.
    Time(u64),
    /// The frame that begins here, or the first one behind it.
    Lsn(Lsn),
}

/// A segment file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Position in the chain, from 1; the file's name.
    pub number: u64,
    /// Where its first frame begins.
    pub base_lsn: Lsn,
    /// Where the next segment begins; none for the one being written.
    pub end_lsn: Option<Lsn>,
    /// The first record number expected.
    pub base_id: u64,
    /// No later than its first frame's time, microseconds since 1970.
    pub base_ts: u64,
    /// Which open of the log made it, from 1.
    pub epoch: u64,
    /// This life of the file.
    pub salt: [u8; 16],
    /// The key it is encrypted with, 0 for none.
    pub key_id: u32,
    /// The file's length; of the one being written, when it was begun.
    pub file_bytes: u64,
    /// The file.
    pub path: PathBuf,
}

/// One recovered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where the frame begins.
    pub lsn: Lsn,
    /// Where the next one begins.
    pub end: Lsn,
    /// As appended.
    pub kind: FrameKind,
    /// As appended.
    pub count: u16,
    /// The first record's number.
    pub first_id: u64,
    /// As appended.
    pub tag: u32,
    /// Microseconds since 1970 when the frame's group began; never goes back along the log.
    pub ts: u64,
    /// As appended.
    pub payload: &'a [u8],
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Where the oldest kept segment begins. A caller that needs older frames has lost a file.
    pub first_lsn: Lsn,
    /// Where the log ends; the next frame begins here. A caller that knows of later durable frames has lost a file.
    pub end: Lsn,
    /// How many frames were replayed.
    pub frames: u64,
    /// How many segment files were found.
    pub segments: u64,
    /// How many bytes after `end` look like frames that were being written when the writer died.
    pub torn_bytes: u64,
    /// How many bytes before `end` nothing vouched for as durable; they are durable now.
    pub tail_bytes: u64,
    /// Names in the directory that no log has given; they were left alone.
    pub unknown: Vec<OsString>,
}

/// What a log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Frames appended by callers.
    pub appends: u64,
    /// Bytes of these frames, headers and padding included.
    pub bytes: u64,
    /// Writes handed to the system.
    pub writes: u64,
    /// Data syncs of segment files.
    pub syncs: u64,
    /// Segments begun after the first.
    pub rolls: u64,
    /// Segments that were written over an old one.
    pub recycled: u64,
    /// MARK frames written.
    pub marks: u64,
}
