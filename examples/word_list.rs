//! Loads a real list of words, closes, reopens, and finds every line again, by key and by scan.
//!
//! ```text
//! cargo run --release --example word_list [WORDS [DIR]]
//! ```
//!
//! `WORDS` is a text file, by default Debian's largest word list; `DIR` is where the database goes: a
//! directory that holds none yet, by default `aidb-word-list` in the temporary directory, made anew. Each line becomes a key, and its line number the value; of equal lines the
//! last one counts.
#![allow(clippy::disallowed_methods, reason = "reads a word list and the clock, outside the engine")]

use aidb::{DB, Durability, Options, WriteBatch};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const WORDS: &str = "/usr/share/dict/american-english-insane";
const BATCH_LINES: usize = 1000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let words = arguments.next().unwrap_or_else(|| WORDS.into());
    let named = arguments.next();
    let dir = named.clone().unwrap_or_else(|| std::env::temp_dir().join("aidb-word-list"));
    if named.is_none() {
        // Left over from an earlier run of this example.
        let _ = std::fs::remove_dir_all(&dir);
    }
    match run(&words, &dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word_list: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &Path, dir: &Path) -> Result<()> {
    let text = std::fs::read(words).map_err(|error| {
        let hint = "install it with `apt-get install wamerican-insane`, or name another text file";
        format!("cannot read {}: {error}; {hint}", words.display())
    })?;
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end()).collect();
    let lines: Vec<&[u8]> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    println!("{}: {} lines, {} bytes", words.display(), lines.len(), text.len());

    let start = Instant::now();
    load(dir, &lines)?;
    println!("loaded in {:.2?}", start.elapsed());

    let start = Instant::now();
    let db = DB::open(dir, Options { create_if_missing: false, ..Options::default() })?;
    println!("reopened in {:.2?}", start.elapsed());

    // What has to be there: each line with the number of its last occurrence, in byte order.
    let expected: BTreeMap<&[u8], usize> = lines.iter().enumerate().map(|(number, line)| (*line, number)).collect();
    let start = Instant::now();
    check_gets(&db, &expected)?;
    println!("read {} lines by key in {:.2?}", expected.len(), start.elapsed());
    let start = Instant::now();
    check_scan(&db, &expected)?;
    println!("scanned {} lines in order in {:.2?}", expected.len(), start.elapsed());

    db.flush()?;
    let report = db.validate_integrity()?;
    println!("integrity: {report}");
    let raw: usize = expected.iter().map(|(line, number)| line.len() + number.to_string().len()).sum();
    let stored = db.statistics().table_bytes();
    println!("{raw} bytes of keys and values in {stored} bytes of tables in {}", dir.display());
    db.close()?;
    match report.is_sound() {
        true => Ok(()),
        false => Err("the database is damaged".into()),
    }
}

/// Writes every line with its number, in batches that are synced once at the end.
fn load(dir: &Path, lines: &[&[u8]]) -> Result<()> {
    let db = DB::open(dir, Options { error_if_exists: true, durability: Durability::Os, ..Options::default() })?;
    for (index, chunk) in lines.chunks(BATCH_LINES).enumerate() {
        let mut batch = WriteBatch::new();
        for (offset, line) in chunk.iter().enumerate() {
            batch.put(line, (index * BATCH_LINES + offset).to_string());
        }
        db.write(batch)?;
    }
    db.persist(Durability::Sync)?;
    db.close()?;
    Ok(())
}

fn check_gets(db: &DB, expected: &BTreeMap<&[u8], usize>) -> Result<()> {
    for (line, number) in expected {
        let value = db.get(line)?.ok_or_else(|| format!("line {number} is missing"))?;
        if value != number.to_string().as_bytes() {
            return Err(format!("line {number} has the wrong value {value:?}").into());
        }
    }
    Ok(())
}

fn check_scan(db: &DB, expected: &BTreeMap<&[u8], usize>) -> Result<()> {
    let mut entries = db.iter();
    for (line, number) in expected {
        let entry = entries.next().ok_or_else(|| format!("the scan ends before line {number}"))??;
        if entry.key != *line || entry.value != number.to_string().as_bytes() {
            return Err(format!("the scan shows {entry:?} instead of line {number}").into());
        }
    }
    match entries.next() {
        None => Ok(()),
        Some(entry) => Err(format!("the scan goes on behind the last line: {:?}", entry?).into()),
    }
}
