//! This repository's log, `aidb::aof::Aof`.
//!
//! Sync appends and waits on the appender's own thread, which joins the group commit: one `fdatasync` serves all threads that
//! wait for one. A group of records is one batch if it is at most 1 MiB, else its records are appended one by one and the last
//! one is waited for. Both wait themselves, so the strategy is one that adds no sync of its own meanwhile. Async is `FlushStrategy::Async`, which goes on syncing every 8 MiB in the background; the peers sync nothing.

use super::child::{Measured, Records, Run};
use super::subject::{Mode, Subject};
use crate::Result;
use aidb::aof::{Aof, AofConfig, FlushStrategy, From};
use aidb::env::StdEnv;
use std::path::Path;
use std::time::Instant;

/// The largest group that is appended as one batch.
const BATCH_BYTES: usize = 1 << 20;

struct Ours(Aof);

fn text(error: aidb::Error) -> String {
    format!("aidb: {error}")
}

fn aof(dir: &Path, strategy: FlushStrategy) -> Result<Aof> {
    let config = AofConfig::builder().flush_strategy(strategy).build().map_err(text)?;
    Ok(Aof::open(StdEnv, dir, config).map_err(text)?.0)
}

/// Opens a new log.
pub fn open(dir: &Path, mode: Mode) -> Result<Box<dyn Subject>> {
    let strategy = match mode {
        Mode::Async => FlushStrategy::Async,
        Mode::Stream(records) => FlushStrategy::Batched(records as u64),
        _ => FlushStrategy::default(),
    };
    Ok(Box::new(Ours(aof(dir, strategy)?)))
}

/// Counts the records.
pub fn count(dir: &Path) -> Result<u64> {
    let aof = aof(dir, FlushStrategy::default())?;
    let mut cursor = aof.cursor(From::First).map_err(text)?;
    let mut records = 0;
    while let Some(record) = cursor.next_ref() {
        record.map_err(text)?;
        records += 1;
    }
    drop(cursor);
    aof.close().map_err(text)?;
    Ok(records)
}

/// Reads a log from its first record to its last, from the page cache, again and again.
pub fn read(dir: &Path, run: &Run) -> Result<Measured> {
    let aof = aof(dir, FlushStrategy::Async)?;
    let mut records = Records::new(run.bytes, 0);
    let count = run.read_bytes / run.bytes as u64;
    for _ in 0..count {
        drop(aof.append(records.next()).map_err(text)?);
    }
    aof.flush().map_err(text)?;
    let (start, mut measured) = (Instant::now(), Measured::default());
    while start.elapsed() < run.time {
        let mut cursor = aof.cursor(From::First).map_err(text)?;
        let mut seen = 0;
        while let Some(record) = cursor.next_ref() {
            seen += u64::from(record.map_err(text)?.bytes.len() == run.bytes);
        }
        if seen != count {
            return Err(format!("aidb: {count} records written, {seen} read"));
        }
        measured.records += seen;
    }
    measured.seconds = start.elapsed().as_secs_f64();
    Ok(measured)
}

impl Subject for Ours {
    fn append_sync(&self, _thread: usize, record: &[u8]) -> Result<()> {
        self.0.append_sync(record).map(drop).map_err(text)
    }

    fn append_group(&self, _thread: usize, records: &[&[u8]]) -> Result<()> {
        if records.iter().map(|record| record.len()).sum::<usize>() <= BATCH_BYTES {
            return self.0.append_batch_sync(records).map(drop).map_err(text);
        }
        let tickets = records.iter().map(|record| self.0.append(record));
        match tickets.last() {
            Some(last) => last.and_then(|ticket| ticket.wait()).map_err(text),
            None => Ok(()),
        }
    }

    fn append_async(&self, _thread: usize, record: &[u8]) -> Result<()> {
        self.0.append(record).map(drop).map_err(text)
    }

    fn settle(&self) -> Result<()> {
        self.0.flush().map_err(text)
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.0.flush_metrics().total_flushes)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.close().map_err(text)
    }
}
