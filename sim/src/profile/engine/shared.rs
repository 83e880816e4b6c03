//! What the engine's runs keep beside what those of all databases do.

use super::Subject;
use super::copies::Copy;
use crate::profile::database::Kept;
use crate::profile::shared;

/// The plan and the state of a run.
pub(super) type Shared = shared::Shared<Subject>;
/// What changes in a run.
pub(super) type State = shared::State<Subject>;

/// What changes in a run of the engine only.
#[derive(Default)]
pub(super) struct Own {
    /// What every database keeps.
    pub(super) kept: Kept,
    /// Checkpoints and backups that were not judged yet.
    pub(super) copies: Vec<Copy>,
    /// Whether a backup was ever begun.
    pub(super) backups: bool,
    /// Whether backups before the newest may have been removed.
    pub(super) purged: bool,
    /// What the clients were told, if somebody compares it with another run.
    pub(super) answers: Option<Vec<String>>,
}
