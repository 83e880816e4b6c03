//! A log of which the older part is archived: [`JoinedChain`], local segments behind archived ones.
//!
//! Cursors read through it and do not notice where a segment lies. Segments that are still on the disk are read there.
//!
//! **Invariant:** a segment is among the archived ones before it leaves the disk, so that one of both always has it: looked
//! for here first, then there.

use super::chain::{At, Chain, First, Span, Visibility, Waited};
use super::read::{ReadAt, SegmentReader};
use super::types::Lsn;
use super::watch::Watch;
use crate::ErrorKind;
use crate::base::Result;
use crate::env::Env;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a log beyond its local files: where it begins, and its archived segments. Asked often, on any thread:
/// answers come from memory, but for [`open`](Self::open).
pub trait Archived: Send + Sync + 'static {
    /// Returns the oldest record kept; those before it in the oldest segment are not shown. 0 if nothing says so.
    fn first_id(&self) -> u64;

    /// Returns the archived segment at `at`, whether or not it is on the disk too, of those that hold a record that is kept; all
    /// have an end.
    fn locate(&self, at: At) -> Option<Span>;

    /// Opens the image of the archived segment `number`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed on purpose; [`Corruption`](crate::ErrorKind::Corruption)
    /// if the object is missing or damaged; the archive could not be asked.
    fn open(&self, number: u64) -> Result<Box<dyn ReadAt>>;
}

/// Local segments behind archived ones.
pub struct JoinedChain<E: Env> {
    env: E,
    local: Arc<dyn Chain<E>>,
    archived: Arc<dyn Archived>,
}

impl<E: Env> JoinedChain<E> {
    /// Puts what `archived` knows before `local`.
    pub fn new(env: E, local: Arc<dyn Chain<E>>, archived: Arc<dyn Archived>) -> JoinedChain<E> {
        JoinedChain { env, local, archived }
    }

    /// Returns the oldest archived segment, if the oldest local one continues the archived ones.
    fn oldest_archived(&self, first_local: Option<&Span>) -> Option<Span> {
        let first = self.archived.locate(At::First)?;
        first_local.is_none_or(|local| first.number < local.number).then_some(first)
    }
}

impl<E: Env> Chain<E> for JoinedChain<E> {
    fn first(&self) -> Result<First> {
        let local = self.local.locate(At::First)?;
        let oldest = self.oldest_archived(local.as_ref()).or(local);
        let first = oldest.map_or(First::default(), |span| First { lsn: span.base_lsn, id: span.base_id });
        Ok(First { id: first.id.max(self.archived.first_id()), ..first })
    }

    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        self.local.visible(visibility)
    }

    fn locate(&self, at: At) -> Result<Option<Span>> {
        let first = self.local.locate(At::First)?;
        let reaches = |span: &Span| match at {
            At::First => false,
            At::Number(number) => span.number <= number,
            At::Lsn(lsn) => span.base_lsn <= lsn,
            At::Id(id) => span.base_id <= id,
            At::Time(ts) => span.base_ts < ts,
        };
        let is_local = first.as_ref().is_some_and(reaches);
        if is_local || self.oldest_archived(first.as_ref()).is_none() {
            let found = self.local.locate(at)?;
            // The oldest one may have left the disk since it was looked at.
            let has_left = is_local && !found.as_ref().is_some_and(reaches);
            return Ok(if has_left { self.archived.locate(at).or(found) } else { found });
        }
        match self.archived.locate(at) {
            // All of it was truncated since it was looked at.
            None => self.local.locate(at),
            found => Ok(found),
        }
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        match self.local.open(span) {
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                let image = self.archived.open(span.number)?;
                // An image is decrypted: it needs no key.
                let reader = SegmentReader::new(self.env.clone(), image, span.number, span.end_lsn, None)?;
                Ok(Arc::new(reader))
            }
            opened => opened,
        }
    }

    fn hint(&self, at: At) -> Option<Lsn> {
        self.local.hint(at)
    }

    fn is_current(&self, reader: &SegmentReader<E>) -> Result<bool> {
        self.local.is_current(reader)
    }

    fn is_foreign(&self) -> bool {
        self.local.is_foreign()
    }

    fn is_open(&self) -> Result<bool> {
        self.local.is_open()
    }

    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        self.local.wait(seen, visibility, timeout)
    }

    fn watch(&self) -> Option<&Watch<E>> {
        self.local.watch()
    }
}
