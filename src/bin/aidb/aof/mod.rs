//! `aidb aof`: works on a log from the command line.
//!
//! | file | job |
//! |---|---|
//! | `place` | the directory and the keys, shared by all |
//! | `image` | the bytes of a segment |
//! | `show` | how bytes and times look |
//! | `append` | records from standard input |
//! | `archive` | sealed segments to a directory or S3 |
//! | `list` | the segments |
//! | `dump` | the frames of a segment |
//! | `tail` | records, and on as the log grows |
//! | `verify` | every byte of a log |
//! | `metrics` | what a directory shows, for Prometheus |
//!
//! Each command is one function that returns an error in words; `main` prints it. Output goes through [`Output`], for which a
//! closed pipe is the reader's way to say that it has seen enough.

mod append;
mod archive;
pub(crate) mod dump;
mod image;
mod list;
mod metrics;
mod place;
mod show;
mod tail;
mod verify;

use crate::output::Output;
use clap::Subcommand;
pub(crate) use show::time;

/// What `aidb aof` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Appends records from standard input.
    #[command(after_help = append::HELP)]
    Append(append::Options),
    /// Uploads every sealed segment, verifies it, and gives its local space back.
    #[command(after_help = archive::HELP)]
    Archive(archive::Options),
    /// Lists the segments, those in the archive too.
    List(list::Options),
    /// Prints the frames of a segment file or of an archived one.
    #[command(after_help = dump::HELP)]
    Dump(dump::Options),
    /// Prints the last records, or those from some place on, and goes on as the log grows.
    #[command(after_help = tail::HELP)]
    Tail(tail::Options),
    /// Reads every byte of a log and names what is damaged.
    #[command(after_help = verify::HELP)]
    Verify(verify::Options),
    /// Prints what is known of a log's directory in the text format of Prometheus.
    #[command(after_help = metrics::HELP)]
    Metrics(metrics::Options),
}

/// Runs one command.
pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Append(options) => append::run(options),
        Command::Archive(options) => archive::run(options),
        Command::List(options) => list::run(options),
        Command::Dump(options) => dump::run(options),
        Command::Tail(options) => tail::run(options),
        Command::Verify(options) => verify::run(options),
        Command::Metrics(options) => metrics::run(options),
    }
}
