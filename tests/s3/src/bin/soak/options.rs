//! The command line, of parent and child alike, and what both open the log with.

use aidb::aof::archive::s3::{S3ArchiveStorage, S3Config, S3Keys};
use aidb::aof::{AofConfig, ArchiveConfig, FlushStrategy, KeyRing, Retention};
use aidb_s3_tests::server::{ACCESS_KEY, SECRET_KEY};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The bucket of the run.
pub(crate) const BUCKET: &str = "soak";

/// What a run is told.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) minutes: f64,
    pub(crate) kills: u32,
    pub(crate) seed: u64,
    pub(crate) appenders: u32,
    pub(crate) readers: u32,
    pub(crate) ttl_seconds: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) pause_ms: u64,
    /// Segments go to S3; else they stay. For looking for the part to blame.
    pub(crate) archive: bool,
    /// Segments are compressed and encrypted.
    pub(crate) encrypt: bool,
    /// Of the child: where the log is, where S3 is, how many children there were before.
    pub(crate) dir: PathBuf,
    pub(crate) endpoint: String,
    pub(crate) round: u32,
}

impl Options {
    /// Reads `--name value` pairs.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            minutes: 10.0,
            kills: 20,
            seed: 1,
            appenders: 8,
            readers: 4,
            ttl_seconds: 40,
            segment_bytes: 1 << 20,
            pause_ms: 12,
            archive: true,
            encrypt: true,
            dir: PathBuf::new(),
            endpoint: String::new(),
            round: 0,
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} has no value", pair[0])) };
            let refused = format!("{name} {value}: not understood");
            let known = match name.as_str() {
                "--minutes" => value.parse().map(|value| options.minutes = value).is_ok(),
                "--kills" => value.parse().map(|value| options.kills = value).is_ok(),
                "--seed" => value.parse().map(|value| options.seed = value).is_ok(),
                "--appenders" => value.parse().map(|value| options.appenders = value).is_ok(),
                "--readers" => value.parse().map(|value| options.readers = value).is_ok(),
                "--ttl-seconds" => value.parse().map(|value| options.ttl_seconds = value).is_ok(),
                "--segment-bytes" => value.parse().map(|value| options.segment_bytes = value).is_ok(),
                "--pause-ms" => value.parse().map(|value| options.pause_ms = value).is_ok(),
                "--archive" => value.parse().map(|value| options.archive = value).is_ok(),
                "--encrypt" => value.parse().map(|value| options.encrypt = value).is_ok(),
                "--round" => value.parse().map(|value| options.round = value).is_ok(),
                "--dir" => value.parse().map(|value| options.dir = value).is_ok(),
                "--endpoint" => value.parse().map(|value| options.endpoint = value).is_ok(),
                _ => false,
            };
            if !known {
                return Err(refused);
            }
        }
        Ok(options)
    }

    /// Returns the command line of the child of `round`.
    pub(crate) fn child_arguments(&self, round: u32) -> Vec<String> {
        let pairs = [
            ("--seed", self.seed.to_string()),
            ("--appenders", self.appenders.to_string()),
            ("--readers", self.readers.to_string()),
            ("--ttl-seconds", self.ttl_seconds.to_string()),
            ("--segment-bytes", self.segment_bytes.to_string()),
            ("--pause-ms", self.pause_ms.to_string()),
            ("--archive", self.archive.to_string()),
            ("--encrypt", self.encrypt.to_string()),
            ("--round", round.to_string()),
            ("--dir", self.dir.display().to_string()),
            ("--endpoint", self.endpoint.clone()),
        ];
        let words = pairs.into_iter().flat_map(|(name, value)| [name.to_string(), value]);
        std::iter::once("child".to_string()).chain(words).collect()
    }

    /// Returns the configuration of the log; `retention` is off when the parent reads everything.
    pub(crate) fn config(&self, retention: bool) -> Result<AofConfig, String> {
        let s3 = S3Config::builder(BUCKET)
            .endpoint(&self.endpoint)
            .region("us-east-1")
            .allow_http(true)
            .keys(S3Keys::new(ACCESS_KEY, SECRET_KEY, None))
            .request_timeout(Duration::from_secs(10))
            .backoff_min(Duration::from_millis(20))
            .backoff_max(Duration::from_secs(1));
        let age = retention.then_some(Duration::from_secs(self.ttl_seconds));
        let mut config = AofConfig {
            segment_bytes: self.segment_bytes,
            flush_strategy: FlushStrategy::BatchedOrPeriodic { records: 200, ms: 50 },
            retention: Retention { age, bytes: None },
            ..AofConfig::default()
        };
        if self.archive {
            let storage = s3.build().and_then(S3ArchiveStorage::new).map_err(|error| error.to_string())?;
            config.archive = Some(ArchiveConfig { local_segments: 2, ..ArchiveConfig::new(Arc::new(storage)) });
            config.unarchived_segments_max = 64;
        }
        if self.encrypt {
            config.compression_level = Some(1);
            config.encryption = Some(KeyRing::new(7, [(7, [0x5A; 32])]).map_err(|error| error.to_string())?);
        }
        Ok(config)
    }
}
