//! `peers log`: this repository's log beside okaywal, raft-engine and walrus-rust, in one run on one machine.
//!
//! ```text
//! cargo run --release -- log [--quick] [--rounds N] [--ms N] [--only SYSTEM,..] [--modes MODE,..] [--sizes N,..] [--dir DIR]
//! ```
//!
//! Each cell of the table (system, workload, record size) runs for `--ms` in a child process and a directory of its own.
//! Systems take turns within a cell and cells within a round, so that a change of the machine meets all alike; the figures are
//! medians over the rounds, and the ratios are what counts. After the first round's runs the log is opened again and its
//! records are counted. A full run (3 rounds of 600 ms a cell) takes under 10 minutes, `--quick` one.
//!
//! How each system syncs is said on top of its file: `ours`, `okay`, `raft`, `walrus`; the machine's own loops are in `raw`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures other programs, outside the engine")]

mod child;
mod okay;
mod ours;
mod raft;
mod raw;
mod report;
mod run;
mod subject;
mod walrus;

use child::Run;
use raw::Raw;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use subject::{Mode, Result, System};

const USAGE: &str = "usage: peers log [--quick] [--rounds N] [--ms N] [--only SYSTEM,..] [--modes MODE,..] [--sizes N,..] \
                     [--dir DIR]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["log", ref rest @ ..] => plan(rest).and_then(|plan| run::run(&plan)),
        ["child", name, mode, bytes, ms, warm, dir] => measure(name, mode, bytes, ms, warm, Path::new(dir)),
        ["count", name, dir] => {
            system(name).ok_or(format!("no system {name}")).and_then(|system| child::count(system, Path::new(dir)))
        }
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn system(name: &str) -> Option<System> {
    System::ALL.into_iter().find(|system| system.name() == name)
}

fn measure(name: &str, mode: &str, bytes: &str, ms: &str, warm: &str, dir: &Path) -> Result<()> {
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

/// Reads the command line of `log`.
fn plan(arguments: &[&str]) -> Result<run::Plan> {
    let mut plan = run::Plan {
        rounds: 3,
        ms: 600,
        systems: System::ALL.to_vec(),
        modes: [1, 8, 32].map(Mode::Sync).into_iter().chain([100, 1000].map(Mode::Batched)).collect(),
        sizes: vec![64, 1 << 10, 16 << 10, 64 << 10],
        dir: std::env::temp_dir(),
    };
    plan.modes.extend([Mode::Async, Mode::Stream(1000), Mode::Read]);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "--quick" {
            (plan.rounds, plan.ms) = (1, 150);
            continue;
        }
        let value = rest.next().ok_or(USAGE)?;
        let bad = || format!("{argument} {value}: {USAGE}");
        let number = || value.parse::<u64>().map_err(|_| bad());
        let list = || value.split(',');
        match *argument {
            "--rounds" => plan.rounds = number()?.max(1) as usize,
            "--ms" => plan.ms = number()?.max(1),
            "--only" => plan.systems = list().map(system).collect::<Option<_>>().ok_or_else(bad)?,
            "--modes" => plan.modes = list().map(Mode::parse).collect::<Option<_>>().ok_or_else(bad)?,
            "--sizes" => plan.sizes = list().map(|size| size.parse().ok()).collect::<Option<_>>().ok_or_else(bad)?,
            "--dir" => plan.dir = PathBuf::from(value),
            _ => return Err(bad()),
        }
    }
    Ok(plan)
}
