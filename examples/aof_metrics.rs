//! What a log counts, as numbers and for Prometheus. Run with `cargo run --example aof_metrics`.

use aidb::aof::{Aof, AofConfig, FlushStrategy};
use aidb::env::StdEnv;

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-metrics");
    let config = AofConfig::builder().flush_strategy(FlushStrategy::Batched(500)).build()?;
    let (aof, _) = Aof::open(StdEnv, &dir, config)?;
    for number in 0..10_000 {
        let _ticket = aof.append(format!("order {number}").as_bytes())?;
    }
    aof.append_sync(b"the last one")?;

    // A flush is a write and a sync; histograms hold every one of them.
    let flushes = aof.flush_metrics();
    println!(
        "{} flushes ({} because of their size, {} because somebody waited), {} records, {} bytes",
        flushes.total_flushes,
        flushes.batched_flushes,
        flushes.forced_flushes,
        flushes.records_flushed,
        flushes.bytes_flushed
    );
    println!(
        "flush time: {:?} to {:?}, half of them within {} us",
        flushes.flush_time_shortest,
        flushes.flush_time_longest,
        flushes.flush_nanos.percentile(50.0) / 1000
    );
    let performance = aof.performance_metrics();
    println!("{performance:?}\n");

    // Ready to be served to a scraper.
    for line in aof.prometheus().lines().filter(|line| !line.starts_with('#')) {
        println!("{line}");
    }
    assert!(aof.background_errors().is_empty());
    aof.close()
}
