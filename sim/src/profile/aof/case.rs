//! What the process under test is asked to do: options, followers and a flat list of steps. Plain data, all of it shrinkable.

use crate::SimArchive;
use crate::profile::steps::{self, Ending, Work};
use aidb::aof::{AofConfig, ArchiveConfig, FlushStrategy, KeyRing, Retention};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// [`FlushStrategy`], as it is written in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the strategy of the same name")]
pub enum Strategy {
    Sync,
    Async,
    Batched(u64),
    Periodic(u64),
    Both { records: u64, ms: u64 },
}

impl Strategy {
    fn strategy(self) -> FlushStrategy {
        match self {
            Strategy::Sync => FlushStrategy::Sync,
            Strategy::Async => FlushStrategy::Async,
            Strategy::Batched(records) => FlushStrategy::Batched(records),
            Strategy::Periodic(ms) => FlushStrategy::Periodic(ms),
            Strategy::Both { records, ms } => FlushStrategy::BatchedOrPeriodic { records, ms },
        }
    }
}

/// A place in the log, relative to what is there when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The oldest record.
    First,
    /// So many ids before the next one.
    Back(u64),
    /// So many records before the visible end.
    TailMinus(u64),
    /// The time of the record so many ids before the next one, if its time is known.
    TimeOf(u64),
    /// The position of the record so many ids before the next one, if it is known.
    LsnOf(u64),
}

/// Where a cursor ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// At the visible end.
    None,
    /// After so many records.
    Count(u64),
    /// After so many bytes.
    Bytes(u64),
    /// Before the id so many behind the next one.
    Back(u64),
}

/// What is done with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// Nothing.
    Drop,
    /// Waited for.
    Wait,
    /// Not taken: `append_sync`.
    Sync,
    /// Awaited, as a task does.
    Await,
    /// Dropped, and the append does not wait for room either.
    Try,
}

/// What one client does at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Appends a batch of records of these lengths; one record is no batch.
    Append {
        /// The lengths.
        records: Vec<u32>,
        /// The mark; only for one record.
        tag: u32,
        /// What becomes of the ticket.
        wait: Wait,
    },
    /// Appends a record if the next id is the one seen before, less `behind`, and no higher fence was seen.
    AppendIf {
        /// Its length.
        bytes: u32,
        /// The fence.
        fence: u64,
        /// How far off the id is.
        behind: u64,
    },
    /// Reads one record, so many ids before the next one.
    Read {
        /// How many.
        back: u64,
    },
    /// Reads with a cursor.
    Scan {
        /// Where it starts.
        from: Place,
        /// Where it ends.
        until: Bound,
        /// Whether it sees what is written and not durable.
        written: bool,
        /// Where it goes in the middle.
        seek: Option<Place>,
        /// How long it sleeps after each record, in microseconds.
        pause_us: u32,
    },
    /// Drops all records but the newest so many.
    Truncate {
        /// How many.
        keep: u64,
    },
    /// Sets the retention.
    Retain {
        /// In microseconds.
        age_us: Option<u64>,
        /// In bytes.
        bytes: Option<u64>,
    },
    /// Pins the record so many ids before the next one.
    Pin {
        /// Which pin.
        name: u8,
        /// How many.
        back: u64,
    },
    /// Lets go of a pin.
    Unpin {
        /// Which.
        name: u8,
    },
    /// Ends the segment.
    Seal,
    /// Makes everything durable.
    Flush,
    /// Checks everything.
    Verify,
    /// Opens the directory a second time, which must be refused.
    SecondOpen,
    /// Opens the directory for reading only, beside, and reads everything.
    ReadOnly,
    /// Waits until more is durable, at most so long.
    WaitDurable {
        /// In microseconds.
        us: u32,
    },
    /// Reads every counter and text.
    Metrics,
    /// Does nothing for a while.
    Sleep {
        /// In microseconds.
        us: u32,
    },
}

/// One line of a case.
pub type Step = steps::Step<Op, End>;

/// What happens to the manifest while no process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestFate {
    /// Nothing.
    #[default]
    Kept,
    /// Its directory is removed.
    Lost,
    /// Its directory is moved aside.
    Renamed,
    /// Its newest file is cut.
    Torn,
}

/// How a process ends when nothing kills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whether the log is closed in order, or just dropped.
    pub close: bool,
    /// Whether the power goes before the next start.
    pub power_loss: bool,
    /// What happens to the manifest before the next start.
    pub manifest: ManifestFate,
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
        End { close: true, power_loss: false, manifest: ManifestFate::Kept }
    }
}

/// A reader that tails the log from one opening to its close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follower {
    /// Where it starts.
    pub from: Place,
    /// Whether it sees what is written and not durable.
    pub written: bool,
    /// How long it sleeps after each record, in microseconds.
    pub pause_us: u32,
}

/// The log's options, as they are written in a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the option of the same name")]
pub struct AofOptions {
    pub segment_bytes: u64,
    pub strategy: Strategy,
    pub buffer_bytes: usize,
    pub pending_bytes_max: u64,
    pub unarchived_segments_max: usize,
    pub preallocate: bool,
    pub spare_segments: usize,
    pub open_segments_max: usize,
    pub readers_max: usize,
    pub retention_age_us: Option<u64>,
    pub retention_bytes: Option<u64>,
    pub compression_level: Option<i32>,
    /// The number of the encryption key; 0 for none. Each opening takes the next one, so that keys rotate.
    pub key: u32,
    pub archive: bool,
    pub local_segments: usize,
    pub cache_bytes: usize,
    pub background_us: u64,
}

/// How many keys a ring holds.
const KEYS: u32 = 64;

impl AofOptions {
    /// Returns the log's own type, for the `opening`-th opening.
    pub fn config(&self, opening: u64) -> AofConfig {
        let mut config = AofConfig {
            segment_bytes: self.segment_bytes,
            flush_strategy: self.strategy.strategy(),
            buffer_bytes: self.buffer_bytes,
            pending_bytes_max: self.pending_bytes_max,
            unarchived_segments_max: if self.archive { self.unarchived_segments_max } else { 0 },
            // Half a minute would be a million rounds of a background thread that looks every millisecond.
            pressure_timeout: Duration::from_millis(300),
            preallocate: self.preallocate,
            spare_segments: self.spare_segments,
            open_segments_max: self.open_segments_max,
            readers_max: self.readers_max,
            retention: retention(self.retention_age_us, self.retention_bytes),
            compression_level: self.compression_level,
            background_interval: Duration::from_micros(self.background_us),
            encryption: (self.key > 0).then(|| {
                let keys = (1..=KEYS).map(|key| (key, [key as u8; 32]));
                let current = 1 + (self.key + opening as u32) % KEYS;
                KeyRing::new(current, keys).expect("the keys are good")
            }),
            ..AofConfig::default()
        };
        if self.archive {
            let mut archive = ArchiveConfig::new(Arc::new(SimArchive));
            archive.local_segments = self.local_segments;
            archive.cache_bytes = self.cache_bytes;
            config.archive = Some(archive);
        }
        config
    }
}

/// Builds a retention.
pub fn retention(age_us: Option<u64>, bytes: Option<u64>) -> Retention {
    Retention { age: age_us.map(Duration::from_micros), bytes }
}

/// All that the process under test is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The log's options.
    pub options: AofOptions,
    /// Readers that tail the log in every opening.
    pub followers: Vec<Follower>,
    /// The steps.
    pub steps: Vec<Step>,
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
        if let Step::Client { op: Op::Append { records, .. }, .. } = &self.steps[at]
            && records.len() > 1
        {
            all.push(self.with(|of| {
                if let Step::Client { op: Op::Append { records, .. }, .. } = &mut of.steps[at] {
                    records.truncate(1);
                }
            }));
        }
        all
    }

    fn plainer(&self) -> Vec<Workload> {
        let option = |change: fn(&mut AofOptions)| self.with(|of| change(&mut of.options));
        vec![
            self.with(|of| of.followers.clear()),
            self.with(|of| _ = of.followers.pop()),
            option(|options| options.key = 0),
            option(|options| options.compression_level = None),
            option(|options| options.archive = false),
            option(|options| options.preallocate = false),
            option(|options| options.spare_segments = 1),
            option(|options| options.strategy = Strategy::Batched(1 << 20)),
            option(|options| options.buffer_bytes = 1 << 20),
            option(|options| options.pending_bytes_max = 64 << 20),
            option(|options| options.unarchived_segments_max = 0),
            option(|options| (options.retention_age_us, options.retention_bytes) = (None, None)),
            option(|options| options.cache_bytes = 1 << 20),
            option(|options| (options.open_segments_max, options.readers_max) = (64, 64)),
            option(|options| options.background_us = 100_000),
        ]
    }

    fn subject(&self) -> String {
        format!("segments of {} bytes", self.options.segment_bytes)
    }
}

fn simplify(step: &mut Step) {
    match step {
        Step::Client { op: Op::Append { records, .. }, .. } => {
            records.iter_mut().for_each(|bytes| *bytes = super::record::RECORD_BYTES_MIN);
        }
        Step::Client { op: Op::Scan { until, seek, pause_us, .. }, .. } => {
            (*until, *seek, *pause_us) = (Bound::None, None, 0);
        }
        Step::Client { op: Op::Sleep { us } | Op::WaitDurable { us }, .. } => *us = 1,
        _ => {}
    }
}
