//! [`TableBuilder`]: writes one table from entries in order.
//!
//! Used by flush and compaction, on the background thread that runs it.
//!
//! - Entries come in strictly ascending internal key order (asserted); keys and values within `base::limits`. Range
//!   tombstones come in order of their keys.
//! - Bytes go to the file in order, through one buffer; nothing is written twice.
//! - [`TableBuilder::finish`] returns once the file is synced. The directory entry is the caller's to sync, before it names
//!   the table anywhere.
//! - After an error the builder repeats it; the caller abandons the file.
//!
//! A block is cut when it is full, before an entry that would make it a quarter too large, and around a jumbo entry (over
//! 64 KiB), which stands alone. The separator of a block is known when the next key is.

use super::block::{BlockBuilder, entry_bytes_max};
use super::compress::Compression;
use super::filter::FilterBuilder;
use super::format::{self, FOOTER_BYTES, Footer, Handle, Properties};
use super::index::{IndexBuilder, separator};
use super::{TableInfo, TableOptions};
use crate::base::hash::hash64;
use crate::base::key::{SeqNum, Tag, ValueKind, compare};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, SyncKind};
use crate::lsm::ranges::format::{self as ranges, Fragment};
use crate::lsm::ranges::set_of;
use std::mem::take;
use std::path::{Path, PathBuf};

/// What is gathered before it is handed to the file.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;
/// An entry above this has a block of its own; entry offsets have 16 bits.
const JUMBO_BYTES_MIN: usize = 64 * 1024;

/// Writes one table, entry by entry.
pub struct TableBuilder<E: Env> {
    env: E,
    file: <E::Disk as Disk>::File,
    path: PathBuf,
    file_no: u64,
    options: TableOptions,
    keyspace: Option<(u32, String)>,
    ingested_after: Option<SeqNum>,
    failed: Option<Error>,
    /// Sealed blocks not handed to the file yet, and where in the file they begin.
    buffer: Vec<u8>,
    buffer_offset: u64,
    block: BlockBuilder,
    payload: Vec<u8>,
    index: IndexBuilder,
    filter: FilterBuilder,
    /// End of a block that was cut and waits for its separator.
    unindexed_end: Option<u64>,
    smallest: Option<(Vec<u8>, Tag)>,
    last_key: Vec<u8>,
    last_tag: Tag,
    entries: u64,
    tombstones: u64,
    raw_bytes: u64,
    seq_min: SeqNum,
    seq_max: SeqNum,
    ranges: Vec<Fragment>,
}

impl<E: Env> TableBuilder<E> {
    /// Creates the file at `path`, which must not exist. Its directory entry is for the caller to sync.
    ///
    /// # Errors
    /// The file exists or cannot be created.
    ///
    /// # Panics
    /// If `options` are outside their ranges.
    pub fn create(env: &E, path: &Path, file_no: u64, options: TableOptions) -> Result<TableBuilder<E>> {
        options.check();
        let file = env.disk().open(path, OpenMode::CreateNew).map_err(|error| Error::io("create", path, error))?;
        Ok(TableBuilder {
            env: env.clone(),
            file,
            path: path.to_path_buf(),
            file_no,
            options,
            keyspace: None,
            ingested_after: None,
            failed: None,
            buffer: Vec::new(),
            buffer_offset: 0,
            block: BlockBuilder::default(),
            payload: Vec::new(),
            index: IndexBuilder::default(),
            filter: FilterBuilder::default(),
            unindexed_end: None,
            smallest: None,
            last_key: Vec::new(),
            last_tag: Tag::seek(SeqNum::MAX),
            entries: 0,
            tombstones: 0,
            raw_bytes: 0,
            seq_min: SeqNum::MAX,
            seq_max: SeqNum(0),
            ranges: Vec::new(),
        })
    }

    /// Says whose entries these are, if not the default keyspace's.
    pub fn set_keyspace(&mut self, number: u32, name: &str) {
        self.keyspace = (number != 0).then(|| (number, name.to_owned()));
    }

    /// Says that entries come with the sequence number 0 and will be given one higher than `seq`.
    pub fn set_ingested_after(&mut self, seq: SeqNum) {
        self.ingested_after = Some(seq);
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// A block could not be written; this and every later call return the same error.
    ///
    /// # Panics
    /// If the entry is not after the last one, or key or value exceed `base::limits`.
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        assert!(key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX, "entry over the limits");
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let new_key = self.entries == 0 || self.last_key != key;
        if self.entries == 0 {
            self.smallest = Some((key.to_vec(), tag));
        } else {
            let order = compare((&self.last_key, self.last_tag), (key, tag));
            assert!(order.is_lt(), "table {} gets {key:?} {tag:?} after {:?}", self.file_no, self.last_tag);
        }
        let entry_bytes = entry_bytes_max(key, value);
        let jumbo = entry_bytes > JUMBO_BYTES_MIN;
        let full = self.block.estimated_bytes() + entry_bytes > self.options.block_bytes / 4 * 5;
        if !self.block.is_empty() && (jumbo || full) {
            self.cut_block()?;
        }
        self.index_block(Some((key, tag)));
        let hash = hash64(key, 0);
        if new_key && self.options.filter_bits_per_key > 0 {
            self.filter.add(hash);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_tag = tag;
        self.entries += 1;
        self.tombstones += u64::from(tag.kind() == ValueKind::Delete);
        self.raw_bytes += (key.len() + value.len()) as u64;
        self.seq_min = self.seq_min.min(tag.seq());
        self.seq_max = self.seq_max.max(tag.seq());
        if jumbo {
            self.payload.clear();
            BlockBuilder::single(key, hash, tag, value, &mut self.payload);
            return self.seal_block();
        }
        self.block.add_hashed(key, hash, tag, value);
        if self.block.estimated_bytes() >= self.options.block_bytes { self.cut_block() } else { Ok(()) }
    }

    /// Adds range tombstones, behind those added before. They may lie anywhere relative to the entries.
    ///
    /// # Panics
    /// If they overlap or are out of order.
    pub fn add_ranges(&mut self, fragments: Vec<Fragment>) {
        for fragment in fragments {
            let last = self.ranges.last();
            assert!(
                last.is_none_or(|last| !last.end.is_empty() && last.end <= fragment.begin),
                "{fragment:?} after {last:?}"
            );
            let (newest, oldest) = fragment.seqs.first().zip(fragment.seqs.last()).expect("a fragment has a number");
            self.seq_max = self.seq_max.max(*newest);
            self.seq_min = self.seq_min.min(*oldest);
            self.ranges.push(fragment);
        }
    }

    /// Adds, to a table of range tombstones only, the tombstone of the first key: it says nothing new, and every table has
    /// an entry.
    fn add_first(&mut self) -> Result<()> {
        let first = self.ranges.first().expect("a table has an entry or a range tombstone");
        let (key, seq) = (first.begin.clone(), first.seqs[0]);
        self.add(&key, Tag::new(seq, ValueKind::Delete), &[])
    }

    /// Returns the number of entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns about how long the file would be if finished now.
    pub fn estimated_bytes(&self) -> u64 {
        let filter_bytes = self.filter.bytes(self.options.filter_bits_per_key);
        self.offset() + (self.block.estimated_bytes() + self.index.bytes() + filter_bytes + FOOTER_BYTES) as u64
    }

    /// Returns the last key added.
    pub fn last_key(&self) -> Option<(&[u8], Tag)> {
        (self.entries > 0).then_some((&self.last_key, self.last_tag))
    }

    /// Writes index, filter, range tombstones and footer and syncs the file.
    ///
    /// # Errors
    /// The file could not be written or synced. What is on disk is unknown then; the file is to be removed.
    ///
    /// # Durability
    /// Once this returns the file's bytes survive a power loss, its name only after a sync of the directory.
    ///
    /// # Panics
    /// If there are no entries and no range tombstones.
    pub fn finish(mut self) -> Result<TableInfo> {
        if self.entries == 0 {
            self.add_first()?;
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.cut_block()?;
        self.index_block(None);
        let data_bytes = self.offset();
        let bits_per_key = self.options.filter_bits_per_key;
        let filter = if bits_per_key == 0 {
            Handle { offset: data_bytes, bytes: 0 }
        } else {
            self.put_part(|builder, out| builder.filter.finish(bits_per_key, out))
        };
        let index = self.put_part(|builder, out| builder.index.finish(out));
        let range_tombstones = match self.ranges.is_empty() {
            true => Handle { offset: self.offset(), bytes: 0 },
            false => self.put_part(|builder, out| ranges::encode(out, &builder.ranges)),
        };
        let smallest = self.smallest.take().expect("set with the first entry");
        let largest = (take(&mut self.last_key), self.last_tag);
        let parts =
            Properties { smallest, largest, keyspace: self.keyspace.take(), ingested_after: self.ingested_after };
        let properties = self.put_part(|_, out| parts.encode(out));
        let footer = Footer {
            file_no: self.file_no,
            data_bytes,
            filter,
            index,
            range_tombstones,
            properties,
            entries: self.entries,
            tombstones: self.tombstones,
            raw_bytes: self.raw_bytes,
            seq_min: self.seq_min,
            seq_max: self.seq_max,
            blocks: self.index.len() as u64,
            filter_bits_per_key: u32::from(bits_per_key),
        };
        let offset = self.offset();
        footer.encode(&mut self.buffer, offset);
        self.write_out()?;
        if !self.env.planted("table_not_synced") {
            self.file.sync(SyncKind::All).map_err(|error| Error::io("sync", &self.path, error))?;
        }
        let ranges = set_of(&self.ranges).map(|set| set.info());
        Ok(footer.info(self.offset(), parts, ranges))
    }

    /// Closes and removes the file.
    ///
    /// # Errors
    /// The file could not be removed.
    pub fn abandon(self) -> Result<()> {
        let TableBuilder { env, file, path, .. } = self;
        drop(file);
        env.disk().remove(&path).map_err(|error| Error::io("remove", &path, error))
    }

    /// Where the next sealed block will lie.
    fn offset(&self) -> u64 {
        self.buffer_offset + self.buffer.len() as u64
    }

    /// Seals the block under construction, if there is one.
    fn cut_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.payload.clear();
        self.block.finish(&mut self.payload);
        self.seal_block()
    }

    /// Seals the data block in `payload`.
    fn seal_block(&mut self) -> Result<()> {
        assert!(self.unindexed_end.is_none(), "the block before has its separator");
        let offset = self.offset();
        format::seal(&mut self.buffer, self.file_no, offset, self.options.compression, &self.payload);
        self.unindexed_end = Some(self.offset());
        // A jumbo value must not keep its memory for the rest of the table.
        self.payload.shrink_to(WRITE_BUFFER_BYTES);
        if self.buffer.len() >= WRITE_BUFFER_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Adds the block that was cut last to the index, now that the entry after it (or that there is none) is known.
    fn index_block(&mut self, next: Option<(&[u8], Tag)>) {
        let Some(end) = self.unindexed_end.take() else { return };
        let last = (&self.last_key[..], self.last_tag);
        let (key, tag) = next.map_or(last, |next| separator(last, next));
        self.index.add(key, tag, end);
    }

    /// Seals what `fill` writes, uncompressed, as a part beside the data.
    fn put_part(&mut self, fill: impl FnOnce(&TableBuilder<E>, &mut Vec<u8>)) -> Handle {
        let mut payload = take(&mut self.payload);
        payload.clear();
        fill(self, &mut payload);
        let offset = self.offset();
        format::seal(&mut self.buffer, self.file_no, offset, Compression::None, &payload);
        Handle { offset, bytes: self.offset() - offset }
    }

    /// Hands the buffer to the file.
    fn write_out(&mut self) -> Result<()> {
        if let Err(error) = self.file.write_at(&self.buffer, self.buffer_offset) {
            let error = Error::io("write", &self.path, error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.buffer_offset += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_BUFFER_BYTES);
        Ok(())
    }
}
