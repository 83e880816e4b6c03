//! `peers`: this repository's log beside other logs, its engine beside other engines, in one run on one machine.
//!
//! ```text
//! cargo run --release -- log [OPTION..]                      see log/mod.rs
//! cargo run --release --features engines -- db [OPTION..]    see db/mod.rs
//! ```
//!
//! The parent plans and reports; each cell of a table is measured by a child process, which is this program again
//! ([`children`]). A child prints `name value` lines ([`figures`]).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures other programs, outside the engine")]

mod arguments;
mod children;
mod db;
mod figures;
mod log;
mod process;

use std::path::Path;
use std::process::ExitCode;

/// An error of any of the systems, in words.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let help = || format!("usage:\n{}\n{}", log::HELP, db::HELP);
    let result = match words[..] {
        ["help" | "--help" | "-h", ..] | [_, "--help" | "-h", ..] => {
            println!("{}", help());
            Ok(())
        }
        ["log", ref rest @ ..] => log::compare(rest),
        ["db", ref rest @ ..] => db::compare(rest),
        ["log-child", name, mode, bytes, ms, warm, dir] => log::measure(name, mode, bytes, ms, warm, Path::new(dir)),
        ["log-count", name, dir] => log::count(name, Path::new(dir)),
        ["db-child", name, workload, num, value, cache, ms, dir] => {
            db::measure(name, workload, [num, value, cache, ms], Path::new(dir))
        }
        _ => Err(help()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
