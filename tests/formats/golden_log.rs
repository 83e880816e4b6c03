//! Golden files of the log's second format version: segments with footers, plain and encrypted, archived objects in every
//! combination, and the manifest of the segments.

use super::fuzz::memory::MemoryEnv;
use super::fuzz::object::{OneObject, ring, written};
use super::{corpus, rewriting};
use aidb::aof::archive::object::ObjectReader;
use aidb::aof::format::{FormatVersion, SegmentHeader};
use aidb::aof::manifest::{Attempt, AttemptStatus, Edit, Manifest, ManifestState, SegmentEntry, SegmentStatus};
use aidb::aof::names::segment_name;
use aidb::aof::read::ReadAt;
use aidb::aof::{Append, FrameKind, KeyRing, Log, LogOptions, Lsn};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) fn v2(name: &str) -> PathBuf {
    corpus("formats/v2").join(name)
}

/// Compares `bytes` with the golden file `name`.
fn same(name: &str, bytes: &[u8]) {
    let golden = fs::read(v2(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = golden.iter().zip(bytes).position(|(golden, written)| golden != written);
    assert_eq!(differs, None, "{name} is written differently from this byte on");
    assert_eq!(golden.len(), bytes.len(), "{name} is written with another length");
}

/// Writes every golden file of this version.
pub(crate) fn write_all() {
    fs::create_dir_all(v2("")).unwrap();
    for (name, keyed) in SEGMENTS {
        fs::write(v2(name), written_segment(keyed)).unwrap();
    }
    fs::write(v2("manifest.log"), written_manifest()).unwrap();
    for (name, level, keyed) in OBJECTS {
        fs::write(v2(name), written(&object_image(), level, keyed.then(ring).as_ref())).unwrap();
    }
}

// --- segments -----------------------------------------------------------------------------------------------------------

/// Name and whether it is encrypted.
const SEGMENTS: [(&str, bool); 2] = [("segment_footer.log", false), ("segment_encrypted.log", true)];
const DIR: &str = "/log";
const FRAMES: [(FrameKind, u16, u32, &[u8]); 4] = [
    (FrameKind::Data, 1, 3, b"hello"),
    (FrameKind::Data, 2, 0, b"two records of sixteen bytes...."),
    (FrameKind::Meta, 0, u32::MAX, &[0, 255, 0]),
    (FrameKind::Rewrite, 1, 1, b"again"),
];

fn log_options(keyed: bool) -> LogOptions {
    let keys = keyed.then(ring);
    LogOptions {
        segment_bytes: 8192,
        spare_segments: 0,
        ids_contiguous: true,
        index: true,
        keys,
        ..LogOptions::default()
    }
}

fn written_segment(keyed: bool) -> Vec<u8> {
    let env = MemoryEnv::default();
    let (log, _) = Log::open(env.clone(), Path::new(DIR), log_options(keyed), &mut |_| Ok(())).unwrap();
    for (kind, count, tag, payload) in FRAMES {
        let end = log.append(&Append { kind, count, first_id: None, tag, parts: &[payload] }).unwrap().end;
        log.sync_to(end).unwrap();
    }
    log.seal().unwrap();
    log.close().unwrap();
    env.get(&Path::new(DIR).join(segment_name(1))).unwrap()
}

#[test]
fn sealed_segments() {
    if rewriting() {
        return;
    }
    for (name, keyed) in SEGMENTS {
        let bytes = written_segment(keyed);
        same(name, &bytes);
        let header = SegmentHeader::decode(&bytes).unwrap();
        assert_eq!((header.version, header.key_id), (FormatVersion::V2, if keyed { 2 } else { 0 }));
        let env = MemoryEnv::default();
        env.put(&Path::new(DIR).join(segment_name(1)), fs::read(v2(name)).unwrap());
        let mut frames = Vec::new();
        let (_, report) = Log::open(env, Path::new(DIR), log_options(keyed), &mut |frame| {
            frames.push((frame.kind, frame.count, frame.tag, frame.payload.to_vec()));
            Ok(())
        })
        .unwrap();
        let expected = FRAMES.map(|(kind, count, tag, payload)| (kind, count, tag, payload.to_vec()));
        assert_eq!(frames, expected, "{name}");
        assert_eq!(report.torn_bytes, 0);
        let shown = bytes.windows(5).any(|window| window == b"hello");
        assert_eq!(shown, !keyed, "{name}");
    }
}

// --- manifest -----------------------------------------------------------------------------------------------------------

fn manifest_edits() -> Vec<Edit> {
    let attempt = Attempt { segment: 1, since: 1_700_000_000_000_901, status: AttemptStatus::Live };
    let key = "aidb/0707/00000000000000000001-0000000000000009.seg".to_string();
    let entry = SegmentEntry {
        number: 1,
        status: SegmentStatus::UploadIntent,
        base_lsn: Lsn(0),
        end_lsn: Lsn(4096),
        base_id: 1,
        next_id: 70,
        base_ts: 1_700_000_000_000_000,
        max_ts: 1_700_000_000_000_900,
        records: 69,
        original_bytes: 8192,
        original_crc64: 0x0102_0304_0506_0708,
        archived_key: key.clone(),
        archived_bytes: 900,
        archived_crc64: u64::MAX,
    };
    vec![
        Edit::FirstId(5),
        Edit::Fence(9),
        Edit::Pin { name: "reader".into(), id: 300 },
        Edit::Attempt { key, attempt },
        Edit::Entry(entry),
    ]
}

fn manifest_state(edits: &[Edit]) -> ManifestState {
    let mut state = ManifestState::default();
    for edit in [Edit::LogId([7; 16])].iter().chain(edits) {
        state.apply(edit).unwrap();
    }
    state
}

fn written_manifest() -> Vec<u8> {
    let (env, dir) = (MemoryEnv::default(), Path::new(DIR));
    let (manifest, existed) = Manifest::open(env.clone(), dir).unwrap();
    assert!(!existed);
    manifest.create(manifest_state(&[])).unwrap();
    manifest.commit(&manifest_edits()[..3]).unwrap();
    manifest.commit(&manifest_edits()[3..]).unwrap();
    manifest.close().unwrap();
    env.get(&dir.join("manifest").join(segment_name(1))).unwrap()
}

#[test]
fn manifest_of_segments() {
    if rewriting() {
        return;
    }
    same("manifest.log", &written_manifest());
    let (env, dir) = (MemoryEnv::default(), Path::new(DIR));
    env.put(&dir.join("manifest").join(segment_name(1)), fs::read(v2("manifest.log")).unwrap());
    let (manifest, existed) = Manifest::open(env, dir).unwrap();
    assert_eq!((&*manifest.state(), existed), (&manifest_state(&manifest_edits()), true));
}

// --- archived objects ---------------------------------------------------------------------------------------------------

/// Name, zstd level, whether it is encrypted.
const OBJECTS: [(&str, Option<i32>, bool); 4] = [
    ("object_plain.seg", None, false),
    ("object_zstd.seg", Some(3), false),
    ("object_encrypted.seg", None, true),
    ("object_zstd_encrypted.seg", Some(3), true),
];

/// A little more than a block.
fn object_image() -> Vec<u8> {
    let mut image = vec![0; 4096];
    for number in 0..5000u32 {
        image.extend_from_slice(format!("record {number}; ").as_bytes());
    }
    image
}

#[test]
fn archived_objects() {
    if rewriting() {
        return;
    }
    let rotated = KeyRing::new(9, [(2, [2; 32]), (9, [9; 32])]).unwrap();
    for (name, level, keyed) in OBJECTS {
        // What zstd makes of the same bytes may change with its version; that it is read may not.
        if level.is_none() {
            same(name, &written(&object_image(), level, keyed.then(ring).as_ref()));
        }
        let bytes = fs::read(v2(name)).unwrap();
        let length = bytes.len() as u64;
        let reader = ObjectReader::open(Arc::new(OneObject(bytes)), name, length, Some(&rotated)).unwrap();
        reader.verify().unwrap();
        let mut image = vec![0; reader.bytes() as usize];
        assert_eq!(reader.read_at(&mut image, 0).unwrap(), image.len());
        assert!(image == object_image(), "{name}");
        assert_eq!((reader.summary().base_lsn, reader.summary().records), (8, 3));
        assert_eq!((reader.header().segment_no, reader.header().key_id), (1, if keyed { 2 } else { 0 }));
    }
}
