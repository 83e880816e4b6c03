//! Whole tables: written, opened, asked, walked, damaged.
#![allow(clippy::disallowed_methods, reason = "damages files behind the engine's back")]

use super::*;
use crate::base::hash::hash64;
use crate::base::key::{ValueKind, compare};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::{Error, ErrorKind};
use crate::env::{Disk, DiskFile, Env, OpenMode, StdEnv};
use crate::lsm::cache::BlockCache;
use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::testing::{VecIterator, steps, walk};
use crate::lsm::value::Value;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

type Entries = Vec<(Vec<u8>, Tag, Vec<u8>)>;

fn put(seq: u64) -> Tag {
    Tag::new(SeqNum(seq), ValueKind::Put)
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("000007.sst")
}

fn write(path: &Path, options: TableOptions, entries: &Entries) -> TableInfo {
    let mut builder = TableBuilder::create(&StdEnv, path, 7, options).unwrap();
    for (key, tag, value) in entries {
        builder.add(key, *tag, value).unwrap();
        assert_eq!(builder.last_key(), Some((&key[..], *tag)));
    }
    assert_eq!(builder.entries(), entries.len() as u64);
    builder.finish().unwrap()
}

fn open(path: &Path, cache_bytes: u64) -> Result<Arc<Table<StdEnv>>, Error> {
    Table::open(&StdEnv, path, 7, BlockCache::new(cache_bytes)).map(Arc::new)
}

/// Entries of keys with long common prefixes, several versions of some, and values of many lengths.
fn some_entries(count: u64) -> Entries {
    let mut entries = Entries::new();
    for number in 0..count {
        let hash = hash64(&[number as u8, (number >> 8) as u8], 1);
        let key = format!("table:{:04}:{number:05}", number / 40).into_bytes();
        for seq in (0..1 + hash % 3).rev() {
            let tag = if hash % 7 == seq { Tag::new(SeqNum(10 * seq), ValueKind::Delete) } else { put(10 * seq + 1) };
            let value = if tag.kind() == ValueKind::Delete { Vec::new() } else { vec![hash as u8; hash as usize % 60] };
            entries.push((key.clone(), tag, value));
        }
    }
    entries
}

fn any_options() -> impl Strategy<Value = TableOptions> {
    let compression = prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Snappy]);
    (prop::sample::select(vec![64usize, 100, 300, 4096]), compression, prop::sample::select(vec![0u8, 1, 15])).prop_map(
        |(block_bytes, compression, filter_bits_per_key)| TableOptions {
            block_bytes,
            compression,
            filter_bits_per_key,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn matches_a_sorted_vec(
        raw in prop::collection::vec((prop::collection::vec(0u8..3, 0..4), 0u64..6, any::<bool>()), 1..120),
        options in any_options(), cache_bytes in prop::sample::select(vec![0u64, 500, 1 << 20]),
        steps in steps(), fill_cache: bool,
    ) {
        let entries = VecIterator::sorted(raw, 3);
        let dir = TempDir::new().unwrap();
        let written = write(&path(&dir), options, &entries);
        let table = open(&path(&dir), cache_bytes).unwrap();
        prop_assert_eq!(table.info(), &written);
        prop_assert_eq!(&table.verify().unwrap(), &written);
        prop_assert_eq!(written.file_bytes, std::fs::metadata(path(&dir)).unwrap().len());
        for (key, _, _) in &entries {
            prop_assert!(table.may_contain(key));
            for seq in 0..7 {
                let seek = Tag::seek(SeqNum(seq));
                let wanted = entries.iter().find(|entry| entry.0 == *key && entry.1 <= seek);
                let found = table.get(key, SeqNum(seq)).unwrap();
                let found = found.as_ref().map(|(tag, value)| (*tag, value.as_slice()));
                prop_assert_eq!(found, wanted.map(|entry| (entry.1, &entry.2[..])));
            }
            prop_assert_eq!(table.get(&[&key[..], &[9]].concat(), SeqNum::MAX).unwrap(), None);
        }
        walk(&mut table.iter(fill_cache), &mut VecIterator::new(entries), &steps);
    }
}

#[test]
fn scans_read_ahead_and_see_everything_both_ways() {
    let entries = some_entries(6000);
    let dir = TempDir::new().unwrap();
    let options = TableOptions { block_bytes: 512, ..TableOptions::default() };
    write(&path(&dir), options, &entries);
    let table = open(&path(&dir), 1 << 16).unwrap();
    for fill_cache in [true, false] {
        let mut iter = table.iter(fill_cache);
        iter.seek_to_first().unwrap();
        for (key, tag, value) in &entries {
            assert_eq!((iter.key(), iter.tag(), iter.value()), (&key[..], *tag, &value[..]));
            iter.next().unwrap();
        }
        assert!(!iter.valid());
        iter.seek_to_last().unwrap();
        for (key, tag, value) in entries.iter().rev() {
            assert_eq!((iter.key(), iter.tag(), iter.value()), (&key[..], *tag, &value[..]));
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
    }
}

#[test]
fn versions_of_one_key_span_blocks() {
    let entries: Entries = (1..200u64).rev().map(|seq| (b"hot".to_vec(), put(seq), vec![seq as u8; 30])).collect();
    let dir = TempDir::new().unwrap();
    let options = TableOptions { block_bytes: 128, ..TableOptions::default() };
    let info = write(&path(&dir), options, &entries);
    assert_eq!((info.seq_min, info.seq_max), (SeqNum(1), SeqNum(199)));
    let table = open(&path(&dir), 0).unwrap();
    assert!(table.index().len() > 30);
    assert_eq!(table.get(b"hot", SeqNum(0)).unwrap(), None);
    for seq in 1..200 {
        assert_eq!(table.get(b"hot", SeqNum(seq)).unwrap(), Some((put(seq), vec![seq as u8; 30].into())));
    }
}

#[test]
fn jumbo_entries_have_a_block_each_and_are_not_copied() {
    let noise = |bytes: usize| -> Vec<u8> {
        (0..bytes).map(|at| hash64(&[at as u8, (at >> 8) as u8, (at >> 16) as u8], 0) as u8).collect()
    };
    let entries: Entries = vec![
        (b"a".to_vec(), put(1), noise(10)),
        (b"b".to_vec(), put(9), noise(3 << 20)),
        (b"b".to_vec(), put(8), vec![0; 5 << 20]),
        (b"c".to_vec(), put(2), noise(64 * 1024 - 40)),
        (vec![b'd'; KEY_BYTES_MAX], put(3), Vec::new()),
        (b"e".to_vec(), put(4), noise(2000)),
    ];
    for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
        let dir = TempDir::new().unwrap();
        write(&path(&dir), TableOptions { compression, ..TableOptions::default() }, &entries);
        let table = open(&path(&dir), 64 << 20).unwrap();
        table.verify().unwrap();
        assert_eq!(table.index().len(), 6);
        let mut iter = table.iter(true);
        iter.seek_to_first().unwrap();
        for (key, tag, value) in &entries {
            assert_eq!(table.get(key, tag.seq()).unwrap(), Some((*tag, Value::from(&value[..]))));
            assert!(iter.key() == key && iter.value() == value);
            iter.next().unwrap();
        }
        let (first, second) =
            (table.get(b"b", SeqNum(9)).unwrap().unwrap().1, table.get(b"b", SeqNum(9)).unwrap().unwrap().1);
        assert_eq!(first.as_ptr(), second.as_ptr(), "both are slices of the cached block");
    }
}

#[test]
fn every_flipped_byte_is_found_and_never_returned() {
    let entries = some_entries(40);
    for compression in [Compression::None, Compression::Lz4] {
        let dir = TempDir::new().unwrap();
        let path = path(&dir);
        write(&path, TableOptions { block_bytes: 256, compression, filter_bits_per_key: 15 }, &entries);
        let intact = std::fs::read(&path).unwrap();
        // In place: a file that is rewritten whole is flushed by some file systems when it is closed.
        let file = StdEnv.disk().open(&path, OpenMode::ReadWrite).unwrap();
        for (at, byte) in intact.iter().enumerate() {
            let flip = 1 << (hash64(&[at as u8, (at >> 8) as u8], 5) % 8);
            file.write_at(&[byte ^ flip], at as u64).unwrap();
            check_damaged(&path, at as u64, &entries);
            file.write_at(&[*byte], at as u64).unwrap();
        }
        open(&path, 0).unwrap().verify().unwrap();
    }
}

/// Opens a table whose byte `at` is damaged: what it says is true, and somewhere it reports the damage.
fn check_damaged(path: &Path, at: u64, entries: &Entries) {
    let named = |error: &Error| match error.kind() {
        ErrorKind::Corruption { file, offset } => {
            assert_eq!(file, path);
            assert!(*offset <= at, "byte {at} blamed on a later block at {offset}");
            *offset
        }
        kind => panic!("byte {at}: {kind:?}"),
    };
    let table = match open(path, 0) {
        Ok(table) => table,
        Err(error) => {
            named(&error);
            return;
        }
    };
    let offset = named(&table.verify().expect_err("verify reads every byte"));
    let block = (0..table.index().len()).map(|block| table.index().block(block)).find(|block| block.offset == offset);
    assert!(block.is_some_and(|block| at < block.offset + block.bytes), "byte {at} blamed on the block at {offset}");
    let mut failed = 0;
    for (key, tag, value) in entries {
        match table.get(key, tag.seq()) {
            Ok(found) => assert_eq!(found, Some((*tag, Value::from(&value[..])))),
            Err(error) => {
                assert_eq!(named(&error), offset);
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "byte {at}: no lookup met the damage");
    let mut iter = table.iter(true);
    let mut moved = iter.seek_to_first();
    for (key, tag, value) in entries {
        if let Err(error) = &moved {
            assert_eq!(named(error), offset);
            assert!(!iter.valid() && iter.seek_to_first().is_err() && iter.prev().is_err());
            return;
        }
        assert_eq!((iter.key(), iter.tag(), iter.value()), (&key[..], *tag, &value[..]));
        moved = iter.next();
    }
    panic!("byte {at}: the scan did not meet the damage");
}

#[test]
fn a_file_cut_or_grown_or_renamed_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = path(&dir);
    write(&path, TableOptions::default(), &some_entries(100));
    let intact = std::fs::read(&path).unwrap();
    let file = StdEnv.disk().open(&path, OpenMode::ReadWrite).unwrap();
    for len in (0..intact.len()).rev().step_by(7) {
        file.truncate(len as u64).unwrap();
        assert!(open(&path, 0).unwrap_err().is_corruption(), "cut to {len}");
    }
    for more in [1, 8, 4096] {
        let grown = [&intact[..], &vec![0; more]].concat();
        std::fs::write(&path, grown).unwrap();
        assert!(open(&path, 0).unwrap_err().is_corruption(), "grown by {more}");
    }
    std::fs::write(&path, &intact).unwrap();
    let other = Table::open(&StdEnv, &path, 8, BlockCache::new(0)).unwrap_err();
    assert!(other.to_string().contains("another file number"), "{other}");
}

#[test]
fn blocks_that_changed_places_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = path(&dir);
    let entries: Entries = (0..64u8).map(|key| (vec![key; 8], put(1), vec![key; 50])).collect();
    write(&path, TableOptions { block_bytes: 256, compression: Compression::None, filter_bits_per_key: 15 }, &entries);
    let table = open(&path, 0).unwrap();
    let (first, second) = (table.index().block(1), table.index().block(2));
    assert_eq!(first.bytes, second.bytes);
    let mut bytes = std::fs::read(&path).unwrap();
    let (a, b) = (first.offset as usize, second.offset as usize);
    let moved = bytes[a..b].to_vec();
    bytes.copy_within(b..b + moved.len(), a);
    bytes[b..b + moved.len()].copy_from_slice(&moved);
    std::fs::write(&path, &bytes).unwrap();
    let error = table.verify().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corruption { offset, .. } if *offset == first.offset), "{error}");
}

proptest! {
    #[test]
    fn a_damaged_file_never_panics(edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in prop::option::of(any::<usize>())) {
        let dir = TempDir::new().unwrap();
        let path = path(&dir);
        let entries = some_entries(30);
        write(&path, TableOptions { block_bytes: 256, ..TableOptions::default() }, &entries);
        let file = StdEnv.disk().open(&path, OpenMode::ReadWrite).unwrap();
        let len = file.len().unwrap();
        for (at, byte) in edits {
            file.write_at(&[byte], at as u64 % len).unwrap();
        }
        if let Some(cut) = cut {
            file.truncate(cut as u64 % len).unwrap();
        }
        if let Ok(table) = open(&path, 1 << 16) {
            for (key, tag, value) in &entries {
                if let Ok(found) = table.get(key, tag.seq()) {
                    prop_assert_eq!(found, Some((*tag, Value::from(&value[..]))));
                }
            }
            let _ = table.verify();
        }
    }
}

#[test]
fn an_abandoned_table_leaves_no_file() {
    let dir = TempDir::new().unwrap();
    let mut builder = TableBuilder::create(&StdEnv, &path(&dir), 7, TableOptions::default()).unwrap();
    builder.add(b"a", put(1), b"1").unwrap();
    builder.abandon().unwrap();
    assert!(!path(&dir).exists());
}

#[test]
fn a_file_that_exists_is_not_overwritten() {
    let dir = TempDir::new().unwrap();
    std::fs::write(path(&dir), b"precious").unwrap();
    assert!(TableBuilder::create(&StdEnv, &path(&dir), 7, TableOptions::default()).is_err());
    assert_eq!(std::fs::read(path(&dir)).unwrap(), b"precious");
}

#[test]
#[should_panic(expected = "gets")]
fn entries_out_of_order_are_our_fault() {
    let dir = TempDir::new().unwrap();
    let mut builder = TableBuilder::create(&StdEnv, &path(&dir), 7, TableOptions::default()).unwrap();
    builder.add(b"a", put(1), b"1").unwrap();
    let _ = builder.add(b"a", put(2), b"2");
}

#[test]
fn compaction_reads_do_not_fill_the_cache() {
    let dir = TempDir::new().unwrap();
    write(&path(&dir), TableOptions::default(), &some_entries(2000));
    let cache = BlockCache::new(1 << 20);
    let table = Arc::new(Table::open(&StdEnv, &path(&dir), 7, cache.clone()).unwrap());
    let mut iter = table.iter(false);
    iter.seek_to_first().unwrap();
    while iter.valid() {
        iter.next().unwrap();
    }
    assert_eq!((cache.bytes(), cache.hits(), cache.misses()), (0, 0, 0));
    table.get(b"table:0000:00001", SeqNum::MAX).unwrap();
    table.get(b"table:0000:00001", SeqNum::MAX).unwrap();
    assert_eq!((cache.hits(), cache.misses()), (1, 1));
}

/// The bytes of version 1, kept by length and checksum: what is written today is what was written then.
#[test]
fn version_1_is_written_as_ever() {
    let entries = some_entries(100);
    assert!(entries.windows(2).all(|pair| compare((&pair[0].0, pair[0].1), (&pair[1].0, pair[1].1)).is_lt()));
    let dir = TempDir::new().unwrap();
    write(&path(&dir), TableOptions { compression: Compression::None, ..TableOptions::default() }, &entries);
    let bytes = std::fs::read(path(&dir)).unwrap();
    assert_eq!((bytes.len(), crate::base::checksum::crc32(&[], &[&bytes])), (9987, 3_633_972_508));
}
