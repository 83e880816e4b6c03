//! Stories: what a process does, told by hand, with a fault at each of its operations in turn.
//!
//! A seed finds what nobody thought of; a story has a name, a cause and an expected end. The storyteller's knowledge (an
//! `Rc<RefCell<..>>`, say) survives the process, and is what the end is compared with.
//!
//! # Example
//! ```
//! use aidb::lsm::{Engine, Options};
//! use aidb_sim::{Loss, story};
//!
//! // Whatever the disk write at which the power goes: what was acknowledged is there afterwards.
//! let ios = story::at_each(
//!     |io| aidb_sim::FaultEvent::power_loss(io, true, Loss::ALL),
//!     |harness| {
//!         let put = |env: &aidb_sim::SimEnv| {
//!             let db = Engine::open_in(env.clone(), "/db", Options::default())?;
//!             db.put("key", "value")
//!         };
//!         let (_, acknowledged) = story::process(harness, put);
//!         let read = story::healed(harness, |env| Engine::open_in(env.clone(), "/db", Options::default())?.get("key"));
//!         if matches!(acknowledged, Some(Ok(()))) {
//!             assert_eq!(read.as_deref(), Some(&b"value"[..]));
//!         }
//!     },
//! );
//! assert!(ios > 5);
//! ```

use crate::{Exit, FaultEvent, FaultPlan, Harness, Loss, LossMode, Outcome, Schedule, SimEnv, WorldConfig, run};
use aidb::env::{Disk, DiskFile, Env, OpenMode, SyncKind};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Returns a calm world for a story with these events.
pub fn world(events: Vec<FaultEvent>) -> WorldConfig {
    let plan = FaultPlan::Explicit(events);
    // A story may end in the middle: what still runs is killed.
    WorldConfig { plan, schedule: Schedule::Calm, leak_check: false, ..WorldConfig::calm(1) }
}

/// Tells a story in which these events happen.
///
/// # Panics
/// If the run meets a violation; a failed assertion of the story is one.
pub fn told(events: Vec<FaultEvent>, body: impl FnOnce(&mut Harness)) -> Outcome {
    let outcome = run(&world(events.clone()), body);
    assert_eq!(outcome.violation, None, "{events:?}");
    outcome
}

/// Tells a story once for each disk write it makes when all is well, with `fault` of its number; returns how many there are.
///
/// # Panics
/// As [`told`].
pub fn at_each(fault: impl Fn(u64) -> FaultEvent, story: impl Fn(&mut Harness)) -> u64 {
    let ios = told(Vec::new(), &story).mutating_ios;
    for io in 0..ios {
        told(vec![fault(io)], &story);
    }
    ios
}

/// Tells a story with the process dying at each of its disk writes, before and after it, and then with the power lost there.
///
/// # Panics
/// As [`told`].
pub fn crash_at_each(story: impl Fn(&mut Harness)) {
    let ios = told(Vec::new(), &story).mutating_ios;
    assert!(ios > 5, "the story is too short: {ios} operations");
    for io in 0..ios {
        for after in [false, true] {
            told(vec![FaultEvent::process_crash(io, after)], &story);
            let mode = [LossMode::All, LossMode::Sectors, LossMode::Prefix][(io % 3) as usize];
            told(vec![FaultEvent::power_loss(io, after, Loss { mode, salt: io })], &story);
        }
    }
}

/// Runs one incarnation of the process; returns how it ended and what it gave, if it came so far.
pub fn process<T: 'static>(harness: &mut Harness, story: impl FnOnce(&SimEnv) -> T + 'static) -> (Exit, Option<T>) {
    let given = Rc::new(RefCell::new(None));
    let mine = Rc::clone(&given);
    let exit = harness.run_process(move |env| *mine.borrow_mut() = Some(story(&env)));
    let given = given.borrow_mut().take();
    (exit, given)
}

/// Switches every fault off, runs one incarnation and returns what it gave: the end of a story, on a disk that is well.
///
/// # Panics
/// If the story fails, or does not come to its end.
pub fn healed<T: 'static>(harness: &mut Harness, story: impl FnOnce(&SimEnv) -> aidb::Result<T> + 'static) -> T {
    harness.set_faults(false);
    harness.set_crashes(false);
    let (exit, given) = process(harness, story);
    given
        .unwrap_or_else(|| panic!("nothing kills it, and it ended so: {exit:?}"))
        .unwrap_or_else(|error| panic!("it does not open: {error}"))
}

/// Returns the files in `dir` whose names end with `suffix`, in order.
pub fn files(harness: &Harness, dir: &str, suffix: &str) -> Vec<PathBuf> {
    let all = harness.files().into_iter().map(|file| PathBuf::from(file.path));
    let mut found: Vec<PathBuf> =
        all.filter(|path| path.parent() == Some(Path::new(dir)) && path.to_string_lossy().ends_with(suffix)).collect();
    found.sort();
    found
}

/// Flips a bit of a file, on the disk itself.
///
/// # Panics
/// If there is no such byte.
pub fn flip(harness: &Harness, path: &Path, offset: u64) {
    let opened = harness.env().disk().open(path, OpenMode::ReadWrite);
    let flipped = opened.and_then(|file| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset)?;
        file.write_at(&[byte[0] ^ 0x40], offset)?;
        file.sync(SyncKind::All)
    });
    assert!(flipped.is_ok(), "{} at {offset}: {flipped:?}", path.display());
}
