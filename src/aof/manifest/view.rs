//! The manifest of a store that this process does not write: [`ManifestView`].
//!
//! Called by readers beside a live writer or without one, on any thread. Reads the manifest's log through a
//! [`ViewChain`], which changes nothing, and goes on where it stopped the last time.
//!
//! **What is seen** is what was written, a commit whose sync is under way included: what leaves the disk was committed before,
//! so that whoever looks at the segments first and at the manifest then misses none.
//!
//! **Invariants**
//! - The state shown is one that the writer had, or is about to have once its sync returns.
//! - After an error the next look begins anew; the state shown stays.

use super::{ManifestState, Reading, States, with_way_out};
use crate::aof::chain::{At, Chain, Visibility};
use crate::aof::format::FrameKind;
use crate::aof::names::MANIFEST_DIR;
use crate::aof::read::{ReadAt, SegmentReader};
use crate::aof::scan::scan_behind;
use crate::aof::types::Lsn;
use crate::aof::view::ViewChain;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, Env, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a manifest is looked at again that changes under the look.
const ATTEMPTS: u32 = 10;

/// A look at the manifest of one store.
pub struct ManifestView<E: Env> {
    env: E,
    dir: PathBuf,
    seen: Mutex<E, Seen<E>>,
    state: Mutex<E, Arc<ManifestState>>,
}

/// What was read last.
struct Seen<E: Env> {
    /// None while there is no directory.
    chain: Option<ViewChain<E>>,
    reading: Reading,
    /// Where to go on.
    place: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    number: u64,
    /// Of the segment.
    salt: [u8; 16],
    lsn: u64,
}

/// It changed under the look.
fn changed(dir: &Path) -> Error {
    Error::not_found(format_args!("{} has changed while it was read", dir.display()))
}

impl<E: Env> Seen<E> {
    fn new(dir: &Path) -> Seen<E> {
        Seen { chain: None, reading: Reading::new(dir), place: None }
    }
}

impl<E: Env> ManifestView<E> {
    /// Looks at the manifest of the store in `dir`. Without one the state is empty until there is one.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub fn open(env: E, dir: &Path) -> Result<ManifestView<E>> {
        let dir = dir.join(MANIFEST_DIR);
        let (seen, state) = (Mutex::<E, _>::new(Seen::new(&dir)), Mutex::<E, _>::new(Arc::default()));
        let view = ManifestView { env, dir, seen, state };
        view.refresh()?;
        Ok(view)
    }

    /// Returns the directory of the manifest.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the state as of the last look.
    pub fn state(&self) -> Arc<ManifestState> {
        self.state.lock().clone()
    }

    /// Returns what `look` finds in the state as of the last look; it runs under a lock, and must not come back here.
    pub fn with<R>(&self, look: impl FnOnce(&ManifestState) -> R) -> R {
        look(&self.state.lock())
    }

    /// Looks for what was committed since.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) names file and offset; what the disk met.
    pub fn refresh(&self) -> Result<()> {
        let mut seen = self.seen.lock();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.look(&mut seen) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            *seen = Seen::new(&self.dir);
            if attempt == ATTEMPTS || !(*error.kind() == ErrorKind::NotFound || error.is_corruption()) {
                return Err(with_way_out(&self.dir, error));
            }
            self.env.relax();
        }
    }

    fn look(&self, seen: &mut Seen<E>) -> Result<()> {
        let Seen { chain, reading, place } = seen;
        let chain = match chain {
            Some(chain) => chain,
            None => match self.env.disk().list(&self.dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(Error::io("list", &self.dir, error)),
                Ok(_) => chain.insert(ViewChain::open(self.env.clone(), &self.dir, None)?),
            },
        };
        let end = chain.visible(Visibility::Written)?;
        let is_new = place.is_none();
        let mut at = place.map_or(At::First, |place| At::Number(place.number));
        let before = place.map(|place| place.lsn);
        let mut last: Option<Arc<SegmentReader<E>>> = None;
        while let Some(span) = chain.locate(at)? {
            let from = match *place {
                Some(place) if place.number == span.number && place.salt != span.salt => {
                    return Err(changed(&self.dir));
                }
                Some(place) if place.number == span.number => place.lsn,
                _ => span.base_lsn.0,
            };
            let limit = span.end_lsn.map_or(end, |end_lsn| end_lsn.min(end)).0;
            let reader = chain.open(&span)?;
            let lsn = self.read(chain, &reader, from..limit, reading)?;
            *place = Some(Place { number: span.number, salt: span.salt, lsn });
            last = Some(reader);
            at = At::Number(span.number + 1);
        }
        if is_new && let Some(reader) = &last {
            self.check_behind(chain, reader, end)?;
        }
        // The segment to go on in was dropped.
        if last.is_none() && !is_new {
            return Err(changed(&self.dir));
        }
        reading.finish()?;
        if place.map(|place| place.lsn) != before {
            *self.state.lock() = Arc::new(reading.state.clone());
        }
        Ok(())
    }

    /// Reads the frames of a segment between two positions; returns where it stopped, which is the second.
    fn read(
        &self,
        chain: &ViewChain<E>,
        reader: &Arc<SegmentReader<E>>,
        range: std::ops::Range<u64>,
        reading: &mut Reading,
    ) -> Result<u64> {
        // What was read is no longer part of the log.
        if range.start > range.end {
            return Err(changed(&self.dir));
        }
        let mut frames = reader.frames(range.start, range.end).probing();
        loop {
            let lsn = frames.lsn();
            match frames.advance()? {
                None => return Ok(lsn),
                Some(Ok(header)) if matches!(header.kind, FrameKind::Meta | FrameKind::Rewrite) => {
                    reading.take(Lsn(lsn), header.kind, frames.payload())?;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) if !chain.is_current(reader)? => return Err(changed(&self.dir)),
                Some(Err(fault)) => return Err(frames.damage(lsn, format_args!("frame {fault}"))),
            }
        }
    }

    /// Looks for a frame behind the last good one that says that more was durable.
    fn check_behind(&self, chain: &ViewChain<E>, reader: &Arc<SegmentReader<E>>, end: Lsn) -> Result<()> {
        let behind = scan_behind(&self.env, reader.clone(), reader.header(), reader.bytes(), end.0)?;
        if behind.durable <= end.0 {
            return Ok(());
        }
        if chain.visible(Visibility::Written)? != end || !chain.is_current(reader)? {
            return Err(changed(&self.dir));
        }
        let witness = reader.offset(Lsn(behind.witness));
        let what = format_args!("frame is damaged, and the one at offset {witness} says that it was durable");
        Err(Error::corruption(reader.name(), reader.offset(end), what))
    }
}

impl<E: Env> States for ManifestView<E> {
    fn show(&self, look: &mut dyn FnMut(&ManifestState)) {
        self.with(look);
    }

    fn refresh(&self) -> Result<()> {
        ManifestView::refresh(self)
    }
}

impl<E: Env> std::fmt::Debug for ManifestView<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManifestView({})", self.dir.display())
    }
}
