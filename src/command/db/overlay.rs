//! [`Work`]: what a batch has changed so far, kept beside the store until the batch commits.
//!
//! Owned by a session's `Plan` and reused from batch to batch, so that a small batch allocates for its new values alone.
//! Each touched key has an [`Entry`] with its state in the store and its state now; counters and the expiry index follow
//! from the two, once, however often the key was written.
//!
//! **Invariants:** `deltas` is the sum over all entries of (after - before); an entry whose command failed is back in the
//! state it had before that command.

use crate::base::hash::Map;
use crate::command::format::Layout;
use crate::command::store::Writes;

/// Entries are searched one by one up to this many.
const LINEAR_MAX: usize = 16;
/// Value buffers kept for reuse, and the largest that is kept.
const POOL_MAX: usize = 64;
const POOL_BYTES_MAX: usize = 4096;
/// A batch larger than this gives its memory back.
const KEEP_BYTES_MAX: usize = 1 << 20;
const NONE: u32 = u32::MAX;

/// What the store says of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) exists: bool,
    pub(super) expiry: Option<u64>,
}

/// What the batch says of a key.
#[derive(Debug)]
pub(super) enum Now {
    /// Nothing: as in the store.
    Unchanged,
    /// Removed.
    Absent,
    /// Set to `record`, whose header has this expiry.
    Present { record: Vec<u8>, expiry: Option<u64> },
}

/// A user key with what is computed from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: u64,
    pub(super) position: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    hash: u64,
    pub(super) position: u64,
    pub(super) epoch: u32,
    /// The next entry of the same hash.
    next: u32,
    key_start: usize,
    key_len: usize,
    pub(super) before: Seen,
    pub(super) now: Now,
}

impl Entry {
    pub(super) fn key<'w>(&self, keys: &'w [u8]) -> &'w [u8] {
        &keys[self.key_start..self.key_start + self.key_len]
    }

    fn delta(&self) -> (i64, i64) {
        let (keys, expires) = match &self.now {
            Now::Unchanged => return (0, 0),
            Now::Absent => (0, 0),
            Now::Present { expiry, .. } => (1, i64::from(expiry.is_some())),
        };
        (keys - i64::from(self.before.exists), expires - i64::from(self.before.expiry.is_some()))
    }
}

/// Change of an epoch's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) epoch: u32,
    pub(super) keys: i64,
    pub(super) expires: i64,
}

/// Events of a batch, added to the shared counters when it ends.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) expired: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

/// The key that the running command looked at last: commands read a key and then write it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memo {
    pub(super) address: usize,
    pub(super) len: usize,
    pub(super) hash: u64,
    pub(super) position: u64,
    pub(super) epoch: u32,
    pub(super) seen: Option<Seen>,
}

/// The changes of one batch, and memory for them.
#[derive(Debug, Default)]
pub(super) struct Work<W> {
    pub(super) entries: Vec<Entry>,
    pub(super) keys: Vec<u8>,
    index: Map<u64, u32>,
    undo: Vec<(u32, Now)>,
    pub(super) deltas: Vec<Delta>,
    pool: Vec<Vec<u8>>,
    pub(super) layout: Option<Layout>,
    pub(super) writes: W,
    pub(super) raw: Vec<u8>,
    pub(super) memo: Memo,
    pub(super) tally: Tally,
    /// Replies given since the first change: from and to, in bytes of the reply buffer.
    pub(super) replies: Vec<(usize, usize)>,
    pub(super) changed: bool,
}

impl<W: Writes> Work<W> {
    /// Makes ready for a batch.
    pub(super) fn reset(&mut self) {
        self.begin_command();
        while let Some(entry) = self.entries.pop() {
            self.recycle(entry.now);
        }
        if self.keys.capacity() + self.raw.capacity() > KEEP_BYTES_MAX || self.index.capacity() > KEEP_BYTES_MAX / 64 {
            (self.keys, self.raw) = (Vec::new(), Vec::new());
            (self.entries, self.index, self.undo) = (Vec::new(), Map::default(), Vec::new());
        }
        self.keys.clear();
        if !self.index.is_empty() {
            self.index.clear();
        }
        self.deltas.clear();
        self.layout = None;
        if !self.writes.is_empty() {
            self.writes = W::default();
        }
        self.tally = Tally::default();
        self.replies.clear();
        self.changed = false;
    }

    /// Makes what was changed so far final: [`undo`](Self::undo) will not go back behind this point.
    pub(super) fn begin_command(&mut self) {
        self.memo = Memo::default();
        while let Some((_, now)) = self.undo.pop() {
            self.recycle(now);
        }
    }

    /// Takes back every change since [`begin_command`](Self::begin_command).
    pub(super) fn undo(&mut self) {
        while let Some((at, now)) = self.undo.pop() {
            let undone = self.replace(at as usize, now);
            self.recycle(undone);
        }
    }

    /// Finds the entry of a key.
    #[inline]
    pub(super) fn find(&self, epoch: u32, key: &Key<'_>) -> Option<usize> {
        let matches =
            |entry: &Entry| entry.hash == key.hash && entry.epoch == epoch && entry.key(&self.keys) == key.bytes;
        if self.entries.len() <= LINEAR_MAX {
            return self.entries.iter().position(matches);
        }
        let mut at = *self.index.get(&key.hash)?;
        loop {
            let entry = &self.entries[at as usize];
            if matches(entry) {
                return Some(at as usize);
            }
            if entry.next == NONE {
                return None;
            }
            at = entry.next;
        }
    }

    /// Adds an entry for a key that has none.
    pub(super) fn insert(&mut self, epoch: u32, key: &Key<'_>, before: Seen) -> usize {
        debug_assert!(self.find(epoch, key).is_none());
        let at = self.entries.len();
        let key_start = self.keys.len();
        self.keys.extend_from_slice(key.bytes);
        let entry = Entry {
            hash: key.hash,
            position: key.position,
            epoch,
            next: NONE,
            key_start,
            key_len: key.bytes.len(),
            before,
            now: Now::Unchanged,
        };
        self.entries.push(entry);
        if at == LINEAR_MAX {
            (0..=at).for_each(|at| self.index_entry(at));
        } else if at > LINEAR_MAX {
            self.index_entry(at);
        }
        at
    }

    fn index_entry(&mut self, at: usize) {
        let number = u32::try_from(at).expect("a batch touches fewer keys");
        if let Some(next) = self.index.insert(self.entries[at].hash, number) {
            self.entries[at].next = next;
        }
    }

    /// Changes a key, so that it can be undone.
    pub(super) fn set(&mut self, at: usize, now: Now) {
        let old = self.replace(at, now);
        self.undo.push((at as u32, old));
        self.changed = true;
    }

    fn replace(&mut self, at: usize, now: Now) -> Now {
        let entry = &mut self.entries[at];
        let before = entry.delta();
        let old = std::mem::replace(&mut entry.now, now);
        let after = entry.delta();
        if before != after {
            let (epoch, keys, expires) = (entry.epoch, after.0 - before.0, after.1 - before.1);
            match self.deltas.iter_mut().find(|delta| delta.epoch == epoch) {
                Some(delta) => {
                    delta.keys += keys;
                    delta.expires += expires;
                }
                None => self.deltas.push(Delta { epoch, keys, expires }),
            }
        }
        old
    }

    /// Returns an empty buffer for a record.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_default()
    }

    fn recycle(&mut self, now: Now) {
        if let Now::Present { mut record, .. } = now
            && record.capacity() <= POOL_BYTES_MAX
            && self.pool.len() < POOL_MAX
        {
            record.clear();
            self.pool.push(record);
        }
    }
}
