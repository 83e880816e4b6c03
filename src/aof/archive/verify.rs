//! Looks at every byte of an archived object: [`verify_object`], which names what is damaged by its offset.
//!
//! Called by [`Remote`](super::remote::Remote) when a store is verified; reads past the cache, a few blocks at a time. Reading
//! goes on behind damage as far as what is left says where to go on, so that one look names all of it.
//!
//! **Where one byte was changed, its exact offset is named**, wherever it lies: header, trailer and index are repaired by their
//! CRC-32C, which is linear, and the repaired ones are gone by; a block's byte is found by the block's, or, if several bytes
//! explain that, by the CRC-64 of the whole object. What no single byte explains is named by where the part begins.

use super::format::{self, Block, ObjectHeader, ObjectSummary, SEAL_NUMBER, SUMMARY_BYTES, TRAILER_BYTES, Trailer};
use super::object::{ObjectReader, fetch};
use super::{ArchiveStorage, format::OBJECT_BYTES_MIN, format::OBJECT_HEADER_BYTES};
use crate::aof::KeyRing;
use crate::aof::crypt::{SegmentKey, find_key};
use crate::aof::format::TAG_BYTES;
use crate::aof::manifest::SegmentEntry;
use crate::aof::verify::Damage;
use crate::base::checksum::{Crc64, locate_crc64};
use crate::base::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// How many blocks are read at once.
const READ_BLOCKS: usize = 16;

/// Reads and checks the whole object of `entry`, a segment of the log `log_id`; returns all damage, by offset.
///
/// # Errors
/// [`NotFound`](crate::ErrorKind::NotFound) if there is no such object;
/// [`EncryptionError`](crate::aof::AofError::EncryptionError) if the key is missing or another one; the store could not be asked.
pub(super) fn verify_object(
    storage: &Arc<dyn ArchiveStorage>,
    entry: &SegmentEntry,
    log_id: &[u8; 16],
    keys: Option<&KeyRing>,
) -> Result<Vec<Damage>> {
    let path = Path::new(&entry.archived_key);
    let mut look = Look { storage, entry, path, found: Vec::new() };
    if let Some(parts) = look.parts(log_id, keys)? {
        look.content(parts)?;
    }
    look.found.sort_by_key(|damage| damage.offset);
    Ok(look.found)
}

struct Look<'a> {
    storage: &'a Arc<dyn ArchiveStorage>,
    entry: &'a SegmentEntry,
    path: &'a Path,
    found: Vec<Damage>,
}

/// What the blocks are read by, repaired where one byte was changed; and the bytes as they are stored.
struct Parts {
    header: ObjectHeader,
    trailer: Trailer,
    cipher: Option<SegmentKey>,
    blocks: Vec<Block>,
    summary: ObjectSummary,
    start: Vec<u8>,
    end: Vec<u8>,
    last: Vec<u8>,
}

impl Look<'_> {
    fn damage(&mut self, offset: u64, what: impl std::fmt::Display) {
        self.found.push(Damage { file: self.path.to_path_buf(), offset, what: what.to_string() });
    }

    fn fetch(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        fetch(&**self.storage, &self.entry.archived_key, range)
    }

    /// Takes what was `decoded`, or else `repaired`; notes what is wrong with the part `name`.
    fn take<T>(
        &mut self,
        name: &str,
        at: u64,
        decoded: std::result::Result<T, format::Fault>,
        repaired: impl FnOnce() -> Option<(usize, T)>,
    ) -> Option<T> {
        let fault = match decoded {
            Ok(part) => return Some(part),
            Err(fault) => fault,
        };
        match repaired() {
            Some((byte, part)) => {
                self.damage(at + byte as u64, format_args!("the object's {name} {fault}; this byte was changed"));
                Some(part)
            }
            None => {
                self.damage(at, format_args!("the object's {name} {fault}"));
                None
            }
        }
    }

    /// Reads everything but the blocks; none if what is left does not say where they are.
    fn parts(&mut self, log_id: &[u8; 16], keys: Option<&KeyRing>) -> Result<Option<Parts>> {
        let (key, bytes) = (&self.entry.archived_key, self.entry.archived_bytes);
        let there =
            self.storage.head(key)?.ok_or_else(|| Error::not_found(format_args!("there is no object {key}")))?;
        if there != bytes || bytes < OBJECT_BYTES_MIN {
            self.damage(there.min(bytes), format_args!("the object has {there} bytes, the manifest says {bytes}"));
            return Ok(None);
        }
        let start = self.fetch(0..OBJECT_HEADER_BYTES as u64)?;
        let header = self.take("header", 0, ObjectHeader::decode(&start), || ObjectHeader::repair(&start));
        let Some(header) = header else { return Ok(None) };
        if header.log_id != *log_id || header.segment_no != self.entry.number {
            let what = format_args!("the object holds another segment than {} of this log", self.entry.number);
            self.damage(0, what);
            return Ok(None);
        }
        let cipher = find_key(keys, &header.key_scope(), &header.key_check, self.path)?;
        let trailer_at = bytes - TRAILER_BYTES as u64;
        let last = self.fetch(trailer_at..bytes)?;
        let trailer = Trailer::decode(&last, &header.salt, bytes);
        let trailer = self.take("trailer", trailer_at, trailer, || Trailer::repair(&last, &header.salt, bytes));
        let Some(trailer) = trailer else { return Ok(None) };
        let expected = header.blocks().saturating_mul(format::INDEX_ENTRY_BYTES as u64);
        if u64::from(trailer.index_bytes) != expected {
            self.damage(trailer_at, format_args!("the object's trailer {}", format::Fault::Contradiction));
            return Ok(None);
        }
        let end = self.fetch(trailer.index_offset..trailer_at)?;
        let Some((blocks, summary)) = self.index(&header, &trailer, cipher.as_ref(), &end) else { return Ok(None) };
        Ok(Some(Parts { header, trailer, cipher, blocks, summary, start, end, last }))
    }

    /// Checks index, summary and seal, which are stored as `end`.
    fn index(
        &mut self,
        header: &ObjectHeader,
        trailer: &Trailer,
        cipher: Option<&SegmentKey>,
        end: &[u8],
    ) -> Option<(Vec<Block>, ObjectSummary)> {
        let index_at = trailer.index_offset;
        let is_good = format::index_crc(&header.salt, end) == trailer.index_crc;
        let decoded = if is_good { Ok(end.to_vec()) } else { Err(format::Fault::Checksum) };
        let repaired = || format::repair_index(&header.salt, end, trailer.index_crc);
        let end = self.take("index", index_at, decoded, repaired)?;
        let (covered, seal) = end.split_at(end.len() - TAG_BYTES);
        let (index, summary) = covered.split_at(covered.len() - SUMMARY_BYTES);
        let sealed = format::sealed_data(&header.encode(), covered, trailer.image_crc64);
        let sealed_well = match (cipher, seal.first_chunk()) {
            (Some(cipher), Some(seal)) => cipher.open(SEAL_NUMBER, &sealed, &mut [], seal),
            _ => seal.iter().all(|byte| *byte == 0),
        };
        if !sealed_well {
            self.damage(index_at + covered.len() as u64, "the object's seal fails its authentication");
        }
        let blocks = self.take("index", index_at, format::decode_index(index, header, index_at), || None)?;
        let summary_at = index_at + index.len() as u64;
        let summary = ObjectSummary::decode(summary, header.image_bytes);
        Some((blocks, self.take("summary", summary_at, summary, || None)?))
    }

    /// Checks the blocks, and the checksums of all of it.
    fn content(&mut self, parts: Parts) -> Result<()> {
        let Parts { header, trailer, cipher, blocks, summary, start, end, last } = parts;
        let entry = self.entry;
        let object = ObjectReader::assembled(self.storage.clone(), entry, header, trailer, cipher, blocks, summary);
        let (mut stored_crc, mut image_crc) = (Crc64::new(), Crc64::new());
        stored_crc.update(&start);
        // Of the one block whose damage several bytes explain.
        let mut unclear = None;
        for (group, blocks) in object.index().chunks(READ_BLOCKS).enumerate() {
            let (Some(first), Some(final_one)) = (blocks.first(), blocks.last()) else { break };
            let stored = self.fetch(first.offset..final_one.offset + u64::from(final_one.stored_bytes))?;
            stored_crc.update(&stored);
            for (at, block) in blocks.iter().enumerate() {
                let number = (group * READ_BLOCKS + at) as u64;
                let from = (block.offset - first.offset) as usize;
                let stored = &stored[from..from + block.stored_bytes as usize];
                if header.block_crc(number, stored) == block.crc {
                    match object.decode(number, stored) {
                        Ok(image) => image_crc.update(&image),
                        Err(error) => self.damage(block.offset, error),
                    }
                    continue;
                }
                let what = format!("block {number} fails its checksum");
                match header.locate_in_block(number, stored, block.crc)[..] {
                    [byte] => {
                        self.damage(block.offset + byte as u64, format_args!("{what}; this byte was changed"));
                    }
                    _ => {
                        unclear = Some((self.found.len(), block.offset..block.offset + u64::from(block.stored_bytes)));
                        self.damage(block.offset, what);
                    }
                }
            }
        }
        stored_crc.update(&end);
        let covered = entry.archived_bytes - TRAILER_BYTES as u64;
        let byte = locate_crc64(trailer.stored_crc64, stored_crc.value(), covered as usize);
        if let (Some((at, block)), 1, Some(byte)) = (unclear, self.found.len(), byte)
            && block.contains(&(byte.at as u64))
        {
            self.found[at].offset = byte.at as u64;
            self.found[at].what.push_str("; this byte was changed");
        }
        if self.found.is_empty() {
            self.sums(&trailer, (stored_crc, image_crc), &last);
        }
        Ok(())
    }

    /// Compares the checksums of an object in which nothing else is wrong.
    fn sums(&mut self, trailer: &Trailer, (mut stored, image): (Crc64, Crc64), last: &[u8]) {
        let trailer_at = self.entry.archived_bytes - TRAILER_BYTES as u64;
        if stored.value() != trailer.stored_crc64 {
            self.damage(trailer_at, "the object fails the checksum in its trailer");
        } else if image.value() != trailer.image_crc64 {
            self.damage(trailer_at, "the image fails the object's checksum of it");
        }
        stored.update(last);
        // Entries that an older program has rebuilt have no checksum of the object.
        let other_object = self.entry.archived_crc64 != 0 && stored.value() != self.entry.archived_crc64;
        if self.found.is_empty() && (other_object || trailer.image_crc64 != self.entry.original_crc64) {
            self.damage(0, "the object is another one than the manifest says: its checksum differs");
        }
    }
}
