//! The world: one OS thread, its fibers, its clock, its disk; the loop that runs them.
//!
//! Operations of the environment find the world through a thread-local pointer, because the raw locks of `lock_api` carry
//! none. An operation first asks [`place`] where it is called from:
//! - in a fiber: it may switch, block, and meet faults;
//! - in the body of a run (the harness): it neither switches nor meets faults, and must not block;
//! - in a fiber that is being killed, or unwinds from a panic: it does nothing, fails if it can, and never blocks;
//! - outside every world: locks work as long as nobody else holds them.
//!
//! **Invariant:** no borrow of `core`, `disk` or `archive` lives across a switch.

use crate::archive::ArchiveState;
use crate::config::{Violation, WorldConfig};
use crate::disk::DiskState;
use crate::fault::{At, Fault, Loss};
use crate::fiber::{self, Came, Fiber};
use crate::harness::Exit;
use crate::scheduler::{Core, Reason, State, Stop};
use crate::trace::Event;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How many operations a destructor may make while its fiber is killed, before the fiber is given up.
const DYING_OPS_MAX: u32 = 100_000;
/// How much simulated time threads have to end after the main one did.
const LINGER_NS: u64 = 60_000_000_000;

mod current {
    use super::{Cell, Rc, RefCell, World};
    thread_local! {
        pub(super) static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
        pub(super) static BODY_PANIC: Cell<Option<String>> = const { Cell::new(None) };
    }
}

pub(crate) struct World {
    pub(crate) core: RefCell<Core>,
    pub(crate) disk: RefCell<DiskState>,
    pub(crate) archive: RefCell<ArchiveState>,
    pub(crate) violation: RefCell<Option<Violation>>,
    killing: Cell<bool>,
    panicking: Cell<bool>,
    running: Cell<Option<u32>>,
    dying_ops: Cell<u32>,
    crash: Cell<Option<(bool, Loss)>>,
    planted: Vec<String>,
    seed: u64,
}

/// Where an operation is called from.
pub(crate) enum Place {
    Outside,
    Body(Rc<World>),
    Dying,
    Fiber(Rc<World>, u32),
}

/// Returns where the caller is.
#[inline]
pub(crate) fn place() -> Place {
    let mut give_up = false;
    let place = current::WORLD.with(|world| match world.borrow().as_ref() {
        None => Place::Outside,
        Some(world) => {
            if world.killing.get() || world.panicking.get() {
                give_up = world.count_dying_op();
                return Place::Dying;
            }
            match world.running.get() {
                None => Place::Body(Rc::clone(world)),
                Some(fiber) => Place::Fiber(Rc::clone(world), fiber),
            }
        }
    });
    if give_up {
        fiber::suspend_for_good();
    }
    place
}

/// Returns the world of this OS thread.
pub(crate) fn current() -> Option<Rc<World>> {
    current::WORLD.with(|world| world.borrow().clone())
}

/// Keeps the message of a panic within a world; returns false if there is none.
pub(crate) fn note_panic(message: String) -> bool {
    let Some(world) = current() else { return false };
    if world.killing.get() {
        // A destructor panics while its thread unwinds: the process aborts, so this is the last chance to say why.
        eprintln!("seed {}: a destructor panics while its process is killed", world.seed);
        return false;
    }
    match world.running.get() {
        None => current::BODY_PANIC.set(Some(message)),
        Some(fiber) => {
            world.panicking.set(true);
            // A panic may come from within the simulator, where the core is borrowed.
            let name =
                world.core.try_borrow().map(|core| core.threads[fiber as usize].name.clone()).unwrap_or_default();
            world.violate(Violation::PANIC, format!("thread {fiber} '{name}': {message}"));
        }
    }
    true
}

/// Takes the message of a panic in the body.
pub(crate) fn take_body_panic() -> Option<String> {
    current::BODY_PANIC.take()
}

/// Makes `world` the world of this OS thread until the guard is dropped.
pub(crate) fn enter(world: &Rc<World>) -> Entered {
    current::WORLD.with(|current| {
        let former = current.borrow_mut().replace(Rc::clone(world));
        assert!(former.is_none(), "a world within a world");
    });
    Entered
}

/// See [`enter`].
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        current::WORLD.with(|current| current.borrow_mut().take());
    }
}

impl World {
    pub(crate) fn new(config: &WorldConfig) -> World {
        World {
            core: RefCell::new(Core::new(config)),
            disk: RefCell::new(DiskState::new()),
            archive: RefCell::new(ArchiveState::default()),
            violation: RefCell::new(None),
            killing: Cell::new(false),
            panicking: Cell::new(false),
            running: Cell::new(None),
            dying_ops: Cell::new(0),
            crash: Cell::new(None),
            planted: config.planted.iter().cloned().collect(),
            seed: config.seed,
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn killing(&self) -> bool {
        self.killing.get()
    }

    #[inline]
    pub(crate) fn planted(&self, name: &str) -> bool {
        !self.planted.is_empty() && self.planted.iter().any(|planted| planted == name)
    }

    /// Records a violation; the first one counts. Fibers stop at their next operation.
    pub(crate) fn violate(&self, kind: &str, message: String) {
        self.violation.borrow_mut().get_or_insert_with(|| Violation { kind: kind.to_owned(), message });
        if let Ok(mut core) = self.core.try_borrow_mut() {
            core.stop = Some(Stop::Violation);
        }
    }

    /// A place where fiber `me` may be switched out.
    #[inline]
    pub(crate) fn switch_point(&self, me: u32) {
        self.pass(me, false);
    }

    /// A place where fiber `me` lets others go first.
    pub(crate) fn yield_point(&self, me: u32) {
        self.pass(me, true);
    }

    #[inline]
    fn pass(&self, me: u32, yields: bool) {
        let (switch, stop) = {
            let mut core = self.core.borrow_mut();
            let switch = core.step(me, yields).is_some();
            (switch, core.stop.is_some() || core.out_of_steps())
        };
        if switch || stop {
            self.suspend(me, stop);
        }
    }

    #[cold]
    fn stop_for_good(&self) {
        let livelock = self.core.borrow().out_of_steps();
        if livelock {
            let alive = self.core.borrow().describe_alive();
            self.violate(Violation::LIVELOCK, format!("the run does not end; threads: {alive}"));
        }
    }

    fn suspend(&self, me: u32, stop: bool) {
        if stop {
            self.stop_for_good();
        }
        fiber::suspend(self);
        debug_assert_eq!(self.running.get(), Some(me), "resumed as somebody else");
    }

    /// Blocks fiber `me` until it is woken.
    pub(crate) fn block(&self, me: u32, reason: Reason) {
        self.core.borrow_mut().threads[me as usize].state = State::Blocked(reason);
        self.suspend(me, false);
    }

    /// Blocks fiber `me` for `ns`.
    pub(crate) fn block_for(&self, me: u32, ns: u64, reason: Reason) {
        {
            let mut core = self.core.borrow_mut();
            core.begin_wait(me);
            core.set_timer(me, ns);
        }
        self.block(me, reason);
    }

    /// Kills the process at this operation of fiber `me`. Does not return.
    pub(crate) fn crash_now(&self, at: At, fault: Fault) -> ! {
        let Fault::Crash { power, loss, .. } = fault else { unreachable!("only a crash crashes") };
        {
            let mut core = self.core.borrow_mut();
            core.faults.fire(at, fault);
            core.trace_faults();
            core.faults.crashes += 1;
            core.stop = Some(Stop::Crash);
        }
        self.crash.set(Some((power, loss)));
        fiber::suspend(self);
        unreachable!("a crashed fiber is only resumed to be killed");
    }

    /// Stops the run at this operation of a fiber, after a violation. Does not return.
    pub(crate) fn halt(&self) -> ! {
        fiber::suspend(self);
        unreachable!("a halted fiber is only resumed to be killed");
    }

    /// Counts an operation of a dying fiber; returns true if it made too many and is to be given up.
    fn count_dying_op(&self) -> bool {
        self.dying_ops.set(self.dying_ops.get() + 1);
        self.dying_ops.get() > DYING_OPS_MAX && self.running.get().is_some()
    }

    /// Starts a fiber.
    pub(crate) fn spawn(&self, name: String, body: Box<dyn FnOnce()>) -> u32 {
        let hash = aidb::base::hash::hash64(name.as_bytes(), 0);
        let mut core = self.core.borrow_mut();
        let fiber = core.add_thread(name, Fiber::new(body));
        let note = core.trace.recording.then(|| core.threads[fiber as usize].name.clone());
        core.event_named(Event::Spawn, u64::from(fiber), hash, || note.unwrap_or_default());
        fiber
    }

    /// Runs fibers until the main one and all others ended, the process crashed, or something went wrong.
    pub(crate) fn run_fibers(&self, main: u32, leak_check: bool) -> Exit {
        let mut deadline = None;
        loop {
            match self.core.borrow().stop {
                Some(Stop::Violation) => return Exit::Violated,
                Some(Stop::Crash) => {
                    let (power, _) = self.crash.get().expect("a crash says how");
                    return Exit::Crashed { power };
                }
                None => {}
            }
            let mut core = self.core.borrow_mut();
            let main_ended = core.threads[main as usize].state == State::Ended;
            if main_ended && deadline.is_none() {
                deadline = Some(core.now_ns + LINGER_NS);
            }
            let late = deadline.is_some_and(|deadline| core.now_ns > deadline) || core.out_of_steps();
            let next =
                if late { None } else { core.pick().or_else(|| if core.advance() { core.pick() } else { None }) };
            if let Some(next) = next {
                drop(core);
                self.resume(next);
                continue;
            }
            let alive = core.alive();
            let text = core.describe_alive();
            let livelock = core.out_of_steps();
            drop(core);
            if alive == 0 || (main_ended && !leak_check) {
                return Exit::Finished;
            }
            let kind = match (livelock, main_ended) {
                (true, _) => Violation::LIVELOCK,
                (false, true) => Violation::LEAK,
                (false, false) => Violation::DEADLOCK,
            };
            self.violate(kind, text);
        }
    }

    fn resume(&self, id: u32) {
        let mut fiber = {
            let mut core = self.core.borrow_mut();
            core.current = Some(id);
            core.event(Event::Switch, u64::from(id), 0);
            let thread = &mut core.threads[id as usize];
            thread.state = State::Running;
            thread.fiber.take().expect("a thread that can run has a fiber")
        };
        self.running.set(Some(id));
        let came = fiber.resume();
        self.running.set(None);
        if came == Came::Suspended && !self.panicking.get() {
            self.core.borrow_mut().threads[id as usize].fiber = Some(fiber);
            return;
        }
        if came == Came::Suspended {
            self.violate(Violation::DROP_BLOCKS, format!("a destructor of thread {id} waits while its thread unwinds"));
            fiber.leak();
        } else {
            fiber.recycle();
        }
        self.panicking.set(false);
        self.dying_ops.set(0);
        let mut core = self.core.borrow_mut();
        let panicked = came != Came::Returned;
        core.event(Event::Exit, u64::from(panicked), 0);
        core.threads[id as usize].state = State::Ended;
        core.threads[id as usize].panicked = panicked;
        if panicked {
            core.stop = Some(Stop::Violation);
        }
        core.wake_all(|reason| reason == Reason::Join { fiber: id });
    }

    /// Kills every fiber: their destructors run, in which operations do nothing.
    pub(crate) fn kill_fibers(&self) {
        self.killing.set(true);
        let threads = self.core.borrow().threads.len();
        for id in 0..threads {
            let (fiber, name) = {
                let mut core = self.core.borrow_mut();
                let thread = &mut core.threads[id];
                (thread.fiber.take(), thread.name.clone())
            };
            let Some(mut fiber) = fiber else { continue };
            self.dying_ops.set(0);
            self.running.set(Some(id as u32));
            let came = fiber.resume();
            self.running.set(None);
            if came == Came::Suspended {
                let message = format!("a destructor of thread {id} '{name}' waits while the process is killed");
                self.violate(Violation::DROP_BLOCKS, message);
                fiber.leak();
            } else {
                fiber.recycle();
            }
        }
        self.panicking.set(false);
        self.killing.set(false);
        self.core.borrow_mut().forget_waiting();
    }

    /// Takes how the process crashed.
    pub(crate) fn take_crash(&self) -> Option<(bool, Loss)> {
        self.crash.take()
    }
}
