//! `aidb aof archive`: uploads every sealed segment, verifies it, and gives its local space back.
//!
//! Opens the log for writing, since it changes what is kept where; no other process may have it open.

use super::Output;
use super::place::{Place, existing, words};
use aidb::aof::archive::{ArchiveStorage, FilesystemArchiveStorage};
use aidb::aof::{Aof, AofConfig, ArchiveConfig, SegmentStatus};
use aidb::env::{Env, StdEnv};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
A target is a directory, or s3://BUCKET/PREFIX in builds with feature s3; credentials come from the environment (AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL). Give the same target and prefix every time.

Examples:
  aidb aof archive /data/log --to /mnt/archive
  aidb aof archive /data/log --to s3://bucket/logs --seal --level 9";

/// How often the state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Options of `aidb aof archive`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Where the segments go.
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// What all keys in the target begin with.
    #[arg(long, default_value = "aidb")]
    prefix: String,
    /// Ends the segment being written first, so that it goes too.
    #[arg(long)]
    seal: bool,
    /// How many archived segments stay local, the newest.
    #[arg(long, default_value_t = 1)]
    keep: usize,
    /// Level of zstd, 1 to 22 [default: not compressed].
    #[arg(long)]
    level: Option<i32>,
}

/// Archives what is sealed.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let storage = storage(&options.to)?;
    let archive =
        ArchiveConfig { prefix: options.prefix.clone(), local_segments: options.keep, ..ArchiveConfig::new(storage) };
    let config = AofConfig {
        archive: Some(archive),
        compression_level: options.level,
        encryption: options.place.keys.ring()?,
        ..AofConfig::default()
    };
    let (aof, _) = Aof::open(StdEnv, existing(&options.place.dir)?, config).map_err(words)?;
    let done = archive_all(&aof, options.seal);
    let closed = aof.close().map_err(words);
    done?;
    closed?;
    let mut output = Output::new();
    let archived = aof.segments().iter().filter(|segment| !segment.archived_key.is_empty()).count();
    output.line(&format!("{archived} segments are archived in {}", options.to))?;
    output.flush()
}

fn archive_all(aof: &Aof, seal: bool) -> Result<(), String> {
    if seal {
        aof.seal().map_err(words)?;
    }
    let waits = |status| matches!(status, SegmentStatus::Sealed | SegmentStatus::UploadIntent);
    while aof.segments().iter().any(|segment| waits(segment.status)) {
        if let Some(error) = aof.background_errors().into_iter().last() {
            return Err(words(error));
        }
        StdEnv.sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Returns the store at `target`.
pub(super) fn storage(target: &str) -> Result<Arc<dyn ArchiveStorage>, String> {
    match target.strip_prefix("s3://") {
        Some(place) => s3(place),
        None => Ok(Arc::new(FilesystemArchiveStorage::new(StdEnv, target).map_err(words)?)),
    }
}

#[cfg(feature = "s3")]
fn s3(place: &str) -> Result<Arc<dyn ArchiveStorage>, String> {
    use aidb::aof::archive::s3::{S3ArchiveStorage, S3Config};
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    // An address without TLS is taken if it is this machine's own.
    let endpoint =
        std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL")).unwrap_or_default();
    let near = ["http://127.0.0.1", "http://localhost"].iter().any(|start| endpoint.starts_with(start));
    let config = S3Config::builder(bucket).prefix(prefix.trim_end_matches('/')).allow_http(near);
    let config = config.build().map_err(words)?;
    Ok(Arc::new(S3ArchiveStorage::new(config).map_err(words)?))
}

#[cfg(not(feature = "s3"))]
fn s3(place: &str) -> Result<Arc<dyn ArchiveStorage>, String> {
    Err(format!("s3://{place}: this program was built without S3; build it with --features s3"))
}
