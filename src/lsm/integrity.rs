//! [`IntegrityReport`]: what a full check of an engine's files found.

use crate::base::Error;
use std::fmt;

/// The outcome of [`Engine::validate_integrity`](super::Engine::validate_integrity).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct IntegrityReport {
    /// Tables read whole.
    pub tables: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Everything that is wrong; empty if the engine is sound.
    pub problems: Vec<Error>,
}

impl IntegrityReport {
    /// Returns true if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for IntegrityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tables, {} entries, {} bytes: ", self.tables, self.entries, self.bytes)?;
        match self.problems.len() {
            0 => write!(f, "sound"),
            count => write!(f, "{count} problems"),
        }?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
