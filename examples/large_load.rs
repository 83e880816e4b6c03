//! Loads many keys in random order, overwrites a third of them, reopens, and verifies every one, by scan and by key.
//!
//! ```text
//! cargo run --release --example large_load [KEYS [DIR]]
//! ```
//!
//! `KEYS` is 1,000,000 by default, and each has 16 bytes and a value of 100, half of which compresses; `DIR` is where the
//! database goes and stays: a directory that holds none yet, by default `aidb-large-load` in the temporary directory, made
//! anew. The expected value follows from the key alone, so that nothing has to be remembered about what was written.
#![allow(clippy::disallowed_methods, reason = "measures with the clock and reads its own memory, outside the engine")]

use aidb::{DB, Durability, Options, WriteBatch, WriteOptions};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const VALUE_BYTES: usize = 100;
const BATCH_KEYS: u64 = 100;
/// Every so many keys one is also looked up by key.
const GET_ONE_IN: u64 = 50;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let keys = arguments.next().map_or(Some(1_000_000), |keys| keys.to_str()?.replace('_', "").parse().ok());
    let Some(keys) = keys.filter(|keys| *keys > 0) else {
        eprintln!("large_load: KEYS must be a number from 1 on");
        return ExitCode::FAILURE;
    };
    let named = arguments.next().map(PathBuf::from);
    let dir = named.clone().unwrap_or_else(|| std::env::temp_dir().join("aidb-large-load"));
    if named.is_none() {
        // Left over from an earlier run of this example.
        let _ = std::fs::remove_dir_all(&dir);
    }
    match run(keys, &dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("large_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(keys: u64, dir: &Path) -> Result<()> {
    let db = DB::open(dir, Options { error_if_exists: true, ..Options::default() })?;
    let start = Instant::now();
    write(&db, keys, |_| Some(0))?;
    report("load", keys, start);
    let start = Instant::now();
    write(&db, keys, |number| is_overwritten(number).then_some(1))?;
    report("overwrite a third", keys / 3, start);
    let start = Instant::now();
    db.close()?;
    report("close", 0, start);

    let start = Instant::now();
    let db = DB::open(dir, Options { create_if_missing: false, ..Options::default() })?;
    report("reopen", 0, start);
    let start = Instant::now();
    verify_scan(&db, keys)?;
    report("verify by scan", keys, start);
    let start = Instant::now();
    let found = verify_gets(&db, keys)?;
    report("verify by key", found, start);

    let raw = keys * (16 + VALUE_BYTES as u64);
    let statistics = db.statistics();
    println!("{raw} bytes of keys and values; on disk {} bytes, tables {}", bytes_in(dir)?, statistics.table_bytes());
    db.close()?;
    Ok(())
}

/// Writes each key for which `generation` names one, in random order.
fn write(db: &DB, keys: u64, generation: impl Fn(u64) -> Option<u8>) -> Result<()> {
    let mut batch = WriteBatch::new();
    // The last call makes all of it durable.
    let options = WriteOptions { durability: Some(Durability::Os) };
    for number in shuffled(keys) {
        if let Some(generation) = generation(number) {
            batch.put(key(number), value(number, generation));
        }
        if batch.len() as u64 == BATCH_KEYS {
            db.write_opt(std::mem::take(&mut batch), options)?;
        }
    }
    db.write_opt(batch, options)?;
    db.persist(Durability::Sync)?;
    Ok(())
}

fn verify_scan(db: &DB, keys: u64) -> Result<()> {
    let mut cursor = db.iter().into_cursor()?;
    cursor.seek_to_first()?;
    for number in 0..keys {
        if !cursor.valid() || cursor.key() != key(number) {
            return Err(format!("key {number} is missing").into());
        }
        check(number, cursor.value())?;
        cursor.next()?;
    }
    if cursor.valid() {
        return Err(format!("a key that nobody wrote: {}", cursor.key().escape_ascii()).into());
    }
    Ok(())
}

/// Looks up some keys in random order, and as many that are not there; returns how many it found.
fn verify_gets(db: &DB, keys: u64) -> Result<u64> {
    let mut found = 0;
    for number in shuffled(keys).step_by(GET_ONE_IN as usize) {
        let value = db.get(key(number))?.ok_or_else(|| format!("key {number} is missing"))?;
        check(number, &value)?;
        found += 1;
        if db.get(key(keys + number))?.is_some() {
            return Err(format!("key {} was never written", keys + number).into());
        }
    }
    Ok(found)
}

fn check(number: u64, found: &[u8]) -> Result<()> {
    if found == value(number, u8::from(is_overwritten(number))) {
        Ok(())
    } else {
        Err(format!("key {number} has another value than was written last").into())
    }
}

fn is_overwritten(number: u64) -> bool {
    mix(number).is_multiple_of(3)
}

/// Returns every number below `keys` once: steps of a prime that does not divide it, close to the golden ratio.
fn shuffled(keys: u64) -> impl Iterator<Item = u64> {
    let step = [11_400_714_819_323_198_549u64, 2_654_435_761].into_iter().find(|prime| !keys.is_multiple_of(*prime));
    let step = u128::from(step.expect("two primes whose product is too large to divide it"));
    (0..keys).map(move |at| (u128::from(at) * step % u128::from(keys)) as u64)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[4..].copy_from_slice(format!("{number:012}").as_bytes());
    key
}

/// Returns 50 bytes that follow from number and generation, twice.
fn value(number: u64, generation: u8) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    let (half, other) = value.split_at_mut(VALUE_BYTES / 2);
    for (at, piece) in half.chunks_mut(8).enumerate() {
        let word = mix(number ^ u64::from(generation) << 56 ^ (at as u64) << 48).to_le_bytes();
        piece.copy_from_slice(&word[..piece.len()]);
    }
    other.copy_from_slice(half);
    value
}

/// SplitMix64's finalizer.
fn mix(number: u64) -> u64 {
    let word = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

fn report(what: &str, keys: u64, start: Instant) {
    let time = start.elapsed();
    let rate = if keys == 0 { String::new() } else { format!(", {:.0} keys/s", keys as f64 / time.as_secs_f64()) };
    let memory = peak_memory().map(|kib| format!("; peak memory so far {} MiB", kib >> 10)).unwrap_or_default();
    println!("{what}: {time:.2?}{rate}{memory}");
}

/// Returns the most memory the process has held at once in KiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

/// Returns the bytes of every file below `dir`.
fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
