//! Bytes of `BACKUP-NNNNNN` and of `logs/NNNNNN.log` in a backup directory. Little-endian.
//!
//! `BACKUP-NNNNNN` says what backup NNNNNN is made of. It is written whole under another name, synced and renamed, so
//! there is no torn one: whatever is wrong with it is damage.
//!
//! | offset | size | manifest |
//! |---|---|---|
//! | 0 | 8 | magic `AIDBBKUP` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | payload length |
//! | 16 | 8 | number of the backup |
//! | 24 | 4 | CRC-32 of the payload |
//! | 28 | 4 | CRC-32 over bytes 0..28 |
//! | 32 | ... | payload, to the end of the file |
//!
//! The payload is a run of fields, each a tag byte and varints (`v`), slices (varint length, bytes) or 8 bytes (`u64`):
//!
//! | tag | field |
//! |---|---|
//! | 1 | when it was made, microseconds since 1970: v |
//! | 2 | sequence number of the newest commit in it: v |
//! | 3 | its log, if it has records: file bytes v, CRC-64/NVME of the file u64, records v |
//! | 4 | a table: file number v, file bytes v, CRC-64/NVME of the file u64; ascending file numbers |
//! | 5 | number of the MANIFEST v, the MANIFEST that a restore writes: a slice, as its own format says, of one record |
//!
//! Fields 1, 2 and 5 are there once, field 4 for each table that field 5 names. Other tags are refused; it evolves by new
//! tags under a new version.
//!
//! `logs/NNNNNN.log` holds the commits that no table of the backup holds. Its length is in the manifest.
//!
//! | offset | size | log |
//! |---|---|---|
//! | 0 | 8 | magic `AIDBBLOG` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | CRC-32 over (number of the backup, bytes 0..12) |
//! | 16 | ... | records: payload length u32 (at least 1), CRC-32 over (number of the backup, offset of the record, payload) u32, payload |
//!
//! A payload is a record of the engine's log, as `batch::format` says. A bad record is damage at its offset.
//!
//! Example: `put("k", "v")` as commit 7 is a payload of 17 bytes; in the log of backup 1 the record begins with
//! `11 00 00 00`, at offset 16.

use crate::aof::Lsn;
use crate::base::checksum::crc32;
use crate::base::coding::{Decoder, get_u32, get_u64, put_slice, put_u32, put_u64, put_varint};
use crate::base::key::SeqNum;
use crate::lsm::manifest::format as manifest;
use crate::lsm::manifest::format::VersionEdit;
use crate::lsm::version::Edits;

const MAGIC: &[u8; 8] = b"AIDBBKUP";
const LOG_MAGIC: &[u8; 8] = b"AIDBBLOG";
const VERSION: u32 = 1;
/// Bytes before the payload of a manifest.
pub const HEADER_BYTES: usize = 32;
/// Bytes before the first record of a log.
pub const LOG_HEADER_BYTES: usize = 16;
/// Bytes before the payload of a record of a log.
pub const LOG_RECORD_BYTES: usize = 8;
const _: () = assert!(HEADER_BYTES == MAGIC.len() + 4 + 4 + 8 + 4 + 4);
const _: () = assert!(LOG_HEADER_BYTES == LOG_MAGIC.len() + 4 + 4);

/// A table of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableFile {
    /// Its number in the engine.
    pub file_no: u64,
    /// Its length.
    pub bytes: u64,
    /// CRC-64/NVME of all of it.
    pub crc: u64,
}

/// The log of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its length.
    pub bytes: u64,
    /// CRC-64/NVME of all of it.
    pub crc: u64,
    /// Records in it.
    pub records: u64,
}

/// What a backup is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// When it was made, microseconds since 1970.
    pub created: u64,
    /// The newest commit in it.
    pub seq: SeqNum,
    /// Its log, if tables do not hold everything.
    pub log: Option<LogFile>,
    /// Its tables, by ascending number.
    pub tables: Vec<TableFile>,
    /// Number of the MANIFEST that a restore writes.
    pub manifest_no: u64,
    /// All that this MANIFEST says.
    pub state: VersionEdit,
}

/// Damage found while decoding: where, and what is wrong.
pub type Damage = (u64, &'static str);

impl Manifest {
    /// Returns the file of backup `number`.
    pub fn encode(&self, number: u64) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.push(1);
        put_varint(&mut payload, self.created);
        payload.push(2);
        put_varint(&mut payload, self.seq.0);
        if let Some(log) = &self.log {
            payload.push(3);
            put_varint(&mut payload, log.bytes);
            put_u64(&mut payload, log.crc);
            put_varint(&mut payload, log.records);
        }
        for table in &self.tables {
            payload.push(4);
            put_varint(&mut payload, table.file_no);
            put_varint(&mut payload, table.bytes);
            put_u64(&mut payload, table.crc);
        }
        payload.push(5);
        put_varint(&mut payload, self.manifest_no);
        let mut state = Vec::new();
        manifest::put_file_header(&mut state, self.manifest_no);
        let offset = state.len() as u64;
        manifest::put_record(&mut state, self.manifest_no, offset, &self.state);
        put_slice(&mut payload, &state);
        seal(number, &payload)
    }

    /// Decodes the whole file of backup `number`.
    ///
    /// # Errors
    /// Where the file is damaged and what is wrong.
    pub fn decode(bytes: &[u8], number: u64) -> Result<Manifest, Damage> {
        let header = bytes.get(..HEADER_BYTES).ok_or((0, "backup manifest shorter than its header"))?;
        if &header[..8] != MAGIC || get_u32(header, 28) != Some(crc32(&[], &[&header[..28]])) {
            return Err((0, "backup manifest header checksum"));
        }
        if get_u32(header, 8) != Some(VERSION) {
            return Err((8, "backup manifest of an unknown format version"));
        }
        if get_u64(header, 16) != Some(number) {
            return Err((16, "backup manifest of another number"));
        }
        let payload = &bytes[HEADER_BYTES..];
        if get_u32(header, 12).map(u64::from) != Some(payload.len() as u64) {
            return Err((12, "backup manifest of another length than its header says"));
        }
        if get_u32(header, 24) != Some(crc32(&[], &[payload])) {
            return Err((HEADER_BYTES as u64, "backup manifest payload checksum"));
        }
        decode_payload(payload).map_err(|what| (HEADER_BYTES as u64, what))
    }
}

/// Returns the file of backup `number` with this payload.
pub fn seal(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    put_u32(&mut bytes, VERSION);
    put_u32(&mut bytes, u32::try_from(payload.len()).expect("a manifest over 4 GiB"));
    put_u64(&mut bytes, number);
    put_u32(&mut bytes, crc32(&[], &[payload]));
    let header_crc = crc32(&[], &[&bytes]);
    put_u32(&mut bytes, header_crc);
    assert_eq!(bytes.len(), HEADER_BYTES);
    bytes.extend_from_slice(payload);
    bytes
}

/// The fields of a payload as they come in.
#[derive(Default)]
struct Fields {
    created: Option<u64>,
    seq: Option<SeqNum>,
    log: Option<LogFile>,
    tables: Vec<TableFile>,
    state: Option<(u64, VersionEdit)>,
}

fn decode_payload(payload: &[u8]) -> Result<Manifest, &'static str> {
    let mut fields = Fields::default();
    let mut decoder = Decoder::new(payload);
    while let Some(tag) = decoder.u8() {
        let known = match tag {
            1 => once(&mut fields.created, decoder.varint()),
            2 => once(&mut fields.seq, decoder.varint().map(SeqNum).filter(|seq| *seq <= SeqNum::MAX)),
            3 => once(&mut fields.log, decode_log_file(&mut decoder)),
            4 => decode_table(&mut decoder).map(|table| fields.tables.push(table)),
            5 => once(&mut fields.state, decode_state(&mut decoder)),
            _ => return Err("backup manifest with an unknown field"),
        };
        known.ok_or("backup manifest with a malformed field")?;
    }
    let missing = "backup manifest without time, sequence number or state";
    let (manifest_no, state) = fields.state.ok_or(missing)?;
    check_state(manifest_no, &state)?;
    let mut named: Vec<(u64, u64)> =
        state.trees.iter().flat_map(|tree| &tree.added).map(|(_, info)| (info.file_no, info.file_bytes)).collect();
    named.sort_unstable();
    // Equal to what is sorted, so ascending; a number that is there twice is not.
    if named.windows(2).any(|pair| pair[0].0 == pair[1].0)
        || !named.into_iter().eq(fields.tables.iter().map(|table| (table.file_no, table.bytes)))
    {
        return Err("backup manifest with other tables than its state names");
    }
    Ok(Manifest {
        created: fields.created.ok_or(missing)?,
        seq: fields.seq.ok_or(missing)?,
        log: fields.log,
        tables: fields.tables,
        manifest_no,
        state,
    })
}

/// Checks that `state` says all of a directory whose log begins at 0.
fn check_state(manifest_no: u64, state: &VersionEdit) -> Result<(), &'static str> {
    let next_file = state.next_file.is_some_and(|next| next > manifest_no);
    if !next_file || state.wal_lsn != Some(Lsn(0)) || state.last_seq.is_none() {
        return Err("backup manifest whose state is not that of a directory");
    }
    let edits = Edits::replay(std::slice::from_ref(state))?;
    let mut tables = edits.trees.values().flat_map(|tree| tree.tables.keys());
    match tables.all(|file_no| *file_no < manifest_no) {
        true => Ok(()),
        false => Err("backup manifest with a table of a number that is yet to be given"),
    }
}

/// Takes a field that is there at most once.
fn once<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    if field.is_some() {
        return None;
    }
    *field = Some(value?);
    Some(())
}

fn decode_log_file(decoder: &mut Decoder<'_>) -> Option<LogFile> {
    Some(LogFile { bytes: decoder.varint()?, crc: decoder.u64()?, records: decoder.varint()? })
}

fn decode_table(decoder: &mut Decoder<'_>) -> Option<TableFile> {
    Some(TableFile { file_no: decoder.varint()?, bytes: decoder.varint()?, crc: decoder.u64()? })
}

fn decode_state(decoder: &mut Decoder<'_>) -> Option<(u64, VersionEdit)> {
    let number = decoder.varint()?;
    let bytes = decoder.slice()?;
    let (edits, end) = manifest::decode_file(bytes, number).ok()?;
    let [edit] = <[VersionEdit; 1]>::try_from(edits).ok()?;
    (end == bytes.len() as u64).then_some((number, edit))
}

/// Appends the header of the log of backup `number` to an empty buffer.
pub fn put_log_header(out: &mut Vec<u8>, number: u64) {
    assert!(out.is_empty(), "the header stands at the start of the file");
    out.extend_from_slice(LOG_MAGIC);
    put_u32(out, VERSION);
    put_u32(out, crc32(&[number], &[&out[..]]));
    assert_eq!(out.len(), LOG_HEADER_BYTES);
}

/// Returns what comes before `payload` in the log of backup `number`, for a record that lies at `offset`.
pub fn log_record_header(number: u64, offset: u64, payload: &[u8]) -> [u8; LOG_RECORD_BYTES] {
    assert!(!payload.is_empty(), "a record holds something");
    let len = u32::try_from(payload.len()).expect("a record of the engine's log is below 4 GiB");
    let mut header = [0; LOG_RECORD_BYTES];
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..].copy_from_slice(&crc32(&[number, offset], &[payload]).to_le_bytes());
    header
}

/// Checks the header of the log of backup `number`.
///
/// # Errors
/// Where it is damaged and what is wrong.
pub fn check_log_header(header: &[u8], number: u64) -> Result<(), Damage> {
    let header = header.get(..LOG_HEADER_BYTES).ok_or((0, "backup log shorter than its header"))?;
    if &header[..8] != LOG_MAGIC || get_u32(header, 12) != Some(crc32(&[number], &[&header[..12]])) {
        return Err((0, "backup log header checksum"));
    }
    if get_u32(header, 8) == Some(VERSION) { Ok(()) } else { Err((8, "backup log of an unknown format version")) }
}

/// Returns how long the payload behind a record's header is, by what the header says.
pub fn log_payload_bytes(header: [u8; LOG_RECORD_BYTES]) -> u64 {
    get_u32(&header, 0).map_or(0, u64::from)
}

/// Checks the payload of a record at `offset` of the log of backup `number`.
///
/// # Errors
/// Where it is damaged and what is wrong.
pub fn check_log_record(
    header: [u8; LOG_RECORD_BYTES],
    number: u64,
    offset: u64,
    payload: &[u8],
) -> Result<(), Damage> {
    if payload.is_empty() || log_payload_bytes(header) != payload.len() as u64 {
        return Err((offset, "backup log record length"));
    }
    let is_good = get_u32(&header, 4) == Some(crc32(&[number, offset], &[payload]));
    if is_good { Ok(()) } else { Err((offset, "backup log record checksum")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Tag, ValueKind};
    use crate::lsm::manifest::format::TreeEdit;
    use crate::lsm::table::TableInfo;

    fn manifest(log: Option<LogFile>) -> Manifest {
        let info = |file_no: u64| TableInfo {
            file_no,
            file_bytes: 100 * file_no,
            entries: 1,
            tombstones: 0,
            raw_bytes: 2,
            smallest: (b"a".to_vec(), Tag::new(SeqNum(file_no), ValueKind::Put)),
            largest: (b"a".to_vec(), Tag::new(SeqNum(file_no), ValueKind::Put)),
            seq_min: SeqNum(file_no),
            seq_max: SeqNum(file_no),
            ranges: None,
        };
        let trees = vec![
            TreeEdit { added: vec![(0, info(7)), (1, info(3))], ..TreeEdit::default() },
            TreeEdit { keyspace: 2, created: Some("k".into()), added: vec![(0, info(5))], ..TreeEdit::default() },
        ];
        Manifest {
            created: 1_700_000_000_000_000,
            seq: SeqNum(9),
            log,
            tables: [3, 5, 7].map(|file_no| TableFile { file_no, bytes: 100 * file_no, crc: !file_no }).to_vec(),
            manifest_no: 8,
            state: VersionEdit {
                next_file: Some(9),
                last_seq: Some(SeqNum(7)),
                wal_lsn: Some(Lsn(0)),
                next_keyspace: Some(3),
                clock: None,
                trees,
            },
        }
    }

    #[test]
    fn manifest_round_trips_and_no_changed_byte_passes() {
        for log in [None, Some(LogFile { bytes: 400, crc: 77, records: 2 })] {
            let manifest = manifest(log);
            let bytes = manifest.encode(4);
            assert_eq!(Manifest::decode(&bytes, 4), Ok(manifest));
            assert_eq!(Manifest::decode(&bytes, 5), Err((16, "backup manifest of another number")));
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                assert!(Manifest::decode(&changed, 4).is_err(), "byte {at}");
                assert!(Manifest::decode(&bytes[..at], 4).is_err(), "{at} bytes");
            }
            assert!(Manifest::decode(&[&bytes[..], b"\0"].concat(), 4).is_err());
        }
    }

    #[test]
    fn manifest_with_other_tables_than_its_state_is_refused() {
        let good = manifest(None);
        let mut without = good.clone();
        without.tables.pop();
        let mut longer = good.clone();
        longer.tables[0].bytes += 1;
        let mut swapped = good;
        swapped.tables.swap(0, 1);
        for bad in [without, longer, swapped] {
            assert_eq!(
                Manifest::decode(&bad.encode(1), 1),
                Err((HEADER_BYTES as u64, "backup manifest with other tables than its state names"))
            );
        }
    }

    #[test]
    fn log_example_of_the_opening() {
        let payload = *b"\x07\0\0\0\0\0\0\0\x01\0\0\0\x01\x01k\x01v";
        let header = log_record_header(1, 16, &payload);
        assert_eq!(header[..4], [0x11, 0, 0, 0]);
        assert_eq!(check_log_record(header, 1, 16, &payload), Ok(()));
        for (number, offset) in [(2, 16), (1, 24)] {
            assert!(check_log_record(header, number, offset, &payload).is_err());
        }
        let mut log = Vec::new();
        put_log_header(&mut log, 1);
        assert_eq!(check_log_header(&log, 1), Ok(()));
        assert_eq!(check_log_header(&log, 2), Err((0, "backup log header checksum")));
    }
}
