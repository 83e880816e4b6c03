//! The process that is killed: appenders and readers over one open log.
//!
//! It prints lines, each with one write: `O` opened, `A` acknowledged, `S` a sequence number that may be missing, `M` what
//! the metrics say, `F` their sums, `T` how long flushes took, `R` what the readers did, `N` an error of background work that an append was told of, `V` something
//! is wrong, `C` closed. It stops when its input ends.

use crate::meter::Meter;
use crate::options::Options;
use crate::record::{Author, Dice, check, make, wall};
use aidb::aof::manifest::SegmentStatus;
use aidb::aof::{Aof, AofError, From, Ticket, Visibility};
use aidb::env::StdEnv;
use aidb::{Error, ErrorKind};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What all threads of the child share.
struct Child<'a> {
    options: &'a Options,
    aof: Aof,
    stop: AtomicBool,
    read: [AtomicU64; 2],
    truncated: AtomicU64,
    lag_us_max: AtomicU64,
    /// Records that were acknowledged, and those whose append was refused with an unknown outcome.
    acknowledged: AtomicU64,
    refused: AtomicU64,
    meter: Mutex<Meter>,
}

/// Prints one line with one write: what is under 4 KiB arrives whole or not at all.
fn say(line: impl Display) {
    let line = format!("{line}\n");
    // A parent that has gone needs no answer.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
    let _ = std::io::stdout().lock().flush();
}

/// Opens the log and works until the input ends.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let begun = Instant::now();
    let config = options.config(true)?;
    let (aof, _report) = Aof::open(StdEnv, &options.dir, config).map_err(|error| format!("open: {error}"))?;
    say(format_args!("O {} {} {}", begun.elapsed().as_millis(), aof.first_id(), aof.next_id()));
    let child = Child {
        options,
        aof,
        stop: AtomicBool::new(false),
        read: [AtomicU64::new(0), AtomicU64::new(0)],
        truncated: AtomicU64::new(0),
        lag_us_max: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        meter: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for writer in 0..options.appenders {
            let child = &child;
            scope.spawn(move || child.append_all(writer));
        }
        for reader in 0..options.readers {
            let child = &child;
            scope.spawn(move || child.follow(reader));
        }
        scope.spawn(|| child.report());
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        child.stop.store(true, Ordering::Relaxed);
    });
    child.aof.flush().map_err(|error| format!("flush: {error}"))?;
    child.measure(true);
    child.aof.close().map_err(|error| format!("close: {error}"))?;
    say("C");
    Ok(())
}

/// A batch that was appended: its records' ids begin at `first`, their authors at `author`.
#[derive(Clone, Copy)]
struct Batch {
    first: u64,
    count: u64,
    author: Author,
    ts: u64,
}

impl Child<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells of a batch that is durable.
    fn acknowledge(&self, batch: Batch) {
        let Batch { first, count, author, ts } = batch;
        self.acknowledged.fetch_add(count, Ordering::AcqRel);
        say(format_args!("A {first} {count} {} {} {} {ts}", author.writer, author.round, author.sequence));
    }

    /// Looks at the counters, for the last time if nothing is under way any more.
    fn measure(&self, at_end: bool) {
        let count = |number: &AtomicU64| number.load(Ordering::Acquire);
        let (acknowledged, refused) = (count(&self.acknowledged), count(&self.refused));
        let mut meter = self.meter.lock().expect("no holder panics");
        let wrong = match at_end {
            true => meter.look_at_end(&self.aof, acknowledged, refused),
            false => meter.look(&self.aof, acknowledged),
        };
        wrong.iter().for_each(|what| say(format_args!("V metrics: {what}")));
        say(format_args!("F {}", meter.numbers().map(|number| number.to_string()).join(" ")));
        say(format_args!("T {}", meter.times()));
    }

    /// Appends in every way until told to stop.
    fn append_all(&self, writer: u32) {
        let round = self.options.round;
        let mut dice = Dice::new(self.options.seed ^ (u64::from(round) << 20) ^ (u64::from(writer) << 50));
        let mut waiting: VecDeque<(Ticket, Batch)> = VecDeque::new();
        let mut sequence = 0;
        while !self.stopped() {
            let author = Author { writer, round, sequence };
            let count = if dice.below(10) == 0 { 2 + dice.below(19) } else { 1 };
            sequence += count;
            if let Err(error) = self.append_once(author, count, dice.below(10), &mut waiting) {
                self.refused.fetch_add(count, Ordering::AcqRel);
                for missing in author.sequence..sequence {
                    say(format_args!("S {writer} {round} {missing}"));
                }
                refused(&error);
            }
            while waiting.front().is_some_and(|(ticket, _)| ticket.is_durable()) {
                self.acknowledge(waiting.pop_front().expect("it is there").1);
            }
            std::thread::sleep(Duration::from_micros(dice.below(self.options.pause_ms * 1000)));
        }
        for (ticket, batch) in waiting {
            match ticket.wait() {
                Ok(()) => self.acknowledge(batch),
                Err(error) => {
                    self.refused.fetch_add(batch.count, Ordering::AcqRel);
                    refused(&error);
                }
            }
        }
    }

    fn append_once(
        &self,
        author: Author,
        count: u64,
        way: u64,
        waiting: &mut VecDeque<(Ticket, Batch)>,
    ) -> Result<(), Error> {
        let batch = |ticket: &Ticket| Batch { first: ticket.ids().start, count, author, ts: ticket.ts() };
        if count > 1 {
            let author = |offset: u64| Author { sequence: author.sequence + offset, ..author };
            let records: Vec<Vec<u8>> = (0..count).map(|offset| make(author(offset))).collect();
            let ticket = self.aof.append_batch(&records)?;
            ticket.wait()?;
            self.acknowledge(batch(&ticket));
            return Ok(());
        }
        let record = make(author);
        match way {
            0..4 => {
                let ts = wall();
                let first = self.aof.append_sync(&record)?.start;
                self.acknowledge(Batch { first, count, author, ts });
            }
            4..8 => {
                let ticket = self.aof.append(&record)?;
                ticket.wait()?;
                self.acknowledge(batch(&ticket));
            }
            _ => {
                let ticket = self.aof.append(&record)?;
                let batch = batch(&ticket);
                waiting.push_back((ticket, batch));
            }
        }
        Ok(())
    }

    /// Follows the log and checks what it shows.
    fn follow(&self, reader: u32) {
        let visibility = if reader.is_multiple_of(2) { Visibility::Durable } else { Visibility::Written };
        let mut from = if reader < 2 { From::TailMinus(100) } else { From::First };
        while !self.stopped() {
            match self.follow_from(from, visibility, usize::from(reader % 2 == 1)) {
                Ok(()) => return,
                Err(error) if matches!(AofError::of(&error), Some(AofError::Truncated { .. })) => {
                    // Retention overtook it.
                    self.truncated.fetch_add(1, Ordering::Relaxed);
                    from = From::First;
                }
                Err(error) => {
                    say(format_args!("V reader {reader}: {error:?}"));
                    return;
                }
            }
        }
    }

    fn follow_from(&self, from: From, visibility: Visibility, kind: usize) -> Result<(), Error> {
        let mut cursor = self.aof.cursor(from)?.follow(true).visibility(visibility);
        let mut expected = None;
        let mut authors: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        while !self.stopped() {
            let Some(record) = cursor.next_within(Duration::from_millis(200)) else { continue };
            let record = record?;
            let wrong =
                |what: &dyn Display| say(format_args!("V reader of kind {kind} at record {}: {what}", record.id));
            if expected.is_some_and(|expected| expected != record.id) {
                wrong(&format_args!("expected {expected:?}"));
            }
            expected = Some(record.id + 1);
            match check(record.bytes) {
                Err(what) => wrong(&what),
                Ok((_, author)) => {
                    let before = authors.insert((author.writer, author.round), author.sequence);
                    if before.is_some_and(|before| before >= author.sequence) {
                        wrong(&format_args!("{author:?} after {before:?}"));
                    }
                }
            }
            self.read[kind].fetch_add(1, Ordering::Relaxed);
            if matches!(from, From::TailMinus(_)) {
                self.lag_us_max.fetch_max(wall().saturating_sub(record.ts), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Says every second what the log says of itself.
    fn report(&self) {
        while !self.stopped() {
            std::thread::sleep(Duration::from_secs(1));
            let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
            let (durable, written) = (count(&self.read[0]), count(&self.read[1]));
            say(format_args!("R {durable} {written} {} {}", count(&self.truncated), count(&self.lag_us_max)));
            self.report_metrics();
            self.measure(false);
        }
    }

    fn report_metrics(&self) {
        let segments = self.aof.segments();
        let count = |status| segments.iter().filter(|entry| entry.status == status).count();
        say(format_args!(
            "M records {} to {}, {} segments, of which {} in S3 alone, {} there and here; {} errors of background work",
            self.aof.first_id(),
            self.aof.next_id(),
            segments.len(),
            count(SegmentStatus::LocalDeleted),
            count(SegmentStatus::Archived),
            self.aof.background_errors().len()
        ));
    }
}

/// Reports a failed append: that of background work is told to whoever comes next, anything else is wrong.
fn refused(error: &Error) {
    let line = format!("{error:?}").replace('\n', " ");
    match error.kind() {
        ErrorKind::Remote | ErrorKind::WouldBlock => say(format_args!("N {line}")),
        _ => say(format_args!("V append: {line}")),
    }
}
