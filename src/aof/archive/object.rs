//! Archived objects: [`ObjectWriter`], which makes one of a segment, and [`ObjectReader`], which reads any part of one.
//!
//! Called by the store's background thread (writing, verification) and by cursors (reading), one thread at a time for a
//! writer and any number for a reader. The bytes are those of [`format`](mod@super::format).
//!
//! A writer streams into a temporary file, because an object's length must be known before it is put; it holds a few blocks
//! and the index, 8 bytes a block. The file is not synced: one that a crash leaves is removed and made again. A reader holds
//! the index and nothing else; whoever wants blocks to stay keeps what [`ObjectReader::block`] returns.
//!
//! **Invariants**
//! - Every byte that a reader returns was checked: CRC-32C of its block, and with a key its tag.
//! - A reader asks the store for no more than the object holds, and allocates no more than a block for a block.
//! - An image is the same whether it was encrypted, compressed, both or neither.

use super::format::{
    self, BLOCK_BYTES, Block, Codec, OBJECT_BYTES_MIN, OBJECT_HEADER_BYTES, ObjectHeader, ObjectSummary, SEAL_NUMBER,
    SUMMARY_BYTES, TRAILER_BYTES, Trailer,
};
use super::{ArchiveStorage, ObjectSource};
use crate::aof::AofError;
use crate::aof::crypt::{KeyRing, SegmentKey, current_key, find_key};
use crate::aof::format::TAG_BYTES;
use crate::aof::manifest::SegmentEntry;
use crate::aof::read::ReadAt;
use crate::aof::segment::random_bytes;
use crate::base::checksum::Crc64;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode};
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a writer gathers before it writes.
const WRITE_BYTES: usize = 4 * BLOCK_BYTES;
/// How many blocks are read at once, where more than one is wanted.
const READ_BLOCKS: u64 = 16;
/// What is read of the end at first: trailer, summary, and the index of 128 MiB.
const END_BYTES: u64 = 16 << 10;

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// What a new object holds and how.
#[derive(Clone, Copy, Debug)]
pub struct ObjectSpec<'a> {
    /// The log's identity.
    pub log_id: [u8; 16],
    /// The segment's number.
    pub segment_no: u64,
    /// The segment's epoch.
    pub epoch: u64,
    /// Bytes of the image, all of which will be pushed.
    pub image_bytes: u64,
    /// Zstandard level 1..=22, or none for no compression.
    pub compression_level: Option<i32>,
    /// The keys, of which the current one is used, or none for no encryption.
    pub keys: Option<&'a KeyRing>,
}

/// Makes an object in a temporary file out of an image that is pushed front to back.
pub struct ObjectWriter<E: Env> {
    file: FileOf<E>,
    path: PathBuf,
    header: ObjectHeader,
    key: Option<SegmentKey>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    /// The image's bytes of the next block.
    block: Vec<u8>,
    /// A block compressed.
    packed: Vec<u8>,
    index: Vec<u8>,
    blocks: u64,
    /// Stored bytes that were not written yet, and where they go.
    out: Vec<u8>,
    written: u64,
    image_crc: Crc64,
    stored_crc: Crc64,
}

impl<E: Env> ObjectWriter<E> {
    /// Begins the object of `spec` in a new file at `path`; an old one is removed.
    ///
    /// # Errors
    /// [`CompressionError`](AofError::CompressionError) for a level that zstd does not know; what the disk met.
    pub fn create(env: &E, path: &Path, spec: &ObjectSpec<'_>) -> Result<ObjectWriter<E>> {
        let mut header = ObjectHeader {
            codec: if spec.compression_level.is_some() { Codec::Zstd } else { Codec::Raw },
            log_id: spec.log_id,
            segment_no: spec.segment_no,
            epoch: spec.epoch,
            salt: random_bytes(env),
            key_id: spec.keys.map_or(0, KeyRing::current),
            image_bytes: spec.image_bytes,
            ..ObjectHeader::default()
        };
        let key = spec.keys.map(|ring| current_key(ring, &header.key_scope()));
        header.key_check = key.as_ref().map(SegmentKey::check).unwrap_or_default();
        let compressor = spec.compression_level.map(zstd::bulk::Compressor::new).transpose();
        let compressor = compressor.map_err(|error| compression_error(path, 0, &error))?;
        remove_if_there(env, path)?;
        let opened = env.disk().open(path, OpenMode::CreateNew);
        let file = opened.map_err(|error| Error::io("create", path, error))?;
        let mut writer = ObjectWriter {
            file,
            path: path.to_path_buf(),
            header,
            key,
            compressor,
            block: Vec::with_capacity(BLOCK_BYTES),
            packed: vec![0; BLOCK_BYTES],
            index: Vec::new(),
            blocks: 0,
            out: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            image_crc: Crc64::new(),
            stored_crc: Crc64::new(),
        };
        writer.store(&header.encode())?;
        Ok(writer)
    }

    /// Adds the next bytes of the image.
    ///
    /// # Errors
    /// What the disk met.
    ///
    /// # Panics
    /// If there are more than the spec said.
    pub fn push(&mut self, mut image: &[u8]) -> Result<()> {
        while !image.is_empty() {
            let wanted = self.header.block_bytes(self.blocks);
            assert!(self.block.len() < wanted, "an image has the length that was said");
            let (now, later) = image.split_at(image.len().min(wanted - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == wanted {
                self.end_block()?;
            }
            image = later;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<()> {
        self.image_crc.update(&self.block);
        let mut packed = None;
        if let Some(compressor) = &mut self.compressor {
            // A block that does not become smaller does not fit, which is the one way this fails.
            let room = &mut self.packed[..self.block.len() - 1];
            packed = compressor.compress_to_buffer(&self.block, room).ok();
        }
        let content = match packed {
            Some(bytes) => &mut self.packed[..bytes],
            None => &mut self.block[..],
        };
        let mut stored_bytes = content.len();
        let start = self.out.len();
        match &self.key {
            None => self.out.extend_from_slice(content),
            Some(key) => {
                let tag = key.seal(self.blocks, &self.header.encode(), content);
                self.out.extend_from_slice(content);
                self.out.extend_from_slice(&tag);
                stored_bytes += TAG_BYTES;
            }
        }
        let stored = &self.out[start..];
        assert_eq!(stored.len(), stored_bytes, "a block is content and tag");
        self.stored_crc.update(stored);
        let crc = self.header.block_crc(self.blocks, stored);
        format::put_entry(&mut self.index, stored_bytes as u32, packed.is_none(), crc);
        self.blocks += 1;
        self.block.clear();
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn store(&mut self, bytes: &[u8]) -> Result<()> {
        self.stored_crc.update(bytes);
        self.out.extend_from_slice(bytes);
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.out, self.written).map_err(|error| Error::io("write", &self.path, error))?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Gives up; the temporary file goes. One that cannot be removed goes when the directory is opened next.
    pub fn abandon(self, env: &E) {
        drop(self.file);
        let _ = env.disk().remove(&self.path);
    }

    /// Ends the object with `summary` and returns it, ready to be put.
    ///
    /// # Errors
    /// What the disk met.
    ///
    /// # Panics
    /// If less was pushed than the spec said, or `summary` contradicts it.
    pub fn finish(mut self, summary: ObjectSummary) -> Result<ObjectFile<E>> {
        assert_eq!(self.blocks, self.header.blocks(), "all of the image was pushed");
        let image_bytes = self.header.image_bytes;
        assert_eq!(ObjectSummary::decode(&summary.encode(), image_bytes), Ok(summary), "positions fit the image");
        let index_offset = self.written + self.out.len() as u64;
        let mut end = std::mem::take(&mut self.index);
        let index_bytes = u32::try_from(end.len()).unwrap_or_else(|_| unreachable!("an image is under 2^45 bytes"));
        end.extend_from_slice(&summary.encode());
        let image_crc64 = self.image_crc.value();
        let sealed = format::sealed_data(&self.header.encode(), &end, image_crc64);
        let seal = self.key.as_ref().map_or([0; TAG_BYTES], |key| key.seal(SEAL_NUMBER, &sealed, &mut []));
        end.extend_from_slice(&seal);
        let salt = self.header.salt;
        let index_crc = format::index_crc(&salt, &end);
        self.store(&end)?;
        let stored_crc64 = self.stored_crc.value();
        let trailer = Trailer { index_offset, index_bytes, index_crc, image_crc64, stored_crc64 };
        self.store(&trailer.encode(&salt))?;
        self.flush()?;
        assert_eq!(self.written, trailer.object_bytes(), "the trailer knows the object's length");
        let (header, crc64) = (self.header, self.stored_crc.value());
        Ok(ObjectFile { file: self.file, path: self.path, bytes: self.written, crc64, image_crc64, header, summary })
    }
}

/// An object in its temporary file, to be put.
pub struct ObjectFile<E: Env> {
    file: FileOf<E>,
    path: PathBuf,
    bytes: u64,
    crc64: u64,
    image_crc64: u64,
    header: ObjectHeader,
    summary: ObjectSummary,
}

impl<E: Env> ObjectFile<E> {
    /// Returns the CRC-64/NVME of the whole object.
    pub fn crc64(&self) -> u64 {
        self.crc64
    }

    /// Returns the CRC-64/NVME of the image.
    pub fn image_crc64(&self) -> u64 {
        self.image_crc64
    }

    /// Returns the object's header.
    pub fn header(&self) -> &ObjectHeader {
        &self.header
    }

    /// Returns what the segment holds.
    pub fn summary(&self) -> &ObjectSummary {
        &self.summary
    }

    /// Removes the temporary file.
    ///
    /// # Errors
    /// What the disk met.
    pub fn remove(self, env: &E) -> Result<()> {
        drop(self.file);
        remove_if_there(env, &self.path)
    }
}

impl<E: Env> ObjectSource for ObjectFile<E> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| Error::io("read", &self.path, error))
    }
}

fn remove_if_there<E: Env>(env: &E, path: &Path) -> Result<()> {
    match env.disk().remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

fn compression_error(file: &Path, offset: u64, what: &dyn std::fmt::Display) -> Error {
    AofError::CompressionError { file: file.to_path_buf(), offset, what: what.to_string() }.into()
}

/// Reads an archived object; any number of threads at once.
#[derive(Debug)]
pub struct ObjectReader {
    storage: Arc<dyn ArchiveStorage>,
    key: String,
    /// The key again, for errors.
    path: PathBuf,
    bytes: u64,
    header: ObjectHeader,
    trailer: Trailer,
    cipher: Option<SegmentKey>,
    blocks: Vec<Block>,
    summary: ObjectSummary,
}

impl ObjectReader {
    /// Opens the object `key` of `bytes` bytes, with `keys` if it is encrypted: two reads, or three if it is large.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) names the object and the offset of what is damaged or cut off;
    /// [`EncryptionError`](AofError::EncryptionError) if the key is missing or another one; or what the store met.
    pub fn open(
        storage: Arc<dyn ArchiveStorage>,
        key: &str,
        bytes: u64,
        keys: Option<&KeyRing>,
    ) -> Result<ObjectReader> {
        let path = PathBuf::from(key);
        if bytes < OBJECT_BYTES_MIN {
            let what = format_args!("an archived segment has at least {OBJECT_BYTES_MIN} bytes, this object {bytes}");
            return Err(Error::corruption(&path, bytes, what));
        }
        let damage =
            |offset, part, fault| Error::corruption(&path, offset, format_args!("the object's {part} {fault}"));
        let start = fetch(&*storage, key, 0..OBJECT_HEADER_BYTES as u64)?;
        let header = ObjectHeader::decode(&start).map_err(|fault| damage(0, "header", fault))?;
        let cipher = find_key(keys, &header.key_scope(), &header.key_check, &path)?;
        let mut end_at = bytes - END_BYTES.min(bytes - OBJECT_HEADER_BYTES as u64);
        let mut end = fetch(&*storage, key, end_at..bytes)?;
        let trailer_at = bytes - TRAILER_BYTES as u64;
        let trailer = Trailer::decode(&end[end.len() - TRAILER_BYTES..], &header.salt, bytes)
            .map_err(|fault| damage(trailer_at, "trailer", fault))?;
        let index_at = trailer.index_offset;
        let expected = header.blocks().saturating_mul(format::INDEX_ENTRY_BYTES as u64);
        if u64::from(trailer.index_bytes) != expected || header.blocks() > index_at {
            return Err(damage(trailer_at, "trailer", format::Fault::Contradiction));
        }
        if index_at < end_at {
            let before = fetch(&*storage, key, index_at..end_at)?;
            end = [before, end].concat();
            end_at = index_at;
        }
        let end = &end[(index_at - end_at) as usize..(trailer_at - end_at) as usize];
        if format::index_crc(&header.salt, end) != trailer.index_crc {
            return Err(damage(index_at, "index", format::Fault::Checksum));
        }
        let (covered, seal) = end.split_at(end.len() - TAG_BYTES);
        let (index, summary) = covered.split_at(covered.len() - SUMMARY_BYTES);
        let sealed = format::sealed_data(&header.encode(), covered, trailer.image_crc64);
        let sealed_well = match (&cipher, seal.first_chunk()) {
            (Some(cipher), Some(seal)) => cipher.open(SEAL_NUMBER, &sealed, &mut [], seal),
            _ => seal.iter().all(|byte| *byte == 0),
        };
        if !sealed_well {
            let what = "the object's seal fails its authentication";
            return Err(Error::corruption(&path, trailer_at - TAG_BYTES as u64, what));
        }
        let blocks =
            format::decode_index(index, &header, index_at).map_err(|fault| damage(index_at, "index", fault))?;
        let summary_at = index_at + index.len() as u64;
        let summary =
            ObjectSummary::decode(summary, header.image_bytes).map_err(|fault| damage(summary_at, "summary", fault))?;
        let key = key.to_string();
        Ok(ObjectReader { storage, key, path, bytes, header, trailer, cipher, blocks, summary })
    }

    /// Makes a reader of parts that were read and checked.
    pub(super) fn assembled(
        storage: Arc<dyn ArchiveStorage>,
        entry: &SegmentEntry,
        header: ObjectHeader,
        trailer: Trailer,
        cipher: Option<SegmentKey>,
        blocks: Vec<Block>,
        summary: ObjectSummary,
    ) -> ObjectReader {
        let (key, bytes) = (entry.archived_key.clone(), entry.archived_bytes);
        let path = PathBuf::from(&key);
        ObjectReader { storage, key, path, bytes, header, trailer, cipher, blocks, summary }
    }

    /// Returns where the blocks are.
    pub(super) fn index(&self) -> &[Block] {
        &self.blocks
    }

    /// Checks that this is segment `segment_no` of the log `log_id`.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) says which segment it is.
    pub fn expect(&self, log_id: &[u8; 16], segment_no: u64) -> Result<()> {
        if self.header.log_id != *log_id {
            return Err(Error::corruption(&self.path, 0, "the object holds a segment of another log"));
        }
        if self.header.segment_no != segment_no {
            let what = format_args!("the object holds segment {}, expected {segment_no}", self.header.segment_no);
            return Err(Error::corruption(&self.path, 0, what));
        }
        Ok(())
    }

    /// Returns the object's header.
    pub fn header(&self) -> &ObjectHeader {
        &self.header
    }

    /// Returns what the segment holds.
    pub fn summary(&self) -> &ObjectSummary {
        &self.summary
    }

    /// Returns the CRC-64/NVME of the image, as stored.
    pub fn image_crc64(&self) -> u64 {
        self.trailer.image_crc64
    }

    /// Returns the CRC-64/NVME of the whole object, as its trailer says: what is stored need not be so.
    pub fn object_crc64(&self) -> u64 {
        let mut crc = Crc64::of(self.trailer.stored_crc64);
        crc.update(&self.trailer.encode(&self.header.salt));
        crc.value()
    }

    /// Returns the object's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns how many blocks of [`BLOCK_BYTES`] the image has; the last one may be shorter.
    pub fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Returns where block `number` begins in the object; the index for the number after the last.
    #[cfg(test)]
    pub(super) fn blocks_at(&self, number: usize) -> u64 {
        self.blocks.get(number).map_or(self.trailer.index_offset, |block| block.offset)
    }

    /// Reads block `number` of the image.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) names the object and the block's offset in it; or what the store met.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block(&self, number: u64) -> Result<Bytes> {
        assert!(number < self.blocks(), "block {number} of {}", self.blocks());
        let stored = self.fetch_blocks(number..number + 1)?;
        self.decode(number, &stored).map(Bytes::from)
    }

    /// Reads blocks that lie side by side with one read, in order.
    ///
    /// # Errors
    /// As [`block`](Self::block).
    ///
    /// # Panics
    /// If one of them does not exist.
    pub fn read_blocks(&self, numbers: Range<u64>) -> Result<Vec<Bytes>> {
        let stored = self.fetch_blocks(numbers.clone())?;
        let mut rest = stored.as_slice();
        let mut out = Vec::new();
        for number in numbers {
            let (block, after) = rest.split_at(self.blocks[number as usize].stored_bytes as usize);
            out.push(self.decode(number, block)?.into());
            rest = after;
        }
        Ok(out)
    }

    /// Reads and checks the whole object, and returns its CRC-64/NVME.
    ///
    /// # Errors
    /// As [`block`](Self::block), for the first damage.
    pub fn verify(&self) -> Result<u64> {
        let (mut stored_crc, mut image_crc) = (Crc64::new(), Crc64::new());
        let header = self.header.encode();
        if fetch(&*self.storage, &self.key, 0..OBJECT_HEADER_BYTES as u64)? != header {
            return Err(Error::corruption(&self.path, 0, "the object's header has changed"));
        }
        stored_crc.update(&header);
        let mut number = 0;
        while number < self.blocks() {
            let until = (number + READ_BLOCKS).min(self.blocks());
            let stored = self.fetch_blocks(number..until)?;
            stored_crc.update(&stored);
            let mut rest = stored.as_slice();
            for number in number..until {
                let (block, after) = rest.split_at(self.blocks[number as usize].stored_bytes as usize);
                image_crc.update(&self.decode(number, block)?);
                rest = after;
            }
            number = until;
        }
        let end = fetch(&*self.storage, &self.key, self.trailer.index_offset..self.bytes)?;
        let (end, trailer) = end.split_at(end.len() - TRAILER_BYTES);
        stored_crc.update(end);
        let trailer_at = self.bytes - TRAILER_BYTES as u64;
        if stored_crc.value() != self.trailer.stored_crc64 || trailer != self.trailer.encode(&self.header.salt) {
            return Err(Error::corruption(&self.path, trailer_at, "the object's index or trailer has changed"));
        }
        if image_crc.value() != self.trailer.image_crc64 {
            return Err(Error::corruption(&self.path, trailer_at, "the image fails the object's checksum of it"));
        }
        stored_crc.update(trailer);
        Ok(stored_crc.value())
    }

    fn fetch_blocks(&self, numbers: Range<u64>) -> Result<Vec<u8>> {
        let blocks = &self.blocks[numbers.start as usize..numbers.end as usize];
        match (blocks.first(), blocks.last()) {
            (Some(first), Some(last)) => {
                let range = first.offset..last.offset + u64::from(last.stored_bytes);
                fetch(&*self.storage, &self.key, range)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Checks, decrypts and decompresses a block.
    pub(super) fn decode(&self, number: u64, stored: &[u8]) -> Result<Vec<u8>> {
        let block = &self.blocks[number as usize];
        let wanted = self.header.block_bytes(number);
        let damage = |what| Error::corruption(&self.path, block.offset, format_args!("block {number} {what}"));
        if self.header.block_crc(number, stored) != block.crc {
            return Err(damage("fails its checksum"));
        }
        let mut content = stored.to_vec();
        if let Some(cipher) = &self.cipher {
            let Some((bytes, tag)) = content.split_last_chunk_mut::<TAG_BYTES>() else {
                return Err(damage("is too short for its tag"));
            };
            if !cipher.open(number, &self.header.encode(), bytes, tag) {
                return Err(damage("fails its authentication"));
            }
            content.truncate(content.len() - TAG_BYTES);
        }
        if !block.raw {
            let mut image = vec![0; wanted];
            let unpacked = zstd::bulk::decompress_to_buffer(&content, image.as_mut_slice());
            let unpacked = unpacked.map_err(|error| compression_error(&self.path, block.offset, &error))?;
            image.truncate(unpacked);
            content = image;
        }
        if content.len() != wanted {
            let what = format_args!("block {number} has {} bytes, expected {wanted}", content.len());
            return Err(compression_error(&self.path, block.offset, &what));
        }
        Ok(content)
    }
}

impl ReadAt for ObjectReader {
    /// Reads from the image, without keeping anything.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let room = self.header.image_bytes.saturating_sub(offset);
        let wanted = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let first = at / BLOCK_BYTES as u64;
            let last = (offset + wanted as u64 - 1) / BLOCK_BYTES as u64;
            for block in self.read_blocks(first..(last + 1).min(first + READ_BLOCKS))? {
                let skip = ((offset + done as u64) % BLOCK_BYTES as u64) as usize;
                let count = (block.len() - skip).min(wanted - done);
                buffer[done..done + count].copy_from_slice(&block[skip..skip + count]);
                done += count;
            }
        }
        Ok(wanted)
    }

    fn bytes(&self) -> u64 {
        self.header.image_bytes
    }

    fn name(&self) -> &Path {
        &self.path
    }
}

/// Reads `range` of the object, all of it.
pub(super) fn fetch(storage: &dyn ArchiveStorage, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let wanted = range.end - range.start;
    let bytes = storage.read(key, range.clone())?;
    if bytes.len() as u64 != wanted {
        let what = format!("{} bytes came for the {wanted} at {}", bytes.len(), range.start);
        return Err(AofError::RemoteStorage { operation: "read", key: key.to_string(), what, retryable: true }.into());
    }
    Ok(bytes)
}
