//! The manifest of a log's segments: edits that decode are encoded again to the same meaning, and a manifest over any
//! payloads opens with the state that they make, or says which file is damaged.
//!
//! An input of [`manifest`] is the payload of one commit, then others, each behind a byte that says how many bytes it has.

use super::memory::MemoryEnv;
use aidb::ErrorKind;
use aidb::aof::manifest::format::{decode, encode};
use aidb::aof::manifest::{Manifest, ManifestState};
use aidb::aof::{Append, FrameKind, Log, LogOptions};
use std::path::Path;

/// Decodes `input` as edits, and as the payloads of a manifest.
pub fn manifest(input: &[u8]) {
    if let Ok(edits) = decode(input) {
        let encoded = encode(&edits);
        assert!(encoded.len() <= input.len(), "edits grow by decoding and encoding");
        assert_eq!(decode(&encoded), Ok(edits.clone()));
        let mut state = ManifestState::default();
        for edit in &edits {
            if state.apply(edit).is_err() {
                break;
            }
        }
    }
    let (env, store) = (MemoryEnv::default(), Path::new("/log"));
    let dir = &store.join("manifest");
    let mut rest = input;
    let mut kind = FrameKind::Rewrite;
    let opened =
        Log::open(env.clone(), dir, LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() }, &mut |_| Ok(()));
    let (log, _) = opened.expect("an empty directory");
    while let Some((&len, after)) = rest.split_first() {
        let (payload, after) = after.split_at((len as usize).min(after.len()));
        if !payload.is_empty() {
            let append = Append { kind, count: 1, first_id: Some(0), tag: 0, parts: &[payload] };
            log.append(&append).expect("a disk without faults");
        }
        (kind, rest) = (FrameKind::Meta, after);
    }
    log.close().expect("a disk without faults");
    drop(log);
    match Manifest::open(env.clone(), store) {
        Ok((manifest, existed)) => {
            let state = manifest.state();
            manifest.close().expect("a disk without faults");
            drop(manifest);
            let (again, still) = Manifest::open(env, store).expect("a manifest opens again");
            assert_eq!((again.state(), still), (state, existed), "what was opened is there");
        }
        Err(error) => {
            let ErrorKind::Corruption { file, .. } = error.kind() else { panic!("{error:?}") };
            assert!(file.starts_with("/log"), "{error}");
        }
    }
}
