//! `aidb aof append`: records from standard input, as lines or with lengths, under any flush strategy.
//!
//! Records are appended in batches; a batch is recovered whole or not at all. At the end of the input everything is made durable.

use super::Output;
use super::place::{Archived, Place, words};
use aidb::aof::{Aof, AofConfig, FlushStrategy, Ticket};
use aidb::env::StdEnv;
use clap::{Args, ValueEnum};
use std::io::{BufRead, Read};
use std::str::FromStr;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
Strategies: sync, async, batched:RECORDS, periodic:MS, batched:RECORDS,periodic:MS.

Everything is durable when the command has ended without an error. If it is killed, a prefix of the input is kept.

Examples:
  seq 1000 | aidb aof append /data/log --print-ids
  aidb aof append /data/log --wait --strategy sync < lines.txt";

/// The longest record that is taken from the input.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// Options of `aidb aof append`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// When records become durable that are not waited for.
    #[arg(long, default_value = "batched:1000,periodic:100")]
    strategy: Strategy,
    /// How records are told apart.
    #[arg(long, value_enum, default_value_t = Input::Lines)]
    input: Input,
    /// Records of a batch, which is recovered whole or not at all.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Waits for each batch to be durable before the next is read.
    #[arg(long)]
    wait: bool,
    /// Prints the id of each record once it is appended, with --wait once it is durable.
    #[arg(long)]
    print_ids: bool,
    #[command(flatten)]
    archived: Archived,
    /// Bytes of a segment file [default: the log's].
    #[arg(long)]
    segment_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Input {
    /// A record is a line without its end.
    Lines,
    /// A record follows its length, 4 bytes little-endian.
    Prefixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Strategy(FlushStrategy);

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Strategy, String> {
        let number = |value: &str| value.parse::<u64>().map_err(|_| format!("{value} is not a number"));
        let (mut records, mut ms) = (None, None);
        match text {
            "sync" => return Ok(Strategy(FlushStrategy::Sync)),
            "async" => return Ok(Strategy(FlushStrategy::Async)),
            _ => {}
        }
        for part in text.split(',') {
            match part.split_once(':') {
                Some(("batched", value)) => records = Some(number(value)?),
                Some(("periodic", value)) => ms = Some(number(value)?),
                _ => return Err("sync, async, batched:RECORDS, periodic:MS, or both of these with a comma".into()),
            }
        }
        Ok(Strategy(match (records, ms) {
            (Some(records), Some(ms)) => FlushStrategy::BatchedOrPeriodic { records, ms },
            (Some(records), None) => FlushStrategy::Batched(records),
            (None, Some(ms)) => FlushStrategy::Periodic(ms),
            (None, None) => unreachable!("a part set one of them"),
        }))
    }
}

/// Appends what standard input holds.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let mut config = AofConfig::builder().flush_strategy(options.strategy.0);
    if let Some(keys) = options.place.keys.ring()? {
        config = config.encryption(keys);
    }
    if let Some(bytes) = options.segment_bytes {
        config = config.segment_bytes(bytes);
    }
    if let Some(archive) = options.archived.config()? {
        config = config.archive(archive);
    }
    let config = config.build().map_err(words)?;
    let (aof, _) = Aof::open(StdEnv, &options.place.dir, config).map_err(words)?;
    let mut output = Output::new();
    let appended = copy(&aof, options, &mut std::io::stdin().lock(), &mut output);
    // What was read before a failure is kept all the same.
    let closed = aof.close().map_err(words);
    let records = appended?;
    closed?;
    output.flush()?;
    if !options.print_ids {
        eprintln!("{records} records appended; the next id is {}", aof.next_id());
    }
    Ok(())
}

fn copy(aof: &Aof, options: &Options, input: &mut impl BufRead, output: &mut Output) -> Result<u64, String> {
    let mut batch: Vec<Vec<u8>> = Vec::new();
    let mut records = 0;
    while let Some(record) = next(input, options.input)? {
        batch.push(record);
        if batch.len() == usize::from(options.batch) {
            records += put(aof, options, &mut batch, output)?;
        }
    }
    records += put(aof, options, &mut batch, output)?;
    Ok(records)
}

/// Appends the batch and empties it; returns how many records it had.
fn put(aof: &Aof, options: &Options, batch: &mut Vec<Vec<u8>>, output: &mut Output) -> Result<u64, String> {
    if batch.is_empty() {
        return Ok(0);
    }
    let ticket: Ticket = aof.append_batch(batch).map_err(words)?;
    if options.wait {
        ticket.wait().map_err(words)?;
    }
    if options.print_ids {
        for id in ticket.ids() {
            output.line(&id.to_string())?;
        }
        if options.wait {
            output.flush()?;
        }
    }
    let records = batch.len() as u64;
    batch.clear();
    Ok(records)
}

/// Reads the next record, or none at the end of the input.
fn next(input: &mut impl BufRead, format: Input) -> Result<Option<Vec<u8>>, String> {
    let failed = |error| format!("standard input: {error}");
    let mut record = Vec::new();
    if format == Input::Lines {
        let read = input.take(RECORD_BYTES_MAX + 1).read_until(b'\n', &mut record).map_err(failed)?;
        if record.last() == Some(&b'\n') {
            record.pop();
        } else if read as u64 > RECORD_BYTES_MAX {
            return Err(format!("standard input: a line of more than {RECORD_BYTES_MAX} bytes"));
        }
        return Ok((read > 0).then_some(record));
    }
    let mut length = Vec::new();
    input.take(4).read_to_end(&mut length).map_err(failed)?;
    let bytes = match length[..] {
        [] => return Ok(None),
        [a, b, c, d] => [d, c, b, a].into_iter().fold(0, |sum, byte| sum << 8 | u64::from(byte)),
        _ => return Err(format!("standard input ends within a length, of which it has {} of 4 bytes", length.len())),
    };
    if bytes > RECORD_BYTES_MAX {
        return Err(format!("standard input: a length of {bytes}, at most {RECORD_BYTES_MAX}"));
    }
    // Grows as bytes come: the length alone allocates nothing.
    input.take(bytes).read_to_end(&mut record).map_err(failed)?;
    match record.len() as u64 == bytes {
        true => Ok(Some(record)),
        false => Err(format!("standard input ends within a record, of which it has {} of {bytes} bytes", record.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_read() {
        let read = |text: &str| text.parse::<Strategy>().map(|strategy| strategy.0);
        assert_eq!(read("sync"), Ok(FlushStrategy::Sync));
        assert_eq!(read("async"), Ok(FlushStrategy::Async));
        assert_eq!(read("batched:5"), Ok(FlushStrategy::Batched(5)));
        assert_eq!(read("periodic:7"), Ok(FlushStrategy::Periodic(7)));
        assert_eq!(read("batched:5,periodic:7"), Ok(FlushStrategy::BatchedOrPeriodic { records: 5, ms: 7 }));
        assert!(read("batched").is_err() && read("batched:x").is_err() && read("").is_err());
    }

    #[test]
    fn input_is_taken_apart() {
        let all = |mut input: &[u8], format| {
            let mut records = Vec::new();
            while let Some(record) = next(&mut input, format)? {
                records.push(record);
            }
            Ok::<_, String>(records)
        };
        assert_eq!(all(b"a\n\nb\r\nlast", Input::Lines).unwrap(), [&b"a"[..], b"", b"b\r", b"last"]);
        assert_eq!(all(b"\x02\0\0\0hi\0\0\0\0", Input::Prefixed).unwrap(), [&b"hi"[..], b""]);
        assert!(all(b"\x02\0\0\0h", Input::Prefixed).unwrap_err().contains("1 of 2 bytes"));
        assert!(all(b"\x02\0", Input::Prefixed).unwrap_err().contains("2 of 4 bytes"));
        assert!(all(b"\xff\xff\xff\xff", Input::Prefixed).unwrap_err().contains("4294967295"));
    }
}
