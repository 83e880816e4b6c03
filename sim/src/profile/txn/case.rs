//! What the clients are asked to do: transactions, and some things beside them. Plain data, all of it shrinkable.

use crate::profile::engine::case::{End, EngineOptions, Level, Scan, Walk, Write};
use crate::profile::engine::value::{KeyId, KeyShape, Keys, VALUE_BYTES_MIN};
use crate::profile::steps::{self, Step as Any, Work};
use serde::{Deserialize, Serialize};

/// Returns whether a key is an account: the sum over all accounts never changes. The others are plain.
pub fn is_account(key: KeyId) -> bool {
    !key.is_multiple_of(3)
}

/// How a transaction deals with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// It is checked when it commits.
    Optimistic,
    /// It locks what it writes, and what it reads to write it.
    Pessimistic {
        /// How long it waits for a lock, in microseconds.
        timeout_us: u32,
    },
}

/// How a key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lock {
    /// Without a lock.
    None,
    /// So that others do not change it, if the transaction is pessimistic.
    Share,
    /// So that others do neither change it nor lock it, if the transaction is pessimistic.
    Update,
}

/// What a transaction does, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Reads a key.
    Get {
        /// Which.
        key: KeyId,
        /// With which lock.
        lock: Lock,
    },
    /// Reads a range, or a part of it.
    Scan(Scan),
    /// Sets a plain key.
    Put {
        /// Which; of an account nothing happens.
        key: KeyId,
        /// The length of the value.
        bytes: u32,
    },
    /// Deletes a plain key.
    Delete {
        /// Which; of an account nothing happens.
        key: KeyId,
        /// Whether by deleting the range that holds nothing else.
        #[serde(default)]
        as_range: bool,
    },
    /// Reads two accounts and moves an amount between them. One that holds nothing afterwards is deleted.
    Move {
        /// From where.
        from: KeyId,
        /// Whereto.
        to: KeyId,
        /// How much.
        amount: u8,
    },
    /// Reads a range, deletes its accounts and adds what they held to one.
    Collect {
        /// The first key.
        start: KeyId,
        /// The key to stop before.
        end: KeyId,
        /// The account.
        into: KeyId,
        /// Whether the range is read from its end.
        back: bool,
        /// Whether all of the range is deleted, plain keys too, at once.
        #[serde(default)]
        clear: bool,
    },
    /// Reads everything and sets an account to what the others leave for it: the same as it held, if nothing is wrong.
    Settle {
        /// The account.
        key: KeyId,
        /// Whether everything is read from the end.
        back: bool,
    },
    /// Sets a savepoint.
    Savepoint,
    /// Takes the writes back that came after a savepoint.
    RollBack {
        /// Which one, counted from the last; of one that is not there, nothing happens.
        to: u8,
    },
    /// Does nothing for a while.
    Sleep {
        /// In microseconds.
        us: u32,
    },
}

/// How a transaction is meant to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Close {
    /// It commits.
    Commit(Level),
    /// It is rolled back.
    RollBack,
    /// It is dropped.
    Drop,
}

/// What one client does at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A transaction.
    Transaction {
        /// Whether it locks.
        manner: Manner,
        /// What it does.
        acts: Vec<Act>,
        /// How it ends.
        close: Close,
        /// How often it is tried again after a conflict.
        tries: u8,
    },
    /// Writes a batch of plain keys, outside every transaction.
    Write {
        /// What; accounts in it are left out.
        writes: Vec<Write>,
        /// How durable.
        level: Level,
    },
    /// Reads everything through a snapshot and looks whether the bank's sum is right.
    Audit {
        /// From the end.
        back: bool,
    },
    /// Flushes the memtables.
    Flush,
    /// Compacts everything.
    Compact,
    /// Makes all earlier writes durable.
    Persist {
        /// How durable.
        level: Level,
    },
    /// Does nothing for a while.
    Sleep {
        /// In microseconds.
        us: u32,
    },
}

/// One line of a case.
pub type Step = steps::Step<Op, End>;

/// All that the process under test is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The engine's options. With a second keyspace, the second half of the keys is in it.
    pub options: EngineOptions,
    /// What keys look like.
    pub key_shape: KeyShape,
    /// How many keys there are.
    pub keys: KeyId,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Workload {
    /// Builds the keys.
    pub fn keys(&self) -> Keys {
        Keys::new(self.key_shape, self.keys)
    }

    /// Returns the first key of the second keyspace; the number of keys if there is none.
    pub fn border(&self) -> KeyId {
        if self.options.twin_memtable_bytes == 0 { self.keys } else { self.keys / 2 }
    }
}

impl Work for Workload {
    type Op = Op;
    type End = End;

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn steps_mut(&mut self) -> &mut Vec<Step> {
        &mut self.steps
    }

    fn smaller(&self, at: usize) -> Vec<Workload> {
        let mut all = vec![self.with(|of| simplify(&mut of.steps[at]))];
        if let Any::Client { op: Op::Transaction { acts, .. }, .. } = &self.steps[at] {
            all.extend((0..acts.len()).map(|act| {
                self.with(|of| {
                    if let Any::Client { op: Op::Transaction { acts, .. }, .. } = &mut of.steps[at] {
                        acts.remove(act);
                    }
                })
            }));
        }
        if let Any::Client { op: Op::Write { writes, .. }, .. } = &self.steps[at]
            && writes.len() > 1
        {
            all.extend((0..writes.len()).map(|write| {
                self.with(|of| {
                    if let Any::Client { op: Op::Write { writes, .. }, .. } = &mut of.steps[at] {
                        writes.remove(write);
                    }
                })
            }));
        }
        all
    }

    fn plainer(&self) -> Vec<Workload> {
        let options = self.options.plainer().into_iter().map(|options| self.with(|of| of.options = options));
        options.chain([self.with(|of| of.key_shape = KeyShape::Short)]).collect()
    }

    fn subject(&self) -> String {
        let second = if self.border() < self.keys { " in two keyspaces" } else { "" };
        format!("{} keys{second}", self.keys)
    }
}

fn simplify(step: &mut Step) {
    match step {
        Any::Client { op: Op::Transaction { acts, tries, .. }, .. } => {
            *tries = 0;
            for act in acts {
                match act {
                    Act::Get { lock, .. } => *lock = Lock::None,
                    Act::Put { bytes, .. } => *bytes = VALUE_BYTES_MIN,
                    Act::Scan(scan) => {
                        (scan.pause_us, scan.prefix, scan.limit, scan.walk) = (0, None, u16::MAX, Walk::Forward);
                    }
                    Act::Collect { back, .. } | Act::Settle { back, .. } => *back = false,
                    Act::Sleep { us } => *us = 1,
                    _ => {}
                }
            }
        }
        Any::Client { op: Op::Sleep { us }, .. } => *us = 1,
        Any::Client { op: Op::Write { writes, .. }, .. } => {
            for write in writes {
                write.bytes = write.bytes.map(|_| VALUE_BYTES_MIN);
            }
        }
        _ => {}
    }
}
