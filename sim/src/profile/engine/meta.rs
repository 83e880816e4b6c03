//! Metamorphic test: one operation log gives the same answers under every set of options.
//!
//! No model says what is right: the engine is its own. A log of one client (writes, batches, reads both ways, cursors, snapshots,
//! flushes, compactions, reopenings in order) is run with plain options, where next to nothing happens behind it, and again with
//! random ones: tiny blocks and memtables, few levels, compression, filters, limits of level 0. Every answer is compared: values,
//! what iterators gave, sequence numbers, the content at each opening. Half of the logs are written to a second keyspace too.
//!
//! **Invariant.** Options change speed and space, never an answer; without faults nothing fails.
//!
//! **Tripped by** `l0_newest_order_wrong`, `compaction_drops_tombstone_early`, `compaction_ignores_snapshots`,
//! `merge_operand_lost`, `merge_operand_twice`, `merge_across_snapshot`.
//!
//! A difference is reduced: first the log, by taking parts away, then its steps, then each option towards the plain one. What is
//! left differs still, and every step and option in it matters.
//!
//! Source: Chen, Cheung, Yiu: Metamorphic Testing (1998); Pebble's `metamorphic` package (options, operation logs).

use super::case::{EngineOptions, Op, Step, Workload};
use super::generate::{self, Size};
use super::shared::{Shared, State};
use crate::check::history::Ending;
use crate::chooser::Salted;
use crate::profile::drive;
use crate::profile::steps::Work;
use crate::shrink::parts;
use crate::{Violation, WorldConfig};
use std::collections::BTreeSet;
use std::fmt;

/// How much a memtable holds with plain options: everything.
const PLAIN_BYTES: usize = 1 << 20;
/// How much that of a second keyspace holds at least with other options.
const TWIN_BYTES_MIN: usize = 4 << 10;

/// What is compared: the answers of a run, in order, and what a checker found.
type Answers = (Vec<String>, Option<Violation>);

/// A log that is answered differently under two sets of options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The seed that both came from; also of the world.
    pub seed: u64,
    /// The planted bugs.
    pub planted: BTreeSet<String>,
    /// The log, with the plain options.
    pub log: Workload,
    /// The other options.
    pub options: EngineOptions,
    /// The first answer that differs, with the plain options and with the others; empty where there is none.
    pub answers: (String, String),
}

/// Returns the options under which the least happens: everything fits, nothing is compressed or filtered.
///
/// A second keyspace changes sequence numbers; with `twin` there is one, else there is none.
fn plain(twin: bool) -> EngineOptions {
    EngineOptions {
        memtable_bytes: PLAIN_BYTES,
        immutable_memtables_max: 2,
        block_bytes: 4 << 10,
        block_cache_bytes: 1 << 20,
        compression: 0,
        filter_bits_per_key: 0,
        l0_compaction_files: 64,
        l0_stall_files: 1024,
        level_bytes_base: 256 << 20,
        level_size_multiplier: 10,
        levels_max: 7,
        table_bytes: 64 << 20,
        wal_segment_bytes: 1 << 20,
        manifest_bytes_max: 4 << 20,
        background_threads: 1,
        wal_bytes_max: 1 << 30,
        twin_memtable_bytes: if twin { PLAIN_BYTES } else { 0 },
        memtable: 0,
        filter: false,
    }
}

/// Runs the log of `seed` with plain options and with `sets` random sets; returns the first difference.
pub fn check(seed: u64, sets: u64, planted: &BTreeSet<String>) -> Option<Difference> {
    let log = log(seed);
    let plain = answers(seed, planted, &log);
    let mut random = Salted::new(seed ^ 0x6d65_7461);
    (0..sets).find_map(|set| {
        let drawn = generate::options(&mut random, seed ^ set);
        let twin_memtable_bytes = match log.options.twin_memtable_bytes {
            0 => 0,
            _ => drawn.twin_memtable_bytes.max(TWIN_BYTES_MIN),
        };
        let options = EngineOptions { twin_memtable_bytes, ..drawn };
        let other = answers(seed, planted, &log.with(|of| of.options = options.clone()));
        let answers = first_difference(&plain, &other)?;
        Some(Difference { seed, planted: planted.clone(), log: log.clone(), options, answers })
    })
}

/// Builds the log of `seed`: that of the profile, of one client that loses nothing.
fn log(seed: u64) -> Workload {
    let mut log = generate::workload(seed, Size { steps_max: 120 });
    log.options = plain(seed % 2 == 1);
    for step in &mut log.steps {
        match step {
            Step::Client { client, .. } => *client = 0,
            Step::Reopen(end) => (end.close, end.power_loss) = (true, false),
        }
    }
    log
}

fn answers(seed: u64, planted: &BTreeSet<String>, workload: &Workload) -> Answers {
    let world = WorldConfig { planted: planted.clone(), ..WorldConfig::calm(seed) };
    let shared = Shared::new(workload);
    shared.with(|state| state.own.answers = Some(Vec::new()));
    let run = drive::run_with(&world, &shared);
    (shared.with(|state| state.own.answers.take()).unwrap_or_default(), run.outcome.violation)
}

/// Writes down what the clients were told since the last opening, and `behind` it, if somebody compares that.
pub(super) fn note(state: &mut State, behind: impl FnOnce() -> String) {
    if state.own.answers.is_none() {
        return;
    }
    let behind = behind();
    let (history, Some(answers)) = (&state.history, &mut state.own.answers) else { return };
    for commit in &history.commits {
        let told = match commit.ending {
            Ending::Acknowledged { first, last, .. } => format!("got sequence numbers {first} to {last}"),
            Ending::Refused | Ending::Unknown => "failed".into(),
        };
        answers.push(format!("step {} {told}", commit.step));
    }
    for view in &history.views {
        let at = view.seq.map_or(String::new(), |seq| format!(" at sequence number {seq}"));
        answers.push(format!("step {} read{at}: {}", view.step, sights(view)));
    }
    answers.push(behind);
}

fn sights(view: &crate::check::history::View) -> String {
    let sight = |sight: &crate::check::history::Sight| {
        let found = sight
            .found
            .iter()
            .map(|(key, stamp)| format!(" {key} = {} of step {} on {:x}", stamp.bytes, stamp.step, stamp.under));
        format!("keys {}..{}:{}", sight.start, sight.end, found.collect::<Vec<_>>().join(","))
    };
    view.sights.iter().map(sight).collect::<Vec<_>>().join("; ")
}

fn first_difference(plain: &Answers, other: &Answers) -> Option<(String, String)> {
    let count = plain.0.len().max(other.0.len());
    let answer = |of: &Answers, at: usize| of.0.get(at).cloned().unwrap_or_default();
    let differing = (0..count).find(|at| plain.0.get(*at) != other.0.get(*at));
    let violation = |of: &Answers| of.1.as_ref().map(ToString::to_string).unwrap_or_default();
    match differing {
        Some(at) => Some((answer(plain, at), answer(other, at))),
        None if plain.1.is_some() || other.1.is_some() => Some((violation(plain), violation(other))),
        None => None,
    }
}

impl Difference {
    /// Runs both again; returns this difference with the answers that differ now, if any do.
    fn again(&self) -> Option<Difference> {
        let plain = answers(self.seed, &self.planted, &self.log);
        let other = answers(self.seed, &self.planted, &self.log.with(|of| of.options = self.options.clone()));
        first_difference(&plain, &other).map(|answers| Difference { answers, ..self.clone() })
    }

    /// Makes it smaller, as far as `runs_max` tries reach; returns the smallest found.
    pub fn reduced(&self, runs_max: u64) -> Difference {
        let mut reducer = Reducer { best: self.clone(), tries: runs_max };
        loop {
            let before = reducer.best.clone();
            parts(before.log.steps.len(), |range| reducer.change(|of| drop(of.log.steps.drain(range))));
            let mut at = 0;
            while at < reducer.best.log.steps.len() {
                reducer.each(|of| of.smaller(at));
                at += 1;
            }
            reducer.each(|of| vec![of.with(|of| of.key_shape = super::value::KeyShape::Short)]);
            reducer.options();
            if reducer.best == before || reducer.tries == 0 {
                return reducer.best;
            }
        }
    }

    /// Returns the names of the options that are not the plain ones.
    pub fn changed(&self) -> Vec<String> {
        let (plain, other) = (fields(&self.log.options), fields(&self.options));
        other.into_iter().filter(|(name, value)| plain.get(name) != Some(value)).map(|(name, _)| name).collect()
    }
}

struct Reducer {
    best: Difference,
    tries: u64,
}

impl Reducer {
    /// Keeps a change after which the answers differ still.
    fn change(&mut self, change: impl FnOnce(&mut Difference)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if self.tries == 0 || candidate == self.best {
            return false;
        }
        self.tries -= 1;
        let kept = candidate.again();
        let is_kept = kept.is_some();
        self.best = kept.unwrap_or_else(|| self.best.clone());
        is_kept
    }

    /// Tries each of what `of` makes of the log; one that is kept makes place for the next.
    fn each(&mut self, of: impl Fn(&Workload) -> Vec<Workload>) {
        let mut at = 0;
        while let Some(log) = of(&self.best.log).into_iter().nth(at) {
            if !self.change(|of| of.log = log) {
                at += 1;
            }
        }
    }

    /// Sets each option to the plain one.
    fn options(&mut self) {
        for (name, value) in fields(&self.best.log.options) {
            let mut changed = fields(&self.best.options);
            changed.insert(name, value);
            if let Ok(options) = serde_json::from_value(changed.into()) {
                self.change(|of| of.options = options);
            }
        }
    }
}

/// Returns the options by name.
fn fields(options: &EngineOptions) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(options) {
        Ok(serde_json::Value::Object(fields)) => fields,
        other => panic!("options are an object: {other:?}"),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} {:?} keys:", self.seed, self.log.keys, self.log.key_shape)?;
        for step in &self.log.steps {
            match step {
                Step::Client { id, op: Op::Sleep { us }, .. } => writeln!(f, "  step {id}: sleeps {us} us")?,
                Step::Client { id, op, .. } => writeln!(f, "  step {id}: {op:?}")?,
                Step::Reopen(_) => writeln!(f, "  reopens")?,
            }
        }
        let options = fields(&self.options);
        for name in self.changed() {
            let value = options.get(&name).map(ToString::to_string).unwrap_or_default();
            writeln!(f, "  option {name} = {value}")?;
        }
        let shown = |answer: &str| if answer.is_empty() { "nothing".to_owned() } else { answer.to_owned() };
        writeln!(f, "  plain options answer:  {}", shown(&self.answers.0))?;
        write!(f, "  these options answer:  {}", shown(&self.answers.1))
    }
}
