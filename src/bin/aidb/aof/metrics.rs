//! `aidb aof metrics`: what can be known of a log from its directory, in the text format of Prometheus.
//!
//! Reads without a lock and changes nothing. What a running log counts is for its own process to serve
//! ([`Aof::prometheus`]).

use super::Output;
use super::list::read_all;
use super::place::{Place, existing, words};
use aidb::aof::{Aof, AofConfig, From};
use aidb::env::StdEnv;
use clap::Args;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
Of local segments only. Records count once the log says that they are durable.

Example, for the textfile collector of node_exporter:
  aidb aof metrics /data/log > /var/lib/node_exporter/log.prom.new && mv /var/lib/node_exporter/log.prom{.new,}";

/// Options of `aidb aof metrics`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
}

/// Prints the metrics.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let dir = existing(&options.place.dir)?;
    let config = AofConfig { encryption: options.place.keys.ring()?, ..AofConfig::default() };
    let reader = Aof::open_read_only(StdEnv, dir, config).map_err(words)?;
    let segments = read_all(dir)?;
    let last = reader.cursor(From::TailMinus(1)).map_err(words)?.last().transpose().map_err(words)?;
    let first_id = segments.first().map_or(1, |segment| segment.header.base_id);
    let next_id = last.as_ref().map_or(first_id, |record| record.id + 1);
    let bytes: u64 = segments.iter().map(|segment| segment.file_bytes).sum();
    let mut output = Output::new();
    let mut gauge = |name: &str, help: &str, value: &dyn std::fmt::Display| {
        output.line(&format!("# HELP aidb_aof_{name} {help}\n# TYPE aidb_aof_{name} gauge\naidb_aof_{name} {value}"))
    };
    gauge("local_segments", "Local segments.", &segments.len())?;
    gauge("local_file_bytes", "Bytes of their files, room for more included.", &bytes)?;
    gauge("local_first_id", "Id of the first record in them.", &first_id)?;
    gauge("durable_id", "Id after the last record that the log says is durable.", &next_id)?;
    gauge("local_records", "Durable records in local segments.", &next_id.saturating_sub(first_id))?;
    if let Some(record) = last {
        let seconds = format!("{}.{:06}", record.ts / 1_000_000, record.ts % 1_000_000);
        gauge("last_record_timestamp_seconds", "When the last durable record was appended.", &seconds)?;
    }
    output.flush()
}
