//! The sparse index of a segment: [`SparseIndex`], where in it a record or a time is.
//!
//! The stage keeps one for the segment being written, under the append lock; a sealed segment carries it in its footer; for
//! a segment without a footer a reader builds it from a scan. All three note the same frames, so they are the same index.
//!
//! **Invariants:** entries ascend in position, id and time; every entry is the start of a DATA frame, the first such frame
//! has one, and the next entry is that of the first DATA frame that begins [`STEP_BYTES`] or more behind the last.

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

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
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
