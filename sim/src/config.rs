//! What goes into a run ([`WorldConfig`]) and what comes out ([`Outcome`]).
//!
//! Both are plain data, and all that a `.simcase` keeps: the same configuration and the same body give the same outcome, in
//! this process or another.

use crate::fault::{FaultConfig, FaultEvent, FaultPlan, LossMode, Rate};
use crate::trace::TraceEvent;
use crate::{ChooserConfig, roll};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// How the scheduler chooses among fibers that can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// One of the others, chosen by the seed.
    BySeed,
    /// A fiber runs until it blocks; then the one that has waited longest.
    Calm,
    /// At each switch point, with a chance of one in `one_in`, any fiber that can run.
    Random {
        /// 1 chooses anew at every operation.
        one_in: u32,
    },
    /// Random priorities; the highest runs, and at `changes` points within the first `horizon` ones it drops to the bottom.
    Priority {
        /// How many changes (the depth of the bugs looked for, less one).
        changes: u32,
        /// The length of the run that the changes are spread over, in switch points.
        horizon: u64,
    },
    /// Calm, except for these. [`Outcome::switches`] of another run.
    Explicit(Vec<Switch>),
}

/// A decision of the scheduler that differs from [`Schedule::Calm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Switch {
    /// The switch point, counted over the run.
    pub at: u64,
    /// The number of the fiber that runs from there.
    pub to: u32,
}

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorldConfig {
    /// Decides whatever nothing else decides.
    pub seed: u64,
    /// Where the draws of scheduler, clock, randomness and workload come from.
    pub chooser: ChooserConfig,
    /// The schedule.
    pub schedule: Schedule,
    /// Where fault events come from.
    pub plan: FaultPlan,
    /// More fault events on top of the plan, such as one crash asked for.
    pub also: Vec<FaultEvent>,
    /// Rates and standing conditions.
    pub faults: FaultConfig,
    /// The names of the planted bugs that are switched on.
    pub planted: BTreeSet<String>,
    /// After so many steps the run counts as a livelock.
    pub steps_max: u64,
    /// Whether threads that outlive the main one, and do not end on their own, are a violation.
    pub leak_check: bool,
    /// Keep every event in [`Outcome::trace`]. Does not change the hash.
    pub record_trace: bool,
    /// Keep the scheduler's decisions in [`Outcome::switches`]. Does not change the hash.
    pub record_switches: bool,
}

impl Default for WorldConfig {
    fn default() -> WorldConfig {
        WorldConfig {
            seed: 0,
            chooser: ChooserConfig::Seeded,
            schedule: Schedule::BySeed,
            plan: FaultPlan::Seeded,
            also: Vec::new(),
            faults: FaultConfig::default(),
            planted: BTreeSet::new(),
            steps_max: 20_000_000,
            leak_check: true,
            record_trace: false,
            record_switches: false,
        }
    }
}

impl WorldConfig {
    /// A world of `seed` without faults; the schedule is still the seed's.
    pub fn calm(seed: u64) -> WorldConfig {
        WorldConfig { seed, ..WorldConfig::default() }
    }

    /// A world of `seed` with the faults that [`FaultConfig::swarm`] gives it.
    pub fn swarm(seed: u64) -> WorldConfig {
        WorldConfig { seed, faults: FaultConfig::swarm(seed), ..WorldConfig::default() }
    }
}

impl FaultConfig {
    /// A random subset of the fault kinds with random magnitudes. One seed in eight is calm.
    ///
    /// Damage at rest (`bit_rot`, `misdirected`, `lost_write`) and failing disks are among them: a workload that cannot
    /// judge one of them clears its rate afterwards.
    pub fn swarm(seed: u64) -> FaultConfig {
        let mut site = 0;
        let mut draw = |n: u64| {
            site += 1;
            roll(seed, "swarm", site) % n
        };
        let mut config = FaultConfig { crash_power_percent: 70, crashes_max: 0, ..FaultConfig::default() };
        if draw(8) == 0 {
            return config;
        }
        if draw(8) != 0 {
            config.crash = Rate::one_in([20, 50, 100, 300, 1000][draw(5) as usize]);
            config.crashes_max = 1 + draw(6);
            config.crash_power_percent = [0, 50, 70, 100][draw(4) as usize];
            let modes = [LossMode::All, LossMode::Prefix, LossMode::Sectors, LossMode::Garbage, LossMode::Nothing];
            config.loss_modes = modes.into_iter().filter(|_| draw(2) == 0).collect();
        }
        let mut some = |one_in: u64, rates: [u32; 3]| {
            if draw(one_in) == 0 { Rate::one_in(rates[draw(3) as usize]) } else { Rate(0) }
        };
        config.sync_fail = some(6, [50, 200, 1000]);
        config.write_fail = some(8, [100, 500, 2000]);
        config.no_space = some(8, [100, 500, 2000]);
        config.read_error = some(8, [50, 500, 5000]);
        config.read_short = some(4, [4, 20, 200]);
        config.bit_rot = some(12, [1, 2, 4]);
        config.misdirected = some(16, [1, 2, 4]);
        config.lost_write = some(16, [1, 2, 4]);
        config.stall = some(4, [50, 300, 2000]);
        config.wall_step = some(4, [10, 50, 200]);
        config.spurious_wakeup = some(3, [3, 10, 50]);
        config.no_space_ios_max = 1 + draw(60);
        config.read_error_sticky_percent = [0, 50, 100][draw(3) as usize];
        config.stall_ns_max = [1_000_000, 100_000_000, 30_000_000_000][draw(3) as usize];
        config.wall_step_us_max = [1_000, 10_000_000, 86_400_000_000][draw(3) as usize];
        config.latency_ns_max = [0, 0, 50_000, 5_000_000][draw(4) as usize];
        config.wall_drift_ppm = [0, 0, 200, -200, 50_000, -50_000][draw(6) as usize];
        config.buggify = draw(2) == 0;
        config
    }

    /// Takes out damage at rest, for workloads that expect every acknowledged byte back.
    #[must_use]
    pub fn without_damage_at_rest(mut self) -> FaultConfig {
        (self.bit_rot, self.misdirected, self.lost_write) = (Rate(0), Rate(0), Rate(0));
        self
    }
}

/// Something that must not happen, and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What kind: one of the constants here, or the name of a checker. Shrinking keeps a step only if the kind recurs.
    pub kind: String,
    /// What happened, in words.
    pub message: String,
}

impl Violation {
    /// A thread panicked: an assert.
    pub const PANIC: &'static str = "panic";
    /// Nothing can run and no timer is set.
    pub const DEADLOCK: &'static str = "deadlock";
    /// The run exceeded [`WorldConfig::steps_max`].
    pub const LIVELOCK: &'static str = "livelock";
    /// A thread outlived the main one.
    pub const LEAK: &'static str = "leak";
    /// The body of the run, outside every thread, panicked.
    pub const BODY: &'static str = "body";
    /// A destructor waited for something while its process was being killed.
    pub const DROP_BLOCKS: &'static str = "drop-blocks";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// Bytes that a fault at rest changed: whoever reads them must notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// One path of the file.
    pub path: String,
    /// Where the damage starts.
    pub offset: u64,
    /// How many bytes may differ.
    pub bytes: u64,
    /// What it was: `bit rot`, `misdirected`, `lost write`.
    pub what: String,
}

/// What came out of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The rolling hash over every event.
    pub hash: u64,
    /// The hash of the final state: the disk, and what the body gave to [`crate::Harness::mix_state`].
    pub state_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How many switch points there were.
    pub steps: u64,
    /// How much time passed in the world, in nanoseconds.
    pub sim_ns: u64,
    /// How many mutating disk operations there were: the range of `k` for crashes at every one.
    pub mutating_ios: u64,
    /// How many disk operations there were.
    pub disk_ops: u64,
    /// How many times the process was started.
    pub incarnations: u64,
    /// How many times it crashed.
    pub crashes: u64,
    /// What went wrong, if anything.
    pub violation: Option<Violation>,
    /// The marks that were reached.
    pub marks: BTreeSet<String>,
    /// The faults that had an effect, in order.
    pub fired: Vec<FaultEvent>,
    /// What the faults at rest damaged.
    pub damage: Vec<Damage>,
    /// The scheduler's decisions, if recorded.
    pub switches: Vec<Switch>,
    /// Every draw of the chooser, if recorded (`ChooserConfig::Exhaustive`).
    pub draws: Vec<crate::Draw>,
    /// Every event, if recorded.
    pub trace: Vec<TraceEvent>,
}
