//! [`LSMStorageEngine`]: the engine behind `async` calls, for programs on tokio.
//!
//! A thin coat: each call runs on tokio's threads for blocking work, so that a sync or a read of the disk never holds up the
//! tasks of a runtime thread. Everything else (snapshots, transactions, cursors) is one call away, at
//! [`db`](LSMStorageEngine::db).
//!
//! A call whose future is dropped is carried out all the same. Calls need a tokio runtime and panic without one.

use crate::base::{Error, Result};
use crate::lsm::{DB, IntegrityReport, Options, Statistics};
use std::panic::resume_unwind;
use std::path::PathBuf;

/// When tables are compacted; what is left out of [`Options`] for those who need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// Tables in level 0 at which writes stop, as [`Options::l0_stall_files`]. Default 24.
    pub max_sstables: usize,
    /// Tables in level 0 that start a compaction, as [`Options::l0_compaction_files`]. Default 4.
    pub min_compaction_files: usize,
}

impl Default for CompactionConfig {
    fn default() -> CompactionConfig {
        let Options { l0_stall_files, l0_compaction_files, .. } = Options::default();
        CompactionConfig { max_sstables: l0_stall_files, min_compaction_files: l0_compaction_files }
    }
}

/// A database whose calls are futures. Cheap to clone; all clones are the same database, which closes with the last of them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> aidb::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let engine = aidb::LSMStorageEngine::open(dir.path()).await?;
/// engine.put("user:1", "ada").await?;
/// engine.put("user:2", "grace").await?;
/// assert_eq!(engine.get("user:1").await?, Some(b"ada".to_vec()));
/// assert_eq!(engine.scan("user:").await?.len(), 2);
/// # engine.close().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LSMStorageEngine {
    db: DB,
}

impl LSMStorageEngine {
    /// Opens the database in directory `path` with default options, creating it if there is none.
    ///
    /// # Errors
    /// As [`DB::open`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<LSMStorageEngine> {
        LSMStorageEngine::open_with(path, Options::default()).await
    }

    /// As [`open`](Self::open), with the compactions that `config` says.
    ///
    /// # Errors
    /// As [`DB::open`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) names the option that a field out of range stands
    /// for.
    pub async fn with_compaction(path: impl Into<PathBuf>, config: CompactionConfig) -> Result<LSMStorageEngine> {
        let CompactionConfig { max_sstables: l0_stall_files, min_compaction_files: l0_compaction_files } = config;
        LSMStorageEngine::open_with(path, Options { l0_stall_files, l0_compaction_files, ..Options::default() }).await
    }

    /// As [`open`](Self::open), with `options`.
    ///
    /// # Errors
    /// As [`DB::open`].
    pub async fn open_with(path: impl Into<PathBuf>, options: Options) -> Result<LSMStorageEngine> {
        let path = path.into();
        let db = blocking(move || DB::open(path, options)).await?;
        Ok(LSMStorageEngine { db })
    }

    /// Returns the database behind, for everything that is not here. Its calls block.
    pub fn db(&self) -> &DB {
        &self.db
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`DB::put`].
    ///
    /// # Durability
    /// As [`Options::durability`] says: by default on the disk once the future is ready.
    pub async fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Result<()> {
        let (key, value) = (key.into(), value.into());
        self.call(move |db| db.put(key, value)).await
    }

    /// Returns the value of `key`.
    ///
    /// # Errors
    /// As [`DB::get`].
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let key = key.into();
        self.call(move |db| Ok(db.get(key)?.map(|value| value.to_vec()))).await
    }

    /// Removes `key`, whether it exists or not.
    ///
    /// # Errors
    /// As [`DB::delete`].
    ///
    /// # Durability
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<()> {
        let key = key.into();
        self.call(move |db| db.delete(key)).await
    }

    /// Returns every entry whose key begins with `prefix`, in key order, as of one moment. All of them are in memory at once.
    ///
    /// # Errors
    /// As [`DB::get`].
    pub async fn scan(&self, prefix: impl Into<Vec<u8>>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let prefix = prefix.into();
        self.call(move |db| {
            db.prefix(prefix).map(|entry| entry.map(|entry| (entry.key, entry.value.to_vec()))).collect()
        })
        .await
    }

    /// Returns what the engine has done and holds.
    ///
    /// # Errors
    /// None today; a future one would be of the disk.
    pub async fn get_stats(&self) -> Result<Statistics> {
        self.call(|db| Ok(db.statistics())).await
    }

    /// Flushes, then compacts every table down to the last level in use.
    ///
    /// # Errors
    /// As [`DB::force_compaction`].
    pub async fn force_compaction(&self) -> Result<()> {
        self.call(DB::force_compaction).await
    }

    /// Gives the log's space back; see [`DB::cleanup_wal`].
    ///
    /// # Errors
    /// As [`DB::flush`].
    pub async fn cleanup_wal(&self) -> Result<u64> {
        self.call(DB::cleanup_wal).await
    }

    /// Reads every table and compares it with what should be there.
    ///
    /// # Errors
    /// As [`DB::validate_integrity`].
    pub async fn validate_integrity(&self) -> Result<IntegrityReport> {
        self.call(DB::validate_integrity).await
    }

    /// Closes the database for all clones.
    ///
    /// # Errors
    /// As [`DB::close`].
    pub async fn close(&self) -> Result<()> {
        self.call(DB::close).await
    }

    async fn call<T: Send + 'static>(&self, call: impl FnOnce(&DB) -> Result<T> + Send + 'static) -> Result<T> {
        let db = self.db.clone();
        blocking(move || call(&db)).await
    }
}

/// Runs `call` where blocking is allowed.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(Error::closed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    #[tokio::test]
    async fn calls_do_what_the_database_does() {
        let dir = tempfile::tempdir().unwrap();
        let engine = LSMStorageEngine::open(dir.path()).await.unwrap();
        for number in 0..100u8 {
            engine.put([b'a', number], [number]).await.unwrap();
        }
        engine.delete([b'a', 7]).await.unwrap();
        engine.put("b", "outside of the prefix").await.unwrap();
        assert_eq!(engine.get([b'a', 7]).await.unwrap(), None);
        let expected: Vec<_> = (0..100).filter(|n| *n != 7).map(|n| (vec![b'a', n], vec![n])).collect();
        assert_eq!(engine.scan("a").await.unwrap(), expected);
        assert_eq!(engine.cleanup_wal().await.unwrap(), 0, "one segment is kept");
        engine.force_compaction().await.unwrap();
        assert!(engine.validate_integrity().await.unwrap().is_sound());
        assert_eq!(engine.get_stats().await.unwrap().write_operations, 102);
        engine.close().await.unwrap();
        assert_eq!(engine.get("b").await.unwrap_err().kind(), &ErrorKind::Closed);
        let engine = LSMStorageEngine::open(dir.path()).await.unwrap();
        assert_eq!(engine.scan("a").await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_config_out_of_range_names_the_option() {
        let dir = tempfile::tempdir().unwrap();
        let config = CompactionConfig { max_sstables: 2, ..CompactionConfig::default() };
        let error = LSMStorageEngine::with_compaction(dir.path(), config).await.unwrap_err();
        assert!(error.to_string().contains("l0_stall_files is 2"), "{error}");
    }
}
