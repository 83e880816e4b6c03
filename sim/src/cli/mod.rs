//! The command line: one file for each subcommand, this one for what they share.
//!
//! Exit codes: 0 all is well, 1 a violation (or a mutant not found, or a difference), 2 wrong use.

mod check;
mod diff;
mod enumerate;
mod meta;
mod min;
mod mutants;
mod replay;
mod run;
mod swarm;
mod trace;

use aidb_sim::campaign::{Campaign, Progress, replay_line};
use aidb_sim::case::Case;
use aidb_sim::check::checker;
use aidb_sim::profile::Profile;
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Runs AiDb in a simulated world: one seed decides every thread switch, crash and disk fault, and replays exactly.
///
/// Start with `sim swarm --seeds 0..2000`. A violation prints the one line that replays it and writes a .simcase into
/// ./failures/; `sim min FILE` makes that small, `sim trace FILE` shows what happened.
#[derive(Parser)]
#[command(name = "sim", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Command),
    Swarm(swarm::Command),
    Enum(enumerate::Command),
    Check(check::Command),
    Meta(meta::Command),
    Min(min::Command),
    Replay(replay::Command),
    Diff(diff::Command),
    Trace(trace::Command),
    Mutants(mutants::Command),
    Marks(swarm::Marks),
}

/// Options of every command that makes cases from seeds.
#[derive(Args, Clone)]
struct Common {
    /// What to simulate
    #[arg(long, default_value = "engine")]
    profile: Profile,
    /// Switch a planted bug on, by name; may be given more than once (`sim mutants --list` names them)
    #[arg(long = "planted", value_name = "BUG")]
    planted: Vec<String>,
}

impl Common {
    fn planted(&self) -> Result<BTreeSet<String>, String> {
        let known = self.profile.planted_bugs();
        match self.planted.iter().find(|name| !known.iter().any(|(known, _)| known == name)) {
            None => Ok(self.planted.iter().cloned().collect()),
            Some(name) => {
                let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                Err(format!("there is no planted bug '{name}'; available: {}", names.join(", ")))
            }
        }
    }
}

/// How parallel and how long.
#[derive(Args, Clone)]
struct Effort {
    /// Worlds at once [default: one for each core]
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Stop after this time, such as 90s, 10m or 2h [default: when all is done]
    #[arg(long, value_parser = duration)]
    time: Option<Duration>,
    /// Stop after this many failures
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

impl Effort {
    fn campaign(&self, planted: BTreeSet<String>) -> Campaign {
        let default = Campaign::default();
        Campaign {
            jobs: self.jobs.unwrap_or(default.jobs),
            time_max: self.time,
            planted,
            failures_max: self.failures.max(1),
        }
    }
}

/// `A..B`: the seeds from A to before B. A single number N stands for 0..N.
#[derive(Clone, Debug)]
struct Seeds(std::ops::Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seeds, String> {
        let number = |digits: &str| {
            digits.replace('_', "").parse::<u64>().map_err(|_| {
                format!("'{text}' is not a range of seeds; write --seeds 0..2000, or --seeds 2000 for the same")
            })
        };
        let range = match text.split_once("..") {
            Some((from, to)) => number(if from.is_empty() { "0" } else { from })?..number(to)?,
            None => 0..number(text)?,
        };
        if range.is_empty() {
            return Err(format!("'{text}' holds no seed: the second number must be larger than the first"));
        }
        Ok(Seeds(range))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("'{unit}' is not a unit of time; use s, m or h, such as 90s or 10m")),
    };
    let count: u64 = digits.parse().map_err(|_| format!("'{text}' is not a time; write for example 90s, 10m or 2h"))?;
    Ok(Duration::from_secs(count * seconds))
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    end_quietly_with_the_reader();
    let result = match Cli::parse().command {
        Command::Run(command) => command.run(),
        Command::Swarm(command) => command.run(),
        Command::Enum(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Meta(command) => command.run(),
        Command::Min(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Mutants(command) => command.run(),
        Command::Marks(command) => command.run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// Ends the program without noise when nobody reads its output any more, as in `sim trace 1 | head`.
fn end_quietly_with_the_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>();
        if message.is_some_and(|message| message.starts_with("failed printing to stdout")) {
            std::process::exit(1);
        }
        before(panic);
    }));
}

/// Prints a failure with its replay line and writes its `.simcase`.
fn report(case: &Case) {
    let Some(violation) = &case.violation else { return };
    println!("VIOLATION at seed {} ({}): {violation}", case.world.seed, checker(&violation.kind));
    println!("  replay:  {}", replay_line(case));
    match case.write_failure() {
        Ok(path) => {
            println!("  case:    {}", path.display());
            println!("  shrink:  cargo run --release -p aidb-sim -- min {}", path.display());
        }
        Err(message) => println!("  no case was written: {message}"),
    }
}

/// Returns a progress line for a terminal, and nothing elsewhere.
fn progress(unit: &'static str) -> impl FnMut(Progress) {
    let terminal = std::io::stderr().is_terminal();
    move |progress| {
        if !terminal {
            return;
        }
        let seconds = progress.elapsed.as_secs_f64();
        let rate = progress.done as f64 / seconds.max(1e-9);
        let failures = if progress.failures > 0 { format!(", {} failures", progress.failures) } else { String::new() };
        eprint!("\r\x1b[K{} of {} {unit}, {rate:.0}/s, {seconds:.0} s{failures}", progress.done, progress.of);
        if progress.done >= progress.of {
            eprint!("\r\x1b[K");
        }
        let _ = std::io::stderr().flush();
    }
}

/// Clears the progress line.
fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// A seed or a `.simcase` file.
fn case_of(text: &str, common: &Common) -> Result<Case, String> {
    match text.parse::<u64>() {
        Ok(seed) => Ok(common.profile.case(seed, &common.planted()?)),
        Err(_) if text.ends_with(".simcase") => Case::read(text.as_ref()),
        Err(_) => Err(format!("'{text}' is neither a seed nor a .simcase file")),
    }
}
