//! What `aidb bench` can be asked for, and whether it makes sense.

use super::workload::Workload;
use aidb::{Compression, Durability, MemtableKind, Options as EngineOptions};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Shown below the list of options.
pub(crate) const HELP: &str = "\
Workloads (in the given order; each fill starts from an empty database):
  fillseq           writes keys in order
  fillrandom        writes keys drawn at random, some more than once
  fillbatch         writes keys in order, in batches of --batch
  fillsync          writes random keys, each synced to the disk; a thousandth of --num, at least 1000
  overwrite         writes random keys of the loaded database again
  deleterandom      deletes random keys
  readrandom        reads random keys
  readmissing       reads keys that are not there
  seekrandom        seeks random keys and reads --seek-nexts entries from there
  readseq           scans forwards
  readreverse       scans backwards
  readwhilewriting  reads random keys while one more thread overwrites
  txn               reads and overwrites two random keys in an optimistic transaction, again if it conflicts
  txnlocked         the same in a pessimistic one, again if it deadlocks

A fill writes --num keys altogether, however many threads share the work; other workloads do --reads operations.
Values are half compressible. Every answer is checked; a wrong one ends the run with an error.

Examples:
  aidb bench
  aidb bench fillrandom,readrandom --num 200000 --json
  aidb bench fillseq --dir /mnt/nvme/bench && aidb bench readseq --dir /mnt/nvme/bench";

/// Options of `aidb bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Workloads to run, separated by commas or spaces.
    #[arg(value_name = "WORKLOAD", value_delimiter = ',', ignore_case = true)]
    positional: Vec<Workload>,
    /// The same, as an option.
    #[arg(long = "workloads", visible_alias = "benchmarks", value_name = "LIST", value_delimiter = ',')]
    listed: Vec<Workload>,
    /// Number of keys.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=4_000_000_000))]
    pub num: u64,
    /// Operations of each workload that is not a fill [default: --num].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub reads: Option<u64>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub value_bytes: u32,
    /// Bytes of a key: the key's number in decimal.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub key_bytes: u32,
    /// Threads that share the operations of a workload.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Entries of a batch in fillbatch.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Entries read after each seek in seekrandom.
    #[arg(long, default_value_t = 0)]
    pub seek_nexts: u32,
    /// What a write waits for; fillsync always waits for the disk.
    #[arg(long, value_enum, default_value_t = WriteDurability::Os)]
    pub durability: WriteDurability,
    /// Directory to work in, kept afterwards [default: a temporary one, removed afterwards].
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Decides every random draw.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Bytes of the block cache [default: the engine's].
    #[arg(long)]
    pub cache_bytes: Option<usize>,
    /// Bytes of a memtable [default: the engine's].
    #[arg(long)]
    pub memtable_bytes: Option<usize>,
    /// How memtables are built [default: the engine's].
    #[arg(long, value_enum)]
    pub memtable: Option<Memtable>,
    /// Compression of table blocks [default: the engine's].
    #[arg(long, value_enum)]
    pub compression: Option<BlockCompression>,
    /// Filter bits for each key; 0 for none [default: the engine's].
    #[arg(long)]
    pub filter_bits: Option<u8>,
    /// Writes the results as JSON to FILE, or to standard output instead of the table.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// After a workload that writes, does not wait for flush and compaction, so that amplification leaves them out.
    #[arg(long)]
    pub no_settle: bool,
    /// Shows no progress bar, even on a terminal.
    #[arg(long)]
    pub no_progress: bool,
}

/// What a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WriteDurability {
    /// Nothing: the last writes may die with the process.
    Buffered,
    /// The operating system: the last writes may die with the power.
    Os,
    /// The disk.
    Sync,
}

impl WriteDurability {
    pub(crate) fn engine(self) -> Durability {
        match self {
            WriteDurability::Buffered => Durability::Buffered,
            WriteDurability::Os => Durability::Os,
            WriteDurability::Sync => Durability::Sync,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            WriteDurability::Buffered => "buffered",
            WriteDurability::Os => "os",
            WriteDurability::Sync => "sync",
        }
    }
}

/// How memtables are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Memtable {
    /// A B+tree of wide nodes.
    Wide,
    /// A skip list.
    SkipList,
}

/// How table blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BlockCompression {
    /// Stored as they are.
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

impl Options {
    /// Returns the workloads in the order given, or db_bench's usual round.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let asked: Vec<Workload> = self.positional.iter().chain(&self.listed).copied().collect();
        if asked.is_empty() { Workload::DEFAULT.to_vec() } else { asked }
    }

    /// Returns what is wrong with the combination of options, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let digits = (self.num - 1).max(1).ilog10() + 1;
        if self.key_bytes < digits {
            let last = self.num - 1;
            return Err(format!("--key-bytes {} cannot hold key number {last}: at least {digits}", self.key_bytes));
        }
        if u64::from(self.batch) * u64::from(self.key_bytes + self.value_bytes) > 1 << 30 {
            return Err(format!("--batch {} of --value-bytes {} is over 1 GiB", self.batch, self.value_bytes));
        }
        if let Some(file) = self.json.as_deref().and_then(|file| file.to_str())
            && Workload::from_str(file, true).is_ok()
        {
            return Err(format!("--json took the workload {file} for a file: put workloads before --json"));
        }
        self.engine().validate().map_err(|error| error.to_string())
    }

    /// Returns the engine's options.
    pub(crate) fn engine(&self) -> EngineOptions {
        let mut options = EngineOptions { durability: self.durability.engine(), ..EngineOptions::default() };
        if let Some(bytes) = self.cache_bytes {
            options.block_cache_bytes = bytes;
        }
        if let Some(bytes) = self.memtable_bytes {
            options.memtable_bytes = bytes;
        }
        if let Some(memtable) = self.memtable {
            options.memtable = match memtable {
                Memtable::Wide => MemtableKind::Wide,
                Memtable::SkipList => MemtableKind::SkipList,
            };
        }
        if let Some(bits) = self.filter_bits {
            options.filter_bits_per_key = bits;
        }
        if let Some(compression) = self.compression {
            options.compression = match compression {
                BlockCompression::None => Compression::None,
                BlockCompression::Lz4 => Compression::Lz4,
                BlockCompression::Snappy => Compression::Snappy,
            };
        }
        options
    }
}
