//! The golden files of range deletes: a table with a block of them, one with nothing else, an edit of the MANIFEST that adds
//! such a table, and a log record.

use super::fuzz::memory::MemoryEnv;
use super::golden::{TABLE_NO, same, v1};
use super::rewriting;
use aidb::base::key::{SeqNum, Tag, ValueKind};
use aidb::lsm::batch::format::{Operation, decode_record, put_operation, record_header};
use aidb::lsm::cache::BlockCache;
use aidb::lsm::manifest::format::{TreeEdit, VersionEdit};
use aidb::lsm::ranges::format::Fragment;
use aidb::lsm::table::salvage::Salvage;
use aidb::lsm::table::{Compression, Table, TableBuilder, TableInfo, TableOptions};
use std::fs;
use std::path::Path;

fn fragments() -> Vec<Fragment> {
    let fragment = |begin: &[u8], end: &[u8], seqs: &[u64]| Fragment {
        begin: begin.to_vec(),
        end: end.to_vec(),
        seqs: seqs.iter().map(|seq| SeqNum(*seq)).collect(),
    };
    vec![fragment(b"", b"a", &[300]), fragment(b"key010", b"key015", &[250, 7]), fragment(b"key015", b"", &[7])]
}

fn written_table(entries: u64) -> (Vec<u8>, TableInfo) {
    let (env, path) = (MemoryEnv::default(), Path::new("/table"));
    let options = TableOptions { block_bytes: 256, compression: Compression::None, ..TableOptions::default() };
    let mut builder = TableBuilder::create(&env, path, TABLE_NO, options).unwrap();
    for number in 0..entries {
        let tag = Tag::new(SeqNum(100 + number), ValueKind::Put);
        builder.add(format!("key{number:03}").as_bytes(), tag, b"value").unwrap();
    }
    builder.add_ranges(fragments());
    let info = builder.finish().unwrap();
    (env.get(path).unwrap(), info)
}

const TABLES: [(&str, u64); 2] = [("table_ranges.sst", 40), ("table_ranges_alone.sst", 0)];

fn edit() -> Vec<u8> {
    let added = TABLES.iter().map(|(_, entries)| (1, written_table(*entries).1)).collect();
    let edit = VersionEdit { trees: vec![TreeEdit { added, ..TreeEdit::default() }], ..VersionEdit::default() };
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    assert_eq!(VersionEdit::decode(&bytes), Ok(edit));
    bytes
}

const OPERATIONS: [Operation<'_>; 3] = [
    Operation { keyspace: 0, kind: ValueKind::RangeDelete, key: b"apple", value: b"pear" },
    Operation { keyspace: 0, kind: ValueKind::Put, key: b"apple", value: b"red" },
    Operation { keyspace: 300, kind: ValueKind::RangeDelete, key: b"", value: b"" },
];

fn record() -> Vec<u8> {
    let mut bytes = record_header(SeqNum(0x1234), OPERATIONS.len() as u32).to_vec();
    OPERATIONS.into_iter().for_each(|operation| put_operation(&mut bytes, operation));
    bytes
}

/// Writes every golden file.
pub(crate) fn write_all() {
    for (name, entries) in TABLES {
        fs::write(v1(name), written_table(entries).0).unwrap();
    }
    fs::write(v1("edit_ranges"), edit()).unwrap();
    fs::write(v1("wal_batch_ranges"), record()).unwrap();
}

#[test]
fn range_deletes() {
    if rewriting() {
        return;
    }
    for (name, entries) in TABLES {
        same(name, &written_table(entries).0);
        let (env, path) = (MemoryEnv::default(), Path::new("/table"));
        let bytes = fs::read(v1(name)).unwrap();
        env.put(path, bytes.clone());
        let table = Table::open(&env, path, TABLE_NO, BlockCache::new(1 << 20)).unwrap();
        assert_eq!(&table.verify().unwrap(), table.info());
        assert_eq!(table.info(), &written_table(entries).1);
        let found = Salvage::open(&env, path, TABLE_NO).unwrap();
        assert_eq!((found.ranges(), found.info().as_ref()), (&fragments()[..], Some(table.info())));
        // The last bytes are the footer: without it they are found all the same.
        env.put(path, bytes[..bytes.len() - 1].to_vec());
        let mut found = Salvage::open(&env, path, TABLE_NO).unwrap();
        found.blocks(&mut |_, _| Ok(())).unwrap();
        assert_eq!(found.ranges(), fragments());
    }
    same("edit_ranges", &edit());
    same("wal_batch_ranges", &record());
    let bytes = fs::read(v1("wal_batch_ranges")).unwrap();
    let record = decode_record(&bytes).unwrap();
    assert_eq!(record.operations().map(Result::unwrap).collect::<Vec<_>>(), OPERATIONS);
}
