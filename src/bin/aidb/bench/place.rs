//! The directory that a run works in, and how it knows that it may delete what lies there.
//!
//! ```text
//! <dir>/LOCK               held while a run works here
//! <dir>/aidb-bench.state   one line of JSON (State), then one byte a key: the ledger. Absent while a workload writes
//! <dir>/aidb-bench.marker  says that the directory is ours
//! <dir>/db/                the database; deleted by each fill
//! ```
//!
//! A directory that holds anything but lacks the marker is refused: only what a run created is ever deleted.

use super::data::Ledger;
use super::options::Options;
use aidb::env::{Disk, Env, StdDirLock, StdEnv};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const MARKER: &str = "aidb-bench.marker";
const STATE: &str = "aidb-bench.state";

/// What was loaded, so that a later run knows what to expect.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    num: u64,
    key_bytes: u32,
    value_bytes: u32,
    seed: u64,
    generation: u8,
}

impl State {
    fn of(options: &Options, generation: u8) -> State {
        let Options { num, key_bytes, value_bytes, seed, .. } = *options;
        State { num, key_bytes, value_bytes, seed, generation }
    }
}

/// A directory to work in.
pub(super) struct Place {
    dir: PathBuf,
    temporary: bool,
    _lock: StdDirLock,
}

impl Place {
    /// Takes the directory that `options` name, or makes a temporary one.
    pub(super) fn take(options: &Options) -> Result<Place, String> {
        let temporary = options.dir.is_none();
        let dir = options.dir.clone().unwrap_or_else(|| {
            let unique = format!("aidb-bench-{}-{:016x}", std::process::id(), StdEnv.rand_u64());
            std::env::temp_dir().join(unique)
        });
        let fail = |error| format!("cannot use {}: {error}", dir.display());
        StdEnv.disk().create_dir_all(&dir).map_err(fail)?;
        let names = StdEnv.disk().list(&dir).map_err(fail)?;
        if !names.is_empty() && !dir.join(MARKER).is_file() {
            return Err(format!("{} is not empty and not a benchmark's directory: name another one", dir.display()));
        }
        fs::write(dir.join(MARKER), "made by aidb bench; its next run may delete what is in here\n").map_err(fail)?;
        let lock = StdEnv.disk().lock_dir(&dir).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => format!("{} is in use by another run", dir.display()),
            _ => fail(error),
        })?;
        Ok(Place { dir, temporary, _lock: lock })
    }

    /// Returns where the database lies.
    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("db")
    }

    /// Returns the directory itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Deletes the database, if there is one.
    pub(super) fn clear(&self) -> Result<(), String> {
        self.forget()?;
        match fs::remove_dir_all(self.database()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", self.database().display()))
            }
            _ => Ok(()),
        }
    }

    /// Forgets what was loaded: what the database holds is unknown until [`remember`](Self::remember).
    pub(super) fn forget(&self) -> Result<(), String> {
        match fs::remove_file(self.dir.join(STATE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("cannot remove {STATE}: {error}")),
            _ => Ok(()),
        }
    }

    /// Notes what the database holds.
    pub(super) fn remember(&self, options: &Options, ledger: &Ledger) -> Result<(), String> {
        if self.temporary {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec(&State::of(options, ledger.last)).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&ledger.to_bytes());
        fs::write(self.dir.join(STATE), bytes).map_err(|error| format!("cannot write {STATE}: {error}"))
    }

    /// Returns what the database holds according to the last run, or `None` if it must be filled first.
    pub(super) fn recall(&self, options: &Options) -> Result<Option<Ledger>, String> {
        let bytes = match fs::read(self.dir.join(STATE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| format!("cannot read {STATE}: {error}"))?,
        };
        let damaged = || format!("{} is damaged: begin with a fill", self.dir.join(STATE).display());
        let line = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(damaged)?;
        let state: State = serde_json::from_slice(&bytes[..line]).map_err(|_| damaged())?;
        let ledger = &bytes[line + 1..];
        if ledger.len() as u64 != state.num {
            return Err(damaged());
        }
        if state != State::of(options, state.generation) {
            let State { num, key_bytes, value_bytes, seed, .. } = state;
            return Err(format!(
                "{} was loaded with --num {num} --key-bytes {key_bytes} --value-bytes {value_bytes} --seed {seed}: \
                 give the same, or begin with a fill",
                self.dir.display()
            ));
        }
        Ok(Some(Ledger::from_bytes(ledger.to_vec(), state.generation)))
    }

    /// Returns the bytes of all files of the database.
    pub(super) fn database_bytes(&self) -> u64 {
        fn walk(dir: &Path) -> u64 {
            let entries = StdEnv.disk().list(dir).unwrap_or_default();
            entries.iter().map(|entry| if entry.is_dir { walk(&dir.join(&entry.name)) } else { entry.bytes }).sum()
        }
        walk(&self.database())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
