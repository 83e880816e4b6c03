//! How sealed segments get into the archive and off the disk: [`Archiver`], driven step by step.
//!
//! Owned by the store's background thread, which calls [`Archiver::step`] as long as there is work; there is no thread here.
//! A step is one thing that may take long or fail: build, commit, put, read back a part, unlink, delete.
//!
//! ```text
//! build <no>.upload -> commit intent, with a key of its own -> put -> head, read back, compare -> commit archived
//!      -> later: unlink the local file, oldest first -> note it
//! put or comparison failed, or nobody knows: commit abandoned -> wait -> intent with another key ...
//! ```
//!
//! **Invariants**
//! - One upload at a time, oldest segment first: what is archived has no gap.
//! - A key is used for one attempt, and is in the manifest before anything is put under it.
//! - A local file goes only after its segment was committed as archived, which it is only after the object was read back
//!   whole and has the checksum of what was sent.
//! - An error of the archive says nothing about what it did: the attempt is given up, its key is never used again.
//! - An object is deleted only if the manifest lists it: as an abandoned attempt, or as a segment that is no longer kept.

use super::image::archive_segment;
use super::object::ObjectFile;
use super::remote::Remote;
use super::{ArchiveStorage, ObjectSource};
use crate::aof::log::Log;
use crate::aof::manifest::{Attempt, AttemptStatus, Edit, Manifest, ManifestState, SegmentEntry, SegmentStatus};
use crate::aof::names::upload_name;
use crate::aof::{AofError, KeyRing, Lsn, SegmentInfo};
use crate::base::checksum::Crc64;
use crate::base::{Error, Result};
use crate::env::{Env, Mono};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is read back in one step, and in one call.
const VERIFY_STEP_BYTES: u64 = 32 << 20;
const VERIFY_READ_BYTES: u64 = 4 << 20;
/// First and longest pause after a failure, before it is shortened by up to a half.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something was done; there may be more.
    Worked,
    /// Nothing can be done before this time has passed.
    Waits(Duration),
    /// Nothing is to be done.
    Idle,
}

/// How segments are archived.
#[derive(Clone, Debug)]
pub struct ArchiverOptions {
    /// What all keys begin with.
    pub prefix: String,
    /// How many archived segments stay on the local disk, the newest.
    pub local_segments: usize,
    /// How many failures in a row are reported as one.
    pub attempts_max: u32,
    /// Level of zstd, or none for no compression.
    pub compression_level: Option<i32>,
    /// The keys objects are encrypted with, or none.
    pub keys: Option<KeyRing>,
}

/// What was done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStats {
    /// Segments archived.
    pub archived: u64,
    /// Bytes of their objects.
    pub archived_bytes: u64,
    /// Attempts given up.
    pub abandoned: u64,
    /// Objects of such attempts removed.
    pub collected: u64,
    /// Local files of archived segments removed.
    pub local_deleted: u64,
    /// Objects removed because their records are no longer kept.
    pub remote_deleted: u64,
}

/// How far an upload is.
#[expect(clippy::large_enum_variant, reason = "there is one upload at a time")]
enum Stage {
    /// The object is made.
    Built,
    /// Its key is in the manifest.
    Intended(String),
    /// It was put; so much of it was read back.
    Put { key: String, checked: u64, crc: Crc64 },
    /// It is what was sent.
    Verified(String),
}

/// The upload under way.
struct Upload<E: Env> {
    entry: SegmentEntry,
    object: ObjectFile<E>,
    stage: Stage,
}

/// When to try again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Mono,
}

impl Backoff {
    /// Returns how long to wait, if it is not yet time.
    pub(super) fn waits<E: Env>(&self, env: &E) -> Option<Progress> {
        let left = self.until.since(env.now());
        (!left.is_zero()).then_some(Progress::Waits(left))
    }

    /// Takes a failure: an error only now and then, if it may pass.
    pub(super) fn failed<E: Env>(&mut self, env: &E, error: Error, attempts_max: u32) -> Result<Progress> {
        let shift = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        let longest = PAUSE_MIN.saturating_mul(1 << shift).min(PAUSE_MAX).as_nanos() as u64;
        let pause = Duration::from_nanos(longest - env.rand_u64() % (longest / 2));
        self.until = env.now().after(pause);
        let passes = matches!(AofError::of(&error), Some(AofError::RemoteStorage { retryable: true, .. }));
        if passes && !self.failures.is_multiple_of(attempts_max.max(1)) {
            tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "the archive failed; it is tried again");
            return Ok(Progress::Waits(pause));
        }
        Err(error)
    }

    pub(super) fn succeeded(&mut self) {
        *self = Backoff::default();
    }
}

/// Moves the segments of one store through their lives.
pub struct Archiver<E: Env> {
    pub(super) env: E,
    pub(super) dir: PathBuf,
    pub(super) log: Log<E>,
    pub(super) manifest: Arc<Manifest<E>>,
    pub(super) remote: Arc<Remote<E>>,
    pub(super) options: ArchiverOptions,
    pub(super) stats: ArchiveStats,
    /// Attempts whose objects were removed in an earlier life of the store.
    pub(super) again: BTreeSet<String>,
    upload: Option<Upload<E>>,
    uploads: Backoff,
    pub(super) removals: Backoff,
}

/// Returns what the keys of the log `log_id` begin with.
pub fn log_prefix(prefix: &str, log_id: &[u8; 16]) -> String {
    let hex: String = log_id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}/{hex}/")
}

/// Returns the number of the segment whose attempt has `key`, if it is one of the log with this [`log_prefix`].
pub fn segment_of_key(log_prefix: &str, key: &str) -> Option<u64> {
    let (number, attempt) = key.strip_prefix(log_prefix)?.strip_suffix(".seg")?.split_once('-')?;
    let hex = attempt.len() == 16 && attempt.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| hex && digits)
}

/// Returns how many of the log's complete `segments` are not archived.
pub fn unarchived(state: &ManifestState, segments: &[SegmentInfo]) -> u64 {
    let archived = |segment: &&SegmentInfo| {
        state.entries.get(&segment.number).is_some_and(|entry| entry.status >= SegmentStatus::Archived)
    };
    let sealed = segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
    sealed.iter().filter(|segment| !archived(segment)).count() as u64
}

impl<E: Env> Archiver<E> {
    /// Takes over the lives of the segments of `log`, whose manifest is made and reconciled. Attempts of an earlier life of
    /// the store are given up.
    ///
    /// # Errors
    /// What the manifest met.
    pub fn new(
        env: E,
        dir: PathBuf,
        log: Log<E>,
        manifest: Arc<Manifest<E>>,
        remote: Arc<Remote<E>>,
        options: ArchiverOptions,
    ) -> Result<Archiver<E>> {
        manifest.commit_with(|state| {
            let live = state.attempts.iter().filter(|(_, attempt)| attempt.status == AttemptStatus::Live);
            live.map(|(key, attempt)| moved(key, attempt, AttemptStatus::Abandoned)).collect()
        })?;
        let again = manifest.with(|state| {
            let again = state.attempts.iter().filter(|(_, attempt)| attempt.status == AttemptStatus::Collected);
            again.map(|(key, _)| key.clone()).collect()
        });
        let stats = ArchiveStats::default();
        let (uploads, removals) = (Backoff::default(), Backoff::default());
        Ok(Archiver { env, dir, log, manifest, remote, options, stats, again, upload: None, uploads, removals })
    }

    /// Does the next thing that is to be done.
    ///
    /// # Errors
    /// A failure that does not pass by itself, or that went on for as many attempts as the options say: for the store's
    /// background errors. Calling again goes on, after a pause that grows with each failure.
    pub fn step(&mut self) -> Result<Progress> {
        if self.log.poisoned().is_some() || self.manifest.poisoned().is_some() {
            return Ok(Progress::Idle);
        }
        let mut waits = Progress::Idle;
        for work in [Self::expire, Self::remove_expired, Self::collect, Self::drop_local, Self::advance_upload] {
            match (work(self)?, waits) {
                (Progress::Worked, _) => return Ok(Progress::Worked),
                (Progress::Waits(time), Progress::Waits(other)) => waits = Progress::Waits(time.min(other)),
                (Progress::Waits(time), _) => waits = Progress::Waits(time),
                (Progress::Idle, _) => {}
            }
        }
        Ok(waits)
    }

    /// Returns the counters.
    pub fn stats(&self) -> ArchiveStats {
        self.stats
    }

    /// Gives up the upload of a segment that is no longer wanted.
    pub(super) fn forget_upload(&mut self, number: u64) {
        if let Some(upload) = self.upload.take_if(|upload| upload.entry.number == number) {
            self.remove_object(upload.object);
        }
    }

    fn remove_object(&self, object: ObjectFile<E>) {
        // One that stays goes when the directory is opened next.
        if let Err(error) = object.remove(&self.env) {
            tracing::warn!(%error, "a temporary object stays until the store is opened again");
        }
    }

    /// Unlinks the oldest local file that is not needed any more, and notes it.
    fn drop_local(&mut self) -> Result<Progress> {
        let segments = self.log.segments();
        let Some((active, sealed)) = segments.split_last() else { return Ok(Progress::Idle) };
        let archived = self.manifest.with(|state| {
            let is_archived = |number: &u64| {
                let status = state.entries.get(number).map(|entry| entry.status);
                matches!(status, Some(SegmentStatus::Archived | SegmentStatus::LocalDeleted))
            };
            sealed.iter().take_while(|segment| is_archived(&segment.number)).count()
        });
        let mut oldest = sealed.first().unwrap_or(active).number;
        if let (Some(Some(end)), true) =
            (sealed.first().map(|first| first.end_lsn), archived > self.options.local_segments)
        {
            self.log.truncate_before(end)?;
            self.stats.local_deleted += 1;
            oldest += 1;
        }
        let gone = self.manifest.commit_with(|state| {
            let gone = state.entries.range(..oldest).map(|(_, entry)| entry);
            let gone = gone.filter(|entry| entry.status == SegmentStatus::Archived);
            gone.map(|entry| with_status(entry, SegmentStatus::LocalDeleted)).collect()
        })?;
        Ok(if gone > 0 { Progress::Worked } else { Progress::Idle })
    }

    fn advance_upload(&mut self) -> Result<Progress> {
        if let Some(waits) = self.uploads.waits(&self.env) {
            return Ok(waits);
        }
        let stepped = match self.upload.take() {
            None => self.build(),
            Some(upload) => self.advance(upload),
        };
        match stepped {
            Ok(progress) => Ok(progress),
            Err(error) => self.uploads.failed(&self.env, error, self.options.attempts_max),
        }
    }

    /// Returns the next segment to archive.
    fn next_segment(&self) -> Option<(SegmentInfo, SegmentInfo)> {
        let (last, first_id) = self.manifest.with(|state| {
            let last = state.kept().next_back().map(|last| (last.number, last.status));
            (last, state.first_id)
        });
        let segments = self.log.segments();
        let wanted = match last {
            Some((number, SegmentStatus::UploadIntent)) => number,
            Some((number, _)) => number + 1,
            None => segments.first()?.number,
        };
        let pair = segments.windows(2).find(|pair| pair[0].number == wanted)?;
        // One that is truncated goes without a detour.
        let is_kept = pair[1].base_id > first_id || first_id == 0;
        is_kept.then(|| (pair[0].clone(), pair[1].clone()))
    }

    /// Makes the object of the next segment.
    fn build(&mut self) -> Result<Progress> {
        let Some((segment, next)) = self.next_segment() else { return Ok(Progress::Idle) };
        let reader = match self.log.open_segment(segment.number) {
            // It was truncated meanwhile.
            Err(error) if *error.kind() == crate::ErrorKind::NotFound => return Ok(Progress::Idle),
            reader => reader?,
        };
        let path = self.dir.join(upload_name(segment.number));
        let keys = self.options.keys.as_ref();
        let object = archive_segment(&self.env, &reader, &path, self.options.compression_level, keys)?;
        let summary = *object.summary();
        if (summary.end_lsn, summary.next_id) != (next.base_lsn.0, next.base_id) {
            self.remove_object(object);
            let what = format_args!("the segment ends at id {}, the next begins at {}", summary.next_id, next.base_id);
            return Err(Error::corruption(&segment.path, 0, what));
        }
        let entry = SegmentEntry {
            number: segment.number,
            status: SegmentStatus::UploadIntent,
            base_lsn: Lsn(summary.base_lsn),
            end_lsn: Lsn(summary.end_lsn),
            base_id: summary.base_id,
            next_id: summary.next_id,
            base_ts: summary.base_ts,
            max_ts: summary.max_ts,
            records: summary.records,
            original_bytes: object.header().image_bytes,
            original_crc64: object.image_crc64(),
            archived_key: String::new(),
            archived_bytes: object.bytes(),
            archived_crc64: object.crc64(),
        };
        self.upload = Some(Upload { entry, object, stage: Stage::Built });
        Ok(Progress::Worked)
    }

    /// Returns a key that was never used.
    fn new_key(&self, number: u64) -> String {
        let prefix = log_prefix(&self.options.prefix, &self.manifest.with(|state| state.log_id));
        let attempt = if self.env.planted("aof_archive_key_reused") { 0 } else { self.env.rand_u64() };
        format!("{prefix}{number:020}-{attempt:016x}.seg")
    }

    /// Takes the upload one step on.
    fn advance(&mut self, mut upload: Upload<E>) -> Result<Progress> {
        match upload.stage {
            Stage::Built => {
                let key = self.new_key(upload.entry.number);
                upload.entry.archived_key.clone_from(&key);
                let attempt =
                    Attempt { segment: upload.entry.number, since: self.env.wall().0, status: AttemptStatus::Live };
                let mut edits = vec![Edit::Entry(upload.entry.clone())];
                if !self.manifest.with(|state| state.attempts.contains_key(&key)) {
                    edits.push(Edit::Attempt { key: key.clone(), attempt });
                }
                let committed = self.manifest.commit(&edits);
                upload.stage = if committed.is_ok() { Stage::Intended(key) } else { Stage::Built };
                self.upload = Some(upload);
                committed?;
            }
            Stage::Intended(key) => {
                let put = self.remote.storage().put_new(&key, &upload.object);
                upload.stage = Stage::Put { key: key.clone(), checked: 0, crc: Crc64::new() };
                if let Err(error) = put {
                    if !self.env.planted("aof_archive_timeout_is_success") {
                        return self.give_up(upload, &key, error);
                    }
                    upload.stage = Stage::Verified(key);
                } else if self.env.planted("aof_archive_local_deleted_before_commit") {
                    self.log.truncate_before(upload.entry.end_lsn)?;
                } else if self.env.planted("aof_archive_without_verify") {
                    upload.stage = Stage::Verified(key);
                }
                self.upload = Some(upload);
            }
            Stage::Put { key, checked, crc } => {
                let bytes = upload.entry.archived_bytes;
                match verify(&**self.remote.storage(), &key, &upload.entry, checked, crc) {
                    Ok((checked, _)) if checked == bytes => upload.stage = Stage::Verified(key),
                    Ok((checked, crc)) => upload.stage = Stage::Put { key, checked, crc },
                    Err(error) => {
                        upload.stage = Stage::Built;
                        return self.give_up(upload, &key, error);
                    }
                }
                self.upload = Some(upload);
            }
            Stage::Verified(key) => {
                upload.stage = Stage::Verified(key.clone());
                return self.archived(upload, key);
            }
        }
        Ok(Progress::Worked)
    }

    /// Notes that the segment is in the archive.
    fn archived(&mut self, upload: Upload<E>, key: String) -> Result<Progress> {
        if self.env.planted("aof_archive_collect_unlisted") {
            self.collect_unlisted()?;
        }
        let mut edits = vec![with_status(&upload.entry, SegmentStatus::Archived)];
        let is_live = |attempt: &Attempt| attempt.status == AttemptStatus::Live;
        if self.manifest.with(|state| state.attempts.get(&key).is_some_and(is_live)) {
            edits.push(Edit::DropAttempt(key));
        }
        if let Err(error) = self.manifest.commit(&edits) {
            self.upload = Some(upload);
            return Err(error);
        }
        self.env.reached("aof.archived");
        self.stats.archived += 1;
        self.stats.archived_bytes += upload.entry.archived_bytes;
        self.uploads.succeeded();
        self.remove_object(upload.object);
        // Appends may wait for fewer segments that are not archived.
        self.log.watch().notify();
        Ok(Progress::Worked)
    }

    /// Gives up the attempt under `key`, because of `error`; the next one has a key of its own.
    fn give_up(&mut self, mut upload: Upload<E>, key: &str, error: Error) -> Result<Progress> {
        upload.stage = Stage::Built;
        self.upload = Some(upload);
        self.env.reached("aof.attempt_abandoned");
        self.stats.abandoned += 1;
        self.manifest.commit_with(|state| {
            let live = state.attempts.get(key).filter(|attempt| attempt.status == AttemptStatus::Live);
            live.map(|attempt| moved(key, attempt, AttemptStatus::Abandoned)).into_iter().collect()
        })?;
        Err(error)
    }
}

/// Returns the edit that moves an attempt on.
pub(super) fn moved(key: &str, attempt: &Attempt, status: AttemptStatus) -> Edit {
    Edit::Attempt { key: key.to_string(), attempt: Attempt { status, ..*attempt } }
}

/// Returns the edit that moves an entry on.
pub(super) fn with_status(entry: &SegmentEntry, status: SegmentStatus) -> Edit {
    Edit::Entry(SegmentEntry { status, ..entry.clone() })
}

/// Reads the object of `entry` back from `checked` on, for one step; returns how far it came, and the checksum up to there.
///
/// # Errors
/// [`AofError::RemoteStorage`] if the object is not there, or is not what was sent.
pub(super) fn verify(
    storage: &dyn ArchiveStorage,
    key: &str,
    entry: &SegmentEntry,
    mut checked: u64,
    mut crc: Crc64,
) -> Result<(u64, Crc64)> {
    let bytes = entry.archived_bytes;
    let other = |what: String| -> Error {
        AofError::RemoteStorage { operation: "verify", key: key.to_string(), what, retryable: true }.into()
    };
    if checked == 0 {
        match storage.head(key)? {
            Some(found) if found == bytes => {}
            Some(found) => return Err(other(format!("the object has {found} bytes, {bytes} were sent"))),
            None => return Err(other("the object is not there".into())),
        }
    }
    let stop = bytes.min(checked + VERIFY_STEP_BYTES);
    while checked < stop {
        let range = checked..stop.min(checked + VERIFY_READ_BYTES);
        let part = storage.read(key, range.clone())?;
        if part.len() as u64 != range.end - range.start {
            return Err(other(format!("{} bytes came for {range:?}", part.len())));
        }
        crc.update(&part);
        checked = range.end;
    }
    if checked == bytes && crc.value() != entry.archived_crc64 {
        return Err(other("the object's checksum is not that of what was sent".into()));
    }
    Ok((checked, crc))
}
