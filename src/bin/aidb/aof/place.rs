//! Which log a command works on: its directory and, if there are any, the file of its keys and its archive.

use aidb::aof::{ArchiveConfig, KeyRing};
use clap::Args;
use std::path::{Path, PathBuf};

/// The option of commands that read payloads.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Keys {
    /// File of the encryption keys: on each line a number and 64 hexadecimal digits; the last one is for new segments.
    #[arg(long = "keys", value_name = "FILE")]
    keys_file: Option<PathBuf>,
}

/// The options of commands that know of an archive.
#[derive(Args, Clone, Debug)]
pub(super) struct Archived {
    /// The archive of a log that has one, a directory or s3://BUCKET/PREFIX.
    #[arg(long, value_name = "TARGET")]
    archive: Option<String>,
    /// What all keys in the archive begin with.
    #[arg(long, default_value = "aidb")]
    prefix: String,
}

/// The options that commands on a whole log share.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    /// The log's directory.
    pub dir: PathBuf,
    #[command(flatten)]
    pub keys: Keys,
}

/// Turns the crate's error into words.
pub(super) fn words(error: aidb::Error) -> String {
    error.to_string()
}

/// Returns `dir` if it is one: a log would be made there only to be found empty.
pub(super) fn existing(dir: &Path) -> Result<&Path, String> {
    match dir.is_dir() {
        true => Ok(dir),
        false => Err(format!("{} is not a directory", dir.display())),
    }
}

impl Archived {
    /// Returns the archive, if one is named.
    pub(super) fn config(&self) -> Result<Option<ArchiveConfig>, String> {
        let Some(target) = &self.archive else { return Ok(None) };
        let archive = ArchiveConfig::new(super::archive::storage(target)?);
        Ok(Some(ArchiveConfig { prefix: self.prefix.clone(), ..archive }))
    }
}

impl Keys {
    /// Reads the keys, if a file is named. No error shows any of it.
    pub(super) fn ring(&self) -> Result<Option<KeyRing>, String> {
        let Some(file) = &self.keys_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = key(line).ok_or_else(|| {
                format!("{}: line {} is not a number and 64 hexadecimal digits", file.display(), number + 1)
            })?;
            keys.push(key);
        }
        let Some((current, _)) = keys.last() else { return Err(format!("{}: there is no key in it", file.display())) };
        KeyRing::new(*current, keys.iter().copied()).map(Some).map_err(words)
    }
}

fn key(line: &str) -> Option<(u32, [u8; 32])> {
    let (number, digits) = line.trim().split_once(char::is_whitespace)?;
    let digits = digits.trim_start().as_bytes();
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some((number.parse().ok()?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        let digits = "0f".repeat(32);
        assert_eq!(key(&format!(" 7\t{digits} ")), Some((7, [15; 32])));
        assert_eq!(key(&digits), None);
        assert_eq!(key(&format!("x {digits}")), None);
        assert_eq!(key(&format!("1 {}", "0g".repeat(32))), None);
        assert_eq!(key(&format!("1 {}", "é".repeat(32))), None);
    }
}
