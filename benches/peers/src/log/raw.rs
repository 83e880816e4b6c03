//! What the machine itself gives: the loops that the goals are measured against.
//!
//! Each writes the same random records as the logs do, without headers, checksums, or order between threads.

use super::child::{Measured, Records, Run};
use crate::Result;
use rustix::fs::{Mode as FileMode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Raw {
    /// One record over a file of zeros, then `fdatasync`.
    Sync,
    /// One record after another to the end of a growing file, never synced.
    Write,
    /// The same, while a second thread calls `fdatasync` whenever 8 MiB are new.
    WriteSynced,
    /// A file in the page cache, 256 KiB at a time into the same buffer.
    Read,
}

impl Raw {
    /// All of them.
    pub const ALL: [Raw; 4] = [Raw::Sync, Raw::Write, Raw::WriteSynced, Raw::Read];

    /// Returns the name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Raw::Sync => "raw-fdatasync",
            Raw::Write => "raw-write",
            Raw::WriteSynced => "raw-write-synced",
            Raw::Read => "raw-read",
        }
    }

    /// Runs the loop in `dir`.
    pub fn run(self, dir: &Path, run: &Run) -> Result<Measured> {
        let measured = match self {
            Raw::Sync => sync(dir, run),
            Raw::Write => write(dir, run, false),
            Raw::WriteSynced => write(dir, run, true),
            Raw::Read => read(dir, run),
        };
        measured.map_err(|error| format!("{}: {error}", self.name()))
    }
}

fn create(dir: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir.join("raw"), flags, FileMode::RUSR | FileMode::WUSR)?.into())
}

fn sync(dir: &Path, run: &Run) -> std::io::Result<Measured> {
    const FILE_BYTES: u64 = 64 << 20;
    let file = create(dir)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    let mut records = Records::new(run.bytes, 0);
    let (mut at, mut measured) = (0, Measured::default());
    let warm = Instant::now() + run.warm_up;
    let mut start = Instant::now();
    loop {
        let before = Instant::now();
        if before >= warm && measured.latencies.is_empty() {
            start = before;
        }
        file.write_all_at(records.next(), at)?;
        file.sync_data()?;
        at = if at + 2 * run.bytes as u64 > FILE_BYTES { 0 } else { at + run.bytes as u64 };
        if before >= warm {
            measured.add(before.elapsed());
            if start.elapsed() >= run.time {
                break;
            }
        }
    }
    measured.seconds = start.elapsed().as_secs_f64();
    Ok(measured)
}

fn write(dir: &Path, run: &Run, synced: bool) -> std::io::Result<Measured> {
    const SYNC_BYTES: u64 = 8 << 20;
    let file = create(dir)?;
    let written = std::sync::atomic::AtomicU64::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        if synced {
            scope.spawn(|| {
                let mut before = 0;
                while !done.load(order) {
                    let now = written.load(order);
                    if now - before >= SYNC_BYTES {
                        // A failure shows in the writes.
                        let _ = file.sync_data();
                        before = now;
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
        }
        let mut records = Records::new(run.bytes, 0);
        let (start, mut at, mut measured) = (Instant::now(), 0, Measured::default());
        let result = loop {
            if let Err(error) = file.write_all_at(records.next(), at) {
                break Err(error);
            }
            at += run.bytes as u64;
            written.store(at, order);
            measured.records += 1;
            if measured.records.is_multiple_of(64) && start.elapsed() >= run.time {
                break Ok(());
            }
        };
        measured.seconds = start.elapsed().as_secs_f64();
        done.store(true, order);
        result.map(|()| measured)
    })
}

fn read(dir: &Path, run: &Run) -> std::io::Result<Measured> {
    let file = create(dir)?;
    let mut buffer = vec![7; 256 << 10];
    for at in (0..run.read_bytes).step_by(buffer.len()) {
        file.write_all_at(&buffer, at)?;
    }
    file.sync_all()?;
    let (start, mut measured) = (Instant::now(), Measured::default());
    while start.elapsed() < run.time {
        for at in (0..run.read_bytes).step_by(buffer.len()) {
            file.read_exact_at(&mut buffer, at)?;
        }
        measured.records += run.read_bytes / run.bytes as u64;
    }
    measured.seconds = start.elapsed().as_secs_f64();
    Ok(measured)
}
