//! [`run`]: one run of a world, and the [`Harness`] that its body drives it with.

use crate::chooser::{Stream, roll};
use crate::config::{Damage, Outcome, Violation, WorldConfig};
use crate::disk::FileContent;
use crate::env::SimEnv;
use crate::fault::{At, FaultEvent, Loss};
use crate::fiber::install_panic_hook;
use crate::trace::{Event, mix};
use crate::world::{self, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// How an incarnation of the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The main thread returned and every other one ended.
    Finished,
    /// A fault killed it.
    Crashed {
        /// True for a power loss, false for a process crash.
        power: bool,
    },
    /// Something went wrong that must not; the run is over and the body should return.
    Violated,
}

/// The body's side of a run: starts the process, watches it die, starts it again.
///
/// The body runs outside every fiber. What it keeps (an `Rc<RefCell<Oracle>>`, say) survives crashes of the process; clones
/// of it may be moved into the process' fibers, which are dropped when they are killed.
pub struct Harness {
    world: Rc<World>,
    leak_check: bool,
    state: u64,
    incarnations: u64,
}

impl Harness {
    /// Starts the process with `main` as its main thread and runs it to its end.
    ///
    /// After the first time this is a restart: damage at rest is applied before. Returns [`Exit::Violated`] at once if the
    /// run has met a violation already.
    pub fn run_process(&mut self, main: impl FnOnce(SimEnv) + 'static) -> Exit {
        if self.violated() {
            return Exit::Violated;
        }
        if self.incarnations > 0 {
            self.world.damage_at_rest();
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        {
            let mut core = self.world.core.borrow_mut();
            core.incarnation = incarnation;
            core.event(Event::Start, incarnation, 0);
        }
        self.world.disk.borrow_mut().begin_incarnation(incarnation);
        let env = SimEnv::new(incarnation);
        let main = self.world.spawn("main".to_owned(), Box::new(move || main(env)));
        let exit = self.world.run_fibers(main, self.leak_check);
        self.world.kill_fibers();
        let event = match exit {
            Exit::Finished => Event::Finish,
            Exit::Crashed { .. } | Exit::Violated => Event::Crash,
        };
        let power = matches!(exit, Exit::Crashed { power: true });
        self.world.core.borrow_mut().event(event, incarnation, u64::from(power));
        if let Some((true, loss)) = self.world.take_crash() {
            self.world.lose_power(loss);
        }
        if self.violated() { Exit::Violated } else { exit }
    }

    /// Cuts the power while no process runs: what was not synced is lost as `loss` says.
    pub fn power_loss(&mut self, loss: Loss) {
        self.world.lose_power(loss);
    }

    /// Returns the seed's choice of a loss, a pure function of `index`.
    pub fn loss(&self, index: u64) -> Loss {
        self.world.core.borrow().faults.loss(roll(self.world.seed(), "loss", index))
    }

    /// Returns how often the process was started.
    pub fn incarnations(&self) -> u64 {
        self.incarnations
    }

    /// Switches crashes of the seed off (`false`) or on again, for instance for the last, verifying incarnation.
    pub fn set_crashes(&mut self, on: bool) {
        self.world.core.borrow_mut().faults.crashes_on = on;
    }

    /// Switches all faults of the plan off or on: a disk that is well again. Latency and capacity stay.
    pub fn set_faults(&mut self, on: bool) {
        self.world.core.borrow_mut().faults.faults_on = on;
    }

    /// Returns an environment that may be used from the body: its disk meets no fault and counts no operation.
    pub fn env(&self) -> SimEnv {
        SimEnv::new(self.incarnations)
    }

    /// Returns every file with what a process would read and what a power loss would leave at least.
    pub fn files(&self) -> Vec<FileContent> {
        self.world.disk.borrow().files()
    }

    /// Returns a number below `n` for the workload.
    pub fn below(&mut self, n: u64) -> u64 {
        self.world.core.borrow_mut().chooser.below(Stream::Workload, n)
    }

    /// Returns 64 random bits for the workload.
    pub fn bits(&mut self) -> u64 {
        self.world.core.borrow_mut().chooser.bits(Stream::Workload)
    }

    /// Reports a violation found by a checker; the first one counts.
    pub fn violation(&mut self, kind: &str, message: impl Into<String>) {
        self.world.violate(kind, message.into());
    }

    /// Returns whether the run met a violation.
    pub fn violated(&self) -> bool {
        self.world.violation.borrow().is_some()
    }

    /// Returns the faults that had an effect so far.
    pub fn fired(&self) -> Vec<FaultEvent> {
        self.world.core.borrow().faults.fired.clone()
    }

    /// Returns what faults at rest have damaged so far.
    pub fn damage(&self) -> Vec<Damage> {
        self.world.disk.borrow().damage.clone()
    }

    /// Returns how many mutating disk operations there were so far.
    pub fn mutating_ios(&self) -> u64 {
        self.world.core.borrow().faults.ios
    }

    /// Mixes a hash of the workload's final state into [`Outcome::state_hash`].
    pub fn mix_state(&mut self, hash: u64) {
        self.state = mix(self.state, hash);
    }

    /// Adds an event of the body's own to hash and trace.
    pub fn note(&mut self, value: u64, text: impl FnOnce() -> String) {
        self.world.core.borrow_mut().event_named(Event::Note, value, 0, text);
    }
}

/// Runs `body` in a new world on this OS thread, and returns what came out.
///
/// # Panics
/// If this OS thread is inside a world already. A panic of `body` is a violation of kind [`Violation::BODY`].
pub fn run(config: &WorldConfig, body: impl FnOnce(&mut Harness)) -> Outcome {
    install_panic_hook();
    let world = Rc::new(World::new(config));
    let entered = world::enter(&world);
    if world.core.borrow().faults.keeps_history() {
        world.disk.borrow_mut().keep_history();
    }
    let mut harness = Harness { world: Rc::clone(&world), leak_check: config.leak_check, state: 0, incarnations: 0 };
    if catch_unwind(AssertUnwindSafe(|| body(&mut harness))).is_err() {
        let message = world::take_body_panic().unwrap_or_else(|| "a panic without a message".to_owned());
        world.violate(Violation::BODY, message);
    }
    let disk_state = world.disk.borrow().state_hash();
    let state_hash = mix(mix(harness.state, disk_state), world.archive.borrow().state_hash());
    let violation = world.violation.borrow_mut().take();
    let mut core = world.core.borrow_mut();
    let outcome = Outcome {
        hash: core.trace.hash,
        state_hash,
        events: core.trace.count,
        steps: core.points,
        sim_ns: core.now_ns,
        mutating_ios: core.faults.ios,
        disk_ops: core.faults.ops,
        incarnations: harness.incarnations,
        crashes: core.faults.crashes,
        violation,
        marks: core.marks.iter().map(|mark| (*mark).to_owned()).collect(),
        fired: std::mem::take(&mut core.faults.fired),
        damage: std::mem::take(&mut world.disk.borrow_mut().damage),
        switches: std::mem::take(&mut core.switches),
        draws: core.chooser.take_recorded(),
        trace: std::mem::take(&mut core.trace.events),
    };
    drop(core);
    drop(entered);
    outcome
}

impl World {
    fn damage_at_rest(&self) {
        let mut core = self.core.borrow_mut();
        let restart = core.faults.restarts;
        core.faults.restarts += 1;
        core.event(Event::Restart, restart, 0);
        for fault in core.faults.at_rest(restart) {
            if self.disk.borrow_mut().damage_at_rest(fault) {
                core.faults.fire(At::Restart(restart), fault);
                core.trace_faults();
            }
        }
    }

    fn lose_power(&self, loss: Loss) {
        let survived = self.disk.borrow_mut().lose_power(loss);
        self.core.borrow_mut().event(Event::Crash, survived, 2);
    }
}
