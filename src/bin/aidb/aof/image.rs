//! The bytes of a segment, wherever they lie: a segment file, or the object that an archive holds in its place.

use super::place::words;
use aidb::aof::KeyRing;
use aidb::aof::archive::object::ObjectReader;
use aidb::aof::archive::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use aidb::aof::read::ReadAt;
use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the magic of a segment or an object begins.
const MAGIC_AT: u64 = 4;
const OBJECT_MAGIC: &[u8] = b"AiDbObj";
const WINDOW_BYTES: usize = 1 << 20;

/// A segment to be read from front to back.
pub(super) struct Image {
    source: Box<dyn ReadAt>,
    /// Where the window begins, and its bytes.
    window: RefCell<(u64, Vec<u8>)>,
}

impl Image {
    /// Opens a segment file, or the image of an archived segment, whose blocks are decrypted with `keys`.
    pub(super) fn open(path: &Path, keys: Option<&KeyRing>) -> Result<Image, String> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        let file = LocalFile { file, path: path.to_path_buf(), bytes };
        let mut magic = [0; OBJECT_MAGIC.len()];
        let read = file.read_at(&mut magic, MAGIC_AT).map_err(words)?;
        let source: Box<dyn ReadAt> = if magic[..read] == *OBJECT_MAGIC {
            let key = path.to_string_lossy();
            Box::new(ObjectReader::open(Arc::new(OneObject(file)), &key, bytes, keys).map_err(words)?)
        } else {
            Box::new(file)
        };
        Ok(Image { source, window: RefCell::default() })
    }

    /// Returns up to `len` bytes at `offset`; fewer only at the end.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        // What is asked for is bounded by what there is.
        let len = len.min(usize::try_from(self.bytes().saturating_sub(offset)).unwrap_or(usize::MAX));
        let (start, window) = &mut *self.window.borrow_mut();
        let inside = |start: u64, window: &[u8]| {
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            window.get(at..at.checked_add(len)?).map(<[u8]>::to_vec)
        };
        if let Some(bytes) = inside(*start, window) {
            return Ok(bytes);
        }
        let mut fresh = std::mem::take(window);
        fresh.resize(len.max(WINDOW_BYTES), 0);
        let read = self.source.read_at(&mut fresh, offset).map_err(words)?;
        fresh.truncate(read);
        (*start, *window) = (offset, fresh);
        Ok(window[..len.min(read)].to_vec())
    }

    /// Returns how many bytes there are.
    pub(super) fn bytes(&self) -> u64 {
        self.source.bytes()
    }
}

#[derive(Debug)]
struct LocalFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl ReadAt for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> aidb::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(aidb::Error::io("read", &self.path, error)),
            }
        }
        Ok(done)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn name(&self) -> &Path {
        &self.path
    }
}

/// A store of the one object that a file holds, under whatever key, for reading.
#[derive(Debug)]
struct OneObject(LocalFile);

impl OneObject {
    fn refuse<T>(&self) -> aidb::Result<T> {
        let error = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(aidb::Error::io("change", &self.0.path, error))
    }
}

impl ArchiveStorage for OneObject {
    fn put_new(&self, _key: &str, _source: &dyn ObjectSource) -> aidb::Result<PutOutcome> {
        self.refuse()
    }

    fn head(&self, _key: &str) -> aidb::Result<Option<u64>> {
        Ok(Some(self.0.bytes))
    }

    fn read(&self, _key: &str, range: Range<u64>) -> aidb::Result<Vec<u8>> {
        let end = range.end.min(self.0.bytes);
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(range.start)).unwrap_or(0)];
        let read = self.0.read_at(&mut bytes, range.start)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn list(&self, _prefix: &str) -> aidb::Result<Vec<ObjectInfo>> {
        self.refuse()
    }

    fn delete(&self, _key: &str) -> aidb::Result<()> {
        self.refuse()
    }
}
