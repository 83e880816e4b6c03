//! Reading one segment, wherever it lies: [`ReadAt`], and [`SegmentReader`] over it.
//!
//! A local segment file and the image of an archived one are read by the same code through [`ReadAt`]. Readers are shared:
//! [`Log::open_segment`](super::log::Log::open_segment) hands out the one that exists while anyone holds it, and the log
//! does not write over a file that is being read (R11): it unlinks it, and the reader keeps its bytes.
//!
//! Called on any thread; reads take no lock of the writer's.
//!
//! **Invariant:** bytes before the end of a sealed segment, or before what is written of the active one, never change as
//! long as a reader is held.

use super::chain::Span;
use super::crypt::{KeyRing, SegmentKey, segment_key};
use super::format::{Fault, FrameKind, HEADER_BYTES, SegmentHeader};
use super::index::format::{FOOTER_LEN_BYTES, Footer, footer_start};
use super::lookup::Lookup;
use super::names::segment_name;
use super::scan::FrameReader;
use super::types::Lsn;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, Mutex, OpenMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Bytes that can be read at any place: a segment file, or the image of an archived segment.
pub trait ReadAt: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end.
    ///
    /// # Errors
    /// What reading met, naming the file or object.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// Returns how many bytes there were when it was opened; a segment being written may have grown.
    fn bytes(&self) -> u64;

    /// Returns the file's path or the object's key, for errors.
    fn name(&self) -> &Path;
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        (**self).read_at(buffer, offset)
    }
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }
    fn name(&self) -> &Path {
        (**self).name()
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Arc<R> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        (**self).read_at(buffer, offset)
    }
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }
    fn name(&self) -> &Path {
        (**self).name()
    }
}

/// Fills `buffer` from `offset` of `file`; returns less only at its end.
fn fill<F: DiskFile>(file: &F, path: &Path, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path, error)),
        }
    }
    Ok(done)
}

/// A file that someone else holds open.
pub(super) struct BorrowedFile<'f, E: Env> {
    pub(super) file: &'f FileOf<E>,
    pub(super) path: &'f Path,
    pub(super) bytes: u64,
}

impl<E: Env> ReadAt for BorrowedFile<'_, E> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        fill(self.file, self.path, buffer, offset)
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn name(&self) -> &Path {
        self.path
    }
}

/// A local file open for reading.
pub(super) struct LocalFile<E: Env> {
    file: FileOf<E>,
    path: PathBuf,
    bytes: u64,
}

impl<E: Env> LocalFile<E> {
    pub(super) fn open(env: &E, path: &Path) -> Result<LocalFile<E>> {
        let opened = env.disk().open(path, OpenMode::Read).and_then(|file| Ok((file.len()?, file)));
        let (bytes, file) = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format_args!("{} is not there", path.display())),
            _ => Error::io("open", path, error),
        })?;
        Ok(LocalFile { file, path: path.to_path_buf(), bytes })
    }
}

impl<E: Env> ReadAt for LocalFile<E> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        fill(&self.file, &self.path, buffer, offset)
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn name(&self) -> &Path {
        &self.path
    }
}

/// Marks an end that is not known yet in [`SegmentReader`]; no position is as high.
const OPEN_END: u64 = u64::MAX;

/// One segment, open for reading.
pub struct SegmentReader<E: Env> {
    env: E,
    source: Box<dyn ReadAt>,
    header: SegmentHeader,
    end: AtomicU64,
    lookup: Mutex<E, Option<Arc<Lookup>>>,
    key: Option<Arc<SegmentKey>>,
}

impl<E: Env> SegmentReader<E> {
    /// Opens the segment in `source`, which must be number `number` and, unless it is being written, end at `end`; `keys` has
    /// its key if it is encrypted.
    ///
    /// # Errors
    /// [`EncryptionError`](super::AofError::EncryptionError) for a key that is missing or another one;
    /// [`Corruption`](crate::ErrorKind::Corruption) if its header is bad or of another segment; what reading met.
    pub fn new(
        env: E,
        source: Box<dyn ReadAt>,
        number: u64,
        end: Option<Lsn>,
        keys: Option<&KeyRing>,
    ) -> Result<SegmentReader<E>> {
        let header = read_header(&*source)?;
        let header =
            header.map_err(|fault| Error::corruption(source.name(), 0, format_args!("segment header {fault}")))?;
        if header.segment_no != number {
            let what = format_args!("segment header has number {}, expected {number}", header.segment_no);
            return Err(Error::corruption(source.name(), 0, what));
        }
        if end.is_some_and(|end| end.0 < header.base_lsn) {
            return Err(Error::corruption(source.name(), 0, "the segment begins after its end"));
        }
        let key = segment_key(keys, &header, source.name())?.map(Arc::new);
        let end = AtomicU64::new(end.map_or(OPEN_END, |end| end.0));
        Ok(SegmentReader { env, source, header, end, lookup: Mutex::<E, _>::new(None), key })
    }

    /// Opens the segment file `number` in `dir`.
    pub(super) fn open_local(
        env: &E,
        dir: &Path,
        number: u64,
        end: Option<Lsn>,
        keys: Option<&KeyRing>,
    ) -> Result<SegmentReader<E>> {
        let file = LocalFile::open(env, &dir.join(segment_name(number)))?;
        SegmentReader::new(env.clone(), Box::new(file), number, end, keys)
    }

    /// Returns the segment's header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Returns true if this is the file that `span` tells of, not one that was replaced by another of the same number.
    pub(super) fn is_of(&self, span: &Span) -> bool {
        span.salt == [0; 16] || span.salt == self.header.salt
    }

    /// Returns where the segment ends, or none while it is being written.
    pub fn end_lsn(&self) -> Option<Lsn> {
        let end = self.end.load(Ordering::Acquire);
        (end != OPEN_END).then_some(Lsn(end))
    }

    /// Notes that the segment ends at `end`; an end never changes.
    pub(super) fn seal(&self, end: Lsn) {
        let before = self.end.swap(end.0, Ordering::AcqRel);
        assert!(before == OPEN_END || before == end.0, "a segment ends once");
    }

    /// Returns the offset of `lsn` in the file or image.
    pub fn offset(&self, lsn: Lsn) -> u64 {
        assert!(lsn.0 >= self.header.base_lsn, "a position lies in its segment");
        HEADER_BYTES as u64 + (lsn.0 - self.header.base_lsn)
    }

    /// Returns a reader of the frames from `from`, where one begins, that end at or before `limit`.
    pub(super) fn frames(self: &Arc<Self>, from: u64, limit: u64) -> FrameReader<E, Arc<SegmentReader<E>>> {
        FrameReader::new(&self.env, self.clone(), &self.header, u64::MAX, from, limit).with_key(self.key.clone())
    }

    /// Returns the footer of the segment, which ends at `end`, and where its frame begins; none if it has none that is good.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    pub(super) fn footer(self: &Arc<Self>, end: Lsn) -> Result<Option<(Lsn, Footer)>> {
        let mut last = [0; FOOTER_LEN_BYTES];
        let stop = self.offset(end);
        if self.source.read_at(&mut last, stop.saturating_sub(FOOTER_LEN_BYTES as u64))? < last.len() {
            return Ok(None);
        }
        let start = footer_start(last, stop).filter(|start| *start >= HEADER_BYTES as u64);
        let Some(start) = start else { return Ok(None) };
        let from = self.header.base_lsn + (start - HEADER_BYTES as u64);
        let mut frames = self.frames(from, end.0);
        Ok(match frames.advance()? {
            Some(Ok(header)) if header.kind == FrameKind::Footer => {
                Footer::decode(frames.payload(), self.header.base_lsn).ok().map(|footer| (Lsn(from), footer))
            }
            _ => None,
        })
    }

    /// Returns the sparse index of the segment, which ends at `end`.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`]; damage that a scan meets.
    pub(super) fn lookup(self: &Arc<Self>, end: Lsn) -> Result<Arc<Lookup>> {
        if let Some(lookup) = &*self.lookup.lock() {
            return Ok(lookup.clone());
        }
        let from_footer = self.footer(end)?.map(|(_, footer)| Lookup::new(footer.index));
        let built = match from_footer {
            Some(lookup) => lookup,
            None => Lookup::scan(&mut self.frames(self.header.base_lsn, end.0))?,
        };
        let built = Arc::new(built);
        // Two threads may have built it: they agree.
        Ok(self.lookup.lock().get_or_insert(built).clone())
    }
}

impl<E: Env> ReadAt for SegmentReader<E> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.source.read_at(buffer, offset)
    }
    fn bytes(&self) -> u64 {
        self.source.bytes()
    }
    fn name(&self) -> &Path {
        self.source.name()
    }
}

impl<E: Env> std::fmt::Debug for SegmentReader<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentReader({}, {:?})", self.name().display(), self.end_lsn())
    }
}

/// Reads the segment header at the start of `source`.
pub(super) fn read_header(source: &dyn ReadAt) -> Result<Result<SegmentHeader, Fault>> {
    let mut bytes = vec![0; HEADER_BYTES];
    let have = source.read_at(&mut bytes, 0)?;
    Ok(if have < HEADER_BYTES { Err(Fault::Short) } else { SegmentHeader::decode(&bytes) })
}
