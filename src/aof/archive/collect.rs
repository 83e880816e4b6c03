//! What leaves the archive: objects of attempts that were given up, and of segments that are no longer kept.
//!
//! Steps of the [`Archiver`], on the store's background thread.
//!
//! ```text
//! attempt abandoned -> delete -> commit collected -> at the next open: delete again -> commit dropped
//! segment below the first id -> commit remote deleted -> no reader any more -> delete -> commit forgotten
//! ```
//!
//! **Invariants**
//! - Only what the manifest lists is deleted. A listing of the archive is never a reason: an object that it shows may be of an
//!   attempt that is about to succeed, or of another copy of the log.
//! - The key of an attempt stays listed as long as a put under it may still land: until its object was deleted in two lives
//!   of the store.
//! - An object goes when no reader holds it, oldest first; none is opened once it is to go.

use super::upload::{Archiver, Progress, log_prefix, moved, with_status};
use crate::aof::manifest::{Attempt, AttemptStatus, Edit, ManifestState, SegmentEntry, SegmentStatus};
use crate::base::Result;
use crate::env::Env;

/// Returns the entries of segments whose records are all below the first id, oldest first.
fn expired(state: &ManifestState) -> impl Iterator<Item = &SegmentEntry> {
    state.kept().take_while(|entry| entry.next_id <= state.first_id)
}

impl<E: Env> Archiver<E> {
    /// Notes which segments are no longer kept.
    pub(super) fn expire(&mut self) -> Result<Progress> {
        let numbers: Vec<u64> = self.manifest.with(|state| expired(state).map(|entry| entry.number).collect());
        if numbers.is_empty() {
            return Ok(Progress::Idle);
        }
        self.manifest.commit_with(|state| {
            let mut edits = Vec::new();
            for entry in expired(state) {
                let mut entry = entry.clone();
                if entry.status == SegmentStatus::UploadIntent {
                    let key = std::mem::take(&mut entry.archived_key);
                    let live = state.attempts.get(&key).filter(|attempt| attempt.status == AttemptStatus::Live);
                    edits.extend(live.map(|attempt| moved(&key, attempt, AttemptStatus::Abandoned)));
                }
                edits.push(with_status(&entry, SegmentStatus::RemoteDeleted));
            }
            edits
        })?;
        numbers.into_iter().for_each(|number| self.forget_upload(number));
        Ok(Progress::Worked)
    }

    /// Deletes the object of the oldest segment that is no longer kept.
    pub(super) fn remove_expired(&mut self) -> Result<Progress> {
        if let Some(waits) = self.removals.waits(&self.env) {
            return Ok(waits);
        }
        let is_due = |entry: &&SegmentEntry| entry.status == SegmentStatus::RemoteDeleted;
        let oldest = self.manifest.with(|state| state.entries.values().next().filter(is_due).cloned());
        let Some(entry) = oldest else { return Ok(Progress::Idle) };
        let is_free = self.remote.close(entry.number);
        if !is_free && !self.env.planted("aof_archive_remote_deleted_under_reader") {
            return Ok(Progress::Idle);
        }
        if !entry.archived_key.is_empty() {
            if let Err(error) = self.remote.storage().delete(&entry.archived_key) {
                return self.removals.failed(&self.env, error, self.options.attempts_max);
            }
            self.stats.remote_deleted += 1;
        }
        self.removals.succeeded();
        self.manifest.commit(&[Edit::Forget(entry.number)])?;
        Ok(Progress::Worked)
    }

    /// Deletes the object of one attempt that was given up.
    pub(super) fn collect(&mut self) -> Result<Progress> {
        if let Some(waits) = self.removals.waits(&self.env) {
            return Ok(waits);
        }
        let Some((key, attempt, is_archived)) = self.manifest.with(|state| self.due(state)) else {
            return Ok(Progress::Idle);
        };
        assert!(
            !is_archived || self.env.planted("aof_archive_key_reused"),
            "an attempt that was given up is not what a segment is archived as"
        );
        let forget = self.env.planted("aof_archive_attempt_forgotten");
        if !forget && let Err(error) = self.remote.storage().delete(&key) {
            return self.removals.failed(&self.env, error, self.options.attempts_max);
        }
        self.removals.succeeded();
        self.stats.collected += 1;
        let edit = match attempt.status {
            _ if forget => Edit::DropAttempt(key.clone()),
            AttemptStatus::Collected => Edit::DropAttempt(key.clone()),
            _ => moved(&key, &attempt, AttemptStatus::Collected),
        };
        self.manifest.commit(&[edit])?;
        self.again.remove(&key);
        Ok(Progress::Worked)
    }

    /// Returns an attempt whose object is to be removed, and whether its segment is archived as just that.
    fn due(&self, state: &ManifestState) -> Option<(String, Attempt, bool)> {
        let is_due = |key: &String, status| match status {
            AttemptStatus::Live => false,
            AttemptStatus::Abandoned => true,
            AttemptStatus::Collected => self.again.contains(key),
        };
        let (key, attempt) = state.attempts.iter().find(|(key, attempt)| is_due(key, attempt.status))?;
        let entry = state.entries.get(&attempt.segment);
        let archived = |entry: &SegmentEntry| entry.status != SegmentStatus::UploadIntent && entry.archived_key == *key;
        Some((key.clone(), *attempt, entry.is_some_and(archived)))
    }

    /// The planted bug: deletes whatever is not yet committed as archived.
    pub(super) fn collect_unlisted(&self) -> Result<()> {
        let state = self.manifest.state();
        let kept = |key: &str| {
            state.kept().any(|entry| entry.status != SegmentStatus::UploadIntent && entry.archived_key == key)
        };
        let storage = self.remote.storage();
        for object in storage.list(&log_prefix(&self.options.prefix, &state.log_id))? {
            if !kept(&object.key) {
                storage.delete(&object.key)?;
            }
        }
        Ok(())
    }
}
