//! What a read-only open reads: [`StoreView`], local segments, archived ones and the manifest, none of which this process
//! writes.
//!
//! Called by cursors on any thread. Local segments are looked at before the manifest: one that has left the disk is an entry
//! of the manifest by then, so nothing is missed in between.

use super::{AofConfig, archiving};
use crate::aof::archive::remote::{self, Remote};
use crate::aof::chain::{At, Chain, First, Span, Visibility, Waited};
use crate::aof::joined::JoinedChain;
use crate::aof::manifest::ManifestView;
use crate::aof::names::segment_name;
use crate::aof::read::{ReadAt, SegmentReader};
use crate::aof::types::Lsn;
use crate::aof::view::ViewChain;
use crate::base::Result;
use crate::env::Env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A store as it is seen from outside.
pub(super) struct StoreView<E: Env> {
    pub(super) env: E,
    pub(super) local: Arc<ViewChain<E>>,
    pub(super) manifest: Arc<ManifestView<E>>,
    pub(super) remote: Option<Arc<Remote<E>>>,
    joined: JoinedChain<E>,
}

impl<E: Env> StoreView<E> {
    /// Looks at the store in `dir`.
    ///
    /// # Errors
    /// As [`ViewChain::open`] and [`ManifestView::open`].
    pub(super) fn open(env: E, dir: &Path, config: &AofConfig) -> Result<Arc<StoreView<E>>> {
        let local = Arc::new(ViewChain::open(env.clone(), dir, config.encryption.clone())?);
        let manifest = Arc::new(ManifestView::open(env.clone(), dir)?);
        let remote = archiving::remote(&env, config, manifest.clone());
        let joined = remote::joined(env.clone(), local.clone(), manifest.clone(), remote.clone());
        Ok(Arc::new(StoreView { env, local, manifest, remote, joined }))
    }
}

impl<E: Env> Chain<E> for StoreView<E> {
    fn first(&self) -> Result<First> {
        self.joined.first()
    }

    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        let visible = self.joined.visible(visibility)?;
        self.manifest.refresh()?;
        Ok(visible)
    }

    fn locate(&self, at: At) -> Result<Option<Span>> {
        self.joined.locate(at)
    }

    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<E>>> {
        self.joined.open(span)
    }

    fn is_current(&self, reader: &SegmentReader<E>) -> Result<bool> {
        let number = reader.header().segment_no;
        if reader.name() == self.local.dir().join(segment_name(number)) {
            return self.local.is_current(reader);
        }
        self.manifest.refresh()?;
        Ok(self.remote.as_ref().is_some_and(|remote| remote.has(number)))
    }

    fn is_foreign(&self) -> bool {
        self.joined.is_foreign()
    }

    fn is_open(&self) -> Result<bool> {
        self.joined.is_open()
    }

    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        self.joined.wait(seen, visibility, timeout)
    }
}

impl<E: Env> std::fmt::Debug for StoreView<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.local.fmt(f)
    }
}
