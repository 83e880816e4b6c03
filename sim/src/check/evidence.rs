//! What the evidence of every profile has: moments, and how a process ended.

/// A moment of a run: the number of calls and returns before it.
pub type Time = u64;

/// How the process ended, in increasing severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// `close` returned without an error.
    Close,
    /// The process died or let go of what it had open; the page cache stayed.
    Process,
    /// The power went.
    Power,
}
