//! The rolling hash over every event of a run, and the events themselves when asked for.
//!
//! Two runs are the same run if and only if their hashes are equal. No address is hashed: locks, condition variables, fibers
//! and inodes have numbers, given in order of first use. Called by every operation of the world, on its thread; records and
//! allocates nothing unless asked.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What happened. The meaning of the two operands stands in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Event {
    /// Operands: incarnation, 0.
    Start = 1,
    /// Operands: incarnation, 0.
    Finish,
    /// Operands: incarnation, 1 for a power loss.
    Crash,
    /// Operands: incarnation, 0.
    Restart,
    /// Operands: new fiber, hash of its name.
    Spawn,
    /// Operands: 1 if it panicked, 0.
    Exit,
    /// Operands: fiber that runs now, 0.
    Switch,
    /// Operands: lock, 1 if it had to wait.
    Lock,
    Unlock,
    ReadLock,
    ReadUnlock,
    /// Operands: condition variable, time-out in nanoseconds.
    Wait,
    /// Operands: condition variable, 1 if timed out.
    Woken,
    /// Operands: condition variable, woken fiber + 1.
    Notify,
    NotifyAll,
    /// Operands: fiber, 0.
    Join,
    /// Operands: nanoseconds, 0.
    Sleep,
    Yield,
    /// Operands: the reading, 0.
    Now,
    Wall,
    /// Operands: the number, 0.
    Random,
    /// Operands: hash of the site, 1 if it fires.
    Buggify,
    /// Operands: hash of the mark, 0.
    Mark,
    /// Operands: inode, mode.
    Open,
    /// Operands: inode, hash of offset, length and bytes.
    Write,
    /// Operands: inode, hash of offset and length.
    Read,
    /// Operands: inode, operations made durable.
    Sync,
    /// Operands: inode, length.
    Truncate,
    /// Operands: inode, hash of the names.
    Rename,
    Link,
    Remove,
    MakeDir,
    /// Operands: inode, entries.
    List,
    SyncDir,
    LockDir,
    /// Operands: hash of the fault, 0.
    Fault,
    /// Operands: error kind, 0.
    DiskError,
    /// Operands: whatever the workload says.
    Note,
    /// Operands: hash of key and operation, 1 if it succeeded; or 0 and how many landed late.
    Remote,
}

/// One recorded event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// The number of the event in its run.
    pub index: u64,
    /// When, in simulated nanoseconds.
    pub ns: u64,
    /// The fiber that did it; `None` for the world itself.
    pub fiber: Option<u32>,
    /// What.
    pub event: Event,
    /// First operand.
    pub a: u64,
    /// Second operand.
    pub b: u64,
    /// The name of what it concerns: a path, a thread, a mark.
    pub note: String,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fiber = self.fiber.map_or_else(|| "-".to_owned(), |fiber| fiber.to_string());
        write!(f, "{:>8} {:>14} ns  {fiber:>4}  {:?} {} {}", self.index, self.ns, self.event, self.a, self.b)?;
        if self.note.is_empty() { Ok(()) } else { write!(f, "  {}", self.note) }
    }
}

/// The hash, and the events if they are recorded.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) count: u64,
    pub(crate) recording: bool,
    pub(crate) events: Vec<TraceEvent>,
}

impl Trace {
    pub(crate) fn new(recording: bool) -> Trace {
        Trace { hash: 0x9e37_79b9_7f4a_7c15, recording, ..Trace::default() }
    }

    /// Adds an event; `note` is only evaluated when events are recorded.
    #[inline]
    pub(crate) fn add(
        &mut self,
        ns: u64,
        fiber: Option<u32>,
        event: Event,
        (a, b): (u64, u64),
        note: impl FnOnce() -> String,
    ) {
        let who = u64::from(fiber.map_or(u32::MAX, |fiber| fiber));
        let head = who | (event as u64) << 56;
        self.hash = mix(mix(self.hash ^ head, a), b);
        self.count += 1;
        if self.recording {
            let index = self.count - 1;
            self.events.push(TraceEvent { index, ns, fiber, event, a, b, note: note() });
        }
    }
}

/// Folds `value` into `state`: one wide multiplication.
#[inline]
pub(crate) fn mix(state: u64, value: u64) -> u64 {
    let product = u128::from(state ^ 0xa076_1d64_78bd_642f) * u128::from(value ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64) ^ state.rotate_left(23)
}
