//! The log's bytes: segment header and frame header, little-endian, with their checksums. Pure functions over slices.
//!
//! Encoders are called by the writer and by recovery; decoders by recovery, tools and fuzz targets, on any thread and any
//! input: they never panic and never allocate.
//!
//! # A segment file
//!
//! | offset | what |
//! |---|---|
//! | 0 | header, 4096 bytes |
//! | 4096 | frames, each at a multiple of 8, back to back |
//! | after the last frame | zeros, or what a recycled file held before |
//!
//! # Segment header
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of bytes 4..256 |
//! | 4 | 7 | magic `AiDbLog` |
//! | 11 | 1 | [`FormatVersion`] |
//! | 12 | 4 | flags, 0 |
//! | 16 | 16 | log id: random, the same in every segment of a log |
//! | 32 | 8 | segment number, 1 for the first, the file's name |
//! | 40 | 8 | base LSN: of the first frame, and the end of the segment before |
//! | 48 | 8 | base id: the first record number expected |
//! | 56 | 8 | base time: microseconds since 1970, no later than the first frame's |
//! | 64 | 8 | epoch: 1 more at each open of the log that makes a segment |
//! | 72 | 4 | key id, 0 = not encrypted; from version 2 |
//! | 76 | 1 | codec, 0 = not compressed |
//! | 77 | 3 | 0 |
//! | 80 | 16 | salt: random, for this life of the file |
//! | 96 | 8 | number of the oldest segment kept when this one was made: names below are left over |
//! | 104 | 8 | key check: derived from the segment's key, 0 if there is none; from version 2 |
//! | 112 | 144 | 0 |
//! | 256 | 3840 | ignored |
//!
//! # Frame header, then the payload, then 16 bytes more if tagged, then zeros up to a multiple of 8
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of log id, salt, **LSN** (8 bytes, not stored), bytes 4..40 |
//! | 4 | 4 | CRC-32C of the payload as stored, and of the 16 bytes of a tagged frame |
//! | 8 | 4 | payload length, never 0; without those 16 bytes |
//! | 12 | 2 | record count |
//! | 14 | 1 | [`FrameKind`] |
//! | 15 | 1 | flags: 2 = tagged, from version 2; 1 = compressed is reserved |
//! | 16 | 8 | id of the first record |
//! | 24 | 8 | time: microseconds since 1970, never less than the frame before |
//! | 32 | 4 | durable back: how far before this frame the log was known to be durable when it was made, in units of 8 |
//! | 36 | 4 | tag |
//!
//! The LSN of the frame at file offset `o` is `base LSN + o - 4096`. It takes part in the checksum, so a frame of an earlier
//! life of the file, of another log, or in the wrong place fails. The salt does the same where the LSN cannot: for the tail
//! that an interrupted recovery copied into a file which is used again.
//!
//! **Torn tail or damage.** The end is the first place whose header or payload fails. In any but the last segment that is
//! damage. In the last one it is a torn tail, unless a frame header behind it, at any multiple of 8, is good and says that
//! the log was durable beyond that place: then it is damage.
//!
//! **Tagged frames.** In a segment with a key id the payload of every DATA, META and REWRITE frame is AES-256-GCM
//! ciphertext and the 16 bytes behind it are its tag (`crypt` has nonce and associated data); such a frame without the flag
//! is damage, so that nobody can put plain frames into an encrypted segment. MARK and FOOTER frames are never tagged. In
//! the decrypted image of such a segment, which is what goes into the archive, key id and key check are 0 and so are the
//! 16 bytes: positions are the same in both.
//!
//! **Evolution.** A version is refused by programs that do not know it. Kinds 6 and up, flags, codecs and zero bytes are
//! given meaning only by a new version. Written is the lowest version that has what the segment needs, so that programs
//! which know version 1 read every log without index and keys.
//!
//! **Worked example.** Payload `hello`, kind 1, count 1, id 7, time 1,000,000 us, tag 3, at LSN 48 of a log whose id is sixteen
//! bytes 1 and whose segment's salt is sixteen bytes 2, all before it durable:
//! `2633610b 4cbb719a 05000000 0100 01 00 0700000000000000 40420f0000000000 00000000 03000000 68656c6c6f 000000`.

use crate::base::checksum::{crc32c, locate_crc32c};
use crate::base::coding::{get_u16, get_u32, get_u64};
use std::fmt;

/// Bytes of a segment header.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of the segment header that the checksum covers, itself included.
pub const HEADER_CHECKED_BYTES: usize = 256;
/// Bytes of a frame header.
pub const FRAME_BYTES: usize = 40;
/// Frames begin at multiples of this.
pub const ALIGN: u64 = 8;
/// Bytes behind the payload of a tagged frame.
pub const TAG_BYTES: usize = 16;
/// Bytes of a segment's key check.
pub const KEY_CHECK_BYTES: usize = 8;
/// The flag of a tagged frame.
const FLAG_TAGGED: u8 = 2;
/// The first bytes after a segment header's checksum.
pub const MAGIC: [u8; 7] = *b"AiDbLog";

const _: () = assert!(4 + MAGIC.len() + 1 + 4 + 16 + 5 * 8 + 4 + 1 + 3 + 16 + 8 + KEY_CHECK_BYTES == 112);
const _: () = assert!(112 + 144 == HEADER_CHECKED_BYTES && HEADER_CHECKED_BYTES < HEADER_BYTES);
const _: () = assert!(4 + 4 + 4 + 2 + 1 + 1 + 8 + 8 + 4 + 4 == FRAME_BYTES);
const _: () = assert!((FRAME_BYTES as u64).is_multiple_of(ALIGN) && (HEADER_BYTES as u64).is_multiple_of(ALIGN));

/// A version of the bytes described above. Only ever added to; each is read forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FormatVersion {
    /// The first: no flags, codecs, footers or encryption.
    #[default]
    V1 = 1,
    /// Adds tagged frames, key id and key check, and footers of sealed segments.
    V2 = 2,
}

impl FormatVersion {
    /// The latest.
    pub const CURRENT: FormatVersion = FormatVersion::V2;

    /// Returns the lowest version that has what a segment needs.
    pub fn lowest(footer: bool, encrypted: bool) -> FormatVersion {
        if footer || encrypted { FormatVersion::V2 } else { FormatVersion::V1 }
    }

    fn decode(byte: u8) -> Option<FormatVersion> {
        [FormatVersion::V1, FormatVersion::V2].into_iter().find(|version| *version as u8 == byte)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Records of the caller.
    Data = 1,
    /// Nothing but a durability mark; its payload is 8 bytes that mean nothing. Count 1 if recovery put it behind a tail
    /// that it copied, else 0.
    Mark = 2,
    /// The index of a sealed segment, its last frame. Never written in version 1.
    Footer = 3,
    /// The caller's own bookkeeping.
    Meta = 4,
    /// Records that replace earlier ones of the same ids.
    Rewrite = 5,
}

impl FrameKind {
    fn decode(byte: u8) -> Option<FrameKind> {
        [FrameKind::Data, FrameKind::Mark, FrameKind::Footer, FrameKind::Meta, FrameKind::Rewrite]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    /// Returns true if frames of this kind are the caller's, false if they are the log's own.
    pub fn is_callers(self) -> bool {
        matches!(self, FrameKind::Data | FrameKind::Meta | FrameKind::Rewrite)
    }
}

/// Why bytes are not a segment header or a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fewer bytes than a header takes.
    Short,
    /// All zero: nothing was ever written here.
    Blank,
    /// The header's checksum fails, or would if the frame lay elsewhere.
    HeaderChecksum,
    /// The header is good and the payload's checksum fails.
    PayloadChecksum,
    /// The header is good and its payload would end beyond the segment.
    Overrun,
    /// The checksum is good and the magic is not.
    Magic,
    /// The checksum is good and the version is not known here.
    Version(u8),
    /// The checksum is good and a reserved field, flag or kind is in use.
    Reserved,
    /// The checksum is good and fields contradict each other.
    Contradiction,
    /// The checksum is good and the frame is not encrypted, in an encrypted segment.
    NotEncrypted,
    /// The checksums are good and the key does not open the payload.
    Authentication,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Short => "ends early",
            Fault::Blank => "is blank",
            Fault::HeaderChecksum => "fails its header checksum",
            Fault::PayloadChecksum => "fails its payload checksum",
            Fault::Overrun => "ends beyond its segment",
            Fault::Magic => "is not of a log",
            Fault::Version(version) => return write!(f, "has format version {version}, newer than this program"),
            Fault::Reserved => "uses a feature newer than this program",
            Fault::Contradiction => "contradicts itself",
            Fault::NotEncrypted => "is not encrypted, and its segment is",
            Fault::Authentication => "fails its authentication",
        })
    }
}

impl Fault {
    /// Returns true if no interrupted write leaves such bytes: the checksum is good.
    pub fn is_never_torn(self) -> bool {
        match self {
            Fault::Short | Fault::Blank | Fault::HeaderChecksum | Fault::PayloadChecksum | Fault::Overrun => false,
            Fault::Magic | Fault::Version(_) | Fault::Reserved | Fault::Contradiction => true,
            Fault::NotEncrypted | Fault::Authentication => true,
        }
    }
}

/// The decoded header of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    /// What the segment may hold.
    pub version: FormatVersion,
    /// The log's identity.
    pub log_id: [u8; 16],
    /// Position in the chain of segments, from 1.
    pub segment_no: u64,
    /// LSN of the first frame.
    pub base_lsn: u64,
    /// The first record number expected.
    pub base_id: u64,
    /// No later than the first frame's time, microseconds since 1970.
    pub base_ts: u64,
    /// Which open of the log made this segment, from 1.
    pub epoch: u64,
    /// This life of the file.
    pub salt: [u8; 16],
    /// Number of the oldest segment kept when this one was made.
    pub first_no: u64,
    /// The master key that the segment's key is derived from, 0 = not encrypted.
    pub key_id: u32,
    /// What tells a wrong master key from the right one; 0 if there is none.
    pub key_check: [u8; KEY_CHECK_BYTES],
}

impl SegmentHeader {
    /// Returns the whole header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out[4..11].copy_from_slice(&MAGIC);
        let is_plain = self.key_id == 0 && self.key_check == [0; KEY_CHECK_BYTES];
        assert!(is_plain || self.version >= FormatVersion::V2, "version 1 has no keys");
        out[11] = self.version as u8;
        out[16..32].copy_from_slice(&self.log_id);
        let numbers = [self.segment_no, self.base_lsn, self.base_id, self.base_ts, self.epoch];
        for (field, number) in out[32..72].chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        out[72..76].copy_from_slice(&self.key_id.to_le_bytes());
        out[80..96].copy_from_slice(&self.salt);
        out[96..104].copy_from_slice(&self.first_no.to_le_bytes());
        out[104..112].copy_from_slice(&self.key_check);
        let crc = crc32c(&[], &[&out[4..HEADER_CHECKED_BYTES]]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// The [`Fault`]; `bytes` may hold anything.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Fault> {
        let checked = bytes.get(..HEADER_CHECKED_BYTES).ok_or(Fault::Short)?;
        if checked.iter().all(|byte| *byte == 0) {
            return Err(Fault::Blank);
        }
        if get_u32(checked, 0) != Some(crc32c(&[], &[&checked[4..]])) {
            return Err(Fault::HeaderChecksum);
        }
        if checked[4..11] != MAGIC {
            return Err(Fault::Magic);
        }
        let version = FormatVersion::decode(checked[11]).ok_or(Fault::Version(checked[11]))?;
        let of_keys = checked[72..76].iter().chain(&checked[104..112]);
        let unused = checked[12..16].iter().chain(&checked[76..80]).chain(&checked[112..]);
        if unused.chain(of_keys.filter(|_| version == FormatVersion::V1)).any(|byte| *byte != 0) {
            return Err(Fault::Reserved);
        }
        let number = |at| get_u64(checked, at).ok_or(Fault::Short);
        let bytes16 = |at: usize| checked[at..].first_chunk().copied().ok_or(Fault::Short);
        let header = SegmentHeader {
            version,
            log_id: bytes16(16)?,
            segment_no: number(32)?,
            base_lsn: number(40)?,
            base_id: number(48)?,
            base_ts: number(56)?,
            epoch: number(64)?,
            salt: bytes16(80)?,
            first_no: number(96)?,
            key_id: get_u32(checked, 72).ok_or(Fault::Short)?,
            key_check: checked[104..].first_chunk().copied().ok_or(Fault::Short)?,
        };
        // Half the range of positions is out of reach of any log, which keeps every sum below in range.
        let in_order = 0 < header.first_no && header.first_no <= header.segment_no;
        let check_without_key = header.key_id == 0 && header.key_check != [0; KEY_CHECK_BYTES];
        if !in_order || check_without_key || !header.base_lsn.is_multiple_of(ALIGN) || header.base_lsn > u64::MAX / 2 {
            return Err(Fault::Contradiction);
        }
        Ok(header)
    }

    /// Returns the header that differs from `bytes` in one byte and passes its checksum, with the offset of that byte, if
    /// there is exactly one: for tools that look at damage.
    pub fn repair(bytes: &[u8]) -> Option<(usize, SegmentHeader)> {
        let checked = bytes.get(..HEADER_CHECKED_BYTES)?;
        let (stored, found) = (get_u32(checked, 0)?, crc32c(&[], &[&checked[4..]]));
        let changed = (stored ^ found).to_le_bytes();
        let in_checksum = changed.iter().enumerate().filter(|(_, mask)| **mask != 0).map(|(at, mask)| (at, *mask));
        let in_checksum = if in_checksum.clone().count() == 1 { in_checksum.collect() } else { Vec::new() };
        let in_fields = locate_crc32c(stored, found, HEADER_CHECKED_BYTES - 4);
        let candidates = in_checksum.into_iter().chain(in_fields.into_iter().map(|flip| (flip.at + 4, flip.mask)));
        let mut repaired = candidates.filter_map(|(at, mask)| {
            let mut bytes = checked.to_vec();
            bytes[at] ^= mask;
            Some((at, SegmentHeader::decode(&bytes).ok()?))
        });
        repaired.next().filter(|_| repaired.next().is_none())
    }

    /// Checks that a frame which decoded may be in this segment.
    ///
    /// # Errors
    /// The [`Fault`]: a tagged frame in version 1 or of a kind that is never tagged, or a plain one of the caller in an
    /// encrypted segment.
    pub fn admit(&self, frame: &FrameHeader) -> Result<(), Fault> {
        match frame.tagged {
            true if self.version < FormatVersion::V2 => Err(Fault::Reserved),
            true if !frame.kind.is_callers() => Err(Fault::Contradiction),
            false if self.key_id != 0 && frame.kind.is_callers() => Err(Fault::NotEncrypted),
            _ => Ok(()),
        }
    }

    /// Returns the bytes of a caller's frame with a payload of `len` in this segment: header, payload, tag, padding.
    pub fn frame_bytes(&self, len: u64) -> u64 {
        frame_bytes(if self.key_id == 0 { len } else { len + TAG_BYTES as u64 })
    }

    /// Returns the place of the frame at `lsn` of this segment.
    pub fn place(&self, lsn: u64) -> Place {
        Place { log_id: self.log_id, salt: self.salt, lsn }
    }
}

/// Where a frame lies: what its checksum covers beside its own bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of the log.
    pub log_id: [u8; 16],
    /// Of the segment.
    pub salt: [u8; 16],
    /// Of the frame.
    pub lsn: u64,
}

impl Place {
    /// Bytes that a checksum covers before those of the frame.
    const BYTES: usize = 40;

    fn crc(&self, header: &[u8; FRAME_BYTES]) -> u32 {
        let mut covered = [0; 40 + FRAME_BYTES - 4];
        covered[..16].copy_from_slice(&self.log_id);
        covered[16..32].copy_from_slice(&self.salt);
        covered[32..40].copy_from_slice(&self.lsn.to_le_bytes());
        covered[40..].copy_from_slice(&header[4..]);
        crc32c(&[], &[&covered])
    }
}

/// The decoded header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// CRC-32C of the payload as stored, tag included.
    pub payload_crc: u32,
    /// Payload length, without the tag.
    pub len: u32,
    /// Record count.
    pub count: u16,
    /// What the frame is.
    pub kind: FrameKind,
    /// Whether [`TAG_BYTES`] follow the payload.
    pub tagged: bool,
    /// Id of the first record.
    pub first_id: u64,
    /// Microseconds since 1970.
    pub ts: u64,
    /// Distance back to what was durable, in units of [`ALIGN`].
    pub durable_back: u32,
    /// The caller's mark.
    pub tag: u32,
}

impl FrameHeader {
    /// Returns the header's bytes for a frame at `place`.
    pub fn encode(&self, place: &Place) -> [u8; FRAME_BYTES] {
        let mut out = self.fields();
        let crc = place.crc(&out);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Returns what the tag of an encrypted frame covers beside the payload: bytes 8..40 of the header.
    pub fn associated_data(&self) -> [u8; FRAME_BYTES - 8] {
        let mut out = [0; FRAME_BYTES - 8];
        out.copy_from_slice(&self.fields()[8..]);
        out
    }

    /// All bytes but the header's checksum.
    fn fields(&self) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        out[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..14].copy_from_slice(&self.count.to_le_bytes());
        out[14] = self.kind as u8;
        out[15] = if self.tagged { FLAG_TAGGED } else { 0 };
        out[16..24].copy_from_slice(&self.first_id.to_le_bytes());
        out[24..32].copy_from_slice(&self.ts.to_le_bytes());
        out[32..36].copy_from_slice(&self.durable_back.to_le_bytes());
        out[36..40].copy_from_slice(&self.tag.to_le_bytes());
        out
    }

    /// Reads the header of a frame at `place` from the start of `bytes`. The payload is checked by [`payload_is_good`](Self::payload_is_good).
    ///
    /// # Errors
    /// The [`Fault`]; `bytes` may hold anything.
    pub fn decode(bytes: &[u8], place: &Place) -> Result<FrameHeader, Fault> {
        let header: &[u8; FRAME_BYTES] = bytes.first_chunk().ok_or(Fault::Short)?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(Fault::Blank);
        }
        if get_u32(header, 0) != Some(place.crc(header)) {
            return Err(Fault::HeaderChecksum);
        }
        FrameHeader::decode_unchecked(header)
    }

    /// Returns the headers that differ from `bytes` in one byte and pass their checksum at `place`, each with the offset of
    /// that byte: for tools that look at damage.
    pub fn repairs(bytes: &[u8], place: &Place) -> Vec<(usize, FrameHeader)> {
        let Some(header) = bytes.first_chunk::<FRAME_BYTES>() else { return Vec::new() };
        let (stored, found) = (get_u32(header, 0).unwrap_or(0), place.crc(header));
        let mut repaired = Vec::new();
        let mut consider = |at: usize, mask: u8| {
            let mut bytes = *header;
            bytes[at] ^= mask;
            if let Ok(header) = FrameHeader::decode(&bytes, place) {
                repaired.push((at, header));
            }
        };
        let changed = (stored ^ found).to_le_bytes();
        if changed.iter().filter(|byte| **byte != 0).count() == 1 {
            changed.iter().enumerate().for_each(|(at, mask)| consider(at, *mask));
        }
        for flip in locate_crc32c(stored, found, Place::BYTES + FRAME_BYTES - 4) {
            if let Some(at) = flip.at.checked_sub(Place::BYTES) {
                consider(at + 4, flip.mask);
            }
        }
        repaired
    }

    /// Reads a header's fields without its checksum: for tools that look at damage.
    ///
    /// # Errors
    /// The [`Fault`]; `bytes` may hold anything.
    pub fn decode_unchecked(bytes: &[u8]) -> Result<FrameHeader, Fault> {
        let header: &[u8; FRAME_BYTES] = bytes.first_chunk().ok_or(Fault::Short)?;
        let word = |at| get_u32(header, at).ok_or(Fault::Short);
        let decoded = FrameHeader {
            payload_crc: word(4)?,
            len: word(8)?,
            count: get_u16(header, 12).ok_or(Fault::Short)?,
            kind: FrameKind::decode(header[14]).ok_or(Fault::Reserved)?,
            tagged: header[15] == FLAG_TAGGED,
            first_id: get_u64(header, 16).ok_or(Fault::Short)?,
            ts: get_u64(header, 24).ok_or(Fault::Short)?,
            durable_back: word(32)?,
            tag: word(36)?,
        };
        match decoded.len {
            0 => Err(Fault::Contradiction),
            _ if header[15] & !FLAG_TAGGED != 0 => Err(Fault::Reserved),
            _ => Ok(decoded),
        }
    }

    /// Returns true if `stored`, the payload and its tag if there is one, is what the header was made for.
    pub fn payload_is_good(&self, stored: &[u8]) -> bool {
        stored.len() as u64 == self.stored_bytes() && crc32c(&[], &[stored]) == self.payload_crc
    }

    /// Returns the bytes of the payload and its tag.
    pub fn stored_bytes(&self) -> u64 {
        u64::from(self.len) + if self.tagged { TAG_BYTES as u64 } else { 0 }
    }

    /// Returns the bytes from the start of this frame to the start of the next.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.stored_bytes())
    }

    /// Returns up to where the log was known to be durable when the frame was made at `lsn`; none before the log's start.
    pub fn durable(&self, lsn: u64) -> Option<u64> {
        lsn.checked_sub(u64::from(self.durable_back) * ALIGN)
    }
}

/// Returns the nonce of the frame at `number`, an LSN, or of the block `number` of an archived object: four zeros, then the
/// number in 8 bytes.
pub fn nonce(number: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[4..].copy_from_slice(&number.to_le_bytes());
    out
}

/// Returns the bytes of a frame whose payload and tag take `stored`: header, these, padding.
pub const fn frame_bytes(stored: u64) -> u64 {
    (FRAME_BYTES as u64 + stored).next_multiple_of(ALIGN)
}

/// Returns false where no frame header can be, looking at two fields only: the scan for later frames rests on it.
pub fn may_be_frame(bytes: &[u8]) -> bool {
    match (get_u32(bytes, 8), get_u32(bytes, 12)) {
        // Kind in the third byte, flags in the fourth.
        (Some(len), Some(word)) => {
            let flags = (word >> 24) as u8;
            len != 0 && flags & !FLAG_TAGGED == 0 && FrameKind::decode((word >> 16) as u8).is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn example() -> (FrameHeader, Place) {
        let header = FrameHeader {
            payload_crc: crc32c(&[], &[b"hello"]),
            len: 5,
            count: 1,
            kind: FrameKind::Data,
            tagged: false,
            first_id: 7,
            ts: 1_000_000,
            durable_back: 0,
            tag: 3,
        };
        (header, Place { log_id: [1; 16], salt: [2; 16], lsn: 48 })
    }

    #[test]
    fn worked_example_is_in_the_documentation() {
        let (header, place) = example();
        let mut frame = header.encode(&place).to_vec();
        frame.extend_from_slice(b"hello\0\0\0");
        assert_eq!(frame.len() as u64, header.frame_bytes());
        let source = include_str!("format.rs");
        let shown = source.lines().find_map(|line| line.strip_prefix("//! `")).unwrap_or_default();
        let shown: String = shown.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(shown, hex(&frame));
        assert!(may_be_frame(&frame));
    }

    #[test]
    fn frame_fails_in_another_place() {
        let (header, place) = example();
        let bytes = header.encode(&place);
        assert_eq!(FrameHeader::decode(&bytes, &place), Ok(header));
        for elsewhere in
            [Place { lsn: 56, ..place }, Place { log_id: [9; 16], ..place }, Place { salt: [9; 16], ..place }]
        {
            assert_eq!(FrameHeader::decode(&bytes, &elsewhere), Err(Fault::HeaderChecksum));
        }
    }

    #[test]
    fn unknown_versions_kinds_and_flags_are_refused_by_name() {
        let (header, place) = example();
        let reseal = |mut bytes: [u8; FRAME_BYTES], at: usize, value: u8| {
            bytes[at] = value;
            let crc = place.crc(&bytes);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            FrameHeader::decode(&bytes, &place)
        };
        let bytes = header.encode(&place);
        assert_eq!(reseal(bytes, 14, 6), Err(Fault::Reserved));
        for flags in [1, 3, 4, 255] {
            assert_eq!(reseal(bytes, 15, flags), Err(Fault::Reserved));
        }
        assert_eq!(reseal(bytes, 15, 2), Ok(FrameHeader { tagged: true, ..header }));
        assert_eq!(reseal(bytes, 8, 0), Err(Fault::Contradiction));
        let mut segment = SegmentHeader { segment_no: 1, first_no: 1, ..SegmentHeader::default() }.encode();
        segment[11] = 3;
        let crc = crc32c(&[], &[&segment[4..HEADER_CHECKED_BYTES]]);
        segment[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&segment), Err(Fault::Version(3)));
    }

    #[test]
    fn frames_are_admitted_by_version_kind_and_key() {
        let header = example().0;
        let (v1, v2) = (SegmentHeader::default(), SegmentHeader { version: FormatVersion::V2, ..Default::default() });
        let keyed = SegmentHeader { key_id: 1, ..v2 };
        let tagged = FrameHeader { tagged: true, ..header };
        let mark = FrameHeader { kind: FrameKind::Mark, ..header };
        let footer = FrameHeader { kind: FrameKind::Footer, ..header };
        assert_eq!((v1.admit(&header), v1.admit(&tagged)), (Ok(()), Err(Fault::Reserved)));
        assert_eq!((v2.admit(&header), v2.admit(&tagged)), (Ok(()), Ok(())), "images hold tagged frames");
        assert_eq!((keyed.admit(&header), keyed.admit(&tagged)), (Err(Fault::NotEncrypted), Ok(())));
        assert_eq!((keyed.admit(&mark), keyed.admit(&footer)), (Ok(()), Ok(())));
        assert_eq!(keyed.admit(&FrameHeader { tagged: true, ..mark }), Err(Fault::Contradiction));
        assert_eq!((header.frame_bytes(), tagged.frame_bytes()), (48, 64));
        assert_eq!((v2.frame_bytes(5), keyed.frame_bytes(5)), (48, 64));
    }

    #[test]
    fn version_one_has_no_keys() {
        let keyed = SegmentHeader {
            version: FormatVersion::V2,
            segment_no: 1,
            first_no: 1,
            key_id: 9,
            ..SegmentHeader::default()
        };
        let reseal = |at: usize, value: u8| {
            let mut bytes = keyed.encode();
            bytes[at] = value;
            let crc = crc32c(&[], &[&bytes[4..HEADER_CHECKED_BYTES]]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(reseal(72, 9), Ok(keyed));
        assert_eq!(reseal(11, 1), Err(Fault::Reserved));
        assert_eq!(reseal(76, 1), Err(Fault::Reserved));
        assert_eq!(reseal(112, 1), Err(Fault::Reserved));
        assert_eq!(reseal(72, 0), Ok(SegmentHeader { key_id: 0, ..keyed }));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>, lsn: u64) {
            let _ = SegmentHeader::decode(&bytes);
            let place = Place { lsn, ..Place::default() };
            if let Ok(header) = FrameHeader::decode(&bytes, &place) {
                let _ = header.payload_is_good(&bytes);
            }
            if let Ok(header) = FrameHeader::decode_unchecked(&bytes) {
                prop_assert!(may_be_frame(&bytes));
                prop_assert!(header.frame_bytes() > FRAME_BYTES as u64);
            }
        }

        #[test]
        fn segment_header_round_trips(log_id: [u8; 16], segment_no in 1..u64::MAX, base in 0..u64::MAX / 16, base_id: u64, base_ts: u64, epoch: u64, salt: [u8; 16], back: u64, key_id: u32, key_check: [u8; 8]) {
            let plain = SegmentHeader { log_id, segment_no, base_lsn: base * ALIGN, base_id, base_ts, epoch, salt, first_no: segment_no - back % segment_no, ..SegmentHeader::default() };
            prop_assert_eq!(SegmentHeader::decode(&plain.encode()), Ok(plain));
            let keyed = SegmentHeader { version: FormatVersion::V2, key_id: key_id.max(1), key_check, ..plain };
            prop_assert_eq!(SegmentHeader::decode(&keyed.encode()), Ok(keyed));
        }

        #[test]
        fn one_flipped_bit_is_noticed(at in 0..HEADER_CHECKED_BYTES * 8, frame_at in 0..FRAME_BYTES * 8) {
            let mut bytes = SegmentHeader { segment_no: 1, first_no: 1, ..SegmentHeader::default() }.encode();
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
            let (header, place) = example();
            let mut bytes = header.encode(&place);
            bytes[frame_at / 8] ^= 1 << (frame_at % 8);
            prop_assert!(FrameHeader::decode(&bytes, &place).is_err());
        }
    }
}
