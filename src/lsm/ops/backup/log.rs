//! The log of a backup: [`LogWriter`] and [`read_log`]. One file, written once and synced.

use super::format::{
    Damage, LOG_HEADER_BYTES, LOG_RECORD_BYTES, LogFile, check_log_header, check_log_record, log_payload_bytes,
    log_record_header, put_log_header,
};
use super::store::Store;
use crate::base::checksum::Crc64;
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, SyncKind};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes gathered for one write.
const PIECE_BYTES: usize = 1 << 20;

/// The log of a backup being written.
pub(super) struct LogWriter<E: Env> {
    path: PathBuf,
    number: u64,
    file: <E::Disk as Disk>::File,
    piece: Vec<u8>,
    written: u64,
    crc: Crc64,
    records: u64,
}

impl<E: Env> LogWriter<E> {
    /// Begins the log of backup `number`; one that an interrupted backup left goes.
    pub(super) fn create(store: &Store<'_, E>, number: u64) -> Result<LogWriter<E>> {
        let path = store.log_path(number);
        store.remove(&path)?;
        let opened = store.env.disk().open(&path, OpenMode::CreateNew);
        let file = opened.map_err(|error| Error::io("create", &path, error))?;
        let mut piece = Vec::new();
        put_log_header(&mut piece, number);
        Ok(LogWriter { path, number, file, piece, written: 0, crc: Crc64::new(), records: 0 })
    }

    /// Adds a record of the engine's log.
    pub(super) fn add(&mut self, payload: &[u8]) -> Result<()> {
        let offset = self.written + self.piece.len() as u64;
        self.piece.extend_from_slice(&log_record_header(self.number, offset, payload));
        self.piece.extend_from_slice(payload);
        self.records += 1;
        if self.piece.len() >= PIECE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.piece, self.written);
        written.map_err(|error| Error::io("write", &self.path, error))?;
        self.written += self.piece.len() as u64;
        self.crc.update(&self.piece);
        self.piece.clear();
        Ok(())
    }

    /// Makes its bytes durable.
    pub(super) fn finish(mut self) -> Result<LogFile> {
        self.write()?;
        self.file.sync(SyncKind::All).map_err(|error| Error::io("sync", &self.path, error))?;
        Ok(LogFile { bytes: self.written, crc: self.crc.value(), records: self.records })
    }
}

/// Hands each payload of the log of backup `number` to `take`, with its offset, and checks everything.
///
/// # Errors
/// [`Corruption`](crate::ErrorKind::Corruption) naming the file and the offset; what the disk or `take` met.
pub(super) fn read_log<E: Env>(
    store: &Store<'_, E>,
    number: u64,
    log: &LogFile,
    take: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let path = &store.log_path(number);
    let damaged = |(offset, what): Damage| Error::corruption(path, offset, what);
    let file = store.env.disk().open(path, OpenMode::Read).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged((0, "the log of the backup is missing")),
        _ => Error::io("open", path, error),
    })?;
    let bytes = file.len().map_err(|error| Error::io("read the length of", path, error))?;
    if bytes != log.bytes {
        return Err(damaged((bytes.min(log.bytes), "the log has another length than its backup says")));
    }
    let (mut crc, mut records) = (Crc64::new(), 0);
    let header: [u8; LOG_HEADER_BYTES] = read(&file, path, 0)?;
    check_log_header(&header, number).map_err(damaged)?;
    crc.update(&header);
    let mut offset = LOG_HEADER_BYTES as u64;
    let mut payload = Vec::new();
    while offset < bytes {
        let header: [u8; LOG_RECORD_BYTES] = read(&file, path, offset)?;
        let begin = offset + LOG_RECORD_BYTES as u64;
        let len = log_payload_bytes(header);
        if len > BATCH_BYTES_MAX as u64 || begin + len > bytes {
            return Err(damaged((offset, "backup log record length")));
        }
        payload.resize(len as usize, 0);
        file.read_exact_at(&mut payload, begin).map_err(|error| Error::io("read", path, error))?;
        check_log_record(header, number, offset, &payload).map_err(damaged)?;
        crc.update(&header);
        crc.update(&payload);
        take(offset, &payload)?;
        records += 1;
        offset = begin + len;
    }
    if records == log.records && crc.value() == log.crc {
        return Ok(());
    }
    Err(damaged((0, "the log is whole, and not the one of its backup")))
}

fn read<const N: usize>(file: &impl DiskFile, path: &Path, offset: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::corruption(path, offset, "the log ends within a record"))
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}
