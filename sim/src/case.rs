//! A case: everything that decides a run, as plain data, and its file format `.simcase`.
//!
//! A `.simcase` is one JSON object. It keeps the materialised fault events, the operations and the scheduler's decisions, and not
//! just the seed: a seed means something else as soon as the code draws differently, the events do not.
//!
//! | field | meaning |
//! |---|---|
//! | `format` | 1 |
//! | `commit` | the commit that wrote it, if known |
//! | `profile` | what runs |
//! | `world` | seed, fault plan and rates, schedule, planted bugs |
//! | `workload` | options and steps; the profile says what they look like |
//! | `violation` | what went wrong when it was written |
//! | `hash` | the event hash of that run; differs after a change of code |
//! | `bites` | the planted bugs under which it must go wrong, and without which it must pass; empty for a bug that was real |
//!
//! Unknown fields are refused, so that a typing mistake in a hand-written case is noticed.

use crate::profile::{Profile, Workload};
use crate::{Violation, WorldConfig};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version of the format that is written.
pub const FORMAT: u32 = 1;

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Case {
    /// The version of the format.
    pub format: u32,
    /// The commit that wrote it.
    pub commit: String,
    /// The name of the profile.
    pub profile: String,
    /// The world.
    pub world: WorldConfig,
    /// What it is asked to do.
    pub workload: Workload,
    /// What went wrong when it was written.
    pub violation: Option<Violation>,
    /// The event hash of that run.
    pub hash: u64,
    /// The planted bugs under which it must go wrong.
    pub bites: Vec<String>,
}

/// A case as it is read: the profile says what the workload looks like.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    commit: String,
    profile: String,
    world: WorldConfig,
    workload: serde_json::Value,
    violation: Option<Violation>,
    hash: u64,
    bites: Vec<String>,
}

impl TryFrom<Raw> for Case {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Case, String> {
        let Raw { format, commit, profile, world, workload, violation, hash, bites } = raw;
        let workload = Workload::read(profile.parse()?, workload)?;
        Ok(Case { format, commit, profile, world, workload, violation, hash, bites })
    }
}

impl Case {
    /// Makes a case that has not run yet.
    pub fn new(world: WorldConfig, workload: Workload) -> Case {
        let profile = workload.profile().name().into();
        Case { format: FORMAT, commit: commit(), profile, world, workload, violation: None, hash: 0, bites: Vec::new() }
    }

    /// Returns the profile.
    ///
    /// # Errors
    /// No profile has this name.
    pub fn profile(&self) -> Result<Profile, String> {
        self.profile.parse()
    }

    /// Reads a `.simcase` file.
    ///
    /// # Errors
    /// It cannot be read, is not a case, or has another format version; the text names the file.
    #[expect(clippy::disallowed_methods, reason = "a file of the tool, outside the simulated world")]
    pub fn read(path: &Path) -> Result<Case, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let case: Case =
            serde_json::from_str(&text).map_err(|error| format!("{} is not a .simcase: {error}", path.display()))?;
        if case.format != FORMAT {
            return Err(format!("{} has format {}, this program reads {FORMAT}", path.display(), case.format));
        }
        Ok(case)
    }

    /// Writes a `.simcase` file and the directories it lies in.
    ///
    /// # Errors
    /// It cannot be written; the text names the file.
    #[expect(clippy::disallowed_methods, reason = "a file of the tool, outside the simulated world")]
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| format!("cannot encode the case: {error}"))?;
        let fail = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(fail)?;
        }
        std::fs::write(path, text + "\n").map_err(fail)
    }

    /// Writes the case into `./failures/`, named after its profile, seed and violation; returns the path.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_failure(&self) -> Result<PathBuf, String> {
        let kind = self.violation.as_ref().map_or("ok", |violation| violation.kind.as_str());
        let path = PathBuf::from("failures").join(format!("{}-{}-{kind}.simcase", self.profile, self.world.seed));
        self.write(&path)?;
        Ok(path)
    }
}

/// Returns the commit of the working directory, or nothing.
fn commit() -> String {
    option_env!("AIDB_COMMIT").unwrap_or_default().to_owned()
}
