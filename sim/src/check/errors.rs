//! Checker of errors: whatever the engine or the log complains about has a cause, and damage is named.
//!
//! **Invariant.** Without damage at rest nothing reports corruption; damage is reported as corruption that names a file of the
//! database. Without a failing disk operation nothing reports an I/O error, a full disk or poison. Nothing ever reports that the
//! directory is locked, an argument is invalid or a handle is closed, because the workload does none of that. When the disk is
//! well again, an undamaged database opens (else `unavailable`).
//!
//! **Tripped by** `orphans_deleted_before_manifest_switch`, `aof_truncate_too_far` (files that are missing count as
//! damage nobody did), `file_number_reused`.

use crate::{At, Fault, FaultEvent, Outcome, Violation};
use aidb::{Error, ErrorKind};

/// An error that the engine returned, and from what.
#[derive(Clone, Debug)]
pub struct Complaint {
    what: String,
    class: Class,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Only damage at rest explains it.
    Damage,
    /// Only a failing disk operation explains it.
    Disk,
    /// Only a failing operation of the archive explains it.
    Archive,
    /// A limit: part of the workload.
    Limit,
    /// Nothing explains it.
    Never,
}

impl Complaint {
    /// Keeps `error`, which `what` returned.
    pub fn new(what: String, error: &Error) -> Complaint {
        let class = match error.kind() {
            ErrorKind::Corruption { file, .. } if !file.as_os_str().is_empty() => Class::Damage,
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned => Class::Disk,
            // Something that must be there is gone.
            ErrorKind::NotFound => Class::Damage,
            ErrorKind::Remote => Class::Archive,
            ErrorKind::WouldBlock => Class::Limit,
            _ => Class::Never,
        };
        Complaint { what, class, message: error.to_string() }
    }
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.message)
    }
}

/// Judges `complaints` by what was injected in the run; `tampered` says that files were damaged by hand.
pub fn check(complaints: &[Complaint], outcome: &Outcome, tampered: bool) -> Option<Violation> {
    let archive = outcome.fired.iter().any(|event| matches!(event.at, At::Remote(_)));
    let lost = |event: &FaultEvent| matches!(event.fault, Fault::RemoteGone | Fault::RemoteRot { .. });
    let damaged = !outcome.damage.is_empty() || tampered || outcome.fired.iter().any(lost);
    let failed = outcome.fired.iter().any(|event| {
        matches!(
            event.fault,
            Fault::SyncFail { .. } | Fault::WriteFail { .. } | Fault::NoSpace { .. } | Fault::ReadError { .. }
        )
    });
    let unexplained = complaints.iter().find(|complaint| match complaint.class {
        Class::Damage => !damaged,
        // Poison may come from damage that a background thread met.
        Class::Disk => !failed && !damaged,
        Class::Archive => !archive,
        Class::Limit => false,
        Class::Never => true,
    })?;
    let message = format!("{} failed, and no fault explains it: {}", unexplained.what, unexplained.message);
    Some(Violation { kind: "error-without-cause".into(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_error_needs_its_cause() {
        let corruption = Complaint::new("get".into(), &Error::corruption(Path::new("a"), 1, "x"));
        let io = Complaint::new("open".into(), &Error::io("read", Path::new("a"), std::io::Error::other("x")));
        let calm = Outcome::default();
        assert!(check(&[], &calm, false).is_none());
        assert!(check(std::slice::from_ref(&corruption), &calm, false).is_some());
        assert!(check(std::slice::from_ref(&io), &calm, false).is_some());
        let event = crate::FaultEvent { at: crate::At::Op(0), fault: Fault::ReadError { sticky: false } };
        let failing = Outcome { fired: vec![event], ..Outcome::default() };
        assert!(check(&[io], &failing, false).is_none());
        assert!(check(&[corruption], &failing, false).is_some());
    }
}
