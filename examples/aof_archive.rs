//! Archiving sealed segments to a directory, and reading them back without noticing. Run with
//! `cargo run --example aof_archive`.
#![allow(clippy::disallowed_methods, reason = "clears directories and waits, outside the log")]

use aidb::aof::archive::FilesystemArchiveStorage;
use aidb::aof::{Aof, AofConfig, ArchiveConfig, From, SegmentStatus};
use aidb::env::StdEnv;
use std::sync::Arc;
use std::time::Duration;

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-archive");
    // Left over from an earlier run of this example.
    let _ = std::fs::remove_dir_all(&dir);

    // Any mounted directory; `aof_s3` shows the same with S3.
    let storage = FilesystemArchiveStorage::new(StdEnv, dir.join("archive"))?;
    let archive = ArchiveConfig { local_segments: 1, ..ArchiveConfig::new(Arc::new(storage)) };
    let config = AofConfig::builder().segment_bytes(1 << 20).archive(archive).compression_level(3).build()?;
    let (aof, _) = Aof::open(StdEnv, dir.join("log"), config)?;
    for number in 1..=10_000 {
        let _ticket = aof.append(format!("measurement {number:0500}").as_bytes())?;
    }
    // Ends the segment being written, so that it can go too.
    aof.seal()?;

    // A segment leaves the local disk only after its copy was read back whole and that fact is durable.
    while aof
        .segments()
        .iter()
        .any(|segment| matches!(segment.status, SegmentStatus::Sealed | SegmentStatus::UploadIntent))
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    for segment in aof.segments() {
        let kept = if segment.archived_bytes > 0 {
            format!(", {} bytes archived", segment.archived_bytes)
        } else {
            String::new()
        };
        println!("segment {}: {:?}, {} bytes{kept}", segment.number, segment.status, segment.original_bytes);
    }

    // Cursors go on from the archive to the local disk.
    let mut count = 0;
    for record in aof.cursor(From::First)? {
        count += 1;
        assert_eq!(record?.id, count);
    }
    println!("{count} records read back, record 77: {} bytes", aof.read(77)?.bytes.len());
    aof.close()
}
