//! Profiles: what runs in the simulated world, and who judges it. `engine` is the only one so far.
//!
//! A profile turns a seed into a [`Case`] (plain data that decides everything) and a case into a [`Run`]. All else, such as
//! swarms, shrinking, enumeration and replay, works on cases alone.

pub mod engine;

use crate::Outcome;
use crate::case::Case;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What to simulate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// The LSM engine on its log: crashes, disk faults, concurrent clients.
    #[default]
    Engine,
}

impl Profile {
    /// Every profile.
    pub const ALL: &'static [Profile] = &[Profile::Engine];

    /// Returns the name used on the command line and in cases.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Engine => "engine",
        }
    }

    /// Builds the case of `seed`, with these planted bugs switched on.
    pub fn case(self, seed: u64, planted: &BTreeSet<String>) -> Case {
        match self {
            Profile::Engine => engine::case(seed, planted),
        }
    }

    /// Runs a case.
    pub fn run(self, case: &Case) -> Run {
        match self {
            Profile::Engine => engine::run(case),
        }
    }

    /// Returns the bugs that can be planted: name, and what goes wrong.
    pub fn planted_bugs(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Profile::Engine => [aidb::aof::PLANTED_BUGS, aidb::lsm::PLANTED_BUGS].concat(),
        }
    }

    /// Returns the declared coverage marks.
    pub fn marks(self) -> Vec<&'static str> {
        match self {
            Profile::Engine => [aidb::aof::MARKS, aidb::lsm::MARKS].concat(),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Profile, String> {
        Profile::ALL.iter().copied().find(|profile| profile.name() == name).ok_or_else(|| {
            let names: Vec<_> = Profile::ALL.iter().map(|profile| profile.name()).collect();
            format!("there is no profile '{name}'; available: {}", names.join(", "))
        })
    }
}

/// What came out of a case.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What the world says; its violation is the run's, whoever found it.
    pub outcome: Outcome,
    /// What the clients did.
    pub counts: engine::Counts,
    /// Whether the database could not be opened in the end, legally.
    pub unavailable: bool,
}
