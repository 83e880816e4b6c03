//! `peers db`: this repository's engine beside RocksDB, fjall, redb and LMDB.
//!
//! Each cell of the table (system, workload) is a child process with a directory of its own. Systems take turns within a
//! workload and workloads within a round, so that a change of the machine meets all alike; figures are those of the round
//! with the median rate, ratios the median of the rounds' ratios. All get the same: 64 MiB memtables, blocks of 4 KiB, filters of
//! 10 bits, LZ4, one block cache size, a log but no sync save in the synced fills. What else each is set to is said
//! on top of its file: `ours`, `rocks`, `fjall`, `redb`, `lmdb`.
//!
//! What a workload does is said in [`workload`]. A workload that is no fill works on a database that its child has loaded in
//! random order and settled; what reads has first read something of each block. The clock runs for the workload alone:
//! amplification is counted after it has settled, and what is left must then be what was written. Every answer is checked
//! (presence, length, first and last byte, number of entries); a wrong one fails the cell.
//!
//! | figure | is |
//! |---|---|
//! | CPU us/op | processor time of the process, background threads included, while the clock runs |
//! | space | bytes of all files, settled, over bytes of the keys and values in them |
//! | write | bytes the process wrote to files (`/proc/self/io`), settled, over bytes of keys and values it was given |
//! | memory | peak of the resident set from the workload's start until it has settled |
//!
//! Without the feature `engines` there is only this repository's engine to measure.

#[cfg(not(feature = "engines"))]
mod absent;
mod child;
mod data;
#[cfg(feature = "engines")]
mod fjall;
#[cfg(feature = "engines")]
mod lmdb;
mod ours;
#[cfg(feature = "engines")]
mod redb;
mod report;
#[cfg(feature = "engines")]
mod rocks;
mod run;
mod store;
mod work;
mod workload;

#[cfg(not(feature = "engines"))]
use absent::{self as fjall, self as lmdb, self as redb, self as rocks};

use crate::Result;
use crate::arguments::Arguments;
use std::path::{Path, PathBuf};
use store::System;
use workload::Workload;

/// What `peers db` can be asked for.
pub const HELP: &str = "\
peers db [--quick] [--rounds N] [--num N] [--value BYTES] [--cache MIB] [--ms N] [--only SYSTEM,..] [--workloads W,..]
         [--dir DIR]
    Compares engines. SYSTEM: aidb, rocksdb, fjall, redb, lmdb; all but aidb need a build with --features engines.
    W: fillseq, fillrandom, fillbatch, fillsync-x1, fillsync-x8, fillsync-x32, overwrite, readrandom, readrandom-cold,
    readmissing, seekrandom, readseq, readreverse, readwhilewriting, deletes-then-scan, ycsb-a, -b, -c, -e, -f.
    --num entries [2000000] of 16 B keys and --value B values [100], a block cache of --cache MiB [256], --rounds [3];
    synced fills run for --ms each [2000]. --quick: 200000 entries, 1 round, 500 ms.";

/// How to get the other engines.
pub const HOW_TO_BUILD: &str = "built without the other engines, so there is nothing to compare with: \
    cargo run --release --features engines -- db (RocksDB takes a quarter of an hour to build, and needs libclang)";

/// Runs the comparison that `words` ask for.
pub fn compare(words: &[&str]) -> Result<()> {
    let mut plan = run::Plan {
        rounds: 3,
        num: 2_000_000,
        value_bytes: 100,
        cache_bytes: 256 << 20,
        ms: 2000,
        systems: System::ALL.into_iter().filter(|system| system.is_built()).collect(),
        workloads: Workload::all(),
        dir: std::env::temp_dir(),
    };
    let mut arguments = Arguments::new(words, HELP);
    while let Some(name) = arguments.next() {
        match name {
            "--quick" => (plan.rounds, plan.num, plan.ms) = (1, 200_000, 500),
            "--rounds" => plan.rounds = arguments.number()?.max(1) as usize,
            "--num" => plan.num = arguments.number()?.max(1000),
            "--value" => plan.value_bytes = arguments.number()?.clamp(2, 1 << 20) as usize,
            "--cache" => plan.cache_bytes = (arguments.number()?.clamp(1, 1 << 20) as usize) << 20,
            "--ms" => plan.ms = arguments.number()?.max(1),
            "--only" => plan.systems = arguments.list(System::parse)?,
            "--workloads" => plan.workloads = arguments.list(Workload::parse)?,
            "--dir" => plan.dir = PathBuf::from(arguments.value()?),
            _ => return Err(arguments.wrong()),
        }
    }
    if !plan.systems.iter().all(|system| system.is_built()) {
        return Err(HOW_TO_BUILD.into());
    }
    if !System::Rocksdb.is_built() {
        eprintln!("peers: {HOW_TO_BUILD}");
    }
    run::run(&plan)
}

/// Measures one cell in this process and prints it; `numbers` are entries, bytes of a value, bytes of the cache and
/// milliseconds of a synced fill.
pub fn measure(name: &str, workload: &str, numbers: [&str; 4], dir: &Path) -> Result<()> {
    let system = System::parse(name).ok_or(format!("no system {name}"))?;
    let workload = Workload::parse(workload).ok_or(format!("no workload {workload}"))?;
    let number = |at: usize| numbers[at].parse::<u64>().map_err(|_| format!("{} is no number", numbers[at]));
    let run = child::Run {
        workload,
        num: number(0)?,
        value_bytes: number(1)? as usize,
        cache_bytes: number(2)? as usize,
        ms: number(3)?,
    };
    child::measure(system, &run, dir)
}
