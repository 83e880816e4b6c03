//! `aidb aof tail`: records of a log, the last ones or from some place on, and on as it grows.
//!
//! Opens the log for reading only: it takes no lock, changes nothing, and works beside the process that appends. A reader
//! of its output that goes away is noticed with the next record.

use super::Output;
use super::place::{Archived, Place, existing, words};
use super::show::{Format, hex, time};
use aidb::aof::{Aof, AofConfig, From, Lsn, RecordRef, Until, Visibility};
use aidb::env::StdEnv;
use clap::Args;
use std::time::Duration;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
Text is each record followed by a line's end, hex is id, position, time and digits, json one object a line: id, lsn, ts_us,
tag, and text, or hex if the record is not UTF-8.

By default records are shown once the log says that they are durable, which it does with the next append or after a second
without one. Archived segments that are no longer local are shown with --archive only. Damage in the newest segment looks like its end: see
aidb aof verify.

Examples:
  aidb aof tail /data/log -n 20
  aidb aof tail /data/log --follow --format json
  aidb aof tail /data/log --from-id 1 --until-id 1000
  aidb aof tail /data/log --from-id 1 --archive s3://bucket/logs";

/// Options of `aidb aof tail`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    archived: Archived,
    /// Begins so many records before the end [default: 10].
    #[arg(short = 'n', long = "lines", value_name = "RECORDS", conflicts_with_all = ["from_id", "from_lsn", "from_time"])]
    last: Option<u64>,
    /// Begins at this record.
    #[arg(long, value_name = "ID", conflicts_with_all = ["from_lsn", "from_time"])]
    from_id: Option<u64>,
    /// Begins at the first batch at or after this position.
    #[arg(long, value_name = "LSN", conflicts_with = "from_time")]
    from_lsn: Option<u64>,
    /// Begins at this time, microseconds since 1970.
    #[arg(long, value_name = "US")]
    from_time: Option<u64>,
    /// Ends before this record.
    #[arg(long, value_name = "ID")]
    until_id: Option<u64>,
    /// Ends after so many records.
    #[arg(long, value_name = "RECORDS")]
    count: Option<u64>,
    /// Waits for more at the end.
    #[arg(short, long)]
    follow: bool,
    /// Shows records as soon as they are written, which a power loss may take back.
    #[arg(long)]
    written: bool,
    /// How records are shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Options {
    fn from(&self) -> From {
        match (self.from_id, self.from_lsn, self.from_time) {
            (Some(id), ..) => From::Id(id),
            (_, Some(lsn), _) => From::Lsn(Lsn(lsn)),
            (.., Some(ts)) => From::Time(ts),
            _ => From::TailMinus(self.last.unwrap_or(10)),
        }
    }
}

/// Prints what `options` ask for.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let (encryption, archive) = (options.place.keys.ring()?, options.archived.config()?);
    let config = AofConfig { encryption, archive, ..AofConfig::default() };
    let reader = Aof::open_read_only(StdEnv, existing(&options.place.dir)?, config).map_err(words)?;
    let mut cursor = reader.cursor(options.from()).map_err(words)?.follow(options.follow);
    if options.written {
        cursor = cursor.visibility(Visibility::Written);
    }
    if let Some(id) = options.until_id {
        cursor = cursor.until(Until::Id(id));
    }
    if let Some(count) = options.count {
        cursor = cursor.until(Until::Count(count));
    }
    let mut output = Output::new();
    while output.is_open() {
        if let Some(record) = cursor.next_within(Duration::ZERO) {
            print(&record.map_err(words)?, options.format, &mut output)?;
            continue;
        }
        // Nothing more for now: what there is goes out before this waits.
        output.flush()?;
        if !output.is_open() {
            break;
        }
        match cursor.next_ref() {
            Some(record) => print(&record.map_err(words)?, options.format, &mut output)?,
            None => break,
        }
    }
    output.flush()
}

fn print(record: &RecordRef<'_>, format: Format, output: &mut Output) -> Result<(), String> {
    let RecordRef { id, lsn, ts, tag, bytes } = *record;
    match format {
        Format::Text => {
            output.bytes(bytes)?;
            output.bytes(b"\n")
        }
        Format::Hex => output.line(&format!("{id}\t{lsn}\t{}\t{}", time(ts), hex(bytes))),
        Format::Json => {
            let mut object = serde_json::json!({ "id": id, "lsn": lsn.0, "ts_us": ts, "tag": tag });
            match std::str::from_utf8(bytes) {
                Ok(text) => object["text"] = text.into(),
                Err(_) => object["hex"] = hex(bytes).into(),
            }
            output.line(&object.to_string())
        }
    }
}
