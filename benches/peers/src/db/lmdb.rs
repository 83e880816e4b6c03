//! LMDB 0.9, by heed 0.22: a copy-on-write B-tree in a memory map. It has no log, filters, compression, or cache of its own.
//!
//! The page cache holds its file whole, whatever cache size the others get, and what of the map is resident counts as its
//! memory. A write is a transaction, or a batch is one, with `MDB_NOSYNC`, which its documentation gives for writes
//! that need not survive; in the synced fills without. What is not synced is made durable once when the store settles.
//! Read transactions are not tied to threads (`MDB_NOTLS`), since the same thread writes; a reader keeps its own until
//! something is committed.

use super::data::Batch;
use super::store::{Reader, Scan, Settings, Store};
use crate::Result;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

const MAP_BYTES: usize = 1 << 36;

struct Lmdb {
    env: Env<WithoutTls>,
    entries: Database<Bytes, Bytes>,
    commits: AtomicU64,
}

fn text(error: heed::Error) -> String {
    format!("lmdb: {error}")
}

/// Opens an empty store.
pub fn open(settings: &Settings<'_>) -> Result<Box<dyn Store>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_BYTES);
    if !settings.sync {
        // SAFETY: a crash of the system may damage the file, which does not outlive the measurement.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the directory is this process's own, so no one else changes the mapped file.
    let env = unsafe { options.open(settings.dir) }.map_err(text)?;
    let mut transaction = env.write_txn().map_err(text)?;
    let entries = env.create_database(&mut transaction, None).map_err(text)?;
    transaction.commit().map_err(text)?;
    Ok(Box::new(Lmdb { env, entries, commits: AtomicU64::new(0) }))
}

impl Lmdb {
    fn transact(&self, work: impl FnOnce(&mut RwTxn<'_>) -> heed::Result<()>) -> Result<()> {
        let mut transaction = self.env.write_txn().map_err(text)?;
        work(&mut transaction).map_err(text)?;
        transaction.commit().map_err(text)?;
        self.commits.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl Store for Lmdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.transact(|transaction| self.entries.put(transaction, key, value))
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        self.transact(|transaction| batch.iter().try_for_each(|(key, value)| self.entries.put(transaction, key, value)))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.transact(|transaction| self.entries.delete(transaction, key).map(drop))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let at = self.commits.load(Ordering::Acquire);
        Ok(Box::new(LmdbReader { store: self, at, transaction: self.env.read_txn().map_err(text)? }))
    }

    fn settle(&self) -> Result<()> {
        self.env.force_sync().map_err(text)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct LmdbReader<'a> {
    store: &'a Lmdb,
    /// The commits there were before the transaction began.
    at: u64,
    transaction: RoTxn<'a, WithoutTls>,
}

impl LmdbReader<'_> {
    fn renew(&mut self) -> Result<()> {
        let now = self.store.commits.load(Ordering::Acquire);
        if now != self.at {
            (self.at, self.transaction) = (now, self.store.env.read_txn().map_err(text)?);
        }
        Ok(())
    }
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &[u8], check: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<bool>> {
        self.renew()?;
        Ok(self.store.entries.get(&self.transaction, key).map_err(text)?.map(check))
    }

    fn scan(&mut self, scan: Scan<'_>, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.renew()?;
        let (entries, transaction) = (&self.store.entries, &self.transaction);
        let mut feed = |entry: heed::Result<(&[u8], &[u8])>| entry.map(|(key, value)| take(key, value)).map_err(text);
        match scan {
            Scan::All => until_false(entries.iter(transaction).map_err(text)?.map(&mut feed)),
            Scan::From(key) => until_false(
                entries.range(transaction, &(Bound::Included(key), Bound::Unbounded)).map_err(text)?.map(&mut feed),
            ),
            Scan::Back => until_false(entries.rev_iter(transaction).map_err(text)?.map(&mut feed)),
        }
    }
}

/// Goes through `steps` until one is false or failed.
fn until_false(steps: impl Iterator<Item = Result<bool>>) -> Result<()> {
    for step in steps {
        if !step? {
            break;
        }
    }
    Ok(())
}
