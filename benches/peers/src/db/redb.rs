//! redb 4, a copy-on-write B-tree in one file. It has no log, filters, or compression.
//!
//! Set for the comparison: cache of the same size. A write is a transaction, or a batch is one, with `Durability::None`, which
//! its documentation gives for writes that need not survive; in the synced fills with `Immediate`. What is not synced
//! is made durable by one `Immediate` commit when the store settles. A reader keeps its read transaction until something
//! is committed.

use super::data::Batch;
use super::store::{Reader, Scan, Settings, Store};
use crate::Result;
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::sync::atomic::{AtomicU64, Ordering};

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

type Entries = ReadOnlyTable<&'static [u8], &'static [u8]>;

struct Redb {
    db: Database,
    durability: Durability,
    commits: AtomicU64,
}

fn text(error: impl std::fmt::Display) -> String {
    format!("redb: {error}")
}

/// Opens an empty store.
pub fn open(settings: &Settings<'_>) -> Result<Box<dyn Store>> {
    let db = Builder::new().set_cache_size(settings.cache_bytes).create(settings.dir.join("redb")).map_err(text)?;
    let durability = if settings.sync { Durability::Immediate } else { Durability::None };
    let store = Redb { db, durability, commits: AtomicU64::new(0) };
    store.transact(Durability::Immediate, |_| Ok(()))?;
    Ok(Box::new(store))
}

impl Redb {
    fn transact(
        &self,
        durability: Durability,
        work: impl FnOnce(&mut Table<'_, &'static [u8], &'static [u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.db.begin_write().map_err(text)?;
        transaction.set_durability(durability).map_err(text)?;
        work(&mut transaction.open_table(ENTRIES).map_err(text)?)?;
        transaction.commit().map_err(text)?;
        self.commits.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn entries(&self) -> Result<Entries> {
        self.db.begin_read().map_err(text)?.open_table(ENTRIES).map_err(text)
    }
}

impl Store for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.transact(self.durability, |table| table.insert(key, value).map(drop).map_err(text))
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        self.transact(self.durability, |table| {
            batch.iter().try_for_each(|(key, value)| table.insert(&key[..], value).map(drop).map_err(text))
        })
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.transact(self.durability, |table| table.remove(key).map(drop).map_err(text))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let at = self.commits.load(Ordering::Acquire);
        Ok(Box::new(RedbReader { store: self, at, entries: self.entries()? }))
    }

    fn settle(&self) -> Result<()> {
        self.transact(Durability::Immediate, |_| Ok(()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct RedbReader<'a> {
    store: &'a Redb,
    /// The commits there were before the transaction began.
    at: u64,
    entries: Entries,
}

impl RedbReader<'_> {
    fn renew(&mut self) -> Result<()> {
        let now = self.store.commits.load(Ordering::Acquire);
        if now != self.at {
            (self.at, self.entries) = (now, self.store.entries()?);
        }
        Ok(())
    }
}

impl Reader for RedbReader<'_> {
    fn get(&mut self, key: &[u8], check: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<bool>> {
        self.renew()?;
        Ok(self.entries.get(key).map_err(text)?.map(|value| check(value.value())))
    }

    fn scan(&mut self, scan: Scan<'_>, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.renew()?;
        let mut range = match scan {
            Scan::From(key) => self.entries.range(key..),
            Scan::All | Scan::Back => self.entries.iter(),
        }
        .map_err(text)?;
        let back = matches!(scan, Scan::Back);
        while let Some(entry) = if back { range.next_back() } else { range.next() } {
            let (key, value) = entry.map_err(text)?;
            if !take(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}
