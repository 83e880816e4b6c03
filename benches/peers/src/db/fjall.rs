//! fjall 3.
//!
//! Set for the comparison: block cache, filters of 10 bits and LZ4 on every level (by default level 0 has larger filters, and
//! levels 0 and 1 are not compressed), memtables of 64 MiB and blocks of 4 KiB, which are its defaults, as are its worker
//! threads, one a core. Each write is handed to the operating system before it returns, its default; in the synced
//! fills each is a batch with `PersistMode::SyncData`.

use super::data::Batch;
use super::store::{BLOCK_BYTES, FILTER_BITS, MEMTABLE_BYTES, Reader, Scan, Settings, Store};
use crate::Result;
use fjall::config::{BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use std::time::Duration;

struct Fjall {
    db: Database,
    entries: Keyspace,
    sync: bool,
}

fn text(error: fjall::Error) -> String {
    format!("fjall: {error}")
}

/// Opens an empty store.
pub fn open(settings: &Settings<'_>) -> Result<Box<dyn Store>> {
    let db = Database::builder(settings.dir).cache_size(settings.cache_bytes as u64).open().map_err(text)?;
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(f32::from(FILTER_BITS)));
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES as u64)
            .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES as u32))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .filter_policy(FilterPolicy::all(filter))
    };
    let entries = db.keyspace("entries", options).map_err(text)?;
    Ok(Box::new(Fjall { db, entries, sync: settings.sync }))
}

impl Fjall {
    fn batch(&self) -> OwnedWriteBatch {
        let batch = self.db.batch();
        if self.sync { batch.durability(Some(PersistMode::SyncData)) } else { batch }
    }
}

impl Store for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if !self.sync {
            return self.entries.insert(key, value).map_err(text);
        }
        let mut batch = self.batch();
        batch.insert(&self.entries, key, value);
        batch.commit().map_err(text)
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let mut own = self.batch();
        for (key, value) in batch.iter() {
            own.insert(&self.entries, &key[..], value);
        }
        own.commit().map_err(text)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.entries.remove(key).map_err(text)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.entries))
    }

    fn settle(&self) -> Result<()> {
        self.entries.rotate_memtable_and_wait().map_err(text)?;
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Reader for &Keyspace {
    fn get(&mut self, key: &[u8], check: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<bool>> {
        Ok(Keyspace::get(self, key).map_err(text)?.map(|value| check(&value)))
    }

    fn scan(&mut self, scan: Scan<'_>, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut iterator = match scan {
            Scan::From(key) => self.range(key..),
            Scan::All | Scan::Back => self.iter(),
        };
        let back = matches!(scan, Scan::Back);
        while let Some(entry) = if back { iterator.next_back() } else { iterator.next() } {
            let (key, value) = entry.into_inner().map_err(text)?;
            if !take(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
