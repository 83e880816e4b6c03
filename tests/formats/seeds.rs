//! The seeds of the fuzz targets: each holds its target's properties; some are made from the golden files.

use super::{corpus, fuzz, rewriting};
use aidb::aof::Lsn;
use aidb::backup::format::{HEADER_BYTES, Manifest};
use aidb::base::coding::{put_slice, put_u64, put_varint};
use aidb::base::key::{SeqNum, Tag, ValueKind};
use aidb::lsm::manifest::format::VersionEdit;
use aidb::lsm::ranges::format as ranges;
use aidb::lsm::table::format::{BlockBuilder, FOOTER_BYTES, FilterBuilder, Footer, Properties, unseal};
use std::fs;

fn golden(name: &str) -> Vec<u8> {
    fs::read(corpus("formats/v1").join(name)).unwrap()
}

/// Writes `bytes` as a seed of `target`.
fn seed(target: &str, name: &str, bytes: &[u8]) {
    let dir = corpus("fuzz").join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), bytes).unwrap();
}

/// Cuts a golden table into the inputs of the targets for its parts.
fn table_seeds(name: &str) {
    let file = golden(name);
    let name = name.trim_end_matches(".sst");
    seed("sst_table", name, &file);
    let at = file.len() - FOOTER_BYTES;
    let file_no = u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let footer = Footer::decode(&file[at..], file_no, file.len() as u64).unwrap();
    let part = |offset: u64, bytes: u64| {
        let stored = &file[offset as usize..(offset + bytes) as usize];
        unseal(stored, file_no, offset).unwrap().to_vec()
    };
    let filter = part(footer.filter.offset, footer.filter.bytes);
    let index = part(footer.index.offset, footer.index.bytes);
    let properties = part(footer.properties.offset, footer.properties.bytes);
    let blocks = aidb::lsm::table::format::Index::decode(index.clone().into(), footer.data_bytes).unwrap();
    let first = part(0, blocks.block(0).bytes);
    seed("sst_filter", name, &filter);
    seed("sst_block", name, &first);
    seed("sst_block", &format!("{name}_sealed"), &file[..blocks.block(0).bytes as usize]);
    let mut with_length = Vec::new();
    put_u64(&mut with_length, footer.data_bytes);
    with_length.extend_from_slice(&index);
    seed("sst_index", name, &with_length);
    let mut with_length = Vec::new();
    put_u64(&mut with_length, file.len() as u64);
    with_length.extend_from_slice(&file[at..]);
    seed("sst_footer", name, &with_length);
    seed("sst_footer", &format!("{name}_properties"), &properties);
}

/// Makes the inputs of `sst_table` that are parts and come together to sound tables.
fn assembled_tables() {
    let tag = |seq| Tag::new(SeqNum(seq), ValueKind::Put);
    for blocks in 1..=3u8 {
        let mut input = vec![blocks - 1];
        let (mut filter, mut number, mut raw_bytes) = (FilterBuilder::default(), 0u64, 0);
        for block in 0..blocks {
            let mut builder = BlockBuilder::default();
            for entry in 0..4 * blocks {
                let key = format!("key{block}{entry:03}");
                number += 1;
                builder.add(key.as_bytes(), tag(number), b"value");
                filter.add(aidb::base::hash::hash64(key.as_bytes(), 0));
                raw_bytes += key.len() as u64 + 5;
            }
            let mut payload = Vec::new();
            builder.finish(&mut payload);
            put_slice(&mut input, &payload);
        }
        let mut bytes = Vec::new();
        filter.finish(10, &mut bytes);
        put_slice(&mut input, &bytes);
        put_slice(&mut input, b"");
        let last = format!("key{}{:03}", blocks - 1, 4 * blocks - 1);
        let (smallest, largest) = ((b"key0000".to_vec(), tag(1)), (last.into_bytes(), tag(number)));
        let mut bytes = Vec::new();
        Properties { smallest, largest, keyspace: None, ingested_after: None }.encode(&mut bytes);
        put_slice(&mut input, &bytes);
        for number in [0, 0, raw_bytes, 1, number, 0, 10] {
            put_varint(&mut input, number);
        }
        seed("sst_table", &format!("assembled_{blocks}"), &input);
        let seqs = vec![SeqNum(number), SeqNum(1)];
        let mut bytes = Vec::new();
        ranges::encode(&mut bytes, &[ranges::Fragment { begin: b"key0001".to_vec(), end: b"key1".to_vec(), seqs }]);
        put_slice(&mut input, &bytes);
        seed("sst_table", &format!("assembled_{blocks}_ranges"), &input);
    }
}

fn log_seeds() {
    let file = golden("segment.log");
    let end = file.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let frames = &file[4096..end.next_multiple_of(8)];
    for flags in 0..8u8 {
        let input = [&[flags], &file[..256], frames].concat();
        seed("aof_segment", &format!("golden_flags_{flags}"), &input);
    }
    seed("aof_segment", "golden_torn", &[&[0], &file[..256], &frames[..frames.len() - 30]].concat());
    let mut damaged = frames.to_vec();
    damaged[50] ^= 1;
    seed("aof_segment", "golden_damaged", &[&[0], &file[..256], &damaged].concat());
    seed("aof_segment", "frame_header", &frames[..40]);
}

fn object_seeds() {
    for name in ["object_plain.seg", "object_zstd.seg", "object_encrypted.seg", "object_zstd_encrypted.seg"] {
        let file = fs::read(super::golden_log::v2(name)).unwrap();
        let name = name.trim_end_matches(".seg");
        // Large ones say nothing more.
        if file.len() < 40_000 {
            seed("aof_object", name, &[&[0], &file[..]].concat());
            seed("aof_object", &format!("{name}_cut"), &[&[4], &file[..file.len() - 70]].concat());
        }
    }
    let image: Vec<u8> = (0..300u32).flat_map(|number| format!("record {number}; ").into_bytes()).collect();
    for flags in 0..4u8 {
        let small = fuzz::object::written(
            &[&[0; 4096], &image[..]].concat(),
            (flags & 1 != 0).then_some(3),
            (flags & 2 != 0).then(fuzz::object::ring).as_ref(),
        );
        seed("aof_object", &format!("mended_{flags}"), &[&[4], &small[..]].concat());
        seed("aof_object", &format!("image_{flags}"), &[&[flags, 9, 1, 0, 0], &image[..]].concat());
    }
}

/// Footers, encrypted segments and manifests, cut out of the golden files.
fn log_v2_seeds() {
    for (name, flags) in [("segment_footer", [0, 3, 16, 19]), ("segment_encrypted", [8, 10, 24, 26])] {
        let file = fs::read(super::golden_log::v2(&format!("{name}.log"))).unwrap();
        let end = file.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let end = end.next_multiple_of(8);
        for flags in flags {
            seed("aof_segment", &format!("{name}_{flags}"), &[&[flags], &file[..256], &file[4096..end]].concat());
        }
        let length = u32::from_le_bytes(file[end - 4..end].try_into().unwrap()) as usize;
        seed("aof_index", name, &[&[0; 8], &file[end - length..end]].concat());
        seed("aof_index", &format!("{name}_cut"), &[&[0; 8], &file[end - length..end - 8]].concat());
    }
    let file = fs::read(super::golden_log::v2("manifest.log")).unwrap();
    let (mut at, mut commits) = (4096, Vec::new());
    while let Some(length) = file.get(at + 8..at + 12).map(|len| u32::from_le_bytes(len.try_into().unwrap()) as usize) {
        if length == 0 {
            break;
        }
        let payload = &file[at + 40..at + 40 + length];
        // Marks say nothing, and an input has lengths of one byte.
        if file[at + 14] != 2 && length < 256 {
            seed("aof_manifest", &format!("commit_{at}"), payload);
            commits.extend_from_slice(&[&[length as u8], payload].concat());
        }
        at += (40 + length).next_multiple_of(8);
    }
    seed("aof_manifest", "golden", &commits);
    seed("aof_manifest", "golden_cut", &commits[..commits.len() - 3]);
}

/// The payload of a backup of nothing.
fn backup_without_tables() -> Vec<u8> {
    let state =
        VersionEdit { next_file: Some(2), last_seq: Some(SeqNum(0)), wal_lsn: Some(Lsn(0)), ..VersionEdit::default() };
    let manifest = Manifest { created: 1, seq: SeqNum(0), log: None, tables: Vec::new(), manifest_no: 1, state };
    manifest.encode(4)[HEADER_BYTES..].to_vec()
}

fn record_seeds() {
    let text = String::from_utf8(golden("command_records.txt")).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, hex) = line.split_once(' ').unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        seed("command_record", name, &bytes);
    }
}

#[test]
fn every_fuzz_seed_holds_the_properties_of_its_target() {
    if rewriting() {
        super::golden::write_all();
        super::golden_log::write_all();
        super::golden_backup::write_all();
        super::golden_ranges::write_all();
        let backup = golden("BACKUP-000004");
        seed("backup_manifest", "golden", &backup);
        seed("backup_manifest", "payload", &backup[32..]);
        seed("backup_manifest", "payload_cut", &backup[32..backup.len() - 5]);
        seed("backup_manifest", "without_tables", &backup_without_tables());
        ["table_none.sst", "table_lz4.sst", "table_snappy.sst"].into_iter().for_each(table_seeds);
        ["table_ranges.sst", "table_ranges_alone.sst"].into_iter().for_each(table_seeds);
        assembled_tables();
        log_seeds();
        object_seeds();
        log_v2_seeds();
        record_seeds();
        let manifest = golden("MANIFEST-000003");
        seed("manifest", "golden", &manifest);
        seed("manifest", "golden_torn", &manifest[..manifest.len() - 9]);
        seed("manifest", "edit", &manifest[32..manifest.len() - 7]);
        seed("manifest", "current", &golden("CURRENT"));
        seed("wal_batch", "golden", &golden("wal_batch"));
        seed("wal_batch", "golden_3", &fs::read(corpus("formats/v3/wal_batch")).unwrap());
        seed("wal_batch", "golden_ranges", &golden("wal_batch_ranges"));
        seed("manifest", "edit_ranges", &golden("edit_ranges"));
        seed("sst_filter", "one_block", &[&[1, 0, 0, 0, 30, 0, 0, 0], &[0x55; 256][..]].concat());
        seed("sst_filter", "too_many_blocks", &[255, 255, 255, 255, 6, 0, 0, 0]);
        seed("sst_index", "no_blocks", &[0; 16]);
    }
    for (name, check) in fuzz::TARGETS {
        let entries = fs::read_dir(corpus("fuzz").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut seeds: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(seeds.len() >= 4, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            println!("{}", seed.display());
            check(&fs::read(seed).unwrap());
        }
    }
}
