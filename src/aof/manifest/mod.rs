//! What a log must remember beside its segments: [`Manifest`], the life of each segment and attempt, the first id, the fence
//! and the pins.
//!
//! Called on any thread: commits by the background thread, `append_if`, pins and truncation; the state by cursors. The
//! caller holds the lock of the store's directory. Names of pins and keys of objects are not encrypted.
//!
//! A [`Log`] of its own in the directory [`MANIFEST_DIR`] of the store's: one frame and one sync a commit. Now and then the whole
//! state is written as one frame, and the segments before it are dropped.
//!
//! **Invariants**
//! - The state shown is the state on disk: it changes after the commit is durable, and a commit counts whole or not at all.
//! - A commit whose outcome is not known poisons the manifest: nothing is committed any more until it is opened again.
//! - The log of the manifest begins with a whole state: one without is damaged. An empty one does not exist.
//! - A commit costs what its edits do, however large the state is: they are checked against it, made durable, applied to it.
//!   Only a [`state`](Manifest::state) that somebody keeps meanwhile makes it copy the whole.
//! - No file of the manifest is written while its lock is held: what `verify` looks at then stands still.
//!
//! **Limit:** a state of [`BATCH_BYTES_MAX`](crate::base::limits::BATCH_BYTES_MAX) bytes, about ten million archived segments.

pub mod format;
pub mod state;
#[cfg(test)]
mod tests;
pub mod view;

pub use state::{Attempt, AttemptStatus, Edit, ManifestState, SegmentEntry, SegmentStatus};
pub use view::ManifestView;

use super::format::FrameKind;
use super::log::Log;
use super::names::{MANIFEST_DIR, segment_name};
use super::types::{Append, LogOptions, Lsn};
use super::verify::{self, VerifyReport};
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Env, Mutex};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a segment of the manifest's log.
const SEGMENT_BYTES: u64 = 256 << 10;
/// The state is written anew when so many times its size was committed since.
const GROWTH_MAX: u64 = 4;
/// A state smaller than this counts as this.
const STATE_BYTES_MIN: u64 = 16 << 10;

/// The manifest of one store.
pub struct Manifest<E: Env> {
    env: E,
    dir: PathBuf,
    log: Log<E>,
    /// Taken for a whole commit.
    writer: Mutex<E, Writer>,
    state: Mutex<E, Arc<ManifestState>>,
}

/// How much was committed.
#[derive(Clone, Copy, Debug, Default)]
struct Writer {
    /// Whether there is a state.
    exists: bool,
    /// Bytes of the last whole state.
    state_bytes: u64,
    /// Bytes committed since.
    grown: u64,
}

/// Damage, with the way out.
#[derive(Debug)]
struct Damaged(String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// Adds the way out to an error of damage.
fn with_way_out(dir: &Path, error: Error) -> Error {
    if !error.is_corruption() {
        return error;
    }
    let dir = dir.display();
    let way_out = "its state is then rebuilt from the segments and the archive, without pins, fence and first id";
    let what = format!("{error}; the manifest is damaged: move {dir} elsewhere and open again, {way_out}");
    Error::wrap(error.kind().clone(), Damaged(what))
}

/// Builds the state out of the frames.
struct Reading {
    dir: PathBuf,
    state: ManifestState,
    writer: Writer,
}

impl Reading {
    fn new(dir: &Path) -> Reading {
        Reading { dir: dir.to_path_buf(), state: ManifestState::default(), writer: Writer::default() }
    }

    fn take(&mut self, lsn: Lsn, kind: FrameKind, payload: &[u8]) -> Result<()> {
        let damage = |what: &str| {
            // The log knows the file; the position tells which frame.
            Error::corruption(&self.dir, lsn.0, format_args!("the frame at position {lsn}: {what}"))
        };
        if kind == FrameKind::Rewrite {
            self.state = ManifestState::default();
            self.writer = Writer { exists: true, state_bytes: payload.len() as u64, grown: 0 };
        } else if !self.writer.exists {
            // Before the oldest whole state that was kept: a later one will follow.
            self.writer.grown += 1;
            return Ok(());
        }
        for edit in format::decode(payload).map_err(damage)? {
            self.state.apply(&edit).map_err(damage)?;
        }
        if kind != FrameKind::Rewrite {
            self.writer.grown += payload.len() as u64;
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        if !self.writer.exists && self.writer.grown > 0 {
            return Err(Error::corruption(&self.dir.join(segment_name(1)), 0, "no frame holds the whole state"));
        }
        Ok(())
    }
}

/// Where the state of a manifest is known from: the manifest itself, or a look at it from outside.
pub trait States: Send + Sync + 'static {
    /// Shows `look` the state as of the last commit, or of the last [`refresh`](Self::refresh), under its lock.
    fn show(&self, look: &mut dyn FnMut(&ManifestState));

    /// Looks for commits of somebody else.
    ///
    /// # Errors
    /// As [`ManifestView::refresh`].
    fn refresh(&self) -> Result<()> {
        Ok(())
    }
}

impl dyn States {
    /// Returns what `look` finds in the state; it runs under a lock, and must not come back to the manifest.
    pub fn with<R>(&self, look: impl FnOnce(&ManifestState) -> R) -> R {
        let (mut look, mut found) = (Some(look), None);
        self.show(&mut |state| found = look.take().map(|look| look(state)));
        found.unwrap_or_else(|| unreachable!("a state is shown once"))
    }
}

impl<E: Env> States for Manifest<E> {
    fn show(&self, look: &mut dyn FnMut(&ManifestState)) {
        self.with(look);
    }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() }
}

impl<E: Env> Manifest<E> {
    /// Opens the manifest of the store in `dir`. The second value is false if there is none yet:
    /// [`create`](Self::create) then makes it.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) names the file and the way out; what the disk met.
    pub fn open(env: E, dir: &Path) -> Result<(Manifest<E>, bool)> {
        let dir = dir.join(MANIFEST_DIR);
        let mut reading = Reading::new(&dir);
        let mut take = |frame: super::types::Frame<'_>| reading.take(frame.lsn, frame.kind, frame.payload);
        let opened = Log::open(env.clone(), &dir, options(), &mut take);
        let (log, report) = opened.map_err(|error| with_way_out(&dir, error))?;
        reading.finish().map_err(|error| with_way_out(&dir, error))?;
        let Reading { state, writer, .. } = reading;
        let exists = writer.exists;
        let manifest =
            Manifest { env, log, writer: Mutex::<E, _>::new(writer), state: Mutex::<E, _>::new(Arc::new(state)), dir };
        if exists && (writer.grown > 0 || report.segments > 1) {
            match manifest.rewrite(&mut manifest.writer.lock()) {
                // It goes on growing until there is room.
                Err(error) if *error.kind() == ErrorKind::NoSpace && manifest.log.poisoned().is_none() => {}
                rewritten => rewritten?,
            }
        }
        Ok((manifest, exists))
    }

    /// Makes the manifest, with `state` in it.
    ///
    /// # Errors
    /// What the disk met.
    ///
    /// # Panics
    /// If there is one.
    ///
    /// # Durability
    /// When it returns the manifest survives a power loss; until then there is none.
    pub fn create(&self, state: ManifestState) -> Result<()> {
        let mut writer = self.writer.lock();
        assert!(!writer.exists, "a manifest is made once");
        *self.state.lock() = Arc::new(state);
        self.rewrite(&mut writer)
    }

    /// Returns the state as of the last commit. A commit that comes while it is kept copies the whole state:
    /// [`with`](Self::with) is for who looks often.
    pub fn state(&self) -> Arc<ManifestState> {
        self.state.lock().clone()
    }

    /// Returns what `look` finds in the state as of the last commit; it runs under a lock, and must not come back to the
    /// manifest.
    pub fn with<R>(&self, look: impl FnOnce(&ManifestState) -> R) -> R {
        look(&self.state.lock())
    }

    /// Makes `edits` durable, all or none, and shows them. None does nothing.
    ///
    /// # Errors
    /// What the disk met. With [`NoSpace`](ErrorKind::NoSpace) and a manifest that is not poisoned nothing has changed; else
    /// whether the edits count is decided when it is opened again.
    ///
    /// # Panics
    /// If an edit contradicts the state.
    ///
    /// # Durability
    /// When it returns the edits survive a power loss.
    pub fn commit(&self, edits: &[Edit]) -> Result<()> {
        if edits.is_empty() { Ok(()) } else { self.commit_with(|_| edits.to_vec()).map(|_| ()) }
    }

    /// As [`commit`](Self::commit), with edits decided on when no other commit can come between, as in
    /// [`with`](Self::with); returns how many there were.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Panics
    /// If an edit contradicts the state.
    pub fn commit_with(&self, decide: impl FnOnce(&ManifestState) -> Vec<Edit>) -> Result<usize> {
        let mut writer = self.writer.lock();
        assert!(writer.exists, "a manifest is made before it is changed");
        let edits = self.with(decide);
        if edits.is_empty() {
            return Ok(0);
        }
        let checked = Arc::make_mut(&mut *self.state.lock()).check(&edits);
        if let Err((edit, what)) = checked {
            panic!("{what}: {edit:?}");
        }
        let payload = format::encode(&edits);
        self.append(FrameKind::Meta, &payload)?;
        writer.grown += payload.len() as u64;
        self.apply(&edits);
        if writer.grown > GROWTH_MAX * writer.state_bytes.max(STATE_BYTES_MIN) {
            // The commit is done; what this meets, the next one meets too.
            if let Err(error) = self.rewrite(&mut writer) {
                tracing::warn!(dir = %self.dir.display(), %error, "the manifest cannot be made shorter");
            }
        }
        Ok(edits.len())
    }

    /// Shows edits that were checked; nothing else has changed the state since.
    fn apply(&self, edits: &[Edit]) {
        let mut state = self.state.lock();
        let state = Arc::make_mut(&mut *state);
        for edit in edits {
            if let Err(what) = state.apply(edit) {
                unreachable!("an edit was checked: {what}: {edit:?}");
            }
        }
    }

    /// Writes the whole state and drops what lies before it.
    fn rewrite(&self, writer: &mut Writer) -> Result<()> {
        let payload = format::encode(&self.state().edits());
        let lsn = self.append(FrameKind::Rewrite, &payload)?;
        *writer = Writer { exists: true, state_bytes: payload.len() as u64, grown: 0 };
        self.log.truncate_before(lsn)
    }

    fn append(&self, kind: FrameKind, payload: &[u8]) -> Result<Lsn> {
        let append = Append { kind, count: 1, first_id: Some(0), tag: 0, parts: &[payload] };
        let appended = self.log.append(&append)?;
        if self.env.planted("aof_manifest_not_synced") {
            self.log.write_out()?;
        } else {
            self.log.sync_to(appended.end)?;
        }
        Ok(appended.lsn)
    }

    /// Notes in the log that everything is durable, so that damage of the last commit is told from a torn write; to be
    /// called when nothing was committed for a while.
    ///
    /// # Errors
    /// What the write met.
    pub fn mark(&self) -> Result<()> {
        let _no_look = self.writer.lock();
        self.log.mark()
    }

    /// Looks at every byte of the manifest's files, once; commits wait until it has.
    ///
    /// # Errors
    /// What listing and reading met. Damage is no error: it is in the report.
    pub(in crate::aof) fn verify(&self) -> Result<VerifyReport> {
        let _no_commit = self.writer.lock();
        verify::verify_if_there(&self.env, &self.dir, false)
    }

    /// Returns why the manifest refuses commits, if it does.
    pub fn poisoned(&self) -> Option<Error> {
        self.log.poisoned()
    }

    /// Returns the directory of the manifest.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Refuses further commits, and returns once none is under way: the directory can be given back.
    pub fn abandon(&self) {
        let _no_commit = self.writer.lock();
        self.log.abandon();
    }

    /// Refuses further commits. Closing again does nothing.
    ///
    /// # Errors
    /// What the last sync met.
    pub fn close(&self) -> Result<()> {
        let _no_look = self.writer.lock();
        self.log.close()
    }
}

impl<E: Env> fmt::Debug for Manifest<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("dir", &self.dir).finish_non_exhaustive()
    }
}
