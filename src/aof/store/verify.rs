//! Looking at every byte of a store: local segments, the manifest's, and archived objects as a whole.
//!
//! On the calling thread. The owner looks once, beside appends, cursors and background work: segments are held while they
//! are looked at, and commits of the manifest wait. From outside, where nothing can be held, what looks damaged is looked at
//! again. What was truncated meanwhile is passed over.
//!
//! Local segments are looked at before the archive: one that leaves the disk in between is archived by then.

use super::reading::AofReader;
use super::{Aof, AofConfig, Shared, archiving};
use crate::aof::archive::remote::Remote;
use crate::aof::joined::Archived;
use crate::aof::manifest::{ManifestState, ManifestView};
use crate::aof::read::LocalFile;
use crate::aof::types::SegmentInfo;
use crate::aof::verify::{self, VerifyReport};
use crate::base::{ErrorKind, Result};
use crate::env::Env;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Returns what was looked at, or none if it was truncated meanwhile.
fn unless_gone<T>(looked: Result<T>) -> Result<Option<T>> {
    match looked {
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(None),
        looked => looked.map(Some),
    }
}

/// Returns number and end of each segment that is kept.
fn kept(state: &ManifestState) -> Vec<(u64, u64)> {
    state.kept().map(|entry| (entry.number, entry.end_lsn.0)).collect()
}

/// Looks at the objects of those of `kept` that are archived, and at the frames in those that are not `local`; at no frames if
/// nothing says what is.
fn look_at_archive<E: Env>(
    env: &E,
    remote: &Remote<E>,
    kept: &[(u64, u64)],
    local: Option<&BTreeSet<u64>>,
    report: &mut VerifyReport,
) -> Result<()> {
    for (number, end) in kept.iter().filter(|(number, _)| remote.has(*number)) {
        let is_good = unless_gone(remote.verify(*number, report))?;
        if is_good != Some(true) || local.is_none_or(|local| local.contains(number)) {
            continue;
        }
        let mut looked = VerifyReport::default();
        let frames =
            remote.open(*number).and_then(|image| verify::verify_segment(env, &*image, *end, true, &mut looked));
        match unless_gone(frames) {
            Ok(Some(())) => {}
            Ok(None) => continue,
            Err(error) => looked.note(error)?,
        }
        report.merge(looked);
    }
    Ok(())
}

/// Looks at a local segment, up to `written` if it has no end; returns false if it was dropped meanwhile.
fn look_at_local<E: Env>(
    shared: &Shared<E>,
    segment: &SegmentInfo,
    written: u64,
    report: &mut VerifyReport,
) -> Result<bool> {
    let Shared { env, log, .. } = shared;
    let end = segment.end_lsn.map_or(written.max(segment.base_lsn.0), |end| end.0);
    let mut looked = VerifyReport::default();
    let opened = match unless_gone(log.open_segment(segment.number)) {
        Ok(None) => return Ok(false),
        Ok(Some(reader)) => {
            verify::verify_segment(env, &reader, end, false, &mut looked)?;
            report.merge(looked);
            return Ok(true);
        }
        Err(error) => error,
    };
    // Its header is damaged: a look at the bare file says where, but nothing keeps that from being written over.
    if opened.is_corruption() {
        let Some(file) = unless_gone(LocalFile::open(env, &segment.path))? else { return Ok(false) };
        verify::verify_segment(env, &file, end, false, &mut looked)?;
        if !log.segments().iter().any(|other| other.number == segment.number) {
            return Ok(false);
        }
    }
    if looked.is_clean() {
        looked.note(opened)?;
    }
    report.merge(looked);
    Ok(true)
}

impl<E: Env> Aof<E> {
    /// Looks at every byte of the store up to what is written, archived objects included, beside appends and cursors.
    /// Commits of the manifest (truncation, pins, fences, the archive) wait while that is looked at.
    ///
    /// # Errors
    /// What reading met. Damage is no error: it is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let Shared { env, log, archive, manifest, .. } = &*self.shared;
        let (mut report, mut local) = (VerifyReport::default(), BTreeSet::new());
        let written = log.written().0;
        for segment in log.segments() {
            if look_at_local(&self.shared, &segment, written, &mut report)? {
                local.insert(segment.number);
            }
        }
        if let Some(remote) = archive.remote() {
            look_at_archive(env, &remote, &manifest.with(kept), Some(&local), &mut report)?;
        }
        report.merge(manifest.verify()?);
        Ok(report)
    }

    /// Looks at every byte of the store in `dir`, and of its archived objects if `config` has its archive, beside the process
    /// that writes it or without one. Takes no lock and changes nothing.
    ///
    /// Keys are needed for archived objects only. Where the manifest is damaged, nothing says which objects there are, and
    /// none is looked at.
    ///
    /// # Errors
    /// What listing and reading met. Damage is no error: it is in the report.
    pub fn verify_read_only(env: E, dir: impl AsRef<Path>, config: &AofConfig) -> Result<VerifyReport> {
        let dir = dir.as_ref();
        let (mut report, local) = verify::look_at_store(&env, dir)?;
        let manifest = match ManifestView::open(env.clone(), dir) {
            Ok(manifest) => Arc::new(manifest),
            Err(error) => return unread_manifest(error, dir, report),
        };
        if let Some(remote) = archiving::remote(&env, config, manifest.clone()) {
            look_at_archive(&env, &remote, &manifest.with(kept), Some(&local), &mut report)?;
        }
        Ok(report)
    }
}

/// Returns `report` of a store whose manifest cannot be read, because of `error`.
fn unread_manifest(error: crate::Error, dir: &Path, mut report: VerifyReport) -> Result<VerifyReport> {
    let is_named = report.faults.iter().any(|fault| fault.file.starts_with(dir.join(crate::aof::names::MANIFEST_DIR)));
    if !(error.is_corruption() && is_named) {
        report.note(error)?;
    }
    Ok(report)
}

impl<E: Env> AofReader<E> {
    /// Looks at every byte of the store's directory, and of its archived objects if the archive was configured. Where the
    /// manifest is damaged, the objects are those that were known before.
    ///
    /// # Errors
    /// What reading met. Damage is no error: it is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let (env, manifest, dir) = (&self.view.env, &self.view.manifest, self.view.local.dir());
        let (mut report, local) = verify::look_at_store(env, dir)?;
        // No archived segment is opened then.
        let refreshed = manifest.refresh();
        let local = refreshed.is_ok().then_some(&local);
        if let Err(error) = refreshed {
            report = unread_manifest(error, dir, report)?;
        }
        if let Some(remote) = self.view.remote.as_deref() {
            look_at_archive(env, remote, &manifest.with(kept), local, &mut report)?;
        }
        Ok(report)
    }
}
