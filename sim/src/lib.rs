//! Deterministic simulation of AiDb: one seed decides every thread switch, crash and disk fault.
//!
//! A world is one OS thread. Every thread of the program under test is a stackful fiber, every operation of its
//! [`Env`](aidb::env::Env) a point where the scheduler may switch, fail or crash it; time is simulated. The same
//! [`WorldConfig`] gives the same run, event by event: [`Outcome::hash`] proves it.
//!
//! | to | see |
//! |---|---|
//! | run a program in a world, restart it after crashes | [`run`], [`Harness`] |
//! | choose schedule and faults, keep them, replay them | [`WorldConfig`], [`Schedule`], [`FaultPlan`], [`FaultConfig`] |
//! | know what disk and archive promise | [`SimDisk`], [`SimArchive`] |
//! | explore every run of a small program | [`Explorer`] |
//! | simulate the engine from a seed, judged by every checker | [`profile`], [`check`](mod@check) |
//! | run thousands of seeds, or a crash at every disk operation | [`campaign`] |
//! | tell a case by hand, with a fault at each step | [`story`] |
//! | keep, replay and shrink a failure | [`case`](mod@case), [`shrink`](mod@shrink) |
//!
//! # Example
//! A program appends numbers to a file and syncs each; the test crashes it anywhere and checks that no acknowledged number
//! is lost. The oracle is the body's: it survives the process.
//!
//! ```
//! use aidb::env::{Disk, DiskFile, Env, OpenMode, SyncKind, read_file};
//! use aidb_sim::{Exit, FaultConfig, Rate, SimEnv, WorldConfig, run};
//! use std::{cell::Cell, path::Path, rc::Rc};
//!
//! fn append(env: &SimEnv, acknowledged: &Cell<u64>) -> std::io::Result<()> {
//!     let path = Path::new("/db/log");
//!     env.disk().create_dir_all(Path::new("/db"))?;
//!     let file = match env.disk().open(path, OpenMode::ReadWrite) {
//!         Ok(file) => file,
//!         Err(_) => {
//!             let file = env.disk().open(path, OpenMode::CreateNew)?;
//!             env.disk().sync_dir(Path::new("/db"))?;
//!             file
//!         }
//!     };
//!     for number in file.len()?..50 {
//!         file.write_at(&[number as u8], number)?;
//!         file.sync(SyncKind::Data)?;
//!         acknowledged.set(number + 1);
//!     }
//!     Ok(())
//! }
//!
//! for seed in 0..100 {
//!     let faults = FaultConfig { crash: Rate::one_in(30), crashes_max: 3, crash_power_percent: 100, ..Default::default() };
//!     let outcome = run(&WorldConfig { faults, ..WorldConfig::calm(seed) }, |harness| {
//!         let acknowledged = Rc::new(Cell::new(0));
//!         loop {
//!             let mine = Rc::clone(&acknowledged);
//!             let exit = harness.run_process(move |env| append(&env, &mine).expect("no disk fault is switched on"));
//!             let bytes = read_file(harness.env().disk(), Path::new("/db/log")).unwrap_or_default();
//!             assert!(bytes.len() as u64 >= acknowledged.get(), "an acknowledged number is lost");
//!             if !matches!(exit, Exit::Crashed { .. }) {
//!                 break;
//!             }
//!         }
//!     });
//!     assert_eq!(outcome.violation, None, "seed {seed}");
//! }
//! ```
//!
//! # Rules for programs in a world
//! No thread-local storage, no lock of another library, no OS thread across an operation: fibers share one OS thread.
//! Destructors must not wait: a killed fiber unwinds, and there every operation returns at once, with an error if it can.
//!
//! Sources: FoundationDB's simulation (faults per run, `buggify`), TigerBeetle's VOPR (a faulty disk model), Burckhardt et al.,
//! "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (priorities).
#![allow(clippy::disallowed_macros, reason = "thread-locals below the fibers: the current world, the pool of stacks")]

mod archive;
pub mod campaign;
pub mod case;
pub mod check;
mod chooser;
mod config;
mod disk;
mod env;
mod fault;
mod fiber;
mod harness;
pub mod profile;
mod scheduler;
pub mod shrink;
pub mod story;
mod sync;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use archive::SimArchive;
pub use chooser::{Chooser, ChooserConfig, Draw, Explorer, Stream, roll};
pub use config::{Damage, Outcome, Schedule, Switch, Violation, WorldConfig};
pub use disk::{FileContent, SimDirLock, SimDisk, SimFile};
pub use env::SimEnv;
pub use fault::{At, Fault, FaultConfig, FaultEvent, FaultPlan, Loss, LossMode, Rate};
pub use harness::{Exit, Harness, run};
pub use sync::{SimCondvar, SimJoin, SimRawMutex, SimRawRwLock};
pub use trace::{Event, TraceEvent};
