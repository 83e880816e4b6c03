//! Giving space back: truncating, keeping by size and age, and a pin that holds both off. Run with
//! `cargo run --example aof_truncate`.
#![allow(clippy::disallowed_methods, reason = "clears a directory and waits, outside the log")]

use aidb::aof::{Aof, AofConfig, AofError, Retention};
use aidb::env::StdEnv;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 1 << 20;

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-truncate");
    // Left over from an earlier run of this example.
    let _ = std::fs::remove_dir_all(&dir);
    // Space is given back in whole segments, so these are small.
    let config = AofConfig::builder().segment_bytes(SEGMENT_BYTES).build()?;
    let (aof, _) = Aof::open(StdEnv, &dir, config)?;
    for number in 0..10_000 {
        let _ticket = aof.append(format!("{number:01000}").as_bytes())?;
    }
    aof.flush()?;
    println!("{} segments, records {}..{}", aof.segments().len(), aof.first_id(), aof.next_id());

    // From here on records before 2,001 do not exist for readers; whole segments of them leave the disk.
    aof.truncate_before(2001)?;
    println!("{} segments after truncating, the first record is {}", aof.segments().len(), aof.first_id());
    let gone = aof.read(2000).unwrap_err();
    assert!(matches!(AofError::of(&gone), Some(AofError::Truncated { .. })));
    println!("record 2000: {gone}");

    // A pin has a name, survives a restart, and keeps its record and all later ones from going away.
    aof.pin("backup", 4000)?;
    // Keep 2 MiB, and nothing older than a week; the background does it.
    aof.retain(Retention { bytes: Some(2 << 20), age: Some(Duration::from_secs(7 * 24 * 3600)) })?;
    wait_until(|| aof.first_id() > 3000);
    println!("the pin holds: {:?}, the first record is {}", aof.pins(), aof.first_id());
    assert!(aof.first_id() <= 4000);

    aof.unpin("backup")?;
    wait_until(|| aof.first_id() > 4000);
    println!("without it {} segments stay, the first record is {}", aof.segments().len(), aof.first_id());
    aof.close()
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
