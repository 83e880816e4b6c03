//! What the manifest knows: [`ManifestState`], and the [`Edit`]s that change it.
//!
//! Plain data. [`ManifestState::apply`] is the one place where it changes; edits come from this process, which asserts that
//! they are legal, or from disk, where an illegal one is damage.
//!
//! **Invariants**, each checked by `apply`
//! - Entries that are not [`SegmentStatus::RemoteDeleted`] are numbered without a gap, and each begins where the one before
//!   ends, in position and in id.
//! - A status only moves on: intent, archived, local deleted, remote deleted, forgotten. The last two come to the oldest first.
//! - An entry says where its object is from archived on, and never changes what it says of the segment.
//! - `first_id` and `fence` only grow.

use crate::aof::Lsn;
use std::collections::BTreeMap;

/// Where a segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SegmentStatus {
    /// A spare file: no segment yet, or no longer. Never in the manifest.
    Free = 0,
    /// Being written. Never in the manifest.
    Active = 1,
    /// Complete and local only. Never in the manifest.
    Sealed = 2,
    /// An upload was begun; what came of it is not known.
    UploadIntent = 3,
    /// In the archive, read back and compared; the local file may still be there.
    Archived = 4,
    /// In the archive only.
    LocalDeleted = 5,
    /// Truncated or expired; its object may still be there.
    RemoteDeleted = 6,
}

/// What is known of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Position in the chain, from 1.
    pub number: u64,
    /// Where it is in its life.
    pub status: SegmentStatus,
    /// Where its first frame begins.
    pub base_lsn: Lsn,
    /// Where the next segment begins; of the active one, where the log ends.
    pub end_lsn: Lsn,
    /// The first record number expected.
    pub base_id: u64,
    /// The record number after the last.
    pub next_id: u64,
    /// No later than the first frame's time, microseconds since 1970.
    pub base_ts: u64,
    /// Time of the last frame; 0 if it was not looked up.
    pub max_ts: u64,
    /// How many records; 0 if they were not counted.
    pub records: u64,
    /// Bytes of the segment, header included.
    pub original_bytes: u64,
    /// CRC-64/NVME of these bytes, decrypted; 0 if it was not computed.
    pub original_crc64: u64,
    /// Key of its object, empty if there is none.
    pub archived_key: String,
    /// Bytes of its object.
    pub archived_bytes: u64,
    /// CRC-64/NVME of its object.
    pub archived_crc64: u64,
}

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AttemptStatus {
    /// Under way.
    Live = 1,
    /// Given up: its object is to be removed, whether it is there or not.
    Abandoned = 2,
    /// Its object was removed once. A late put may still bring it back: it is removed again at the next open.
    Collected = 3,
}

/// One try of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The segment's number.
    pub segment: u64,
    /// When it was begun, microseconds since 1970.
    pub since: u64,
    /// What became of it.
    pub status: AttemptStatus,
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Names the log; the first edit of a state, and never changed.
    LogId([u8; 16]),
    /// Records before this one are truncated.
    FirstId(u64),
    /// The highest fence that `append_if` has come with.
    Fence(u64),
    /// Keeps records from `id` on; replaces the pin of that name.
    Pin {
        /// The pin's name.
        name: String,
        /// The oldest record it keeps.
        id: u64,
    },
    /// Removes a pin; one that is not there counts as removed.
    Unpin {
        /// The pin's name.
        name: String,
    },
    /// Adds an entry, or moves it on.
    Entry(SegmentEntry),
    /// Removes an entry.
    Forget(u64),
    /// Adds an attempt, or moves it on.
    Attempt {
        /// The object's key.
        key: String,
        /// The attempt.
        attempt: Attempt,
    },
    /// Removes an attempt.
    DropAttempt(String),
}

/// What an edit has replaced.
enum Undo {
    LogId([u8; 16]),
    FirstId(u64),
    Fence(u64),
    Pin(String, Option<u64>),
    Entry(u64, Option<SegmentEntry>),
    Attempt(String, Option<Attempt>),
}

/// Everything the manifest holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestState {
    /// The log's identity.
    pub log_id: [u8; 16],
    /// The oldest record kept; 0 if nothing was ever truncated.
    pub first_id: u64,
    /// The highest fence.
    pub fence: u64,
    /// The oldest record that each pin keeps.
    pub pins: BTreeMap<String, u64>,
    /// Uploads that are not known to have succeeded, by key.
    pub attempts: BTreeMap<String, Attempt>,
    /// Segments that an upload was begun of, by number.
    pub entries: BTreeMap<u64, SegmentEntry>,
}

impl SegmentEntry {
    /// Returns true if both speak of the same segment.
    pub fn is_same_segment(&self, other: &SegmentEntry) -> bool {
        let place = |entry: &SegmentEntry| (entry.number, entry.base_lsn, entry.end_lsn, entry.base_id, entry.next_id);
        place(self) == place(other)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.status < SegmentStatus::UploadIntent || self.number == 0 {
            return Err("an entry of a segment that was never uploaded");
        }
        if self.base_lsn > self.end_lsn || self.base_id > self.next_id {
            return Err("an entry of a segment that ends before it begins");
        }
        let has_object = !self.archived_key.is_empty() && self.archived_bytes > 0;
        if matches!(self.status, SegmentStatus::Archived | SegmentStatus::LocalDeleted) && !has_object {
            return Err("an entry of an archived segment without its object");
        }
        Ok(())
    }
}

impl ManifestState {
    /// Returns the entries of segments that are still to be read, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &SegmentEntry> {
        self.entries.values().filter(|entry| entry.status != SegmentStatus::RemoteDeleted)
    }

    /// Returns the edits that make this state out of an empty one.
    pub fn edits(&self) -> Vec<Edit> {
        let mut edits = vec![Edit::LogId(self.log_id), Edit::FirstId(self.first_id), Edit::Fence(self.fence)];
        edits.extend(self.pins.iter().map(|(name, id)| Edit::Pin { name: name.clone(), id: *id }));
        edits.extend(self.entries.values().cloned().map(Edit::Entry));
        let attempts = self.attempts.iter();
        edits.extend(attempts.map(|(key, attempt)| Edit::Attempt { key: key.clone(), attempt: *attempt }));
        edits
    }

    /// Changes the state by `edit`.
    ///
    /// # Errors
    /// What is illegal; the state is unchanged then.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), &'static str> {
        self.change(edit).map(drop)
    }

    /// Checks that `edits` may be applied in this order; the state is the same afterwards.
    ///
    /// # Errors
    /// Which edit is illegal, and what it does.
    pub fn check<'e>(&mut self, edits: &'e [Edit]) -> Result<(), (&'e Edit, &'static str)> {
        let mut undone = Vec::with_capacity(edits.len());
        let mut checked = Ok(());
        for edit in edits {
            match self.change(edit) {
                Ok(undo) => undone.push(undo),
                Err(what) => {
                    checked = Err((edit, what));
                    break;
                }
            }
        }
        undone.into_iter().rev().for_each(|undo| self.undo(undo));
        checked
    }

    fn undo(&mut self, undo: Undo) {
        fn restore<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, before: Option<V>) {
            match before {
                Some(before) => drop(map.insert(key, before)),
                None => drop(map.remove(&key)),
            }
        }
        match undo {
            Undo::LogId(log_id) => self.log_id = log_id,
            Undo::FirstId(id) => self.first_id = id,
            Undo::Fence(fence) => self.fence = fence,
            Undo::Pin(name, before) => restore(&mut self.pins, name, before),
            Undo::Entry(number, before) => restore(&mut self.entries, number, before),
            Undo::Attempt(key, before) => restore(&mut self.attempts, key, before),
        }
    }

    /// As [`apply`](Self::apply); returns what was there before.
    fn change(&mut self, edit: &Edit) -> Result<Undo, &'static str> {
        Ok(match edit {
            Edit::LogId(log_id) if self.log_id == [0; 16] || self.log_id == *log_id => {
                Undo::LogId(std::mem::replace(&mut self.log_id, *log_id))
            }
            Edit::LogId(_) => return Err("the log's id changes"),
            Edit::FirstId(id) if *id >= self.first_id => Undo::FirstId(std::mem::replace(&mut self.first_id, *id)),
            Edit::FirstId(_) => return Err("the first id goes back"),
            Edit::Fence(fence) if *fence >= self.fence => Undo::Fence(std::mem::replace(&mut self.fence, *fence)),
            Edit::Fence(_) => return Err("the fence goes back"),
            Edit::Pin { name, id } => Undo::Pin(name.clone(), self.pins.insert(name.clone(), *id)),
            Edit::Unpin { name } => Undo::Pin(name.clone(), self.pins.remove(name)),
            Edit::Entry(entry) => {
                self.check_entry(entry)?;
                Undo::Entry(entry.number, self.entries.insert(entry.number, entry.clone()))
            }
            Edit::Forget(number) => {
                let oldest = self.entries.first_key_value().filter(|(first, _)| *first == number);
                let Some((_, entry)) = oldest else { return Err("an entry that is not the oldest is forgotten") };
                if matches!(entry.status, SegmentStatus::Archived | SegmentStatus::LocalDeleted) {
                    return Err("an archived segment is forgotten before it was deleted");
                }
                Undo::Entry(*number, self.entries.remove(number))
            }
            Edit::Attempt { key, attempt } => {
                let before = self.attempts.get(key);
                let moves_on = |before: &Attempt| before.segment == attempt.segment && before.status <= attempt.status;
                if key.is_empty() || !before.is_none_or(moves_on) {
                    return Err("an attempt goes back");
                }
                Undo::Attempt(key.clone(), self.attempts.insert(key.clone(), *attempt))
            }
            Edit::DropAttempt(key) => {
                let before = self.attempts.remove(key).ok_or("an attempt is dropped that was never begun")?;
                Undo::Attempt(key.clone(), Some(before))
            }
        })
    }

    fn check_entry(&self, entry: &SegmentEntry) -> Result<(), &'static str> {
        entry.check()?;
        let is_older = |kept: &SegmentEntry| kept.number < entry.number;
        if entry.status == SegmentStatus::RemoteDeleted && self.kept().next().is_some_and(is_older) {
            return Err("an entry is deleted before an older one");
        }
        if let Some(before) = self.entries.get(&entry.number) {
            let again = entry.status == SegmentStatus::UploadIntent && before.status == entry.status;
            return match before.is_same_segment(entry) && (again || before.status < entry.status) {
                true => Ok(()),
                false => Err("an entry goes back"),
            };
        }
        match self.kept().next_back() {
            Some(last) if last.number + 1 != entry.number => Err("entries leave a gap"),
            Some(last) if (last.end_lsn, last.next_id) != (entry.base_lsn, entry.base_id) => {
                Err("an entry does not begin where the one before ends")
            }
            None if self.entries.last_key_value().is_some_and(|(last, _)| *last > entry.number) => {
                Err("an entry comes behind later ones")
            }
            _ => Ok(()),
        }
    }
}
