//! What can go wrong in the log beyond files: [`AofError`], the typed source of the crate's one error.
//!
//! Made by every room of this floor; read by callers through [`AofError::of`].

use crate::base::{Error, ErrorKind};
use std::fmt;
use std::path::PathBuf;

/// The failures that only a log has. [`Error::kind`] is what to decide on; this is the detail behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AofError {
    /// A segment size out of range.
    InvalidSegmentSize {
        /// What was asked for.
        bytes: u64,
    },
    /// A record whose checksum or place is wrong.
    CorruptedRecord {
        /// The file or archived object.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// Which check fails.
        what: String,
    },
    /// A segment's index contradicts its frames.
    IndexError {
        /// The file or archived object.
        file: PathBuf,
        /// What contradicts.
        what: String,
    },
    /// The archive failed.
    RemoteStorage {
        /// What was tried: put, head, read, list, delete.
        operation: &'static str,
        /// The object's key, or the prefix of a listing.
        key: String,
        /// What the archive said; never credentials.
        what: String,
        /// Whether the outcome is unknown or a later attempt may succeed.
        retryable: bool,
    },
    /// Bytes that do not compress or decompress.
    CompressionError {
        /// The file or archived object.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What failed.
        what: String,
    },
    /// A key that is missing, or that is not the one the bytes were encrypted with.
    EncryptionError {
        /// The file or archived object.
        file: PathBuf,
        /// The key's number.
        key_id: u32,
        /// What failed; never key material.
        what: &'static str,
    },
    /// Too much waits to become durable, or too many segments to be archived, for too long.
    Backpressure {
        /// What is over its limit, in words.
        what: &'static str,
        /// How much there is.
        have: u64,
        /// How much there may be.
        limit: u64,
    },
    /// As [`Backpressure`](Self::Backpressure), met by a call that does not wait.
    WouldBlock,
    /// A batch that no segment can hold.
    SegmentFull {
        /// What the batch takes.
        bytes: u64,
        /// What a segment holds at most.
        limit: u64,
    },
    /// The log has no segment to append to: it is poisoned, closed, or opened for reading.
    NoCurrentSegment,
    /// Too many cursors at once.
    ReaderLimitExceeded {
        /// How many there may be.
        limit: usize,
    },
    /// `append_if` named an id that is not the next one.
    NextId {
        /// The id named.
        expected: u64,
        /// The next id.
        next: u64,
    },
    /// `append_if` came with a fence lower than one seen before.
    Fenced {
        /// The fence of the call.
        fence: u64,
        /// The highest one seen.
        highest: u64,
    },
    /// A record that was truncated or has expired.
    Truncated {
        /// The record asked for.
        id: u64,
        /// The oldest one kept.
        first: u64,
    },
    /// A record that was not yet appended, or is not yet visible.
    NotYet {
        /// The record asked for.
        id: u64,
        /// The id that will be given next.
        next: u64,
    },
}

impl AofError {
    /// Returns the detail behind `error`, if a log made it.
    pub fn of(error: &Error) -> Option<&AofError> {
        std::error::Error::source(error)?.downcast_ref()
    }

    fn kind(&self) -> ErrorKind {
        match self {
            AofError::InvalidSegmentSize { .. } | AofError::SegmentFull { .. } => ErrorKind::InvalidArgument,
            AofError::CorruptedRecord { file, offset, .. } | AofError::CompressionError { file, offset, .. } => {
                ErrorKind::Corruption { file: file.clone(), offset: *offset }
            }
            AofError::IndexError { file, .. } => ErrorKind::Corruption { file: file.clone(), offset: 0 },
            AofError::RemoteStorage { .. } => ErrorKind::Remote,
            AofError::EncryptionError { .. } => ErrorKind::Key,
            AofError::Backpressure { .. } | AofError::WouldBlock | AofError::ReaderLimitExceeded { .. } => {
                ErrorKind::WouldBlock
            }
            AofError::NoCurrentSegment => ErrorKind::Closed,
            AofError::NextId { .. } | AofError::Fenced { .. } => ErrorKind::Conflict,
            AofError::Truncated { .. } | AofError::NotYet { .. } => ErrorKind::NotFound,
        }
    }
}

impl From<AofError> for Error {
    fn from(error: AofError) -> Error {
        Error::wrap(error.kind(), error)
    }
}

impl fmt::Display for AofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AofError::InvalidSegmentSize { bytes } => {
                write!(f, "segment_bytes {bytes} is not a multiple of 4096 in 8192..={}", 1u64 << 32)
            }
            AofError::CorruptedRecord { file, offset, what } => {
                write!(f, "corruption in {} at offset {offset}: {what}", file.display())
            }
            AofError::IndexError { file, what } => write!(f, "the index of {}: {what}", file.display()),
            AofError::RemoteStorage { operation, key, what, .. } => {
                write!(f, "archive: cannot {operation} {key}: {what}")
            }
            AofError::CompressionError { file, offset, what } => {
                write!(f, "corruption in {} at offset {offset}: compressed bytes: {what}", file.display())
            }
            AofError::EncryptionError { file, key_id, what } => {
                write!(f, "{}: encryption key {key_id} {what}", file.display())
            }
            AofError::Backpressure { what, have, limit } => write!(f, "{what}: {have}, the limit is {limit}"),
            AofError::WouldBlock => f.write_str("the log is behind; try again, or append in a way that waits"),
            AofError::SegmentFull { bytes, limit } => {
                write!(f, "a batch of {bytes} bytes is over what a segment holds, {limit}")
            }
            AofError::NoCurrentSegment => f.write_str("the log has no segment to append to"),
            AofError::ReaderLimitExceeded { limit } => {
                write!(f, "there are {limit} cursors, the limit; drop one first")
            }
            AofError::NextId { expected, next } => write!(f, "expected next id {expected}, it is {next}"),
            AofError::Fenced { fence, highest } => {
                write!(f, "fence {fence} is behind {highest}: another writer has taken over")
            }
            AofError::Truncated { id, first } => write!(f, "record {id} is gone; the oldest kept is {first}"),
            AofError::NotYet { id, next } => write!(f, "record {id} is not there yet; the next id is {next}"),
        }
    }
}

impl std::error::Error for AofError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_is_found_behind_the_error() {
        let error = Error::from(AofError::Fenced { fence: 3, highest: 5 });
        assert_eq!(error.kind(), &ErrorKind::Conflict);
        assert_eq!(AofError::of(&error), Some(&AofError::Fenced { fence: 3, highest: 5 }));
        assert!(error.to_string().contains("fence 3"));
        assert_eq!(AofError::of(&Error::closed()), None);
    }
}
