//! One measurement, in a process of its own: opens a subject in a new directory, runs one workload, prints what it took.
//!
//! The parent reads `name value` lines from standard output. A process of its own makes the memory peak the subject's alone.

use super::raw::Raw;
use super::subject::{Mode, Subject, System};
use crate::Result;
use crate::process::peak_bytes;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What to run for how long.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Bytes of a record.
    pub bytes: usize,
    /// How long is measured.
    pub time: Duration,
    /// How long it runs before.
    pub warm_up: Duration,
    /// How many bytes are written to be read.
    pub read_bytes: u64,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Records appended or read in the time measured.
    pub records: u64,
    /// The time.
    pub seconds: f64,
    /// Nanoseconds of each synced append.
    pub latencies: Vec<u64>,
    /// Records appended in all, warm-up included.
    pub total: u64,
    /// Data syncs in all.
    pub syncs: Option<u64>,
}

impl Measured {
    /// Counts one synced append.
    pub fn add(&mut self, latency: Duration) {
        self.records += 1;
        self.latencies.push(latency.as_nanos() as u64);
    }

    fn merge(&mut self, other: Measured) {
        self.records += other.records;
        self.total += other.total;
        self.seconds = self.seconds.max(other.seconds);
        self.latencies.extend(other.latencies);
    }

    /// Returns the latency in microseconds that `part` of the appends stayed under.
    fn percentile(&self, part: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        Some(self.latencies[(last as f64 * part) as usize] as f64 / 1e3)
    }

    fn print(&mut self) {
        self.latencies.sort_unstable();
        println!("records {}\nseconds {}\ntotal {}", self.records, self.seconds, self.total);
        if let (Some(p50), Some(p99)) = (self.percentile(0.5), self.percentile(0.99)) {
            println!("p50 {p50}\np99 {p99}");
        }
        if let Some(syncs) = self.syncs {
            println!("syncs {syncs}");
        }
    }
}

/// Random records of one size, without end: slices of a random megabyte.
pub struct Records {
    pool: Vec<u8>,
    bytes: usize,
    at: usize,
}

impl Records {
    /// Returns records of `bytes` bytes; each `seed` gives others.
    pub fn new(bytes: usize, seed: u64) -> Records {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut pool = vec![0; (1 << 20) + bytes];
        for byte in &mut pool {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
        }
        Records { pool, bytes, at: 0 }
    }

    fn step(&mut self) -> usize {
        self.at = (self.at + 4099) & ((1 << 20) - 1);
        self.at
    }

    /// Returns the next record.
    pub fn next(&mut self) -> &[u8] {
        let at = self.step();
        &self.pool[at..at + self.bytes]
    }

    /// Returns the next `count` records.
    pub fn group(&mut self, count: usize) -> Vec<&[u8]> {
        let places: Vec<usize> = (0..count).map(|_| self.step()).collect();
        places.into_iter().map(|at| &self.pool[at..at + self.bytes]).collect()
    }
}

/// Measures a system and prints it.
pub fn system(system: System, mode: Mode, run: &Run, dir: &Path) -> Result<()> {
    if mode == Mode::Read {
        return super::ours::read(dir, run).map(|mut measured| measured.print());
    }
    let subject = system.open(dir, mode)?;
    // What opening left to write is not the workload's.
    rustix::fs::sync();
    let before = subject.syncs();
    let mut measured = match mode {
        Mode::Sync(threads) => synced(&*subject, threads, run)?,
        Mode::Batched(records) => batched(&*subject, records, run)?,
        _ => streamed(&*subject, mode, run)?,
    };
    measured.syncs = subject.syncs().zip(before).map(|(after, before)| after - before);
    measured.print();
    println!("rss {}", peak_bytes()?);
    subject.settle()?;
    subject.close()
}

/// Measures a raw loop and prints it.
pub fn raw(raw: Raw, run: &Run, dir: &Path) -> Result<()> {
    raw.run(dir, run).map(|mut measured| measured.print())
}

/// Counts what a run left behind and prints it.
pub fn count(system: System, dir: &Path) -> Result<()> {
    if let Some(records) = system.count(dir)? {
        println!("records {records}");
    }
    Ok(())
}

fn synced(subject: &dyn Subject, threads: usize, run: &Run) -> Result<Measured> {
    let barrier = Barrier::new(threads);
    let appender = |thread: usize| {
        let mut records = Records::new(run.bytes, thread as u64);
        let mut measured = Measured::default();
        barrier.wait();
        let warm = Instant::now() + run.warm_up;
        let end = warm + run.time;
        loop {
            let before = Instant::now();
            if before >= end {
                break;
            }
            subject.append_sync(thread, records.next())?;
            measured.total += 1;
            if before >= warm {
                measured.add(before.elapsed());
            }
        }
        measured.seconds = warm.elapsed().as_secs_f64();
        Ok::<_, String>(measured)
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || appender(thread))).collect();
        let mut all = Measured::default();
        for thread in started {
            all.merge(thread.join().map_err(|_| "an appender panicked")??);
        }
        Ok(all)
    })
}

fn batched(subject: &dyn Subject, group: usize, run: &Run) -> Result<Measured> {
    let mut records = Records::new(run.bytes, 0);
    let mut measured = Measured::default();
    let warm = Instant::now() + run.warm_up;
    let mut start = None;
    loop {
        let before = Instant::now();
        if before >= warm && start.is_none() {
            start = Some(before);
        }
        subject.append_group(0, &records.group(group))?;
        measured.total += group as u64;
        let Some(start) = start else { continue };
        measured.records += group as u64;
        measured.seconds = start.elapsed().as_secs_f64();
        if start.elapsed() >= run.time {
            return Ok(measured);
        }
    }
}

fn streamed(subject: &dyn Subject, mode: Mode, run: &Run) -> Result<Measured> {
    const CLOCK_EVERY: u64 = 64;
    let mut records = Records::new(run.bytes, 0);
    let mut measured = Measured::default();
    let start = Instant::now();
    loop {
        for _ in 0..CLOCK_EVERY {
            subject.append_async(0, records.next())?;
        }
        measured.total += CLOCK_EVERY;
        if start.elapsed() >= run.time {
            break;
        }
    }
    if mode != Mode::Async {
        subject.settle()?;
    }
    measured.records = measured.total;
    measured.seconds = start.elapsed().as_secs_f64();
    Ok(measured)
}
