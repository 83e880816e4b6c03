//! [`TableIterator`]: a cursor over one table, in both directions.
//!
//! Belongs to one thread at a time. It holds the block it stands in and copies just the key (blocks store keys in parts);
//! moving within a block allocates nothing and reads nothing.
//!
//! **Read-ahead.** Once it has moved forward into the following block twice, a block that is not cached is read together with
//! those after it, twice as many bytes each time, up to 256 KiB; without `fill_cache` (compaction) at once. Read-ahead
//! blocks are checked and offered to the cache one by one, as the cursor reaches them.

use super::Table;
use super::block::{Block, Layout};
use super::format::{Handle, unseal_slice};
use crate::base::key::{SeqNum, Tag, ValueKind, compare};
use crate::base::{Error, Result};
use crate::env::Env;
use crate::lsm::iter::InternalIterator;
use crate::lsm::value::Value;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

const AHEAD_BYTES_MIN: u64 = 16 * 1024;
const AHEAD_BYTES_MAX: u64 = 256 * 1024;
/// Moves into the following block before read-ahead begins.
const AHEAD_AFTER_MOVES: u32 = 2;

/// A cursor over a table, which it keeps open.
pub struct TableIterator<E: Env> {
    table: Arc<Table<E>>,
    fill_cache: bool,
    error: Option<Error>,
    valid: bool,
    /// The block it stands in: its number, its bytes (empty before the first) and the entry.
    block_at: usize,
    block: Bytes,
    layout: Layout,
    entry_at: usize,
    key: Vec<u8>,
    tag: Tag,
    value: Range<usize>,
    /// Stored bytes read ahead, and where in the file they begin.
    ahead: Vec<u8>,
    ahead_offset: u64,
    ahead_bytes: u64,
    forward_moves: u32,
}

impl<E: Env> TableIterator<E> {
    pub(super) fn new(table: Arc<Table<E>>, fill_cache: bool) -> TableIterator<E> {
        let tag = table.info().smallest.1;
        TableIterator {
            table,
            fill_cache,
            error: None,
            valid: false,
            block_at: 0,
            block: Bytes::new(),
            layout: Layout::default(),
            entry_at: 0,
            key: Vec::new(),
            tag,
            value: 0..0,
            ahead: Vec::new(),
            ahead_offset: 0,
            ahead_bytes: if fill_cache { AHEAD_BYTES_MIN } else { AHEAD_BYTES_MAX },
            forward_moves: if fill_cache { 0 } else { AHEAD_AFTER_MOVES },
        }
    }

    /// Runs `step`, which returns whether the cursor stands on an entry, unless an earlier one failed.
    #[inline]
    fn run(&mut self, step: impl FnOnce(&mut Self) -> Result<bool>) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.valid = false;
        match step(self) {
            Ok(valid) => {
                self.valid = valid;
                Ok(())
            }
            Err(error) => {
                self.error = Some(error.clone());
                Err(error)
            }
        }
    }

    #[inline]
    fn view(&self) -> Block<'_> {
        Block::with(&self.block, self.layout)
    }

    /// Makes block `at` the current one.
    fn enter_block(&mut self, at: usize) -> Result<()> {
        if at == self.block_at && !self.block.is_empty() {
            return Ok(());
        }
        if !self.block.is_empty() && at == self.block_at + 1 {
            self.forward_moves = self.forward_moves.saturating_add(1);
        } else if self.fill_cache {
            self.forward_moves = 0;
            self.ahead_bytes = AHEAD_BYTES_MIN;
        }
        // Until the new block is in, there is none.
        self.block = Bytes::new();
        let block = self.fetch(at)?;
        self.layout = Block::decode(&block).map_err(|damage| self.table.damaged(at, damage))?.layout();
        self.block = block;
        self.block_at = at;
        Ok(())
    }

    fn fetch(&mut self, at: usize) -> Result<Bytes> {
        let handle = self.table.index().block(at);
        if let Some(block) = self.take_ahead(at, handle) {
            return block;
        }
        if self.forward_moves < AHEAD_AFTER_MOVES {
            return self.table.block(at, self.fill_cache);
        }
        if let Some(block) = self.table.cached(handle, self.fill_cache) {
            return Ok(block);
        }
        let index = self.table.index();
        let ends = (at..index.len()).map(|block| index.block(block)).map(|block| block.offset + block.bytes);
        let Some(end) = ends.take_while(|end| end - handle.offset <= self.ahead_bytes).last() else {
            return self.table.block(at, self.fill_cache);
        };
        self.ahead.clear();
        self.ahead = self.table.read_stored(Handle { offset: handle.offset, bytes: end - handle.offset })?;
        self.ahead_offset = handle.offset;
        self.ahead_bytes = (self.ahead_bytes * 2).min(AHEAD_BYTES_MAX);
        self.take_ahead(at, handle).expect("just read")
    }

    /// Returns block `at` if it was read ahead.
    fn take_ahead(&self, at: usize, handle: Handle) -> Option<Result<Bytes>> {
        let start = usize::try_from(handle.offset.checked_sub(self.ahead_offset)?).ok()?;
        let stored = self.ahead.get(start..start.checked_add(usize::try_from(handle.bytes).ok()?)?)?;
        let block = unseal_slice(stored, self.table.info().file_no, handle.offset, self.table.checks_crc());
        Some(match block {
            Ok(block) => {
                self.table.offer(handle, self.fill_cache, &block);
                Ok(block)
            }
            Err(damage) => Err(self.table.damaged(at, damage)),
        })
    }

    /// Moves to entry `at` of the current block, of which `key` may not hold a key yet.
    fn stand_on(&mut self, at: usize) -> Result<bool> {
        let mut key = std::mem::take(&mut self.key);
        let read = self.view().read(at, &mut key);
        self.key = key;
        self.take_entry(at, read)
    }

    /// Moves to entry `at` of the current block, of which `key` holds a key.
    #[inline]
    fn step_to(&mut self, at: usize) -> Result<bool> {
        let mut key = std::mem::take(&mut self.key);
        let read = self.view().read_next(at, &mut key);
        self.key = key;
        self.take_entry(at, read)
    }

    #[inline]
    fn take_entry(&mut self, at: usize, read: Result<(Tag, Range<usize>), super::format::Damage>) -> Result<bool> {
        let (tag, value) = read.map_err(|damage| self.table.damaged(self.block_at, damage))?;
        self.entry_at = at;
        self.tag = self.table.given().map_or(tag, |given| Tag::new(given, tag.kind()));
        self.value = value;
        Ok(true)
    }

    fn first_of(&mut self, block_at: usize) -> Result<bool> {
        if block_at == self.table.index().len() {
            return Ok(false);
        }
        self.enter_block(block_at)?;
        self.stand_on(0)
    }

    fn last_of(&mut self, block_at: Option<usize>) -> Result<bool> {
        let Some(block_at) = block_at else { return Ok(false) };
        self.enter_block(block_at)?;
        self.stand_on(self.view().len() - 1)
    }

    /// Returns the tag to look for. Where entries have a sequence number that is not stored, that is one before or behind all that are
    /// stored of a key; before if `is_before` the tag asked for, compared with the entry's.
    #[inline]
    fn stored(&self, tag: Tag, is_before: fn(&Tag, &Tag) -> bool) -> Tag {
        match self.table.given() {
            None => tag,
            Some(given) if is_before(&tag, &Tag::new(given, ValueKind::Put)) => Tag::seek(SeqNum(0)),
            Some(_) => Tag::new(SeqNum(0), ValueKind::Delete),
        }
    }

    fn lower_bound(&mut self, block_at: usize, key: &[u8], tag: Tag) -> Result<usize> {
        self.enter_block(block_at)?;
        self.view().lower_bound(key, tag).map_err(|damage| self.table.damaged(block_at, damage))
    }
}

impl<E: Env> InternalIterator for TableIterator<E> {
    fn valid(&self) -> bool {
        self.valid
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.run(|this| this.first_of(0))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.run(|this| this.last_of(this.table.index().len().checked_sub(1)))
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let tag = self.stored(tag, Tag::ge);
        self.run(|this| {
            let Some(block_at) = this.table.index().find(key, tag) else { return Ok(false) };
            let at = this.lower_bound(block_at, key, tag)?;
            if at < this.view().len() { this.stand_on(at) } else { this.first_of(block_at + 1) }
        })
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let tag = self.stored(tag, Tag::gt);
        self.run(|this| {
            let Some(block_at) = this.table.index().find(key, tag) else {
                return this.last_of(this.table.index().len().checked_sub(1));
            };
            let at = this.lower_bound(block_at, key, tag)?;
            if at < this.view().len() && this.stand_on(at)? && compare((&this.key, this.tag), (key, tag)).is_eq() {
                return Ok(true);
            }
            if at > 0 { this.stand_on(at - 1) } else { this.last_of(block_at.checked_sub(1)) }
        })
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let valid = self.valid;
        self.run(|this| {
            let at = this.entry_at + 1;
            match valid {
                false => Ok(false),
                true if at < this.view().len() => this.step_to(at),
                true => this.first_of(this.block_at + 1),
            }
        })
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let valid = self.valid;
        self.run(|this| match (valid, this.entry_at.checked_sub(1)) {
            (false, _) => Ok(false),
            (true, Some(at)) => this.step_to(at),
            (true, None) => this.last_of(this.block_at.checked_sub(1)),
        })
    }

    fn key(&self) -> &[u8] {
        assert!(self.valid, "the cursor stands on no entry");
        &self.key
    }

    fn tag(&self) -> Tag {
        assert!(self.valid, "the cursor stands on no entry");
        self.tag
    }

    fn value(&self) -> &[u8] {
        assert!(self.valid, "the cursor stands on no entry");
        &self.block[self.value.clone()]
    }

    fn value_owned(&self) -> Value {
        assert!(self.valid, "the cursor stands on no entry");
        Value::from_block(&self.block, self.value.clone())
    }
}
