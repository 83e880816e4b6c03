//! Locks, condition variables and joins of a simulated world.
//!
//! A lock's word says who holds it; who waits is in the scheduler. Unlocking wakes every waiter and the scheduler decides who
//! gets it, so that any order is explored. A waiting writer keeps new readers out in half of the seeds, as in `parking_lot`,
//! where a thread that reads twice can meet itself. A condition variable enqueues before it unlocks.
//!
//! Outside a world, and in the body of a run, a lock works as long as nobody holds it; in a dying fiber it is always had.
//! Locks get their numbers (for traces and reports) at first use: no address is ever hashed.

use crate::scheduler::Reason;
use crate::trace::Event;
use crate::world::{Place, World, place};
use aidb::env::{EnvCondvar, EnvJoin};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

const FREE: u32 = 0;
/// The holder outside every fiber.
const BODY: u32 = u32::MAX;
/// A read-write lock's word: this for a writer, else the number of readers.
const WRITER: u32 = 1 << 31;

fn number(cell: &AtomicU32, world: &World) -> u32 {
    let number = cell.load(Relaxed);
    if number != 0 {
        return number;
    }
    let mut core = world.core.borrow_mut();
    core.names_given += 1;
    cell.store(core.names_given, Relaxed);
    core.names_given
}

#[cold]
fn would_block_outside() -> ! {
    panic!("a lock is held by a fiber, and its caller, outside every fiber, cannot wait for it");
}

impl World {
    /// Blocks `me` for a lock; counted, so that unlocking knows whether to look for waiters.
    fn block_for_lock(&self, me: u32, reason: Reason) {
        self.core.borrow_mut().waiting_on_locks += 1;
        self.block(me, reason);
        self.core.borrow_mut().waiting_on_locks -= 1;
    }

    fn unlocked(&self, me: u32, event: Event, lock: u32) {
        {
            let mut core = self.core.borrow_mut();
            core.event(event, u64::from(lock), 0);
            if core.waiting_on_locks > 0 {
                core.wake_all(|reason| match reason {
                    Reason::Lock { lock: of, .. } | Reason::Read { lock: of } | Reason::Write { lock: of } => {
                        of == lock
                    }
                    _ => false,
                });
            }
        }
        self.switch_point(me);
    }
}

/// The mutex of a simulated world.
#[derive(Debug)]
pub struct SimRawMutex {
    word: AtomicU32,
    number: AtomicU32,
}

#[expect(unsafe_code, reason = "lock_api's contract: at most one holder")]
// SAFETY: `lock` returns, and `try_lock` returns true, only after a compare-and-exchange from `FREE`. The exception is a dying
// fiber: all others of its process are dead or dying, and none of them runs again except to be dropped.
unsafe impl lock_api::RawMutex for SimRawMutex {
    const INIT: SimRawMutex = SimRawMutex { word: AtomicU32::new(FREE), number: AtomicU32::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        match place() {
            Place::Dying => self.word.store(BODY, Relaxed),
            Place::Outside | Place::Body(_) => {
                if !self.take(BODY) {
                    would_block_outside();
                }
            }
            Place::Fiber(world, me) => {
                world.switch_point(me);
                let lock = number(&self.number, &world);
                let mut waited = 0;
                while !self.take(me + 1) {
                    waited = 1;
                    let owner = self.word.load(Relaxed).wrapping_sub(1);
                    world.block_for_lock(me, Reason::Lock { lock, owner });
                }
                world.core.borrow_mut().event(Event::Lock, u64::from(lock), waited);
            }
        }
    }

    fn try_lock(&self) -> bool {
        match place() {
            Place::Dying => {
                self.word.store(BODY, Relaxed);
                true
            }
            Place::Outside | Place::Body(_) => self.take(BODY),
            Place::Fiber(world, me) => {
                world.switch_point(me);
                let lock = number(&self.number, &world);
                let taken = self.take(me + 1);
                world.core.borrow_mut().event(Event::Lock, u64::from(lock), 2 + u64::from(taken));
                taken
            }
        }
    }

    unsafe fn unlock(&self) {
        self.word.store(FREE, Relaxed);
        if let Place::Fiber(world, me) = place() {
            let lock = number(&self.number, &world);
            world.unlocked(me, Event::Unlock, lock);
        }
    }

    fn is_locked(&self) -> bool {
        self.word.load(Relaxed) != FREE
    }
}

impl SimRawMutex {
    fn take(&self, holder: u32) -> bool {
        self.word.compare_exchange(FREE, holder, std::sync::atomic::Ordering::Acquire, Relaxed).is_ok()
    }
}

/// The reader-writer lock of a simulated world.
#[derive(Debug)]
pub struct SimRawRwLock {
    word: AtomicU32,
    number: AtomicU32,
}

impl SimRawRwLock {
    fn take_shared(&self) -> bool {
        let word = self.word.load(Relaxed);
        let swap = |word| self.word.compare_exchange(word, word + 1, std::sync::atomic::Ordering::Acquire, Relaxed);
        word < WRITER - 1 && swap(word).is_ok()
    }

    fn take_exclusive(&self) -> bool {
        self.word.compare_exchange(FREE, WRITER, std::sync::atomic::Ordering::Acquire, Relaxed).is_ok()
    }

    /// Dying fibers skip locks they cannot have, and release what they never took: the word must not run below zero.
    fn release_shared(&self) {
        let word = self.word.load(Relaxed);
        self.word.store(if word & WRITER == 0 { word.saturating_sub(1) } else { word }, Relaxed);
    }
}

#[expect(unsafe_code, reason = "lock_api's contract: one writer or many readers")]
// SAFETY: as for `SimRawMutex`: the word changes by compare-and-exchange from a state that allows it.
unsafe impl lock_api::RawRwLock for SimRawRwLock {
    const INIT: SimRawRwLock = SimRawRwLock { word: AtomicU32::new(FREE), number: AtomicU32::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    fn lock_shared(&self) {
        match place() {
            Place::Dying => {}
            Place::Outside | Place::Body(_) => {
                if !self.take_shared() {
                    would_block_outside();
                }
            }
            Place::Fiber(world, me) => {
                world.switch_point(me);
                let lock = number(&self.number, &world);
                let mut waited = 0;
                loop {
                    let kept_out = {
                        let core = world.core.borrow();
                        core.writers_first && core.writer_waits(lock)
                    };
                    if !kept_out && self.take_shared() {
                        break;
                    }
                    waited = 1;
                    world.block_for_lock(me, Reason::Read { lock });
                }
                world.core.borrow_mut().event(Event::ReadLock, u64::from(lock), waited);
            }
        }
    }

    fn try_lock_shared(&self) -> bool {
        match place() {
            Place::Dying => true,
            Place::Outside | Place::Body(_) => self.take_shared(),
            Place::Fiber(world, me) => {
                world.switch_point(me);
                let lock = number(&self.number, &world);
                let taken = self.take_shared();
                world.core.borrow_mut().event(Event::ReadLock, u64::from(lock), 2 + u64::from(taken));
                taken
            }
        }
    }

    unsafe fn unlock_shared(&self) {
        self.release_shared();
        if let Place::Fiber(world, me) = place() {
            let lock = number(&self.number, &world);
            world.unlocked(me, Event::ReadUnlock, lock);
        }
    }

    fn lock_exclusive(&self) {
        match place() {
            Place::Dying => self.word.store(WRITER, Relaxed),
            Place::Outside | Place::Body(_) => {
                if !self.take_exclusive() {
                    would_block_outside();
                }
            }
            Place::Fiber(world, me) => {
                world.switch_point(me);
                let lock = number(&self.number, &world);
                let mut waited = 0;
                while !self.take_exclusive() {
                    waited = 1;
                    world.block_for_lock(me, Reason::Write { lock });
                }
                world.core.borrow_mut().event(Event::Lock, u64::from(lock), waited);
            }
        }
    }

    fn try_lock_exclusive(&self) -> bool {
        match place() {
            Place::Dying => {
                self.word.store(WRITER, Relaxed);
                true
            }
            Place::Outside | Place::Body(_) => self.take_exclusive(),
            Place::Fiber(world, me) => {
                world.switch_point(me);
                let lock = number(&self.number, &world);
                let taken = self.take_exclusive();
                world.core.borrow_mut().event(Event::Lock, u64::from(lock), 2 + u64::from(taken));
                taken
            }
        }
    }

    unsafe fn unlock_exclusive(&self) {
        self.word.store(FREE, Relaxed);
        if let Place::Fiber(world, me) = place() {
            let lock = number(&self.number, &world);
            world.unlocked(me, Event::Unlock, lock);
        }
    }

    fn is_locked(&self) -> bool {
        self.word.load(Relaxed) != FREE
    }
}

/// The condition variable of a simulated world. Wakes without a notification in some seeds.
#[derive(Debug, Default)]
pub struct SimCondvar {
    number: AtomicU32,
}

impl SimCondvar {
    fn wait_until<T>(&self, guard: &mut lock_api::MutexGuard<'_, SimRawMutex, T>, timeout: Option<Duration>) -> bool {
        let (world, me) = match place() {
            Place::Dying => return true,
            Place::Outside | Place::Body(_) => panic!("only a fiber can wait for a condition variable"),
            Place::Fiber(world, me) => (world, me),
        };
        let condvar = number(&self.number, &world);
        let timeout_ns = timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let spurious = {
            let mut core = world.core.borrow_mut();
            core.enqueue(me, condvar);
            let spurious = core.faults.spurious_wakeup();
            let after_ns = spurious.into_iter().chain(timeout_ns).min();
            core.event(Event::Wait, u64::from(condvar), after_ns.unwrap_or(u64::MAX));
            if let Some(after_ns) = after_ns {
                core.set_timer(me, after_ns);
            }
            spurious.is_some_and(|spurious| timeout_ns.is_none_or(|timeout| spurious < timeout))
        };
        lock_api::MutexGuard::unlocked(guard, || {
            while world.core.borrow().threads[me as usize].queued.is_some() {
                world.block(me, Reason::Condvar { condvar });
            }
        });
        let mut core = world.core.borrow_mut();
        let timed_out = core.threads[me as usize].timed_out && !spurious;
        core.event(Event::Woken, u64::from(condvar), u64::from(timed_out));
        timed_out
    }

    fn wake(&self, all: bool) {
        let Place::Fiber(world, me) = place() else { return };
        let condvar = number(&self.number, &world);
        {
            let mut core = world.core.borrow_mut();
            let woken = core.notify(condvar, all);
            let event = if all { Event::NotifyAll } else { Event::Notify };
            core.event(event, u64::from(condvar), woken.map_or(0, |fiber| u64::from(fiber) + 1));
        }
        world.switch_point(me);
    }
}

impl EnvCondvar<SimRawMutex> for SimCondvar {
    fn wait<T>(&self, guard: &mut lock_api::MutexGuard<'_, SimRawMutex, T>) {
        self.wait_until(guard, None);
    }

    fn wait_for<T>(&self, guard: &mut lock_api::MutexGuard<'_, SimRawMutex, T>, timeout: Duration) -> bool {
        self.wait_until(guard, Some(timeout))
    }

    fn notify_one(&self) {
        self.wake(false);
    }

    fn notify_all(&self) {
        self.wake(true);
    }
}

/// A thread of a simulated world.
#[derive(Debug)]
pub struct SimJoin {
    pub(crate) fiber: u32,
    pub(crate) incarnation: u64,
}

impl EnvJoin for SimJoin {
    /// Blocks until the thread has ended. A dying fiber does not wait and learns nothing bad.
    fn join(self) -> bool {
        let Place::Fiber(world, me) = place() else { return true };
        world.switch_point(me);
        loop {
            {
                let mut core = world.core.borrow_mut();
                let thread = &core.threads[self.fiber as usize];
                if core.incarnation != self.incarnation || thread.state == crate::scheduler::State::Ended {
                    let panicked = thread.panicked;
                    core.event(Event::Join, u64::from(self.fiber), u64::from(panicked));
                    return !panicked;
                }
            }
            world.block(me, Reason::Join { fiber: self.fiber });
        }
    }
}
