//! RocksDB 10.4, by the crate `rocksdb` 0.24, built for the processor it runs on.
//!
//! Set for the comparison: block cache (LRU), full Bloom filters of 10 bits, LZ4 on every level, memtables of 64 MiB, blocks
//! of 4 KiB; WAL on, `sync` in the synced fills only. As its tuning guide advises: newest table format, dynamic level sizes,
//! files synced every 1 MiB while they are written. Two background jobs and two memtables, its default and this engine's.
//! Index and filters are kept beside the cache, its default and faster than in it. Reads are pinned, scans raw iterators.

use super::data::Batch;
use super::store::{BLOCK_BYTES, FILTER_BITS, MEMTABLE_BYTES, Reader, Scan, Settings, Store};
use crate::Result;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, WaitForCompactOptions, WriteBatch, WriteOptions,
};

struct Rocks {
    db: DB,
    write: WriteOptions,
}

fn text(error: rocksdb::Error) -> String {
    format!("rocksdb: {error}")
}

/// Opens an empty store.
pub fn open(settings: &Settings<'_>) -> Result<Box<dyn Store>> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes));
    table.set_bloom_filter(f64::from(FILTER_BITS), false);
    table.set_block_size(BLOCK_BYTES);
    table.set_format_version(6);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    let mut write = WriteOptions::default();
    write.set_sync(settings.sync);
    Ok(Box::new(Rocks { db: DB::open(&options, settings.dir).map_err(text)?, write }))
}

impl Store for Rocks {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put_opt(key, value, &self.write).map_err(text)
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let mut own = WriteBatch::default();
        for (key, value) in batch.iter() {
            own.put(key, value);
        }
        self.db.write_opt(own, &self.write).map_err(text)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.db.delete_opt(key, &self.write).map_err(text)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.db))
    }

    fn settle(&self) -> Result<()> {
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        self.db.wait_for_compact(&wait).map_err(text)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Reader for &DB {
    fn get(&mut self, key: &[u8], check: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<bool>> {
        Ok(self.get_pinned(key).map_err(text)?.map(|value| check(&value)))
    }

    fn scan(&mut self, scan: Scan<'_>, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut iterator = self.raw_iterator();
        match scan {
            Scan::All => iterator.seek_to_first(),
            Scan::From(key) => iterator.seek(key),
            Scan::Back => iterator.seek_to_last(),
        }
        while let Some((key, value)) = iterator.item() {
            if !take(key, value) {
                break;
            }
            if let Scan::Back = scan { iterator.prev() } else { iterator.next() }
        }
        iterator.status().map_err(text)
    }
}
