//! Profiles: what runs in the simulated world, and who judges it.
//!
//! A profile turns a seed into a [`Case`] (plain data that decides everything) and a case into a [`Run`]. All else, such as
//! swarms, shrinking, enumeration and replay, works on cases alone; what they need to know of a [`Workload`] are its steps, its
//! clients, and what makes it smaller.
//!
//! | file | holds what all profiles share |
//! |---|---|
//! | `steps.rs` | steps of clients, barriers, what a workload is |
//! | `focus.rs` | where a seed looks |
//! | `shared.rs` | what outlives a process: plan, progress, complaints; `Subject`, which a profile implements |
//! | `drive.rs` | the run: starts, crashes, the last opening |
//! | `database.rs` | what all that test a database share: evidence, judgement |
//! | `walk.rs` | walks through iterators |

pub mod aof;
mod database;
mod drive;
pub mod engine;
mod focus;
mod shared;
pub mod steps;
pub mod txn;
mod walk;

use crate::Outcome;
use crate::case::Case;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use steps::Work;

/// What to simulate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// The LSM engine on its log: crashes, disk faults, concurrent clients.
    #[default]
    Engine,
    /// The log as a store of records, with its archive: crashes, faults of disk and archive, concurrent clients and readers.
    Aof,
    /// Concurrent transactions on the engine.
    Txn,
}

impl Profile {
    /// Every profile.
    pub const ALL: &'static [Profile] = &[Profile::Engine, Profile::Aof, Profile::Txn];

    /// Returns the name used on the command line and in cases.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Engine => "engine",
            Profile::Aof => "aof",
            Profile::Txn => "txn",
        }
    }

    /// Builds the case of `seed`, with these planted bugs switched on.
    pub fn case(self, seed: u64, planted: &BTreeSet<String>) -> Case {
        match self {
            Profile::Engine => engine::case(seed, planted),
            Profile::Aof => aof::case(seed, planted),
            Profile::Txn => txn::case(seed, planted),
        }
    }

    /// Runs a case.
    pub fn run(self, case: &Case) -> Run {
        match self {
            Profile::Engine => engine::run(case),
            Profile::Aof => aof::run(case),
            Profile::Txn => txn::run(case),
        }
    }

    /// Returns the bugs that can be planted: name, and what goes wrong.
    pub fn planted_bugs(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Profile::Engine => [aidb::aof::PLANTED_BUGS, aidb::lsm::PLANTED_BUGS].concat(),
            Profile::Aof => [aidb::aof::PLANTED_BUGS, aidb::aof::STORE_PLANTED_BUGS].concat(),
            Profile::Txn => aidb::lsm::TXN_PLANTED_BUGS.to_vec(),
        }
    }

    /// Returns the declared coverage marks.
    pub fn marks(self) -> Vec<&'static str> {
        match self {
            Profile::Engine => [aidb::aof::MARKS, aidb::lsm::MARKS].concat(),
            Profile::Aof => [aidb::aof::MARKS, aidb::aof::STORE_MARKS].concat(),
            Profile::Txn => aidb::lsm::TXN_MARKS.to_vec(),
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

/// What the process under test is asked to do: plain data, all of it shrinkable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Workload {
    /// Of [`Profile::Engine`].
    Engine(engine::case::Workload),
    /// Of [`Profile::Aof`].
    Aof(aof::case::Workload),
    /// Of [`Profile::Txn`].
    Txn(txn::case::Workload),
}

/// Does the same with the workload of whichever profile it is.
macro_rules! with {
    ($self:expr, $workload:ident => $body:expr) => {
        match $self {
            Workload::Engine($workload) => $body,
            Workload::Aof($workload) => $body,
            Workload::Txn($workload) => $body,
        }
    };
}

impl From<engine::case::Workload> for Workload {
    fn from(workload: engine::case::Workload) -> Workload {
        Workload::Engine(workload)
    }
}

impl From<aof::case::Workload> for Workload {
    fn from(workload: aof::case::Workload) -> Workload {
        Workload::Aof(workload)
    }
}

impl From<txn::case::Workload> for Workload {
    fn from(workload: txn::case::Workload) -> Workload {
        Workload::Txn(workload)
    }
}

impl Workload {
    /// Reads a workload of `profile` as it stands in a case.
    ///
    /// # Errors
    /// It is not one; the text says what is wrong.
    pub fn read(profile: Profile, value: serde_json::Value) -> Result<Workload, String> {
        let read = match profile {
            Profile::Engine => serde_json::from_value(value).map(Workload::Engine),
            Profile::Aof => serde_json::from_value(value).map(Workload::Aof),
            Profile::Txn => serde_json::from_value(value).map(Workload::Txn),
        };
        read.map_err(|error| format!("not a workload of profile {profile}: {error}"))
    }

    /// Returns the profile that runs it.
    pub fn profile(&self) -> Profile {
        match self {
            Workload::Engine(_) => Profile::Engine,
            Workload::Aof(_) => Profile::Aof,
            Workload::Txn(_) => Profile::Txn,
        }
    }

    /// Returns how many steps there are.
    pub fn steps(&self) -> usize {
        with!(self, workload => workload.steps.len())
    }

    /// Returns how many clients there are.
    pub fn clients(&self) -> u8 {
        with!(self, workload => workload.clients())
    }

    /// Takes steps away.
    pub fn remove(&mut self, steps: Range<usize>) {
        with!(self, workload => drop(workload.steps.drain(steps)));
    }

    /// Gives the steps of client `from` to client `to`.
    pub fn merge_client(&mut self, from: u8, to: u8) {
        with!(self, workload => workload.merge_client(from, to));
    }

    /// Returns this workload with step `at` made smaller, in each way that is known.
    pub fn smaller(&self, at: usize) -> Vec<Workload> {
        with!(self, workload => workload.smaller(at).into_iter().map(Workload::from).collect())
    }

    /// Returns this workload with one thing of the whole made plainer, in each way that is known.
    pub fn plainer(&self) -> Vec<Workload> {
        with!(self, workload => workload.plainer().into_iter().map(Workload::from).collect())
    }

    /// Returns a line for each step.
    pub fn lines(&self) -> Vec<String> {
        with!(self, workload => workload.steps.iter().map(ToString::to_string).collect())
    }

    /// Says in a few words what it works on.
    pub fn subject(&self) -> String {
        with!(self, workload => workload.subject())
    }
}

/// What a run did, for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations of clients.
    pub operations: u64,
    /// Recoveries that were checked.
    pub recoveries: u64,
}

/// What came out of a case.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What the world says; its violation is the run's, whoever found it.
    pub outcome: Outcome,
    /// What the clients did.
    pub counts: Counts,
    /// Whether the database could not be opened in the end, legally.
    pub unavailable: bool,
}
