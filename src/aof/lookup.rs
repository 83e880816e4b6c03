//! Where in a sealed segment to begin reading: [`Lookup`], its sparse index in memory.
//!
//! Comes from the segment's footer, or from one scan of a segment that a crash ended before it got one. Kept with the
//! segment's reader; 24 bytes for each 4 KiB of frames. Immutable, shared between cursors.

use super::chain::At;
use super::format::FrameKind;
use super::index::{IndexEntry, SegmentIndex, SparseIndex};
use super::read::ReadAt;
use super::scan::FrameReader;
use crate::base::{Error, Result};
use crate::env::Env;

/// The sparse index of one segment, and what goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lookup {
    index: SparseIndex,
    max_ts: u64,
}

impl Lookup {
    /// Takes what a footer holds.
    pub(super) fn new(index: SegmentIndex) -> Lookup {
        Lookup { max_ts: index.last_ts, index: index.sparse }
    }

    /// Reads all frames of a segment.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) at the first bad frame.
    pub(super) fn scan<E: Env, R: ReadAt>(frames: &mut FrameReader<E, R>) -> Result<Lookup> {
        let mut lookup = Lookup::default();
        let mut next_id = 0;
        loop {
            let lsn = frames.lsn();
            match frames.advance()? {
                Some(Ok(header)) if header.ts < lookup.max_ts => {
                    return Err(frames.damage(lsn, "the frame goes back in time"));
                }
                Some(Ok(header)) => {
                    lookup.max_ts = header.ts;
                    if header.kind == FrameKind::Data {
                        if header.first_id < next_id {
                            return Err(frames.damage(lsn, "the frame goes back in ids"));
                        }
                        next_id = header.first_id.saturating_add(u64::from(header.count));
                        lookup.index.note(IndexEntry { id: header.first_id, ts: header.ts, lsn });
                    }
                }
                Some(Err(fault)) => return Err(frames.damage(lsn, format_args!("frame {fault}"))),
                None => return Ok(lookup),
            }
        }
    }

    /// Returns where a frame begins at or before everything that `at` asks for; none for the segment's start.
    pub(super) fn find(&self, at: At) -> Option<u64> {
        match at {
            At::Id(id) => self.index.at_id(id),
            At::Time(ts) => self.index.at_time(ts),
            At::Lsn(lsn) => self.index.at_lsn(lsn.0),
            At::First | At::Number(_) => None,
        }
    }

    /// Returns the time of the last frame.
    pub(super) fn max_ts(&self) -> u64 {
        self.max_ts
    }
}

impl<E: Env, R: ReadAt> FrameReader<E, R> {
    /// Reports damage of the frame at `lsn`.
    pub(super) fn damage(&self, lsn: u64, what: impl std::fmt::Display) -> Error {
        let file = self.source().name().to_path_buf();
        super::AofError::CorruptedRecord { file, offset: self.offset(lsn), what: what.to_string() }.into()
    }
}
