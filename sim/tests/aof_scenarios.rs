//! The raw log in a simulated world: threads append, sync, drop segments, are killed and lose power; then it is opened
//! again and compared with what was promised.
//!
//! The oracle keeps every frame that was issued by position. What recovery yields must be a prefix of it, with everything
//! acknowledged, byte by byte. After damage at rest it may refuse by name; after a clean close it must not lose anything
//! but what shares the last bytes with the MARK.
//!
//! Each planted bug of the log is found by these runs within a stated number of seeds.
#![allow(clippy::disallowed_types, reason = "the oracle is shared between fibers of one OS thread")]

use aidb::aof::{Append, FrameKind, Log, LogOptions, Lsn, MARKS, PLANTED_BUGS};
use aidb::env::{Disk, Env, EnvJoin};
use aidb::{Error, ErrorKind};
use aidb_sim::{Exit, Harness, Outcome, Rate, SimEnv, WorldConfig, roll, run};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

const DIR: &str = "/wal";
/// Starts of the process in a run.
const STARTS: u64 = 6;
/// Rot at one place reaches so far: the last frames may go with the MARK behind them.
const ROT_BYTES: u64 = 64 + 48;

/// What one run does, decided by the seed.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    threads: u64,
    steps: u64,
    payload_max: u64,
    segment_bytes: u64,
    buffer_bytes: usize,
}

impl Plan {
    fn new(seed: u64) -> Plan {
        let draw = |what: &str, n: u64| roll(seed, what, 0) % n;
        Plan {
            seed,
            threads: 1 + draw("threads", 4),
            steps: 4 + draw("steps", 24),
            payload_max: [30, 300, 3000, 9000][draw("payload", 4) as usize],
            segment_bytes: [8192, 8192, 16384, 65536][draw("segment", 4) as usize],
            buffer_bytes: [0, 500, 1 << 20][draw("buffer", 3) as usize],
        }
    }

    fn options(&self) -> LogOptions {
        LogOptions { segment_bytes: self.segment_bytes, buffer_bytes: self.buffer_bytes, ..LogOptions::default() }
    }
}

#[derive(Default)]
struct Oracle {
    /// Payload number of each frame, by its end.
    issued: BTreeMap<u64, u64>,
    /// Numbers whose append has not returned.
    in_flight: BTreeSet<u64>,
    next: u64,
    acknowledged: u64,
    /// Frames below may be gone.
    dropped: u64,
    /// The last start ended with a clean close.
    closed: bool,
    /// What is wrong unless the disk was damaged at rest; only the body of the run knows.
    unless_damaged: Option<String>,
    /// The log refused to open because of damage: nothing more to judge.
    refused: bool,
}

/// The payload of `number`.
fn payload(number: u64, max: u64) -> Vec<u8> {
    let len = roll(number, "len", 0) % max;
    let mut payload = format!("{number:016x}").into_bytes();
    payload.extend((0..len).map(|at| (roll(number, "byte", at / 64) >> (at % 8 * 8)) as u8));
    payload
}

fn number_of(payload: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(payload.get(..16)?).ok()?, 16).ok()
}

/// Says what is wrong with what a recovery yielded.
fn judge(oracle: &Oracle, found: &[(u64, u64, u64)], damaged: bool, closed: bool) -> Option<String> {
    for pair in found.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Some(format!("frames overlap: {pair:?}"));
        }
    }
    for (_, end, number) in found {
        match oracle.issued.get(end) {
            Some(issued) if issued == number => {}
            None if oracle.in_flight.contains(number) => {}
            other => return Some(format!("frame {number:x} ends at {end}, where {other:x?} was issued")),
        }
    }
    let last = found.last().map_or(0, |frame| frame.1);
    let ends: BTreeSet<u64> = found.iter().map(|frame| frame.1).collect();
    let missing = oracle.issued.keys().find(|end| **end > oracle.dropped && **end <= last && !ends.contains(*end));
    if let Some(end) = missing {
        return Some(format!("the frame that ends at {end} is missing before {last}"));
    }
    let promised = match (damaged, closed) {
        (false, _) => oracle.acknowledged,
        (true, true) => oracle.acknowledged.saturating_sub(ROT_BYTES),
        (true, false) => 0,
    };
    let mut lost = oracle.issued.range(last + 1..).map(|(end, _)| *end);
    if let Some(lost) = lost.find(|end| *end > oracle.dropped && *end <= promised) {
        return Some(format!("the frame that ends at {lost} was acknowledged and is lost; the log ends at {last}"));
    }
    None
}

/// Takes what a recovery yielded for granted.
fn adopt(oracle: &mut Oracle, found: &[(u64, u64, u64)]) {
    let last = found.last().map_or(0, |frame| frame.1);
    oracle.issued.split_off(&(last + 1));
    oracle.issued.extend(found.iter().map(|(_, end, number)| (*end, *number)));
    oracle.in_flight.clear();
    oracle.acknowledged = last;
}

/// One start of the process.
fn process(env: &SimEnv, oracle: &Rc<RefCell<Oracle>>, plan: Plan, last: bool) {
    let closed = std::mem::take(&mut oracle.borrow_mut().closed);
    let mut found = Vec::new();
    let mut wrong = None;
    let opened = Log::open(env.clone(), Path::new(DIR), plan.options(), &mut |frame| {
        let number = number_of(frame.payload).filter(|number| payload(*number, plan.payload_max) == frame.payload);
        match number {
            Some(number) => found.push((frame.lsn.0, frame.end.0, number)),
            None => wrong = wrong.or(Some(frame.lsn.0)),
        }
        Ok(())
    });
    if let Some(lsn) = wrong {
        env.violation("value", format!("the payload of the frame at {lsn} is not what was appended"));
    }
    let log = match opened {
        Ok((log, report)) => {
            assert!(report.unknown.is_empty() && report.frames == found.len() as u64);
            log
        }
        Err(error) => return refused(env, oracle, &error, last),
    };
    let verdict = |damaged| judge(&oracle.borrow(), &found, damaged, closed);
    if let Some(violation) = verdict(true) {
        env.violation("durability", violation);
    }
    let unless_damaged = verdict(false);
    if unless_damaged.is_some() {
        oracle.borrow_mut().unless_damaged = unless_damaged;
        return;
    }
    adopt(&mut oracle.borrow_mut(), &found);
    let threads: Vec<_> = (0..plan.threads)
        .map(|thread| {
            let (env, log, oracle) = (env.clone(), log.clone(), Rc::clone(oracle));
            env.clone().spawn_local(format!("appender {thread}"), move || {
                // A failure poisons the log; the others find out by themselves.
                let _ = appender(&env, &log, &oracle, plan);
            })
        })
        .collect();
    for thread in threads {
        thread.join();
    }
    if env.below(2) == 0 && log.close().is_ok() {
        let end = log.end().0;
        let mut oracle = oracle.borrow_mut();
        oracle.acknowledged = oracle.acknowledged.max(end);
        oracle.closed = true;
    }
}

fn refused(env: &SimEnv, oracle: &Rc<RefCell<Oracle>>, error: &Error, last: bool) {
    match error.kind() {
        ErrorKind::Corruption { .. } => {
            let mut oracle = oracle.borrow_mut();
            oracle.refused = true;
            oracle.unless_damaged = Some(format!("nothing is damaged: {error}"));
        }
        _ if last => env.violation("refused", format!("the disk is well: {error}")),
        _ => {}
    }
}

fn appender(env: &SimEnv, log: &Log<SimEnv>, oracle: &Rc<RefCell<Oracle>>, plan: Plan) -> Result<(), Error> {
    for _ in 0..plan.steps {
        let number = {
            let mut oracle = oracle.borrow_mut();
            oracle.next += 1;
            let number = oracle.next;
            oracle.in_flight.insert(number);
            number
        };
        let bytes = payload(number, plan.payload_max);
        let (head, tail) = bytes.split_at(8);
        let append = Append { kind: FrameKind::Data, count: 1, first_id: Some(number), tag: 0, parts: &[head, tail] };
        let end = log.append(&append)?.end;
        {
            let mut oracle = oracle.borrow_mut();
            oracle.in_flight.remove(&number);
            oracle.issued.insert(end.0, number);
        }
        match env.below(8) {
            0..=3 => {
                log.sync_to(end)?;
                let mut oracle = oracle.borrow_mut();
                oracle.acknowledged = oracle.acknowledged.max(end.0);
                // Acknowledgements follow positions: whatever the log calls durable counts.
                oracle.acknowledged = oracle.acknowledged.max(log.durable().0);
            }
            4 => log.write_out()?,
            5 => log.mark()?,
            6 => {
                let durable = log.durable().0;
                let before = durable - env.below(durable + 1) / 2;
                let mut lock = oracle.borrow_mut();
                lock.dropped = lock.dropped.max(before);
                drop(lock);
                log.truncate_before(Lsn(before))?;
            }
            _ => env.yield_point(),
        }
    }
    Ok(())
}

fn drive(harness: &mut Harness, plan: Plan) {
    // A directory whose own name was lost to a failed sync cannot be told from one that was never there.
    harness.env().disk().create_dir_all(Path::new(DIR)).expect("the body's disk meets no fault");
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    for start in 0..=STARTS {
        let last = start == STARTS;
        if last {
            harness.set_crashes(false);
            harness.set_faults(false);
        }
        let mine = Rc::clone(&oracle);
        let exit = harness.run_process(move |env| process(&env, &mine, plan, last));
        let unless_damaged = oracle.borrow_mut().unless_damaged.take();
        if let Some(violation) = unless_damaged {
            if harness.damage().is_empty() {
                harness.violation("durability", violation);
            }
            return;
        }
        if matches!(exit, Exit::Violated) || oracle.borrow().refused {
            return;
        }
        if !matches!(exit, Exit::Crashed { .. }) && !last && roll(plan.seed, "power", start).is_multiple_of(2) {
            harness.power_loss(harness.loss(start));
        }
    }
}

/// Runs one seed with `bugs` planted.
fn run_seed(seed: u64, bugs: &[&str]) -> Outcome {
    let mut config = WorldConfig::swarm(seed);
    // Two kinds of damage that no log can tell from a write that never was, at its very end.
    config.faults.misdirected = Rate(0);
    config.faults.lost_write = Rate(0);
    // The last start must find a disk that can be read.
    config.faults.read_error_sticky_percent = 0;
    config.planted = bugs.iter().map(|bug| (*bug).to_owned()).collect();
    config.steps_max = 2_000_000;
    let plan = Plan::new(seed);
    run(&config, |harness| drive(harness, plan))
}

/// How many seeds: `AIDB_SEEDS`, or what takes two seconds.
fn seeds() -> u64 {
    std::env::var("AIDB_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(600)
}

#[test]
fn acknowledged_frames_survive_anything_that_is_promised() {
    let mut marks = BTreeSet::new();
    for seed in 0..seeds() {
        let outcome = run_seed(seed, &[]);
        assert_eq!(outcome.violation, None, "seed {seed}");
        marks.extend(outcome.marks);
    }
    // What takes a disk of a certain fullness, or frames of 256 KiB, is reached by the unit tests.
    let elsewhere = ["aof.direct", "aof.no_reserve"];
    for mark in MARKS.iter().filter(|mark| !elsewhere.contains(mark)) {
        assert!(marks.contains(*mark), "{mark} was never reached");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, what) in PLANTED_BUGS {
        match (0..1500).find(|seed| run_seed(*seed, &[bug]).violation.is_some()) {
            Some(seed) => println!("{bug}: seed {seed}"),
            None => missed.push(format!("{bug}: {what}")),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[test]
fn a_seed_is_the_same_run_twice() {
    for seed in 0..20 {
        let (first, second) = (run_seed(seed, &[]), run_seed(seed, &[]));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
    }
}
