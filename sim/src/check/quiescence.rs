//! Checker 7, quiescence: the process never hangs, and ends wholly.
//!
//! The world itself watches, because it alone knows every thread, lock and timer.
//!
//! **Invariant.** At each moment some thread can run or a timer is set (else `deadlock`); a run takes a bounded number of steps (else
//! `livelock`); when the main thread has closed the database and returned, every other thread ends on its own (else `leak`); no
//! destructor waits while its process is killed (else `drop-blocks`). Faults do not excuse any of it.
//!
//! **Tripped by** `close_forgets_worker`.

use crate::Violation;

/// Returns whether violations of this kind are about quiescence.
pub fn judges(kind: &str) -> bool {
    [Violation::DEADLOCK, Violation::LIVELOCK, Violation::LEAK, Violation::DROP_BLOCKS].contains(&kind)
}
