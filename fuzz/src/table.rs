//! Tables: block, filter, index and footer each from any bytes, and a whole table put together from any parts.
//!
//! An input of [`table`] is the number of data blocks, then, each behind its length, their payloads, the filter, the index (or
//! nothing, for one that fits the blocks) and the properties; then the numbers of the footer and the range tombstones. All
//! are sealed with good checksums, so that the fuzzer gets past them.

use super::memory::MemoryEnv;
use aidb::base::checksum::crc32;
use aidb::base::coding::{Decoder, get_u64, put_u32};
use aidb::base::hash::hash64;
use aidb::base::key::{SeqNum, Tag, ValueKind, compare};
use aidb::lsm::cache::BlockCache;
use aidb::lsm::iter::InternalIterator;
use aidb::lsm::ranges::format as ranges;
use aidb::lsm::table::format::{
    Block, BlockBuilder, FOOTER_BYTES, Filter, FilterBuilder, Footer, Handle, Index, IndexBuilder, Properties,
    SEAL_BYTES, seal, unseal,
};
use aidb::lsm::table::{Compression, Table};
use std::path::Path;
use std::sync::Arc;

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Snappy];

/// Decodes `input` as the payload of a data block, and as a sealed block.
pub fn block(input: &[u8]) {
    let _ = unseal(input, 1, 0);
    for compression in COMPRESSIONS {
        let mut sealed = Vec::new();
        seal(&mut sealed, 3, 77, compression, input);
        assert_eq!(unseal(&sealed, 3, 77).as_deref(), Ok(input), "{compression:?}");
        assert!(unseal(&sealed, 3, 78).is_err(), "a block out of place");
        damaged_payload(&sealed, input);
    }
    let Ok(block) = Block::decode(input) else { return };
    // Damage that a checksum would have caught: answers may be wrong, but come.
    let probes = [&input[..input.len().min(8)], input.get(8..20).unwrap_or_default(), b"", b"\xff"];
    for key in probes {
        let _ = block.get(key, hash64(key, 0), Tag::seek(SeqNum::MAX));
        let _ = block.lower_bound(key, Tag::seek(SeqNum(5)));
    }
    let mut key = Vec::new();
    for at in 0..block.len() {
        let _ = block.read(at, &mut key);
    }
    if block.check().is_ok() {
        sound_block(&block, input);
    }
}

/// Unpacks a payload whose seal is good and whose bytes are not.
fn damaged_payload(sealed: &[u8], raw: &[u8]) {
    let mut damaged = sealed[..sealed.len() - 4].to_vec();
    for at in (0..damaged.len()).step_by(damaged.len() / 4 + 1) {
        damaged[at] ^= raw.first().copied().unwrap_or(1);
    }
    let crc = crc32(&[3, 77], &[&damaged]);
    put_u32(&mut damaged, crc);
    let _ = unseal(&damaged, 3, 77);
}

fn sound_block(block: &Block<'_>, input: &[u8]) {
    let (mut key, mut builder) = (Vec::new(), BlockBuilder::default());
    let mut newest: Option<Vec<u8>> = None;
    for at in 0..block.len() {
        let (tag, value) = block.read(at, &mut key).expect("checked");
        assert_eq!(block.lower_bound(&key, tag), Ok(at));
        let found = block.get(&key, hash64(&key, 0), tag).expect("checked");
        assert_eq!(found, Some((tag, value.clone())), "each version is found at its own sequence number");
        if newest.as_ref() != Some(&key) {
            let found = block.get(&key, hash64(&key, 0), Tag::seek(SeqNum::MAX)).expect("checked");
            assert_eq!(found, Some((tag, value.clone())), "the first version is the newest");
            newest = Some(key.clone());
        }
        builder.add(&key, tag, &input[value]);
    }
    let mut again = Vec::new();
    if builder.estimated_bytes() <= 32 << 10 {
        builder.finish(&mut again);
        let again = Block::decode(&again).expect("just written");
        again.check().expect("just written");
        assert_eq!(again.len(), block.len());
    }
}

/// Decodes `input` as the range tombstones of a table.
fn ranges(input: &[u8]) {
    let Ok(fragments) = ranges::decode(input) else { return };
    let mut again = Vec::new();
    ranges::encode(&mut again, &fragments);
    assert_eq!(ranges::decode(&again), Ok(fragments), "what was decoded is written so that it is decoded again");
}

/// Decodes `input` as a filter, and builds one of it.
pub fn filter(input: &[u8]) {
    let keys: Vec<u64> = input.chunks(3).map(|key| hash64(key, 0)).collect();
    if let Ok(filter) = Filter::decode(input.to_vec().into()) {
        for hash in keys.iter().copied().chain([0, u64::MAX]) {
            let _ = filter.may_contain(hash);
        }
    }
    let mut builder = FilterBuilder::default();
    keys.iter().for_each(|hash| builder.add(*hash));
    let bits_per_key = 1 + input.first().map_or(14, |byte| byte % 30);
    let mut bytes = Vec::new();
    builder.finish(bits_per_key, &mut bytes);
    assert_eq!(bytes.len(), builder.bytes(bits_per_key));
    let filter = Filter::decode(bytes.into()).expect("just written");
    assert!(keys.iter().all(|hash| filter.may_contain(*hash)), "a filter has no false negatives");
}

/// Decodes `input` as an index behind the length of the data it describes.
pub fn index(input: &[u8]) {
    let Some((data_bytes, payload)) = get_u64(input, 0).zip(input.get(8..)) else { return };
    let Ok(index) = Index::decode(payload.to_vec().into(), data_bytes) else { return };
    let mut end = 0;
    for at in 0..index.len() {
        let block = index.block(at);
        assert_eq!(block.offset, end, "blocks leave a gap");
        end += block.bytes;
    }
    assert_eq!(end, data_bytes);
    let from = |at: usize| payload.get(at..).unwrap_or_default();
    for key in [from(8), from(16), from(payload.len() - payload.len().min(3)), b"", b"\xff\xff"] {
        let tag = Tag::seek(SeqNum(7));
        let linear = (0..index.len()).find(|at| index.covers(*at, key, tag));
        assert_eq!(index.find(key, tag), linear, "the search finds what a walk finds");
    }
}

/// Decodes `input` as a footer behind the file's length, and with a good checksum; and as properties.
pub fn footer(input: &[u8]) {
    if let Ok(properties) = Properties::decode(input) {
        let mut again = Vec::new();
        properties.encode(&mut again);
        assert_eq!(Properties::decode(&again), Ok(properties));
    }
    let Some((file_bytes, bytes)) = get_u64(input, 0).zip(input.get(8..)) else { return };
    let mut fixed = bytes.to_vec();
    if let (Some(offset), Some(file_no), Some(end)) = (
        file_bytes.checked_sub(FOOTER_BYTES as u64),
        get_u64(bytes, 0),
        bytes.get(..FOOTER_BYTES - 12).filter(|_| bytes.len() >= FOOTER_BYTES),
    ) {
        let mut crc = Vec::new();
        put_u32(&mut crc, crc32(&[file_no, offset], &[end]));
        fixed[FOOTER_BYTES - 12..FOOTER_BYTES - 8].copy_from_slice(&crc);
    }
    for bytes in [bytes, &fixed] {
        let file_no = get_u64(bytes, 0).unwrap_or(0);
        if let Ok(footer) = Footer::decode(bytes, file_no, file_bytes) {
            let mut again = Vec::new();
            footer.encode(&mut again, file_bytes - FOOTER_BYTES as u64);
            // Behind the fields come reserved bytes, which may be in use one day, and the checksum over them.
            assert_eq!(again[..FOOTER_BYTES - 20], bytes[..FOOTER_BYTES - 20]);
            assert!(Footer::decode(bytes, file_no ^ 1, file_bytes).is_err(), "a footer of another file");
            assert!(Footer::decode(bytes, file_no, file_bytes + 1).is_err(), "a footer out of place");
        }
    }
}

const FILE_NO: u64 = 9;

/// Builds a table file of the parts that `input` holds.
fn assemble(input: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(input);
    let blocks = usize::from(decoder.u8()? % 3) + 1;
    let mut file = Vec::new();
    let mut own_index = IndexBuilder::default();
    let (mut entries, mut separator) = (0, Vec::new());
    for number in 0..blocks {
        let payload = decoder.slice()?;
        let offset = file.len() as u64;
        seal(&mut file, FILE_NO, offset, COMPRESSIONS[number % 3], payload);
        let block = Block::decode(payload).ok();
        entries += block.map_or(1, |block| block.len() as u64);
        let mut key = Vec::new();
        let last = block.and_then(|block| block.read(block.len() - 1, &mut key).ok());
        let tag = last.map_or(Tag::new(SeqNum(number as u64), ValueKind::Put), |(tag, _)| tag);
        if separator >= key {
            // A builder takes separators in order only; damaged blocks may have none.
            key = [&separator[..], b"\0"].concat();
        }
        own_index.add(&key, tag, file.len() as u64);
        separator = key;
    }
    let data_bytes = file.len() as u64;
    let part = |file: &mut Vec<u8>, payload: &[u8]| {
        let offset = file.len() as u64;
        if !payload.is_empty() {
            seal(file, FILE_NO, offset, Compression::None, payload);
        }
        Handle { offset, bytes: file.len() as u64 - offset }
    };
    let filter = part(&mut file, decoder.slice()?);
    let given_index = decoder.slice()?;
    let mut built_index = Vec::new();
    own_index.finish(&mut built_index);
    let index = part(&mut file, if given_index.is_empty() { &built_index } else { given_index });
    let properties = decoder.slice()?;
    let mut number = || decoder.varint().unwrap_or(0);
    let numbers: [u64; 7] = std::array::from_fn(|_| number());
    let range_tombstones = part(&mut file, decoder.slice().unwrap_or_default());
    let properties = part(&mut file, properties);
    let mut numbers = numbers.into_iter();
    let mut number = || numbers.next().unwrap_or(0);
    let footer = Footer {
        file_no: FILE_NO,
        data_bytes,
        filter,
        index,
        range_tombstones,
        properties,
        entries: entries.wrapping_add(number()),
        tombstones: number(),
        raw_bytes: number(),
        seq_min: SeqNum(number()),
        seq_max: SeqNum(number()),
        blocks: (blocks as u64).wrapping_add(number()),
        filter_bits_per_key: number() as u32,
    };
    let offset = file.len() as u64;
    footer.encode(&mut file, offset);
    Some(file)
}

/// Decodes `input` as range tombstones; opens the table made of the parts in `input`, and the one that `input` itself is.
pub fn table(input: &[u8]) {
    ranges(input);
    for file in assemble(input).into_iter().chain([input.to_vec()]) {
        let file_no = file.len().checked_sub(FOOTER_BYTES).and_then(|at| get_u64(&file, at)).unwrap_or(FILE_NO);
        let (env, path) = (MemoryEnv::default(), Path::new("/table"));
        env.put(path, file);
        if let Ok(table) = Table::open(&env, path, file_no, BlockCache::new(1 << 20)) {
            walk(&Arc::new(table));
        }
    }
}

/// Reads a table in every way; one that verifies must also answer right.
fn walk(table: &Arc<Table<MemoryEnv>>) {
    let verified = table.verify();
    if let Ok(info) = &verified {
        assert_eq!(info, table.info(), "what verifying counted is what the footer says");
    }
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let mut cursor = table.iter(true);
    let mut outcome = cursor.seek_to_first();
    while cursor.valid() {
        forward.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        outcome = outcome.and_then(|()| cursor.next());
        assert!(forward.len() <= 1 << 20, "the walk does not end");
    }
    let mut back = cursor.seek_to_last();
    while cursor.valid() {
        backward.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        back = back.and_then(|()| cursor.prev());
        assert!(backward.len() <= 1 << 20, "the walk does not end");
    }
    for (key, tag, value) in &forward {
        let found = table.get(key, tag.seq());
        if verified.is_ok() {
            let (found_tag, found_value) = found.expect("verified").expect("walked over");
            assert_eq!((found_tag, found_value.as_slice()), (*tag, value.as_slice()));
            assert!(table.may_contain(key));
        }
        let mut cursor = table.iter(false);
        if cursor.seek(key, *tag).is_ok() && verified.is_ok() {
            assert!(cursor.valid() && (cursor.key(), cursor.tag()) == (key.as_slice(), *tag));
        }
    }
    if let Ok(info) = verified {
        outcome.expect("verified");
        back.expect("verified");
        assert_eq!(forward.len() as u64, info.entries);
        backward.reverse();
        assert_eq!(forward, backward, "both directions agree");
        let ordered =
            |pair: &[(Vec<u8>, Tag, Vec<u8>)]| compare((&pair[0].0, pair[0].1), (&pair[1].0, pair[1].1)).is_lt();
        assert!(forward.windows(2).all(ordered), "out of order");
    }
    assert!(table.info().file_bytes >= SEAL_BYTES as u64);
}
