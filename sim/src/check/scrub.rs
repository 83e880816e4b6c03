//! Checker 6, the structure scrub: after the last, calm opening the directory holds what the MANIFEST says, and nothing else.
//!
//! **Invariant.** `validate_integrity` finds nothing. After close there is one `CURRENT`, one MANIFEST and that is the one `CURRENT`
//! names; as many tables as the engine knows; no temporary file; and every other name is one that the engine documents.
//!
//! Not checked where something at rest was damaged: the engine may then keep what it cannot judge.
//!
//! **Tripped by** `obsolete_files_never_deleted`, `manifest_edit_dropped`, `block_crc_unchecked` (with rot, by the model).

use aidb::env::DirEntry;

/// Checks the names in the database's directory; `current` is the content of `CURRENT`, `tables` how many the engine knows.
pub fn check(entries: &[DirEntry], current: &[u8], tables: u64) -> Result<(), String> {
    let mut found = 0;
    let mut manifests = Vec::new();
    for entry in entries {
        let Some(name) = entry.name.to_str() else { return Err(format!("{:?} is no name of ours", entry.name)) };
        let number = |prefix: &str, suffix: &str| {
            let digits = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
            digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        };
        match name {
            "LOCK" | "CURRENT" => {}
            "wal" if entry.is_dir => {}
            _ if number("", ".sst") => found += 1,
            _ if number("MANIFEST-", "") => manifests.push(name),
            _ => return Err(format!("the file {name} was left behind")),
        }
    }
    let [manifest] = manifests[..] else { return Err(format!("there must be one MANIFEST, not {manifests:?}")) };
    let current = String::from_utf8_lossy(current);
    if !current.contains(manifest) {
        return Err(format!("CURRENT holds {current:?}, but the MANIFEST is {manifest}"));
    }
    if found != tables {
        return Err(format!("the directory holds {found} tables, the engine knows {tables}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<DirEntry> {
        let entry = |name: &&str| DirEntry { name: name.into(), is_dir: *name == "wal", bytes: 0 };
        names.iter().map(entry).collect()
    }

    #[test]
    fn strangers_orphans_and_missing_tables_are_found() {
        let sound = ["000003.sst", "CURRENT", "LOCK", "MANIFEST-000002", "wal"];
        check(&entries(&sound), b"MANIFEST-000002\n", 1).unwrap();
        check(&entries(&sound), b"MANIFEST-000002\n", 2).unwrap_err();
        check(&entries(&sound), b"MANIFEST-000001\n", 1).unwrap_err();
        for stranger in ["MANIFEST-000001", "000009.sst", "CURRENT.tmp", "x"] {
            let names = [&sound[..], &[stranger]].concat();
            check(&entries(&names), b"MANIFEST-000002\n", 1).unwrap_err();
        }
    }
}
