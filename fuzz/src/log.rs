//! Log segments: headers that decode encode to the same bytes; a log over any bytes opens or says what is damaged, and one
//! that opens keeps what it recovered and takes new frames.
//!
//! An input of [`segment`] is one flag byte, the 256 header bytes that mean something, then frames. Flag 1 gives the header,
//! flag 2 each frame header, a good checksum, so that the fuzzer gets past them. Flag 4 puts the second half of the frames in
//! a second segment. Flag 8 encrypts: the segments get a key, and with flag 2 the tagged frames are sealed with it. Flag 16
//! keeps an index, so that segments end with a footer.

use super::memory::MemoryEnv;
use super::object::ring;
use aidb::aof::crypt::{SegmentKey, assign_key};
use aidb::aof::format::{
    FRAME_BYTES, FrameHeader, HEADER_BYTES, HEADER_CHECKED_BYTES, SegmentHeader, TAG_BYTES, may_be_frame,
};
use aidb::aof::names::segment_name;
use aidb::aof::{Append, Appended, FrameKind, Log, LogOptions, Lsn};
use aidb::base::checksum::crc32c;
use std::path::Path;

/// Decodes `input` as headers and as the files of a log.
pub fn segment(input: &[u8]) {
    headers(input);
    let Some((&flags, rest)) = input.split_first() else { return };
    headers(rest);
    let Some((header, frames)) = rest.split_at_checked(HEADER_CHECKED_BYTES) else { return };
    let mut header = header.to_vec();
    if flags & 1 != 0 {
        fix_segment_header(&mut header);
    }
    let env = MemoryEnv::default();
    let dir = Path::new("/log");
    let keys = (flags & 8 != 0).then(ring);
    let options = LogOptions { segment_bytes: 8192, index: flags & 16 != 0, keys, ..LogOptions::default() };
    let mut decoded = SegmentHeader::decode(&header).ok();
    let mut key = None;
    if let (Some(decoded), Some(_)) = (&mut decoded, &options.keys) {
        key = assign_key(options.keys.as_ref(), decoded);
        header = decoded.encode();
    }
    let mut frames = frames.to_vec();
    let (number, base) = decoded.map_or((1, 0), |header| (header.segment_no, header.base_lsn));
    if let Some(header) = decoded.filter(|_| flags & 2 != 0) {
        fix_frames(&header, key.as_ref(), &mut frames);
    }
    if flags & 4 != 0 {
        let second = frames.split_off(frames.len() / 16 * 8);
        let mut next = SegmentHeader {
            segment_no: number.saturating_add(1),
            base_lsn: base.saturating_add(frames.len() as u64),
            ..decoded.unwrap_or_default()
        };
        let mut second = second;
        let key = assign_key(options.keys.as_ref(), &mut next);
        if flags & 2 != 0 {
            fix_frames(&next, key.as_ref(), &mut second);
        }
        env.put(&dir.join(segment_name(next.segment_no)), [next.encode(), second].concat());
    }
    header.resize(HEADER_BYTES, 0);
    env.put(&dir.join(segment_name(number)), [header, frames].concat());
    open_twice(&env, dir, &options);
}

fn headers(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(header.encode()[..HEADER_CHECKED_BYTES], bytes[..HEADER_CHECKED_BYTES]);
    }
    let Ok(frame) = FrameHeader::decode_unchecked(bytes) else { return };
    assert!(may_be_frame(bytes), "the quick look refuses a frame");
    let place = SegmentHeader::default().place(frame.ts);
    let again = frame.encode(&place);
    assert_eq!(again[4..], bytes[4..FRAME_BYTES]);
    assert_eq!(FrameHeader::decode(&again, &place), Ok(frame));
    assert!(FrameHeader::decode(&again, &SegmentHeader::default().place(!frame.ts)).is_err(), "a frame out of place");
    assert!(frame.frame_bytes() >= u64::from(frame.len) && frame.frame_bytes().is_multiple_of(8));
}

fn fix_segment_header(header: &mut [u8]) {
    let mut crc = Vec::new();
    aidb::base::coding::put_u32(&mut crc, crc32c(&[], &[&header[4..]]));
    header[..4].copy_from_slice(&crc);
}

/// Gives good checksums to the chain of frames at the start of `frames`, as far as their fields make sense.
fn fix_frames(header: &SegmentHeader, key: Option<&SegmentKey>, frames: &mut [u8]) {
    let mut at = 0;
    while let Some(Ok(mut frame)) = frames.get(at..).map(FrameHeader::decode_unchecked) {
        let stored_bytes = frame.stored_bytes() as usize;
        let Some(stored) = frames.get_mut(at + FRAME_BYTES..).and_then(|rest| rest.get_mut(..stored_bytes)) else {
            return;
        };
        let Some(lsn) = header.base_lsn.checked_add(at as u64) else { return };
        if let (Some(key), true) = (key, frame.tagged) {
            let (payload, tag) = stored.split_at_mut(stored_bytes - TAG_BYTES);
            tag.copy_from_slice(&key.seal_frame(&frame, lsn, payload));
        }
        frame.payload_crc = crc32c(&[], &[stored]);
        frames[at..at + FRAME_BYTES].copy_from_slice(&frame.encode(&header.place(lsn)));
        at += frame.frame_bytes() as usize;
    }
}

type Kept = (Lsn, Lsn, FrameKind, u16, u64, u32, Vec<u8>);

fn open(env: &MemoryEnv, dir: &Path, options: &LogOptions) -> aidb::Result<(Log<MemoryEnv>, Vec<Kept>)> {
    let mut frames: Vec<Kept> = Vec::new();
    let (log, report) = Log::open(env.clone(), dir, options.clone(), &mut |frame| {
        let (lsn, end, kind, payload) = (frame.lsn, frame.end, frame.kind, frame.payload.to_vec());
        frames.push((lsn, end, kind, frame.count, frame.first_id, frame.tag, payload));
        Ok(())
    })?;
    assert_eq!(report.frames, frames.len() as u64);
    assert!(frames.windows(2).all(|pair| pair[0].1 <= pair[1].0), "frames overlap or are out of order");
    assert!(frames.iter().all(|frame| frame.0 >= report.first_lsn && frame.1 <= report.end));
    Ok((log, frames))
}

fn open_twice(env: &MemoryEnv, dir: &Path, options: &LogOptions) {
    let Ok((log, mut frames)) = open(env, dir, options) else { return };
    assert_eq!(log.durable(), log.end(), "what was recovered is durable");
    let parts: &[&[u8]] = &[b"one ", b"more"];
    let append = Append { kind: FrameKind::Data, count: 2, first_id: Some(9), tag: 7, parts };
    let start = log.end();
    // A log at the end of its range of positions may refuse.
    let Ok(Appended { end, first_id, .. }) = log.append(&append) else { return };
    log.sync_to(end).expect("a disk without faults");
    frames.push((start, end, append.kind, append.count, first_id, append.tag, parts.concat()));
    drop(log);
    let (log, again) = open(env, dir, options).expect("a log opens again");
    assert_eq!(again, frames, "what was recovered and appended is there");
    log.close().expect("a disk without faults");
}
