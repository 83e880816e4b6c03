//! Looks at every byte of a log: [`verify`] a directory, and [`VerifyReport`].
//!
//! Called by the store (`store/verify.rs`), the manifest and tools; reads only, on the calling thread. Of each segment: header, the zeros behind it, every frame's header, payload and
//! padding, the order of ids, times and positions, the footer's checksum over all of it, and that it ends where the next
//! begins. Reading goes on behind damage, so that one report names all of it.
//!
//! **Where one byte was changed, its exact offset is named**: a CRC is linear, so the difference between the checksum that is
//! stored and the one that is found says which single byte explains it. A change that no single byte explains is named by
//! the offset of its frame or header.
//!
//! **What is not damage:** bytes behind the end of a segment, which are zeros or what a recycled file held before; and, in
//! the last segment, frames that were being written when the writer died, if no frame says that they were durable (R2).
//! The latter are counted as torn bytes.

use super::format::{ALIGN, FRAME_BYTES, Fault as Bad, FrameHeader, FrameKind, HEADER_BYTES, SegmentHeader};
use super::index::format::Footer;
use super::index::{Noted, SegmentIndex};
use super::names::{Listing, MANIFEST_DIR, segment_name};
use super::read::{LocalFile, ReadAt};
use super::scan::scan_behind;
use super::segment::frame_place;
use crate::base::checksum::{Crc64, crc32c, locate_crc32c, locate_crc64};
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, Env};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Damage at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file or archived object.
    pub file: PathBuf,
    /// The changed byte, if one byte explains the damage; else where the damaged frame or header begins.
    pub offset: u64,
    /// Which check fails.
    pub what: String,
}

/// What a log was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segment files and images looked at, those of the manifest included.
    pub segments: u64,
    /// Good frames, the log's own included.
    pub frames: u64,
    /// Records in good frames.
    pub records: u64,
    /// Archived objects looked at as a whole.
    pub objects: u64,
    /// Bytes from the segments' starts to their ends.
    pub bytes: u64,
    /// Bytes behind the end that look like frames which were being written when the writer died.
    pub torn_bytes: u64,
    /// All damage, by segment and offset.
    pub faults: Vec<Damage>,
}

impl VerifyReport {
    /// Returns true if no damage was found.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    fn damage(&mut self, file: &Path, offset: u64, what: impl std::fmt::Display) {
        self.faults.push(Damage { file: file.to_path_buf(), offset, what: what.to_string() });
    }

    /// Adds what another look has found.
    pub(super) fn merge(&mut self, other: VerifyReport) {
        self.segments += other.segments;
        self.frames += other.frames;
        self.records += other.records;
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.torn_bytes += other.torn_bytes;
        self.faults.extend(other.faults);
    }

    /// Notes an error that reading met, if it is damage.
    ///
    /// # Errors
    /// Any other error.
    pub(super) fn note(&mut self, error: Error) -> Result<()> {
        let ErrorKind::Corruption { file, offset } = error.kind() else { return Err(error) };
        self.damage(file, *offset, &error);
        Ok(())
    }
}

/// Looks at all segments in `dir`, which nobody writes; ids must continue each other if `ids_contiguous`.
///
/// # Errors
/// What listing and reading met. Damage is no error: it is in the report.
pub fn verify<E: Env>(env: &E, dir: &Path, ids_contiguous: bool) -> Result<VerifyReport> {
    look_at(env, dir, ids_contiguous).map(|(report, _)| report)
}

/// As [`verify`]; also returns the numbers of the segments.
fn look_at<E: Env>(env: &E, dir: &Path, ids_contiguous: bool) -> Result<(VerifyReport, BTreeSet<u64>)> {
    let mut report = VerifyReport::default();
    let listing = Listing::classify(env.disk().list(dir).map_err(|error| Error::io("list", dir, error))?);
    let mut chain: Vec<(LocalFile<E>, SegmentHeader)> = Vec::new();
    let mut first_no = 0;
    for (number, _) in listing.segments.iter().rev().take_while(|(number, _)| *number > 0) {
        if *number < first_no {
            break;
        }
        let file = LocalFile::open(env, &dir.join(segment_name(*number)))?;
        let Some(header) = check_header(&file, &mut report)? else { continue };
        if header.segment_no != *number {
            report.damage(file.name(), 32, format_args!("segment header has number {}", header.segment_no));
            continue;
        }
        if first_no == 0 {
            first_no = header.first_no;
        }
        chain.push((file, header));
    }
    chain.reverse();
    let mut next_id = None;
    for (at, (file, header)) in chain.iter().enumerate() {
        let next = chain.get(at + 1).map(|(next_file, next)| {
            let continues = next.segment_no == header.segment_no + 1;
            if !continues {
                let missing = dir.join(segment_name(header.segment_no + 1));
                report.damage(&missing, 0, "the segment is missing or damaged, and a later one exists");
            }
            if next.log_id != header.log_id || next.base_lsn < header.base_lsn || next.epoch < header.epoch {
                report.damage(next_file.name(), 0, "the segment does not continue the one before");
            }
            next.base_lsn.max(header.base_lsn)
        });
        let is_gap = chain.get(at + 1).is_some_and(|(_, next)| next.segment_no != header.segment_no + 1);
        let end = if is_gap { End::Unknown } else { next.map_or(End::Last, End::At) };
        let mut check = Check::new(env, file, header, &mut report);
        check.ids_contiguous = ids_contiguous;
        check.next_id = next_id.or(check.next_id).filter(|_| ids_contiguous);
        check.segment(end)?;
        next_id = if is_gap { None } else { check.next_id };
    }
    report.faults.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Ok((report, chain.iter().map(|(_, header)| header.segment_no).collect()))
}

/// Looks at every byte of the local segments and of the manifest of the store in `dir`, beside the process that writes it or
/// without one; needs no keys. [`Aof::verify_read_only`](super::Aof::verify_read_only) also looks at what is archived.
///
/// A writer may write, drop and reuse files under the look, so damage is reported only if a second look finds it in the same
/// place.
///
/// # Errors
/// What listing and reading met. Damage is no error: it is in the report.
pub fn verify_store<E: Env>(env: &E, dir: &Path) -> Result<VerifyReport> {
    look_at_store(env, dir).map(|(report, _)| report)
}

/// How often a store is looked at again whose writer drops a listed segment.
const ATTEMPTS: u32 = 10;

/// As [`verify_store`]; also returns the numbers of the local segments.
pub(super) fn look_at_store<E: Env>(env: &E, dir: &Path) -> Result<(VerifyReport, BTreeSet<u64>)> {
    let once = || -> Result<(VerifyReport, BTreeSet<u64>)> {
        let (mut report, local) = look_at(env, dir, true)?;
        report.merge(verify_if_there(env, &dir.join(MANIFEST_DIR), false)?);
        Ok((report, local))
    };
    let (mut attempts, mut first) = (0, None::<Vec<Damage>>);
    loop {
        match (once(), &first) {
            // The writer has dropped a file since it was listed.
            (Err(error), _) if *error.kind() == ErrorKind::NotFound && attempts < ATTEMPTS => attempts += 1,
            (Err(error), _) => return Err(error),
            (Ok((report, _)), None) if !report.is_clean() => first = Some(report.faults),
            (Ok(clean), None) => return Ok(clean),
            (Ok((mut report, local)), Some(first)) => {
                let is_at = |fault: &Damage, other: &Damage| fault.file == other.file && fault.offset == other.offset;
                report.faults.retain(|fault| first.iter().any(|other| is_at(fault, other)));
                return Ok((report, local));
            }
        }
        env.relax();
    }
}

/// As [`verify`], of a directory that need not be there.
///
/// # Errors
/// As [`verify`].
pub(super) fn verify_if_there<E: Env>(env: &E, dir: &Path, ids_contiguous: bool) -> Result<VerifyReport> {
    match env.disk().list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(VerifyReport::default()),
        _ => verify(env, dir, ids_contiguous),
    }
}

/// Looks at one segment, which ends at `end`.
///
/// # Errors
/// What reading met.
pub(super) fn verify_segment<E: Env>(
    env: &E,
    file: &dyn ReadAt,
    end: u64,
    is_image: bool,
    report: &mut VerifyReport,
) -> Result<()> {
    let Some(header) = check_header(file, report)? else { return Ok(()) };
    Check { is_image, ..Check::new(env, file, &header, report) }.segment(End::At(end))
}

/// Where a segment ends.
#[derive(Clone, Copy)]
enum End {
    /// Where the next begins, or what is written ends.
    At(u64),
    /// Wherever the frames end: nothing is behind.
    Last,
    /// Wherever the frames end: the next segment is missing.
    Unknown,
}

/// Checks the first 4096 bytes; returns the header, repaired if need be, or none if it cannot be.
fn check_header(file: &dyn ReadAt, report: &mut VerifyReport) -> Result<Option<SegmentHeader>> {
    report.segments += 1;
    let mut bytes = vec![0; HEADER_BYTES];
    let have = file.read_at(&mut bytes, 0)?;
    if have < HEADER_BYTES {
        report.damage(file.name(), have as u64, "segment header ends early");
        return Ok(None);
    }
    let zeros = super::format::HEADER_CHECKED_BYTES;
    for (at, byte) in bytes.iter().enumerate().skip(zeros).filter(|(_, byte)| **byte != 0) {
        report.damage(file.name(), at as u64, format_args!("byte {byte:#04x} behind the segment header, expected 0"));
    }
    match (SegmentHeader::decode(&bytes), SegmentHeader::repair(&bytes)) {
        (Ok(header), _) => Ok(Some(header)),
        (Err(Bad::HeaderChecksum), Some((at, header))) => {
            report.damage(file.name(), at as u64, "segment header fails its checksum; this byte was changed");
            Ok(Some(header))
        }
        (Err(fault), _) => {
            report.damage(file.name(), 0, format_args!("segment header {fault}"));
            Ok(None)
        }
    }
}

/// The check of one segment.
struct Check<'a, E: Env> {
    env: &'a E,
    file: &'a dyn ReadAt,
    header: &'a SegmentHeader,
    report: &'a mut VerifyReport,
    next_id: Option<u64>,
    ids_contiguous: bool,
    /// What the footer must say.
    index: SegmentIndex,
    /// Damage before this segment.
    faults_before: usize,
    /// Whether this is an archived image, decrypted, of which the footer's checksum says nothing.
    is_image: bool,
    /// Which damage is of a payload that several bytes explain, and where that is in the file.
    unclear: Option<(usize, Range<u64>)>,
}

impl<'a, E: Env> Check<'a, E> {
    fn new(env: &'a E, file: &'a dyn ReadAt, header: &'a SegmentHeader, report: &'a mut VerifyReport) -> Check<'a, E> {
        let faults_before = report.faults.iter().filter(|fault| fault.file != file.name()).count();
        let (next_id, index) = (Some(header.base_id), SegmentIndex::new(header.base_id));
        let (ids_contiguous, is_image, unclear) = (true, false, None);
        Check { env, file, header, report, next_id, ids_contiguous, index, faults_before, is_image, unclear }
    }

    fn offset(&self, lsn: u64) -> u64 {
        HEADER_BYTES as u64 + (lsn - self.header.base_lsn)
    }

    fn damage(&mut self, offset: u64, what: impl std::fmt::Display) {
        self.report.damage(self.file.name(), offset, what);
    }

    /// Returns true while no damage was found in this segment.
    fn is_clean(&self) -> bool {
        self.report.faults.len() == self.faults_before
    }

    /// Compares the footer at `lsn` with the frames and bytes before it.
    fn footer(&mut self, lsn: u64, header: &FrameHeader) -> Result<()> {
        let payload = self.read(lsn + FRAME_BYTES as u64, header.len as usize)?;
        let footer = match Footer::decode(&payload, self.header.base_lsn) {
            Ok(footer) => footer,
            Err(fault) => {
                self.damage(self.offset(lsn), format_args!("footer {fault}"));
                return Ok(());
            }
        };
        if footer.index != self.index {
            self.damage(self.offset(lsn), "the footer contradicts the frames before it");
        }
        if self.is_image {
            return Ok(());
        }
        let (end, crc) = (self.offset(lsn), self.crc64(lsn)?);
        if crc != footer.crc64 {
            let flip = locate_crc64(footer.crc64, crc, end as usize);
            let offset = flip.map_or(0, |flip| flip.at as u64);
            self.damage(offset, "the segment fails the checksum in its footer");
        }
        Ok(())
    }

    /// Names the one byte which explains the only damage there is, by the checksum in the footer at `lsn`.
    fn clear_up(&mut self, lsn: u64, header: &FrameHeader) -> Result<()> {
        let Some((fault, payload)) = self.unclear.take() else { return Ok(()) };
        let bytes = self.read(lsn + FRAME_BYTES as u64, header.len as usize)?;
        let Ok(footer) = Footer::decode(&bytes, self.header.base_lsn) else { return Ok(()) };
        let flip = locate_crc64(footer.crc64, self.crc64(lsn)?, self.offset(lsn) as usize);
        if let Some(offset) = flip.map(|flip| flip.at as u64).filter(|offset| payload.contains(offset)) {
            self.report.faults[fault].offset = offset;
            self.report.faults[fault].what.push_str("; this byte was changed");
        }
        Ok(())
    }

    /// Returns the checksum of the file's bytes before `lsn`.
    fn crc64(&self, lsn: u64) -> Result<u64> {
        let (mut crc, mut at, end) = (Crc64::new(), 0, self.offset(lsn));
        let mut buffer = vec![0; 64 << 10];
        while at < end {
            let wanted = (end - at).min(buffer.len() as u64) as usize;
            let have = self.file.read_at(&mut buffer[..wanted], at)?;
            crc.update(&buffer[..have]);
            at += wanted as u64;
        }
        Ok(crc.value())
    }

    fn read(&self, lsn: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let have = self.file.read_at(&mut bytes, self.offset(lsn))?;
        bytes.truncate(have);
        Ok(bytes)
    }

    fn segment(&mut self, end: End) -> Result<()> {
        let limit = match end {
            End::At(end) => end,
            End::Last | End::Unknown => {
                let room = self.file.bytes().saturating_sub(HEADER_BYTES as u64);
                self.header.base_lsn + room / ALIGN * ALIGN
            }
        };
        let (mut lsn, mut ts) = (self.header.base_lsn, 0);
        while lsn < limit {
            match self.frame(lsn, limit, end)? {
                Some(header) => {
                    if header.ts < ts {
                        self.damage(self.offset(lsn), "the frame goes back in time");
                    } else if self.is_clean() {
                        self.index.note(&Noted {
                            lsn,
                            kind: header.kind,
                            count: header.count,
                            len: header.len,
                            first_id: header.first_id,
                            ts: header.ts,
                        });
                    }
                    ts = ts.max(header.ts);
                    let is_last_frame = header.kind == FrameKind::Footer;
                    if is_last_frame && self.is_clean() {
                        self.footer(lsn, &header)?;
                    } else if is_last_frame && self.report.faults.len() == self.faults_before + 1 && !self.is_image {
                        self.clear_up(lsn, &header)?;
                    }
                    lsn += header.frame_bytes();
                }
                None if matches!(end, End::Last) => {
                    self.end_of_last(lsn)?;
                    break;
                }
                None => match self.next_good(lsn, limit)? {
                    Some(next) => {
                        self.next_id = None;
                        lsn = next;
                    }
                    None => break,
                },
            }
        }
        self.report.bytes += self.offset(lsn);
        Ok(())
    }

    /// Checks the frame at `lsn`; none if there is nothing that can be taken for one.
    fn frame(&mut self, lsn: u64, limit: u64, end: End) -> Result<Option<FrameHeader>> {
        let bytes = self.read(lsn, FRAME_BYTES)?;
        let place = frame_place(self.env, self.header, lsn);
        let (header, repaired) = match FrameHeader::decode(&bytes, &place) {
            Ok(header) => (header, None),
            Err(fault) => match self.repair(&bytes, lsn, limit)? {
                Some((at, header)) => (header, Some(at)),
                None => {
                    if !matches!(end, End::Last) {
                        self.damage(self.offset(lsn), format_args!("frame {fault}"));
                    }
                    return Ok(None);
                }
            },
        };
        if lsn + header.frame_bytes() > limit {
            if !matches!(end, End::Last) {
                self.damage(self.offset(lsn), format_args!("frame {}", Bad::Overrun));
            }
            return Ok(None);
        }
        if let Some(at) = repaired {
            self.damage(self.offset(lsn) + at as u64, "frame fails its header checksum; this byte was changed");
        }
        if let Err(fault) = self.header.admit(&header) {
            self.damage(self.offset(lsn), format_args!("frame {fault}"));
        }
        if !self.payload(lsn, &header, matches!(end, End::Last))? {
            return Ok(None);
        }
        self.count(lsn, &header);
        Ok(Some(header))
    }

    /// Finds the header that differs from `bytes` in one byte and whose payload is good.
    fn repair(&self, bytes: &[u8], lsn: u64, limit: u64) -> Result<Option<(usize, FrameHeader)>> {
        let place = frame_place(self.env, self.header, lsn);
        for (at, header) in FrameHeader::repairs(bytes, &place) {
            if lsn + header.frame_bytes() <= limit {
                let stored = self.read(lsn + FRAME_BYTES as u64, header.stored_bytes() as usize)?;
                if header.payload_is_good(&stored) {
                    return Ok(Some((at, header)));
                }
            }
        }
        Ok(None)
    }

    /// Checks payload and padding. In the last segment returns false for a payload that no single byte explains: it may
    /// have been cut off while it was written.
    fn payload(&mut self, lsn: u64, header: &FrameHeader, is_last: bool) -> Result<bool> {
        let at = lsn + FRAME_BYTES as u64;
        let stored = self.read(at, (header.frame_bytes() - FRAME_BYTES as u64) as usize)?;
        let len = (header.stored_bytes() as usize).min(stored.len());
        let (payload, padding) = stored.split_at(len);
        if !header.payload_is_good(payload) {
            let found = crc32c(&[], &[payload]);
            match locate_crc32c(header.payload_crc, found, payload.len())[..] {
                [flip] => {
                    let offset = self.offset(at) + flip.at as u64;
                    self.damage(offset, "frame fails its payload checksum; this byte was changed");
                }
                _ if is_last => return Ok(false),
                _ => {
                    let start = self.offset(at);
                    self.unclear = Some((self.report.faults.len(), start..start + payload.len() as u64));
                    self.damage(self.offset(lsn), "frame fails its payload checksum");
                }
            }
        }
        for (skip, byte) in padding.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            let offset = self.offset(at) + (len + skip) as u64;
            self.damage(offset, format_args!("byte {byte:#04x} in the padding of a frame, expected 0"));
        }
        Ok(true)
    }

    fn count(&mut self, lsn: u64, header: &FrameHeader) {
        self.report.frames += 1;
        if header.kind != FrameKind::Data {
            return;
        }
        self.report.records += u64::from(header.count);
        if let Some(next) = self.next_id.filter(|next| *next != header.first_id) {
            self.damage(
                self.offset(lsn),
                format_args!("frame begins with id {}, the next id is {next}", header.first_id),
            );
        }
        self.next_id = self.ids_contiguous.then(|| header.first_id.saturating_add(u64::from(header.count)));
    }

    /// The last segment's frames end at `lsn`: cleanly, torn, or damaged below what a later frame says was durable.
    fn end_of_last(&mut self, lsn: u64) -> Result<()> {
        let behind = scan_behind(self.env, self.file, self.header, self.file.bytes(), lsn)?;
        if behind.durable > lsn {
            let witness = self.offset(behind.witness);
            let what = format_args!("frame is damaged, and the one at offset {witness} says that it was durable");
            self.damage(self.offset(lsn), what);
        } else {
            self.report.torn_bytes += behind.end - lsn;
        }
        Ok(())
    }

    /// Returns where the first good frame header behind `lsn` is.
    fn next_good(&self, lsn: u64, limit: u64) -> Result<Option<u64>> {
        let mut at = lsn + ALIGN;
        while at + FRAME_BYTES as u64 <= limit {
            let bytes = self.read(at, (64 << 10).min((limit - at) as usize))?;
            let mut skip = 0;
            while skip + FRAME_BYTES <= bytes.len() {
                let place = frame_place(self.env, self.header, at + skip as u64);
                if FrameHeader::decode(&bytes[skip..], &place).is_ok() {
                    return Ok(Some(at + skip as u64));
                }
                skip += ALIGN as usize;
            }
            if skip == 0 {
                break;
            }
            at += skip as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_env::TestEnv;
    use super::super::types::{Append, LogOptions};
    use super::super::{Log, Lsn};
    use super::*;

    const DIR: &str = "log";

    fn log(rounds: usize) -> TestEnv {
        let env = TestEnv::default();
        let options = LogOptions { segment_bytes: 8192, ids_contiguous: true, index: true, ..LogOptions::default() };
        let (log, _) = Log::open(env.clone(), Path::new(DIR), options, &mut |_| Ok(())).unwrap();
        for (number, len) in [5, 1, 300, 2000, 8, 1500, 77, 1000, 64, 9].repeat(rounds).into_iter().enumerate() {
            let payload = vec![number as u8 * 3 + 1; len];
            let append = Append { kind: FrameKind::Data, count: 2, first_id: None, tag: 9, parts: &[&payload] };
            let appended = log.append(&append).unwrap();
            log.sync_to(appended.end).unwrap();
        }
        log.close().unwrap();
        env
    }

    #[test]
    fn a_good_log_is_clean_and_counted() {
        let report = verify(&log(1), Path::new(DIR), true).unwrap();
        assert_eq!(report.faults, []);
        assert_eq!((report.records, report.torn_bytes), (20, 0));
        assert!(report.segments >= 2 && report.frames >= 11);
    }

    /// Every byte of every segment: it is named with its exact offset, or lies behind the segment's end.
    #[test]
    fn each_changed_byte_is_named_exactly() {
        let env = log(1);
        let dir = Path::new(DIR);
        let bases = |env: &TestEnv| {
            let listing = Listing::classify(env.disk().list(dir).unwrap());
            let header = |number| {
                let file: LocalFile<TestEnv> = LocalFile::open(env, &dir.join(segment_name(number))).unwrap();
                super::super::read::read_header(&file).unwrap().unwrap()
            };
            listing.segments.iter().map(|(number, _)| header(*number)).collect::<Vec<_>>()
        };
        let headers = bases(&env);
        let whole = verify(&env, dir, true).unwrap();
        let mut left = whole.bytes;
        for (at, header) in headers.iter().enumerate() {
            let path = dir.join(segment_name(header.segment_no));
            let bytes = env.read(&path).len() as u64;
            let end = match headers.get(at + 1) {
                Some(next) => HEADER_BYTES as u64 + next.base_lsn - header.base_lsn,
                None => left,
            };
            left -= end;
            for offset in 0..bytes {
                let mask = (offset as u8).wrapping_mul(37) | 1;
                env.damage(&path, |bytes| bytes[offset as usize] ^= mask);
                let report = verify(&env, dir, true).unwrap();
                let named: Vec<_> = report.faults.iter().map(|fault| (fault.file.clone(), fault.offset)).collect();
                if offset < end {
                    assert_eq!(named, [(path.clone(), offset)], "of {end}: {:?}", report.faults);
                } else {
                    assert_eq!(named, [], "slack");
                    assert_eq!(report.records, whole.records);
                }
                env.damage(&path, |bytes| bytes[offset as usize] ^= mask);
            }
        }
        assert_eq!(left, 0);
    }

    #[test]
    fn missing_and_torn_are_told_apart() {
        let env = log(3);
        let dir = Path::new(DIR);
        env.forget(&dir.join(segment_name(2)));
        let report = verify(&env, dir, true).unwrap();
        assert!(report.faults.iter().any(|fault| fault.file == dir.join(segment_name(2))), "{:?}", report.faults);
        let env = TestEnv::default();
        let options = LogOptions { ids_contiguous: true, ..LogOptions::default() };
        let (log, _) = Log::open(env.clone(), dir, options, &mut |_| Ok(())).unwrap();
        for payload in [[1; 100], [2; 100]] {
            let append = Append { kind: FrameKind::Data, count: 1, first_id: None, tag: 0, parts: &[&payload] };
            log.append(&append).unwrap();
        }
        log.write_out().unwrap();
        assert_eq!(log.durable(), Lsn(0));
        env.damage(&dir.join(segment_name(1)), |bytes| bytes[HEADER_BYTES + 50..HEADER_BYTES + 80].fill(0));
        let report = verify(&env, dir, true).unwrap();
        assert_eq!(report.faults, []);
        assert!(report.torn_bytes > 0 && report.records == 0);
    }
}
