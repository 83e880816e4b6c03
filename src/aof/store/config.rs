//! Every choice a user makes about a store, with its unit, range, default and reason.
//!
//! Read once by [`Aof::open`](super::Aof::open), on the caller's thread; [`AofConfig::validate`] refuses what is out of range
//! and names the field. Nothing here is stored: a directory may be opened with another configuration than it was written
//! with. The encryption keys must be among those it was written with.

use super::super::archive::ArchiveStorage;
use super::super::types::LogOptions;
use super::super::{AofError, KeyRing};
use crate::base::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// When what was appended is made durable although nobody waits for it.
///
/// A [`Ticket`](super::Ticket) that is waited for joins the next group commit at once under every strategy: the strategy
/// decides when the log syncs on its own, the ticket decides who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushStrategy {
    /// As soon as anything was appended.
    Sync,
    /// Handed to the operating system within a millisecond, where it survives the process; durable when 8 MiB or one second wait.
    Async,
    /// When so many records wait (1 to 2^32), and at the latest when a segment ends, half of
    /// [`pending_bytes_max`](AofConfig::pending_bytes_max) waits, or the store is flushed or closed.
    Batched(u64),
    /// So many milliseconds (1 to 3,600,000) after the first record that waits.
    Periodic(u64),
    /// Whichever comes first.
    BatchedOrPeriodic {
        /// As in [`FlushStrategy::Batched`].
        records: u64,
        /// As in [`FlushStrategy::Periodic`].
        ms: u64,
    },
}

impl Default for FlushStrategy {
    fn default() -> FlushStrategy {
        FlushStrategy::BatchedOrPeriodic { records: 1000, ms: 100 }
    }
}

impl FlushStrategy {
    /// Returns how many records may wait, if that is bounded.
    pub(super) fn records(self) -> Option<u64> {
        match self {
            FlushStrategy::Sync => Some(1),
            FlushStrategy::Batched(records) | FlushStrategy::BatchedOrPeriodic { records, .. } => Some(records),
            FlushStrategy::Async | FlushStrategy::Periodic(_) => None,
        }
    }

    /// Returns how long a record may wait, if that is bounded.
    pub(super) fn delay(self) -> Option<Duration> {
        match self {
            FlushStrategy::Async => Some(Duration::from_secs(1)),
            FlushStrategy::Periodic(ms) | FlushStrategy::BatchedOrPeriodic { ms, .. } => {
                Some(Duration::from_millis(ms))
            }
            FlushStrategy::Sync | FlushStrategy::Batched(_) => None,
        }
    }
}

/// What is kept at least: what is beyond either bound goes, in whole segments and oldest first. Without a bound nothing goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments all of whose records are older than this are dropped. Default none. Ages are counted by the log's own
    /// times: a wall clock that steps back neither drops early nor brings anything back.
    pub age: Option<Duration>,
    /// The oldest segments are dropped while what remains without them is at least this many bytes, archived ones
    /// included. Default none.
    pub bytes: Option<u64>,
}

/// Where sealed segments go, and what is kept here of them.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// The store of objects.
    pub storage: Arc<dyn ArchiveStorage>,
    /// What all keys begin with: `a-z0-9/-.`, 1 to 512 bytes, no `/` at either end. Default `aidb`. Logs may share it.
    pub prefix: String,
    /// How many archived segments stay on the local disk, the newest. Default 1, so that tailing readers stay local.
    pub local_segments: usize,
    /// Bytes of decoded blocks of archived segments that are kept in memory. Default 64 MiB; 0 keeps none.
    pub cache_bytes: usize,
    /// How often the upload of a segment is tried before the failure is reported; it goes on afterwards. 1 to 1,000, default 8.
    pub attempts_max: u32,
}

impl ArchiveConfig {
    /// Returns the defaults over `storage`.
    pub fn new(storage: Arc<dyn ArchiveStorage>) -> ArchiveConfig {
        ArchiveConfig { storage, prefix: "aidb".into(), local_segments: 1, cache_bytes: 64 << 20, attempts_max: 8 }
    }
}

/// How a store is opened. Start from a preset and change what you know better.
///
/// ```
/// use aidb::aof::{AofConfig, FlushStrategy};
/// let config = AofConfig::builder().segment_bytes(16 << 20).flush_strategy(FlushStrategy::Batched(500)).build()?;
/// assert_eq!(config.segment_bytes, 16 << 20);
/// assert!(AofConfig::builder().segment_bytes(5).build().unwrap_err().to_string().contains("segment_bytes"));
/// # Ok::<(), aidb::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AofConfig {
    /// Bytes of a segment file, header included. A multiple of 4096 in 8 KiB..=4 GiB, default 64 MiB.
    ///
    /// Space is given back, archived and expired in whole segments. A batch larger than a segment gets a longer one of its own.
    pub segment_bytes: u64,
    /// When what was appended becomes durable. Default every 1,000 records or 100 ms.
    pub flush_strategy: FlushStrategy,
    /// Bytes gathered before they are handed to the operating system. At most 1 GiB, default 1 MiB. Bounds what a
    /// process crash can take from appends that nobody waited for.
    pub buffer_bytes: usize,
    /// Bytes that may be appended and not durable. 4 KiB to 1 TiB, default 64 MiB; beyond, appends wait and `try_append`
    /// says [`WouldBlock`](crate::ErrorKind::WouldBlock). One batch may go over it.
    pub pending_bytes_max: u64,
    /// Sealed segments that may wait to be archived before appends do. Default 0: no bound, the disk fills instead.
    pub unarchived_segments_max: usize,
    /// How long an append waits for room before it fails with [`AofError::Backpressure`]. At most one day, default 30 s.
    pub pressure_timeout: Duration,
    /// Makes the next segment file ahead of need, in the background. Default true: an append never waits for zeros.
    pub preallocate: bool,
    /// Dropped segments kept to be written over. At most 64, default 1.
    pub spare_segments: usize,
    /// Segment files kept open for reading. 1 to 65,536, default 64. Those that cursors stand in are kept beyond it.
    pub open_segments_max: usize,
    /// Cursors at once. At least 1, default 1,024; beyond, [`AofError::ReaderLimitExceeded`].
    pub readers_max: usize,
    /// What is kept at least. Default everything.
    pub retention: Retention,
    /// Level of zstd for archived segments, 1 (fast) to 22. Default none: archived as they are.
    pub compression_level: Option<i32>,
    /// Keys for records at rest, here and in the archive. Default none: not encrypted. A store that was encrypted needs
    /// the keys of all its segments.
    pub encryption: Option<KeyRing>,
    /// Where sealed segments go. Default none: they stay.
    pub archive: Option<ArchiveConfig>,
    /// How often the background thread looks for work that nobody announced (ages, retries). 1 ms to 1 h, default 100 ms.
    pub background_interval: Duration,
}

impl Default for AofConfig {
    fn default() -> AofConfig {
        let log = LogOptions::default();
        AofConfig {
            segment_bytes: log.segment_bytes,
            flush_strategy: FlushStrategy::default(),
            buffer_bytes: log.buffer_bytes,
            pending_bytes_max: 64 << 20,
            unarchived_segments_max: 0,
            pressure_timeout: Duration::from_secs(30),
            preallocate: true,
            spare_segments: log.spare_segments,
            open_segments_max: 64,
            readers_max: 1024,
            retention: Retention::default(),
            compression_level: None,
            encryption: None,
            archive: None,
            background_interval: Duration::from_millis(100),
        }
    }
}

fn range(field: &str, value: u128, min: u128, max: u128) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid_argument(format_args!("{field} {value} is not in {min}..={max}")))
}

impl AofConfig {
    /// Returns a builder that starts from the defaults.
    pub fn builder() -> AofConfigBuilder {
        AofConfigBuilder::default()
    }

    /// Returns the preset for throughput: larger segments and buffers, [`FlushStrategy::Async`].
    pub fn throughput() -> AofConfig {
        AofConfig {
            segment_bytes: 256 << 20,
            flush_strategy: FlushStrategy::Async,
            buffer_bytes: 4 << 20,
            pending_bytes_max: 256 << 20,
            spare_segments: 2,
            open_segments_max: 256,
            ..AofConfig::default()
        }
    }

    /// Returns the preset for cost: small memory, few syncs, archived segments compressed well.
    pub fn cost() -> AofConfig {
        AofConfig {
            segment_bytes: 16 << 20,
            flush_strategy: FlushStrategy::BatchedOrPeriodic { records: 10_000, ms: 1000 },
            buffer_bytes: 256 << 10,
            pending_bytes_max: 8 << 20,
            open_segments_max: 16,
            compression_level: Some(12),
            background_interval: Duration::from_secs(1),
            ..AofConfig::default()
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the first field out of range, what it is and what it may be.
    pub fn validate(&self) -> Result<()> {
        let bytes = self.segment_bytes;
        if !(8192..=1 << 32).contains(&bytes) || !bytes.is_multiple_of(4096) {
            return Err(AofError::InvalidSegmentSize { bytes }.into());
        }
        self.validate_strategy()?;
        range("buffer_bytes", self.buffer_bytes as u128, 0, 1 << 30)?;
        range("pending_bytes_max", self.pending_bytes_max.into(), 4096, 1 << 40)?;
        range("pressure_timeout in ms", self.pressure_timeout.as_millis(), 0, 86_400_000)?;
        range("spare_segments", self.spare_segments as u128, 0, 64)?;
        range("open_segments_max", self.open_segments_max as u128, 1, 1 << 16)?;
        range("readers_max", self.readers_max as u128, 1, u128::from(u32::MAX))?;
        range("background_interval in us", self.background_interval.as_micros(), 1000, 3_600_000_000)?;
        self.retention.validate()?;
        if let Some(level) = self.compression_level
            && !(1..=22).contains(&level)
        {
            return Err(Error::invalid_argument(format_args!("compression_level {level} is not in 1..=22")));
        }
        match &self.archive {
            Some(archive) => archive.validate(),
            None if self.unarchived_segments_max > 0 => Err(Error::invalid_argument(
                "unarchived_segments_max is set and archive is not: nothing would archive them",
            )),
            None => Ok(()),
        }
    }

    fn validate_strategy(&self) -> Result<()> {
        let (records, ms) = match self.flush_strategy {
            FlushStrategy::Sync | FlushStrategy::Async => (None, None),
            FlushStrategy::Batched(records) => (Some(records), None),
            FlushStrategy::Periodic(ms) => (None, Some(ms)),
            FlushStrategy::BatchedOrPeriodic { records, ms } => (Some(records), Some(ms)),
        };
        range("flush_strategy records", records.unwrap_or(1).into(), 1, 1 << 32)?;
        range("flush_strategy ms", ms.unwrap_or(1).into(), 1, 3_600_000)
    }

    /// Returns the options of the log underneath.
    pub(super) fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            spare_segments: self.spare_segments,
            buffer_bytes: self.buffer_bytes,
            ids_contiguous: true,
            index: true,
            keys: self.encryption.clone(),
            ..LogOptions::default()
        }
    }
}

impl Retention {
    /// Checks both bounds.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a bound of zero, which would keep nothing.
    pub fn validate(&self) -> Result<()> {
        if self.age.is_some_and(|age| age.is_zero()) {
            return Err(Error::invalid_argument("retention.age is zero"));
        }
        if self.bytes == Some(0) {
            return Err(Error::invalid_argument("retention.bytes is zero"));
        }
        Ok(())
    }
}

impl ArchiveConfig {
    fn validate(&self) -> Result<()> {
        let prefix = &self.prefix;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-.".contains(&byte);
        let bad = prefix.is_empty() || prefix.len() > 512 || !prefix.bytes().all(plain);
        if bad || prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains("//") || prefix.contains("..") {
            let what = format_args!("archive.prefix {prefix:?} is not 1 to 512 of a-z0-9/-. without empty parts");
            return Err(Error::invalid_argument(what));
        }
        range("archive.attempts_max", self.attempts_max.into(), 1, 1000)
    }
}

/// Builds an [`AofConfig`]; what is not set stays as in the preset it began with.
#[derive(Clone, Debug, Default)]
pub struct AofConfigBuilder(AofConfig);

macro_rules! setters {
    ($($field:ident: $type:ty,)*) => {$(
        #[doc = concat!("Sets [`AofConfig::", stringify!($field), "`].")]
        pub fn $field(mut self, $field: $type) -> AofConfigBuilder {
            self.0.$field = $field;
            self
        }
    )*};
}

impl AofConfigBuilder {
    setters! {
        segment_bytes: u64,
        flush_strategy: FlushStrategy,
        buffer_bytes: usize,
        pending_bytes_max: u64,
        unarchived_segments_max: usize,
        pressure_timeout: Duration,
        preallocate: bool,
        spare_segments: usize,
        open_segments_max: usize,
        readers_max: usize,
        retention: Retention,
        background_interval: Duration,
    }

    /// Starts over from [`AofConfig::throughput`].
    pub fn throughput(self) -> AofConfigBuilder {
        AofConfigBuilder(AofConfig::throughput())
    }

    /// Starts over from [`AofConfig::cost`].
    pub fn cost(self) -> AofConfigBuilder {
        AofConfigBuilder(AofConfig::cost())
    }

    /// Sets [`AofConfig::compression_level`].
    pub fn compression_level(mut self, level: i32) -> AofConfigBuilder {
        self.0.compression_level = Some(level);
        self
    }

    /// Sets [`AofConfig::encryption`].
    pub fn encryption(mut self, keys: KeyRing) -> AofConfigBuilder {
        self.0.encryption = Some(keys);
        self
    }

    /// Sets [`AofConfig::archive`].
    pub fn archive(mut self, archive: ArchiveConfig) -> AofConfigBuilder {
        self.0.archive = Some(archive);
        self
    }

    /// Returns the configuration, checked.
    ///
    /// # Errors
    /// As [`AofConfig::validate`].
    pub fn build(self) -> Result<AofConfig> {
        self.0.validate()?;
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        for config in [AofConfig::default(), AofConfig::throughput(), AofConfig::cost()] {
            config.validate().unwrap();
        }
    }

    #[test]
    fn bad_field_is_named() {
        type Change = fn(&mut AofConfig);
        let cases: [(&str, Change); 15] = [
            ("segment_bytes", |config| config.segment_bytes = 4096),
            ("segment_bytes", |config| config.segment_bytes = 10_000),
            ("flush_strategy records", |config| config.flush_strategy = FlushStrategy::Batched(0)),
            ("flush_strategy ms", |config| config.flush_strategy = FlushStrategy::Periodic(3_600_001)),
            ("buffer_bytes", |config| config.buffer_bytes = 2 << 30),
            ("pending_bytes_max", |config| config.pending_bytes_max = 1),
            ("unarchived_segments_max", |config| config.unarchived_segments_max = 1),
            ("pressure_timeout", |config| config.pressure_timeout = Duration::from_secs(100_000)),
            ("spare_segments", |config| config.spare_segments = 65),
            ("open_segments_max", |config| config.open_segments_max = 0),
            ("readers_max", |config| config.readers_max = 0),
            ("retention.age", |config| config.retention.age = Some(Duration::ZERO)),
            ("retention.bytes", |config| config.retention.bytes = Some(0)),
            ("compression_level", |config| config.compression_level = Some(23)),
            ("background_interval", |config| config.background_interval = Duration::ZERO),
        ];
        for (field, change) in cases {
            let mut config = AofConfig::default();
            change(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }
}
