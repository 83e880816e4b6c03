//! Following a log while it grows, from this process and from outside. Run with `cargo run --example aof_tail`.
#![allow(clippy::disallowed_methods, reason = "threads of its own, outside the log")]

use aidb::aof::{Aof, AofConfig, From, Until};
use aidb::env::StdEnv;
use std::time::Duration;

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-tail");
    let (aof, _) = Aof::open(StdEnv, &dir, AofConfig::default())?;
    let first = aof.next_id();

    std::thread::scope(|threads| {
        // This reader blocks at the end until there is more. It sees what is durable, never what a power loss could take back.
        let cursor = aof.cursor(From::Id(first))?.follow(true).until(Until::Count(5));
        let reader = threads.spawn(move || {
            for record in cursor {
                let record = record?;
                println!("seen at once: {} {}", record.id, String::from_utf8_lossy(&record.bytes));
            }
            Ok::<(), aidb::Error>(())
        });
        for number in 1..=5 {
            aof.append_sync(format!("line {number}").as_bytes())?;
            std::thread::sleep(Duration::from_millis(50));
        }
        reader.join().expect("the reader does not panic")
    })?;

    // Another process reads beside the writer: it takes no lock and changes nothing. It sees that a record is durable with
    // the next append, or a second later.
    let outside = Aof::open_read_only(StdEnv, &dir, AofConfig::default())?;
    let count = outside.cursor(From::Id(first))?.count();
    println!("{count} of 5 records seen from outside at once");
    let count = outside.cursor(From::Id(first))?.follow(true).until(Until::Count(5)).count();
    println!("{count} of 5 records seen from outside a moment later");

    // Only how far the log is durable, for those who replicate it.
    let mut watch = aof.watch_durable();
    let before = watch.lsn();
    aof.append(b"one more")?.wait()?;
    let now = watch.wait_past(before, Some(Duration::from_secs(1)))?;
    println!("durable moved from {before} to {}", now.expect("it is durable already"));
    aof.close()
}
