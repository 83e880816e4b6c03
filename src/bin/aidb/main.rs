//! `aidb`: the operator's tool. Measures an engine, looks into a database, checks and copies it, and works on logs.
//!
//! Every failure ends in one line on standard error and a non-zero exit: 1 for a failure or damage, 2 for a bad command
//! line. Nothing here panics on what a user can type or leave on a disk.
#![allow(clippy::disallowed_methods, reason = "a tool at the edge: it runs the engine on the real system")]

mod aof;
mod bench;
mod dump;
mod inspect;
mod operate;
mod output;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Operates AiDb databases and logs: benchmarks, looking, verification, copies, appending, reading.
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
    /// Adds, lists, verifies and purges backups.
    #[command(subcommand, after_help = operate::BACKUP_HELP)]
    Backup(operate::Backup),
    /// Measures the engine with db_bench's workloads and checks every answer.
    #[command(after_help = bench::HELP)]
    Bench(Box<bench::Options>),
    /// Makes a directory that opens as the database is now, sharing its tables through hard links.
    ///
    /// Opens the database, which recovers it if it was not closed; no other process may have it open.
    #[command(after_help = operate::CHECKPOINT_HELP)]
    Checkpoint {
        /// The database's directory.
        dir: PathBuf,
        /// The new directory; must not exist or be empty.
        target: PathBuf,
    },
    /// Compacts a database, or a range of its keys, and gives the space of what was deleted back.
    ///
    /// Opens the database, which recovers it if it was not closed; no other process may have it open.
    #[command(after_help = operate::COMPACT_HELP)]
    Compact(operate::Compact),
    /// Prints what a file of a database holds: a table, a segment of its log, a MANIFEST, CURRENT, a backup's manifest or log.
    ///
    /// Changes nothing. Exits with 1 on damage, which is printed with its offset.
    #[command(after_help = dump::HELP)]
    Dump(dump::Options),
    /// Prints the value of a key.
    ///
    /// Changes nothing; another process may have the database open. Exits with 1 if there is no such key.
    #[command(after_help = inspect::GET_HELP)]
    Get(inspect::Get),
    /// Prints the levels of a database, with each table.
    ///
    /// Changes nothing; another process may have it open.
    Levels {
        /// The database's directory.
        dir: PathBuf,
    },
    /// Makes a damaged database one that opens again: saves what is readable and says what is lost.
    ///
    /// Nothing is removed: what is replaced is moved to the directory `lost` in the database's. No other process may have the
    /// database open. Leaves a sound one as it is. Exits with 1 if entries are lost.
    #[command(after_help = operate::REPAIR_HELP)]
    Repair {
        /// The database's directory.
        dir: PathBuf,
        /// Only says what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Makes a database of a backup.
    #[command(after_help = operate::RESTORE_HELP)]
    Restore {
        /// The backup directory.
        backups: PathBuf,
        /// The new directory; must not exist or be empty.
        target: PathBuf,
        /// Which backup, else the newest.
        #[arg(long)]
        number: Option<u64>,
    },
    /// Prints keys and values in order.
    ///
    /// Changes nothing; another process may have the database open.
    #[command(after_help = inspect::SCAN_HELP)]
    Scan(inspect::Scan),
    /// Prints the statistics of a database.
    ///
    /// Changes nothing; another process may have it open.
    Stats {
        /// The database's directory.
        dir: PathBuf,
        /// Prints Prometheus text instead of a table.
        #[arg(long)]
        prometheus: bool,
    },
    /// Reads every table of a database and the log that it needs, and checks them: checksums, order, and that they agree.
    ///
    /// Changes nothing; another process may have it open. Exits with 1 on damage.
    Verify {
        /// The database's directory.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Aof(command) => aof::run(&command),
        Command::Backup(command) => operate::backup(&command),
        Command::Bench(options) => bench::run(&options),
        Command::Checkpoint { dir, target } => operate::checkpoint(&dir, &target),
        Command::Compact(options) => operate::compact(&options),
        Command::Dump(options) => dump::run(&options),
        Command::Get(options) => inspect::get(&options),
        Command::Levels { dir } => inspect::levels(&dir),
        Command::Repair { dir, dry_run } => operate::repair(&dir, dry_run),
        Command::Restore { backups, target, number } => operate::restore(&backups, number, &target),
        Command::Scan(options) => inspect::scan(&options),
        Command::Stats { dir, prometheus } => inspect::stats(&dir, prometheus),
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
