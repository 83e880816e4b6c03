//! What the clients of a log asked for and were told: the evidence that the checkers of profile `aof` judge.
//!
//! Written by the fibers as they go, outside the simulated process, so a crash does not touch it. Time is a counter that grows at
//! each call and each return, which gives the real-time order of all operations.
//!
//! What is known of a record by its id is kept from its acknowledgement until a recovery shows that it is gone; once a reopened
//! log was read completely and found legal, its content is the new base, and is durable.

pub use super::evidence::{Stop, Time};
use crate::profile::aof::record::{Stamp, StepId, decode, encode};
use std::collections::BTreeMap;

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it is.
    pub stamp: Stamp,
    /// Where its batch begins.
    pub lsn: u64,
    /// When its batch was appended, by the log's own clock.
    pub ts: u64,
    /// The caller's mark.
    pub tag: u32,
}

/// A record as a reader got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its id.
    pub id: u64,
    /// Where its batch begins.
    pub lsn: u64,
    /// When its batch was appended.
    pub ts: u64,
    /// The caller's mark.
    pub tag: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// An append whose answer is not known: it may be there, once, whole, or not at all.
#[derive(Clone, Debug)]
pub struct Open {
    /// The lengths of its records.
    pub records: Vec<u32>,
    /// The caller's mark.
    pub tag: u32,
    /// When it was called.
    pub called: Time,
}

/// The evidence.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What is known to have been appended, by id.
    pub known: BTreeMap<u64, Known>,
    /// What is known of records that were truncated before the last opening, by id.
    pub truncated: BTreeMap<u64, Known>,
    /// Appends without an answer, by step.
    pub open: BTreeMap<StepId, Open>,
    /// All ids below were promised to survive a power loss.
    pub durable: u64,
    /// All ids below were promised to survive the process.
    pub written: u64,
    /// The oldest id that may be there: those below were truncated and that was acknowledged.
    pub first_min: u64,
    /// The oldest id that must be there: nothing asked for more to go.
    pub first_max: u64,
    /// The highest fence that was acknowledged.
    pub fence: u64,
    /// Pins by name: the id, once acknowledged and as long as nobody moves or removes it.
    pub pins: BTreeMap<u8, u64>,
    /// For each name of a pin: how many calls about it there were, and how many are under way.
    pin_calls: BTreeMap<u8, (u64, u64)>,
    clock: Time,
}

impl History {
    /// Starts with an empty log.
    pub fn new() -> History {
        History { durable: 1, written: 1, first_min: 1, first_max: 1, ..History::default() }
    }

    /// Returns the next moment.
    pub fn tick(&mut self) -> Time {
        self.clock += 1;
        self.clock
    }

    /// Notes that everything below `next` survives a power loss.
    pub fn promise(&mut self, next: u64) {
        self.durable = self.durable.max(next);
        self.written = self.written.max(next);
    }

    /// Notes that a pin is being set or taken away: until the answer nothing is sure of it. Returns the call's number.
    pub fn pin_called(&mut self, name: u8) -> u64 {
        self.pins.remove(&name);
        let (calls, running) = self.pin_calls.entry(name).or_default();
        (*calls, *running) = (*calls + 1, *running + 1);
        *calls
    }

    /// Notes the answer to call `number`: `set` is where the pin is now, if that is known. Calls beside each other prove nothing.
    pub fn pin_returned(&mut self, name: u8, number: u64, set: Option<u64>) {
        let (calls, running) = self.pin_calls.entry(name).or_default();
        let alone = *calls == number && *running == 1;
        *running -= 1;
        match set.filter(|_| alone) {
            Some(id) => self.pins.insert(name, id),
            None => self.pins.remove(&name),
        };
    }

    /// Forgets the calls of a process that is gone.
    pub fn pins_settled(&mut self) {
        self.pin_calls.clear();
    }

    /// Returns the lowest pin.
    pub fn pinned(&self) -> u64 {
        self.pins.values().copied().min().unwrap_or(u64::MAX)
    }

    /// Returns the id after the last one known.
    pub fn next_known(&self) -> u64 {
        self.known.last_key_value().map_or(1, |(id, _)| id + 1)
    }

    /// Judges one record that a reader got; says what is wrong with it.
    ///
    /// # Errors
    /// It is not what was appended under its id.
    pub fn judge(&self, got: &Got) -> Result<(), String> {
        if let Some(known) = self.known.get(&got.id) {
            return judge_known(known, got);
        }
        let found = self.open.iter().any(|(step, open)| {
            open.tag == got.tag
                && (0..).zip(&open.records).any(|(index, bytes)| {
                    *bytes as usize == got.bytes.len()
                        && encode(Stamp { step: *step, index, bytes: *bytes }) == got.bytes
                })
        });
        if found { Ok(()) } else { Err(format!("id {} has {} bytes that nobody appended", got.id, got.bytes.len())) }
    }

    /// As [`judge`](Self::judge), of a reader that may show truncated records.
    ///
    /// # Errors
    /// As there. Of one that was truncated before its append was answered nothing is known but what it says itself.
    pub fn judge_or_truncated(&self, got: &Got) -> Result<(), String> {
        if got.id >= self.first_min || self.known.contains_key(&got.id) {
            return self.judge(got);
        }
        match self.truncated.get(&got.id) {
            Some(known) => judge_known(known, got),
            None if got.bytes.is_empty() => Ok(()),
            None if decode(&got.bytes).is_some_and(|stamp| encode(stamp) == got.bytes) => Ok(()),
            None => Err(format!("id {} was truncated, and its {} bytes are no record", got.id, got.bytes.len())),
        }
    }
}

fn judge_known(known: &Known, got: &Got) -> Result<(), String> {
    let expected = encode(known.stamp);
    if expected != got.bytes {
        let at = expected.iter().zip(&got.bytes).position(|(a, b)| a != b);
        let at = at.map_or(format!("{} bytes", got.bytes.len()), |at| format!("byte {at}"));
        let Stamp { step, index, bytes } = known.stamp;
        return Err(format!("id {} is not record {index} of step {step} with {bytes} bytes: {at}", got.id));
    }
    if (known.lsn, known.ts, known.tag) != (got.lsn, got.ts, got.tag) {
        return Err(format!(
            "id {} came with position {}, time {}, tag {}; it was appended with {}, {}, {}",
            got.id, got.lsn, got.ts, got.tag, known.lsn, known.ts, known.tag
        ));
    }
    Ok(())
}
