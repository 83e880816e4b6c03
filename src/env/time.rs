//! The two clocks: monotonic for durations, wall for dates. Newtypes, because mixing them up is a bug.

use std::time::Duration;

/// A reading of the monotonic clock: nanoseconds since an arbitrary start; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Returns the time from `earlier` to `self`, or zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the reading `duration` after this one.
    pub fn after(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A reading of the wall clock: microseconds since 1970-01-01 UTC. May step in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Wall {
    /// Returns whole milliseconds since 1970-01-01 UTC.
    pub fn millis(self) -> u64 {
        self.0 / 1000
    }
}
