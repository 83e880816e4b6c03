//! [`Table`]: an open table, for lookups from any thread.
//!
//! - Footer, properties, index, filter and range tombstones are read and checked on open and stay in memory.
//! - A block is checked when it comes from the file, not when it comes from the cache. Damage is an error that names the
//!   file and the block's offset; damaged bytes are never returned and never cached.
//! - The file stays open, so it can be removed from its directory while readers go on.
//!
//! A lookup: filter, index, one block (cache, else one read), fingerprint column. No lock is held across the read.

use super::block::Block;
use super::filter::Filter;
use super::format::{Damage, FOOTER_BYTES, Footer, Handle, Properties, unseal_owned};
use super::index::Index;
use super::{TableInfo, TableIterator};
use crate::base::hash::hash64;
use crate::base::key::{SeqNum, Tag, ValueKind, compare};
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode};
use crate::lsm::cache::BlockCache;
use crate::lsm::ranges::format as ranges;
use crate::lsm::ranges::{RangeTombstones, set_of};
use crate::lsm::value::Value;
use bytes::Bytes;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open table.
pub struct Table<E: Env> {
    env: E,
    file: <E::Disk as Disk>::File,
    path: PathBuf,
    cache: BlockCache,
    footer_offset: u64,
    parts: Parts,
    /// The sequence number of every entry, in the place of the 0 that is stored.
    given: Option<SeqNum>,
}

/// What is kept in memory.
struct Parts {
    info: TableInfo,
    index: Index,
    filter: Option<Filter>,
    ranges: Option<Arc<RangeTombstones>>,
}

impl<E: Env> Table<E> {
    /// Opens the table at `path`: reads and checks footer, index, filter and range tombstones, which stay in memory.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or was written under another number.
    pub fn open(env: &E, path: &Path, file_no: u64, cache: BlockCache) -> Result<Table<E>> {
        let file = env.disk().open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
        let (parts, footer_offset) = read_parts(env, &file, path, file_no)?;
        Ok(Table { env: env.clone(), file, path: path.to_path_buf(), cache, footer_offset, parts, given: None })
    }

    /// Opens the table of `info` as a MANIFEST names it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_named(env: &E, path: &Path, info: &TableInfo, cache: BlockCache) -> Result<Table<E>> {
        Ok(Table::open(env, path, info.file_no, cache)?.with_seq(info.seq_max))
    }

    /// Gives every entry the sequence number `seq`, if they were written before it was known: a key has one entry then.
    pub fn with_seq(mut self, seq: SeqNum) -> Table<E> {
        if self.parts.info.seq_max == SeqNum(0) && seq > SeqNum(0) {
            self.given = Some(seq);
            self.parts.info.give(seq);
        }
        self
    }

    pub(super) fn given(&self) -> Option<SeqNum> {
        self.given
    }

    /// Returns the newest entry of `key` with a sequence number of at most `seq`, tombstones included.
    ///
    /// # Errors
    /// The block cannot be read or is damaged.
    pub fn get(&self, key: &[u8], seq: SeqNum) -> Result<Option<(Tag, Value)>> {
        match self.given {
            None => self.lookup(key, seq),
            Some(given) if given > seq => Ok(None),
            Some(given) => {
                let found = self.lookup(key, SeqNum(0))?;
                Ok(found.map(|(tag, value)| (Tag::new(given, tag.kind()), value)))
            }
        }
    }

    #[inline]
    fn lookup(&self, key: &[u8], seq: SeqNum) -> Result<Option<(Tag, Value)>> {
        let hash = hash64(key, 0);
        if self.parts.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash)) {
            return Ok(None);
        }
        let tag = Tag::seek(seq);
        let Some(at) = self.parts.index.find(key, tag) else { return Ok(None) };
        let bytes = self.block(at, true)?;
        let found = Block::decode(&bytes).and_then(|block| block.get(key, hash, tag));
        let found = found.map_err(|damage| self.damaged(at, damage))?;
        Ok(found.map(|(tag, range)| (tag, Value::from_block(&bytes, range))))
    }

    /// Returns the newest range tombstone over `key` that a reader at `seq` sees; 0 if there is none.
    #[inline]
    pub(in crate::lsm) fn cover(&self, key: &[u8], seq: SeqNum) -> SeqNum {
        self.parts.ranges.as_ref().map_or(SeqNum(0), |ranges| ranges.newest(key, seq))
    }

    /// Returns the range tombstones.
    pub(in crate::lsm) fn ranges(&self) -> Option<&Arc<RangeTombstones>> {
        self.parts.ranges.as_ref()
    }

    /// Returns false if `key` is surely absent, by the filter alone.
    pub fn may_contain(&self, key: &[u8]) -> bool {
        self.parts.filter.as_ref().is_none_or(|filter| filter.may_contain(hash64(key, 0)))
    }

    /// Returns a cursor; with `fill_cache` the blocks it reads are offered to the cache.
    pub fn iter(self: &Arc<Self>, fill_cache: bool) -> TableIterator<E> {
        TableIterator::new(self.clone(), fill_cache)
    }

    /// Returns what the footer says.
    pub fn info(&self) -> &TableInfo {
        &self.parts.info
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many bytes index and filter take in memory.
    pub fn pinned_bytes(&self) -> u64 {
        (self.parts.index.bytes() + self.parts.filter.as_ref().map_or(0, Filter::bytes)) as u64
    }

    /// Reads everything from disk again and checks all that can be checked: checksums, order, counts, filter, index.
    ///
    /// # Errors
    /// The first damage, by file and offset.
    pub fn verify(&self) -> Result<TableInfo> {
        let (mut parts, _) = read_parts(&self.env, &self.file, &self.path, self.parts.info.file_no)?;
        let mut seen = Seen { info: None, last: None };
        for at in 0..parts.index.len() {
            let handle = parts.index.block(at);
            let stored = read(&self.file, &self.path, handle)?;
            let checked = unseal_owned(stored, parts.info.file_no, handle.offset, self.checks_crc())
                .and_then(|bytes| seen.check_block(&parts, at, &bytes));
            checked.map_err(|damage| Error::corruption(&self.path, handle.offset, damage))?;
        }
        if let (Some(info), Some(ranges)) = (&mut seen.info, &parts.ranges) {
            let seqs = || ranges.all().iter().map(|one| one.seq);
            info.seq_min = seqs().fold(info.seq_min, SeqNum::min);
            info.seq_max = seqs().fold(info.seq_max, SeqNum::max);
            info.ranges = Some(ranges.info());
        }
        let as_stored = seen.info.as_ref() == Some(&parts.info);
        if let Some(given) = self.given {
            parts.info.give(given);
        }
        if !as_stored || parts.info != self.parts.info {
            let damage = "the footer's counts or keys are not those of the data";
            return Err(Error::corruption(&self.path, self.footer_offset, damage));
        }
        Ok(parts.info)
    }

    pub(super) fn index(&self) -> &Index {
        &self.parts.index
    }

    /// Returns block `at` from the cache or the file. With `fill_cache` it is counted and kept.
    pub(super) fn block(&self, at: usize, fill_cache: bool) -> Result<Bytes> {
        let handle = self.parts.index.block(at);
        if let Some(block) = self.cached(handle, fill_cache) {
            return Ok(block);
        }
        let stored = read(&self.file, &self.path, handle)?;
        let block = unseal_owned(stored, self.parts.info.file_no, handle.offset, self.checks_crc())
            .map_err(|damage| self.damaged(at, damage))?;
        self.offer(handle, fill_cache, &block);
        Ok(block)
    }

    pub(super) fn cached(&self, handle: Handle, fill_cache: bool) -> Option<Bytes> {
        let file_no = self.parts.info.file_no;
        if fill_cache { self.cache.get(file_no, handle.offset) } else { self.cache.peek(file_no, handle.offset) }
    }

    pub(super) fn offer(&self, handle: Handle, fill_cache: bool, block: &Bytes) {
        if fill_cache {
            self.cache.insert(self.parts.info.file_no, handle.offset, block.clone());
        }
    }

    /// Reads a stretch of the data blocks as stored.
    pub(super) fn read_stored(&self, stretch: Handle) -> Result<Vec<u8>> {
        read(&self.file, &self.path, stretch)
    }

    pub(super) fn checks_crc(&self) -> bool {
        !self.env.planted("block_crc_unchecked")
    }

    /// Reports damage in block `at`.
    pub(super) fn damaged(&self, at: usize, damage: Damage) -> Error {
        Error::corruption(&self.path, self.parts.index.block(at).offset, damage)
    }
}

impl<E: Env> fmt::Debug for Table<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("path", &self.path).field("info", &self.parts.info).finish_non_exhaustive()
    }
}

/// Reads one stretch of the file. Its length was checked against the file's, so it is safe to allocate.
fn read(file: &impl DiskFile, path: &Path, stretch: Handle) -> Result<Vec<u8>> {
    let len =
        usize::try_from(stretch.bytes).map_err(|_| Error::corruption(path, stretch.offset, "impossible length"))?;
    let mut bytes = vec![0; len];
    match file.read_exact_at(&mut bytes, stretch.offset) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::corruption(path, stretch.offset, "the file ends within this block"))
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Reads and checks everything but the data blocks; returns it with the offset of the footer.
fn read_parts<E: Env>(env: &E, file: &<E::Disk as Disk>::File, path: &Path, file_no: u64) -> Result<(Parts, u64)> {
    let file_bytes = file.len().map_err(|error| Error::io("read the length of", path, error))?;
    let footer_offset = file_bytes
        .checked_sub(FOOTER_BYTES as u64)
        .ok_or_else(|| Error::corruption(path, 0, "the file is shorter than a footer"))?;
    let footer = read(file, path, Handle { offset: footer_offset, bytes: FOOTER_BYTES as u64 })?;
    let footer = Footer::decode(&footer, file_no, file_bytes)
        .map_err(|damage| Error::corruption(path, footer_offset, damage))?;
    let check_crc = !env.planted("block_crc_unchecked");
    let part = |handle: Handle| {
        unseal_owned(read(file, path, handle)?, file_no, handle.offset, check_crc)
            .map_err(|damage| Error::corruption(path, handle.offset, damage))
    };
    let at = |handle: Handle| move |damage: Damage| Error::corruption(path, handle.offset, damage);
    let properties = Properties::decode(&part(footer.properties)?).map_err(at(footer.properties))?;
    let index = Index::decode(part(footer.index)?, footer.data_bytes).map_err(at(footer.index))?;
    let largest = (&properties.largest.0[..], properties.largest.1);
    if index.len() as u64 != footer.blocks || !index.covers(index.len() - 1, largest.0, largest.1) {
        return Err(at(footer.index)("the index contradicts footer or properties"));
    }
    let filter = match footer.filter.bytes {
        0 => None,
        _ => Some(Filter::decode(part(footer.filter)?).map_err(at(footer.filter))?),
    };
    let ranges = match footer.range_tombstones.bytes {
        0 => None,
        _ => {
            let handle = footer.range_tombstones;
            let fragments = ranges::decode(&part(handle)?).map_err(at(handle))?;
            let seqs = footer.seq_min..=footer.seq_max;
            if fragments.iter().flat_map(|fragment| &fragment.seqs).any(|seq| !seqs.contains(seq)) {
                return Err(at(handle)("a range tombstone contradicts the footer's sequence numbers"));
            }
            set_of(&fragments).map(Arc::new)
        }
    };
    let info = footer.info(file_bytes, properties, ranges.as_ref().map(|ranges| ranges.info()));
    Ok((Parts { info, index, filter, ranges }, footer_offset))
}

/// What a verification has seen so far.
struct Seen {
    info: Option<TableInfo>,
    last: Option<(Vec<u8>, Tag)>,
}

impl Seen {
    fn check_block(&mut self, parts: &Parts, at: usize, bytes: &[u8]) -> Result<(), Damage> {
        let block = Block::decode(bytes)?;
        block.check()?;
        let mut key = Vec::new();
        for entry in 0..block.len() {
            let (tag, value) = block.read(entry, &mut key)?;
            if self.last.as_ref().is_some_and(|(last, last_tag)| compare((last, *last_tag), (&key, tag)).is_ge()) {
                return Err("the block's entries are not after those of the block before");
            }
            if !parts.index.covers(at, &key, tag) || (at > 0 && parts.index.covers(at - 1, &key, tag)) {
                return Err("the index leads elsewhere for an entry of this block");
            }
            if parts.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash64(&key, 0))) {
                return Err("the filter denies a key of this block");
            }
            self.count(parts, &key, tag, value.len());
            self.last = Some((key.clone(), tag));
        }
        Ok(())
    }

    fn count(&mut self, parts: &Parts, key: &[u8], tag: Tag, value_len: usize) {
        let info = self.info.get_or_insert_with(|| TableInfo {
            file_no: parts.info.file_no,
            file_bytes: parts.info.file_bytes,
            entries: 0,
            tombstones: 0,
            raw_bytes: 0,
            smallest: (key.to_vec(), tag),
            largest: (Vec::new(), tag),
            seq_min: tag.seq(),
            seq_max: tag.seq(),
            ranges: None,
        });
        info.entries += 1;
        info.tombstones += u64::from(tag.kind() == ValueKind::Delete);
        info.raw_bytes += (key.len() + value_len) as u64;
        info.largest.0.clear();
        info.largest.0.extend_from_slice(key);
        info.largest.1 = tag;
        info.seq_min = info.seq_min.min(tag.seq());
        info.seq_max = info.seq_max.max(tag.seq());
    }
}
