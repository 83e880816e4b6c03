//! Which log a command works on: its directory and, if it is encrypted, the file of its keys.

use aidb::aof::{AofConfig, AofConfigBuilder};
use clap::Args;
use std::path::{Path, PathBuf};

/// The options that all commands share.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    /// The log's directory.
    pub dir: PathBuf,
}

/// Turns the crate's error into words.
pub(super) fn words(error: aidb::Error) -> String {
    error.to_string()
}

impl Place {
    /// Returns the defaults with the keys, if any.
    pub(super) fn config(&self) -> Result<AofConfigBuilder, String> {
        Ok(AofConfig::builder())
    }

    /// Fails if there is no such directory: most commands would make one only to find it empty.
    pub(super) fn must_exist(&self) -> Result<&Path, String> {
        match self.dir.is_dir() {
            true => Ok(&self.dir),
            false => Err(format!("{} is not a directory", self.dir.display())),
        }
    }
}
