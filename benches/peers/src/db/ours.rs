//! This repository's engine, `aidb::DB`.
//!
//! Set for the comparison: block cache, filters of 10 bits (its default is 15), durability `Os` (its default is `Sync`),
//! which the synced fills do not change. By default it has memtables of 64 MiB, LZ4 on every level, blocks of 4 KiB and two
//! background threads. A get lends its value out of the block or memtable or copies a short one, a scan is a cursor.

use super::data::Batch;
use super::store::{BLOCK_BYTES, FILTER_BITS, MEMTABLE_BYTES, Reader, Scan, Settings, Store};
use crate::Result;
use aidb::{Compression, DB, Durability, Options, WriteBatch};

struct Ours(DB);

fn text(error: aidb::Error) -> String {
    format!("aidb: {error}")
}

/// Opens an empty store.
pub fn open(settings: &Settings<'_>) -> Result<Box<dyn Store>> {
    let options = Options {
        durability: if settings.sync { Durability::Sync } else { Durability::Os },
        memtable_bytes: MEMTABLE_BYTES,
        block_bytes: BLOCK_BYTES,
        block_cache_bytes: settings.cache_bytes,
        compression: Compression::Lz4,
        filter_bits_per_key: FILTER_BITS,
        ..Options::default()
    };
    Ok(Box::new(Ours(DB::open(settings.dir, options).map_err(text)?)))
}

impl Store for Ours {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.put(key, value).map_err(text)
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let mut own = WriteBatch::new();
        for (key, value) in batch.iter() {
            own.put(key, value);
        }
        self.0.write(own).map(drop).map_err(text)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.0.delete(key).map_err(text)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.0))
    }

    fn settle(&self) -> Result<()> {
        // What compactions are due is the engine's to know; that they are done shows in the process being quiet.
        self.0.flush().map_err(text)
    }

    fn filter_part(&self) -> Option<f64> {
        let statistics = self.0.statistics();
        let all = statistics.filter_hits + statistics.filter_misses;
        (all > 0).then(|| statistics.filter_hits as f64 / all as f64)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.close().map_err(text)
    }
}

impl Reader for &DB {
    fn get(&mut self, key: &[u8], check: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<bool>> {
        Ok(DB::get(self, key).map_err(text)?.map(|value| check(&value)))
    }

    fn scan(&mut self, scan: Scan<'_>, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut cursor = self.iter().into_cursor().map_err(text)?;
        match scan {
            Scan::All => cursor.seek_to_first(),
            Scan::From(key) => cursor.seek(key),
            Scan::Back => cursor.seek_to_last(),
        }
        .map_err(text)?;
        while cursor.valid() && take(cursor.key(), cursor.value()) {
            if let Scan::Back = scan { cursor.prev() } else { cursor.next() }.map_err(text)?;
        }
        Ok(())
    }
}
