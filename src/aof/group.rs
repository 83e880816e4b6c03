//! Group commit: who leads, who waits, and for whom the leader waits: [`Group`].
//!
//! Called by [`Log::sync_for`](super::Log::sync_for) on the threads of the log's callers.
//!
//! Threads that need a sync *join* the generation that gathers. One of them leads: it closes the generation, makes
//! everything durable that was appended by then, and releases it. Who joins meanwhile is of the next generation.
//!
//! **Gathering.** A generation is complete when as many have joined as the last sync served and found waiting: those whom
//! it released come back within microseconds, and a sync takes a hundred. Who completes it leads at once. If somebody
//! stays away, the first who found nobody leading does so after as long as a sync takes, at most [`GATHER_MAX`]; then
//! generations are not gathered for a while, longer each time up to [`PAUSE_MAX`] of them, until one gets complete.
//!
//! **Invariants**
//! - A generation has one leader, and nobody leads while another does.
//! - Where threads have joined and none leads, one of them has been appointed to lead at some time.
//! - A generation is released when everything its threads had appended is durable, or the log refuses everything.
//!
//! **No wake-up is lost:** each thread waits in a seat with a lock of its own, so that those who are released do not queue
//! up for one, and what it waits for is a number that is set under that lock and only grows.

use crate::env::{Condvar, Env, EnvCondvar, Mutex};
use std::time::Duration;

/// Seats of a generation; with more threads some share one.
const SEATS: usize = 32;
/// The longest time that a leader waits for its group.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// How many generations at most are not gathered after one that did not get complete.
const PAUSE_MAX: u32 = 64;

/// The threads that need a sync.
pub(super) struct Group<E: Env> {
    state: Mutex<E, State>,
    /// Of even and odd generations: at most two are waited in at a time.
    seats: [[Seat<E>; SEATS]; 2],
}

struct State {
    /// The one that gathers. Those before are being served, or were.
    generation: u64,
    /// How many have joined it.
    joined: u64,
    /// How many make it complete.
    expected: u64,
    led: bool,
    /// Somebody has been appointed.
    appointed: bool,
    /// How long recent syncs took, about.
    sync_time: Duration,
    /// Generations that are still not gathered, and how many were to be.
    pause: u32,
    pauses: u32,
}

impl State {
    fn is_complete(&self) -> bool {
        self.pause > 0 || self.joined >= self.expected
    }

    /// How long who waits first waits for the others.
    fn patience(&self) -> Duration {
        self.sync_time.min(GATHER_MAX)
    }

    fn lead(&mut self) -> Turn {
        self.led = true;
        self.appointed = false;
        Turn::Lead
    }
}

/// Where some of the threads of a generation wait.
struct Seat<E: Env> {
    calls: Mutex<E, Calls>,
    called: Condvar<E>,
}

/// What the threads in a seat are told.
#[derive(Default)]
struct Calls {
    /// The last generation that was released.
    released: u64,
    /// The last generation of which a thread here was appointed, unless one has taken it up.
    appointed: u64,
}

/// What a thread that joined is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Lead, and call [`Group::end`] whatever happens.
    Lead,
    /// Look again: its generation was released.
    Released,
}

enum Call {
    Released,
    Appointed,
    Late,
}

/// Where a thread waits.
#[derive(Clone, Copy)]
struct Place {
    generation: u64,
    number: u64,
}

impl<E: Env> Default for Group<E> {
    fn default() -> Group<E> {
        let seat = |_| Seat { calls: Mutex::<E, _>::new(Calls::default()), called: Condvar::<E>::default() };
        let state = State {
            generation: 1,
            joined: 0,
            expected: 1,
            led: false,
            appointed: false,
            sync_time: Duration::ZERO,
            pause: 0,
            pauses: 0,
        };
        Group { state: Mutex::<E, _>::new(state), seats: [(); 2].map(|()| std::array::from_fn(seat)) }
    }
}

impl<E: Env> Group<E> {
    /// Joins the generation that gathers, and returns when the caller is to lead it or when it was released.
    pub(super) fn join(&self, env: &E) -> Turn {
        let (place, mut patience) = {
            let mut state = self.state.lock();
            let place = Place { generation: state.generation, number: state.joined };
            state.joined += 1;
            if !state.led && state.is_complete() {
                return state.lead();
            }
            let first = !state.led && !state.appointed;
            state.appointed |= first;
            (place, first.then(|| state.patience()))
        };
        loop {
            let call = self.wait(env, place, patience);
            if matches!(call, Call::Released) {
                return Turn::Released;
            }
            let mut state = self.state.lock();
            patience = None;
            if !state.led && state.generation == place.generation {
                if matches!(call, Call::Late) || state.is_complete() {
                    return state.lead();
                }
                patience = Some(state.patience());
            }
        }
    }

    /// Waits for a call, or for `patience`.
    fn wait(&self, env: &E, place: Place, patience: Option<Duration>) -> Call {
        let seat = self.seat(place.generation, place.number);
        let until = patience.map(|patience| env.now().after(patience));
        let mut calls = seat.calls.lock();
        loop {
            if calls.released >= place.generation {
                return Call::Released;
            }
            if calls.appointed == place.generation {
                calls.appointed = 0;
                return Call::Appointed;
            }
            match until.map(|until| until.since(env.now())) {
                None => seat.called.wait(&mut calls),
                Some(left) if left.is_zero() => return Call::Late,
                Some(left) => {
                    seat.called.wait_for(&mut calls, left);
                }
            }
        }
    }

    /// Closes the generation of the caller, who leads; what was appended before the call is what it is to make durable.
    /// Returns how many threads it has.
    pub(super) fn close(&self) -> u64 {
        let mut state = self.state.lock();
        let joined = std::mem::take(&mut state.joined);
        state.generation += 1;
        if state.pause > 0 {
            state.pause -= 1;
        } else if joined < state.expected {
            state.pauses = (2 * state.pauses).clamp(1, PAUSE_MAX);
            state.pause = state.pauses;
        } else if joined > 1 {
            state.pauses = 0;
        }
        joined
    }

    /// Ends the caller's lead and releases its generation of `served` threads; the sync took `time`.
    pub(super) fn end(&self, served: u64, time: Duration) {
        let (closed, waiting) = {
            let mut state = self.state.lock();
            state.led = false;
            state.sync_time = (state.sync_time * 3 + time) / 4;
            state.expected = (served + state.joined).max(1);
            state.appointed = state.joined > 0;
            (state.generation - 1, state.appointed)
        };
        if waiting {
            self.call(closed + 1, 0, |calls| calls.appointed = closed + 1);
        }
        for number in 0..served.min(SEATS as u64) {
            self.call(closed, number, |calls| calls.released = closed);
        }
    }

    fn call(&self, generation: u64, number: u64, say: impl FnOnce(&mut Calls)) {
        let seat = self.seat(generation, number);
        say(&mut seat.calls.lock());
        seat.called.notify_all();
    }

    fn seat(&self, generation: u64, number: u64) -> &Seat<E> {
        &self.seats[(generation % 2) as usize][number as usize % SEATS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{EnvJoin, StdEnv};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    struct Shared {
        group: Group<StdEnv>,
        appended: AtomicU64,
        durable: AtomicU64,
        leading: AtomicBool,
    }

    /// Appends and waits so many times, as callers of the log do.
    fn work(shared: &Shared, appends: u64) {
        for _ in 0..appends {
            let own = shared.appended.fetch_add(1, Ordering::SeqCst) + 1;
            while shared.durable.load(Ordering::SeqCst) < own {
                match shared.group.join(&StdEnv) {
                    Turn::Released => assert!(shared.durable.load(Ordering::SeqCst) >= own, "released too early"),
                    Turn::Lead => {
                        assert!(!shared.leading.swap(true, Ordering::SeqCst), "two lead");
                        let served = shared.group.close();
                        let target = shared.appended.load(Ordering::SeqCst);
                        shared.durable.fetch_max(target, Ordering::SeqCst);
                        shared.leading.store(false, Ordering::SeqCst);
                        shared.group.end(served, Duration::from_micros(50));
                    }
                }
            }
        }
    }

    fn run(threads: usize, appends: u64) {
        let shared = Arc::new(Shared::default());
        let start = |_| {
            let shared = Arc::clone(&shared);
            StdEnv.spawn("appender", move || work(&shared, appends)).unwrap()
        };
        let started: Vec<_> = (0..threads).map(start).collect();
        assert!(started.into_iter().all(EnvJoin::join), "a thread panicked");
    }

    #[test]
    fn who_is_released_is_durable_and_one_leads() {
        for threads in [1, 2, 3, 40] {
            run(threads, 2_000 / threads as u64);
        }
    }

    #[test]
    fn nobody_waits_for_one_who_stays_away() {
        let group = Group::<StdEnv>::default();
        let lead = |served| {
            assert_eq!((group.join(&StdEnv), group.close()), (Turn::Lead, 1));
            group.end(served, Duration::from_micros(10));
        };
        // The second waits for a thread that the first pretends to have served; then that one is not expected any more.
        lead(2);
        lead(1);
        assert_eq!(group.state.lock().pauses, 1);
        (0..10).for_each(|_| lead(1));
        assert_eq!(group.state.lock().pauses, 1);
        // Who is missed again and again is waited for less and less often.
        (0..200).for_each(|_| lead(2));
        assert_eq!(group.state.lock().pauses, PAUSE_MAX);
    }
}
