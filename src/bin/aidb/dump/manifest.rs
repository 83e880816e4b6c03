//! The edits of a MANIFEST, which one CURRENT names, what a backup is made of, and the commits in its log.

use crate::aof::dump::operations;
use crate::output::{Output, escape};
use aidb::backup::format as backup;
use aidb::lsm::manifest::format::{TreeEdit, VersionEdit, decode_current, parts};

/// Prints what CURRENT says; returns false if it is damaged.
pub(super) fn current(out: &mut Output, bytes: &[u8]) -> Result<bool, String> {
    match decode_current(bytes) {
        Ok(number) => out.line(&format!("MANIFEST-{number:06}"))?,
        Err(what) => out.line(&format!("# offset 0: {what}: {}", escape(bytes)))?,
    }
    Ok(decode_current(bytes).is_ok())
}

/// Prints at most `limit` edits of MANIFEST `number`; returns false if one is damaged, and not only torn at the end.
pub(super) fn edits(out: &mut Output, bytes: &[u8], number: u64, limit: usize) -> Result<bool, String> {
    out.line(&format!("# MANIFEST {number}, {} bytes", bytes.len()))?;
    let parts = parts(bytes, number);
    let last_good = parts.iter().rposition(|part| part.content.is_ok());
    let mut sound = last_good.is_some();
    for (at, part) in parts.iter().enumerate().take(limit) {
        match &part.content {
            Ok(edit) => {
                out.line(&format!("# offset {}: edit of {} bytes", part.offset, part.bytes))?;
                print_edit(out, edit)?;
            }
            Err(what) => out.line(&format!("# offset {}: {} bytes: {what}", part.offset, part.bytes))?,
        }
        sound &= part.content.is_ok() || last_good.is_some_and(|last| at > last);
    }
    Ok(sound)
}

fn print_edit(out: &mut Output, edit: &VersionEdit) -> Result<(), String> {
    let numbers = [
        ("next file", edit.next_file),
        ("last sequence number", edit.last_seq.map(|seq| seq.0)),
        ("log from", edit.wal_lsn.map(|lsn| lsn.0)),
        ("next keyspace", edit.next_keyspace.map(u64::from)),
        ("clock", edit.clock),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            out.line(&format!("{name} {number}"))?;
        }
    }
    edit.trees.iter().try_for_each(|tree| print_tree(out, tree))
}

fn print_tree(out: &mut Output, tree: &TreeEdit) -> Result<(), String> {
    let keyspace = tree.keyspace;
    if let Some(name) = &tree.created {
        out.line(&format!("keyspace {keyspace}: created as {}", escape(name.as_bytes())))?;
    }
    if let Some(seq) = tree.flushed {
        out.line(&format!("keyspace {keyspace}: tables hold all up to {seq}"))?;
    }
    for (level, number) in &tree.removed {
        out.line(&format!("keyspace {keyspace}: level {level} without table {number:06}"))?;
    }
    for (level, info) in &tree.added {
        out.line(&format!(
            "keyspace {keyspace}: level {level} with table {:06}: {} bytes, {} entries, {} tombstones, {}..={}, {}..={}",
            info.file_no,
            info.file_bytes,
            info.entries,
            info.tombstones,
            info.seq_min,
            info.seq_max,
            escape(&info.smallest.0),
            escape(&info.largest.0),
        ))?;
        if let Some(ranges) = &info.ranges {
            let end = if ranges.end.is_empty() { "the end".to_owned() } else { escape(&ranges.end) };
            let (count, begin) = (ranges.count, escape(&ranges.begin));
            out.line(&format!("keyspace {keyspace}:   with {count} range tombstones, from {begin} to below {end}"))?;
        }
    }
    if let Some(name) = &tree.merge_operator {
        out.line(&format!("keyspace {keyspace}: merges are made for operator {name:?}"))?;
    }
    if tree.dropped {
        out.line(&format!("keyspace {keyspace}: dropped"))?;
    }
    Ok(())
}

/// Prints what backup `number` is made of; returns false if that is damaged.
pub(super) fn backup(out: &mut Output, bytes: &[u8], number: u64, limit: usize) -> Result<bool, String> {
    out.line(&format!("# backup {number}, {} bytes", bytes.len()))?;
    let manifest = match backup::Manifest::decode(bytes, number) {
        Ok(manifest) => manifest,
        Err((offset, what)) => {
            out.line(&format!("# offset {offset}: {what}"))?;
            return Ok(false);
        }
    };
    out.line(&format!("made {}", crate::aof::time(manifest.created)))?;
    out.line(&format!("sequence number {}", manifest.seq))?;
    if let Some(log) = &manifest.log {
        out.line(&format!("log: {} bytes, {} records, checksum {:016x}", log.bytes, log.records, log.crc))?;
    }
    for table in manifest.tables.iter().take(limit) {
        out.line(&format!("table {:06}: {} bytes, checksum {:016x}", table.file_no, table.bytes, table.crc))?;
    }
    out.line(&format!("# MANIFEST-{:06} of a restore", manifest.manifest_no))?;
    print_edit(out, &manifest.state)?;
    Ok(true)
}

/// Prints at most `limit` records of the log of backup `number`; returns false at the first damage, which ends it.
pub(super) fn backup_log(out: &mut Output, bytes: &[u8], number: u64, limit: usize) -> Result<bool, String> {
    out.line(&format!("# log of backup {number}, {} bytes", bytes.len()))?;
    if let Err((offset, what)) = backup::check_log_header(bytes, number) {
        out.line(&format!("# offset {offset}: {what}"))?;
        return Ok(false);
    }
    let mut at = backup::LOG_HEADER_BYTES;
    for _ in 0..limit {
        let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { break };
        let record = rest.split_first_chunk().and_then(|(header, rest)| {
            let len = usize::try_from(backup::log_payload_bytes(*header)).ok()?;
            let payload = rest.get(..len)?;
            backup::check_log_record(*header, number, at as u64, payload).ok().map(|()| payload)
        });
        let Some(payload) = record else {
            out.line(&format!("# offset {at}: a record that is damaged, and nothing tells where the next one begins"))?;
            return Ok(false);
        };
        out.line(&format!("# offset {at}: record of {} bytes", payload.len()))?;
        operations(out, payload)?;
        at += backup::LOG_RECORD_BYTES + payload.len();
    }
    Ok(true)
}
