//! Which segments there are, here and in the archive: the manifest's entries and the log's own list as one.
//!
//! Any thread. A segment is in one of both lists at every moment: it is an entry before its file goes.

use super::super::format::HEADER_BYTES;
use super::super::manifest::{ManifestState, SegmentEntry, SegmentStatus};
use super::super::types::{Lsn, SegmentInfo};
use super::Shared;
use crate::env::Env;

/// Returns all segments, oldest first, those in the archive too; the last one is being written.
fn entries(state: &ManifestState, local: &[SegmentInfo], end: (u64, u64)) -> Vec<SegmentEntry> {
    let first = local.first().map_or(u64::MAX, |segment| segment.number);
    let mut entries: Vec<_> = state.kept().filter(|entry| entry.number < first).cloned().collect();
    for (at, segment) in local.iter().enumerate() {
        if let Some(entry) = state.entries.get(&segment.number).filter(|_| segment.end_lsn.is_some()) {
            entries.push(entry.clone());
            continue;
        }
        let (end_lsn, next_id) = local.get(at + 1).map_or(end, |next| (next.base_lsn.0, next.base_id));
        entries.push(local_entry(segment, end_lsn, next_id));
    }
    entries
}

fn local_entry(segment: &SegmentInfo, end_lsn: u64, next_id: u64) -> SegmentEntry {
    let end_lsn = segment.end_lsn.map_or(end_lsn, |end| end.0);
    SegmentEntry {
        number: segment.number,
        status: if segment.end_lsn.is_some() { SegmentStatus::Sealed } else { SegmentStatus::Active },
        base_lsn: segment.base_lsn,
        end_lsn: Lsn(end_lsn),
        base_id: segment.base_id,
        next_id,
        base_ts: segment.base_ts,
        max_ts: 0,
        records: next_id.saturating_sub(segment.base_id),
        original_bytes: HEADER_BYTES as u64 + end_lsn.saturating_sub(segment.base_lsn.0),
        original_crc64: 0,
        archived_key: String::new(),
        archived_bytes: 0,
        archived_crc64: 0,
    }
}

impl<E: Env> Shared<E> {
    /// Returns all segments, oldest first.
    pub(super) fn entries(&self) -> Vec<SegmentEntry> {
        // The local ones first: one that leaves the disk meanwhile is an entry already.
        let segments = self.log.segments();
        self.manifest.with(|state| {
            let (end, next_id) = self.log.position();
            entries(state, &segments, (end.0, next_id))
        })
    }
}
