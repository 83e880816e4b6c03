//! The process that kills: it serves S3, starts children, keeps the book, reads everything after each kill.

use crate::book::{Book, Found};
use crate::meter::{NUMBERS, sum_line};
use crate::options::{BUCKET, Options};
use crate::record::{Dice, wall};
use aidb::aof::Aof;
use aidb::env::StdEnv;
use aidb_s3_tests::proxy::{Action, Proxy};
use aidb_s3_tests::server::Server;
use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the children said, added up.
#[derive(Default)]
struct Told {
    book: Book,
    open_ms: Vec<u64>,
    read_durable: u64,
    read_written: u64,
    truncated: u64,
    lag_us_max: u64,
    /// The last `R` line of the running child.
    reading: [u64; 3],
    notices: u64,
    last_notice: String,
    metrics: String,
    /// The last `F` line of the running child, and all those before.
    counters: [u64; NUMBERS],
    sums: [u64; NUMBERS],
    looks: u64,
    times: String,
    wrong: Vec<String>,
    closed: bool,
}

impl Told {
    fn line(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers = || rest.split(' ').map_while(|word| word.parse().ok()).collect::<Vec<u64>>();
        match kind {
            "A" => {
                if let Err(what) = self.book.acknowledge(&numbers()) {
                    self.wrong.push(what);
                }
            }
            "S" => self.book.skip(&numbers()),
            "O" => self.open_ms.extend(numbers().first()),
            "R" => {
                if let [durable, written, truncated, lag] = numbers()[..] {
                    self.reading = [durable, written, truncated];
                    self.lag_us_max = self.lag_us_max.max(lag);
                }
            }
            "M" => self.metrics = rest.to_string(),
            "N" => {
                self.notices += 1;
                self.last_notice = rest.to_string();
            }
            "F" => {
                if let Ok(counters) = numbers().try_into() {
                    (self.counters, self.looks) = (counters, self.looks + 1);
                }
            }
            "T" => self.times = rest.to_string(),
            "C" => self.closed = true,
            _ => self.wrong.push(line.to_string()),
        }
    }

    fn child_ended(&mut self) {
        let [durable, written, truncated] = std::mem::take(&mut self.reading);
        self.read_durable += durable;
        self.read_written += written;
        self.truncated += truncated;
        let last = std::mem::take(&mut self.counters);
        self.sums.iter_mut().zip(last).for_each(|(sum, number)| *sum += number);
    }
}

/// Runs the whole thing.
pub(crate) fn run(mut options: Options) -> Result<(), String> {
    let root = tempfile::tempdir().map_err(|error| error.to_string())?;
    let objects = root.path().join("s3");
    std::fs::create_dir_all(objects.join(BUCKET)).map_err(|error| error.to_string())?;
    let server = Server::start(&objects);
    let proxy = Arc::new(Proxy::start(server.address));
    options.dir = root.path().join("log");
    options.endpoint = format!("http://{}", proxy.address);
    let stop = Arc::new(AtomicBool::new(false));
    let breaker = {
        let (proxy, stop, seed) = (proxy.clone(), stop.clone(), options.seed);
        std::thread::spawn(move || break_things(&proxy, &stop, seed))
    };
    let outcome = rounds(&options, &proxy, &objects.join(BUCKET));
    stop.store(true, Ordering::Relaxed);
    let faults = breaker.join().unwrap_or_default();
    println!("faults planted in the network: {faults}");
    if outcome.is_err() {
        println!("left for inspection: {}", root.keep().display());
    }
    outcome
}

fn rounds(options: &Options, proxy: &Proxy, bucket: &Path) -> Result<(), String> {
    let told = Arc::new(Mutex::new(Told::default()));
    let mut dice = Dice::new(options.seed);
    let begun = Instant::now();
    let whole = Duration::from_secs_f64(options.minutes * 60.0);
    let (mut up, mut reading, mut last) = (Duration::ZERO, Duration::ZERO, Found::default());
    for round in 0..=options.kills {
        let left = whole.saturating_sub(up) / (options.kills + 1 - round);
        // Every fifth child hardly comes to open the log.
        let early = round % 5 == 4 && round < options.kills;
        let life =
            if early { Duration::from_millis(dice.below(200)) } else { vary(left, &mut dice, round == options.kills) };
        let started = Instant::now();
        live(options, round, life, round < options.kills, &told)?;
        up += started.elapsed();
        let started = Instant::now();
        last = read_all(options, &told)?;
        reading += started.elapsed();
        let told = told.lock().map_err(|_| "a reader of a child's lines panicked")?;
        println!(
            "{:>4} s  round {round}{}: {} records acknowledged; a full read of {} records ({} owed), {:.1} MB in {} ms; {} expired",
            begun.elapsed().as_secs(),
            if early { " (early)" } else { "" },
            told.book.records,
            last.records,
            last.acknowledged,
            last.bytes as f64 / 1e6,
            started.elapsed().as_millis(),
            told.book.expired,
        );
    }
    let told = told.lock().map_err(|_| "a reader of a child's lines panicked")?;
    if !told.closed {
        return Err("the last child did not close the log".into());
    }
    report(options, &told, proxy, bucket, (up, reading, begun.elapsed()), &last);
    Ok(())
}

/// Returns a time around `mean`; the last round takes what is left.
fn vary(mean: Duration, dice: &mut Dice, last: bool) -> Duration {
    if last { mean } else { mean.mul_f64(0.1 + dice.below(1800) as f64 / 1000.0) }
}

/// Lets one child live, then kills it or asks it to stop.
fn live(options: &Options, round: u32, life: Duration, kill: bool, told: &Arc<Mutex<Told>>) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .args(options.child_arguments(round))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let output = child.stdout.take().ok_or("no output")?;
    let listener = {
        let told = told.clone();
        std::thread::spawn(move || {
            let mut lines = std::io::BufReader::new(output);
            let mut line = String::new();
            // A last line without its end was cut by the kill.
            while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
                told.lock().expect("no holder panics").line(line.trim_end());
                line.clear();
            }
        })
    };
    let ended = outlive(&mut child, life, told)?;
    if !ended && kill {
        child.kill().map_err(|error| error.to_string())?;
    }
    drop(child.stdin.take());
    let status = child.wait().map_err(|error| error.to_string())?;
    listener.join().map_err(|_| "the listener panicked")?;
    let mut told = told.lock().map_err(|_| "the listener panicked")?;
    told.child_ended();
    if let Some(what) = told.wrong.first() {
        return Err(format!("round {round}: {what}"));
    }
    if ended || (!kill && !status.success()) {
        return Err(format!("round {round}: the child ended by itself: {status}"));
    }
    Ok(())
}

/// Waits until `life` is over; returns true if the child ended before, or said that something is wrong.
fn outlive(child: &mut Child, life: Duration, told: &Mutex<Told>) -> Result<bool, String> {
    let begun = Instant::now();
    while begun.elapsed() < life {
        if child.try_wait().map_err(|error| error.to_string())?.is_some() {
            return Ok(true);
        }
        if !told.lock().map_err(|_| "the listener panicked")?.wrong.is_empty() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5).min(life.saturating_sub(begun.elapsed())));
    }
    Ok(false)
}

/// Opens the log without retention and compares all of it with the book.
fn read_all(options: &Options, told: &Mutex<Told>) -> Result<Found, String> {
    let config = options.config(false)?;
    let (aof, _report) = Aof::open(StdEnv, &options.dir, config).map_err(|error| format!("open: {error:?}"))?;
    let mut told = told.lock().map_err(|_| "the listener panicked")?;
    let found = told.book.compare(&aof, wall, options.ttl_seconds * 1_000_000)?;
    drop(told);
    aof.close().map_err(|error| format!("close: {error:?}"))?;
    Ok(found)
}

/// Plants a fault every second or so until told to stop; returns how many.
fn break_things(proxy: &Proxy, stop: &AtomicBool, seed: u64) -> u64 {
    let mut dice = Dice::new(seed ^ 0xFA17);
    let mut planted = 0;
    while !stop.load(Ordering::Relaxed) {
        proxy.heal();
        let method = ["PUT", "GET", "HEAD", "DELETE"][dice.below(4) as usize];
        let action = match dice.below(8) {
            0 => Action::Answer(503, "SlowDown"),
            1 => Action::Answer(500, "InternalError"),
            2 => Action::Drop,
            3 => Action::DoThenDrop,
            4 => Action::DoThenAnswer(500, "InternalError"),
            5 => Action::Delay(Duration::from_millis(dice.below(500))),
            6 => Action::CutBody(dice.below(100_000) as usize),
            _ => Action::Answer(409, "ConditionalRequestConflict"),
        };
        // Only a put is ever told of a conflict.
        let method = if matches!(action, Action::Answer(409, _)) { "PUT" } else { method };
        proxy.plant(method, "", 1 + dice.below(3) as usize, action);
        planted += 1;
        std::thread::sleep(Duration::from_millis(200 + dice.below(1500)));
    }
    proxy.heal();
    planted
}

fn count_objects(dir: &Path) -> (u64, u64) {
    let Ok(entries) = std::fs::read_dir(dir) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(objects, bytes), entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let (more, size) = count_objects(&entry.path());
            (objects + more, bytes + size)
        }
        Ok(metadata) => (objects + 1, bytes + metadata.len()),
        Err(_) => (objects, bytes),
    })
}

fn report(
    options: &Options,
    told: &Told,
    proxy: &Proxy,
    bucket: &Path,
    (up, reading, all): (Duration, Duration, Duration),
    last: &Found,
) {
    let mut opens = told.open_ms.clone();
    opens.sort_unstable();
    let at =
        |part: usize| opens.get((opens.len() * part / 100).min(opens.len().saturating_sub(1))).copied().unwrap_or(0);
    let (objects, bytes) = count_objects(bucket);
    println!(
        "seed {}, {} appenders, {} readers, {} kills",
        options.seed, options.appenders, options.readers, options.kills
    );
    println!(
        "time: {:.0} s, of which children {:.0} s, full reads {:.0} s",
        all.as_secs_f64(),
        up.as_secs_f64(),
        reading.as_secs_f64()
    );
    let rate = told.book.records as f64 / up.as_secs_f64();
    println!("acknowledged: {} records in {} batches, {rate:.0} records/s", told.book.records, told.book.batches);
    println!(
        "expired by age ({} s): {} acknowledged records; lost: 0, twice: 0, wrong: 0",
        options.ttl_seconds, told.book.expired
    );
    let oldest = wall().saturating_sub(last.oldest_ts) / 1_000_000;
    println!("kept at the end: {} records, {:.1} MB, the oldest {oldest} s old", last.records, last.bytes as f64 / 1e6);
    println!(
        "followed live: {} records durable, {} written; overtaken by retention {} times; at the tail behind by {} ms at most",
        told.read_durable,
        told.read_written,
        told.truncated,
        told.lag_us_max / 1000
    );
    println!("opening after a kill: median {} ms, longest {} ms", at(50), at(100));
    println!(
        "S3: {} puts, {} gets, {} deletes; {objects} files of {:.1} MB at the end",
        proxy.count("PUT", ""),
        proxy.count("GET", ""),
        proxy.count("DELETE", ""),
        bytes as f64 / 1e6
    );
    println!("errors of background work told to appenders: {} {}", told.notices, told.last_notice);
    println!("{}", sum_line(&told.sums, told.looks));
    println!("{}", told.times);
    println!("the last child before it stopped: {}", told.metrics);
}
