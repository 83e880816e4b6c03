//! Manifests and logs of backups: what decodes says the same after another round, and of no other backup.

use super::memory::MemoryEnv;
use aidb::backup::format::{Manifest, seal};
use aidb::backup::{list_in, restore_in, verify_in};
use aidb::env::{Disk, Env};
use std::path::Path;

/// Decodes `input` as a manifest and as the payload of one, and lists, verifies and restores a directory that has only that.
pub fn manifest(input: &[u8]) {
    let sealed = seal(4, input);
    for bytes in [input, &sealed] {
        let Ok(manifest) = Manifest::decode(bytes, 4) else { continue };
        assert_eq!(Manifest::decode(&manifest.encode(4), 4), Ok(manifest.clone()));
        assert!(Manifest::decode(bytes, 5).is_err(), "the bytes of another backup");
        let (env, dir) = (MemoryEnv::default(), Path::new("/backups"));
        env.disk().create_dir_all(dir).expect("in memory");
        env.put(&dir.join("BACKUP-000004"), bytes.to_vec());
        assert_eq!(list_in(&env, dir).expect("in memory").backups.len(), 1);
        let report = verify_in(&env, dir).expect("in memory");
        let needed = manifest.tables.len() + usize::from(manifest.log.is_some());
        assert_eq!(report.problems.len(), needed, "nothing of it is there");
        assert_eq!(restore_in(&env, dir, None, "/db").is_ok(), needed == 0);
    }
}
