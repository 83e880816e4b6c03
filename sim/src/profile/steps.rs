//! Steps: what the clients of a run do, whatever the operations of a profile are. Plain data, all of it shrinkable.
//!
//! Steps run in order for each client and concurrently between clients; [`Step::Reopen`] is a barrier. After a crash each client
//! goes on behind the step that it was in, so every step runs at most once and everything written is unique.
//!
//! A profile names its operations and its endings and implements [`Work`]; the rest (counting, taking away, cutting into
//! segments) is here.

use crate::chooser::Salted;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a step, by which what it wrote is known.
pub type StepId = u32;

/// One line of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step<Op, End> {
    /// Something that a client does.
    Client {
        /// Its number; stays when other steps are taken away.
        id: StepId,
        /// Which client.
        client: u8,
        /// What.
        op: Op,
    },
    /// All clients stop, the process ends and is started again.
    Reopen(End),
}

impl<Op: fmt::Debug, End: fmt::Debug> fmt::Display for Step<Op, End> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Client { id, client, op } => write!(f, "step {id}, client {client}: {op:?}"),
            Step::Reopen(end) => write!(f, "reopen: {end:?}"),
        }
    }
}

/// How a process ends when nothing kills it.
pub trait Ending: Copy + Default + fmt::Debug {
    /// Whether what it serves is closed in order, or just dropped.
    fn close(self) -> bool;
    /// Whether the power goes before the next start.
    fn power_loss(self) -> bool;
}

/// A profile's workload: options of its own, and steps.
pub trait Work: Clone + 'static {
    /// What one client does at once.
    type Op: Clone + fmt::Debug;
    /// How a process ends.
    type End: Ending;

    /// Returns the steps.
    fn steps(&self) -> &[Step<Self::Op, Self::End>];

    /// Returns the steps, to change them.
    fn steps_mut(&mut self) -> &mut Vec<Step<Self::Op, Self::End>>;

    /// Returns this workload with step `at` made smaller, in each way that is known.
    fn smaller(&self, at: usize) -> Vec<Self>;

    /// Returns this workload with one thing of the whole made plainer, in each way that is known.
    fn plainer(&self) -> Vec<Self>;

    /// Says in a few words what it works on.
    fn subject(&self) -> String;

    /// Returns how many clients there are.
    fn clients(&self) -> u8 {
        let clients = self.steps().iter().filter_map(|step| match step {
            Step::Client { client, .. } => Some(client + 1),
            Step::Reopen(_) => None,
        });
        clients.max().unwrap_or(0)
    }

    /// Gives the steps of client `from` to client `to`.
    fn merge_client(&mut self, from: u8, to: u8) {
        for step in self.steps_mut() {
            match step {
                Step::Client { client, .. } if *client == from => *client = to,
                _ => {}
            }
        }
    }

    /// Returns a copy with a change.
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut workload = self.clone();
        change(&mut workload);
        workload
    }

    /// Adds a few closes and reopens, as `seed` says.
    fn reopen_often(&mut self, seed: u64) {
        let mut random = Salted::new(seed ^ 0x7265_6f70_656e);
        let steps = self.steps_mut();
        for _ in 0..2 + random.below(5) {
            let at = random.below(steps.len() as u64 + 1) as usize;
            steps.insert(at, Step::Reopen(Self::End::default()));
        }
    }
}

/// The steps between two barriers.
#[derive(Clone, Debug)]
pub struct Segment<Op, End> {
    /// By client.
    pub clients: Vec<Vec<(StepId, Op)>>,
    /// How it ends.
    pub end: End,
}

/// Cuts a workload at its barriers; there is always one segment at least, and each has a place for every client.
pub fn segments<W: Work>(workload: &W) -> Vec<Segment<W::Op, W::End>> {
    let clients = usize::from(workload.clients());
    let empty = || Segment { clients: vec![Vec::new(); clients], end: W::End::default() };
    let mut done = Vec::new();
    let mut current = empty();
    for step in workload.steps() {
        match step {
            Step::Client { id, client, op } => current.clients[usize::from(*client)].push((*id, op.clone())),
            Step::Reopen(end) => {
                current.end = *end;
                done.push(std::mem::replace(&mut current, empty()));
            }
        }
    }
    done.push(current);
    done
}
