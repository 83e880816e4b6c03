//! `aidb`: the operator's tool. Measures an engine, shows a database's statistics, checks its integrity, and works on logs.
//!
//! Every failure ends in one line on standard error and a non-zero exit: 1 for a failure or damage, 2 for a bad command
//! line. Nothing here panics on what a user can type or leave on a disk.
#![allow(clippy::disallowed_methods, reason = "a tool at the edge: it runs the engine on the real system")]

mod aof;
mod bench;
mod inspect;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Operates AiDb databases and logs: benchmarks, statistics, verification, appending, reading.
#[derive(Parser)]
#[command(name = "aidb", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Works on an append-only log: appends, reads, lists, verifies, archives.
    #[command(subcommand)]
    Aof(aof::Command),
    /// Measures the engine with db_bench's workloads and checks every answer.
    #[command(after_help = bench::HELP)]
    Bench(Box<bench::Options>),
    /// Prints the statistics of a database.
    ///
    /// Opens it, which recovers it if it was not closed; no other process may have it open.
    Stats {
        /// The database's directory.
        dir: PathBuf,
    },
    /// Reads every byte of a database and checks it: checksums, order, and that the files agree with one another.
    ///
    /// Opens it, which recovers it if it was not closed; no other process may have it open. Exits with 1 on damage.
    Verify {
        /// The database's directory.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Aof(command) => aof::run(&command),
        Command::Bench(options) => bench::run(&options),
        Command::Stats { dir } => inspect::stats(&dir),
        Command::Verify { dir } => inspect::verify(&dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aidb: {error}");
            ExitCode::FAILURE
        }
    }
}
