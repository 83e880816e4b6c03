//! What every log under comparison can do: [`Subject`], and which of them there are.
//!
//! A subject is opened by the child process that measures it. Its three ways to append are the three durabilities of the
//! table; each system does them in the mode its own documentation recommends for it.

use super::{okay, ours, raft, walrus};
use crate::Result;
use std::path::Path;

/// One log, open for appending from several threads.
pub trait Subject: Send + Sync {
    /// Appends one record and returns when it survives a power loss. `thread` numbers the appender from 0.
    fn append_sync(&self, thread: usize, record: &[u8]) -> Result<()>;

    /// Appends records and returns when all of them survive a power loss.
    fn append_group(&self, thread: usize, records: &[&[u8]]) -> Result<()>;

    /// Appends one record and waits for nothing.
    fn append_async(&self, thread: usize, record: &[u8]) -> Result<()>;

    /// Waits until everything appended survives a power loss.
    fn settle(&self) -> Result<()>;

    /// Returns how many data syncs were made since the log was opened, if the system counts them.
    fn syncs(&self) -> Option<u64> {
        None
    }

    /// Closes the log.
    fn close(self: Box<Self>) -> Result<()>;
}

/// The systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// This repository's log.
    Aidb,
    /// okaywal.
    Okaywal,
    /// raft-engine.
    RaftEngine,
    /// walrus-rust.
    Walrus,
}

impl System {
    /// All of them, in the order of the tables.
    pub const ALL: [System; 4] = [System::Aidb, System::Okaywal, System::RaftEngine, System::Walrus];

    /// Returns the name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            System::Aidb => "aidb",
            System::Okaywal => "okaywal",
            System::RaftEngine => "raft-engine",
            System::Walrus => "walrus",
        }
    }

    /// Opens a new log in `dir` for the workload `mode`.
    pub fn open(self, dir: &Path, mode: Mode) -> Result<Box<dyn Subject>> {
        match self {
            System::Aidb => ours::open(dir, mode),
            System::Okaywal => okay::open(dir),
            System::RaftEngine => raft::open(dir),
            System::Walrus => walrus::open(dir, mode),
        }
    }

    /// Opens the log in `dir` again and counts its records; none if the system gives them up by itself.
    pub fn count(self, dir: &Path) -> Result<Option<u64>> {
        match self {
            System::Aidb => ours::count(dir).map(Some),
            System::Okaywal => Ok(None),
            System::RaftEngine => raft::count(dir).map(Some),
            System::Walrus => walrus::count(dir).map(Some),
        }
    }

    /// Whether the system has the workload at all.
    pub fn has(self, mode: Mode) -> bool {
        match mode {
            Mode::Sync(_) | Mode::Batched(_) => true,
            Mode::Async => self != System::Okaywal,
            Mode::Stream(_) | Mode::Read => self == System::Aidb,
        }
    }
}

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// So many threads append records one by one, each durable before the next.
    Sync(usize),
    /// One thread appends groups of so many records, each group durable before the next.
    Batched(usize),
    /// One thread appends and never waits.
    Async,
    /// One thread appends under the strategy `Batched(n)` and never waits; ends when everything is durable.
    Stream(usize),
    /// Reads the log from its first record to its last, from the page cache.
    Read,
}

impl Mode {
    /// Returns the name in tables and on the command line.
    pub fn name(self) -> String {
        match self {
            Mode::Sync(threads) => format!("Sync x{threads}"),
            Mode::Batched(records) => format!("Batched({records})"),
            Mode::Async => "Async".into(),
            Mode::Stream(records) => format!("stream of Batched({records})"),
            Mode::Read => "read".into(),
        }
    }

    /// Returns the mode of that name.
    pub fn parse(name: &str) -> Option<Mode> {
        let all = [Mode::Sync(1), Mode::Sync(8), Mode::Sync(32), Mode::Batched(100), Mode::Batched(1000)];
        all.into_iter().chain([Mode::Async, Mode::Stream(1000), Mode::Read]).find(|mode| mode.name() == name)
    }
}
