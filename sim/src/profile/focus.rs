//! Where a seed looks: most mix everything, some go deep into one thing.
//!
//! Every profile has these ways; one that has more adds them under the numbers that are free.

use super::steps::Work;
use crate::{FaultConfig, Rate, Schedule, WorldConfig, roll};
use std::collections::BTreeSet;

/// After so many steps a run counts as a livelock; the longest legal ones take a tenth of it.
const STEPS_MAX: u64 = 3_000_000;

/// Builds the world of `seed`: a swarm of faults, with these planted bugs.
pub(super) fn world(seed: u64, planted: &BTreeSet<String>) -> WorldConfig {
    WorldConfig { planted: planted.clone(), steps_max: STEPS_MAX, ..WorldConfig::swarm(seed) }
}

/// Focuses the world and the workload of `seed` on one thing in four seeds of ten.
///
/// Returns the number drawn, below ten: 0 to 3 are done here, the others are free.
pub(super) fn focus<W: Work>(seed: u64, world: &mut WorldConfig, workload: &mut W) -> u64 {
    let drawn = roll(seed, "focus", 0) % 10;
    match drawn {
        0 => {
            // Damage at rest, again and again, in what is closed in order.
            world.faults = FaultConfig { latency_ns_max: world.faults.latency_ns_max, ..FaultConfig::default() };
            let rate = one_of(seed, [1, 3, 6]);
            match roll(seed, "focus", 2) % 3 {
                0 => world.faults.bit_rot = rate,
                1 => world.faults.misdirected = rate,
                _ => world.faults.lost_write = rate,
            }
            workload.reopen_often(seed);
        }
        1 => {
            // One power loss after the other: most strike a recovery.
            world.faults.crash = one_of(seed, [10, 25]);
            (world.faults.crashes_max, world.faults.crash_power_percent) = (16, 90);
        }
        2 => {
            // Threads, and nothing else.
            world.faults = FaultConfig { spurious_wakeup: world.faults.spurious_wakeup, ..FaultConfig::default() };
            world.schedule = Schedule::Random { one_in: [1, 4, 20][roll(seed, "focus", 1) as usize % 3] };
        }
        3 => {
            // A disk that fails in one way often, and then loses power.
            let rate = one_of(seed, [8, 20, 50]);
            match roll(seed, "focus", 2) % 3 {
                0 => world.faults.sync_fail = rate,
                1 => world.faults.write_fail = rate,
                _ => (world.faults.no_space, world.faults.no_space_ios_max) = (rate, 20),
            }
            world.faults.crash = Rate::one_in(40);
            (world.faults.crashes_max, world.faults.crash_power_percent) = (8, 70);
        }
        _ => {}
    }
    drawn
}

/// Returns the rate that a focused seed draws.
pub(super) fn one_of<const N: usize>(seed: u64, rates: [u32; N]) -> Rate {
    Rate::one_in(rates[roll(seed, "focus", 1) as usize % N])
}
