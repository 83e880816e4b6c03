//! Makes the archived object of a sealed segment: [`archive_segment`].
//!
//! Called by the store's background thread. Every frame is read, checked and, in an encrypted segment, decrypted on the way,
//! so that damage is found before the only copy of a segment is the archived one.
//!
//! **Invariants:** the image of a segment that is not encrypted is the file up to the end of its last frame, byte for byte;
//! that of an encrypted one differs in the key fields of its header, in payloads, tags and checksums of its frames, and in
//! the CRC-64 of its footer, which is that of the image, and has every frame at the same offset.

use super::format::ObjectSummary;
use super::object::{ObjectFile, ObjectSpec, ObjectWriter};
use crate::aof::FrameKind;
use crate::aof::crypt::KeyRing;
use crate::aof::format::{ALIGN, FrameHeader, HEADER_BYTES, KEY_CHECK_BYTES, SegmentHeader, TAG_BYTES};
use crate::aof::index::format::Footer;
use crate::aof::read::{ReadAt, SegmentReader};
use crate::aof::segment::frame_place;
use crate::base::checksum::{Crc64, crc32c};
use crate::base::{Error, Result};
use crate::env::Env;
use std::path::Path;
use std::sync::Arc;

/// Makes the object of the sealed `segment` in a temporary file at `path`, compressed with zstd's `compression_level`
/// 1..=22 if there is one, and encrypted with the current one of `keys` if there are any.
///
/// # Errors
/// [`Corruption`](crate::ErrorKind::Corruption) names the segment's file and the offset of a bad frame;
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the segment is still being written; what the disk met. The
/// temporary file is removed.
pub fn archive_segment<E: Env>(
    env: &E,
    segment: &Arc<SegmentReader<E>>,
    path: &Path,
    compression_level: Option<i32>,
    keys: Option<&KeyRing>,
) -> Result<ObjectFile<E>> {
    let header = segment.header();
    let Some(end) = segment.end_lsn() else {
        return Err(Error::invalid_argument("segment is still being written"));
    };
    let image_bytes = HEADER_BYTES as u64 + (end.0 - header.base_lsn);
    let spec = ObjectSpec {
        log_id: header.log_id,
        segment_no: header.segment_no,
        epoch: header.epoch,
        image_bytes,
        compression_level,
        keys,
    };
    let mut writer = ObjectWriter::create(env, path, &spec)?;
    match push_image(env, segment, end.0, &mut writer) {
        Ok(summary) => writer.finish(summary),
        Err(error) => {
            writer.abandon(env);
            Err(error)
        }
    }
}

/// Pushes parts of an image and computes the checksum that its footer has.
struct Pusher<'w, E: Env> {
    writer: &'w mut ObjectWriter<E>,
    crc: Crc64,
}

impl<E: Env> Pusher<'_, E> {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.writer.push(bytes)
    }
}

/// Pushes the image of `segment`, which ends at `end`.
fn push_image<E: Env>(
    env: &E,
    segment: &Arc<SegmentReader<E>>,
    end: u64,
    writer: &mut ObjectWriter<E>,
) -> Result<ObjectSummary> {
    let mut writer = Pusher { writer, crc: Crc64::new() };
    let header = *segment.header();
    let mut page = vec![0; HEADER_BYTES];
    if segment.read_at(&mut page, 0)? < HEADER_BYTES {
        return Err(Error::corruption(segment.name(), 0, "segment header ends early"));
    }
    let image = SegmentHeader { key_id: 0, key_check: [0; KEY_CHECK_BYTES], ..header };
    if image != header {
        page = image.encode();
    }
    writer.push(&page)?;
    let mut summary = ObjectSummary {
        base_lsn: header.base_lsn,
        end_lsn: end,
        base_id: header.base_id,
        next_id: header.base_id,
        base_ts: header.base_ts,
        max_ts: header.base_ts,
        records: 0,
    };
    let mut frames = segment.frames(header.base_lsn, end);
    loop {
        let lsn = frames.lsn();
        let frame = match frames.advance()? {
            None => return Ok(summary),
            Some(Ok(frame)) => frame,
            Some(Err(fault)) => return Err(frames.damage(lsn, format_args!("frame {fault}"))),
        };
        if frame.kind == FrameKind::Data {
            summary.next_id = frame.first_id.saturating_add(u64::from(frame.count));
            summary.records += u64::from(frame.count);
        }
        summary.max_ts = summary.max_ts.max(frame.ts);
        let footer = match frame.kind {
            FrameKind::Footer if image != header => {
                let footer = Footer::decode(frames.payload(), header.base_lsn);
                let footer = footer.map_err(|fault| frames.damage(lsn, format_args!("footer {fault}")))?;
                Some(Footer { crc64: writer.crc.value(), ..footer }.encode(header.base_lsn))
            }
            _ => None,
        };
        let payload = footer.as_deref().unwrap_or(frames.payload());
        let tag: &[u8] = if frame.tagged { &[0; TAG_BYTES] } else { &[] };
        let frame = FrameHeader { payload_crc: crc32c(&[], &[payload, tag]), ..frame };
        writer.push(&frame.encode(&frame_place(env, &image, lsn)))?;
        writer.push(payload)?;
        writer.push(tag)?;
        let padding = (frame.stored_bytes().next_multiple_of(ALIGN) - frame.stored_bytes()) as usize;
        writer.push(&[0; ALIGN as usize][..padding])?;
    }
}
