//! One segment file that is being written, and the directory of all of them.
//!
//! [`SegmentFile`] is written under the log's I/O lock and synced outside it. [`Segments`] is behind a lock of its own,
//! taken at rolls and truncations only.
//!
//! **Making a segment** (rules R4, R5): take a file under a spare name; write and sync its header (and the copied tail);
//! rename it to its segment name; sync the directory. Until the rename the directory holds no trace of it, afterwards it
//! is complete: a bad header in a segment file is damage, never a torn creation.
//!
//! **Which file:** a dropped segment, whose blocks are allocated (a sync of overwritten bytes costs a third of one that
//! grows the file); else a new one, filled with zeros some way ahead of the writes; and if the device is full, the
//! reserve: two short spares, kept for just that, so that a full disk still opens (rule R9). The first open on a full disk
//! takes one; each later one takes the other in place of the first, whose space holds the next.

use super::crypt::KeyRing;
use super::format::{ALIGN, HEADER_BYTES, Place, SegmentHeader};
use super::names::{segment_name, spare_name};
use super::read::SegmentReader;
use super::types::{Lsn, SegmentInfo};
use crate::base::checksum::Crc64;
use crate::base::{Error, ErrorKind, Result};
use crate::env::write_zeros;
use crate::env::{Disk, DiskFile, Env, OpenMode, SyncKind};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Weak;

/// Zeros written ahead: at first, and at most at a time.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_BYTES_MAX: u64 = 4 << 20;
/// Bytes allocated ahead of a stream.
const AHEAD_BYTES_STREAM: u64 = 64 << 20;
/// Files grow by multiples of this.
const BLOCK_BYTES: u64 = 4096;
/// Spares kept for a full disk.
const RESERVES: usize = 2;
/// What a copy buffers.
const COPY_BYTES: usize = 256 << 10;

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Returns the place of the frame at `lsn` in the segment of `header`.
pub(super) fn frame_place<E: Env>(env: &E, header: &SegmentHeader, lsn: u64) -> Place {
    if env.planted("aof_no_lsn_in_crc") { Place::default() } else { header.place(lsn) }
}

/// Returns sixteen random bytes.
pub(super) fn random_bytes<E: Env>(env: &E) -> [u8; 16] {
    let mut out = [0; 16];
    let words = [env.rand_u64(), env.rand_u64()];
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = (words[at / 8] >> (at % 8 * 8)) as u8;
    }
    out
}

/// An open segment.
pub(super) struct SegmentFile<E: Env> {
    pub(super) file: FileOf<E>,
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
}

impl<E: Env> SegmentFile<E> {
    /// Returns the offset of `lsn` in the file.
    pub(super) fn offset(&self, lsn: u64) -> u64 {
        assert!(lsn >= self.header.base_lsn, "a position lies in its segment");
        HEADER_BYTES as u64 + (lsn - self.header.base_lsn)
    }

    /// Writes `bytes` at `lsn`, where the file has bytes already.
    pub(super) fn write(&self, bytes: &[u8], lsn: u64, file_bytes: u64) -> Result<()> {
        let offset = self.offset(lsn);
        assert!(offset + bytes.len() as u64 <= file_bytes, "frames are staged where there is space");
        self.file.write_at(bytes, offset).map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes the file of `file_bytes` at least `need` long, and somewhat longer if there is space, up to `limit`. Returns its new
    /// length. `stream`: it will be written over in large pieces, seldom synced.
    ///
    /// # Errors
    /// With [`ErrorKind::NoSpace`] the file is as good as before.
    pub(super) fn grow(&self, file_bytes: u64, need: u64, limit: u64, stream: bool) -> Result<u64> {
        let need = need.next_multiple_of(BLOCK_BYTES);
        let step = if stream { AHEAD_BYTES_STREAM } else { file_bytes.clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX) };
        let ahead = need.next_multiple_of(step).min(limit).max(need);
        let add = |to| {
            let added =
                if stream { self.file.allocate(file_bytes, to) } else { write_zeros(&self.file, file_bytes, to) };
            added.map_err(|error| Error::io("write", &self.path, error))
        };
        match add(ahead) {
            Err(error) if *error.kind() == ErrorKind::NoSpace && need < ahead => add(need).map(|()| need),
            grown => grown.map(|()| ahead),
        }
    }
}

/// Writes zeros over `from..to`.
fn zero<F: DiskFile>(file: &F, path: &Path, from: u64, to: u64) -> Result<()> {
    write_zeros(file, from, to).map_err(|error| Error::io("write", path, error))
}

/// Makes a file of `bytes` zeros, all on the device; what cannot be finished is removed. `stream`: it will be written over
/// in large pieces, seldom synced, so that its space is only allocated.
///
/// # Errors
/// What the disk met.
pub(super) fn make_spare<E: Env>(env: &E, path: &Path, bytes: u64, stream: bool) -> Result<()> {
    let fill = |file: &FileOf<E>| {
        if stream {
            let allocated = file.allocate(0, bytes).and_then(|()| file.sync(SyncKind::All));
            return allocated.map_err(|error| Error::io("allocate", path, error));
        }
        for from in (0..bytes).step_by(AHEAD_BYTES_MAX as usize) {
            zero(file, path, from, bytes.min(from + AHEAD_BYTES_MAX))?;
            // In steps, so that the syncs of others do not wait long behind it.
            file.sync(SyncKind::All).map_err(|error| Error::io("sync", path, error))?;
        }
        Ok(())
    };
    let opened = env.disk().open(path, OpenMode::CreateNew);
    let file = opened.map_err(|error| Error::io("create", path, error))?;
    fill(&file).inspect_err(|_| {
        let _ = env.disk().remove(path);
    })
}

/// Gathers frames and writes them in large pieces: the copy of a recovered tail.
pub(super) struct TailWriter<'s, E: Env> {
    segment: &'s SegmentFile<E>,
    buffer: Vec<u8>,
    lsn: u64,
    crc: Crc64,
}

impl<E: Env> TailWriter<'_, E> {
    /// Adds bytes behind those before.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= COPY_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds the zeros that end a frame.
    pub(super) fn pad(&mut self) {
        let padding = self.lsn().next_multiple_of(ALIGN) - self.lsn();
        self.buffer.resize(self.buffer.len() + padding as usize, 0);
    }

    /// Returns the header of the segment.
    pub(super) fn header(&self) -> &SegmentHeader {
        &self.segment.header
    }

    /// Returns where the next byte goes.
    pub(super) fn lsn(&self) -> u64 {
        self.lsn + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = &self.segment.file;
        file.write_at(&self.buffer, self.segment.offset(self.lsn))
            .map_err(|error| Error::io("write", &self.segment.path, error))?;
        self.lsn += self.buffer.len() as u64;
        self.crc.update(&self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

/// A segment that is no longer written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) header: SegmentHeader,
    pub(super) number: u64,
    pub(super) base_lsn: u64,
    pub(super) end_lsn: u64,
    pub(super) file_bytes: u64,
}

/// A file that is no segment yet: its name is that of a spare.
pub(super) struct Blank<E: Env> {
    file: FileOf<E>,
    path: PathBuf,
    number: u64,
    file_bytes: u64,
    recycled: bool,
}

impl<E: Env> Blank<E> {
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

/// A segment ready to be written, with the length of its file and where its frames end.
pub(super) struct Made<E: Env> {
    pub(super) segment: SegmentFile<E>,
    pub(super) file_bytes: u64,
    pub(super) end_lsn: u64,
    pub(super) recycled: bool,
    /// Of its bytes so far.
    pub(super) crc: Crc64,
}

/// What fills a new segment before it gets its name.
pub(super) type Fill<'a, E> = &'a mut dyn FnMut(&mut TailWriter<'_, E>) -> Result<()>;

/// The files of a log, except the one being written.
pub(super) struct Segments<E: Env> {
    pub(super) env: E,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) spares_max: usize,
    /// For readers.
    pub(super) keys: Option<KeyRing>,
    /// Oldest first, back to back; durable to their ends.
    pub(super) closed: VecDeque<Closed>,
    /// Number and length; the shortest are the reserve.
    pub(super) spares: Vec<(u64, u64)>,
    pub(super) spare_next: u64,
    /// A spare is being made, without the lock of this directory.
    pub(super) making_spare: bool,
    /// The one being written, once there is one.
    pub(super) active: Option<SegmentHeader>,
    /// Length of its file when it was begun.
    pub(super) active_bytes: u64,
    /// The segments that are open for reading, by number.
    pub(super) readers: BTreeMap<u64, Weak<SegmentReader<E>>>,
}

impl<E: Env> Segments<E> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns what callers may know of the segments, oldest first.
    pub(super) fn infos(&self) -> Vec<SegmentInfo> {
        let info = |header: &SegmentHeader, end_lsn: Option<u64>, file_bytes| SegmentInfo {
            number: header.segment_no,
            base_lsn: Lsn(header.base_lsn),
            end_lsn: end_lsn.map(Lsn),
            base_id: header.base_id,
            base_ts: header.base_ts,
            epoch: header.epoch,
            salt: header.salt,
            key_id: header.key_id,
            file_bytes,
            path: self.path(&segment_name(header.segment_no)),
        };
        let closed = self.closed.iter().map(|closed| info(&closed.header, Some(closed.end_lsn), closed.file_bytes));
        let is_new = |number: u64| self.closed.back().is_none_or(|last| last.number < number);
        let active = self.active.as_ref().filter(|active| is_new(active.segment_no));
        closed.chain(active.map(|active| info(active, None, self.active_bytes))).collect()
    }

    /// Makes the segment of `header`, filled by `fill`, durable in every respect.
    ///
    /// # Errors
    /// With [`ErrorKind::NoSpace`] nothing has changed that a later attempt or open would mind.
    pub(super) fn make(&mut self, header: &SegmentHeader, use_reserve: bool, fill: Fill<'_, E>) -> Result<Made<E>> {
        let blank = self.blank(use_reserve)?;
        self.begin(blank, header, fill)
    }

    /// Takes a file to be made a segment: a spare, or a new one.
    ///
    /// # Errors
    /// With [`ErrorKind::NoSpace`] nothing has changed.
    fn blank(&mut self, use_reserve: bool) -> Result<Blank<E>> {
        let keep = if use_reserve { 0 } else { RESERVES };
        // Longest first, so that the short reserve stays.
        self.spares.sort_unstable_by_key(|(number, bytes)| (*bytes, *number));
        let spare = if self.spares.len() > keep { self.spares.pop() } else { None };
        let recycled = spare.is_some();
        let (number, file_bytes) = spare.unwrap_or((self.spare_next, 0));
        let path = self.path(&spare_name(number));
        let mode = if recycled { OpenMode::ReadWrite } else { OpenMode::CreateNew };
        match self.env.disk().open(&path, mode) {
            Ok(file) => {
                self.spare_next = self.spare_next.max(number + 1);
                Ok(Blank { file, path, number, file_bytes, recycled })
            }
            Err(error) => {
                self.spares.extend(spare);
                Err(Error::io("open", &path, error))
            }
        }
    }

    /// Takes a file to be made a segment, with space for a first few frames.
    ///
    /// # Errors
    /// With [`ErrorKind::NoSpace`] nothing has changed.
    pub(super) fn blank_with_space(&mut self) -> Result<Blank<E>> {
        let mut blank = self.blank(false)?;
        let bytes = AHEAD_BYTES_MIN.min(self.segment_bytes);
        if blank.file_bytes >= bytes {
            return Ok(blank);
        }
        let filled = zero(&blank.file, &blank.path, blank.file_bytes, bytes).and_then(|()| {
            // A file system may find out only now that it has no space.
            blank.file.sync(SyncKind::All).map_err(|error| Error::io("sync", &blank.path, error))
        });
        match filled {
            Ok(()) => {
                blank.file_bytes = bytes;
                Ok(blank)
            }
            Err(error) => {
                // What a failed sync leaves behind is unknown, so it is not used again.
                self.put_back(Blank { recycled: false, ..blank });
                Err(error)
            }
        }
    }

    /// Gives a file back that was not made a segment.
    pub(super) fn put_back(&mut self, blank: Blank<E>) {
        if blank.recycled {
            self.spares.push((blank.number, blank.file_bytes));
        } else {
            // Gives its space back; if this fails the next open finds one spare more.
            let _ = self.env.disk().remove(&blank.path);
        }
    }

    /// Makes `blank` the segment of `header`, filled by `fill`, durable in every respect.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub(super) fn begin(&mut self, blank: Blank<E>, header: &SegmentHeader, fill: Fill<'_, E>) -> Result<Made<E>> {
        let first_no = self.closed.front().map_or(header.segment_no, |oldest| oldest.number);
        assert!(self.closed.back().is_none_or(|last| last.number + 1 == header.segment_no), "the chain has no gap");
        let header = SegmentHeader { first_no, ..*header };
        let Blank { file, path, number, file_bytes, recycled } = blank;
        let mut segment: SegmentFile<E> = SegmentFile { file, path, header };
        match self.fill(&segment, file_bytes, fill) {
            Ok((file_bytes, end_lsn, crc)) => {
                segment.path = self.name(&segment)?;
                self.active = Some(segment.header);
                self.active_bytes = file_bytes;
                Ok(Made { segment, file_bytes, end_lsn, recycled, crc })
            }
            Err(error) => {
                let SegmentFile { file, path, .. } = segment;
                self.put_back(Blank { file, path, number, file_bytes, recycled });
                Err(error)
            }
        }
    }

    /// Writes header and tail, and syncs them.
    fn fill(&self, segment: &SegmentFile<E>, file_bytes: u64, fill: Fill<'_, E>) -> Result<(u64, u64, Crc64)> {
        let at = |error| Error::io("write", &segment.path, error);
        let header = segment.header.encode();
        segment.file.write_at(&header, 0).map_err(at)?;
        let base_lsn = segment.header.base_lsn;
        let mut writer = TailWriter { segment, buffer: Vec::new(), lsn: base_lsn, crc: Crc64::new() };
        writer.crc.update(&header);
        fill(&mut writer)?;
        writer.flush()?;
        let TailWriter { lsn: end_lsn, crc, .. } = writer;
        let end = segment.offset(end_lsn);
        let ahead = (end + 1).next_multiple_of(AHEAD_BYTES_MIN).min(self.segment_bytes).max(end).max(file_bytes);
        zero(&segment.file, &segment.path, end.max(file_bytes), ahead)?;
        segment.file.sync(SyncKind::All).map_err(|error| Error::io("sync", &segment.path, error))?;
        assert!(end_lsn.is_multiple_of(ALIGN), "a tail is whole frames");
        Ok((ahead, end_lsn, crc))
    }

    /// Gives a complete file its segment name, replacing an unneeded segment of the same number.
    fn name(&self, segment: &SegmentFile<E>) -> Result<PathBuf> {
        let path = self.path(&segment_name(segment.header.segment_no));
        self.env.disk().rename(&segment.path, &path).map_err(|error| Error::io("rename", &segment.path, error))?;
        if !self.env.planted("aof_no_dir_sync_on_roll") {
            self.sync_dir()?;
        }
        Ok(path)
    }

    /// Makes what is missing of the reserve; a full disk is no error.
    pub(super) fn ensure_reserve(&mut self) -> Result<()> {
        while self.spares.len() < RESERVES && !self.env.planted("aof_no_reserve") {
            if !self.add_reserve()? {
                break;
            }
        }
        Ok(())
    }

    fn add_reserve(&mut self) -> Result<bool> {
        let (number, bytes) = (self.spare_next, AHEAD_BYTES_MIN.min(self.segment_bytes));
        let path = self.path(&spare_name(number));
        match make_spare(&self.env, &path, bytes, false) {
            Ok(()) => {
                self.spares.push((number, bytes));
                self.spare_next += 1;
                Ok(true)
            }
            Err(error) if *error.kind() == ErrorKind::NoSpace => {
                self.env.reached("aof.no_reserve");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns number and path for a spare of full length, if there is none beside the reserve and none is being made.
    pub(super) fn spare_to_make(&mut self) -> Option<(u64, PathBuf)> {
        let full = self.spares.iter().filter(|(_, bytes)| *bytes >= self.segment_bytes).count();
        // Segments of the reserve's length are full as well.
        let beside = self.spares.len().saturating_sub(RESERVES);
        if self.making_spare || full.min(beside) > 0 {
            return None;
        }
        self.making_spare = true;
        let number = self.spare_next;
        self.spare_next += 1;
        Some((number, self.path(&spare_name(number))))
    }

    /// Takes the spare `number` in, if it was made.
    pub(super) fn spare_made(&mut self, number: u64, made: bool) {
        self.making_spare = false;
        if made {
            self.spares.push((number, self.segment_bytes));
        }
    }

    /// Drops or recycles segments that end at or before `lsn`; returns how many.
    ///
    /// One directory sync each: a power loss must neither leave a hole in the chain nor an old name on a file that is
    /// already being written over.
    pub(super) fn drop_before(&mut self, lsn: u64) -> Result<u64> {
        let mut dropped = 0;
        while let Some(oldest) = self.closed.front() {
            let end = if self.env.planted("aof_truncate_too_far") { oldest.base_lsn + 1 } else { oldest.end_lsn };
            if end > lsn {
                break;
            }
            let next = self.closed.get(1).map_or(oldest.end_lsn, |next| next.base_lsn);
            assert_eq!(next, oldest.end_lsn, "closed segments lie back to back");
            let (number, file_bytes) = (oldest.number, oldest.file_bytes);
            let path = self.path(&segment_name(number));
            // The reserve stays beside the spares.
            let wanted = self.spares.len() < self.spares_max + RESERVES && file_bytes <= 2 * self.segment_bytes;
            if self.may_recycle(number) && wanted {
                self.env.reached("aof.recycle");
                let spare = (self.spare_next, file_bytes);
                let to = self.path(&spare_name(spare.0));
                self.env.disk().rename(&path, &to).map_err(|error| Error::io("rename", &path, error))?;
                // Gone for readers, whatever becomes of the sync; not to be written over before it.
                self.closed.pop_front();
                self.spare_next += 1;
                self.sync_dropped()?;
                self.spares.push(spare);
            } else {
                self.env.disk().remove(&path).map_err(|error| Error::io("remove", &path, error))?;
                self.closed.pop_front();
                self.sync_dropped()?;
            }
            dropped += 1;
        }
        Ok(dropped)
    }

    fn sync_dropped(&self) -> Result<()> {
        if self.env.planted("aof_recycle_before_dir_sync") { Ok(()) } else { self.sync_dir() }
    }

    /// Removes spares beyond what is kept: crashes leave some.
    pub(super) fn drop_spares(&mut self) -> Result<()> {
        self.spares.sort_unstable_by_key(|(number, bytes)| (*bytes, *number));
        while self.spares.len() > self.spares_max + RESERVES {
            let Some((number, _)) = self.spares.pop() else { break };
            self.remove_spare(number)?;
        }
        Ok(())
    }

    /// Removes the names of segments that were dropped, and came back because a directory sync had failed.
    pub(super) fn remove_stale(&self, numbers: &[u64]) -> Result<()> {
        for number in numbers {
            // Not a declared mark: it takes a file system that forgets names, and the simulated one journals them.
            self.env.reached("aof.stale_name");
            let path = self.path(&segment_name(*number));
            self.env.disk().remove(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Removes the spare name `number`.
    pub(super) fn remove_spare(&self, number: u64) -> Result<()> {
        let path = self.path(&spare_name(number));
        self.env.disk().remove(&path).map_err(|error| Error::io("remove", &path, error))
    }

    /// Syncs the directory.
    pub(super) fn sync_dir(&self) -> Result<()> {
        self.env.disk().sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error))
    }
}
