//! Appending to a log: when records become durable, and who waits for it. Run with `cargo run --example aof_tickets`.

use aidb::aof::{Aof, AofConfig, FlushStrategy};
use aidb::env::StdEnv;

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-tickets");
    // The strategy says when the log syncs by itself: here after 1,000 records or 50 ms, whichever comes first.
    let strategy = FlushStrategy::BatchedOrPeriodic { records: 1000, ms: 50 };
    let config = AofConfig::builder().flush_strategy(strategy).build()?;
    let (aof, report) = Aof::open(StdEnv, &dir, config)?;
    println!("{} segments found, the next record has id {}", report.log.segments, aof.next_id());

    // An append returns at once; its ticket says where the record went.
    let first = aof.append(b"nobody waits for me")?;
    println!("record {} lies at {}, durable: {}", first.ids().start, first.lsn(), first.is_durable());

    // Waiting is up to the caller, and costs one sync for all who wait at the same time.
    let second = aof.append(b"I am waited for")?;
    second.wait()?;
    println!("record {} is durable, and so is every one before it: {}", second.ids().start, first.is_durable());

    // The same in one call.
    let ids = aof.append_sync(b"append and wait")?;
    println!("record {} is durable", ids.start);

    // The records of a batch are kept together or not at all.
    let batch = aof.append_batch(&["debit 5", "credit 5"])?;
    println!("records {:?} go together", batch.ids());

    // A writer that must not act on an old view names the id it expects, and a fence: whoever comes with a lower one later
    // is refused.
    let fence = 7;
    aof.append_if(aof.next_id(), fence, b"I am the leader of term 7")?.wait()?;
    let refused = aof.append_if(aof.next_id(), fence - 1, b"so was I, once").unwrap_err();
    println!("refused: {refused}");

    // A ticket is also a future: tasks wait without blocking their thread, under any runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without timers or sockets");
    runtime.block_on(async {
        let tickets = (0..100).map(|number| aof.append(format!("task {number}").as_bytes()));
        for ticket in tickets.collect::<aidb::Result<Vec<_>>>()? {
            ticket.await?;
        }
        Ok::<(), aidb::Error>(())
    })?;
    println!("{} records are durable in {}", aof.durable_id(), dir.display());
    aof.close()
}
