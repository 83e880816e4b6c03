//! `aidb bench`: measures the engine with db_bench's workloads and checks every answer.
//!
//! [`run`] walks through the workloads in order; each starts its threads ([`work`]), times them ([`meter`]) and becomes one
//! [`report::Row`]. The thread that called waits and draws a progress bar. Between workloads that write, flush and
//! compactions are waited for outside the timing, so that amplification counts all of the work.
//!
//! Source: `db_bench.cc` of LevelDB and RocksDB for what each workload does.

mod data;
mod meter;
mod options;
mod place;
mod report;
mod work;
mod workload;

pub(crate) use options::{HELP, Options};

use aidb::{DB, Statistics};
use data::{Ledger, Values};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meter::{Outcome, Progress};
use place::Place;
use report::Row;
use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::path::Path;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};
use work::Job;
use workload::Workload;

const SETTLE_TIME_MAX: Duration = Duration::from_secs(120);
const POLL_TIME: Duration = Duration::from_millis(50);

/// Runs the workloads that `options` name.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    options.check()?;
    let workloads = options.workloads();
    let place = Place::take(options)?;
    let json_on_stdout = options.json.as_deref() == Some(Path::new("-"));
    let print = |line: &str| {
        // A closed pipe is no reason to fail: the reader has seen enough.
        let _ =
            if json_on_stdout { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    };
    print(&format!(
        "{} keys of {} B with values of {} B, {} threads, durability {}, in {}",
        options.num,
        options.key_bytes,
        options.value_bytes,
        options.threads,
        options.durability.name(),
        place.dir().display()
    ));
    print(&report::head());
    let mut bench = Bench::new(options, &place)?;
    let mut rows = Vec::new();
    for workload in workloads {
        let row = bench.run(workload).map_err(|error| format!("{}: {error}", workload.name()))?;
        print(&report::line(&row));
        rows.push(row);
    }
    bench.close()?;
    if let Some(file) = &options.json {
        let json = report::json(options, place.dir(), &rows)? + "\n";
        if json_on_stdout {
            std::io::stdout()
                .write_all(json.as_bytes())
                .map_err(|error| format!("cannot write the results: {error}"))?;
        } else {
            std::fs::write(file, json).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
    }
    Ok(())
}

/// The database of a run and what it has to hold.
struct Bench<'a> {
    options: &'a Options,
    place: &'a Place,
    values: Values,
    /// None before the first fill of a fresh directory.
    loaded: Option<(DB, Ledger)>,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, place: &'a Place) -> Result<Bench<'a>, String> {
        let values = Values::new(options.value_bytes, options.seed);
        Ok(Bench { options, place, values, loaded: None })
    }

    /// Makes the database ready for `workload`: an empty one for a fill, else the loaded one.
    fn prepare(&mut self, workload: Workload) -> Result<(DB, Ledger), String> {
        let loaded = self.loaded.take();
        let ledger = if workload.is_fill() {
            if let Some((db, _)) = loaded {
                db.close().map_err(|error| error.to_string())?;
            }
            self.place.clear()?;
            Ledger::new(self.options.num)
        } else if let Some(loaded) = loaded {
            return Ok(loaded);
        } else {
            let missing = "there is nothing to work on: run a fill before it, such as fillrandom";
            self.place.recall(self.options)?.ok_or(missing)?
        };
        let db = DB::open(self.place.database(), self.options.engine()).map_err(|error| error.to_string())?;
        Ok((db, ledger))
    }

    fn run(&mut self, workload: Workload) -> Result<Row, String> {
        let (db, mut ledger) = self.prepare(workload)?;
        let generation = match workload.writes() {
            true => ledger.last.checked_add(1).ok_or("255 workloads have written here: begin with a fill")?,
            false => 0,
        };
        if workload.writes() {
            self.place.forget()?;
            ledger.last = generation;
        }
        let progress = Progress::default();
        let job = Job {
            db: &db,
            options: self.options,
            values: &self.values,
            ledger: &ledger,
            generation,
            progress: &progress,
        };
        let before = db.statistics();
        let mut row = self.measure(workload, &job)?;
        if workload.writes() {
            if !self.options.no_settle {
                settle(&db, self.options).map_err(|error| error.to_string())?;
            }
            row.write_amplification = write_amplification(&before, &db.statistics());
            self.place.remember(self.options, &ledger)?;
        }
        let live_bytes = ledger.present() * u64::from(self.options.key_bytes + self.options.value_bytes);
        row.space_amplification = (live_bytes > 0).then(|| self.place.database_bytes() as f64 / live_bytes as f64);
        self.loaded = Some((db, ledger));
        Ok(row)
    }

    /// Starts the threads of `workload` and waits for them.
    fn measure(&self, workload: Workload, job: &Job<'_>) -> Result<Row, String> {
        let reads = self.options.reads.unwrap_or(self.options.num);
        let operations = workload.operations(self.options.num, reads);
        let bar = bar(&workload.name(), operations, self.options.no_progress);
        let (cpu, start) = (meter::process_cpu(), Instant::now());
        let (outcomes, beside) = std::thread::scope(|scope| {
            let parts = shares(operations, self.options.threads).enumerate();
            let threads: Vec<_> = parts
                .map(|(thread, range)| scope.spawn(move || stopping(job, job.work(workload, thread as u32, range))))
                .collect();
            let beside =
                (workload == Workload::ReadWhileWriting).then(|| scope.spawn(|| stopping(job, job.write_beside())));
            while !bar.is_hidden() && threads.iter().any(|thread| !thread.is_finished()) {
                bar.set_position(job.progress.done());
                std::thread::sleep(POLL_TIME);
            }
            let outcomes: Result<Vec<Outcome>, String> = threads.into_iter().map(joined).collect();
            job.progress.stop();
            (outcomes, beside.map(joined))
        });
        let cpu = meter::process_cpu().saturating_sub(cpu);
        bar.finish_and_clear();
        let (outcomes, beside) = (outcomes?, beside.transpose()?);
        let end = outcomes.iter().map(|outcome| outcome.end).max().unwrap_or(start);
        let elapsed = end.saturating_duration_since(start);
        let sample = workload.entries_per_sample(self.options.batch);
        let mut row = Row::new(workload, sample, &outcomes, elapsed, cpu);
        row.retries = workload.is_transactional().then(|| job.progress.retries());
        row.writer_ops_per_second = beside.map(|writer| writer.operations as f64 / row.seconds);
        Ok(row)
    }

    fn close(self) -> Result<(), String> {
        match self.loaded {
            Some((db, _)) => db.close().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// Passes `outcome` on; a failure makes the other threads end too.
fn stopping(job: &Job<'_>, outcome: Result<Outcome, String>) -> Result<Outcome, String> {
    if outcome.is_err() {
        job.progress.stop();
    }
    outcome
}

fn joined(thread: ScopedJoinHandle<'_, Result<Outcome, String>>) -> Result<Outcome, String> {
    thread.join().unwrap_or_else(|_| Err("a thread of the workload panicked".into()))
}

/// Splits `operations` into one contiguous range a thread.
fn shares(operations: u64, threads: u32) -> impl Iterator<Item = Range<u64>> {
    let at = move |thread: u32| (u128::from(operations) * u128::from(thread) / u128::from(threads)) as u64;
    (0..threads).map(move |thread| at(thread)..at(thread + 1))
}

/// Flushes and waits until no compaction is due, or for [`SETTLE_TIME_MAX`].
fn settle(db: &DB, options: &Options) -> aidb::Result<()> {
    db.flush()?;
    let engine = options.engine();
    let due = |statistics: &Statistics| {
        let mut bytes_max = engine.level_bytes_base;
        let mut over = false;
        for level in statistics.levels.iter().skip(1).take(engine.levels_max.saturating_sub(2)) {
            over |= level.bytes > bytes_max;
            bytes_max = bytes_max.saturating_mul(engine.level_size_multiplier);
        }
        over || statistics.levels.first().is_some_and(|level| level.files >= engine.l0_compaction_files as u64)
    };
    let start = Instant::now();
    while due(&db.statistics()) && start.elapsed() < SETTLE_TIME_MAX {
        std::thread::sleep(POLL_TIME);
    }
    Ok(())
}

/// Returns bytes written to files over bytes written by the user between two pictures of an engine.
fn write_amplification(before: &Statistics, after: &Statistics) -> Option<f64> {
    let written = |at: &Statistics| at.wal.bytes + at.flush_bytes + at.compaction_bytes_written;
    let user = after.write_bytes.saturating_sub(before.write_bytes);
    (user > 0).then(|| written(after).saturating_sub(written(before)) as f64 / user as f64)
}

/// A progress bar on standard error, hidden where that is no terminal.
fn bar(name: &str, operations: u64, hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:17} [{wide_bar}] {human_pos}/{human_len} {per_sec} eta {eta}")
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "));
    ProgressBar::with_draw_target(Some(operations), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(name.to_string())
}
