//! What outlives the simulated process: the evidence, how far each client is, and what went wrong.
//!
//! Shared between the fibers of a run and its body, which all live on one OS thread. It is never borrowed across an operation of
//! the environment.
//!
//! A [`Subject`] is what a profile tests. It brings its own evidence and its own process; plan, progress and complaints are the
//! same for all and live here.

use super::Counts;
use super::steps::{Segment, StepId, Work, segments};
use crate::check::errors::Complaint;
use crate::check::evidence::{Stop, Time};
use crate::{Harness, SimEnv, Violation};
use aidb::env::{Env, EnvJoin};
use aidb::{Error, ErrorKind, Result};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How many steps a client still tries after a write failed.
const STEPS_AFTER_TROUBLE: u32 = 2;
/// How often something is tried again that may fail for a moment.
pub(super) const ATTEMPTS: u32 = 6;

/// How a process of `S` ends.
pub(super) type End<S> = <<S as Subject>::Workload as Work>::End;
/// What a client of `S` does.
pub(super) type Op<S> = <<S as Subject>::Workload as Work>::Op;

/// What a profile tests, and the parts of a run that are its own.
pub(super) trait Subject: Sized + 'static {
    /// What is asked of it.
    type Workload: Work;
    /// What its clients asked for and were told.
    type History;
    /// What else does not change in a run.
    type Fixed;
    /// What else changes in a run.
    type Own;

    /// What it is called in messages.
    const NAME: &'static str;
    /// How often a process opens it, after failures.
    const OPENINGS_MAX: u32;

    /// Returns how a run of `workload` begins.
    fn begin(workload: &Self::Workload) -> (Self::Fixed, Self::History, Self::Own);

    /// Returns the next moment.
    fn tick(history: &mut Self::History) -> Time;

    /// Takes in that an error was returned.
    fn complained(_state: &mut State<Self>, _error: &Error) {}

    /// Opens it, has it judged, serves the clients, lets go; returns whether the process has nothing left to do.
    fn serve_once(env: &SimEnv, shared: &Shared<Self>) -> bool;

    /// Whether a process that is not done opens it again itself, and leaves that not to another process.
    fn same_process(state: &State<Self>) -> bool;

    /// Runs the last incarnation: no faults, everything is read and checked, and `finished` is set.
    fn finish(env: &SimEnv, shared: &Shared<Self>);

    /// Does what happens between a process that ended as it should and the next one.
    fn between(_harness: &mut Harness, _shared: &Shared<Self>, _end: End<Self>) {}

    /// Does what happens before the last incarnation, when the faults have stopped.
    fn before_last() {}

    /// Takes in how an incarnation ended; returns what is wrong unless something was damaged.
    fn survived(state: &mut State<Self>, harness: &Harness) -> Option<Violation>;

    /// Whether files were damaged by hand.
    fn tampered(_state: &State<Self>) -> bool {
        false
    }

    /// Whether something else than damage on the disk explains that it does not come back.
    fn excused(_state: &State<Self>) -> bool {
        false
    }

    /// Looks at the files after the last incarnation, if that read everything.
    fn look_at_files(_harness: &mut Harness, _shared: &Shared<Self>) {}

    /// Returns a hash of the content.
    fn state_hash(state: &State<Self>) -> u64;
}

/// What does not change in a run.
pub(super) struct Plan<S: Subject> {
    pub(super) workload: S::Workload,
    pub(super) segments: Vec<Segment<Op<S>, End<S>>>,
    pub(super) fixed: S::Fixed,
}

/// What changes in a run.
pub(super) struct State<S: Subject> {
    pub(super) history: S::History,
    /// The worst stop since the content was last established.
    pub(super) stop: Option<Stop>,
    pub(super) segment: usize,
    /// How many steps of the segment each client has begun.
    begun: Vec<usize>,
    pub(super) violation: Option<Violation>,
    /// When a write first failed in this opening.
    pub(super) trouble: Option<Time>,
    pub(super) complaints: Vec<Complaint>,
    /// Whether damage keeps it from being opened or read.
    pub(super) unavailable: bool,
    /// Whether the last opening could read everything.
    pub(super) finished: bool,
    /// Faults so far that make syncs fail.
    pub(super) sync_failures: usize,
    pub(super) counts: Counts,
    pub(super) own: S::Own,
}

/// The plan and the state of a run.
pub(super) struct Shared<S: Subject>(Rc<Inner<S>>);

struct Inner<S: Subject> {
    plan: Plan<S>,
    state: RefCell<State<S>>,
}

impl<S: Subject> Clone for Shared<S> {
    fn clone(&self) -> Shared<S> {
        Shared(Rc::clone(&self.0))
    }
}

impl<S: Subject> Shared<S> {
    pub(super) fn new(workload: &S::Workload) -> Shared<S> {
        let (fixed, history, own) = S::begin(workload);
        let plan = Plan { workload: workload.clone(), segments: segments(workload), fixed };
        let state = State {
            history,
            stop: None,
            segment: 0,
            begun: vec![0; plan.segments[0].clients.len()],
            violation: None,
            trouble: None,
            complaints: Vec::new(),
            unavailable: false,
            finished: false,
            sync_failures: 0,
            counts: Counts::default(),
            own,
        };
        Shared(Rc::new(Inner { plan, state: RefCell::new(state) }))
    }

    pub(super) fn plan(&self) -> &Plan<S> {
        &self.0.plan
    }

    /// Runs `body` on the state.
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut State<S>) -> R) -> R {
        body(&mut self.0.state.borrow_mut())
    }

    pub(super) fn tick(&self) -> Time {
        self.with(|state| S::tick(&mut state.history))
    }

    /// Records a violation; the first one counts.
    pub(super) fn fail(&self, kind: &str, message: String) {
        self.with(|state| {
            state.violation.get_or_insert_with(|| Violation { kind: kind.into(), message });
        });
    }

    pub(super) fn failed(&self) -> bool {
        self.with(|state| state.violation.is_some())
    }

    /// Notes an error that was returned; whether a fault explains it is judged when the run is over.
    pub(super) fn complain(&self, what: impl FnOnce() -> String, error: &Error) {
        self.with(|state| {
            state.complaints.push(Complaint::new(what(), error));
            S::complained(state, error);
        });
    }

    /// Notes that a write failed: the clients stop soon.
    pub(super) fn in_trouble(&self) {
        self.with(|state| {
            let at = S::tick(&mut state.history);
            state.trouble.get_or_insert(at);
        });
    }

    /// Runs one incarnation: the steps of the current segment that were not begun.
    ///
    /// After a failed write it is closed and opened again, by another process or by the same one: what a failed sync lost is still
    /// seen by the process that met it, and gone for the next.
    pub(super) fn serve(&self, env: &SimEnv) {
        for opening in 1.. {
            let done = S::serve_once(env, self);
            let again = opening < S::OPENINGS_MAX && self.with(|state| S::same_process(state) && !state.unavailable);
            if done || self.failed() || !again {
                return;
            }
        }
    }

    /// Runs every client in a fiber of its own; `client` builds one from its number.
    pub(super) fn run_clients<F: FnOnce() + 'static>(&self, env: &SimEnv, client: impl Fn(usize) -> F) {
        let clients = self.plan().segments[0].clients.len();
        let joins: Vec<_> =
            (0..clients).map(|number| env.spawn_local(format!("client {number}"), client(number))).collect();
        for join in joins {
            join.join();
        }
    }

    /// Runs the steps of a client in the current segment that were not begun yet.
    pub(super) fn each_step(&self, client: usize, mut step: impl FnMut(StepId, &Op<S>)) {
        let mut troubled = 0;
        loop {
            let next = self.with(|state| {
                if state.violation.is_some() || troubled > STEPS_AFTER_TROUBLE {
                    return None;
                }
                troubled += u32::from(state.trouble.is_some());
                let step = self.plan().segments[state.segment].clients[client].get(state.begun[client])?;
                state.begun[client] += 1;
                state.counts.operations += 1;
                Some(step)
            });
            let Some((id, op)) = next else { return };
            step(*id, op);
        }
    }

    /// Returns how the current segment ends, and whether all its steps were begun.
    pub(super) fn ending(&self) -> (End<S>, bool) {
        self.with(|state| {
            let segment = &self.plan().segments[state.segment];
            let begun = |(steps, begun): (&Vec<_>, &usize)| *begun >= steps.len();
            (segment.end, segment.clients.iter().zip(&state.begun).all(begun))
        })
    }

    /// Goes on to the next segment.
    pub(super) fn next_segment(&self) {
        self.with(|state| {
            state.segment += 1;
            state.begun.fill(0);
        });
    }

    /// Tries something until it succeeds; errors are complained of, and one that is `lasting` is the end.
    pub(super) fn try_again<T>(
        &self,
        env: &SimEnv,
        what: &str,
        lasting: impl Fn(&Error) -> bool,
        mut call: impl FnMut() -> Result<T>,
    ) -> Option<T> {
        for _ in 0..ATTEMPTS {
            match call() {
                Ok(done) => return Some(done),
                Err(error) => {
                    self.complain(|| what.into(), &error);
                    if lasting(&error) {
                        self.with(|state| state.unavailable = true);
                        return None;
                    }
                }
            }
            env.sleep(Duration::from_millis(10));
        }
        None
    }

    /// Notes that the process let go of it: after a close with this answer, or without one. Returns whether it was closed.
    pub(super) fn left(&self, closed: Option<Result<()>>, promised: impl FnOnce(&mut State<S>)) -> bool {
        let mut stop = Stop::Process;
        match closed {
            Some(Ok(())) => {
                stop = Stop::Close;
                self.with(promised);
            }
            Some(Err(error)) => self.complain(|| "close".into(), &error),
            None => {}
        }
        self.with(|state| state.stop = state.stop.max(Some(stop)));
        stop == Stop::Close
    }
}

/// Whether an error of an opening lasts: nothing that the disk or the archive did for a moment explains it.
pub(super) fn lasting(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned | ErrorKind::Remote)
}
