//! Looking at every byte of a store: local segments, the manifest's, and archived objects as a whole.
//!
//! On the calling thread, beside appends, cursors and background work. What was truncated meanwhile is passed over.

use super::reading::AofReader;
use super::{Aof, Shared};
use crate::aof::archive::remote::Remote;
use crate::aof::chain::{At, Chain, Span, Visibility};
use crate::aof::names::MANIFEST_DIR;
use crate::aof::readers::Readers;
use crate::aof::verify::{self, VerifyReport};
use crate::base::{ErrorKind, Result};
use crate::env::Env;
use std::path::Path;

/// How often a directory is looked at again that somebody writes.
const ATTEMPTS: u32 = 10;

/// Looks at a directory that somebody may be writing: damage stays, files that were dropped or written over under the look
/// do not.
fn settled(mut look: impl FnMut() -> Result<VerifyReport>) -> Result<VerifyReport> {
    let mut before: Option<VerifyReport> = None;
    for _ in 1..ATTEMPTS {
        match look() {
            Err(error) if *error.kind() == ErrorKind::NotFound => before = None,
            Err(error) => return Err(error),
            Ok(report) if report.is_clean() || before.is_some_and(|before| before.faults == report.faults) => {
                return Ok(report);
            }
            Ok(report) => before = Some(report),
        }
    }
    look()
}

fn verify_manifest<E: Env>(env: &E, dir: &Path) -> Result<VerifyReport> {
    let dir = dir.join(MANIFEST_DIR);
    settled(|| verify::verify_if_there(env, &dir, false))
}

/// Looks at the frames of the segment `span`, up to `written` if it has no end.
fn verify_frames<E: Env>(
    env: &E,
    readers: &Readers<E>,
    span: &Span,
    written: u64,
    report: &mut VerifyReport,
) -> Result<()> {
    let end = span.end_lsn.map_or(written.max(span.base_lsn.0), |end| end.0);
    // Only a local file has a salt that is known beforehand.
    let is_image = span.salt == [0; 16];
    let reader = readers.open(span)?;
    verify::verify_segment(env, &reader, end, is_image, report)
}

/// Notes `looked` if it is damage; what was truncated meanwhile is none. Returns true if there was nothing to note.
fn note(looked: Result<()>, report: &mut VerifyReport) -> Result<bool> {
    match looked {
        Ok(()) => Ok(true),
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => report.note(error).map(|()| false),
    }
}

/// Looks at the whole object of segment `number`, if it is archived; returns false if that found damage.
fn verify_object<E: Env>(remote: Option<&Remote<E>>, number: u64, report: &mut VerifyReport) -> Result<bool> {
    match remote {
        Some(remote) if remote.has(number) => note(remote.verify(number), report),
        _ => Ok(true),
    }
}

impl<E: Env> Aof<E> {
    /// Looks at every byte of the store up to what is written, archived objects included, beside appends and cursors.
    ///
    /// # Errors
    /// What reading met. Damage is no error: it is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let Shared { env, readers, archive, dir, .. } = &*self.shared;
        let remote = archive.remote();
        let mut report = VerifyReport::default();
        let written = readers.visible(Visibility::Written)?.0;
        let mut at = At::First;
        while let Some(span) = readers.locate(at)? {
            at = At::Number(span.number + 1);
            if verify_object(remote.as_deref(), span.number, &mut report)? || span.salt != [0; 16] {
                note(verify_frames(env, readers, &span, written, &mut report), &mut report)?;
            }
        }
        report.merge(verify_manifest(env, dir)?);
        Ok(report)
    }
}

impl<E: Env> AofReader<E> {
    /// Looks at every byte of the store's directory, and of its archived objects if the archive was configured.
    ///
    /// # Errors
    /// What reading met. Damage is no error: it is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let (env, local) = (&self.view.env, &self.view.local);
        local.visible(Visibility::Written)?;
        let first_local = local.locate(At::First)?.map_or(u64::MAX, |span| span.number);
        let mut report = verify::verify_store(env, local.dir())?;
        let is_named = report.faults.iter().any(|fault| fault.file.starts_with(self.view.manifest.dir()));
        let refreshed = self.view.manifest.refresh();
        // Where it is damaged, what was read of it before still names the objects, but no archived segment is opened.
        let is_known = refreshed.is_ok();
        match refreshed {
            Err(error) if error.is_corruption() && is_named => {}
            Err(error) => report.note(error)?,
            Ok(()) => {}
        }
        let Some(remote) = self.view.remote.as_deref() else { return Ok(report) };
        for number in self.view.manifest.state().kept().map(|entry| entry.number) {
            if !verify_object(Some(remote), number, &mut report)? || number >= first_local || !is_known {
                continue;
            }
            if let Some(span) = self.view.locate(At::Number(number))? {
                note(verify_frames(env, &self.readers, &span, 0, &mut report), &mut report)?;
            }
        }
        Ok(report)
    }
}
