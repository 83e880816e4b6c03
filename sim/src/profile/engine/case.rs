//! What the process under test is asked to do: options, keys and a flat list of steps. Plain data, all of it shrinkable.

use super::value::{Filter, KeyId, KeyShape, Keys, VALUE_BYTES_MIN};
use crate::profile::steps::{self, Ending, Work};
use aidb::lsm::merge::Append;
use aidb::lsm::{CompactionFilter, Compression, Durability, MemtableKind, Options};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// [`Durability`], as it is written in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// [`Durability::Buffered`].
    Buffered,
    /// [`Durability::Os`].
    Os,
    /// [`Durability::Sync`].
    Sync,
}

impl Level {
    /// Returns the engine's word for it.
    pub fn durability(self) -> Durability {
        match self {
            Level::Buffered => Durability::Buffered,
            Level::Os => Durability::Os,
            Level::Sync => Durability::Sync,
        }
    }
}

/// A write within a batch: the key, and how many bytes its value has, or a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The key.
    pub key: KeyId,
    /// The length of the value; `None` for a delete.
    pub bytes: Option<u32>,
    /// Whether the value is merged onto what is there.
    #[serde(default)]
    pub merge: bool,
    /// For a delete of every key from `key` on: the key to stop before, the number of keys for an open end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<KeyId>,
    /// After how many microseconds the value expires.
    #[serde(default)]
    pub ttl_us: Option<u32>,
}

impl Write {
    /// Returns the keys it writes, out of `count`.
    pub fn keys(&self, count: KeyId) -> Range<KeyId> {
        self.key..self.until.unwrap_or(self.key + 1).min(count)
    }
}

/// How a range of keys is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Walk {
    /// Ascending.
    Forward,
    /// Descending.
    Backward,
    /// From both ends in turn.
    Inward,
    /// As a cursor: seek to a key, then back and forth.
    Cursor {
        /// Where to.
        seek: KeyId,
        /// Bit i of it: the i-th move goes back.
        moves: u64,
    },
}

/// A read of the keys from `start` to below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The first key.
    pub start: KeyId,
    /// The key to stop before; the number of keys for an open end.
    pub end: KeyId,
    /// If set, the keys that share this many bytes with `start` are read, through the engine's prefix scan.
    pub prefix: Option<u8>,
    /// In which direction.
    pub walk: Walk,
    /// How many entries at most.
    pub limit: u16,
    /// How long it sleeps in the middle, in microseconds.
    pub pause_us: u32,
}

/// What one client does at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes a batch, or a single put or delete.
    Write {
        /// What.
        writes: Vec<Write>,
        /// How durable.
        level: Level,
    },
    /// Reads one key; through the client's snapshot if `snapshot` and it holds one.
    Get {
        /// Which.
        key: KeyId,
        /// Whether to read in the past.
        snapshot: bool,
    },
    /// Reads a range; through the client's snapshot if `snapshot` and it holds one.
    Scan {
        /// Which.
        scan: Scan,
        /// Whether to read in the past.
        snapshot: bool,
    },
    /// Takes a snapshot and holds it, in place of an earlier one.
    Snapshot,
    /// Lets go of the snapshot.
    Release,
    /// Flushes the memtable.
    Flush,
    /// Compacts everything.
    Compact,
    /// Makes all earlier writes durable.
    Persist {
        /// How durable.
        level: Level,
    },
    /// Checks the structure.
    Verify,
    /// Makes a checkpoint, which is judged at the next opening.
    Checkpoint,
    /// Makes a backup, which is judged at the next opening.
    Backup,
    /// Reads everything through a read-only view of the directory.
    Look,
    /// Does nothing for a while.
    Sleep {
        /// In microseconds.
        us: u32,
    },
}

/// One line of a case.
pub type Step = steps::Step<Op, End>;

/// How a process ends when nothing kills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whether the database is closed in order, or just dropped.
    pub close: bool,
    /// Whether the power goes before the next start.
    pub power_loss: bool,
}

impl Ending for End {
    fn close(self) -> bool {
        self.close
    }

    fn power_loss(self) -> bool {
        self.power_loss
    }
}

impl Default for End {
    fn default() -> End {
        End { close: true, power_loss: false }
    }
}

/// The engine's options, as they are written in a case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the option of the same name")]
pub struct EngineOptions {
    pub memtable_bytes: usize,
    pub immutable_memtables_max: usize,
    pub block_bytes: usize,
    pub block_cache_bytes: usize,
    pub compression: u8,
    pub filter_bits_per_key: u8,
    pub l0_compaction_files: usize,
    pub l0_stall_files: usize,
    pub level_bytes_base: u64,
    pub level_size_multiplier: u64,
    pub levels_max: usize,
    pub table_bytes: u64,
    pub wal_segment_bytes: u64,
    pub manifest_bytes_max: u64,
    pub background_threads: usize,
    #[serde(default = "wal_bytes_max")]
    pub wal_bytes_max: u64,
    /// Memtable of a keyspace that is given every write too; 0 means that there is none.
    #[serde(default)]
    pub twin_memtable_bytes: usize,
    /// 0 a skip list, 1 wide nodes.
    #[serde(default)]
    pub memtable: u8,
    /// Whether a compaction filter removes values of some steps.
    #[serde(default)]
    pub filter: bool,
}

fn wal_bytes_max() -> u64 {
    Options::default().wal_bytes_max
}

impl EngineOptions {
    /// Returns the engine's own type.
    pub fn options(&self) -> Options {
        Options {
            create_if_missing: true,
            error_if_exists: false,
            durability: Durability::Sync,
            memtable_bytes: self.memtable_bytes,
            immutable_memtables_max: self.immutable_memtables_max,
            block_bytes: self.block_bytes,
            block_cache_bytes: self.block_cache_bytes,
            compression: match self.compression {
                1 => Compression::Lz4,
                2 => Compression::Snappy,
                _ => Compression::None,
            },
            filter_bits_per_key: self.filter_bits_per_key,
            l0_compaction_files: self.l0_compaction_files,
            l0_stall_files: self.l0_stall_files,
            level_bytes_base: self.level_bytes_base,
            level_size_multiplier: self.level_size_multiplier,
            levels_max: self.levels_max,
            table_bytes: self.table_bytes,
            wal_segment_bytes: self.wal_segment_bytes,
            manifest_bytes_max: self.manifest_bytes_max,
            background_threads: self.background_threads,
            wal_bytes_max: self.wal_bytes_max,
            memtable: if self.memtable == 0 { MemtableKind::SkipList } else { MemtableKind::Wide },
            merge_operator: Some(Arc::new(Append::new(""))),
            compaction_filter: self.filter.then(|| Arc::new(Filter) as Arc<dyn CompactionFilter>),
        }
    }

    /// Returns these options with one of them made plainer, in each way that is known.
    pub fn plainer(&self) -> Vec<EngineOptions> {
        let option = |change: fn(&mut EngineOptions)| {
            let mut options = self.clone();
            change(&mut options);
            options
        };
        vec![
            option(|options| options.compression = 0),
            option(|options| options.filter_bits_per_key = 0),
            option(|options| options.background_threads = 1),
            option(|options| options.manifest_bytes_max = 1 << 20),
            option(|options| options.memtable_bytes = 64 << 10),
            option(|options| options.wal_segment_bytes = 64 << 10),
            option(|options| options.l0_stall_files = options.l0_compaction_files + 20),
            option(|options| options.memtable = 0),
            option(|options| options.filter = false),
            option(|options| options.twin_memtable_bytes = 0),
        ]
    }
}

/// All that the process under test is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The engine's options.
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
        let mut all =
            vec![self.with(|of| smallest_values(&mut of.steps[at])), self.with(|of| simplify(&mut of.steps[at]))];
        all.push(self.with(|of| put_only(&mut of.steps[at])));
        if let Step::Client { op: Op::Write { writes, .. }, .. } = &self.steps[at]
            && writes.len() > 1
        {
            let without = |write| {
                self.with(|of| {
                    if let Step::Client { op: Op::Write { writes, .. }, .. } = &mut of.steps[at] {
                        writes.remove(write);
                    }
                })
            };
            all.extend((0..writes.len()).map(without));
        }
        all
    }

    fn plainer(&self) -> Vec<Workload> {
        let options = self.options.plainer().into_iter().map(|options| self.with(|of| of.options = options));
        let values = self.with(|of| of.steps.iter_mut().for_each(smallest_values));
        [values].into_iter().chain(options).chain([self.with(|of| of.key_shape = KeyShape::Short)]).collect()
    }

    fn subject(&self) -> String {
        format!("{} keys", self.keys)
    }
}

fn smallest_values(step: &mut Step) {
    if let Step::Client { op: Op::Write { writes, .. }, .. } = step {
        for write in writes {
            write.bytes = write.bytes.map(|_| VALUE_BYTES_MIN);
        }
    }
}

fn put_only(step: &mut Step) {
    if let Step::Client { op: Op::Write { writes, .. }, .. } = step {
        writes.iter_mut().for_each(|write| (write.merge, write.ttl_us) = (false, None));
    }
}

fn simplify(step: &mut Step) {
    match step {
        Step::Client { op: Op::Write { writes, .. }, .. } => writes.iter_mut().for_each(|write| write.until = None),
        Step::Client { op: Op::Scan { scan, .. }, .. } => {
            (scan.pause_us, scan.prefix, scan.limit) = (0, None, u16::MAX);
            if scan.walk == Walk::Inward {
                scan.walk = Walk::Forward;
            }
        }
        Step::Client { op: Op::Sleep { us }, .. } => *us = 1,
        _ => {}
    }
}
