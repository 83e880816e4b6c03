//! raft-engine 0.4: batches of entries of Raft groups; writers queue up, a leader writes for all of them and calls `fdatasync`.
//!
//! Best mode: one Raft group for each thread (their indexes are contiguous), one `LogBatch` for a group of records, no
//! compression (the records are random), and old files written over if there were any.

use super::subject::Subject;
use crate::Result;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS_MAX: usize = 32;
const INDEX_BYTES: usize = 8;

/// An entry is its index, then the record.
struct Entries;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        u64::from_le_bytes(entry.value[..INDEX_BYTES].try_into().expect("each entry begins with its index"))
    }
}

struct Raft {
    engine: Engine,
    next: Vec<AtomicU64>,
}

fn text(error: impl std::fmt::Display) -> String {
    format!("raft-engine: {error}")
}

fn engine(dir: &Path) -> Result<Engine> {
    let config = Config {
        dir: dir.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        purge_threshold: ReadableSize::gb(64),
        ..Config::default()
    };
    Engine::open(config).map_err(text)
}

/// Opens a new log.
pub fn open(dir: &Path) -> Result<Box<dyn Subject>> {
    let next = (0..THREADS_MAX).map(|_| AtomicU64::new(1)).collect();
    Ok(Box::new(Raft { engine: engine(dir)?, next }))
}

/// Counts the entries of all groups.
pub fn count(dir: &Path) -> Result<u64> {
    let engine = engine(dir)?;
    let entries = |group: u64| Some(engine.last_index(group)? - engine.first_index(group)? + 1);
    Ok(engine.raft_groups().into_iter().filter_map(entries).sum())
}

impl Raft {
    fn write(&self, thread: usize, records: &[&[u8]], sync: bool) -> Result<()> {
        let first = self.next[thread].fetch_add(records.len() as u64, Ordering::Relaxed);
        let mut batch = LogBatch::with_capacity(records.len());
        let mut entries = Vec::with_capacity(records.len());
        for (index, record) in (first..).zip(records) {
            let mut entry = BytesValue::new();
            entry.value.reserve_exact(INDEX_BYTES + record.len());
            entry.value.extend_from_slice(&index.to_le_bytes());
            entry.value.extend_from_slice(record);
            entries.push(entry);
        }
        batch.add_entries::<Entries>(thread as u64 + 1, &entries).map_err(text)?;
        self.engine.write(&mut batch, sync).map(drop).map_err(text)
    }
}

impl Subject for Raft {
    fn append_sync(&self, thread: usize, record: &[u8]) -> Result<()> {
        self.write(thread, &[record], true)
    }

    fn append_group(&self, thread: usize, records: &[&[u8]]) -> Result<()> {
        self.write(thread, records, true)
    }

    fn append_async(&self, thread: usize, record: &[u8]) -> Result<()> {
        self.write(thread, &[record], false)
    }

    fn settle(&self) -> Result<()> {
        // `Engine::sync` writes an empty batch, which returns before it syncs.
        let mut batch = LogBatch::default();
        batch.put(THREADS_MAX as u64 + 1, b"end".to_vec(), Vec::new()).map_err(text)?;
        self.engine.write(&mut batch, true).map(drop).map_err(text)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
