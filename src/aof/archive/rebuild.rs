//! Opening a store: what the manifest says, what the directory holds and what the archive holds are brought together.
//!
//! Called by the store's open on its thread, in two parts: [`prepare`] before the log is opened, because opening would begin a
//! new log where files are missing, and [`Prepared::reconcile`] after.
//!
//! | manifest | directory | what happens |
//! |---|---|---|
//! | none | empty | a new log |
//! | none | segments | the manifest is rebuilt: local segments speak for themselves, the archive is listed for older ones |
//! | a log's | empty | refused: the directory was lost, and a new log would take its name |
//! | a log's | newest segments missing | refused, naming the file |
//! | a log's | older ones missing | read from the archive if they are there, else refused, naming the file |
//! | damaged | any | refused by the manifest, with the way out |
//!
//! **Rebuilding** goes backwards from the oldest local segment: the object of the one before must end where that begins, in
//! position and id. One candidate is believed by its checksums of header, index and trailer; of several the first one that is
//! whole, which is read to find out: the others were never finished. Both checksums of an entry are then those that the object
//! says it has, and each later read and look is compared with them. Numbers below the first gap are named and left alone. The
//! first id, the fence and the pins are lost with the manifest; records that were truncated and not yet deleted come back.
//!
//! **Invariant:** nothing is deleted here but temporary files, local files of truncated segments, and of archived ones in
//! front of a hole.

use super::object::ObjectReader;
use super::upload::{log_prefix, segment_of_key, verify, with_status};
use super::{ArchiveStorage, ObjectInfo};
use crate::aof::log::Log;
use crate::aof::manifest::{Edit, Manifest, ManifestState, SegmentEntry, SegmentStatus};
use crate::aof::names::{Listing, segment_name, upload_name};
use crate::aof::{KeyRing, Lsn, SegmentInfo};
use crate::base::checksum::Crc64;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, Env};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An archive to look into.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The store of objects.
    pub storage: &'a Arc<dyn ArchiveStorage>,
    /// What all keys begin with.
    pub prefix: &'a str,
    /// The keys that objects are encrypted with.
    pub keys: Option<&'a KeyRing>,
}

/// What bringing it all together found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Whether the manifest was rebuilt: first id, fence and pins are lost.
    pub rebuilt: bool,
    /// Segments that are archived and kept.
    pub archived_segments: u64,
    /// Archived segments whose local files were missing although they had not been removed.
    pub missing_local: u64,
    /// When rebuilding: numbers of segments below a gap in the archive. Their objects are left alone and not read.
    pub beyond_gap: Vec<u64>,
    /// When rebuilding: how many objects of this log were not taken, being unfinished, or of segments that are local too.
    pub unlisted: u64,
}

/// A directory that is ready for the log to be opened.
pub struct Prepared<E: Env> {
    /// The manifest.
    pub manifest: Arc<Manifest<E>>,
    existed: bool,
    dir: PathBuf,
    missing_local: u64,
}

/// Opens the manifest of the store in `dir` and checks that the directory still is what the manifest says; the caller holds
/// its lock.
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) names the segment file that is missing, or the damage of the manifest and the way out;
/// what the disk met.
pub fn prepare<E: Env>(env: &E, dir: &Path) -> Result<Prepared<E>> {
    let disk = env.disk();
    disk.create_dir_all(dir).map_err(|error| Error::io("create directory", dir, error))?;
    let listing = Listing::classify(disk.list(dir).map_err(|error| Error::io("list", dir, error))?);
    for number in &listing.uploads {
        let path = dir.join(upload_name(*number));
        disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
    }
    let (manifest, existed) = Manifest::open(env.clone(), dir)?;
    let mut prepared = Prepared { manifest: Arc::new(manifest), existed, dir: dir.to_path_buf(), missing_local: 0 };
    if existed {
        let numbers: Vec<u64> = listing.segments.iter().map(|(number, _)| *number).collect();
        prepared.check_newest(&numbers)?;
        prepared.drop_before_hole(env, &numbers)?;
    }
    Ok(prepared)
}

impl<E: Env> Prepared<E> {
    fn lost(&self, number: u64, what: &str) -> Error {
        Error::corruption(&self.dir.join(segment_name(number)), 0, what)
    }

    /// Refuses a directory whose newest segments are gone.
    fn check_newest(&self, numbers: &[u64]) -> Result<()> {
        let state = self.manifest.state();
        let known = state.entries.last_key_value().map_or(0, |(number, _)| *number);
        match numbers.last() {
            None => Err(self.lost(
                known + 1,
                "the segment is missing, as are all others, and the manifest knows of a log: this is not taken for a new one",
            )),
            // What was to be archived was complete, so there was a next one.
            Some(last) if *last <= known => {
                Err(self.lost(known + 1, "the segment is missing, and the one before it is known to be complete"))
            }
            _ => Ok(()),
        }
    }

    /// Unlinks the local files in front of a hole in the chain, if they and what is missing are archived.
    fn drop_before_hole(&mut self, env: &E, numbers: &[u64]) -> Result<()> {
        let state = self.manifest.state();
        let Some(hole) = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1) else { return Ok(()) };
        let (before, after) = numbers.split_at(hole + 1);
        let (first, last) = (before[0], after[0]);
        let is_archived = |number| {
            let entry: Option<&SegmentEntry> = state.entries.get(&number);
            entry.is_some_and(|entry| entry.status >= SegmentStatus::Archived)
        };
        if !(first..last).all(is_archived) {
            // Opening the log names the file.
            return Ok(());
        }
        for number in before {
            let path = self.dir.join(segment_name(*number));
            env.disk().remove(&path).map_err(|error| Error::io("remove", &path, error))?;
            env.disk().sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        self.missing_local += last - first - before.len() as u64;
        Ok(())
    }

    /// Brings manifest, `log` and archive together. A manifest that was lost is rebuilt, from `source` too if there is one.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) names the file of a segment that neither the directory nor the archive has;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there are archived segments and no `source`; what the archive met:
    /// opening may be tried again.
    pub fn reconcile(self, log: &Log<E>, source: Option<Source<'_>>) -> Result<(Arc<Manifest<E>>, ReconcileReport)> {
        let segments = log.segments();
        let Some(oldest) = segments.first() else { unreachable!("an open log has a segment") };
        let log_id = log.open_segment(oldest.number)?.header().log_id;
        let mut report = ReconcileReport { missing_local: self.missing_local, ..ReconcileReport::default() };
        if self.existed {
            self.check_log(oldest, log_id)?;
            self.adopt(oldest, source)?;
            self.note_missing(oldest, &mut report)?;
            self.check_joined(oldest)?;
        } else {
            let state = rebuild(oldest, log_id, source, &mut report)?;
            self.manifest.create(state)?;
        }
        let state = self.manifest.state();
        let archived = state.kept().filter(|entry| entry.status >= SegmentStatus::Archived);
        report.archived_segments = archived.count() as u64;
        // A crash may have come between a truncation and what it drops.
        if let Some(needed) = segments.iter().rev().find(|segment| segment.base_id <= state.first_id) {
            log.truncate_before(needed.base_lsn)?;
        }
        let is_needed = |entry: &SegmentEntry| entry.number < oldest.number;
        if source.is_none() && state.kept().any(is_needed) {
            let what = "archive is not configured, and segments of this log are in one";
            return Err(Error::invalid_argument(what));
        }
        Ok((self.manifest, report))
    }

    fn check_log(&self, oldest: &SegmentInfo, log_id: [u8; 16]) -> Result<()> {
        if self.manifest.state().log_id != log_id {
            let what = "the segment belongs to another log than the manifest beside it";
            return Err(Error::corruption(&oldest.path, 0, what));
        }
        Ok(())
    }

    /// Looks for the objects of segments whose upload was under way, and whose files are missing.
    ///
    /// The file goes after the commit that says so; if that was lost to damage, the object is there, whole.
    fn adopt(&self, oldest: &SegmentInfo, source: Option<Source<'_>>) -> Result<()> {
        let state = self.manifest.state();
        let is_lost = |entry: &&SegmentEntry| {
            entry.number < oldest.number
                && entry.status == SegmentStatus::UploadIntent
                && entry.next_id > state.first_id
        };
        for entry in state.kept().filter(is_lost) {
            let lost = |what: &str| self.lost(entry.number, &format!("the segment is missing, and {what}"));
            let Some(source) = source else { return Err(lost("no archive is configured")) };
            let (mut checked, mut crc) = (0, Crc64::new());
            while checked < entry.archived_bytes {
                let step = verify(&**source.storage, &entry.archived_key, entry, checked, crc);
                (checked, crc) = step.map_err(|error| lost(&format!("the archive does not have it: {error}")))?;
            }
            let mut edits = vec![with_status(entry, SegmentStatus::Archived)];
            if state.attempts.contains_key(&entry.archived_key) {
                edits.push(Edit::DropAttempt(entry.archived_key.clone()));
            }
            self.manifest.commit(&edits)?;
        }
        Ok(())
    }

    /// Notes archived segments whose local files are gone.
    fn note_missing(&self, oldest: &SegmentInfo, report: &mut ReconcileReport) -> Result<()> {
        let gone = self.manifest.commit_with(|state| {
            let gone = state.entries.range(..oldest.number).map(|(_, entry)| entry);
            let gone = gone.filter(|entry| entry.status == SegmentStatus::Archived);
            gone.map(|entry| with_status(entry, SegmentStatus::LocalDeleted)).collect()
        })?;
        report.missing_local = report.missing_local.max(gone as u64);
        Ok(())
    }

    /// Refuses a hole between what is archived and what is local, or in front of it all.
    fn check_joined(&self, oldest: &SegmentInfo) -> Result<()> {
        let state = self.manifest.state();
        let reaches = state.kept().rfind(|entry| entry.number < oldest.number).map_or(1, |entry| entry.next_id);
        if oldest.base_id <= reaches.max(state.first_id) {
            return Ok(());
        }
        let what = format!(
            "the segment is missing, and not in the archive: records {}..{} are lost",
            reaches.max(state.first_id),
            oldest.base_id
        );
        Err(self.lost(oldest.number - 1, &what))
    }
}

/// Returns the state of a log whose oldest local segment is `oldest`.
fn rebuild(
    oldest: &SegmentInfo,
    log_id: [u8; 16],
    source: Option<Source<'_>>,
    report: &mut ReconcileReport,
) -> Result<ManifestState> {
    report.rebuilt = oldest.number > 1 || oldest.end_lsn.is_some();
    let mut state = ManifestState { log_id, first_id: oldest.base_id, ..ManifestState::default() };
    let Some(source) = source else { return Ok(state) };
    let prefix = log_prefix(source.prefix, &log_id);
    let mut objects: Vec<(u64, ObjectInfo)> = Vec::new();
    for object in source.storage.list(&prefix)? {
        match segment_of_key(&prefix, &object.key) {
            Some(number) => objects.push((number, object)),
            None => report.unlisted += 1,
        }
    }
    objects.sort_unstable();
    report.rebuilt |= !objects.is_empty();
    let mut found: Vec<SegmentEntry> = Vec::new();
    let (mut number, mut end) = (oldest.number, (oldest.base_lsn, oldest.base_id));
    while number > 1 {
        number -= 1;
        let candidates: Vec<&ObjectInfo> =
            objects.iter().filter(|(other, _)| *other == number).map(|(_, object)| object).collect();
        let Some(entry) = choose(&source, &log_id, number, end, &candidates)? else { break };
        end = (entry.base_lsn, entry.base_id);
        found.push(entry);
    }
    let first = found.last().map_or(oldest.number, |entry| entry.number);
    report.beyond_gap = objects.iter().map(|(number, _)| *number).filter(|number| *number < first).collect();
    report.beyond_gap.dedup();
    report.unlisted += (objects.len() - found.len()) as u64;
    for entry in found.into_iter().rev() {
        state.first_id = state.first_id.min(entry.base_id);
        if let Err(what) = state.apply(&Edit::Entry(entry)) {
            unreachable!("entries were joined: {what}");
        }
    }
    Ok(state)
}

/// Returns the entry of segment `number`, which ends at `end`, made of one of the objects.
fn choose(
    source: &Source<'_>,
    log_id: &[u8; 16],
    number: u64,
    end: (Lsn, u64),
    candidates: &[&ObjectInfo],
) -> Result<Option<SegmentEntry>> {
    for candidate in candidates {
        let read = inspect(source, log_id, number, end, candidate, candidates.len() > 1);
        match read {
            Ok(entry) => return Ok(Some(entry)),
            // Unfinished, damaged or of another life; the archive itself failing is another matter.
            Err(error) if error.is_corruption() || *error.kind() == ErrorKind::NotFound => {
                tracing::warn!(%error, key = candidate.key, "an archived object is not taken");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn inspect(
    source: &Source<'_>,
    log_id: &[u8; 16],
    number: u64,
    end: (Lsn, u64),
    candidate: &ObjectInfo,
    whole: bool,
) -> Result<SegmentEntry> {
    let object = ObjectReader::open(source.storage.clone(), &candidate.key, candidate.bytes, source.keys)?;
    object.expect(log_id, number)?;
    let summary = *object.summary();
    if (Lsn(summary.end_lsn), summary.next_id) != end {
        let what = format_args!("the segment in it ends at position {}, expected {}", summary.end_lsn, end.0);
        return Err(Error::corruption(Path::new(&candidate.key), 0, what));
    }
    if whole {
        object.verify()?;
    }
    Ok(SegmentEntry {
        number,
        status: SegmentStatus::LocalDeleted,
        base_lsn: Lsn(summary.base_lsn),
        end_lsn: Lsn(summary.end_lsn),
        base_id: summary.base_id,
        next_id: summary.next_id,
        base_ts: summary.base_ts,
        max_ts: summary.max_ts,
        records: summary.records,
        original_bytes: object.header().image_bytes,
        original_crc64: object.image_crc64(),
        archived_key: candidate.key.clone(),
        archived_bytes: candidate.bytes,
        archived_crc64: object.object_crc64(),
    })
}
