//! What the hot paths may cost, counted and not timed: allocations of the calling thread.
#![allow(clippy::disallowed_methods, reason = "tests of the real world")]

use aidb::aof::{Aof, AofConfig, FlushStrategy, From};
use aidb::env::StdEnv;
use aidb::{DB, Durability, Options, WriteBatch, WriteOptions};
use allocation_counter::measure;

const COUNT: u64 = 10_000;

#[test]
fn appending_and_reading_records_allocates_nothing_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let config = AofConfig::builder().flush_strategy(FlushStrategy::Async).build().unwrap();
    let (aof, _) = Aof::open(StdEnv, dir.path(), config).unwrap();
    let append = || (0..COUNT).for_each(|_| drop(aof.append(&[7; 64]).unwrap()));
    append();
    let appended = measure(append).count_total;
    // The stage's buffer grows back after the flusher has taken one that grew.
    assert!(appended <= 20, "{appended} allocations for {COUNT} appends");
    aof.flush().unwrap();
    let read = measure(|| {
        let mut cursor = aof.cursor(From::First).unwrap();
        while let Some(record) = cursor.next_ref() {
            assert_eq!(record.unwrap().bytes.len(), 64);
        }
    });
    assert!(read.count_total <= 20, "{} allocations for {} records", read.count_total, 2 * COUNT);
    aof.close().unwrap();
}

#[test]
fn the_engine_allocates_little_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let db = DB::open(dir.path(), Options::default()).unwrap();
    let buffered = WriteOptions { durability: Some(Durability::Buffered) };
    let key = |number: u64| number.to_be_bytes();
    for number in 0..COUNT {
        let mut batch = WriteBatch::new();
        batch.put(key(number), [7; 100]);
        db.write_opt(batch, buffered).unwrap();
    }
    db.flush().unwrap();
    let hit = |number: u64| assert!(db.get(key(number)).unwrap().is_some());
    (0..COUNT).for_each(hit);
    let got = measure(|| (0..COUNT).for_each(hit)).count_total;
    // The value, which outlives the block it lies in.
    assert!(got <= COUNT, "{got} allocations for {COUNT} gets");
    let missed = measure(|| (COUNT..2 * COUNT).for_each(|number| assert!(db.get(key(number)).unwrap().is_none())));
    assert!(missed.count_total == 0, "{} allocations for {COUNT} gets of absent keys", missed.count_total);
    let scanned = measure(|| {
        let mut cursor = db.iter().into_cursor().unwrap();
        cursor.seek_to_first().unwrap();
        while cursor.valid() {
            cursor.next().unwrap();
        }
    });
    assert!(scanned.count_total <= 20, "{} allocations for {COUNT} entries", scanned.count_total);
}
