//! The parts of a table: footer, properties, index, and the entries of each block.

use crate::output::{Output, escape};
use aidb::base::key::Tag;
use aidb::env::StdEnv;
use aidb::lsm::table::format::Handle;
use aidb::lsm::table::salvage::Salvage;
use std::path::Path;

/// Prints at most `limit` entries of table `number`; returns false if it is damaged.
pub(super) fn print(out: &mut Output, path: &Path, number: u64, limit: usize) -> Result<bool, String> {
    let mut table = Salvage::open(&StdEnv, path, number).map_err(|error| error.to_string())?;
    out.line(&format!("# table {number}, {} bytes", table.file_bytes()))?;
    describe(out, &table)?;
    let (mut left, mut failed) = (limit, None);
    out.line("# sequence number\tkind\tkey\tvalue")?;
    let walked = table.blocks(&mut |handle, block| {
        if left == 0 || !out.is_open() {
            return Ok(());
        }
        let mut key = Vec::new();
        let mut print = || -> Result<(), String> {
            out.line(&format!("# offset {}: block of {} bytes, {} entries", handle.offset, handle.bytes, block.len()))?;
            for at in 0..block.len().min(left) {
                let (tag, value) = block.read(at, &mut key)?;
                out.line(&format!(
                    "{}\t{:?}\t{}\t{}",
                    tag.seq(),
                    tag.kind(),
                    escape(&key),
                    escape(&block.bytes()[value])
                ))?;
            }
            left -= block.len().min(left);
            Ok(())
        };
        failed = failed.take().or(print().err());
        Ok(())
    });
    walked.map_err(|error| error.to_string())?;
    failed.map_or(Ok(()), Err)?;
    for problem in table.problems() {
        let key = |key: &Option<Vec<u8>>, none: &str| key.as_deref().map_or(none.to_owned(), escape);
        let (after, before) = (key(&problem.after, "the first"), key(&problem.before, "the last"));
        let keys = if problem.loses_entries { format!(", keys from {after} to {before}") } else { String::new() };
        let (offset, bytes) = (problem.offset, problem.bytes);
        out.line(&format!("# offset {offset}: {bytes} bytes are damaged{keys}: {}", problem.what))?;
    }
    Ok(table.problems().is_empty())
}

fn describe(out: &mut Output, table: &Salvage<StdEnv>) -> Result<(), String> {
    let part = |part: Handle| match part.bytes {
        0 => "none".to_owned(),
        bytes => format!("offset {} of {bytes} bytes", part.offset),
    };
    if let Some(footer) = table.footer() {
        out.line(&format!(
            "# footer: {} entries, {} of them tombstones, {} bytes of keys and values, sequence numbers {} to {}",
            footer.entries, footer.tombstones, footer.raw_bytes, footer.seq_min, footer.seq_max
        ))?;
        out.line(&format!("# data: {} blocks, {} bytes", footer.blocks, footer.data_bytes))?;
        out.line(&format!("# filter: {}, {} bits a key", part(footer.filter), footer.filter_bits_per_key))?;
        out.line(&format!("# index: {}", part(footer.index)))?;
        out.line(&format!("# range tombstones: {}", part(footer.range_tombstones)))?;
        out.line(&format!("# properties: {}", part(footer.properties)))?;
    }
    for range in table.ranges() {
        let end = if range.end.is_empty() { "the end".to_owned() } else { escape(&range.end) };
        let seqs: Vec<String> = range.seqs.iter().map(ToString::to_string).collect();
        out.line(&format!("# range deleted: {} to below {end}, at {}", escape(&range.begin), seqs.join(" and ")))?;
    }
    if let Some(properties) = table.properties() {
        let internal = |(key, tag): &(Vec<u8>, Tag)| format!("{} {tag:?}", escape(key));
        out.line(&format!("# smallest: {}", internal(&properties.smallest)))?;
        out.line(&format!("# largest: {}", internal(&properties.largest)))?;
    }
    Ok(())
}
