//! Reading archived segments: [`Remote`], which opens them, and [`ArchiveChain`], which puts them before the local ones.
//!
//! Called by cursors on any thread. A segment is read through the same [`SegmentReader`] as a local one, over the image that
//! its object holds; blocks come from the cache, or from the archive with as many of the next ones as the reader's pace
//! suggests: 1 after a jump, twice as many with each read that goes on where the last one ended, 16 (1 MiB) at most.
//!
//! **Invariants**
//! - A segment has one reader while anyone holds it, and its object is not deleted as long.
//! - No segment is opened once its object is to be deleted.
//! - An object that is missing or damaged fails the reads that need its bytes, naming its key, and nothing else.

use super::ArchiveStorage;
use super::cache::{BlockCache, CacheStats};
use super::format::BLOCK_BYTES;
use super::object::ObjectReader;
use crate::aof::KeyRing;
use crate::aof::chain::{At, Chain, First, LogChain, Span, Visibility, Waited};
use crate::aof::log::Log;
use crate::aof::manifest::{Manifest, ManifestState, SegmentEntry, SegmentStatus};
use crate::aof::read::{ReadAt, SegmentReader};
use crate::aof::types::Lsn;
use crate::aof::watch::Watch;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Env, Mutex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Most blocks read ahead with one read of the archive.
const AHEAD_BLOCKS_MAX: u64 = 16;

/// Who reads what.
struct Open<E: Env> {
    readers: BTreeMap<u64, Weak<SegmentReader<E>>>,
    /// How many threads are opening a segment.
    opening: BTreeMap<u64, usize>,
    /// Segments below this are not opened any more.
    closed_below: u64,
}

/// The archived segments of one store.
pub struct Remote<E: Env> {
    env: E,
    storage: Arc<dyn ArchiveStorage>,
    keys: Option<KeyRing>,
    manifest: Arc<Manifest<E>>,
    cache: BlockCache<E>,
    open: Mutex<E, Open<E>>,
}

impl<E: Env> Remote<E> {
    /// Reads the segments that `manifest` says are in `storage`, with `keys`, keeping up to `cache_bytes` of decoded blocks.
    pub fn new(
        env: E,
        storage: Arc<dyn ArchiveStorage>,
        keys: Option<KeyRing>,
        manifest: Arc<Manifest<E>>,
        cache_bytes: usize,
    ) -> Arc<Remote<E>> {
        let open = Open { readers: BTreeMap::new(), opening: BTreeMap::new(), closed_below: 0 };
        let cache = BlockCache::new(cache_bytes);
        Arc::new(Remote { env, storage, keys, manifest, cache, open: Mutex::<E, _>::new(open) })
    }

    /// Returns the archive.
    pub fn storage(&self) -> &Arc<dyn ArchiveStorage> {
        &self.storage
    }

    /// Returns how the cache fared.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Opens the archived segment `number`, or returns the reader that exists.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is not archived, or no longer kept; [`Corruption`](ErrorKind::Corruption) names
    /// the object's key if it is missing or damaged; what the archive met.
    pub fn open(self: &Arc<Self>, number: u64) -> Result<Arc<SegmentReader<E>>> {
        let gone = || Error::not_found(format_args!("segment {number} is not in the archive"));
        {
            let mut open = self.open.lock();
            if number < open.closed_below {
                return Err(gone());
            }
            if let Some(reader) = open.readers.get(&number).and_then(Weak::upgrade) {
                return Ok(reader);
            }
            *open.opening.entry(number).or_insert(0) += 1;
        }
        let entry = self.manifest.state().entries.get(&number).filter(|entry| is_archived(entry)).cloned();
        let opened = entry.ok_or_else(gone).and_then(|entry| self.open_entry(&entry));
        let mut open = self.open.lock();
        if let Some(count) = open.opening.get_mut(&number) {
            *count -= 1;
        }
        open.opening.retain(|_, count| *count > 0);
        // Another thread may have been faster: there is one reader of a segment.
        let existing = open.readers.get(&number).and_then(Weak::upgrade);
        let reader = match existing {
            Some(reader) => reader,
            None => opened?,
        };
        open.readers.retain(|_, reader| reader.strong_count() > 0);
        open.readers.insert(number, Arc::downgrade(&reader));
        Ok(reader)
    }

    fn open_entry(self: &Arc<Self>, entry: &SegmentEntry) -> Result<Arc<SegmentReader<E>>> {
        let (key, bytes) = (&entry.archived_key, entry.archived_bytes);
        let opened = ObjectReader::open(self.storage.clone(), key, bytes, self.keys.as_ref());
        let object = opened.map_err(|error| missing(entry, error))?;
        object.expect(&self.manifest.state().log_id, entry.number)?;
        if object.image_crc64() != entry.original_crc64 || object.bytes() != entry.original_bytes {
            let what = "the object is another one than the manifest says: its checksum or length differs";
            return Err(Error::corruption(Path::new(key), 0, what));
        }
        let image = Image {
            remote: self.clone(),
            object,
            entry: entry.clone(),
            pace: Mutex::<E, _>::new(Pace { next: 0, blocks: 1 }),
        };
        let reader = SegmentReader::new(self.env.clone(), Box::new(image), entry.number, Some(entry.end_lsn), None)?;
        Ok(Arc::new(reader))
    }

    /// Lets no one open segments up to `number` any more; returns false if someone still reads it.
    pub(super) fn close(&self, number: u64) -> bool {
        let mut open = self.open.lock();
        open.closed_below = open.closed_below.max(number + 1);
        let is_free = !is_read(&open, number);
        drop(open);
        if is_free {
            self.cache.forget(number);
        }
        is_free
    }
}

fn is_read<E: Env>(open: &Open<E>, number: u64) -> bool {
    open.opening.contains_key(&number) || open.readers.get(&number).is_some_and(|reader| reader.strong_count() > 0)
}

fn is_archived(entry: &SegmentEntry) -> bool {
    matches!(entry.status, SegmentStatus::Archived | SegmentStatus::LocalDeleted)
}

/// Names the object that is not there.
fn missing(entry: &SegmentEntry, error: Error) -> Error {
    if *error.kind() != ErrorKind::NotFound {
        return error;
    }
    let (number, ids) = (entry.number, entry.base_id..entry.next_id);
    let what = format_args!("the object is missing from the archive; it held segment {number} with records {ids:?}");
    Error::corruption(Path::new(&entry.archived_key), 0, what)
}

impl<E: Env> std::fmt::Debug for Remote<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("storage", &self.storage).field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// How a segment is being read.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The block after the last one read.
    next: u64,
    /// How many are read at once if it goes on there.
    blocks: u64,
}

/// The image of an archived segment, read through the cache.
struct Image<E: Env> {
    remote: Arc<Remote<E>>,
    object: ObjectReader,
    entry: SegmentEntry,
    pace: Mutex<E, Pace>,
}

impl<E: Env> Image<E> {
    /// Returns which blocks to read from the archive when the first one of `wanted` is missing.
    fn ahead(&self, wanted: &Range<u64>) -> Range<u64> {
        let cached = (self.remote.cache.bytes_max() / BLOCK_BYTES / 2) as u64;
        let mut pace = self.pace.lock();
        pace.blocks = if pace.next == wanted.start { (2 * pace.blocks).min(AHEAD_BLOCKS_MAX) } else { 1 };
        // More than the cache holds would be read twice.
        let count = pace.blocks.min(cached).max(wanted.end - wanted.start).min(AHEAD_BLOCKS_MAX);
        let end = (wanted.start + count).min(self.object.blocks());
        pace.next = end;
        wanted.start..end
    }

    /// Reads the first blocks of `wanted`, at least one.
    fn blocks(&self, wanted: Range<u64>) -> Result<Vec<Bytes>> {
        let (cache, number) = (&self.remote.cache, self.entry.number);
        if let Some(block) = cache.get(number, wanted.start) {
            return Ok(vec![block]);
        }
        let ahead = self.ahead(&wanted);
        let stop = (ahead.start + 1..ahead.end).find(|block| cache.contains(number, *block)).unwrap_or(ahead.end);
        let read = self.object.read_blocks(ahead.start..stop).map_err(|error| missing(&self.entry, error))?;
        assert_eq!(read.len() as u64, stop - ahead.start, "each block asked for came");
        let readers: Vec<u64> = {
            let open = self.remote.open.lock();
            open.readers.keys().copied().filter(|number| is_read(&open, *number)).collect()
        };
        for (block, bytes) in (ahead.start..).zip(&read) {
            cache.put(number, block, bytes.clone(), &|segment| readers.binary_search(&segment).is_ok());
        }
        Ok(read)
    }
}

impl<E: Env> ReadAt for Image<E> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let size = BLOCK_BYTES as u64;
        let room = self.object.bytes().saturating_sub(offset);
        let wanted = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let end = offset + wanted as u64;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            for block in self.blocks(at / size..end.div_ceil(size))? {
                let skip = ((offset + done as u64) % size) as usize;
                let count = block.len().saturating_sub(skip).min(wanted - done);
                buffer[done..done + count].copy_from_slice(&block[skip..skip + count]);
                done += count;
                if done == wanted {
                    break;
                }
            }
        }
        Ok(wanted)
    }

    fn bytes(&self) -> u64 {
        self.object.bytes()
    }

    fn name(&self) -> &Path {
        self.object.name()
    }
}

/// The segments of a log that is being written, archived ones first.
///
/// The first record is the manifest's, or the first one there is.
pub struct ArchiveChain<E: Env> {
    log: Log<E>,
    local: LogChain<E>,
    manifest: Arc<Manifest<E>>,
    remote: Option<Arc<Remote<E>>>,
}

impl<E: Env> ArchiveChain<E> {
    /// Puts what `manifest` says is archived, readable through `remote`, before the segments of `log`.
    pub fn new(log: Log<E>, manifest: Arc<Manifest<E>>, remote: Option<Arc<Remote<E>>>) -> ArchiveChain<E> {
        ArchiveChain { local: LogChain(log.clone()), log, manifest, remote }
    }

    /// Returns the archived segment at `at`, if all local ones, the oldest of which is `oldest`, are behind it.
    fn locate_archived(&self, state: &ManifestState, oldest: &Span, at: At) -> Option<Span> {
        if begins_before(oldest, at) {
            return None;
        }
        let mut archived = state.kept().filter(|entry| entry.number < oldest.number && is_archived(entry));
        let first = archived.next()?.number;
        let count = oldest.number - first;
        let span = |index: usize| state.entries.get(&(first + index as u64)).map(span_of).unwrap_or(*oldest);
        at.index_in(count as usize, span).map(span)
    }
}

/// Returns true if `at` is in `span` or behind it.
fn begins_before(span: &Span, at: At) -> bool {
    match at {
        At::First => false,
        At::Number(number) => span.number <= number,
        At::Lsn(lsn) => span.base_lsn <= lsn,
        At::Id(id) => span.base_id <= id,
        At::Time(ts) => span.base_ts < ts,
    }
}

/// Returns an entry as a span.
pub fn span_of(entry: &SegmentEntry) -> Span {
    Span {
        number: entry.number,
        base_lsn: entry.base_lsn,
        end_lsn: Some(entry.end_lsn),
        base_id: entry.base_id,
        base_ts: entry.base_ts,
    }
}

impl<E: Env> Chain<E> for ArchiveChain<E> {
    fn first(&self) -> Result<First> {
        let first_id = self.manifest.state().first_id;
        let span = self.locate(At::First)?;
        let first = span.map_or(First::default(), |span| First { lsn: span.base_lsn, id: span.base_id });
        Ok(First { id: first.id.max(first_id), ..first })
    }

    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        self.local.visible(visibility)
    }

    fn locate(&self, at: At) -> Result<Option<Span>> {
        // Local segments first: one that has gone meanwhile was committed as archived before.
        let Some(oldest) = self.local.locate(At::First)? else { return Ok(None) };
        let archived = self.locate_archived(&self.manifest.state(), &oldest, at);
        if archived.is_some() {
            return Ok(archived);
        }
        let found = self.local.locate(at)?;
        // The oldest local one may have gone in between: the archived one is the same.
        let has_gone = begins_before(&oldest, at) && !found.is_some_and(|found| begins_before(&found, at));
        Ok(match at {
            At::Number(number) if has_gone => Some(oldest).filter(|oldest| oldest.number == number),
            _ if has_gone => Some(oldest),
            _ => found,
        })
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        let local = match self.local.open(span) {
            Err(error) => error,
            opened => return opened,
        };
        // Archived and unlinked, by the archiver or by somebody else.
        let archived = self.manifest.state().entries.get(&span.number).is_some_and(is_archived);
        match &self.remote {
            Some(remote) if archived => remote.open(span.number),
            None if archived => {
                let what =
                    format_args!("segment {} is archived and no archive is configured: set archive", span.number);
                Err(Error::invalid_argument(what))
            }
            _ => Err(local),
        }
    }

    fn hint(&self, at: At) -> Option<Lsn> {
        self.local.hint(at)
    }

    fn is_current(&self, reader: &SegmentReader<E>) -> Result<bool> {
        self.local.is_current(reader)
    }

    fn is_open(&self) -> Result<bool> {
        self.local.is_open()
    }

    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        self.local.wait(seen, visibility, timeout)
    }

    fn watch(&self) -> Option<&Watch<E>> {
        Some(self.log.watch())
    }
}
