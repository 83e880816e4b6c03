//! How a cursor finds its first frame and moves from segment to segment.
//!
//! Part of [`Cursor`]; see there. A seek asks the chain for the segment, its index for a frame at or before the place, and
//! leaves it to [`Wanted`] to pass over what lies between.

use super::super::format::FrameHeader;
use super::*;

/// What to pass over until the first record is met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) id: u64,
    ts: u64,
    lsn: u64,
    /// Whether the first record shown must be `id`.
    pub(super) exact: bool,
}

/// How often in a row a place is looked for that is dropped under the look.
const LOOKS_MAX: u32 = 20;

/// Where a cursor is to begin.
enum Found {
    /// At or behind the place in this segment.
    In(Span, At),
    /// Nothing more than this is visible.
    Nothing(Lsn),
    /// What one step found was gone for the next.
    Moved,
}

impl<E: Env> Cursor<E> {
    /// Goes to `from`. Returns what to answer if there is nothing yet.
    pub(super) fn find(&mut self, from: From) -> Result<Option<Next>> {
        for _ in 0..LOOKS_MAX {
            match self.look_for(from)? {
                Found::Nothing(visible) => return Ok(Some(Next::Nothing(visible))),
                Found::In(span, inner) => return self.open_at(&span, inner).map(|()| None),
                Found::Moved => {}
            }
        }
        Err(self.gone())
    }

    fn look_for(&mut self, from: From) -> Result<Found> {
        let visible = self.chain.visible(self.visibility)?;
        let first = self.chain.first()?;
        let (at, wanted) = match from {
            From::First => (At::Id(first.id), Wanted { id: first.id, exact: true, ..Wanted::default() }),
            From::Id(id) if id < first.id => return Err(AofError::Truncated { id, first: first.id }.into()),
            From::Id(id) => (At::Id(id), Wanted { id, exact: true, ..Wanted::default() }),
            From::Lsn(lsn) if lsn < first.lsn => {
                let what = format_args!("position {lsn} is gone; the oldest kept is {}", first.lsn);
                return Err(Error::not_found(what));
            }
            From::Lsn(lsn) => (At::Lsn(lsn), Wanted { id: first.id, lsn: lsn.0, ..Wanted::default() }),
            From::Time(ts) => (self.at_time(ts)?, Wanted { id: first.id, ts, ..Wanted::default() }),
            From::TailMinus(back) => {
                let id = self.visible_next_id()?.saturating_sub(back).max(first.id);
                (At::Id(id), Wanted { id, exact: true, ..Wanted::default() })
            }
        };
        self.wanted = wanted;
        let Some(mut span) = self.chain.locate(at)? else {
            // A number was handed out a moment ago.
            return Ok(if matches!(at, At::Number(_)) { Found::Moved } else { Found::Nothing(visible) });
        };
        let inner = match from {
            From::Lsn(lsn) => At::Lsn(lsn),
            From::Time(ts) => At::Time(ts),
            _ => At::Id(wanted.id),
        };
        // The oldest segment answers for what was dropped since `first` was looked at.
        let has_left = match inner {
            At::Lsn(lsn) => span.base_lsn > lsn,
            At::Id(id) => span.base_id > id,
            _ => false,
        };
        if has_left {
            return Ok(Found::Moved);
        }
        // A segment that begins at or after what is visible says nothing about what is.
        if span.base_lsn > visible {
            match self.chain.locate(At::Lsn(visible))? {
                Some(earlier) => span = earlier,
                None => return Ok(Found::Nothing(visible)),
            }
        }
        Ok(Found::In(span, inner))
    }

    /// Opens `span` and stands at the frame that its index names for `at`.
    fn open_at(&mut self, span: &Span, at: At) -> Result<()> {
        let reader = self.open(span)?;
        let hint = if span.end_lsn.is_none() { self.chain.hint(at) } else { None };
        // Looked at after the hint, which is of whatever segment was being written then.
        let (end, limit) = self.limit(span)?;
        let base = span.base_lsn.0;
        let from = match end {
            Some(end) => reader.lookup(end)?.find(at),
            None => hint.map(|lsn| lsn.0).filter(|lsn| *lsn >= base),
        };
        let from = from.unwrap_or(base).min(limit);
        self.stand = Stand::In(reader.frames(from, limit).probing());
        Ok(())
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        self.chain.open(span).map_err(|error| self.explain(error))
    }

    /// Returns where `span` ends, if it has ended, and up to where it can be read.
    fn limit(&self, span: &Span) -> Result<(Option<Lsn>, u64)> {
        let visible = self.chain.visible(self.visibility)?;
        let end = match span.end_lsn {
            Some(end) => Some(end),
            // Asked again after `visible`, which lies in this segment if it is still being written.
            None => self.chain.locate(At::Number(span.number))?.ok_or_else(|| self.gone())?.end_lsn,
        };
        Ok((end, end.map_or(visible, |end| end.min(visible)).max(span.base_lsn).0))
    }

    /// Returns the first segment that may hold a record of time `ts` or later.
    fn at_time(&self, ts: u64) -> Result<At> {
        let Some(mut span) = self.chain.locate(At::Time(ts))? else { return Ok(At::First) };
        // A segment that a crash ended is followed by one that begins with an earlier time.
        while let Some(before) = self.chain.locate(At::Number(span.number - 1))? {
            let Some(end) = before.end_lsn else { break };
            if self.open(&before)?.lookup(end)?.max_ts() < ts {
                break;
            }
            span = before;
        }
        Ok(At::Number(span.number))
    }

    /// Returns the number after the last visible record.
    pub(super) fn visible_next_id(&self) -> Result<u64> {
        for _ in 0..LOOKS_MAX {
            match self.look_for_next_id() {
                // The segment was dropped under the look, and another one is the last.
                Err(error) if matches!(AofError::of(&error), Some(AofError::Truncated { .. })) => {}
                found => return found,
            }
        }
        self.look_for_next_id()
    }

    fn look_for_next_id(&self) -> Result<u64> {
        let visible = self.chain.visible(self.visibility)?;
        let Some(span) = self.chain.locate(At::Lsn(visible))? else { return Ok(self.chain.first()?.id) };
        let mut probe = Cursor::new(self.chain.clone(), From::First).visibility(self.visibility);
        probe.open_at(&span, At::Lsn(visible))?;
        let mut next = None;
        let Stand::In(frames) = &mut probe.stand else { unreachable!("it was opened") };
        while let Some(step) = frames.advance()? {
            let header = step.map_err(|fault| frames.damage(frames.lsn(), format_args!("frame {fault}")))?;
            if header.kind == FrameKind::Data {
                next = Some(header.first_id + u64::from(header.count));
            }
        }
        match next {
            Some(next) => Ok(next),
            // Only frames of other kinds between the index entry and the end: the segment as a whole knows.
            None => probe.next_id_from_start(&span),
        }
    }

    fn next_id_from_start(&mut self, span: &Span) -> Result<u64> {
        let reader = self.open(span)?;
        let mut frames = reader.frames(span.base_lsn.0, self.limit(span)?.1);
        let mut next = span.base_id;
        while let Some(step) = frames.advance()? {
            let header = step.map_err(|fault| frames.damage(frames.lsn(), format_args!("frame {fault}")))?;
            if header.kind == FrameKind::Data {
                next = header.first_id + u64::from(header.count);
            }
        }
        Ok(next)
    }

    /// Takes up the records of the data frame at `lsn`.
    pub(super) fn enter(&mut self, lsn: u64, header: &FrameHeader) -> Result<()> {
        let Stand::In(frames) = &self.stand else { unreachable!("a frame lies in a segment") };
        let end = header.first_id.saturating_add(u64::from(header.count));
        if let Some(next) = self.next_id.filter(|next| *next != header.first_id) {
            let what = format_args!("frame begins with id {}, the next id is {next}", header.first_id);
            return Err(frames.damage(lsn, what));
        }
        if lsn < self.wanted.lsn || header.ts < self.wanted.ts || end <= self.wanted.id {
            return Ok(());
        }
        if self.wanted.exact && header.first_id > self.wanted.id {
            let id = self.wanted.id;
            let first = self.chain.first()?.id;
            return Err(match id < first {
                true => AofError::Truncated { id, first }.into(),
                false => frames.damage(lsn, format_args!("frame begins after record {id}, which is missing")),
            });
        }
        let payload = frames.payload();
        let skip = self.wanted.id.saturating_sub(header.first_id);
        let mut decoder = Decoder::new(payload);
        for _ in 0..skip {
            if decoder.slice().is_none() {
                return Err(frames.damage(lsn, "the frame does not hold the records it counts"));
            }
        }
        let at = decoder.position();
        if header.count == 0 && !payload.is_empty() {
            return Err(frames.damage(lsn, "the frame counts no records"));
        }
        self.wanted = Wanted::default();
        self.next_id = Some(header.first_id + skip);
        self.batch = Batch {
            at,
            left: header.count - skip as u16,
            id: header.first_id + skip,
            lsn,
            ts: header.ts,
            tag: header.tag,
        };
        Ok(())
    }

    /// At the end of what its reader may show: looks for more, here or in the next segment. Returns what to answer if there
    /// is nothing.
    pub(super) fn cross(&mut self) -> Result<Option<Next>> {
        let Stand::In(frames) = &mut self.stand else { unreachable!("only a segment has an end") };
        let (lsn, number) = (frames.lsn(), frames.source().header().segment_no);
        let visible = self.chain.visible(self.visibility)?;
        let end = match frames.source().end_lsn() {
            Some(end) => Some(end),
            // Sealed meanwhile, replaced, or even dropped: then the next one says where this one ended, unless it is gone too.
            None => match self.chain.locate(At::Number(number))? {
                Some(span) if !frames.source().is_of(&span) => return self.go_on_in(&span, lsn, visible),
                Some(span) => span.end_lsn,
                None => match self.chain.locate(At::First)? {
                    Some(next) if next.number == number + 1 => Some(next.base_lsn),
                    _ => return self.seek_again(),
                },
            },
        };
        let limit = end.map_or(visible, |end| end.min(visible)).0;
        if limit > lsn {
            frames.extend(limit);
            return Ok(None);
        }
        if end.is_none_or(|end| end.0 > lsn) {
            return match self.chain.locate(At::Number(number))? {
                Some(_) => Ok(Some(Next::Nothing(visible))),
                // It ended and was dropped since `visible` was looked at: its file is still open here, and is read to its end.
                None if self.chain.visible(self.visibility)? > visible => Ok(None),
                None => self.seek_again(),
            };
        }
        match self.chain.locate(At::Number(number + 1))? {
            // A writer that came back begins a segment where nothing vouched for what is behind; it holds the same frames.
            Some(next) if next.base_lsn.0 <= lsn => self.go_on_in(&next, lsn, visible),
            Some(next) => {
                let what = format_args!("segment begins at position {}, the one before ends at {lsn}", next.base_lsn);
                Err(Error::corruption(self.open(&next)?.name(), 0, what))
            }
            // The roll to the next one has failed: no more for now.
            None if self.chain.locate(At::Number(number))?.is_some() => Ok(Some(Next::Nothing(visible))),
            None => self.seek_again(),
        }
    }

    /// The segment to go on with is no longer there. One that held no record is not missed: the next record is looked for.
    fn seek_again(&mut self) -> Result<Option<Next>> {
        let first = self.chain.first()?.id;
        let Some(id) = self.next_id.filter(|id| *id >= first) else { return Err(self.gone()) };
        self.next_id = None;
        self.stand = Stand::Seek(From::Id(id));
        Ok(None)
    }

    /// Stands at `lsn` in `span`.
    fn go_on_in(&mut self, span: &Span, lsn: u64, visible: Lsn) -> Result<Option<Next>> {
        let reader = self.open(span)?;
        // It may have ended since it was located.
        let (end, limit) = self.limit(span)?;
        if limit <= lsn && (limit < lsn || end.is_none()) {
            return Ok(Some(Next::Nothing(visible)));
        }
        self.stand = Stand::In(reader.frames(lsn, limit));
        Ok(None)
    }

    /// The segment to go on with is no longer there.
    fn gone(&self) -> Error {
        match self.chain.first() {
            Ok(first) => {
                let id = self.next_id.unwrap_or(self.wanted.id);
                AofError::Truncated { id, first: first.id.max(id.saturating_add(1)) }.into()
            }
            Err(error) => error,
        }
    }

    /// Turns `error` into [`AofError::Truncated`] if it comes from a file that is no longer the segment.
    pub(super) fn explain(&self, error: Error) -> Error {
        if *error.kind() == crate::ErrorKind::NotFound && AofError::of(&error).is_none() {
            return self.gone();
        }
        match &self.stand {
            Stand::In(frames) if error.is_corruption() => match self.chain.is_current(frames.source()) {
                Ok(true) => error,
                Ok(false) => self.gone(),
                Err(error) => error,
            },
            _ => error,
        }
    }
}
