//! The one place that decisions come from.
//!
//! A [`Chooser`] answers "a number below n" on separate [`Stream`]s, so that a change in one part of the world (one more
//! draw of the workload) leaves the others alone. Faults do not draw at all: they are [`roll`]s, pure functions of seed, site
//! and index.
//!
//! Used by the world of a run, on its thread; by workloads through [`crate::Harness::below`] and [`crate::SimEnv::below`].

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Which fiber runs, which waiter wakes.
    Scheduler,
    /// The disk.
    Disk,
    /// The network.
    Network,
    /// Clocks.
    Clock,
    /// Operations, keys, values: whatever the test does.
    Workload,
    /// [`aidb::env::Env::rand_u64`].
    Program,
}

const STREAMS: usize = 6;

/// One draw: `value` out of `0..n` (`n` = 0: any 64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// Who asked.
    pub stream: Stream,
    /// The answer.
    pub value: u64,
    /// How many answers there were.
    pub n: u64,
}

/// Where the answers come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChooserConfig {
    /// ChaCha8 from the seed, one stream each: the same on every machine.
    #[default]
    Seeded,
    /// The recorded draws, matched by stream; 0 when a stream runs out or an answer does not fit.
    Replay(Vec<Draw>),
    /// Bytes of a fuzzer, in order of the questions; 0 when they run out, which is the calm choice.
    Bytes(Vec<u8>),
    /// These answers in order of the questions, then 0; every draw is recorded in [`crate::Outcome::draws`].
    /// [`Explorer`] walks the tree of all runs with it.
    Exhaustive(Vec<u64>),
}

/// Answers questions; see the module.
#[derive(Debug)]
pub struct Chooser {
    source: Source,
    recorded: Option<Vec<Draw>>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one exists per world")]
enum Source {
    Seeded([ChaCha8Rng; STREAMS]),
    Replay([std::vec::IntoIter<u64>; STREAMS]),
    Bytes(std::vec::IntoIter<u8>),
    Answers(std::vec::IntoIter<u64>),
}

impl Chooser {
    /// Builds the chooser of a run.
    pub fn new(seed: u64, config: &ChooserConfig) -> Chooser {
        let source = match config {
            ChooserConfig::Seeded => Source::Seeded(std::array::from_fn(|stream| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream as u64);
                rng
            })),
            ChooserConfig::Replay(draws) => Source::Replay(std::array::from_fn(|stream| {
                let of_stream = draws.iter().filter(|draw| draw.stream as usize == stream);
                of_stream.map(|draw| draw.value).collect::<Vec<_>>().into_iter()
            })),
            ChooserConfig::Bytes(bytes) => Source::Bytes(bytes.clone().into_iter()),
            ChooserConfig::Exhaustive(answers) => Source::Answers(answers.clone().into_iter()),
        };
        let recorded = matches!(config, ChooserConfig::Exhaustive(_)).then(Vec::new);
        Chooser { source, recorded }
    }

    /// Records every draw from now on.
    pub fn record(&mut self) {
        self.recorded.get_or_insert_default();
    }

    /// Returns the recorded draws.
    pub fn take_recorded(&mut self) -> Vec<Draw> {
        self.recorded.take().unwrap_or_default()
    }

    /// Returns whether the draws come from the seed alone.
    pub fn is_seeded(&self) -> bool {
        matches!(self.source, Source::Seeded(_))
    }

    /// Returns a number below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    #[inline]
    pub fn below(&mut self, stream: Stream, n: u64) -> u64 {
        assert!(n > 0, "a choice among nothing");
        let value = match &mut self.source {
            Source::Seeded(rngs) => {
                let rng = &mut rngs[stream as usize];
                if let Ok(n) = u32::try_from(n) {
                    (u64::from(rng.next_u32()) * u64::from(n)) >> 32
                } else {
                    ((u128::from(rng.next_u64()) * u128::from(n)) >> 64) as u64
                }
            }
            _ if n == 1 => 0,
            Source::Replay(streams) => streams[stream as usize].next().filter(|value| *value < n).unwrap_or(0),
            Source::Bytes(bytes) => bytes_below(bytes, n),
            Source::Answers(answers) => answers.next().filter(|value| *value < n).unwrap_or(0),
        };
        if n > 1
            && let Some(recorded) = &mut self.recorded
        {
            recorded.push(Draw { stream, value, n });
        }
        value
    }

    /// Returns 64 random bits. Under `Exhaustive` always 0: it would be a choice among too many.
    pub fn bits(&mut self, stream: Stream) -> u64 {
        match &mut self.source {
            Source::Seeded(rngs) => {
                let value = rngs[stream as usize].next_u64();
                if let Some(recorded) = &mut self.recorded {
                    recorded.push(Draw { stream, value, n: 0 });
                }
                value
            }
            Source::Replay(streams) => streams[stream as usize].next().unwrap_or(0),
            Source::Bytes(bytes) => bytes_below(bytes, u64::MAX),
            Source::Answers(_) => 0,
        }
    }

    /// Returns true with a chance of one in `n`.
    #[inline]
    pub fn one_in(&mut self, stream: Stream, n: u64) -> bool {
        // The calm answer of an exhausted source is 0, which must be "no" for a rare event.
        n <= 1 || self.below(stream, n) == n - 1
    }
}

fn bytes_below(bytes: &mut std::vec::IntoIter<u8>, n: u64) -> u64 {
    let mut value = 0u64;
    let mut covered = 1u64;
    while covered < n {
        let Some(byte) = bytes.next() else { break };
        value = value << 8 | u64::from(byte);
        covered = covered.saturating_mul(256);
    }
    value % n
}

/// Returns the pure random function of (`seed`, `site`, `index`): what every fault is decided by.
#[inline]
pub fn roll(seed: u64, site: &str, index: u64) -> u64 {
    roll_at(seed ^ aidb::base::hash::hash64(site.as_bytes(), 0), index)
}

/// [`roll`] with the site already mixed into the seed.
#[inline]
pub(crate) fn roll_at(site_seed: u64, index: u64) -> u64 {
    // Two rounds of splitmix64's finalizer: neighbouring indices are independent.
    let mut z = finalize(site_seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    z = finalize(z ^ site_seed.rotate_left(32));
    z
}

#[inline]
fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small generator over a salt, for the details of one fault.
#[derive(Clone, Debug)]
pub(crate) struct Salted {
    salt: u64,
    index: u64,
}

impl Salted {
    pub(crate) fn new(salt: u64) -> Salted {
        Salted { salt, index: 0 }
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.index += 1;
        roll_at(self.salt, self.index)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a choice among nothing");
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Chooses a place of `weights`, each as often as it weighs; behind the last one if all are 0.
    pub(crate) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut at = self.below(weights.iter().sum::<u64>().max(1));
        for (place, weight) in weights.iter().enumerate() {
            if at < *weight {
                return place;
            }
            at -= weight;
        }
        weights.len()
    }
}

/// Depth-first search over all runs of a small program.
///
/// ```
/// let mut explorer = aidb_sim::Explorer::default();
/// let mut runs = 0;
/// while let Some(chooser) = explorer.next() {
///     let config = aidb_sim::WorldConfig { chooser, ..aidb_sim::WorldConfig::calm(0) };
///     let outcome = aidb_sim::run(&config, |harness| drop(harness.below(3)));
///     explorer.ran(&outcome.draws);
///     runs += 1;
/// }
/// assert_eq!(runs, 3);
/// ```
#[derive(Debug, Default)]
pub struct Explorer {
    draws: Vec<Draw>,
    state: Walk,
}

#[derive(Debug, Default, PartialEq)]
enum Walk {
    #[default]
    New,
    Ran,
    Running,
}

impl Explorer {
    /// Returns the chooser of the next run, or `None` when every run was made.
    #[expect(clippy::should_implement_trait, reason = "each answer needs the draws of the run before")]
    pub fn next(&mut self) -> Option<ChooserConfig> {
        assert!(self.state != Walk::Running, "the draws of the last run are missing");
        if self.state == Walk::Ran {
            while self.draws.pop_if(|draw| draw.value + 1 >= draw.n).is_some() {}
            self.draws.last_mut()?.value += 1;
        }
        self.state = Walk::Running;
        Some(ChooserConfig::Exhaustive(self.draws.iter().map(|draw| draw.value).collect()))
    }

    /// Takes the draws of the run that [`next`](Self::next) asked for.
    pub fn ran(&mut self, draws: &[Draw]) {
        self.draws = draws.to_vec();
        self.state = Walk::Ran;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_seeded() {
        let draw = |extra: bool| {
            let mut chooser = Chooser::new(7, &ChooserConfig::Seeded);
            if extra {
                chooser.below(Stream::Workload, 10);
            }
            (0..20).map(|_| chooser.below(Stream::Scheduler, 1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(false), draw(true));
        let mut other = Chooser::new(8, &ChooserConfig::Seeded);
        assert_ne!(draw(false), (0..20).map(|_| other.below(Stream::Scheduler, 1000)).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_run_out_to_the_calm_choice() {
        let mut chooser = Chooser::new(0, &ChooserConfig::Bytes(vec![3, 200]));
        assert_eq!(chooser.below(Stream::Scheduler, 4), 3);
        assert_eq!(chooser.below(Stream::Workload, 100), 0);
        assert_eq!(chooser.below(Stream::Workload, 100), 0);
        assert!(!chooser.one_in(Stream::Workload, 2));
    }

    #[test]
    fn recorded_draws_replay() {
        let mut seeded = Chooser::new(3, &ChooserConfig::Seeded);
        seeded.record();
        let first: Vec<u64> = (2..50).map(|n| seeded.below(Stream::Workload, n)).collect();
        let mut replay = Chooser::new(99, &ChooserConfig::Replay(seeded.take_recorded()));
        assert_eq!(first, (2..50).map(|n| replay.below(Stream::Workload, n)).collect::<Vec<_>>());
    }

    #[test]
    fn explorer_visits_every_leaf_once() {
        let mut explorer = Explorer::default();
        let mut seen = Vec::new();
        while let Some(config) = explorer.next() {
            let mut chooser = Chooser::new(0, &config);
            let first = chooser.below(Stream::Scheduler, 2);
            let second = if first == 0 { chooser.below(Stream::Scheduler, 3) } else { 9 };
            seen.push((first, second));
            explorer.ran(&chooser.take_recorded());
        }
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 9)]);
    }

    #[test]
    fn rolls_are_uniform_enough() {
        let hits = (0..100_000).filter(|index| crate::fault::Rate::one_in(100).hits(roll(5, "site", *index))).count();
        assert!((800..1200).contains(&hits), "{hits}");
    }
}
