//! The state of a world's threads: who can run, who waits for what, what time it is; and who runs next.
//!
//! Plain data without control flow: [`crate::world`] owns it in a `RefCell` and never holds the borrow while fibers switch.
//!
//! **Invariants:** a fiber is in `runnable` exactly if its state is `Runnable`; at most one fiber is `Running`; every timer
//! names the `wait` it belongs to and is ignored once that wait is over; time never goes back.

use crate::chooser::{Chooser, Stream, roll, roll_at};
use crate::config::{Schedule, Switch, WorldConfig};
use crate::fault::Faults;
use crate::fiber::Fiber;
use crate::trace::{Event, Trace};
use aidb::base::hash::Map;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// What a fiber blocks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Lock { lock: u32, owner: u32 },
    Read { lock: u32 },
    Write { lock: u32 },
    Condvar { condvar: u32 },
    Join { fiber: u32 },
    Sleep,
    Disk,
    Archive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Runnable,
    Running,
    Blocked(Reason),
    Ended,
}

/// One simulated thread.
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) fiber: Option<Fiber>,
    pub(crate) state: State,
    pub(crate) panicked: bool,
    /// Counts the fiber's waits; a timer of an earlier wait is stale.
    pub(crate) wait: u64,
    /// The condition variable it waits for, from before it unlocks, and its place in the queue.
    pub(crate) queued: Option<(u32, u64)>,
    pub(crate) timed_out: bool,
    priority: u64,
}

enum Policy {
    Calm,
    Random { one_in: u64 },
    Priority { changes: Vec<u64>, lowest: u64 },
    Explicit { switches: Vec<Switch>, next: usize },
}

/// Why the world stops running fibers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Crash,
    Violation,
}

/// A timer: when, tie-break, which thread, which of its waits.
type Timer = Reverse<(u64, u64, u32, u64)>;

pub(crate) struct Core {
    seed: u64,
    pub(crate) trace: Trace,
    pub(crate) chooser: Chooser,
    pub(crate) faults: Faults,
    pub(crate) threads: Vec<Thread>,
    runnable: Vec<u32>,
    pub(crate) current: Option<u32>,
    pub(crate) chosen: Option<u32>,
    timers: BinaryHeap<Timer>,
    timer_count: u64,
    pub(crate) now_ns: u64,
    tick_ns: u64,
    pub(crate) points: u64,
    steps_max: u64,
    pub(crate) stop: Option<Stop>,
    policy: Policy,
    record_switches: bool,
    pub(crate) switches: Vec<Switch>,
    pub(crate) names_given: u32,
    queue_count: u64,
    pub(crate) waiting_on_locks: u32,
    /// Whether a waiting writer keeps new readers out.
    pub(crate) writers_first: bool,
    pub(crate) wall_start_us: u64,
    pub(crate) wall_offset_us: i64,
    pub(crate) wall_peak_us: u64,
    /// The latest time that the database under test is known to have seen.
    pub(crate) wall_seen_us: u64,
    pub(crate) marks: BTreeSet<&'static str>,
    pub(crate) incarnation: u64,
    buggify_calls: Map<&'static str, u64>,
    faults_traced: usize,
}

impl Core {
    pub(crate) fn new(config: &WorldConfig) -> Core {
        let seed = config.seed;
        let mut switches: Vec<Switch> = Vec::new();
        let policy = match &config.schedule {
            Schedule::BySeed => policy_by_seed(seed),
            Schedule::Calm => Policy::Calm,
            Schedule::Random { one_in } => Policy::Random { one_in: u64::from((*one_in).max(1)) },
            Schedule::Priority { changes, horizon } => priority_policy(seed, *changes, *horizon),
            Schedule::Explicit(list) => {
                switches.clone_from(list);
                switches.sort_unstable();
                Policy::Explicit { switches: std::mem::take(&mut switches), next: 0 }
            }
        };
        Core {
            seed,
            trace: Trace::new(config.record_trace),
            chooser: Chooser::new(seed, &config.chooser),
            faults: Faults::new(config),
            threads: Vec::new(),
            runnable: Vec::new(),
            current: None,
            chosen: None,
            timers: BinaryHeap::new(),
            timer_count: 0,
            now_ns: 0,
            tick_ns: [40, 100, 250, 1000, 10_000][roll(seed, "tick", 0) as usize % 5],
            points: 0,
            steps_max: config.steps_max,
            stop: None,
            policy,
            record_switches: config.record_switches,
            switches,
            names_given: 0,
            queue_count: 0,
            waiting_on_locks: 0,
            writers_first: roll(seed, "writers first", 0) & 1 == 0,
            wall_start_us: 1_700_000_000_000_000 + roll(seed, "wall", 0) % 100_000_000_000_000,
            wall_offset_us: 0,
            wall_peak_us: 0,
            wall_seen_us: 0,
            marks: BTreeSet::new(),
            incarnation: 0,
            buggify_calls: Map::default(),
            faults_traced: 0,
        }
    }

    /// Adds an event of the running fiber.
    #[inline]
    pub(crate) fn event(&mut self, event: Event, a: u64, b: u64) {
        self.trace.add(self.now_ns, self.current, event, (a, b), String::new);
    }

    /// Adds an event with a name for the eye.
    #[inline]
    pub(crate) fn event_named(&mut self, event: Event, a: u64, b: u64, note: impl FnOnce() -> String) {
        self.trace.add(self.now_ns, self.current, event, (a, b), note);
    }

    /// Adds an event for each fault that fired since the last time.
    #[inline]
    pub(crate) fn trace_faults(&mut self) {
        while let Some(fired) = self.faults.fired.get(self.faults_traced).copied() {
            self.faults_traced += 1;
            let text = || format!("{fired:?}");
            self.trace.add(self.now_ns, self.current, Event::Fault, (self.faults_traced as u64, fired.hash()), text);
        }
    }

    pub(crate) fn add_thread(&mut self, name: String, fiber: Fiber) -> u32 {
        let id = u32::try_from(self.threads.len()).expect("fewer than 2^32 threads");
        let priority = roll(self.seed, "priority", u64::from(id)) | 1 << 63;
        self.threads.push(Thread {
            name,
            fiber: Some(fiber),
            state: State::Runnable,
            panicked: false,
            wait: 0,
            queued: None,
            timed_out: false,
            priority,
        });
        self.runnable.push(id);
        id
    }

    /// Makes time pass at a switch point of the running fiber `me`; returns the fiber to run instead, if another one.
    ///
    /// A fiber that `yields` spins: without a decision to the contrary the one that has waited longest goes first.
    #[inline]
    pub(crate) fn step(&mut self, me: u32, yields: bool) -> Option<u32> {
        self.points += 1;
        self.now_ns += self.tick_ns;
        if self.timers.peek().is_some_and(|Reverse(timer)| timer.0 <= self.now_ns) {
            self.fire_timers();
        }
        if self.runnable.is_empty() {
            return None;
        }
        let calm = if yields { Some(0) } else { None };
        let position = match self.decide(me, calm) {
            Some(position) => position,
            None => {
                if yields {
                    self.record(me);
                }
                return None;
            }
        };
        let to = self.take_runnable(position);
        if Some(position) != calm {
            self.record(to);
        }
        self.threads[me as usize].state = State::Runnable;
        self.runnable.push(me);
        self.chosen = Some(to);
        Some(to)
    }

    /// Returns which runnable fiber goes before the running one, `me`; `calm` is the answer of a calm schedule.
    #[inline]
    fn decide(&mut self, me: u32, calm: Option<usize>) -> Option<usize> {
        match &mut self.policy {
            Policy::Calm => calm,
            Policy::Random { one_in } => {
                if *one_in > 1 && calm.is_none() && !self.chooser.one_in(Stream::Scheduler, *one_in) {
                    return None;
                }
                let others = self.runnable.len() as u64;
                (self.chooser.below(Stream::Scheduler, others + 1) as usize).checked_sub(1)
            }
            Policy::Priority { changes, lowest } => {
                let drops = changes.last().is_some_and(|at| *at <= self.points);
                if drops {
                    changes.pop();
                }
                if drops || calm.is_some() {
                    *lowest -= 1;
                    self.threads[me as usize].priority = *lowest;
                }
                let position = self.highest();
                let candidate = &self.threads[self.runnable[position] as usize];
                (candidate.priority > self.threads[me as usize].priority).then_some(position)
            }
            Policy::Explicit { switches, next } => match explicit_choice(switches, next, self.points) {
                None => calm,
                Some(to) if to == me => None,
                Some(to) => self.runnable.iter().position(|fiber| *fiber == to).or(calm),
            },
        }
    }

    /// Returns the fiber to run when the last one blocked or ended.
    pub(crate) fn pick(&mut self) -> Option<u32> {
        if let Some(chosen) = self.chosen.take() {
            return Some(chosen);
        }
        if self.runnable.is_empty() {
            return None;
        }
        self.points += 1;
        let position = match &mut self.policy {
            Policy::Calm => 0,
            Policy::Random { .. } => self.chooser.below(Stream::Scheduler, self.runnable.len() as u64) as usize,
            Policy::Priority { .. } => self.highest(),
            Policy::Explicit { switches, next } => explicit_choice(switches, next, self.points)
                .and_then(|to| self.runnable.iter().position(|fiber| *fiber == to))
                .unwrap_or(0),
        };
        let to = self.take_runnable(position);
        if position != 0 {
            self.record(to);
        }
        Some(to)
    }

    fn highest(&self) -> usize {
        let priority = |position: usize| self.threads[self.runnable[position] as usize].priority;
        (0..self.runnable.len()).max_by_key(|position| priority(*position)).expect("somebody can run")
    }

    fn take_runnable(&mut self, position: usize) -> u32 {
        let fiber = self.runnable.remove(position);
        assert_eq!(self.threads[fiber as usize].state, State::Runnable, "the list of runnable fibers is wrong");
        fiber
    }

    fn record(&mut self, to: u32) {
        if self.record_switches {
            self.switches.push(Switch { at: self.points, to });
        }
    }

    /// Begins a wait of `fiber`; earlier timers of it are stale from here.
    pub(crate) fn begin_wait(&mut self, fiber: u32) {
        let thread = &mut self.threads[fiber as usize];
        thread.wait += 1;
        thread.timed_out = false;
    }

    /// Sets a timer for the current wait of `fiber`.
    pub(crate) fn set_timer(&mut self, fiber: u32, after_ns: u64) {
        self.timer_count += 1;
        let at = self.now_ns.saturating_add(after_ns);
        self.timers.push(Reverse((at, self.timer_count, fiber, self.threads[fiber as usize].wait)));
    }

    fn fire_timers(&mut self) {
        while let Some(Reverse((at, _, fiber, wait))) = self.timers.peek().copied() {
            if at > self.now_ns {
                break;
            }
            self.timers.pop();
            let thread = &mut self.threads[fiber as usize];
            if thread.wait == wait && thread.state != State::Ended {
                thread.wait += 1;
                thread.timed_out = true;
                thread.queued = None;
                self.wake(fiber);
            }
        }
    }

    /// Jumps to the next timer that still means something; returns false if there is none.
    pub(crate) fn advance(&mut self) -> bool {
        while let Some(Reverse((at, _, fiber, wait))) = self.timers.peek().copied() {
            if self.threads[fiber as usize].wait == wait && self.threads[fiber as usize].state != State::Ended {
                self.now_ns = self.now_ns.max(at);
                self.fire_timers();
                return true;
            }
            self.timers.pop();
        }
        false
    }

    /// Makes a blocked fiber runnable.
    pub(crate) fn wake(&mut self, fiber: u32) {
        let thread = &mut self.threads[fiber as usize];
        if matches!(thread.state, State::Blocked(_)) {
            thread.state = State::Runnable;
            self.runnable.push(fiber);
        }
    }

    /// Wakes every fiber that blocks for a reason that `is_it` accepts.
    pub(crate) fn wake_all(&mut self, is_it: impl Fn(Reason) -> bool) {
        for fiber in 0..self.threads.len() {
            if let State::Blocked(reason) = self.threads[fiber].state
                && is_it(reason)
            {
                self.wake(fiber as u32);
            }
        }
    }

    /// Puts `fiber` in the queue of `condvar`.
    pub(crate) fn enqueue(&mut self, fiber: u32, condvar: u32) {
        self.queue_count += 1;
        self.begin_wait(fiber);
        self.threads[fiber as usize].queued = Some((condvar, self.queue_count));
    }

    /// Takes one fiber, or all, out of the queue of `condvar`; returns the last one taken.
    pub(crate) fn notify(&mut self, condvar: u32, all: bool) -> Option<u32> {
        let mut waiting: Vec<(u64, u32)> = Vec::new();
        for (fiber, thread) in self.threads.iter().enumerate() {
            if let Some((queue, ticket)) = thread.queued
                && queue == condvar
                && thread.state != State::Ended
            {
                waiting.push((ticket, fiber as u32));
            }
        }
        if waiting.is_empty() {
            return None;
        }
        waiting.sort_unstable();
        if !all {
            let which = self.faults.notified(waiting.len());
            waiting = vec![waiting[which]];
        }
        for (_, fiber) in &waiting {
            let thread = &mut self.threads[*fiber as usize];
            thread.queued = None;
            thread.wait += 1;
            self.wake(*fiber);
        }
        waiting.last().map(|(_, fiber)| *fiber)
    }

    pub(crate) fn out_of_steps(&self) -> bool {
        self.points > self.steps_max
    }

    pub(crate) fn wall_us(&self) -> u64 {
        let elapsed = i128::from(self.now_ns / 1000);
        let drift = elapsed * i128::from(self.faults.config.wall_drift_ppm) / 1_000_000;
        let wall = i128::from(self.wall_start_us) + elapsed + drift + i128::from(self.wall_offset_us);
        u64::try_from(wall.max(0)).expect("dates fit 64 bits of microseconds")
    }

    /// Counts the calls of a `buggify` site; the first is 1.
    pub(crate) fn buggify_call(&mut self, site: &'static str) -> u64 {
        let calls = self.buggify_calls.entry(site).or_default();
        *calls += 1;
        *calls
    }

    /// Returns whether any fiber waits to write under `lock`.
    pub(crate) fn writer_waits(&self, lock: u32) -> bool {
        self.waiting_on_locks > 0
            && self.threads.iter().any(|thread| thread.state == State::Blocked(Reason::Write { lock }))
    }

    /// Names each fiber that has not ended, and what it blocks on.
    pub(crate) fn describe_alive(&self) -> String {
        let mut text = Vec::new();
        for (id, thread) in self.threads.iter().enumerate() {
            let name =
                |fiber: u32| self.threads.get(fiber as usize).map_or("the harness", |thread| &thread.name).to_owned();
            let what = match thread.state {
                State::Ended => continue,
                State::Runnable | State::Running => "can run".to_owned(),
                State::Blocked(Reason::Lock { lock, owner }) => {
                    format!("waits for mutex {lock} held by {owner} '{}'", name(owner))
                }
                State::Blocked(Reason::Read { lock }) => format!("waits to read under lock {lock}"),
                State::Blocked(Reason::Write { lock }) => format!("waits to write under lock {lock}"),
                State::Blocked(Reason::Condvar { condvar }) => format!("waits for condition variable {condvar}"),
                State::Blocked(Reason::Join { fiber }) => format!("joins {fiber} '{}'", name(fiber)),
                State::Blocked(Reason::Sleep) => "sleeps".to_owned(),
                State::Blocked(Reason::Disk) => "waits for the disk".to_owned(),
                State::Blocked(Reason::Archive) => "waits for the archive".to_owned(),
            };
            text.push(format!("{id} '{}' {what}", thread.name));
        }
        text.join("; ")
    }

    pub(crate) fn alive(&self) -> usize {
        self.threads.iter().filter(|thread| thread.state != State::Ended).count()
    }

    /// Forgets everything that waits; the fibers were killed.
    pub(crate) fn forget_waiting(&mut self) {
        self.runnable.clear();
        self.timers.clear();
        (self.current, self.chosen, self.stop) = (None, None, None);
        self.waiting_on_locks = 0;
        for thread in &mut self.threads {
            thread.state = State::Ended;
            thread.queued = None;
        }
    }
}

fn explicit_choice(switches: &[Switch], next: &mut usize, point: u64) -> Option<u32> {
    while switches.get(*next).is_some_and(|switch| switch.at < point) {
        *next += 1;
    }
    switches.get(*next).filter(|switch| switch.at == point).map(|switch| switch.to)
}

fn policy_by_seed(seed: u64) -> Policy {
    let bits = roll(seed, "policy", 0);
    match bits % 8 {
        0 => Policy::Calm,
        1..=5 => Policy::Random { one_in: [1, 2, 5, 20, 100][(bits >> 8) as usize % 5] },
        _ => priority_policy(seed, 1 + (bits >> 8) as u32 % 6, [500, 5_000, 50_000][(bits >> 16) as usize % 3]),
    }
}

fn priority_policy(seed: u64, changes: u32, horizon: u64) -> Policy {
    let site = roll(seed, "priority changes", 0);
    let mut at: Vec<u64> = (0..u64::from(changes)).map(|index| roll_at(site, index) % horizon.max(1)).collect();
    at.sort_unstable_by_key(|at| Reverse(*at));
    Policy::Priority { changes: at, lowest: 1 << 62 }
}
