//! Archiving sealed segments to S3, or to whatever speaks its protocol. Run with
//!
//! ```text
//! AWS_ACCESS_KEY_ID=.. AWS_SECRET_ACCESS_KEY=.. AWS_REGION=.. \
//!     cargo run --features s3 --example aof_s3 -- BUCKET [http://127.0.0.1:9000]
//! ```
//!
//! The bucket must exist; the second argument is the address of a server other than AWS.
#![allow(clippy::disallowed_methods, reason = "clears a directory and waits, outside the log")]

use aidb::aof::archive::s3::{S3ArchiveStorage, S3Config};
use aidb::aof::{Aof, AofConfig, ArchiveConfig, From, SegmentStatus};
use aidb::env::StdEnv;
use std::sync::Arc;
use std::time::Duration;

fn main() -> aidb::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(bucket) = arguments.next() else {
        println!(
            "No bucket is named, so nothing was done: cargo run --features s3 --example aof_s3 -- BUCKET [ENDPOINT]"
        );
        return Ok(());
    };
    let dir = std::env::temp_dir().join("aidb-aof-s3");
    // Left over from an earlier run of this example.
    let _ = std::fs::remove_dir_all(&dir);

    // Keys, region and endpoint that are not set here come from the environment, or from a profile that is named.
    let mut s3 = S3Config::builder(bucket).prefix("examples");
    if let Some(endpoint) = arguments.next() {
        s3 = s3.allow_http(endpoint.starts_with("http://")).endpoint(endpoint);
    }
    let storage = Arc::new(S3ArchiveStorage::new(s3.build()?)?);
    let archive = ArchiveConfig { local_segments: 0, ..ArchiveConfig::new(storage) };
    let config = AofConfig::builder().segment_bytes(1 << 20).archive(archive).compression_level(3).build()?;

    let (aof, _) = Aof::open(StdEnv, &dir, config)?;
    for number in 1..=5000 {
        let _ticket = aof.append(format!("measurement {number:0500}").as_bytes())?;
    }
    aof.seal()?;
    // A failed upload is tried again; what failed is told, once, by the next call, and kept in `background_errors`.
    let waits = |status| matches!(status, SegmentStatus::Sealed | SegmentStatus::UploadIntent);
    while aof.segments().iter().any(|segment| waits(segment.status)) {
        if let Some(error) = aof.background_errors().pop() {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for segment in aof.segments().iter().filter(|segment| !segment.archived_key.is_empty()) {
        println!("{}: {} of {} bytes", segment.archived_key, segment.archived_bytes, segment.original_bytes);
    }

    // Only the blocks that are needed are fetched.
    println!("record 77: {} bytes", aof.read(77)?.bytes.len());
    println!("{} records read back", aof.cursor(From::First)?.count());
    aof.close()
}
