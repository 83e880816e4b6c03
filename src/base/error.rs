//! The crate's one error: opaque, cheap to clone, and always naming what failed.
//!
//! Every fallible public function returns [`Result`]. Callers decide on [`Error::kind`]; people read the message, which
//! names the file and, for damage, the byte offset. An error is shared between the writers of a commit group and between
//! a background thread and the callers it fails, so it is reference counted and never mutated.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarse enough to decide on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused an operation.
    Io,
    /// Stored bytes fail their checks. The file is intact up to `offset`.
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Byte offset of the first damaged unit (header, frame, block).
        offset: u64,
    },
    /// A transaction lost a race and may be retried.
    Conflict,
    /// Transactions wait for each other's locks, and this one was chosen to give way; it may be retried.
    Deadlock,
    /// A lock was not free in time; what asked for it may be retried.
    TimedOut,
    /// The caller passed something out of range; nothing was changed.
    InvalidArgument,
    /// Another process has the directory open.
    Locked,
    /// The handle was closed.
    Closed,
    /// The handle was opened without the right to write.
    ReadOnly,
    /// An earlier write or sync failed; what is on disk is unknown until the directory is opened again.
    Poisoned,
    /// The device is full.
    NoSpace,
    /// The call would have to wait; nothing was changed, and it may be tried again.
    WouldBlock,
    /// A remote store failed or refused; what it did is unknown.
    Remote,
    /// What was asked for does not exist, or no longer does.
    NotFound,
    /// Stored bytes are encrypted and the key is missing or another one.
    Key,
}

/// Describes a failure; see [`Error::kind`] for the part to decide on.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Error {
        Error(Arc::new(Inner { kind, message, source: None }))
    }

    /// Wraps an operating system error met while doing `what` (for example `"write"`) to `file`.
    ///
    /// A full device becomes [`ErrorKind::NoSpace`], everything else [`ErrorKind::Io`].
    pub fn io(what: &str, file: &Path, source: io::Error) -> Error {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        let message = format!("cannot {what} {}: {source}", file.display());
        Error(Arc::new(Inner { kind, message, source: Some(Box::new(source)) }))
    }

    /// Reports damage at byte `offset` of `file`; `what` says which check failed.
    pub fn corruption(file: &Path, offset: u64, what: impl fmt::Display) -> Error {
        let message = format!("corruption in {} at offset {offset}: {what}", file.display());
        Error::new(ErrorKind::Corruption { file: file.to_path_buf(), offset }, message)
    }

    /// Reports an argument out of range; `what` names the argument, the value and the range.
    pub fn invalid_argument(what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::InvalidArgument, format!("invalid argument: {what}"))
    }

    /// Reports that something asked for does not exist, or no longer does.
    pub fn not_found(what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::NotFound, what.to_string())
    }

    /// Reports a lost race; `what` names what another transaction changed.
    pub fn conflict(what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Conflict, format!("conflict: {what}"))
    }

    /// Reports locks that wait for each other; `what` names the one that was asked for.
    pub fn deadlock(what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Deadlock, format!("deadlock: {what}"))
    }

    /// Reports that something did not happen in time.
    pub fn timed_out(what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::TimedOut, format!("timed out: {what}"))
    }

    /// Reports that `dir` is open elsewhere.
    pub fn locked(dir: &Path) -> Error {
        let message = format!("{} is locked: another process has it open; close that one first", dir.display());
        Error::new(ErrorKind::Locked, message)
    }

    /// Reports use of a closed handle.
    pub fn closed() -> Error {
        Error::new(ErrorKind::Closed, "the handle is closed".into())
    }

    /// Reports a write through a handle opened for reading.
    pub fn read_only() -> Error {
        Error::new(ErrorKind::ReadOnly, "opened read-only".into())
    }

    /// Reports that `cause` made further writes unsafe until the directory is opened again.
    pub fn poisoned(cause: &Error) -> Error {
        let message = format!("writes are refused until the directory is reopened, because of: {cause}");
        Error(Arc::new(Inner { kind: ErrorKind::Poisoned, message, source: Some(Box::new(cause.clone())) }))
    }

    /// Wraps `source`, whose text is the message, as a failure of `kind`.
    pub fn wrap(kind: ErrorKind, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = source.to_string();
        Error(Arc::new(Inner { kind, message, source: Some(Box::new(source)) }))
    }

    /// Tells what kind of failure this is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns true for what a transaction fails with through no fault of its own, and that its next try may not meet:
    /// [`Conflict`](ErrorKind::Conflict), [`Deadlock`](ErrorKind::Deadlock), [`TimedOut`](ErrorKind::TimedOut).
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Deadlock | ErrorKind::TimedOut)
    }

    /// Returns true for [`ErrorKind::Corruption`].
    pub fn is_corruption(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Corruption { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_device_is_no_space() {
        let error = Error::io("write", Path::new("a/b"), io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.kind(), &ErrorKind::NoSpace);
        assert!(error.to_string().contains("a/b"));
    }

    #[test]
    fn corruption_names_file_and_offset() {
        let error = Error::corruption(Path::new("x.sst"), 4096, "block checksum");
        assert!(error.is_corruption());
        assert_eq!(error.to_string(), "corruption in x.sst at offset 4096: block checksum");
    }

    #[test]
    fn poison_keeps_its_cause() {
        let cause = Error::io("sync", Path::new("wal"), io::Error::other("lost"));
        let error = Error::poisoned(&cause);
        assert_eq!(error.kind(), &ErrorKind::Poisoned);
        assert!(error.to_string().contains("cannot sync wal"));
    }
}
