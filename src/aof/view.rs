//! A look at a log's directory without touching it: [`ViewChain`], beside a live writer or without one.
//!
//! Any number of processes may look. Nothing is locked, created, written or synced; the writer does not know.
//!
//! **How far is seen.** The writer's own position is not known here. [`Visibility::Durable`] is what frames and segments say
//! was durable when they were made (R2, R4): all that was, once the writer is idle and has left a MARK. Without a writer,
//! synced frames behind the last such mark are not shown until the log was opened. [`Visibility::Written`] is all good
//! frames.
//!
//! **What the writer does meanwhile:** it rolls, and the directory is looked at again; it drops segments, which are gone
//! then; it writes over a dropped one that is still open here: header first, and with another salt, so that no frame of the
//! new life passes its checksum in the old one. A bad frame in a file that is no longer that segment is reported as
//! truncated. A reopened writer may replace the last segment by one of the same number: the salt tells.
//!
//! **Invariant:** what is seen of the chain is one without gaps that was in the directory at one time.

use super::chain::{At, Chain, First, Span, Visibility, Waited};
use super::crypt::KeyRing;
use super::format::SegmentHeader;
use super::names::{Listing, segment_name};
use super::read::{LocalFile, ReadAt, SegmentReader, read_header};
use super::types::Lsn;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, Env, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a directory is looked at again that changes under the look.
const ATTEMPTS: u32 = 20;
/// How long to wait before the directory is looked at again for more.
const POLL: Duration = Duration::from_millis(5);

/// The segments in a directory that this process does not write.
pub struct ViewChain<E: Env> {
    env: E,
    dir: PathBuf,
    keys: Option<KeyRing>,
    seen: Mutex<E, Seen<E>>,
}

/// What was seen last.
struct Seen<E: Env> {
    /// Oldest first.
    headers: Vec<SegmentHeader>,
    tail: Option<Tail<E>>,
}

/// How far the frames of the last segment go.
struct Tail<E: Env> {
    reader: Arc<SegmentReader<E>>,
    /// The end of its good frames.
    end: u64,
    /// The highest position that they say was durable.
    durable: u64,
}

impl<E: Env> std::fmt::Debug for ViewChain<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ViewChain({})", self.dir.display())
    }
}

impl<E: Env> Seen<E> {
    fn span(&self, index: usize) -> Span {
        let header = &self.headers[index];
        Span {
            number: header.segment_no,
            base_lsn: Lsn(header.base_lsn),
            end_lsn: self.headers.get(index + 1).map(|next| Lsn(next.base_lsn)),
            base_id: header.base_id,
            base_ts: header.base_ts,
            salt: header.salt,
        }
    }

    /// Reads on in the last segment.
    fn read_on(&mut self, chain: &ViewChain<E>) -> Result<()> {
        let Some(last) = self.headers.last() else { return Ok(()) };
        if self.tail.as_ref().is_none_or(|tail| tail.reader.header() != last) {
            let reader = SegmentReader::open_local(&chain.env, &chain.dir, last.segment_no, None, chain.keys.as_ref())?;
            if reader.header() != last {
                return Err(Error::not_found(format_args!("{} was replaced", reader.name().display())));
            }
            self.tail = Some(Tail { reader: Arc::new(reader), end: last.base_lsn, durable: last.base_lsn });
        }
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let mut frames = tail.reader.frames(tail.end, u64::MAX / 2).probing();
        loop {
            let lsn = frames.lsn();
            match frames.advance()? {
                Some(Ok(header)) => tail.durable = tail.durable.max(header.durable(lsn).unwrap_or(0)),
                // Where the writer has not come yet; or damage, which only the writer's next open can tell from that.
                Some(Err(_)) | None => break,
            }
        }
        tail.end = frames.lsn();
        Ok(())
    }
}

impl<E: Env> ViewChain<E> {
    /// Looks at the log in `dir`, with `keys` if it is encrypted.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) naming a bad segment header or a missing segment; what the disk met.
    pub fn open(env: E, dir: &Path, keys: Option<KeyRing>) -> Result<ViewChain<E>> {
        let seen = Mutex::<E, _>::new(Seen { headers: Vec::new(), tail: None });
        let chain = ViewChain { env, dir: dir.to_path_buf(), keys, seen };
        chain.look()?;
        Ok(chain)
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks again and returns the segments, oldest first.
    pub(super) fn spans(&self) -> Result<Vec<Span>> {
        self.look()?;
        let seen = self.seen.lock();
        Ok((0..seen.headers.len()).map(|index| seen.span(index)).collect())
    }

    /// Looks at the directory and the last segment again.
    fn look(&self) -> Result<()> {
        let mut attempt = 0;
        loop {
            let mut seen = self.seen.lock();
            let looked = self.headers(&seen.headers).and_then(|headers| {
                seen.headers = headers;
                seen.read_on(self)
            });
            drop(seen);
            attempt += 1;
            match looked {
                Err(error) if attempt < ATTEMPTS && (*error.kind() == ErrorKind::NotFound || error.is_corruption()) => {
                    // It changed under the look.
                    self.env.relax();
                }
                looked => return looked,
            }
        }
    }

    /// Reads the headers that are not `known`.
    fn headers(&self, known: &[SegmentHeader]) -> Result<Vec<SegmentHeader>> {
        let listed = self.env.disk().list(&self.dir).map_err(|error| Error::io("list", &self.dir, error))?;
        let numbers: Vec<u64> = Listing::classify(listed).segments.iter().map(|(number, _)| *number).collect();
        let mut headers: Vec<SegmentHeader> = Vec::new();
        for number in numbers.iter().rev() {
            let last = headers.first();
            if last.is_some_and(|last| *number < last.first_no) {
                break;
            }
            // The last one known may have been replaced, the others not.
            let is_settled = |index: &usize| index + 1 < known.len() && headers.len() > 1;
            let at = known.binary_search_by_key(number, |header| header.segment_no).ok().filter(is_settled);
            let header = match at {
                Some(index) => known[index],
                None => self.header(*number)?,
            };
            if let Some(after) = headers.last() {
                let path = self.dir.join(segment_name(after.segment_no - 1));
                if after.segment_no != number + 1 {
                    return Err(Error::corruption(&path, 0, "the segment is missing, and a later one exists"));
                }
                if after.log_id != header.log_id || after.base_lsn < header.base_lsn {
                    return Err(Error::corruption(&path, 0, "the next segment does not continue this one"));
                }
            }
            headers.push(header);
        }
        headers.reverse();
        Ok(headers)
    }

    fn header(&self, number: u64) -> Result<SegmentHeader> {
        let path = self.dir.join(segment_name(number));
        let header = read_header(&self.file(&path)?)?;
        let header = header.map_err(|fault| Error::corruption(&path, 0, format_args!("segment header {fault}")))?;
        if header.segment_no != number {
            return Err(Error::corruption(&path, 0, format_args!("segment header has number {}", header.segment_no)));
        }
        Ok(header)
    }

    fn file(&self, path: &Path) -> Result<LocalFile<E>> {
        LocalFile::open(&self.env, path)
    }
}

impl<E: Env> Chain<E> for ViewChain<E> {
    fn first(&self) -> Result<First> {
        let first = self.locate(At::First)?;
        Ok(first.map_or(First::default(), |span| First { lsn: span.base_lsn, id: span.base_id }))
    }

    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        self.look()?;
        let seen = self.seen.lock();
        let tail = seen.tail.as_ref();
        Ok(Lsn(tail.map_or(0, |tail| match visibility {
            Visibility::Durable => tail.durable,
            Visibility::Written => tail.end,
        })))
    }

    fn locate(&self, at: At) -> Result<Option<Span>> {
        let seen = self.seen.lock();
        let span = |index: usize| seen.span(index);
        Ok(at.index_in(seen.headers.len(), span).map(span))
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        let end = span.end_lsn;
        let reader = SegmentReader::open_local(&self.env, &self.dir, span.number, end, self.keys.as_ref());
        let gone = || Error::not_found(format_args!("segment {} of {} is gone", span.number, self.dir.display()));
        match reader {
            Ok(reader) if reader.header().salt == span.salt => Ok(Arc::new(reader)),
            Ok(_) => Err(gone()),
            // Dropped, and perhaps being written over.
            Err(error) if *error.kind() == ErrorKind::NotFound || error.is_corruption() => {
                let listed = self.env.disk().list(&self.dir).map_err(|error| Error::io("list", &self.dir, error))?;
                let is_there = Listing::classify(listed).segments.iter().any(|(number, _)| *number == span.number);
                Err(if is_there { error } else { gone() })
            }
            Err(error) => Err(error),
        }
    }

    fn is_current(&self, reader: &SegmentReader<E>) -> Result<bool> {
        let path = self.dir.join(segment_name(reader.header().segment_no));
        match self.file(&path).and_then(|file| read_header(&file)) {
            Ok(Ok(header)) => Ok(header == *reader.header()),
            // Under its own name, a header is complete or damaged.
            Ok(Err(_)) => Ok(true),
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_foreign(&self) -> bool {
        true
    }

    fn is_open(&self) -> Result<bool> {
        Ok(true)
    }

    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        let begun = self.env.now();
        loop {
            if self.visible(visibility)? > seen {
                return Ok(Waited::More);
            }
            if timeout.is_some_and(|timeout| self.env.now().since(begun) >= timeout) {
                return Ok(Waited::TimedOut);
            }
            // Nothing tells when another process has written.
            self.env.sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests;
