//! okaywal 0.3: an entry is a list of chunks, committed with one `fdatasync` that serves all threads waiting for one.
//!
//! Best mode: segments of 64 MiB filled with zeros ahead, as its documentation advises, a buffer of 64 KiB, and a checkpoint that
//! gives every full segment back to be written over, so that nothing is allocated once two segments exist. It keeps
//! less than the others do, which is to its advantage.

use super::subject::Subject;
use crate::Result;
use okaywal::{Configuration, LogVoid, WriteAheadLog};
use std::path::Path;

struct Okay(WriteAheadLog);

fn text(error: impl std::fmt::Display) -> String {
    format!("okaywal: {error}")
}

/// Opens a new log.
pub fn open(dir: &Path) -> Result<Box<dyn Subject>> {
    let segment = 64u32 << 20;
    let configuration = Configuration::default_for(dir)
        .preallocate_bytes(segment)
        .checkpoint_after_bytes(u64::from(segment) * 3 / 4)
        .buffer_bytes(64 << 10);
    Ok(Box::new(Okay(configuration.open(LogVoid).map_err(text)?)))
}

impl Subject for Okay {
    fn append_sync(&self, thread: usize, record: &[u8]) -> Result<()> {
        self.append_group(thread, &[record])
    }

    fn append_group(&self, _thread: usize, records: &[&[u8]]) -> Result<()> {
        let mut entry = self.0.begin_entry().map_err(text)?;
        for record in records {
            entry.write_chunk(record).map_err(text)?;
        }
        entry.commit().map(drop).map_err(text)
    }

    fn append_async(&self, _thread: usize, _record: &[u8]) -> Result<()> {
        Err("okaywal has no append without a sync".into())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.shutdown().map_err(text)
    }
}
