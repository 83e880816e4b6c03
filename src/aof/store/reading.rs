//! Reading a store: the methods of [`Aof`] that hand out cursors and records.
//!
//! Any thread, beside any number of appenders; see [`Cursor`].

use super::*;
use crate::aof::archive::remote::{self, Remote};
use crate::aof::cursor::{Cursor, From, Record};
use crate::aof::readers::ReaderStats;

/// Returns the readers of a store.
pub(super) fn readers<E: Env>(
    log: &Log<E>,
    config: &AofConfig,
    manifest: &Arc<Manifest<E>>,
    remote: Option<Arc<Remote<E>>>,
) -> Arc<Readers<E>> {
    let chain = Arc::new(remote::chain(log.clone(), manifest.clone(), remote));
    Readers::new(chain, config.open_segments_max, config.readers_max)
}

impl<E: Env> Aof<E> {
    /// Returns a cursor that begins at `from`.
    ///
    /// ```
    /// use aidb::aof::{Aof, AofConfig, From, Until};
    /// use aidb::env::StdEnv;
    /// # let dir = tempfile::tempdir()?;
    /// let (aof, _report) = Aof::open(StdEnv, dir.path(), AofConfig::default())?;
    /// aof.append_batch(&["first", "second", "third"])?.wait()?;
    /// let mut cursor = aof.cursor(From::TailMinus(2))?.until(Until::Count(1));
    /// while let Some(record) = cursor.next_ref() {
    ///     assert_eq!(record?.bytes, b"second");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReaderLimitExceeded`](crate::aof::AofError::ReaderLimitExceeded) if there are
    /// [`readers_max`](AofConfig::readers_max) cursors.
    pub fn cursor(&self, from: From) -> Result<Cursor<E>> {
        self.shared.readers.cursor(from)
    }

    /// Returns the record `id`, if it is durable.
    ///
    /// # Errors
    /// [`Truncated`](crate::aof::AofError::Truncated), [`NotYet`](crate::aof::AofError::NotYet);
    /// [`Corruption`](crate::ErrorKind::Corruption) naming file and offset; what reading met.
    pub fn read(&self, id: u64) -> Result<Record> {
        self.shared.readers.read(id)
    }

    /// Returns how many cursors and open segments there are, and how often a segment was found open.
    pub fn reader_stats(&self) -> ReaderStats {
        self.shared.readers.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::AofError;
    use crate::env::{EnvJoin, StdEnv};
    use parking_lot::Mutex;

    #[test]
    fn what_is_truncated_is_not_shown_and_followers_end_with_the_last_handle() {
        let dir = tempfile::tempdir().unwrap();
        let (aof, _) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
        for number in 0..10u8 {
            drop(aof.append(&[number]).unwrap());
        }
        aof.flush().unwrap();
        aof.truncate_before(4).unwrap();
        let shown: Vec<u64> = aof.cursor(From::First).unwrap().map(|record| record.unwrap().id).collect();
        assert_eq!(shown, (4..=10).collect::<Vec<_>>());
        assert_eq!(aof.read(4).unwrap().bytes[..], [3]);
        assert_eq!(AofError::of(&aof.read(3).unwrap_err()), Some(&AofError::Truncated { id: 3, first: 4 }));
        assert_eq!(AofError::of(&aof.read(11).unwrap_err()), Some(&AofError::NotYet { id: 11, next: 11 }));
        let follower = aof.cursor(From::TailMinus(2)).unwrap().follow(true);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let thread = StdEnv.spawn("follower", move || into.lock().extend(follower.map(|record| record.unwrap().id)));
        aof.append_sync(b"eleven").unwrap();
        drop(aof);
        assert!(thread.unwrap().join());
        assert_eq!(*seen.lock(), [9, 10, 11]);
    }
}
