//! The tables, in Markdown: rates with ratios, latencies and syncs, memory, the goals, and the seed's own figures beside ours.

use super::run::Plan;
use super::subject::{Mode, System};
use crate::figures::{Figures, GOALS_HEAD, Goal, number, or_dash, size};
use std::collections::BTreeMap;
use std::time::Duration;

/// Who did what with which records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// A system or a raw loop.
    pub subject: String,
    /// The workload.
    pub mode: String,
    /// Bytes of a record.
    pub bytes: usize,
}

fn total(figures: &Figures) -> f64 {
    figures.get("total").unwrap_or(0.0)
}

fn syncs_per_record(figures: &Figures) -> Option<f64> {
    Some(figures.get("syncs")? / total(figures).max(1.0))
}

type Medians = BTreeMap<Cell, Figures>;

fn find<'a>(medians: &'a Medians, subject: &str, mode: &str, bytes: usize) -> Option<&'a Figures> {
    medians.get(&Cell { subject: subject.into(), mode: mode.into(), bytes })
}

fn rate(medians: &Medians, subject: &str, mode: Mode, bytes: usize) -> Option<f64> {
    find(medians, subject, &mode.name(), bytes).map(Figures::rate)
}

/// Prints every table.
pub fn print(plan: &Plan, medians: &Medians, took: Duration) {
    println!("{} rounds of {} ms a cell, medians; the run took {:.0} s\n", plan.rounds, plan.ms, took.as_secs_f64());
    rates(plan, medians);
    latencies(plan, medians);
    memory(plan, medians);
    raw(plan, medians);
    goals(plan, medians);
    seed(medians);
}

fn rates(plan: &Plan, medians: &Medians) {
    println!("| records/s | aidb | okaywal | ratio | raft-engine | ratio | walrus | ratio |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for mode in plan.modes.iter().filter(|mode| !matches!(mode, Mode::Read | Mode::Stream(_))) {
        for &bytes in &plan.sizes {
            let ours = rate(medians, "aidb", *mode, bytes);
            let mut line = format!("| {}, {} | {}", mode.name(), size(bytes), or_dash(ours, number));
            for peer in &System::ALL[1..] {
                let theirs = rate(medians, peer.name(), *mode, bytes);
                let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
                line += &format!(" | {} | {}", or_dash(theirs, number), or_dash(ratio, |ratio| format!("{ratio:.2}")));
            }
            println!("{line} |");
        }
    }
    println!();
}

fn latencies(plan: &Plan, medians: &Medians) {
    println!("| Sync: p50 / p99 us | raw | aidb | okaywal | raft-engine | walrus | syncs a record, aidb |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for mode in plan.modes.iter().filter(|mode| matches!(mode, Mode::Sync(_))) {
        for &bytes in &plan.sizes {
            let mut line = format!("| {}, {}", mode.name(), size(bytes));
            for subject in ["raw-fdatasync", "aidb", "okaywal", "raft-engine", "walrus"] {
                let figures = find(medians, subject, &mode.name(), bytes);
                let both = figures.and_then(|figures| figures.get("p50").zip(figures.get("p99")));
                line += " | ";
                line += &both.map_or_else(|| "-".into(), |(p50, p99)| format!("{p50:.0} / {p99:.0}"));
            }
            let syncs = find(medians, "aidb", &mode.name(), bytes).and_then(syncs_per_record);
            println!("{line} | {} |", or_dash(syncs, |syncs| format!("{syncs:.3} (1/{:.1})", 1.0 / syncs)));
        }
    }
    println!();
}

fn memory(plan: &Plan, medians: &Medians) {
    println!("| peak resident MiB, over all sizes | aidb | okaywal | raft-engine | walrus |");
    println!("|---|--:|--:|--:|--:|");
    for mode in plan.modes.iter().filter(|mode| !matches!(mode, Mode::Read)) {
        let mut line = format!("| {}", mode.name());
        for system in System::ALL {
            let peaks =
                plan.sizes.iter().filter_map(|&bytes| find(medians, system.name(), &mode.name(), bytes)?.get("rss"));
            let peak = peaks.fold(0.0, f64::max) / f64::from(1 << 20);
            line += &if peak > 0.0 { format!(" | {peak:.0}") } else { " | -".into() };
        }
        println!("{line} |");
    }
    println!();
}

fn megabytes(medians: &Medians, subject: &str, mode: Mode, bytes: usize) -> Option<f64> {
    rate(medians, subject, mode, bytes).map(|rate| rate * bytes as f64 / 1e6)
}

/// Returns how many bytes of a segment a record takes that was appended alone: header, length, record, padding.
fn stored(bytes: usize) -> usize {
    let length = (usize::BITS - bytes.leading_zeros()).div_ceil(7).max(1) as usize;
    (40 + length + bytes).next_multiple_of(8)
}

/// Returns what part of the page cache's rate a cursor reads a log at, in bytes of the file.
fn read_part(medians: &Medians, bytes: usize) -> Option<f64> {
    let of = |subject: &str| rate(medians, subject, Mode::Read, bytes);
    Some(of("aidb")? * stored(bytes) as f64 / (of("raw-read")? * bytes as f64))
}

fn raw(plan: &Plan, medians: &Medians) {
    println!(
        "| MB/s of records | raw write | raw write, synced each 8 MiB | aidb Async | of raw | of synced | raw read | aidb cursor, of the file | of raw |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for &bytes in &plan.sizes {
        let of = |subject, mode| megabytes(medians, subject, mode, bytes);
        let ours = of("aidb", Mode::Async);
        let (write, synced) = (of("raw-write", Mode::Async), of("raw-write-synced", Mode::Async));
        let read = of("raw-read", Mode::Read);
        let cursor = rate(medians, "aidb", Mode::Read, bytes).map(|rate| rate * stored(bytes) as f64 / 1e6);
        let plain = |value| or_dash(value, |value| format!("{value:.0}"));
        let part = |a: Option<f64>, b: Option<f64>| {
            or_dash(a.zip(b).map(|(a, b)| a / b), |part| format!("{:.0}%", part * 100.0))
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            size(bytes),
            plain(write),
            plain(synced),
            plain(ours),
            part(ours, write),
            part(ours, synced),
            plain(read),
            plain(cursor),
            part(cursor, read)
        );
    }
    println!();
}

fn goals(plan: &Plan, medians: &Medians) {
    println!("{GOALS_HEAD}");
    let ratio =
        |mode, bytes, other: &str| Some(rate(medians, "aidb", mode, bytes)? / rate(medians, other, mode, bytes)?);
    let at_least = |what, value, bound| Goal { what, value, least: true, bound }.print();
    let at_most = |what, value, bound| Goal { what, value, least: false, bound }.print();
    for threads in [8, 32] {
        for &bytes in &plan.sizes {
            for (peer, bound) in [("okaywal", 1.5), ("raft-engine", 2.0), ("walrus", 2.0)] {
                let value = ratio(Mode::Sync(threads), bytes, peer);
                at_least(format!("Sync x{threads}, {}: against {peer}", size(bytes)), value, bound);
            }
        }
    }
    for threads in [8, 32] {
        for &bytes in &plan.sizes {
            let figures = find(medians, "aidb", &Mode::Sync(threads).name(), bytes);
            let bound = 1.0 / (0.9 * threads as f64);
            at_most(
                format!("Sync x{threads}, {}: syncs a record", size(bytes)),
                figures.and_then(syncs_per_record),
                bound,
            );
        }
    }
    for &bytes in &plan.sizes {
        let p50 = |subject: &str| find(medians, subject, &Mode::Sync(1).name(), bytes)?.get("p50");
        let value = p50("aidb").zip(p50("raw-fdatasync")).map(|(ours, raw)| ours / raw);
        at_most(format!("Sync x1, {}: p50 against a raw fdatasync", size(bytes)), value, 1.3);
    }
    at_least("Async, 64 B: records/s".into(), rate(medians, "aidb", Mode::Async, 64), 2.5e6);
    for bytes in [16 << 10, 64 << 10] {
        let of = |raw: &str| Some(rate(medians, "aidb", Mode::Async, bytes)? / rate(medians, raw, Mode::Async, bytes)?);
        at_least(format!("Async, {}: against a raw write, never synced", size(bytes)), of("raw-write"), 0.85);
        at_least(format!("Async, {}: against a raw write, synced alike", size(bytes)), of("raw-write-synced"), 0.85);
    }
    for &bytes in &plan.sizes {
        let what = format!("read, {}: bytes of the file against the page cache", size(bytes));
        at_least(what, read_part(medians, bytes), 0.8);
    }
    println!();
}

/// The figures that the log's specification states for its predecessor, on another machine.
const SEED: [(Mode, usize, f64); 10] = [
    (Mode::Sync(8), 64, 50e3),
    (Mode::Sync(8), 1 << 10, 25e3),
    (Mode::Sync(32), 16 << 10, 5e3),
    (Mode::Sync(32), 64 << 10, 1.25e3),
    (Mode::Async, 64, 1e6),
    (Mode::Async, 1 << 10, 500e3),
    (Mode::Async, 16 << 10, 100e3),
    (Mode::Async, 64 << 10, 25e3),
    (Mode::Stream(1000), 64, 800e3),
    (Mode::Stream(1000), 1 << 10, 400e3),
];

fn seed(medians: &Medians) {
    println!("| records/s, as specified at first | stated | here | ratio | |");
    println!("|---|--:|--:|--:|---|");
    for (mode, bytes, stated) in SEED {
        let ours = rate(medians, "aidb", mode, bytes);
        let ratio = ours.map(|ours| ours / stated);
        let reached = ratio.map_or("-", |ratio| if ratio >= 1.0 { "reached" } else { "**not reached**" });
        let ratio = or_dash(ratio, |ratio| format!("{ratio:.2}"));
        let (stated, ours) = (number(stated), or_dash(ours, number));
        println!("| {}, {} | {stated} | {ours} | {ratio} | {reached} |", mode.name(), size(bytes));
    }
}
