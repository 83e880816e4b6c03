//! The archive as the store uses it: made at open, driven by the background thread, read by cursors.
//!
//! Without [`AofConfig::archive`](super::AofConfig::archive) there is none, and nothing here does anything.

use super::super::archive::cache::CacheStats;
use super::super::archive::rebuild::Source;
use super::super::archive::remote::Remote;
use super::super::archive::upload::{ArchiveStats, Archiver, ArchiverOptions, Progress, unarchived};
use super::super::chain::{At, Chain};
use super::super::log::Log;
use super::super::manifest::{Manifest, States};
use super::Shared;
use super::config::{AofConfig, ArchiveConfig};
use crate::base::Result;
use crate::env::{Env, Mutex};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of the archiver between looks at other work.
const STEPS_MAX: usize = 64;

/// The archive of one store.
pub(super) struct Archive<E: Env> {
    parts: Option<Parts<E>>,
    /// Segments sealed and not archived, less the rolls of the log when they were counted.
    unarchived: AtomicU64,
}

struct Parts<E: Env> {
    remote: Arc<Remote<E>>,
    archiver: Mutex<E, Archiver<E>>,
    stats: Mutex<E, ArchiveStats>,
}

/// Returns the archive to look into when the manifest was lost.
pub(super) fn source(config: &AofConfig) -> Option<Source<'_>> {
    let archive = config.archive.as_ref()?;
    Some(Source { storage: &archive.storage, prefix: &archive.prefix, keys: config.encryption.as_ref() })
}

/// Returns what reads the segments that `manifest` says are archived, if there is an archive.
pub(super) fn remote<E: Env>(env: &E, config: &AofConfig, manifest: Arc<dyn States>) -> Option<Arc<Remote<E>>> {
    let ArchiveConfig { storage, cache_bytes, .. } = config.archive.as_ref()?;
    Some(Remote::new(env.clone(), storage.clone(), config.encryption.clone(), manifest, *cache_bytes))
}

impl<E: Env> Archive<E> {
    /// Makes what the configuration asks for.
    pub(super) fn new(
        env: &E,
        dir: &Path,
        config: &AofConfig,
        log: &Log<E>,
        manifest: &Arc<Manifest<E>>,
    ) -> Result<Archive<E>> {
        let archive = Archive { parts: None, unarchived: AtomicU64::new(0) };
        let Some(chosen) = &config.archive else { return Ok(archive) };
        let keys = config.encryption.clone();
        let Some(remote) = remote(env, config, manifest.clone()) else { return Ok(archive) };
        let options = ArchiverOptions {
            prefix: chosen.prefix.clone(),
            local_segments: chosen.local_segments,
            attempts_max: chosen.attempts_max,
            compression_level: config.compression_level,
            keys,
        };
        let archiver =
            Archiver::new(env.clone(), dir.to_path_buf(), log.clone(), manifest.clone(), remote.clone(), options)?;
        let parts = Parts {
            remote,
            archiver: Mutex::<E, _>::new(archiver),
            stats: Mutex::<E, _>::new(ArchiveStats::default()),
        };
        let archive = Archive { parts: Some(parts), ..archive };
        archive.count(log, manifest);
        Ok(archive)
    }

    /// Returns what cursors read archived segments through.
    pub(super) fn remote(&self) -> Option<Arc<Remote<E>>> {
        self.parts.as_ref().map(|parts| parts.remote.clone())
    }

    /// Returns what was done since the store was opened.
    pub(super) fn stats(&self) -> ArchiveStats {
        self.parts.as_ref().map_or_else(ArchiveStats::default, |parts| *parts.stats.lock())
    }

    /// Returns how the blocks of archived segments were found.
    pub(super) fn cache_stats(&self) -> CacheStats {
        self.parts.as_ref().map_or_else(CacheStats::default, |parts| parts.remote.cache_stats())
    }

    /// Returns how many segments are sealed and not archived; 0 without an archive.
    pub(super) fn unarchived_if_any(&self, log: &Log<E>) -> u64 {
        if self.parts.is_some() { self.unarchived(log) } else { 0 }
    }

    /// Returns how many segments are sealed and not archived, with an archive.
    #[inline]
    pub(super) fn unarchived(&self, log: &Log<E>) -> u64 {
        self.unarchived.load(Ordering::Relaxed).wrapping_add(log.rolls())
    }

    fn count(&self, log: &Log<E>, manifest: &Manifest<E>) {
        // A roll in between is counted twice until the next count, never missed.
        let rolls = log.rolls();
        let segments = log.segments();
        let have = manifest.with(|state| unarchived(state, &segments));
        self.unarchived.store(have.wrapping_sub(rolls), Ordering::Relaxed);
    }
}

impl<E: Env> Shared<E> {
    /// Archives, unlinks and deletes what is due. Failures go to the callers; the archiver knows when to go on.
    pub(super) fn archive_once(&self) {
        let Some(parts) = &self.archive.parts else { return };
        self.release_truncated();
        let mut archiver = parts.archiver.lock();
        for _ in 0..STEPS_MAX {
            let stepped = archiver.step();
            *parts.stats.lock() = archiver.stats();
            let before = self.archive.unarchived(&self.log);
            self.archive.count(&self.log, &self.manifest);
            if self.archive.unarchived(&self.log) < before {
                // Appends may wait for this.
                self.log.watch().notify();
            }
            match stepped {
                Ok(Progress::Worked) if !self.background.stopping() => {}
                Ok(_) => return,
                Err(error) => return self.background_failed(error),
            }
        }
        self.background.kick();
    }

    /// Closes truncated segments that were left open for reading: their objects wait for it.
    fn release_truncated(&self) {
        if let Ok(Some(oldest)) = self.readers.locate(At::Id(self.first_id.load(Ordering::Acquire))) {
            self.readers.release_before(oldest.base_lsn);
        }
    }
}
