//! This repository's log.
//!
//! Sync appends and waits on the appender's own thread, which joins the group commit. A group of records is appended one by
//! one, then waited for once.

use crate::subject::{Mode, Result, Subject};
use aidb::aof::{Append, Appended, FrameKind, Log, LogOptions};
use aidb::env::StdEnv;
use std::path::Path;

struct Ours(Log<StdEnv>);

fn text(error: aidb::Error) -> String {
    format!("aidb: {error}")
}

fn options() -> LogOptions {
    LogOptions { ids_contiguous: true, ..LogOptions::default() }
}

/// Opens a new log.
pub fn open(dir: &Path, _mode: Mode) -> Result<Box<dyn Subject>> {
    let (log, _) = Log::open(StdEnv, dir, options(), &mut |_| Ok(())).map_err(text)?;
    Ok(Box::new(Ours(log)))
}

/// Counts the records.
pub fn count(dir: &Path) -> Result<u64> {
    let mut records = 0;
    let (log, _) = Log::open(StdEnv, dir, options(), &mut |frame| {
        records += u64::from(frame.count);
        Ok(())
    })
    .map_err(text)?;
    log.close().map_err(text)?;
    Ok(records)
}

impl Ours {
    fn append(&self, record: &[u8]) -> Result<Appended> {
        let append = Append { kind: FrameKind::Data, count: 1, first_id: None, tag: 0, parts: &[record] };
        self.0.append(&append).map_err(text)
    }
}

impl Subject for Ours {
    fn append_sync(&self, _thread: usize, record: &[u8]) -> Result<()> {
        let appended = self.append(record)?;
        self.0.sync_to(appended.end).map_err(text)
    }

    fn append_group(&self, _thread: usize, records: &[&[u8]]) -> Result<()> {
        let mut end = self.0.durable();
        for record in records {
            end = self.append(record)?.end;
        }
        self.0.sync_to(end).map_err(text)
    }

    fn append_async(&self, _thread: usize, record: &[u8]) -> Result<()> {
        self.append(record).map(drop)
    }

    fn settle(&self) -> Result<()> {
        self.0.sync_to(self.0.end()).map_err(text)
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.0.stats().syncs)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.close().map_err(text)
    }
}

/// Reads a log from its first record to its last.
pub fn read(_dir: &Path, _run: &crate::child::Run) -> Result<crate::child::Measured> {
    Err("not yet".into())
}
