//! Child processes that measure one cell each, and the directory they do it in.
//!
//! A process of its own makes memory peak, processor time and bytes written the system's alone.

use crate::Result;
use crate::figures::Figures;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of this run, removed however it ends.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Chooses one in `dir`, which must be on a disk.
    pub fn new(dir: &Path) -> Result<Scratch> {
        const TMPFS: u32 = 0x0102_1994;
        let place = rustix::fs::statfs(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if place.f_type as u32 == TMPFS {
            let dir = dir.display();
            return Err(format!("{dir} is in memory, where a sync costs nothing; name another place by --dir"));
        }
        Ok(Scratch(dir.join(format!("aidb-peers-{}", std::process::id()))))
    }

    /// Removes what the last child left and returns a new directory.
    pub fn empty(&self, name: &str) -> Result<PathBuf> {
        let _ = std::fs::remove_dir_all(&self.0);
        let dir = self.0.join(name);
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs this program with `words` and `variables`, and returns what it printed.
pub fn child(words: &[&str], variables: &[(&str, &OsStr)]) -> Result<Figures> {
    let name = words[1..].join(" ");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(words)
        .envs(variables.iter().copied())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(Figures::parse(&String::from_utf8_lossy(&output.stdout)))
}
