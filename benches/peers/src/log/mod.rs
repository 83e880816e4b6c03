//! `peers log`: this repository's log beside okaywal, raft-engine and walrus-rust.
//!
//! Each cell of the table (system, workload, record size) runs for `--ms` in a child process and a directory of its own.
//! Systems take turns within a cell and cells within a round, so that a change of the machine meets all alike; the figures are
//! medians over the rounds, and the ratios are what counts. After the first round's runs the log is opened again and its
//! records are counted. A full run (3 rounds of 600 ms a cell) takes under 10 minutes, `--quick` one.
//!
//! How each system syncs is said on top of its file: `ours`, `okay`, `raft`, `walrus`; the machine's own loops are in `raw`.

mod child;
mod okay;
mod ours;
mod raft;
pub mod raw;
mod report;
mod run;
mod subject;
mod walrus;

use crate::Result;
use crate::arguments::Arguments;
use child::Run;
use raw::Raw;
use std::path::{Path, PathBuf};
use std::time::Duration;
use subject::{Mode, System};

/// What `peers log` can be asked for.
pub const HELP: &str = "\
peers log [--quick] [--rounds N] [--ms N] [--only SYSTEM,..] [--modes MODE,..] [--sizes N,..] [--dir DIR]
    Compares logs. SYSTEM: aidb, okaywal, raft-engine, walrus. MODE: 'Sync x1', 'Sync x8', 'Sync x32', 'Batched(100)',
    'Batched(1000)', 'Async', 'stream of Batched(1000)', 'read'. A run takes under 10 minutes, with --quick one.";

/// Runs the comparison that `arguments` ask for.
pub fn compare(arguments: &[&str]) -> Result<()> {
    run::run(&plan(arguments)?)
}

/// Measures one cell in this process and prints it.
pub fn measure(name: &str, mode: &str, bytes: &str, ms: &str, warm: &str, dir: &Path) -> Result<()> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
    let run = Run {
        bytes: number(bytes)? as usize,
        time: Duration::from_millis(number(ms)?),
        warm_up: Duration::from_millis(number(warm)?),
        read_bytes: 256 << 20,
    };
    if let Some(raw) = Raw::ALL.into_iter().find(|raw| raw.name() == name) {
        return child::raw(raw, &run, dir);
    }
    let system = system(name).ok_or(format!("no system {name}"))?;
    child::system(system, Mode::parse(mode).ok_or(format!("no workload {mode}"))?, &run, dir)
}

/// Counts in this process what a cell left behind and prints it.
pub fn count(name: &str, dir: &Path) -> Result<()> {
    child::count(system(name).ok_or(format!("no system {name}"))?, dir)
}

fn system(name: &str) -> Option<System> {
    System::ALL.into_iter().find(|system| system.name() == name)
}

fn plan(words: &[&str]) -> Result<run::Plan> {
    let mut plan = run::Plan {
        rounds: 3,
        ms: 600,
        systems: System::ALL.to_vec(),
        modes: [1, 8, 32].map(Mode::Sync).into_iter().chain([100, 1000].map(Mode::Batched)).collect(),
        sizes: vec![64, 1 << 10, 16 << 10, 64 << 10],
        dir: std::env::temp_dir(),
    };
    plan.modes.extend([Mode::Async, Mode::Stream(1000), Mode::Read]);
    let mut arguments = Arguments::new(words, HELP);
    while let Some(name) = arguments.next() {
        match name {
            "--quick" => (plan.rounds, plan.ms) = (1, 150),
            "--rounds" => plan.rounds = arguments.number()?.max(1) as usize,
            "--ms" => plan.ms = arguments.number()?.max(1),
            "--only" => plan.systems = arguments.list(system)?,
            "--modes" => plan.modes = arguments.list(Mode::parse)?,
            "--sizes" => plan.sizes = arguments.list(|size| size.parse().ok())?,
            "--dir" => plan.dir = PathBuf::from(arguments.value()?),
            _ => return Err(arguments.wrong()),
        }
    }
    Ok(plan)
}
