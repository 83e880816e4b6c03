//! The parent: runs every cell of every round in a child process and hands the figures to the report.

use crate::raw::Raw;
use crate::report::{self, Cell, Figures};
use crate::subject::{Mode, Result, System};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What to measure.
pub struct Plan {
    /// How often each cell runs.
    pub rounds: usize,
    /// Milliseconds of each.
    pub ms: u64,
    /// Who takes part.
    pub systems: Vec<System>,
    /// The workloads.
    pub modes: Vec<Mode>,
    /// Bytes of a record.
    pub sizes: Vec<usize>,
    /// Where the directories are made.
    pub dir: PathBuf,
}

/// Removes the directory of a run however it ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the plan and prints the tables.
pub fn run(plan: &Plan) -> Result<()> {
    const TMPFS: u32 = 0x0102_1994;
    let place = rustix::fs::statfs(&plan.dir).map_err(|error| format!("{}: {error}", plan.dir.display()))?;
    if place.f_type as u32 == TMPFS {
        return Err(format!(
            "{} is in memory, where a sync costs nothing; name another place by --dir",
            plan.dir.display()
        ));
    }
    let scratch = Scratch(plan.dir.join(format!("aidb-peers-{}", std::process::id())));
    let start = Instant::now();
    let mut runs: BTreeMap<Cell, Vec<Figures>> = BTreeMap::new();
    for round in 0..plan.rounds {
        for &bytes in &plan.sizes {
            for mut cell in cells(plan, bytes, round) {
                cell.bytes = bytes;
                let figures = one(plan, &cell, &scratch.0, round == 0)?;
                eprintln!("round {} {} {} {bytes} B: {:.0}/s", round + 1, cell.subject, cell.mode, figures.rate());
                runs.entry(cell).or_default().push(figures);
            }
        }
    }
    let medians = runs.into_iter().map(|(cell, figures)| (cell, report::median(figures))).collect();
    report::print(plan, &medians, start.elapsed());
    Ok(())
}

/// Lists what runs for one record size; who begins changes with the round.
fn cells(plan: &Plan, bytes: usize, round: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    let raw = |raw: Raw, mode: &str| Cell { subject: raw.name().into(), mode: mode.into(), bytes };
    for &mode in &plan.modes {
        let beside: &[Raw] = match mode {
            Mode::Sync(1) => &[Raw::Sync],
            Mode::Async => &[Raw::Write, Raw::WriteSynced],
            Mode::Read => &[Raw::Read],
            _ => &[],
        };
        let mut turn: Vec<Cell> = beside.iter().map(|&loops| raw(loops, &mode.name())).collect();
        let systems = plan.systems.iter().filter(|system| system.has(mode));
        turn.extend(systems.map(|system| Cell { subject: system.name().into(), mode: mode.name(), bytes }));
        let first = round % turn.len().max(1);
        turn.rotate_left(first);
        cells.extend(turn);
    }
    cells
}

fn one(plan: &Plan, cell: &Cell, scratch: &Path, check: bool) -> Result<Figures> {
    let _ = std::fs::remove_dir_all(scratch);
    let dir = scratch.join("log");
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let warm = plan.ms / 6;
    let place = dir.to_string_lossy();
    let words =
        ["child", &cell.subject, &cell.mode, &cell.bytes.to_string(), &plan.ms.to_string(), &warm.to_string(), &place];
    let figures = Figures::new(child(&words, &dir)?);
    let system = System::ALL.into_iter().find(|system| system.name() == cell.subject);
    if let Some(system) = system.filter(|_| check && cell.mode != Mode::Read.name())
        && let Some(found) = child(&["count", system.name(), &place], &dir)?.get("records")
        && *found != figures.total()
    {
        return Err(format!(
            "{} {}: {} records acknowledged, {found} found again",
            cell.subject,
            cell.mode,
            figures.total()
        ));
    }
    Ok(figures)
}

fn child(words: &[&str], dir: &Path) -> Result<BTreeMap<String, f64>> {
    let name = words[1..].join(" ");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(words)
        .env("WALRUS_QUIET", "1")
        .env("WALRUS_DATA_DIR", dir)
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect())
}
