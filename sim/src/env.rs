//! [`SimEnv`]: a simulated world as an [`Env`].
//!
//! Given to the main thread of each incarnation of the process by [`crate::Harness::run_process`]. All state is in the world;
//! an environment is a number, so it is `Send` and cheap to clone as the trait asks, and useless in another incarnation.

use crate::chooser::{Stream, roll};
use crate::disk::SimDisk;
use crate::scheduler::Reason;
use crate::sync::{SimCondvar, SimJoin, SimRawMutex, SimRawRwLock};
use crate::trace::Event;
use crate::world::{self, Place, place};
use aidb::base::hash::hash64;
use aidb::env::{Env, Mono, Wall};
use std::io;
use std::time::Duration;

/// A handle of the world for the process under test.
#[derive(Clone, Debug)]
pub struct SimEnv {
    incarnation: u64,
    disk: SimDisk,
}

/// What the wall clock has shown: the latest time that the database is known to have seen, and the latest ever; in microseconds
/// since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) since: u64,
    pub(crate) ever: u64,
}

/// Returns what the wall clock has shown.
pub(crate) fn wall_shown() -> Shown {
    world::current().map_or_else(Shown::default, |world| {
        let core = world.core.borrow();
        Shown { since: core.wall_seen_us, ever: core.wall_peak_us }
    })
}

/// Says that the database has seen `moment` on the wall clock.
pub(crate) fn wall_seen(moment: u64) {
    if let Some(world) = world::current() {
        let mut core = world.core.borrow_mut();
        core.wall_seen_us = core.wall_seen_us.max(moment);
    }
}

/// Says that the database may have seen nothing of the wall clock.
pub(crate) fn forget_wall() {
    if let Some(world) = world::current() {
        world.core.borrow_mut().wall_seen_us = 0;
    }
}

/// Returns whether something at rest was damaged.
pub(crate) fn is_damaged() -> bool {
    world::current().is_some_and(|world| !world.disk.borrow().damage.is_empty())
}

impl SimEnv {
    pub(crate) fn new(incarnation: u64) -> SimEnv {
        SimEnv { incarnation, disk: SimDisk::new(incarnation) }
    }

    /// Returns which start of the process this is, from 1.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Starts a thread of the workload. Unlike [`Env::spawn`] its body may hold an `Rc`: all fibers share one OS thread.
    pub fn spawn_local(&self, name: impl Into<String>, body: impl FnOnce() + 'static) -> SimJoin {
        match place() {
            Place::Fiber(world, me) => {
                let fiber = world.spawn(name.into(), Box::new(body));
                world.switch_point(me);
                SimJoin { fiber, incarnation: self.incarnation }
            }
            Place::Dying => SimJoin { fiber: 0, incarnation: 0 },
            Place::Outside | Place::Body(_) => panic!("threads start inside Harness::run_process"),
        }
    }

    /// Returns a number below `n` for the workload, decided by the chooser.
    pub fn below(&self, n: u64) -> u64 {
        match place() {
            Place::Fiber(world, _) | Place::Body(world) => world.core.borrow_mut().chooser.below(Stream::Workload, n),
            Place::Dying | Place::Outside => 0,
        }
    }

    /// Returns 64 random bits for the workload.
    pub fn bits(&self) -> u64 {
        match place() {
            Place::Fiber(world, _) | Place::Body(world) => world.core.borrow_mut().chooser.bits(Stream::Workload),
            Place::Dying | Place::Outside => 0,
        }
    }

    /// Adds an event of the workload's own to hash and trace.
    pub fn note(&self, value: u64, text: impl FnOnce() -> String) {
        if let Place::Fiber(world, _) | Place::Body(world) = place() {
            world.core.borrow_mut().event_named(Event::Note, value, 0, text);
        }
    }

    /// Returns the latest time that the wall clock has shown so far, in microseconds since 1970; 0 if it was never read.
    pub fn wall_peak_us(&self) -> u64 {
        world::current().map_or(0, |world| world.core.borrow().wall_peak_us)
    }

    /// Returns the faults that had an effect so far.
    pub fn fired(&self) -> Vec<crate::FaultEvent> {
        world::current().map_or_else(Vec::new, |world| world.core.borrow().faults.fired.clone())
    }

    /// Reports a violation and ends the run: every fiber is killed.
    pub fn violation(&self, kind: &str, message: impl Into<String>) -> ! {
        if let Some(world) = world::current() {
            world.violate(kind, message.into());
            if let Place::Fiber(world, _) = place() {
                world.halt();
            }
        }
        panic!("a violation ends the body of a run: {kind}");
    }
}

impl Env for SimEnv {
    type RawMutex = SimRawMutex;
    type RawRwLock = SimRawRwLock;
    type Condvar = SimCondvar;
    type Join = SimJoin;
    type Disk = SimDisk;

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn now(&self) -> Mono {
        match place() {
            Place::Fiber(world, _) | Place::Body(world) => {
                let mut core = world.core.borrow_mut();
                core.now_ns += 1;
                let now = core.now_ns;
                core.event(Event::Now, now, 0);
                Mono(now)
            }
            // Time stands still for the dead, so they cannot spin on it for ever either: see `DYING_OPS_MAX`.
            Place::Dying | Place::Outside => Mono(world::current().map_or(0, |world| world.core.borrow().now_ns)),
        }
    }

    fn wall(&self) -> Wall {
        match place() {
            Place::Fiber(world, _) => {
                let mut core = world.core.borrow_mut();
                if let Some(micros) = core.faults.wall_step() {
                    core.wall_offset_us = core.wall_offset_us.saturating_add(micros);
                    core.trace_faults();
                }
                let wall = core.wall_us();
                core.wall_peak_us = core.wall_peak_us.max(wall);
                core.event(Event::Wall, wall, 0);
                Wall(wall)
            }
            Place::Body(world) => Wall(world.core.borrow().wall_us()),
            Place::Dying | Place::Outside => Wall(0),
        }
    }

    fn sleep(&self, duration: Duration) {
        if let Place::Fiber(world, me) = place() {
            let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            world.core.borrow_mut().event(Event::Sleep, ns, 0);
            world.block_for(me, ns, Reason::Sleep);
        }
    }

    fn rand_u64(&self) -> u64 {
        match place() {
            Place::Fiber(world, _) | Place::Body(world) => {
                let mut core = world.core.borrow_mut();
                let bits = core.chooser.bits(Stream::Program);
                core.event(Event::Random, bits, 0);
                bits
            }
            Place::Dying | Place::Outside => 0,
        }
    }

    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<SimJoin> {
        match place() {
            Place::Dying => Err(io::Error::other("the process is being killed")),
            _ => Ok(self.spawn_local(name, body)),
        }
    }

    fn yield_point(&self) {
        if let Place::Fiber(world, me) = place() {
            world.core.borrow_mut().event(Event::Yield, 0, 0);
            world.yield_point(me);
        }
    }

    fn buggify(&self, site: &'static str) -> bool {
        let Place::Fiber(world, _) = place() else { return false };
        let mut core = world.core.borrow_mut();
        if !core.faults.config.buggify {
            return false;
        }
        let seed = world.seed();
        if !roll(seed, site, 0).is_multiple_of(4) {
            return false;
        }
        let call = core.buggify_call(site);
        let fires = roll(seed, site, call).is_multiple_of(4);
        core.event(Event::Buggify, hash64(site.as_bytes(), 0), u64::from(fires));
        fires
    }

    fn reached(&self, mark: &'static str) {
        if let Place::Fiber(world, _) = place() {
            let mut core = world.core.borrow_mut();
            core.marks.insert(mark);
            core.event_named(Event::Mark, hash64(mark.as_bytes(), 0), 0, || mark.to_owned());
        }
    }

    fn planted(&self, name: &'static str) -> bool {
        match place() {
            Place::Fiber(world, _) | Place::Body(world) => world.planted(name),
            Place::Dying | Place::Outside => false,
        }
    }
}
