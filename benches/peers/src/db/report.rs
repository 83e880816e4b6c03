//! The tables, in Markdown: rates with ratios, processor time, latencies, amplification, memory, and the goals.

use super::data::KEY_BYTES;
use super::run::Plan;
use super::store::System;
use super::workload::Workload;
use crate::Result;
use crate::figures::{Figures, GOALS_HEAD, Goal, median, number, or_dash, size};
use std::collections::BTreeMap;
use std::time::Duration;

/// The peers that the goals are about.
const RIVALS: &[System] = &[System::Rocksdb, System::Fjall];

/// What every run gave.
#[derive(Default)]
pub struct Results {
    /// The rounds of each cell.
    pub cells: BTreeMap<(Workload, System), Vec<Result<Figures>>>,
    /// The rounds of a loop of writes that are each followed by `fdatasync`.
    pub raw_sync: Vec<Figures>,
}

fn main_rate(figures: &Figures) -> Option<f64> {
    Some(figures.rate())
}

fn beside_rate(figures: &Figures) -> Option<f64> {
    figures.get("beside")
}

fn median_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

type Rate = fn(&Figures) -> Option<f64>;

impl Results {
    /// Returns what failed: workload, system, and why.
    pub fn failures(&self) -> impl Iterator<Item = (Workload, System, &str)> {
        self.cells.iter().flat_map(|(&(workload, system), rounds)| {
            let errors = rounds.iter().filter_map(|round| round.as_ref().err());
            errors.map(move |error| (workload, system, error.as_str()))
        })
    }

    /// Returns the figures of the round with the median rate, if no round failed.
    fn median(&self, workload: Workload, system: System) -> Option<Figures> {
        let rounds: Result<Vec<Figures>> = self.cells.get(&(workload, system))?.iter().cloned().collect();
        rounds.ok().filter(|rounds| !rounds.is_empty()).map(median)
    }

    fn figure(&self, workload: Workload, system: System, name: &str) -> Option<f64> {
        self.median(workload, system)?.get(name)
    }

    fn rate(&self, workload: Workload, system: System, rate: Rate) -> Option<f64> {
        rate(&self.median(workload, system)?)
    }

    fn has_failed(&self, workload: Workload, system: System) -> bool {
        self.cells.get(&(workload, system)).is_some_and(|rounds| rounds.iter().any(Result::is_err))
    }

    /// Returns the median over the rounds of this engine's rate against the best of `others` in the same round.
    fn ratio(&self, workload: Workload, others: &[System], rate: Rate) -> Option<f64> {
        let of = |system: System, round: usize| rate(self.cells.get(&(workload, system))?.get(round)?.as_ref().ok()?);
        let rounds = self.cells.get(&(workload, System::Aidb))?.len();
        let ratio = |round| {
            let best = others.iter().filter_map(|&other| of(other, round)).reduce(f64::max)?;
            Some(of(System::Aidb, round)? / best)
        };
        median_of((0..rounds).filter_map(ratio).collect())
    }

    /// Returns this engine's figure over the least of `others`, for figures of which less is better.
    fn share(&self, workload: Workload, others: &[System], name: &str) -> Option<f64> {
        let least = others.iter().filter_map(|&other| self.figure(workload, other, name)).reduce(f64::min)?;
        Some(self.figure(workload, System::Aidb, name)? / least)
    }
}

/// Prints every table.
pub fn print(plan: &Plan, results: &Results, took: Duration) {
    println!(
        "{} entries of {KEY_BYTES} B keys and {} values, cache {} MiB; {} rounds, medians; the run took {:.0} s\n",
        plan.num,
        size(plan.value_bytes),
        plan.cache_bytes >> 20,
        plan.rounds,
        took.as_secs_f64()
    );
    rates(plan, results);
    each(plan, results, "CPU us/op", |_| true, |figures| Some(format!("{:.2}", figures.get("cpu")?)));
    each(
        plan,
        results,
        "p50 / p99 / p99.9 / max us",
        |_| true,
        |figures| {
            let part = |name| figures.get(name).map(micros);
            Some(format!("{} / {} / {} / {}", part("p50")?, part("p99")?, part("p999")?, part("max")?))
        },
    );
    each(plan, results, "space / write amplification", Workload::writes, |figures| {
        let space = or_dash(figures.get("space"), |space| format!("{space:.2}"));
        Some(format!("{space} / {:.2}", figures.get("write")?))
    });
    each(
        plan,
        results,
        "peak resident MiB",
        |_| true,
        |figures| Some(format!("{:.0}", figures.get("rss")? / f64::from(1 << 20))),
    );
    goals(plan, results);
    for (workload, system, error) in results.failures() {
        println!("**failed**: {} {}: {error}", workload.name(), system.name());
    }
}

fn micros(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn head(plan: &Plan, what: &str, more: &str) {
    let names: Vec<&str> = plan.systems.iter().map(|system| system.name()).collect();
    println!("| {what} | {} |{more}", names.join(" | "));
    println!("|---|{}{}", "--:|".repeat(names.len()), if more.is_empty() { "" } else { "--:|" });
}

fn rates(plan: &Plan, results: &Results) {
    head(plan, "operations/s", &format!(" aidb against {} |", best_rival(plan)));
    for &workload in &plan.workloads {
        let rows: [(Option<String>, Rate); 2] =
            [(Some(workload.name()), main_rate), (workload.beside().map(String::from), beside_rate)];
        for (name, rate) in rows.into_iter().filter_map(|(name, rate)| Some((name?, rate))) {
            let mut line = format!("| {name}");
            for &system in &plan.systems {
                line += " | ";
                line += &match results.has_failed(workload, system) {
                    true => "**failed**".into(),
                    false => or_dash(results.rate(workload, system, rate), number),
                };
            }
            let ratio = results.ratio(workload, RIVALS, rate);
            println!("{line} | {} |", or_dash(ratio, |ratio| format!("{ratio:.2}")));
        }
    }
    println!();
}

fn each(
    plan: &Plan,
    results: &Results,
    what: &str,
    shows: fn(Workload) -> bool,
    cell: impl Fn(&Figures) -> Option<String>,
) {
    head(plan, what, "");
    for &workload in plan.workloads.iter().filter(|workload| shows(**workload)) {
        let cells = plan.systems.iter().map(|&system| {
            let figures = results.median(workload, system);
            figures.and_then(|figures| cell(&figures)).unwrap_or_else(|| "-".into())
        });
        println!("| {} | {} |", workload.name(), cells.collect::<Vec<_>>().join(" | "));
    }
    println!();
}

/// Returns whom the goals compare with in this run.
fn best_rival(plan: &Plan) -> String {
    let names: Vec<&str> =
        RIVALS.iter().filter(|rival| plan.systems.contains(rival)).map(|rival| rival.name()).collect();
    match names[..] {
        [] => "nobody".into(),
        [name] => name.into(),
        _ => format!("the better of {}", names.join(" and ")),
    }
}

fn at_least(what: String, value: Option<f64>, bound: f64) {
    Goal { what, value, least: true, bound }.print();
}

fn at_most(what: String, value: Option<f64>, bound: f64) {
    Goal { what, value, least: false, bound }.print();
}

fn goals(plan: &Plan, results: &Results) {
    println!("{GOALS_HEAD}");
    rate_goals(plan, results);
    sync_goal(results);
    let best = best_rival(plan);
    for workload in [Workload::FillSeq, Workload::FillRandom, Workload::FillBatch, Workload::Overwrite] {
        let name = workload.name();
        let share = |figure| results.share(workload, RIVALS, figure);
        at_most(format!("{name}: p99.9 against {best}"), share("p999"), 1.0);
        at_most(format!("{name}: slowest put against {best}"), share("max"), 1.0);
        let rocks = |figure| results.share(workload, &[System::Rocksdb], figure);
        at_most(format!("{name}: write amplification against rocksdb"), rocks("write"), 1.0);
    }
    let slowest = results.figure(Workload::FillRandom, System::Aidb, "max");
    at_most("fillrandom: slowest put, ms".into(), slowest.map(|micros| micros / 1e3), 20.0);
    for (workload, bound) in [(Workload::FillRandom, 1.2), (Workload::FillRandom, 1.5), (Workload::Overwrite, 1.5)] {
        let space = results.figure(workload, System::Aidb, "space");
        at_most(format!("{}: space amplification", workload.name()), space, bound);
    }
    let after_deletes = results.figure(Workload::DeletesThenScan, System::Aidb, "space");
    at_most("deletes-then-scan: space amplification, without further writes".into(), after_deletes, 1.5);
    for &workload in &plan.workloads {
        let share = results.share(workload, &[System::Rocksdb], "rss");
        at_most(format!("{}: peak memory against rocksdb", workload.name()), share, 1.0);
    }
    absolute_goals(plan, results);
    println!();
}

fn rate_goals(plan: &Plan, results: &Results) {
    use Workload::*;
    let against = format!("against {}", best_rival(plan));
    for workload in
        [FillSeq, FillRandom, FillBatch, FillSync(1), FillSync(8), Overwrite, ReadMissing, ReadSeq, ReadReverse]
    {
        at_least(format!("{}: {against}", workload.name()), results.ratio(workload, RIVALS, main_rate), 1.3);
    }
    let deletes = results.ratio(DeletesThenScan, RIVALS, beside_rate);
    at_least(format!("deletes-then-scan: deletes {against}"), deletes, 1.3);
    at_least(format!("deletes-then-scan: {against}"), results.ratio(DeletesThenScan, RIVALS, main_rate), 1.3);
    at_least(format!("ycsb-e: {against}"), results.ratio(Ycsb('e'), RIVALS, main_rate), 1.3);
    for workload in [ReadRandom, SeekRandom] {
        at_least(format!("{}: {against}", workload.name()), results.ratio(workload, RIVALS, main_rate), 1.5);
    }
    for other in [System::Lmdb, System::Redb] {
        let ratio = results.ratio(ReadRandom, &[other], main_rate);
        at_least(format!("readrandom: against {}", other.name()), ratio, 1.0 / 1.5);
    }
}

/// Three times RocksDB, or as many syncs as the machine can do with a record of every thread in each.
fn sync_goal(results: &Results) {
    const THREADS: usize = 32;
    const LIMIT_PART: f64 = 0.9;
    // More than all of the limit means that the loop it was taken from had to wait for a processor.
    const LIMIT_PART_MAX: f64 = 1.25;
    let workload = Workload::FillSync(THREADS);
    let ratio = results.ratio(workload, &[System::Rocksdb], main_rate);
    let raw = median_of(results.raw_sync.iter().map(Figures::rate).collect());
    let ours = results.rate(workload, System::Aidb, main_rate);
    let part = ours.zip(raw).map(|(ours, raw)| ours / (raw * THREADS as f64));
    let limit = "fillsync-x32: of 32 records for each fdatasync of a raw loop";
    let at_limit = part.is_some_and(|part| (LIMIT_PART..=LIMIT_PART_MAX).contains(&part));
    if !at_limit || ratio.is_some_and(|ratio| ratio >= 3.0) {
        at_least("fillsync-x32: against rocksdb".into(), ratio, 3.0);
    }
    match part {
        Some(part) if part > LIMIT_PART_MAX => {
            println!("| {limit} | >= {LIMIT_PART:.3} | {part:.3} | the machine was too busy to tell |");
        }
        _ => at_least(format!("{limit} (or three times rocksdb)"), part, LIMIT_PART),
    }
}

/// The figures that the specification states for this engine's predecessor.
fn absolute_goals(plan: &Plan, results: &Results) {
    let rate = |workload| results.rate(workload, System::Aidb, main_rate);
    if plan.value_bytes >= 1000 {
        let megabytes = |workload| rate(workload).map(|rate| rate * (KEY_BYTES + plan.value_bytes) as f64 / 1e6);
        at_least("fillseq: MB/s".into(), megabytes(Workload::FillSeq), 500.0);
        at_least("fillbatch: MB/s".into(), megabytes(Workload::FillBatch), 800.0);
        at_least("fillrandom: MB/s".into(), megabytes(Workload::FillRandom), 100.0);
    }
    at_least("readrandom: reads/s".into(), rate(Workload::ReadRandom), 100e3);
    let filter = results.figure(Workload::ReadMissing, System::Aidb, "filter");
    at_least("readmissing: part of table lookups that a filter of 10 bits saves".into(), filter, 0.999);
}
