//! [`Salvage`]: what is readable of a table's file, whatever else of it is damaged.
//!
//! Used by repair and by the tool that prints tables. Fails only if the file cannot be opened; a part that cannot be read counts as
//! damaged.
//!
//! - With a good footer and index every good block is found, wherever the damaged ones are.
//! - Without, blocks are found one behind the other from the start: a sealed block shows where it ends. What lies behind
//!   the first damaged one is lost then, for nothing tells where the next one begins.
//! - Properties and range tombstones are found either way.

use super::TableInfo;
use super::block::Block;
use super::format::{Damage, FOOTER_BYTES, Footer, Handle, Properties, sealed_bytes, unseal};
use super::index::Index;
use crate::base::key::{Tag, compare};
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode};
use crate::lsm::ranges::format::{self as ranges, Fragment};
use crate::lsm::ranges::set_of;
use std::path::{Path, PathBuf};

/// A stretch of the file that is not readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes; 0 if that is not known.
    pub bytes: u64,
    /// What is wrong.
    pub what: String,
    /// The last readable key before lost entries, if there is one.
    pub after: Option<Vec<u8>>,
    /// The first readable key behind lost entries, if there is one.
    pub before: Option<Vec<u8>>,
    /// True if entries are lost, and not only what helps to find them.
    pub loses_entries: bool,
}

/// The file of a table, readable or not.
pub struct Salvage<E: Env> {
    file: <E::Disk as Disk>::File,
    path: PathBuf,
    file_no: u64,
    file_bytes: u64,
    footer: Option<Footer>,
    index: Option<Index>,
    properties: Option<Properties>,
    ranges: Vec<Fragment>,
    problems: Vec<Problem>,
}

impl<E: Env> Salvage<E> {
    /// Opens the table at `path`, which was written as number `file_no`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(env: &E, path: &Path, file_no: u64) -> Result<Salvage<E>> {
        let file = env.disk().open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
        let file_bytes = file.len().map_err(|error| Error::io("read the length of", path, error))?;
        let (footer, index, properties) = (None, None, None);
        let (path, ranges, problems) = (path.to_path_buf(), Vec::new(), Vec::new());
        let mut salvage = Salvage { file, path, file_no, file_bytes, footer, index, properties, ranges, problems };
        salvage.read_parts();
        Ok(salvage)
    }

    /// Returns the footer, if it is readable.
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// Returns the properties, if they are readable. Without a good footer they are known once the blocks were read.
    pub fn properties(&self) -> Option<&Properties> {
        self.properties.as_ref()
    }

    /// Returns what the table says of itself, if footer and properties are readable.
    pub fn info(&self) -> Option<TableInfo> {
        let ranges = set_of(&self.ranges).map(|set| set.info());
        Some(self.footer.as_ref()?.info(self.file_bytes, self.properties.clone()?, ranges))
    }

    /// Returns the range tombstones, if they are readable. Without a good footer they are known once the blocks were read.
    pub fn ranges(&self) -> &[Fragment] {
        &self.ranges
    }

    /// Returns what is not readable, as far as it was met.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the file's length.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Hands each readable block to `see`, in order, with where it lies.
    ///
    /// # Errors
    /// Those of `see`.
    pub fn blocks(&mut self, see: &mut dyn FnMut(Handle, &Block<'_>) -> Result<()>) -> Result<()> {
        let mut walk = Walk::default();
        let Some(index) = self.index.take() else { return self.search(&mut walk, see) };
        for at in 0..index.len() {
            let handle = index.block(at);
            match self.read(handle).and_then(|stored| unsealed(&stored, self.file_no, handle.offset)) {
                Ok(payload) => walk.block(&mut self.problems, handle, &payload, see)?,
                Err(what) => walk.lost(&mut self.problems, handle, &what),
            }
        }
        self.index = Some(index);
        Ok(())
    }

    fn problem(&mut self, handle: Handle, what: impl Into<String>) {
        let Handle { offset, bytes } = handle;
        let what = what.into();
        self.problems.push(Problem { offset, bytes, what, after: None, before: None, loses_entries: false });
    }

    fn read(&self, handle: Handle) -> std::result::Result<Vec<u8>, String> {
        let inside = handle.offset.checked_add(handle.bytes).is_some_and(|end| end <= self.file_bytes);
        let len = usize::try_from(handle.bytes).ok().filter(|_| inside).ok_or("the file ends within this block")?;
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, handle.offset) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(Error::io("read", &self.path, error).to_string()),
        }
    }

    /// Reads footer, properties and index, each if it is good.
    fn read_parts(&mut self) {
        let bytes = FOOTER_BYTES as u64;
        let Some(offset) = self.file_bytes.checked_sub(bytes) else {
            return self.problem(Handle { offset: 0, bytes: self.file_bytes }, "the file is shorter than a footer");
        };
        let handle = Handle { offset, bytes };
        let decode = |stored: Vec<u8>| Footer::decode(&stored, self.file_no, self.file_bytes).map_err(str::to_owned);
        let footer = match self.read(handle).and_then(decode) {
            Ok(footer) => footer,
            Err(what) => return self.problem(handle, format!("footer: {what}")),
        };
        let part = |handle: Handle| self.read(handle).and_then(|stored| unsealed(&stored, self.file_no, handle.offset));
        let properties = part(footer.properties).and_then(|bytes| Ok(Properties::decode(&bytes)?));
        let index = part(footer.index).and_then(|bytes| Ok(Index::decode(bytes, footer.data_bytes)?));
        let ranges = match footer.range_tombstones.bytes {
            0 => Ok(Vec::new()),
            _ => part(footer.range_tombstones).and_then(|bytes| Ok(ranges::decode(&bytes)?)),
        };
        let filter = if footer.filter.bytes == 0 { Ok(()) } else { part(footer.filter).map(|_| ()) };
        match properties {
            Ok(properties) => self.properties = Some(properties),
            Err(what) => self.problem(footer.properties, format!("properties: {what}")),
        }
        match ranges {
            Ok(ranges) => self.ranges = ranges,
            Err(what) => {
                self.problem(footer.range_tombstones, format!("range tombstones, so that keys may be back: {what}"))
            }
        }
        match index {
            Ok(index) => self.index = Some(index),
            Err(what) => self.problem(footer.index, format!("index: {what}")),
        }
        if let Err(what) = filter {
            self.problem(footer.filter, format!("filter: {what}"));
        }
        self.footer = Some(footer);
    }

    /// Finds blocks without an index.
    fn search(&mut self, walk: &mut Walk, see: &mut dyn FnMut(Handle, &Block<'_>) -> Result<()>) -> Result<()> {
        let bytes = match self.read(Handle { offset: 0, bytes: self.file_bytes }) {
            Ok(bytes) => bytes,
            Err(what) => {
                walk.lost(&mut self.problems, Handle { offset: 0, bytes: self.file_bytes }, &what);
                return Ok(());
            }
        };
        let known_end = self.footer.as_ref().map(|footer| footer.data_bytes);
        let (mut at, mut in_data) = (0, true);
        while let Some(len) = sealed_bytes(&bytes[at..], self.file_no, at as u64) {
            let handle = Handle { offset: at as u64, bytes: len as u64 };
            in_data &= known_end.is_none_or(|end| handle.offset < end);
            let payload = unseal(&bytes[at..at + len], self.file_no, handle.offset);
            let is_data = |payload: &&[u8]| Block::decode(payload).is_ok_and(|block| block.check().is_ok());
            match payload.as_deref().ok().filter(|payload| in_data && is_data(payload)) {
                Some(payload) => walk.block(&mut self.problems, handle, payload, see)?,
                // What follows the data.
                None => {
                    in_data = false;
                    let payload = payload.unwrap_or_default();
                    self.properties = self.properties.take().or(Properties::decode(&payload).ok());
                    // Filter, index and properties never pass for them: their first bytes would make a fragment without
                    // a sequence number, or with 0 as one.
                    if let Ok(ranges) = ranges::decode(&payload) {
                        self.ranges = ranges;
                    }
                }
            }
            at += len;
        }
        // Without a footer, data has ended only where something else follows.
        let end = known_end.unwrap_or(self.file_bytes);
        if in_data && (known_end.is_none() || (at as u64) < end) {
            let lost = Handle { offset: at as u64, bytes: end - at as u64 };
            walk.lost(&mut self.problems, lost, "no good block begins here, and there is no index to find others");
        }
        Ok(())
    }
}

fn unsealed(stored: &[u8], file_no: u64, offset: u64) -> std::result::Result<bytes::Bytes, String> {
    unseal(stored, file_no, offset).map_err(str::to_owned)
}

/// Where a walk over blocks is.
#[derive(Default)]
struct Walk {
    last: Option<(Vec<u8>, Tag)>,
    /// The first problem that has no readable key behind it yet.
    open: Option<usize>,
}

impl Walk {
    fn block(
        &mut self,
        problems: &mut Vec<Problem>,
        handle: Handle,
        payload: &[u8],
        see: &mut dyn FnMut(Handle, &Block<'_>) -> Result<()>,
    ) -> Result<()> {
        let block = match self.checked(payload) {
            Ok(block) => block,
            Err(what) => {
                self.lost(problems, handle, what);
                return Ok(());
            }
        };
        let mut first = Vec::new();
        if let (Some(open), Ok(_)) = (self.open.take(), block.read(0, &mut first)) {
            problems[open..].iter_mut().for_each(|problem| problem.before = Some(first.clone()));
        }
        let mut last = Vec::new();
        if let Ok((tag, _)) = block.read(block.len() - 1, &mut last) {
            self.last = Some((last, tag));
        }
        see(handle, &block)
    }

    /// Decodes a block whose entries are in order and behind those of the block before.
    fn checked<'a>(&self, payload: &'a [u8]) -> std::result::Result<Block<'a>, Damage> {
        let block = Block::decode(payload)?;
        block.check()?;
        let mut key = Vec::new();
        let (tag, _) = block.read(0, &mut key)?;
        match &self.last {
            Some((last, last_tag)) if compare((last, *last_tag), (&key, tag)).is_ge() => {
                Err("the block's entries are not after those of the block before")
            }
            _ => Ok(block),
        }
    }

    fn lost(&mut self, problems: &mut Vec<Problem>, handle: Handle, what: &str) {
        let Handle { offset, bytes } = handle;
        let after = self.last.as_ref().map(|(key, _)| key.clone());
        self.open.get_or_insert(problems.len());
        problems.push(Problem { offset, bytes, what: what.to_owned(), after, before: None, loses_entries: true });
    }
}
