//! The parent: runs every cell of every round in a child process and hands the figures to the report.

use super::raw::Raw;
use super::report::{self, Cell};
use super::subject::{Mode, System};
use crate::Result;
use crate::children::{Scratch, child};
use crate::figures::{Figures, median};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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

/// Runs the plan and prints the tables.
pub fn run(plan: &Plan) -> Result<()> {
    let scratch = Scratch::new(&plan.dir)?;
    let start = Instant::now();
    let mut runs: BTreeMap<Cell, Vec<Figures>> = BTreeMap::new();
    for round in 0..plan.rounds {
        for &bytes in &plan.sizes {
            for mut cell in cells(plan, bytes, round) {
                cell.bytes = bytes;
                let figures = one(plan, &cell, &scratch, round == 0)?;
                eprintln!("round {} {} {} {bytes} B: {:.0}/s", round + 1, cell.subject, cell.mode, figures.rate());
                runs.entry(cell).or_default().push(figures);
            }
        }
    }
    let medians = runs.into_iter().map(|(cell, figures)| (cell, median(figures))).collect();
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

fn one(plan: &Plan, cell: &Cell, scratch: &Scratch, check: bool) -> Result<Figures> {
    let dir = scratch.empty("log")?;
    let warm = plan.ms / 6;
    let place = dir.to_string_lossy();
    let words = [
        "log-child",
        &cell.subject,
        &cell.mode,
        &cell.bytes.to_string(),
        &plan.ms.to_string(),
        &warm.to_string(),
        &place,
    ];
    let figures = walrus_child(&words, &dir)?;
    let total = figures.get("total").unwrap_or(0.0);
    let system = System::ALL.into_iter().find(|system| system.name() == cell.subject);
    if let Some(system) = system.filter(|_| check && cell.mode != Mode::Read.name())
        && let Some(found) = walrus_child(&["log-count", system.name(), &place], &dir)?.get("records")
        && found != total
    {
        return Err(format!("{} {}: {} records acknowledged, {found} found again", cell.subject, cell.mode, total));
    }
    Ok(figures)
}

/// Runs a child with the variables that walrus takes its settings from.
fn walrus_child(words: &[&str], dir: &Path) -> Result<Figures> {
    child(words, &[("WALRUS_QUIET", "1".as_ref()), ("WALRUS_DATA_DIR", dir.as_os_str())])
}
