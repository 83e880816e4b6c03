//! The golden files of the log's and the engine's first format version, and of the MANIFEST's second and third: what they hold,
//! and that writing the current version again gives the same bytes.

use super::fuzz::memory::MemoryEnv;
use super::golden_log::v2;
use super::{corpus, rewriting};
use aidb::aof::names::segment_name;
use aidb::aof::{Append as LogAppend, FrameKind, Log, LogOptions, Lsn};
use aidb::base::key::{SeqNum, Tag, ValueKind};
use aidb::command::format as command;
use aidb::lsm::batch::format::{Operation, decode_record, put_operation, record_header};
use aidb::lsm::cache::BlockCache;
use aidb::lsm::iter::InternalIterator;
use aidb::lsm::manifest::format as manifest;
use aidb::lsm::merge::Append;
use aidb::lsm::table::{Table, TableBuilder, TableInfo, TableOptions};
use aidb::{Compression, DB, KeyspaceOptions, Options, WriteBatch};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) fn v1(name: &str) -> PathBuf {
    corpus("formats/v1").join(name)
}

fn v3(name: &str) -> PathBuf {
    corpus("formats/v3").join(name)
}

/// Compares `bytes` with the golden file `name`.
pub(crate) fn same(name: &str, bytes: &[u8]) {
    same_as(&v1(name), bytes);
}

fn same_as(golden: &Path, bytes: &[u8]) {
    let name = golden.display();
    let golden = fs::read(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = golden.iter().zip(bytes).position(|(golden, written)| golden != written);
    assert_eq!(differs, None, "{name} is written differently from this byte on");
    assert_eq!(golden.len(), bytes.len(), "{name} is written with another length");
}

/// Writes every golden file.
pub(crate) fn write_all() {
    let dir = v1("");
    fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(v1(name), bytes).unwrap();
    write("segment.log", &written_segment());
    for (name, compression) in TABLES {
        write(name, &written_table(compression));
    }
    fs::create_dir_all(v3("")).unwrap();
    fs::write(v3(MANIFEST), written_manifest()).unwrap();
    fs::write(v3(BATCH), written_batch_3()).unwrap();
    write("CURRENT", manifest::encode_current(3).as_bytes());
    write("wal_batch", &written_batch());
    write("command_records.txt", written_records().as_bytes());
    write_database();
}

// --- log segment --------------------------------------------------------------------------------------------------------

const LOG_DIR: &str = "/log";
const FRAMES: [(FrameKind, u16, u64, u32, &[u8]); 4] = [
    (FrameKind::Data, 1, 7, 3, b"hello"),
    (FrameKind::Data, 2, 8, 0, b"two records of sixteen bytes...."),
    (FrameKind::Meta, 0, 0, u32::MAX, &[0, 255, 0]),
    (FrameKind::Rewrite, 1, 8, 1, b"again"),
];

fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 8192, spare_segments: 0, ..LogOptions::default() }
}

fn written_segment() -> Vec<u8> {
    let env = MemoryEnv::default();
    let (log, _) = Log::open(env.clone(), Path::new(LOG_DIR), log_options(), &mut |_| Ok(())).unwrap();
    for (kind, count, first_id, tag, payload) in FRAMES {
        let append = LogAppend { kind, count, first_id: Some(first_id), tag, parts: &[payload] };
        let end = log.append(&append).unwrap().end;
        log.sync_to(end).unwrap();
    }
    log.close().unwrap();
    env.get(&Path::new(LOG_DIR).join(segment_name(1))).unwrap()
}

#[test]
fn log_segment() {
    if rewriting() {
        return;
    }
    same("segment.log", &written_segment());
    let env = MemoryEnv::default();
    env.put(&Path::new(LOG_DIR).join(segment_name(1)), fs::read(v1("segment.log")).unwrap());
    let mut frames = Vec::new();
    let (_, report) = Log::open(env, Path::new(LOG_DIR), log_options(), &mut |frame| {
        frames.push((frame.kind, frame.count, frame.first_id, frame.tag, frame.payload.to_vec()));
        Ok(())
    })
    .unwrap();
    let expected = FRAMES.map(|(kind, count, first_id, tag, payload)| (kind, count, first_id, tag, payload.to_vec()));
    assert_eq!(frames, expected);
    assert_eq!(report.torn_bytes, 0);
}

// --- tables -------------------------------------------------------------------------------------------------------------

const TABLES: [(&str, Compression); 3] = [
    ("table_none.sst", Compression::None),
    ("table_lz4.sst", Compression::Lz4),
    ("table_snappy.sst", Compression::Snappy),
];
pub(crate) const TABLE_NO: u64 = 12;

/// Two hundred keys; every fifth also has an older version, every seventh is deleted.
fn table_entries() -> Vec<(Vec<u8>, Tag, Vec<u8>)> {
    let mut entries = Vec::new();
    for number in 0..200u64 {
        let key = format!("user:{:04}:name", number * 3).into_bytes();
        let kind = if number % 7 == 0 { ValueKind::Delete } else { ValueKind::Put };
        let value = if kind == ValueKind::Put { "value ".repeat(number as usize % 9).into_bytes() } else { Vec::new() };
        entries.push((key.clone(), Tag::new(SeqNum(1000 + number), kind), value));
        if number % 5 == 0 {
            entries.push((key, Tag::new(SeqNum(number + 1), ValueKind::Put), b"older".to_vec()));
        }
    }
    entries
}

fn written_table(compression: Compression) -> Vec<u8> {
    let (env, path) = (MemoryEnv::default(), Path::new("/table"));
    let options = TableOptions { block_bytes: 1024, compression, ..TableOptions::default() };
    let mut builder = TableBuilder::create(&env, path, TABLE_NO, options).unwrap();
    for (key, tag, value) in table_entries() {
        builder.add(&key, tag, &value).unwrap();
    }
    builder.finish().unwrap();
    env.get(path).unwrap()
}

#[test]
fn tables() {
    if rewriting() {
        return;
    }
    for (name, compression) in TABLES {
        same(name, &written_table(compression));
        let (env, path) = (MemoryEnv::default(), Path::new("/table"));
        env.put(path, fs::read(v1(name)).unwrap());
        let table = Arc::new(Table::open(&env, path, TABLE_NO, BlockCache::new(1 << 20)).unwrap());
        assert_eq!(&table.verify().unwrap(), table.info());
        let mut cursor = table.iter(true);
        cursor.seek_to_first().unwrap();
        for (key, tag, value) in table_entries() {
            assert_eq!((cursor.key(), cursor.tag(), cursor.value()), (key.as_slice(), tag, value.as_slice()), "{name}");
            assert_eq!(table.get(&key, tag.seq()).unwrap().unwrap().1, value);
            cursor.next().unwrap();
        }
        assert!(!cursor.valid());
    }
}

// --- MANIFEST, CURRENT, log record, records of keys ---------------------------------------------------------------------

const MANIFEST: &str = "MANIFEST-000003";

fn manifest_edits() -> Vec<manifest::VersionEdit> {
    let tag = |seq, kind| Tag::new(SeqNum(seq), kind);
    let info = |file_no: u64| TableInfo {
        file_no,
        file_bytes: 4096 * file_no,
        entries: 300,
        tombstones: 1,
        raw_bytes: 70_000,
        smallest: (b"a".to_vec(), tag(130, ValueKind::Put)),
        largest: (vec![0xff; 130], tag(1, ValueKind::Delete)),
        seq_min: SeqNum(1),
        seq_max: SeqNum(130),
        ranges: None,
    };
    let default = manifest::TreeEdit::default;
    let first = manifest::VersionEdit {
        next_file: Some(4),
        last_seq: Some(SeqNum(0)),
        wal_lsn: Some(Lsn(0)),
        trees: vec![manifest::TreeEdit { flushed: Some(SeqNum(0)), ..default() }],
        ..manifest::VersionEdit::default()
    };
    let flushed =
        manifest::TreeEdit { flushed: Some(SeqNum(130)), added: vec![(0, info(4)), (0, info(5))], ..default() };
    let flush = manifest::VersionEdit {
        next_file: Some(6),
        last_seq: Some(SeqNum(130)),
        wal_lsn: Some(Lsn(1 << 33)),
        trees: vec![flushed],
        ..manifest::VersionEdit::default()
    };
    let compacted = manifest::TreeEdit { removed: vec![(0, 4), (0, 5)], added: vec![(6, info(6))], ..default() };
    let compaction =
        manifest::VersionEdit { next_file: Some(7), trees: vec![compacted], ..manifest::VersionEdit::default() };
    vec![first, flush, compaction]
}

/// What version 2 can say and version 1 could not.
fn keyspace_edits() -> Vec<manifest::VersionEdit> {
    let default = manifest::TreeEdit::default;
    let created =
        manifest::TreeEdit { keyspace: 300, created: Some("events".into()), flushed: Some(SeqNum(130)), ..default() };
    let dropped = manifest::TreeEdit { keyspace: 300, dropped: true, ..default() };
    vec![
        manifest::VersionEdit {
            next_keyspace: Some(301),
            trees: vec![default(), created],
            ..manifest::VersionEdit::default()
        },
        manifest::VersionEdit { trees: vec![dropped], ..manifest::VersionEdit::default() },
    ]
}

/// What version 3 can say and version 2 could not.
fn operator_edits() -> Vec<manifest::VersionEdit> {
    let merge_operator = Some("aidb.max".into());
    let named = manifest::TreeEdit { merge_operator, ..manifest::TreeEdit::default() };
    vec![manifest::VersionEdit { trees: vec![named], ..manifest::VersionEdit::default() }]
}

fn written_manifest() -> Vec<u8> {
    let mut bytes = Vec::new();
    manifest::put_file_header(&mut bytes, 3);
    for edit in [manifest_edits(), keyspace_edits(), operator_edits()].concat() {
        let offset = bytes.len() as u64;
        manifest::put_record(&mut bytes, 3, offset, &edit);
    }
    bytes
}

#[test]
fn manifest_and_current() {
    if rewriting() {
        return;
    }
    same_as(&v3(MANIFEST), &written_manifest());
    same("CURRENT", manifest::encode_current(3).as_bytes());
    let bytes = fs::read(v1("MANIFEST-000003")).unwrap();
    assert_eq!(manifest::decode_file(&bytes, 3), Ok((manifest_edits(), bytes.len() as u64)));
    let bytes = fs::read(v2(MANIFEST)).unwrap();
    let edits = [manifest_edits(), keyspace_edits()].concat();
    assert_eq!(manifest::decode_file(&bytes, 3), Ok((edits, bytes.len() as u64)));
    let bytes = fs::read(v3(MANIFEST)).unwrap();
    let edits = [manifest_edits(), keyspace_edits(), operator_edits()].concat();
    assert_eq!(manifest::decode_file(&bytes, 3), Ok((edits, bytes.len() as u64)));
    assert_eq!(manifest::decode_current(&fs::read(v1("CURRENT")).unwrap()), Ok(3));
}

const LONG: &[u8] = &[b'x'; 300];
const OPERATIONS: [Operation<'_>; 4] = [
    Operation { keyspace: 0, kind: ValueKind::Put, key: b"apple", value: b"red" },
    Operation { keyspace: 0, kind: ValueKind::Delete, key: b"pear", value: b"" },
    Operation { keyspace: 0, kind: ValueKind::Put, key: b"", value: b"" },
    Operation { keyspace: 0, kind: ValueKind::Put, key: LONG, value: LONG },
];

fn written_batch() -> Vec<u8> {
    let mut bytes = record_header(SeqNum(0x1234), OPERATIONS.len() as u32).to_vec();
    OPERATIONS.into_iter().for_each(|operation| put_operation(&mut bytes, operation));
    bytes
}

const BATCH: &str = "wal_batch";
/// Kinds that came later.
const OPERATIONS_3: [Operation<'_>; 3] = [
    Operation { keyspace: 0, kind: ValueKind::Merge, key: b"apple", value: b"+1" },
    Operation { keyspace: 300, kind: ValueKind::Merge, key: b"", value: LONG },
    Operation { keyspace: 0, kind: ValueKind::PutTtl, key: b"pear", value: b"\x00\x01\0\0\0\0\0\0green" },
];

fn written_batch_3() -> Vec<u8> {
    let mut bytes = record_header(SeqNum(0x1234), OPERATIONS_3.len() as u32).to_vec();
    OPERATIONS_3.into_iter().for_each(|operation| put_operation(&mut bytes, operation));
    bytes
}

#[test]
fn log_record_of_later_kinds() {
    if rewriting() {
        return;
    }
    same_as(&v3(BATCH), &written_batch_3());
    let bytes = fs::read(v3(BATCH)).unwrap();
    let record = decode_record(&bytes).unwrap();
    assert!(record.operations().map(Result::unwrap).eq(OPERATIONS_3));
}

#[test]
fn log_record_of_a_batch() {
    if rewriting() {
        return;
    }
    same("wal_batch", &written_batch());
    let bytes = fs::read(v1("wal_batch")).unwrap();
    let record = decode_record(&bytes).unwrap();
    assert_eq!((record.first, record.count), (SeqNum(0x1234), 4));
    assert_eq!(record.operations().map(Result::unwrap).collect::<Vec<_>>(), OPERATIONS);
}

fn headers() -> [(&'static str, command::Header); 4] {
    let plain = command::Header::string(command::Encoding::ByValue, None);
    [
        ("string", plain),
        ("string_grown", command::Header::string(command::Encoding::Raw, None)),
        ("string_expiring", command::Header::string(command::Encoding::Text, Some(1_700_000_000_123))),
        (
            "hash_split",
            command::Header { kind: command::Kind::Hash, split: Some((9, 1 << 20)), payload_at: 18, ..plain },
        ),
    ]
}

fn written_records() -> String {
    let mut lines = vec!["# Records and store keys of the databases, in hexadecimal.".to_string()];
    let mut line = |name: &str, bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push(format!("{name} {hex}"));
    };
    for (name, header) in headers() {
        let mut record = Vec::new();
        header.encode(&mut record);
        record.extend_from_slice(b"payload");
        line(name, &record);
    }
    let position = command::position(b"user", command::key_hash(b"user"));
    let (mut record_key, mut expiry_key) = (Vec::new(), Vec::new());
    command::put_record_key(&mut record_key, 2, position, b"user");
    command::put_expiry_key(&mut expiry_key, 2, 1_700_000_000_123, position, b"user");
    line("record_key", &record_key);
    line("expiry_key", &expiry_key);
    line("count_key", &command::count_key(2));
    line("counts", &command::encode_counts(1000, 10));
    line("layout", &command::Layout { next_epoch: 5, epochs: vec![0, 4, 2], dead: vec![1, 3] }.encode());
    lines.join("\n") + "\n"
}

#[test]
fn records_and_keys_of_the_databases() {
    if rewriting() {
        return;
    }
    same("command_records.txt", written_records().as_bytes());
    for (name, header) in headers() {
        let mut record = Vec::new();
        header.encode(&mut record);
        assert_eq!(command::Header::decode(&record), Some(header), "{name}");
    }
}

// --- a whole database ---------------------------------------------------------------------------------------------------

/// Files of the golden databases: of `corpus/formats/v1/database`, with a MANIFEST of version 1, and of `v2/database` and
/// `v3/database`.
const DATABASE_FILES: &[&str] =
    &["000002.sst", "CURRENT", "MANIFEST-000001", "wal/00000000000000000001.log", "wal/00000000000000000002.spare"];

const DATABASE_2_FILES: &[&str] = &[
    "000002.sst",
    "000003.sst",
    "CURRENT",
    "MANIFEST-000001",
    "wal/00000000000000000001.log",
    "wal/00000000000000000002.spare",
];

const DATABASE_3_FILES: &[&str] = &[
    "000002.sst",
    "000003.sst",
    "CURRENT",
    "MANIFEST-000001",
    "wal/00000000000000000001.log",
    "wal/00000000000000000002.log",
    "wal/00000000000000000002.spare",
];

fn database_options() -> Options {
    Options { wal_segment_bytes: 8192, block_bytes: 256, background_threads: 1, ..Options::default() }
}

fn database_key(number: u64) -> String {
    format!("key{number:03}")
}

/// What the golden database holds: 0..100 from a table, of which 50..60 were deleted and 0..10 overwritten in the log.
fn database_entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let kept = (0..100).filter(|number| !(50..60).contains(number));
    let value = |number| format!("{} {number}", if number < 10 { "newer" } else { "value" });
    kept.map(|number| (database_key(number).into_bytes(), value(number).into_bytes())).collect()
}

/// What its keyspace holds in version 2: the first five from a table, the rest in the log.
fn keyspace_entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..10).map(|number| (database_key(number).into_bytes(), format!("event {number}").into_bytes())).collect()
}

/// What its keyspace holds in version 3: the first five were merged onto in the log.
fn merged_entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let more = |(at, (key, value)): (usize, (Vec<u8>, Vec<u8>))| {
        (key, if at < 5 { [&value[..], b",more"].concat() } else { value })
    };
    keyspace_entries().into_iter().enumerate().map(more).collect()
}

fn appending() -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(Arc::new(Append::new(","))), ..KeyspaceOptions::default() }
}

fn write_database() {
    let dir = v3("database");
    let _ = fs::remove_dir_all(&dir);
    let db = DB::open(&dir, database_options()).unwrap();
    let mut batch = WriteBatch::new();
    (0..100).for_each(|number| batch.put(database_key(number), format!("value {number}")));
    db.write(batch).unwrap();
    let events = db.keyspace("events", appending()).unwrap();
    let entries = keyspace_entries();
    let (old, new) = entries.split_at(5);
    old.iter().for_each(|(key, value)| events.put(key, value).unwrap());
    db.flush().unwrap();
    new.iter().for_each(|(key, value)| events.put(key, value).unwrap());
    old.iter().for_each(|(key, _)| events.merge(key, "more").unwrap());
    (50..60).for_each(|number| db.delete(database_key(number)).unwrap());
    (0..10).for_each(|number| db.put(database_key(number), format!("newer {number}")).unwrap());
    db.close().unwrap();
    drop((events, db));
    let _ = fs::remove_file(dir.join("LOCK"));
    let _ = fs::remove_file(dir.join("wal/00000000000000000001.spare"));
}

/// Copies the files below `from` to `to`.
fn copy(from: &Path, to: &Path) -> Vec<String> {
    fs::create_dir_all(to).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        if path.is_dir() {
            names.extend(copy(&path, &to.join(&name)).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            fs::copy(&path, to.join(&name)).unwrap();
            names.push(name);
        }
    }
    names.sort();
    names
}

fn read(iter: aidb::lsm::DbIterator) -> Vec<(Vec<u8>, Vec<u8>)> {
    iter.map(|entry| entry.map(|entry| (entry.key, entry.value.into_vec())).unwrap()).collect()
}

/// Opens a copy of a golden database, reads it, writes to it, compacts it and opens it again.
fn open_golden(golden: &Path, files: &[&str], events: &[(Vec<u8>, Vec<u8>)]) {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(copy(golden, dir.path()), files);
    let open = || DB::open(dir.path(), Options { create_if_missing: false, ..database_options() }).unwrap();
    let db = open();
    assert_eq!(read(db.iter()), database_entries());
    for (key, value) in database_entries() {
        assert_eq!(db.get(key).unwrap().unwrap(), value);
    }
    assert_eq!(db.keyspaces().len(), usize::from(!events.is_empty()));
    let keyspace = db.keyspace("events", appending()).unwrap();
    assert_eq!(read(keyspace.iter()), events);
    let report = db.validate_integrity().unwrap();
    assert!(report.is_sound(), "{report}");
    assert!(report.tables >= 1, "the golden database has a table");
    db.put("key999", "new").unwrap();
    db.force_compaction().unwrap();
    db.put("key999", "newest").unwrap();
    db.close().unwrap();
    drop((keyspace, db));
    let db = open();
    let mut entries = database_entries();
    entries.push((b"key999".to_vec(), b"newest".to_vec()));
    assert_eq!(read(db.iter()), entries);
    let report = db.validate_integrity().unwrap();
    assert!(report.is_sound(), "{report}");
}

#[test]
fn databases_of_every_version() {
    if rewriting() {
        return;
    }
    open_golden(&v1("database"), DATABASE_FILES, &[]);
    open_golden(&v2("database"), DATABASE_2_FILES, &keyspace_entries());
    open_golden(&v3("database"), DATABASE_3_FILES, &merged_entries());
}
