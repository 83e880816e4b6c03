//! What the profile asks of the log's facade and it may not offer: a method of the log itself, once there, is taken instead.

use crate::SimEnv;
use aidb::aof::{Aof, AofConfig, AofError};

pub(super) trait Later: Sized {
    /// Finds nothing.
    fn verify(&self) -> aidb::Result<Report> {
        Ok(Report { faults: Vec::new() })
    }

    /// Says that it cannot now.
    fn open_read_only(_env: SimEnv, _dir: &str, _config: AofConfig) -> aidb::Result<Aof<SimEnv>> {
        Err(AofError::WouldBlock.into())
    }
}

/// A fault that a verification found.
pub(super) struct Fault {
    pub(super) file: std::path::PathBuf,
    pub(super) offset: u64,
    pub(super) what: String,
}

/// What a verification found.
pub(super) struct Report {
    pub(super) faults: Vec<Fault>,
}

impl Later for Aof<SimEnv> {}
