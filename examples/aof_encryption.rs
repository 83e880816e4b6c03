//! Encrypting a log, rotating its key, and compressing what is archived. Run with `cargo run --example aof_encryption`.
#![allow(clippy::disallowed_methods, reason = "clears directories and looks at files, outside the log")]

use aidb::aof::archive::FilesystemArchiveStorage;
use aidb::aof::{Aof, AofConfig, ArchiveConfig, From, KeyRing};
use aidb::env::StdEnv;
use std::path::Path;
use std::sync::Arc;

const SECRET: &[u8] = b"a very secret record";

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-encryption");
    // Left over from an earlier run of this example.
    let _ = std::fs::remove_dir_all(&dir);

    // Keys are 32 random bytes with a number, from wherever secrets are kept. These two are not random.
    let (old, new) = ((1, [1; 32]), (2, [2; 32]));
    let config = |keys: KeyRing| -> aidb::Result<AofConfig> {
        let storage = FilesystemArchiveStorage::new(StdEnv, dir.join("archive"))?;
        // Archived segments are compressed first, then encrypted, in blocks that can be read alone.
        let archive = ArchiveConfig::new(Arc::new(storage));
        AofConfig::builder().encryption(keys).archive(archive).compression_level(9).build()
    };
    let log = dir.join("log");

    let (aof, _) = Aof::open(StdEnv, &log, config(KeyRing::new(1, [old])?)?)?;
    aof.append_sync(SECRET)?;
    aof.close()?;

    // Rotation: the new key is current, the old one stays for what it wrote.
    let (aof, _) = Aof::open(StdEnv, &log, config(KeyRing::new(2, [old, new])?)?)?;
    aof.append_sync(SECRET)?;
    aof.seal()?;
    let same = aof.cursor(From::First)?.all(|record| record.is_ok_and(|record| record.bytes == SECRET));
    println!("both records are read back: {same}");
    aof.close()?;

    println!("files that show the record: {}", shows(&dir, SECRET));
    let missing = Aof::open(StdEnv, &log, config(KeyRing::new(2, [new])?)?).map(|_| ()).unwrap_err();
    println!("without the old key: {missing}");
    let wrong = Aof::open(StdEnv, &log, config(KeyRing::new(2, [old, (2, [3; 32])])?)?).map(|_| ()).unwrap_err();
    println!("with a wrong key: {wrong}");
    Ok(())
}

/// Counts the files below `dir` that hold `bytes`.
fn shows(dir: &Path, bytes: &[u8]) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |path: &Path| match path.is_dir() {
        true => shows(path, bytes),
        false => usize::from(std::fs::read(path).is_ok_and(|file| file.windows(bytes.len()).any(|part| part == bytes))),
    };
    entries.map(|entry| count(&entry.path())).sum()
}
