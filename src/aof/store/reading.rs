//! Reading a store: the methods of [`Aof`] that hand out cursors and records.
//!
//! Any thread, beside any number of appenders; see [`Cursor`].

use super::view::StoreView;
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

impl<E: Env> Aof<E> {
    /// Opens the store in `dir` for reading only, beside the process that writes it or without one.
    ///
    /// Takes no lock and changes nothing. Shows what was not truncated; archived segments too if `config` has their archive,
    /// else local ones only; by default what the log itself says is durable, see
    /// [`ViewChain`](crate::aof::view::ViewChain).
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such directory;
    /// [`Corruption`](crate::ErrorKind::Corruption) naming a bad segment header, a missing segment or damage of the manifest;
    /// what the disk met.
    pub fn open_read_only(env: E, dir: impl AsRef<Path>, config: AofConfig) -> Result<AofReader<E>> {
        config.validate()?;
        let view = StoreView::open(env, dir.as_ref(), &config)?;
        let readers = Readers::new(view.clone(), config.open_segments_max, config.readers_max);
        Ok(AofReader { view, readers })
    }
}

/// A store opened for reading only, by [`Aof::open_read_only`].
pub struct AofReader<E: Env = StdEnv> {
    pub(super) view: Arc<StoreView<E>>,
    pub(super) readers: Arc<Readers<E>>,
}

impl<E: Env> std::fmt::Debug for AofReader<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view.fmt(f)
    }
}

impl<E: Env> AofReader<E> {
    /// Returns a cursor that begins at `from`. One that follows looks at the directory every few milliseconds.
    ///
    /// # Errors
    /// As [`Aof::cursor`].
    pub fn cursor(&self, from: From) -> Result<Cursor<E>> {
        self.readers.cursor(from)
    }

    /// Returns the record `id`, if the log says that it is durable.
    ///
    /// # Errors
    /// As [`Aof::read`].
    pub fn read(&self, id: u64) -> Result<Record> {
        self.readers.read(id)
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
        let mut follower = aof.cursor(From::TailMinus(2)).unwrap().follow(true);
        // The tail is looked for by the first read.
        let first = follower.next_ref().unwrap().unwrap().id;
        let seen = Arc::new(Mutex::new(vec![first]));
        let into = Arc::clone(&seen);
        let thread = StdEnv.spawn("follower", move || into.lock().extend(follower.map(|record| record.unwrap().id)));
        aof.append_sync(b"eleven").unwrap();
        drop(aof);
        assert!(thread.unwrap().join());
        assert_eq!(*seen.lock(), [9, 10, 11]);
    }

    #[test]
    fn a_reader_beside_the_writer_shows_the_same_and_both_verify() {
        let dir = tempfile::tempdir().unwrap();
        let config = AofConfig { segment_bytes: 8192, ..AofConfig::default() };
        let (aof, _) = Aof::open(StdEnv, dir.path(), config.clone()).unwrap();
        let reader = Aof::open_read_only(StdEnv, dir.path(), config).unwrap();
        let mut follower = reader.cursor(From::First).unwrap().follow(true);
        for number in 0..50u8 {
            aof.append_sync(&[number; 700]).unwrap();
            // The next append says that the one before was durable.
            if number > 0 {
                let record = follower.next_ref().unwrap().unwrap();
                assert_eq!((record.id, record.bytes), (u64::from(number), &[number - 1; 700][..]));
            }
        }
        let report = aof.verify().unwrap();
        assert!(report.is_clean() && report.records == 50, "{report:?}");
        aof.close().unwrap();
        assert_eq!(reader.read(50).unwrap().bytes[..], [49; 700]);
        let report = reader.verify().unwrap();
        assert!(report.is_clean() && report.records == 50, "{report:?}");
    }
}
