//! `sim replay`: a kept case, run again.

use aidb_sim::case::Case;
use aidb_sim::check::checker;
use clap::Args;
use std::path::PathBuf;

/// Run a .simcase again; says whether it still fails, and whether it is still the same run
#[derive(Args)]
pub(crate) struct Command {
    /// The .simcase files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let mut clean = true;
        for file in &self.files {
            let case = Case::read(file)?;
            let outcome = case.profile()?.run(&case).outcome;
            let same = if outcome.hash == case.hash { "the same run" } else { "another run than when it was written" };
            match &outcome.violation {
                Some(violation) => {
                    println!("{}: VIOLATION ({}): {violation}", file.display(), checker(&violation.kind));
                    clean = false;
                }
                None => println!("{}: no violation", file.display()),
            }
            println!("  hash {:016x}, {} events: {same}", outcome.hash, outcome.events);
        }
        Ok(clean)
    }
}
