//! walrus-rust 0.2: topics in blocks of a 1 GB sparse file, each append its own write; batches through io_uring.
//!
//! Best mode: one topic for each thread, since a topic is locked while it is synced (there is then no order between them).
//! Sync is `FsyncSchedule::SyncEach`: the file is opened with `O_SYNC`, and `fsync` follows. Batches are atomic and synced
//! with one `fsync` under every schedule; without `O_SYNC`, which `NoFsync` leaves out, they are faster. Async is `NoFsync`.

use super::subject::{Mode, Subject};
use crate::Result;
use std::path::Path;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

struct Topics {
    log: Walrus,
    names: Vec<String>,
}

fn text(error: impl std::fmt::Display) -> String {
    format!("walrus: {error}")
}

fn walrus(dir: &Path, schedule: FsyncSchedule) -> Result<Walrus> {
    // The data directory comes from the environment alone, which the parent process sets.
    let place = std::env::var_os("WALRUS_DATA_DIR");
    if place.as_deref() != Some(dir.as_os_str()) {
        return Err("walrus: WALRUS_DATA_DIR is not the directory to measure in".into());
    }
    let reads = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Walrus::with_consistency_and_schedule(reads, schedule).map_err(text)
}

fn names() -> Vec<String> {
    (0..32).map(|thread| format!("t{thread}")).collect()
}

/// Opens a new log.
pub fn open(dir: &Path, mode: Mode) -> Result<Box<dyn Subject>> {
    let schedule = match mode {
        Mode::Sync(_) => FsyncSchedule::SyncEach,
        _ => FsyncSchedule::NoFsync,
    };
    Ok(Box::new(Topics { log: walrus(dir, schedule)?, names: names() }))
}

/// Counts the entries of all topics.
pub fn count(dir: &Path) -> Result<u64> {
    let log = walrus(dir, FsyncSchedule::NoFsync)?;
    let mut count = 0;
    for name in names() {
        loop {
            let read = log.batch_read_for_topic(&name, 64 << 20, true).map_err(text)?;
            if read.is_empty() {
                break;
            }
            count += read.len() as u64;
        }
    }
    Ok(count)
}

impl Subject for Topics {
    fn append_sync(&self, thread: usize, record: &[u8]) -> Result<()> {
        self.log.append_for_topic(&self.names[thread], record).map_err(text)
    }

    fn append_group(&self, thread: usize, records: &[&[u8]]) -> Result<()> {
        self.log.batch_append_for_topic(&self.names[thread], records).map_err(text)
    }

    fn append_async(&self, thread: usize, record: &[u8]) -> Result<()> {
        self.log.append_for_topic(&self.names[thread], record).map_err(text)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
