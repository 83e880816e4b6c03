//! The golden files of backups: what they hold. The state within is a MANIFEST, whose own golden files say how it is written.

use super::{corpus, rewriting};
use aidb::aof::Lsn;
use aidb::backup::format::{
    LOG_HEADER_BYTES, LOG_RECORD_BYTES, LogFile, Manifest, TableFile, check_log_header, check_log_record,
    log_record_header, put_log_header,
};
use aidb::base::key::{SeqNum, Tag, ValueKind};
use aidb::lsm::manifest::format::{TreeEdit, VersionEdit};
use aidb::lsm::table::TableInfo;
use std::fs;
use std::path::PathBuf;

const NUMBER: u64 = 4;

pub(crate) fn path(name: &str) -> PathBuf {
    corpus("formats/v1").join(name)
}

/// Writes every golden file of backups.
pub(crate) fn write_all() {
    fs::write(path("BACKUP-000004"), manifest().encode(NUMBER)).unwrap();
    fs::write(path("backup.log"), written_log()).unwrap();
}

fn manifest() -> Manifest {
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
    let default =
        TreeEdit { flushed: Some(SeqNum(130)), added: vec![(0, info(9)), (6, info(4))], ..TreeEdit::default() };
    let events = TreeEdit {
        keyspace: 300,
        created: Some("events".into()),
        flushed: Some(SeqNum(0x1233)),
        added: vec![(1, info(5))],
        ..TreeEdit::default()
    };
    Manifest {
        created: 1_700_000_000_000_000,
        seq: SeqNum(0x1237),
        log: Some(LogFile { bytes: 689, crc: 0x0123_4567_89ab_cdef, records: 1 }),
        tables: [4, 5, 9].map(|file_no| TableFile { file_no, bytes: 4096 * file_no, crc: !file_no }).to_vec(),
        manifest_no: 12,
        state: VersionEdit {
            clock: None,
            next_file: Some(13),
            last_seq: Some(SeqNum(0x1233)),
            wal_lsn: Some(Lsn(0)),
            next_keyspace: Some(301),
            trees: vec![default, events],
        },
    }
}

fn written_log() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_log_header(&mut bytes, NUMBER);
    for record in [fs::read(path("wal_batch")).unwrap(), b"any record".to_vec()] {
        let offset = bytes.len() as u64;
        bytes.extend_from_slice(&log_record_header(NUMBER, offset, &record));
        bytes.extend_from_slice(&record);
    }
    bytes
}

#[test]
fn backup_manifest_and_log() {
    if rewriting() {
        return;
    }
    let bytes = fs::read(path("BACKUP-000004")).unwrap();
    assert_eq!(Manifest::decode(&bytes, NUMBER), Ok(manifest()));
    assert_eq!(Manifest::decode(&manifest().encode(NUMBER), NUMBER), Ok(manifest()));
    let log = fs::read(path("backup.log")).unwrap();
    assert_eq!(log, written_log());
    assert_eq!(check_log_header(&log, NUMBER), Ok(()));
    let record = fs::read(path("wal_batch")).unwrap();
    let header = *log[LOG_HEADER_BYTES..].first_chunk::<LOG_RECORD_BYTES>().unwrap();
    assert_eq!(check_log_record(header, NUMBER, LOG_HEADER_BYTES as u64, &record), Ok(()));
}
