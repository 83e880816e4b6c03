//! Results as a table for people and as JSON for programs.

use super::meter::Outcome;
use super::options::Options;
use super::workload::Workload;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// One workload's result.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub workload: String,
    pub operations: u64,
    pub seconds: f64,
    pub ops_per_second: f64,
    pub mb_per_second: f64,
    /// A batch in fillbatch, 1000 entries in scans, else 1.
    pub operations_per_sample: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Of the whole process, background threads included.
    pub cpu_us_per_op: f64,
    /// Bytes written to files over bytes of keys and values written, background work included; null if none were.
    pub write_amplification: Option<f64>,
    /// Bytes of files over bytes of live keys and values; null if the database is empty.
    pub space_amplification: Option<f64>,
    /// In readwhilewriting, what the writing thread did beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_ops_per_second: Option<f64>,
    /// In the workloads of transactions, how many had to be run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
}

impl Row {
    /// Sums up what `outcomes` of one workload took, without amplification.
    pub(super) fn new(
        workload: Workload,
        operations_per_sample: u64,
        outcomes: &[Outcome],
        elapsed: Duration,
        cpu: Duration,
    ) -> Row {
        let mut latency = super::meter::histogram();
        for outcome in outcomes {
            latency.add(&outcome.latency).expect("all histograms have the same bounds");
        }
        let operations = outcomes.iter().map(|outcome| outcome.operations).sum::<u64>();
        let bytes = outcomes.iter().map(|outcome| outcome.bytes).sum::<u64>();
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let micros = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
        Row {
            workload: workload.name(),
            operations,
            seconds,
            ops_per_second: operations as f64 / seconds,
            mb_per_second: bytes as f64 / 1e6 / seconds,
            operations_per_sample,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            max_us: latency.max() as f64 / 1e3,
            cpu_us_per_op: cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
            write_amplification: None,
            space_amplification: None,
            writer_ops_per_second: None,
            retries: None,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    aidb_version: &'static str,
    num: u64,
    key_bytes: u32,
    value_bytes: u32,
    threads: u32,
    durability: &'static str,
    seed: u64,
    dir: &'a Path,
    results: &'a [Row],
}

pub(super) fn json(options: &Options, dir: &Path, rows: &[Row]) -> Result<String, String> {
    let report = Report {
        aidb_version: env!("CARGO_PKG_VERSION"),
        num: options.num,
        key_bytes: options.key_bytes,
        value_bytes: options.value_bytes,
        threads: options.threads,
        durability: options.durability.name(),
        seed: options.seed,
        dir,
        results: rows,
    };
    serde_json::to_string_pretty(&report).map_err(|error| error.to_string())
}

/// The table's head.
pub(super) fn head() -> String {
    format!(
        "{:<17} {:>10} {:>11} {:>8} {:>9} {:>9} {:>9} {:>10} {:>9} {:>6} {:>6}",
        "workload",
        "operations",
        "ops/s",
        "MB/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "CPU us/op",
        "w-amp",
        "s-amp"
    )
}

/// One line of the table.
pub(super) fn line(row: &Row) -> String {
    let amplification = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.2}"));
    let mut line = format!(
        "{:<17} {:>10} {:>11.0} {:>8.1} {:>9.2} {:>9.2} {:>9.2} {:>10.1} {:>9.3} {:>6} {:>6}",
        row.workload,
        row.operations,
        row.ops_per_second,
        row.mb_per_second,
        row.p50_us,
        row.p99_us,
        row.p999_us,
        row.max_us,
        row.cpu_us_per_op,
        amplification(row.write_amplification),
        amplification(row.space_amplification),
    );
    if row.operations_per_sample > 1 {
        line += &format!("  (latency of {} entries)", row.operations_per_sample);
    }
    if let Some(retries) = row.retries {
        line += &format!("  ({retries} run again)");
    }
    if let Some(writes) = row.writer_ops_per_second {
        line += &format!("  (beside {writes:.0} writes/s)");
    }
    line
}
