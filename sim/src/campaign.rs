//! Many runs: swarms over seeds, crashes at every disk operation, determinism, planted bugs.
//!
//! Runs share nothing, so they spread over OS threads, one world each. What a campaign returns depends on the seeds alone, not on
//! the number of threads, except for what a time limit cuts off.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "drives worlds from the outside")]

use crate::case::Case;
use crate::profile::Profile;
use crate::shrink::finished;
use crate::{At, Fault, FaultEvent, FaultPlan, Loss, LossMode, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a campaign is run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// How many worlds at once.
    pub jobs: usize,
    /// When to stop at the latest.
    pub time_max: Option<Duration>,
    /// The planted bugs that are switched on.
    pub planted: BTreeSet<String>,
    /// After so many failures it ends.
    pub failures_max: usize,
}

impl Default for Campaign {
    fn default() -> Campaign {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        Campaign { jobs, time_max: None, planted: BTreeSet::new(), failures_max: 1 }
    }
}

/// What a campaign did.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Runs in which the process crashed or lost power at least once.
    pub crash_runs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Starts of the process.
    pub incarnations: u64,
    /// Recoveries that the oracle judged.
    pub recoveries: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Runs that ended early because of damage that was detected.
    pub unavailable: u64,
    /// Simulated time, in nanoseconds.
    pub sim_ns: u64,
    /// Events.
    pub events: u64,
    /// How many runs reached each mark.
    pub marks: BTreeMap<String, u64>,
    /// How many runs met each kind of fault.
    pub faults: BTreeMap<String, u64>,
    /// The cases that failed, lowest seed first.
    pub failures: Vec<Case>,
    /// Real time.
    pub took: Duration,
}

impl Totals {
    fn add(&mut self, profile: Profile, case: &Case) -> bool {
        let run = profile.run(case);
        let Outcome { crashes, incarnations, sim_ns, events, marks, fired, violation, .. } = &run.outcome;
        self.runs += 1;
        self.crash_runs += u64::from(*crashes > 0);
        self.crashes += crashes;
        self.incarnations += incarnations;
        self.recoveries += run.counts.recoveries;
        self.operations += run.counts.operations;
        self.unavailable += u64::from(run.unavailable);
        self.sim_ns += sim_ns;
        self.events += events;
        for mark in marks {
            count(&mut self.marks, mark, 1);
        }
        let kinds: BTreeSet<&'static str> = fired.iter().map(fault_kind).collect();
        for kind in kinds {
            count(&mut self.faults, kind, 1);
        }
        if violation.is_some() {
            self.failures.push(finished(case, &run));
        }
        violation.is_some()
    }

    fn merge(&mut self, other: Totals) {
        self.runs += other.runs;
        self.crash_runs += other.crash_runs;
        self.crashes += other.crashes;
        self.incarnations += other.incarnations;
        self.recoveries += other.recoveries;
        self.operations += other.operations;
        self.unavailable += other.unavailable;
        self.sim_ns += other.sim_ns;
        self.events += other.events;
        for (mark, hits) in other.marks {
            count(&mut self.marks, &mark, hits);
        }
        for (kind, hits) in other.faults {
            count(&mut self.faults, &kind, hits);
        }
        self.failures.extend(other.failures);
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str, hits: u64) {
    match counts.get_mut(name) {
        Some(known) => *known += hits,
        None => drop(counts.insert(name.to_owned(), hits)),
    }
}

/// Returns the name of what a fault event does.
pub fn fault_kind(event: &FaultEvent) -> &'static str {
    match event.fault {
        Fault::Crash { power: false, .. } => "process crash",
        Fault::Crash { loss, .. } => match loss.mode {
            LossMode::All => "power loss, all",
            LossMode::Nothing => "power loss, nothing",
            LossMode::Prefix => "power loss, prefix",
            LossMode::Sectors => "power loss, sectors",
            LossMode::Garbage => "power loss, garbage",
        },
        Fault::SyncFail { .. } => "sync fails",
        Fault::WriteFail { .. } => "write fails",
        Fault::NoSpace { .. } => "no space",
        Fault::ReadError { sticky: true } => "read error, sticky",
        Fault::ReadError { .. } => "read error",
        Fault::ReadShort { .. } => "short read",
        Fault::Stall { .. } => "stall",
        Fault::BitRot { .. } => "bit rot",
        Fault::Misdirected { .. } => "misdirected write",
        Fault::LostWrite { .. } => "lost write",
        Fault::WallStep { .. } => "wall clock steps",
        Fault::RemoteFail => "archive fails",
        Fault::RemoteLost => "archive's answer lost",
        Fault::RemoteLate { .. } => "archive lands late",
        Fault::RemoteConflict { foreign: true, .. } => "archive conflict, another's object",
        Fault::RemoteConflict { .. } => "archive conflict, spurious",
        Fault::RemoteDamaged { .. } => "archive stores damaged",
        Fault::RemoteGone => "archive loses object",
        Fault::RemoteRot { .. } => "archive damages object",
        Fault::RemoteStall { .. } => "archive stalls",
    }
}

/// How far a campaign is, for a progress line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Runs done.
    pub done: u64,
    /// Runs in all.
    pub of: u64,
    /// Failures so far.
    pub failures: u64,
    /// Real time so far.
    pub elapsed: Duration,
}

/// Runs the cases that `make` builds for 0..`of`; calls `progress` a few times a second.
fn run_all(
    campaign: &Campaign,
    of: u64,
    profile: Profile,
    make: &(dyn Fn(u64) -> Case + Sync),
    progress: &mut dyn FnMut(Progress),
) -> Totals {
    let start = Instant::now();
    let (next, done, failures) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let work = || {
        let mut totals = Totals::default();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= of {
                break;
            }
            if totals.add(profile, &make(number)) {
                let failed = failures.fetch_add(1, Ordering::Relaxed) + 1;
                stop.fetch_or(failed >= campaign.failures_max as u64, Ordering::Relaxed);
            }
            done.fetch_add(1, Ordering::Relaxed);
            stop.fetch_or(campaign.time_max.is_some_and(|max| start.elapsed() > max), Ordering::Relaxed);
        }
        totals
    };
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..campaign.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut told = Instant::now();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(if start.elapsed().as_millis() < 500 { 2 } else { 50 }));
            if told.elapsed() > Duration::from_millis(500) {
                told = Instant::now();
                let (done, failures) = (done.load(Ordering::Relaxed), failures.load(Ordering::Relaxed));
                progress(Progress { done, of, failures, elapsed: start.elapsed() });
            }
        }
        for worker in workers {
            match worker.join() {
                Ok(part) => totals.merge(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    totals.failures.sort_by_key(|case| case.world.seed);
    totals.took = start.elapsed();
    totals
}

/// Runs each seed once.
pub fn swarm(campaign: &Campaign, profile: Profile, seeds: Range<u64>, progress: &mut dyn FnMut(Progress)) -> Totals {
    let make = |number| profile.case(seeds.start + number, &campaign.planted);
    run_all(campaign, seeds.end.saturating_sub(seeds.start), profile, &make, progress)
}

/// Runs each seed once and panics with the replay line of the first that fails: for tests.
///
/// # Panics
/// If a run meets a violation.
pub fn check(profile: Profile, seeds: Range<u64>) -> Totals {
    let totals = swarm(&Campaign::default(), profile, seeds, &mut |_| {});
    if let Some(case) = totals.failures.first() {
        let violation = case.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        panic!("seed {}: {violation}\nreplay: {}", case.world.seed, replay_line(case));
    }
    totals
}

/// Returns the command that runs a case's seed again.
pub fn replay_line(case: &Case) -> String {
    let mut line =
        format!("cargo run --release -p aidb-sim -- run --seed {} --profile {}", case.world.seed, case.profile);
    for planted in &case.world.planted {
        line.push_str(" --planted ");
        line.push_str(planted);
    }
    line
}

/// How crashes at every disk operation went.
#[derive(Clone, Debug, Default)]
pub struct Enumeration {
    /// Mutating disk operations of the run without a crash.
    pub ios: u64,
    /// Runs with one crash.
    pub single: u64,
    /// Runs with a second crash during the recovery from the first.
    pub double: u64,
    /// Runs in which one operation fails instead: sync, write, no space.
    pub failing: u64,
    /// The sums over all runs.
    pub totals: Totals,
}

/// The crashes that are tried before and after each disk operation.
const CRASHES: [Option<LossMode>; 6] = [
    None,
    Some(LossMode::All),
    Some(LossMode::Prefix),
    Some(LossMode::Sectors),
    Some(LossMode::Garbage),
    Some(LossMode::Nothing),
];
/// How many disk operations behind a crash the second one may strike.
const RECOVERY_IOS: u64 = 48;

/// Crashes `seed`'s workload before and after each mutating disk operation, in every way; then, for `double` of these places,
/// once more at each operation of the recovery; then lets each operation fail.
pub fn enumerate(
    campaign: &Campaign,
    profile: Profile,
    seed: u64,
    double: u64,
    progress: &mut dyn FnMut(Progress),
) -> Enumeration {
    let mut calm = profile.case(seed, &campaign.planted);
    calm.world.plan = FaultPlan::Explicit(Vec::new());
    calm.world.faults = crate::FaultConfig::default();
    let base = profile.run(&calm);
    let ios = base.outcome.mutating_ios;
    if base.outcome.violation.is_some() {
        let totals = Totals { runs: 1, failures: vec![finished(&calm, &base)], ..Totals::default() };
        return Enumeration { ios, totals, ..Enumeration::default() };
    }
    let ways = CRASHES.len() as u64 * 2;
    let crash = |io: u64, way: u64, salt: u64| {
        let after = way % 2 == 1;
        match CRASHES[(way / 2) as usize] {
            None => FaultEvent::process_crash(io, after),
            Some(mode) => FaultEvent::power_loss(io, after, Loss { mode, salt: crate::roll(seed, "enum", salt) }),
        }
    };
    let with = |events: Vec<FaultEvent>| {
        let mut case = calm.clone();
        case.world.plan = FaultPlan::Explicit(events);
        case
    };
    let single = ios * ways;
    let places = double.min(ios);
    let doubles = places * RECOVERY_IOS * 2;
    let failing = ios * 3;
    let make = |number: u64| {
        if number < single {
            return with(vec![crash(number / ways, number % ways, number)]);
        }
        if number >= single + doubles {
            let (io, salt) = ((number - single - doubles) / 3, crate::roll(seed, "enum fail", number));
            let fault = match number % 3 {
                0 => Fault::SyncFail { no_space: salt % 4 == 0, salt },
                1 => Fault::WriteFail { salt },
                _ => Fault::NoSpace { ios: 1 + salt % 8, salt },
            };
            return with(vec![FaultEvent { at: At::Io(io), fault }]);
        }
        let number = number - single;
        let (place, behind) = (number / (RECOVERY_IOS * 2), number % (RECOVERY_IOS * 2) / 2);
        let first = place * ios / places.max(1);
        let ways =
            (crate::roll(seed, "enum first", number) % ways, crate::roll(seed, "enum second", number / 2) % ways);
        let second = (ways.1 & !1) | (number % 2);
        with(vec![crash(first, ways.0, number), crash(first + 1 + behind, second, number ^ 1 << 40)])
    };
    let totals = run_all(campaign, single + doubles + failing, profile, &make, progress);
    Enumeration { ios, single, double: doubles, failing, totals }
}

/// What has to be equal for two runs to be the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The rolling hash over all events.
    pub hash: u64,
    /// How many events.
    pub events: u64,
    /// The hash of the final state.
    pub state: u64,
}

/// Runs `seed` and returns its fingerprint.
pub fn fingerprint(profile: Profile, seed: u64) -> Fingerprint {
    let outcome = profile.run(&profile.case(seed, &BTreeSet::new())).outcome;
    Fingerprint { hash: outcome.hash, events: outcome.events, state: outcome.state_hash }
}

/// A planted bug and how it was found.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The name of the bug.
    pub name: &'static str,
    /// What goes wrong with it.
    pub what: &'static str,
    /// How many seeds were run.
    pub seeds: u64,
    /// The first case that failed; `None` if none did.
    pub found: Option<Case>,
}

/// Looks for each planted bug in seeds 0..`seeds_max`, until one run fails. `told` gets each result as it comes.
pub fn mutants(
    campaign: &Campaign,
    profile: Profile,
    names: &[String],
    seeds_max: u64,
    told: &(dyn Fn(&Mutant) + Sync),
) -> Vec<Mutant> {
    let bugs: Vec<_> = profile
        .planted_bugs()
        .into_iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect();
    let results: Mutex<Vec<Mutant>> = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    let work = || {
        while let Some((name, what)) = bugs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let mutant = hunt(profile, name, what, seeds_max);
            told(&mutant);
            results.lock().expect("no thread panics with the lock").push(mutant);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..campaign.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|mutant| bugs.iter().position(|(name, _)| *name == mutant.name));
    results
}

fn hunt(profile: Profile, name: &'static str, what: &'static str, seeds_max: u64) -> Mutant {
    let planted = BTreeSet::from([name.to_owned()]);
    for seed in 0..seeds_max {
        let case = profile.case(seed, &planted);
        let run = profile.run(&case);
        if run.outcome.violation.is_some() {
            return Mutant { name, what, seeds: seed + 1, found: Some(finished(&case, &run)) };
        }
    }
    Mutant { name, what, seeds: seeds_max, found: None }
}
