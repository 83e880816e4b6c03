//! Micro-benchmarks of the parts a read and a write pass through: memtable, block, index, filter, table, merge.
//!
//! `cargo bench --bench table`. Keys are 16 digits in random order, values 100 bytes, unless the name says otherwise.
#![allow(clippy::disallowed_methods, missing_docs, reason = "a benchmark runs outside every Env")]

use aidb::base::hash::hash64;
use aidb::base::key::{SeqNum, Tag, ValueKind};
use aidb::env::StdEnv;
use aidb::lsm::cache::BlockCache;
use aidb::lsm::iter::{InternalIterator, MergingIterator};
use aidb::lsm::memtable::{Memtable, SkipList, WideTable};
use aidb::lsm::table::format::{Block, BlockBuilder, Filter, FilterBuilder, Index, IndexBuilder};
use aidb::lsm::table::{Compression, Table, TableBuilder, TableOptions};
use criterion::{Criterion, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const VALUE: [u8; 100] = [7; 100];

fn key(number: u64) -> [u8; 16] {
    let mut key = [b'0'; 16];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn scattered(number: u64) -> [u8; 16] {
    key(hash64(&number.to_le_bytes(), 0) % 10_000_000_000_000_000)
}

fn tag(seq: u64) -> Tag {
    Tag::new(SeqNum(seq), ValueKind::Put)
}

/// Draws numbers below `bound`, cheaply.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// One memtable of a million entries, then reads of it and inserts on top.
fn memtable<M: Memtable + Default>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(name);
    let table = Arc::new(M::default());
    let mut number = 0;
    while number < 1_000_000 {
        number += 1;
        table.insert(&scattered(number), tag(number), &VALUE);
    }
    println!("{name}: {} bytes an entry", table.bytes() / 1_000_000);
    let mut draw = Draw(1);
    group.bench_function("get random of 1M", |b| {
        b.iter(|| table.get(&scattered(1 + draw.below(1_000_000)), SeqNum::MAX).map(|found| found.1.len()))
    });
    group.bench_function("get absent of 1M", |b| {
        b.iter(|| table.get(&scattered((1 << 40) + draw.below(1 << 30)), SeqNum::MAX).is_none())
    });
    let mut iter = table.iter();
    for backwards in [false, true] {
        let start = |iter: &mut M::Iter| if backwards { iter.seek_to_last() } else { iter.seek_to_first() }.unwrap();
        start(&mut iter);
        group.bench_function(if backwards { "prev of 1M" } else { "next of 1M" }, |b| {
            b.iter(|| {
                if backwards { iter.prev() } else { iter.next() }.unwrap();
                if !iter.valid() {
                    start(&mut iter);
                }
                iter.value().len()
            })
        });
    }
    group.bench_function("insert random above 1M", |b| {
        b.iter(|| {
            number += 1;
            table.insert(&scattered(number), tag(number), &VALUE);
        })
    });
    let (ascending, mut last) = (M::default(), 0);
    group.bench_function("insert ascending", |b| {
        b.iter(|| {
            last += 1;
            ascending.insert(&key(last), tag(last), &VALUE);
        })
    });
    group.finish();
}

fn memtables(c: &mut Criterion) {
    memtable::<WideTable>(c, "wide");
    memtable::<SkipList>(c, "skiplist");
    let mut group = c.benchmark_group("BTreeMap");
    let (mut map, mut number) = (BTreeMap::new(), 0);
    while number < 1_000_000 {
        number += 1;
        map.insert(scattered(number), VALUE);
    }
    let mut draw = Draw(1);
    group.bench_function("get random of 1M", |b| {
        b.iter(|| map.get(&scattered(1 + draw.below(1_000_000))).map(|v| v[0]))
    });
    group.bench_function("insert random above 1M", |b| {
        b.iter(|| {
            number += 1;
            map.insert(scattered(number), VALUE)
        })
    });
    group.finish();
}

fn block(c: &mut Criterion) {
    let mut group = c.benchmark_group("block 4 KiB");
    let mut builder = BlockBuilder::default();
    let mut numbers = Vec::new();
    while builder.estimated_bytes() < 4096 {
        let number = 1_000_000 + numbers.len() as u64 * 13;
        builder.add(&key(number), tag(5), &VALUE);
        numbers.push(number);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let mut draw = Draw(1);
    group.bench_function("get", |b| {
        b.iter(|| {
            let key = key(numbers[draw.below(numbers.len() as u64) as usize]);
            let block = Block::decode(black_box(&bytes)).unwrap();
            block.get(&key, hash64(&key, 0), Tag::seek(SeqNum::MAX)).unwrap().unwrap().1.len()
        })
    });
    group.bench_function("seek", |b| {
        b.iter(|| {
            let key = key(1_000_000 + draw.below(13 * numbers.len() as u64));
            Block::decode(black_box(&bytes)).unwrap().lower_bound(&key, Tag::seek(SeqNum::MAX)).unwrap()
        })
    });
    group.finish();
}

fn index_and_filter(c: &mut Criterion) {
    let mut index = IndexBuilder::default();
    for number in 0..16_384 {
        index.add(&key(number * 1000), tag(1), (number + 1) * 4096);
    }
    let mut bytes = Vec::new();
    index.finish(&mut bytes);
    let index = Index::decode(bytes.into(), 16_384 * 4096).unwrap();
    let mut draw = Draw(1);
    c.bench_function("index find of 16,384 blocks", |b| {
        b.iter(|| index.find(&key(draw.below(16_384_000)), Tag::seek(SeqNum::MAX)))
    });

    let mut filter = FilterBuilder::default();
    (0..600_000).for_each(|number| filter.add(hash64(&key(number), 0)));
    let mut bytes = Vec::new();
    filter.finish(15, &mut bytes);
    let filter = Filter::decode(bytes.into()).unwrap();
    let asked = 4_000_000u64;
    let passed = (0..asked).filter(|number| filter.may_contain(hash64(&key(1_000_000 + number), 0))).count();
    println!("filter of 600,000 keys, 15 bits each: {:.4}% false positives", passed as f64 * 100.0 / asked as f64);
    c.bench_function("filter absent key", |b| {
        b.iter(|| filter.may_contain(hash64(&key(1_000_000 + draw.below(100_000_000)), 0)))
    });
    c.bench_function("filter present key", |b| b.iter(|| filter.may_contain(hash64(&key(draw.below(600_000)), 0))));
}

fn table(c: &mut Criterion) {
    const ENTRIES: u64 = 500_000;
    let dir = tempfile::tempdir().unwrap();
    for compression in [Compression::None, Compression::Lz4] {
        let path = dir.path().join(format!("{compression:?}.sst"));
        let options = TableOptions { compression, ..TableOptions::default() };
        let mut builder = TableBuilder::create(&StdEnv, &path, 1, options).unwrap();
        (0..ENTRIES).for_each(|number| builder.add(&key(number * 7), tag(1), &VALUE).unwrap());
        builder.finish().unwrap();
        let mut group = c.benchmark_group(format!("table {compression:?}"));
        let mut draw = Draw(1);
        let open = |cache_bytes| Arc::new(Table::open(&StdEnv, &path, 1, BlockCache::new(cache_bytes)).unwrap());
        for (name, cache_bytes) in [("get cached", 256 << 20), ("get from the page cache", 0)] {
            let table = open(cache_bytes);
            (0..ENTRIES).step_by(10).for_each(|number| drop(table.get(&key(number * 7), SeqNum::MAX).unwrap()));
            group.bench_function(name, |b| {
                b.iter(|| table.get(&key(draw.below(ENTRIES) * 7), SeqNum::MAX).unwrap().unwrap().1.len())
            });
        }
        let table = open(256 << 20);
        let mut cursor = table.iter(true);
        group.bench_function("seek cached", |b| {
            b.iter(|| cursor.seek(&key(draw.below(ENTRIES * 7)), Tag::seek(SeqNum::MAX)).unwrap())
        });
        for children in [1, 4] {
            let cursors = (0..children).map(|_| Box::new(table.iter(false)) as Box<dyn InternalIterator>).collect();
            let mut merging = MergingIterator::new(cursors);
            merging.seek_to_first().unwrap();
            group.bench_function(format!("next, {children} merged, from the page cache"), |b| {
                b.iter(|| {
                    merging.next().unwrap();
                    if !merging.valid() {
                        merging.seek_to_first().unwrap();
                    }
                    merging.value().len()
                })
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = memtables, block, index_and_filter, table
}
criterion_main!(benches);
