//! One cell, in a process of its own: loads a store, runs one workload, prints what it took and what it left.

use super::data::{KEY_BYTES, Values};
use super::store::{Settings, System};
use super::work::{Measured, Work};
use super::workload::Workload;
use crate::Result;
use crate::process;
use std::path::Path;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The workload.
    pub workload: Workload,
    /// Entries of the database.
    pub num: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Bytes of the block cache.
    pub cache_bytes: usize,
    /// Milliseconds of a synced fill.
    pub ms: u64,
}

impl Run {
    /// Returns the bytes of an entry.
    pub fn entry_bytes(&self) -> u64 {
        (KEY_BYTES + self.value_bytes) as u64
    }

    /// Returns the bytes of the cache: a quarter of the data, if that is what the workload is about.
    fn cache_bytes(&self) -> usize {
        match self.workload {
            Workload::ReadRandomCold => (self.num * self.entry_bytes() / 4) as usize,
            _ => self.cache_bytes,
        }
    }

    /// Returns how many keys, the first ones, a workload reads that is about a cache that holds all of it.
    pub fn hot_keys(&self) -> u64 {
        (self.cache_bytes as u64 / 2 / self.entry_bytes()).clamp(1, self.num)
    }
}

/// Measures a system and prints it.
pub fn measure(system: System, run: &Run, dir: &Path) -> Result<()> {
    let settings = Settings { dir, cache_bytes: run.cache_bytes(), sync: run.workload.syncs() };
    let store = system.open(&settings)?;
    let values = Values::new(run.value_bytes);
    let work = Work { store: &*store, values: &values, run };
    if !run.workload.fills() {
        work.load()?;
        store.settle()?;
        process::wait_until_quiet()?;
        work.warm()?;
    }
    // What loading left to write is not the workload's.
    rustix::fs::sync();
    process::forget_peak()?;
    let before = process::written_bytes()?;
    let measured = work.measure()?;
    print(&measured);
    if let Some(part) = store.filter_part() {
        println!("filter {part}");
    }
    store.settle()?;
    process::wait_until_quiet()?;
    rustix::fs::sync();
    println!("rss {}", process::peak_bytes()?);
    if run.workload.writes() {
        println!("write {}", (process::written_bytes()? - before) as f64 / measured.bytes_written.max(1) as f64);
    }
    if let Some(entries) = measured.entries {
        println!("space {}", process::disk_bytes(dir)? as f64 / (entries * run.entry_bytes()) as f64);
        work.count(entries)?;
    }
    store.close()
}

fn print(measured: &Measured) {
    const MICROS: f64 = 1e3;
    println!("records {}\nseconds {}", measured.records, measured.seconds);
    println!("cpu {}", measured.cpu.as_secs_f64() * 1e6 / measured.records.max(1) as f64);
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        println!("{name} {}", measured.nanos.value_at_quantile(part) as f64 / MICROS);
    }
    if let Some((records, seconds)) = measured.beside {
        println!("beside {}", records as f64 / seconds.max(1e-9));
    }
}
