//! Where in a segment a record or a time is: [`SegmentIndex`], with a [`SparseIndex`] and a few counts.
//!
//! The stage keeps one for the segment being written, under the append lock; a sealed segment carries it in its footer; for
//! a segment without a footer a reader builds it from a scan. All three note the same frames, so they are the same index.
//!
//! **Invariants:** entries ascend in position and time; every entry is the start of a DATA frame, the first such frame has
//! one, and the next entry is that of the first DATA frame that begins [`STEP_BYTES`] or more behind the last.

pub mod format;

use super::format::FrameKind;

/// Bytes of frames between two entries, at least.
pub const STEP_BYTES: u64 = 4096;

/// Where a DATA frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexEntry {
    /// Id of its first record.
    pub id: u64,
    /// Its time, microseconds since 1970.
    pub ts: u64,
    /// Where it begins.
    pub lsn: u64,
}

/// The entries of one segment, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseIndex {
    entries: Vec<IndexEntry>,
}

impl SparseIndex {
    /// Takes entries that were noted before, oldest first.
    pub fn from_entries(entries: Vec<IndexEntry>) -> SparseIndex {
        SparseIndex { entries }
    }

    /// Notes a DATA frame, behind all those before.
    pub fn note(&mut self, frame: IndexEntry) {
        if let Some(last) = self.entries.last() {
            assert!(last.lsn < frame.lsn && last.ts <= frame.ts, "frames are noted in order");
            if frame.lsn - last.lsn < STEP_BYTES {
                return;
            }
        }
        self.entries.push(frame);
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Returns the last noted frame whose records begin with `id` or before; none if the first one is behind it.
    pub fn at_id(&self, id: u64) -> Option<u64> {
        let count = self.entries.partition_point(|entry| entry.id <= id);
        Some(self.entries.get(count.checked_sub(1)?)?.lsn)
    }

    /// Returns the last noted frame that is older than `ts`; none if the first one is not.
    pub fn at_time(&self, ts: u64) -> Option<u64> {
        let count = self.entries.partition_point(|entry| entry.ts < ts);
        Some(self.entries.get(count.checked_sub(1)?)?.lsn)
    }

    /// Returns the last noted frame that begins at `lsn` or before; none if the first one begins behind it.
    pub fn at_lsn(&self, lsn: u64) -> Option<u64> {
        let count = self.entries.partition_point(|entry| entry.lsn <= lsn);
        Some(self.entries.get(count.checked_sub(1)?)?.lsn)
    }
}

/// A frame as an index sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Where it begins.
    pub lsn: u64,
    /// What it is.
    pub kind: FrameKind,
    /// Its record count.
    pub count: u16,
    /// Its payload's length.
    pub len: u32,
    /// Id of its first record.
    pub first_id: u64,
    /// Its time, microseconds since 1970.
    pub ts: u64,
}

/// What is known of the frames of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    /// Where records and times are.
    pub sparse: SparseIndex,
    /// Frames of the caller.
    pub frames: u64,
    /// Records of DATA frames.
    pub records: u64,
    /// Payload bytes of the caller's frames.
    pub payload_bytes: u64,
    /// Id of the first record of a DATA frame, if there is one.
    pub first_id: Option<u64>,
    /// Id after the last record of a DATA frame.
    pub next_id: u64,
    /// Time of the caller's first frame, 0 if there is none.
    pub first_ts: u64,
    /// Time of the caller's last frame, 0 if there is none.
    pub last_ts: u64,
}

impl SegmentIndex {
    /// Begins the index of a segment whose first record is expected to be `base_id`.
    pub fn new(base_id: u64) -> SegmentIndex {
        SegmentIndex { next_id: base_id, ..SegmentIndex::default() }
    }

    /// Notes a frame, behind all those before; the log's own frames change nothing.
    pub fn note(&mut self, frame: &Noted) {
        if !frame.kind.is_callers() {
            return;
        }
        if self.frames == 0 {
            self.first_ts = frame.ts;
        }
        self.frames += 1;
        self.payload_bytes += u64::from(frame.len);
        self.last_ts = frame.ts;
        if frame.kind == FrameKind::Data {
            self.records += u64::from(frame.count);
            self.first_id.get_or_insert(frame.first_id);
            self.next_id = frame.first_id.saturating_add(u64::from(frame.count));
            self.sparse.note(IndexEntry { id: frame.first_id, ts: frame.ts, lsn: frame.lsn });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_a_step_apart_and_found_from_both_sides() {
        let mut index = SparseIndex::default();
        assert_eq!((index.at_id(1), index.at_time(1)), (None, None));
        for number in 0..100 {
            index.note(IndexEntry { id: 10 + number, ts: 1000 + number / 50, lsn: 80 + number * 1000 });
        }
        let lsns: Vec<u64> = index.entries().iter().map(|entry| entry.lsn).collect();
        assert_eq!(lsns[..3], [80, 5080, 10080]);
        assert_eq!((index.at_id(9), index.at_id(10), index.at_id(14)), (None, Some(80), Some(80)));
        assert_eq!((index.at_id(15), index.at_id(u64::MAX)), (Some(5080), Some(95080)));
        assert_eq!((index.at_lsn(79), index.at_lsn(5080), index.at_lsn(10079)), (None, Some(5080), Some(5080)));
        assert_eq!((index.at_time(1000), index.at_time(1001), index.at_time(9000)), (None, Some(45080), Some(95080)));
    }
}
