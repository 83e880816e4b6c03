//! Reading archived segments: [`Remote`], which finds and opens them for a
//! [`JoinedChain`].
//!
//! Called by cursors on any thread. A segment is read as a local one is, over the image that its object holds; blocks come from the cache, or from the archive with as many of the next ones as the reader's pace
//! suggests: 1 after a jump, twice as many with each read that goes on where the last one ended, 16 (1 MiB) at most.
//!
//! **Invariants**
//! - A segment has one image while anyone holds it, and its object is not deleted as long.
//! - No segment is opened once its object is to be deleted.
//! - An object that is missing or damaged fails the reads that need its bytes, naming its key, and nothing else.

use super::ArchiveStorage;
use super::cache::{BlockCache, CacheStats};
use super::format::BLOCK_BYTES;
use super::object::ObjectReader;
use super::verify::verify_object;
use crate::aof::KeyRing;
use crate::aof::chain::{At, Chain, LogChain, Span};
use crate::aof::joined::{Archived, JoinedChain};
use crate::aof::log::Log;
use crate::aof::manifest::{SegmentEntry, SegmentStatus, States};
use crate::aof::read::ReadAt;
use crate::aof::verify::VerifyReport;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Env, Mutex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Weak};

/// Most blocks read ahead with one read of the archive.
const AHEAD_BLOCKS_MAX: u64 = 16;

/// Who reads what.
struct Open<E: Env> {
    images: BTreeMap<u64, Weak<Image<E>>>,
    /// How many threads are opening a segment or looking at its object.
    opening: BTreeMap<u64, usize>,
    /// Segments below this are not opened any more.
    closed_below: u64,
}

/// The archived segments of one store.
pub struct Remote<E: Env> {
    env: E,
    storage: Arc<dyn ArchiveStorage>,
    keys: Option<KeyRing>,
    manifest: Arc<dyn States>,
    cache: Arc<BlockCache<E>>,
    open: Arc<Mutex<E, Open<E>>>,
}

impl<E: Env> Remote<E> {
    /// Reads the segments that `manifest` says are in `storage`, with `keys`, keeping up to `cache_bytes` of decoded blocks.
    pub fn new(
        env: E,
        storage: Arc<dyn ArchiveStorage>,
        keys: Option<KeyRing>,
        manifest: Arc<dyn States>,
        cache_bytes: usize,
    ) -> Arc<Remote<E>> {
        let open = Open { images: BTreeMap::new(), opening: BTreeMap::new(), closed_below: 0 };
        let cache = Arc::new(BlockCache::new(cache_bytes));
        let open = Arc::new(Mutex::<E, _>::new(open));
        Arc::new(Remote { env, storage, keys, manifest, cache, open })
    }

    /// Returns the archive.
    pub fn storage(&self) -> &Arc<dyn ArchiveStorage> {
        &self.storage
    }

    /// Returns how the cache fared.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Keeps the object of segment `number` from being deleted.
    fn hold(&self, number: u64) -> Result<Held<'_, E>> {
        let mut open = self.open.lock();
        if number < open.closed_below {
            return Err(gone(number));
        }
        *open.opening.entry(number).or_insert(0) += 1;
        Ok(Held { open: &self.open, number })
    }

    /// Opens the image of the archived segment `number`, or returns the one that exists.
    fn image(&self, number: u64) -> Result<Arc<Image<E>>> {
        let _held = self.hold(number)?;
        if let Some(image) = self.open.lock().images.get(&number).and_then(Weak::upgrade) {
            return Ok(image);
        }
        let entry = self.manifest.with(|state| state.entries.get(&number).filter(|entry| is_archived(entry)).cloned());
        let opened = entry.ok_or_else(|| gone(number)).and_then(|entry| self.open_entry(entry));
        let mut open = self.open.lock();
        // Another thread may have been faster.
        let image = match open.images.get(&number).and_then(Weak::upgrade) {
            Some(image) => image,
            None => Arc::new(opened?),
        };
        open.images.retain(|_, image| image.strong_count() > 0);
        open.images.insert(number, Arc::downgrade(&image));
        Ok(image)
    }

    fn open_entry(&self, entry: SegmentEntry) -> Result<Image<E>> {
        let (key, bytes) = (&entry.archived_key, entry.archived_bytes);
        let opened = ObjectReader::open(self.storage.clone(), key, bytes, self.keys.as_ref());
        let object = opened.map_err(|error| missing(&entry, error))?;
        object.expect(&self.manifest.with(|state| state.log_id), entry.number)?;
        if object.image_crc64() != entry.original_crc64 || object.bytes() != entry.original_bytes {
            let what = "the object is another one than the manifest says: its checksum or length differs";
            return Err(Error::corruption(Path::new(key), 0, what));
        }
        self.env.reached("aof.archived_read");
        let pace = Mutex::<E, _>::new(Pace { next: 0, blocks: 1 });
        Ok(Image { cache: self.cache.clone(), open: self.open.clone(), object, entry, pace })
    }

    /// Returns true if segment `number` is in the archive, to be read.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.manifest.with(|state| state.entries.get(&number).is_some_and(is_archived))
    }

    /// Returns what `error` is if another process, which knows nothing of readers here, has deleted the object meanwhile.
    fn unless_gone(&self, number: u64, error: Error) -> Error {
        match self.manifest.refresh() {
            Ok(()) if !self.has(number) => gone(number),
            _ => error,
        }
    }

    /// Reads the whole object of the archived segment `number`, past the cache, and checks every byte of it; adds what is
    /// damaged to `report`, and returns true if nothing is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the segment is not archived or is being deleted;
    /// [`EncryptionError`](crate::aof::AofError::EncryptionError) if the key is missing or another one; the archive could not be asked.
    pub(crate) fn verify(&self, number: u64, report: &mut VerifyReport) -> Result<bool> {
        let _held = self.hold(number)?;
        let is_wanted = |entry: &&SegmentEntry| is_archived(entry);
        let found = self.manifest.with(|state| {
            let entry = state.entries.get(&number).filter(is_wanted).cloned();
            entry.map(|entry| (entry, state.log_id))
        });
        let (entry, log_id) = found.ok_or_else(|| gone(number))?;
        let mut looked = VerifyReport { objects: 1, ..VerifyReport::default() };
        match verify_object(&self.storage, &entry, &log_id, self.keys.as_ref()) {
            Ok(found) => looked.faults = found,
            Err(error) => looked.note(missing(&entry, error))?,
        }
        let is_clean = looked.is_clean();
        // Another process, which knows nothing of readers here, may have deleted it meanwhile.
        if !is_clean && self.manifest.refresh().is_ok() && !self.has(number) {
            return Err(gone(number));
        }
        report.merge(looked);
        Ok(is_clean)
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

/// Keeps an object from being deleted while it is opened or looked at.
struct Held<'r, E: Env> {
    open: &'r Mutex<E, Open<E>>,
    number: u64,
}

impl<E: Env> Drop for Held<'_, E> {
    fn drop(&mut self) {
        // During a panic nothing is certain, not even that the lock is free: the object then stays until the next open.
        if std::thread::panicking() {
            return;
        }
        let mut open = self.open.lock();
        let count = open.opening.get_mut(&self.number).unwrap_or_else(|| unreachable!("it is held"));
        *count -= 1;
        if *count == 0 {
            open.opening.remove(&self.number);
        }
    }
}

fn gone(number: u64) -> Error {
    Error::not_found(format_args!("segment {number} is not in the archive"))
}

fn is_read<E: Env>(open: &Open<E>, number: u64) -> bool {
    open.opening.contains_key(&number) || open.images.get(&number).is_some_and(|image| image.strong_count() > 0)
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
    cache: Arc<BlockCache<E>>,
    open: Arc<Mutex<E, Open<E>>>,
    object: ObjectReader,
    entry: SegmentEntry,
    pace: Mutex<E, Pace>,
}

impl<E: Env> Image<E> {
    /// Returns which blocks to read from the archive when the first one of `wanted` is missing.
    fn ahead(&self, wanted: &Range<u64>) -> Range<u64> {
        let cached = (self.cache.bytes_max() / BLOCK_BYTES / 2) as u64;
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
        let (cache, number) = (&self.cache, self.entry.number);
        if let Some(block) = cache.get(number, wanted.start) {
            return Ok(vec![block]);
        }
        let ahead = self.ahead(&wanted);
        let stop = (ahead.start + 1..ahead.end).find(|block| cache.contains(number, *block)).unwrap_or(ahead.end);
        let read = self.object.read_blocks(ahead.start..stop).map_err(|error| missing(&self.entry, error))?;
        assert_eq!(read.len() as u64, stop - ahead.start, "each block asked for came");
        let readers: Vec<u64> = {
            let open = self.open.lock();
            open.images.keys().copied().filter(|number| is_read(&open, *number)).collect()
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

/// A store without an archive.
struct Nowhere(Arc<dyn States>);

impl Archived for Nowhere {
    fn first_id(&self) -> u64 {
        self.0.with(|state| state.first_id)
    }

    fn locate(&self, _at: At) -> Option<Span> {
        None
    }

    fn open(&self, number: u64) -> Result<Box<dyn ReadAt>> {
        Err(Error::not_found(format_args!("segment {number} is not in an archive")))
    }
}

/// Returns the segments of `log`, with those before them that `manifest` says are archived, readable through `remote`.
pub fn chain<E: Env>(log: Log<E>, manifest: Arc<dyn States>, remote: Option<Arc<Remote<E>>>) -> JoinedChain<E> {
    joined(log.env().clone(), Arc::new(LogChain(log)), manifest, remote)
}

/// Returns the segments of `local`, with those before them that `manifest` says are archived, readable through `remote`.
pub fn joined<E: Env>(
    env: E,
    local: Arc<dyn Chain<E>>,
    manifest: Arc<dyn States>,
    remote: Option<Arc<Remote<E>>>,
) -> JoinedChain<E> {
    let archived: Arc<dyn Archived> = match remote {
        Some(remote) => remote,
        None => Arc::new(Nowhere(manifest)),
    };
    JoinedChain::new(env, local, archived)
}

/// Returns an entry as a span.
pub fn span_of(entry: &SegmentEntry) -> Span {
    Span {
        number: entry.number,
        base_lsn: entry.base_lsn,
        end_lsn: Some(entry.end_lsn),
        base_id: entry.base_id,
        base_ts: entry.base_ts,
        salt: [0; 16],
    }
}

impl<E: Env> Archived for Remote<E> {
    fn first_id(&self) -> u64 {
        self.manifest.with(|state| state.first_id)
    }

    fn locate(&self, at: At) -> Option<Span> {
        self.manifest.with(|state| {
            // Of what is truncated the local part goes first, which would leave a hole.
            let is_shown = |entry: &&SegmentEntry| is_archived(entry) && entry.next_id > state.first_id;
            let first = state.kept().find(is_shown)?.number;
            let last = state.kept().rfind(is_shown)?.number;
            // Numbered without a gap.
            let span = |index: usize| match state.entries.get(&(first + index as u64)) {
                Some(entry) => span_of(entry),
                None => unreachable!("entries leave no gap"),
            };
            at.index_in((last - first + 1) as usize, span).map(span)
        })
    }

    fn open(&self, number: u64) -> Result<Box<dyn ReadAt>> {
        self.manifest.refresh()?;
        match self.image(number) {
            Err(error) if error.is_corruption() => Err(self.unless_gone(number, error)),
            image => Ok(Box::new(image?)),
        }
    }
}
