//! The commands that walk a database: `KEYS`, `SCAN`, `RANDOMKEY`.
//!
//! A walk goes by position: hash slot, then hash of the key. A `SCAN` cursor is the position where the next call begins, so
//! the server keeps nothing for it, it survives a restart, and a key that is there from the first call to the last is
//! returned: its position never changes. Keys of one position are returned together; there are 2^46 positions.
//!
//! **Limits:** a call of `SCAN` examines `COUNT` keys and those that share the position of the last.
//!
//! Source: `scanGenericCommand` of Redis 7.0, for options and error texts.

use super::db::Keyspace;
use super::format::{POSITION_END, key_hash};
use super::number::{integer, parse_cursor};
use super::store::Store;
use super::{Failure, Outcome, glob};
use crate::resp::Encoder;
use std::ops::ControlFlow;

/// Keys found by a walk, one after the other.
#[derive(Default)]
struct Found {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Found {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn reply(&self, out: &mut Encoder) {
        out.array(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            out.bulk(&self.bytes[start..end]);
            start = end;
        }
    }
}

pub(super) fn keys<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (pattern, mut found) = (args[1], Found::default());
    keys.walk(0, &mut |_, key, _| {
        if glob::matches(pattern, key) {
            found.push(key);
        }
        ControlFlow::Continue(())
    })?;
    found.reply(out);
    Ok(())
}

pub(super) fn scan<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let cursor = parse_cursor(args[1]).ok_or(Failure::Text("ERR invalid cursor"))?;
    let (mut count, mut pattern, mut kind) = (10, None, None);
    let (options, rest) = args[2..].as_chunks::<2>();
    for [name, value] in options {
        match name.to_ascii_lowercase().as_slice() {
            b"count" => {
                count = integer(value)?;
                if count < 1 {
                    return Err(Failure::SYNTAX);
                }
            }
            b"match" => pattern = Some(*value).filter(|&pattern| pattern != b"*"),
            b"type" => kind = Some(*value),
            _ => return Err(Failure::SYNTAX),
        }
    }
    if !rest.is_empty() {
        return Err(Failure::SYNTAX);
    }
    let (mut found, mut examined, mut last, mut next) = (Found::default(), 0, cursor, 0);
    keys.walk(cursor, &mut |position, key, header| {
        if examined >= count && position != last {
            next = position;
            return ControlFlow::Break(());
        }
        examined += 1;
        last = position;
        let typed = kind.is_none_or(|kind: &[u8]| kind.eq_ignore_ascii_case(header.kind.name().as_bytes()));
        if typed && pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
            found.push(key);
        }
        ControlFlow::Continue(())
    })?;
    out.array(2);
    out.bulk(next.to_string().as_bytes());
    found.reply(out);
    Ok(())
}

/// Takes the first key at or after a random position. A key is the likelier the wider the gap before it.
pub(super) fn randomkey<S: Store>(keys: &mut Keyspace<'_, S>, out: &mut Encoder) -> Outcome {
    let start = key_hash(&keys.context.seed.to_string().into_bytes()) % POSITION_END;
    let mut chosen: Option<Vec<u8>> = None;
    for from in [start, 0] {
        if chosen.is_none() {
            keys.walk(from, &mut |_, key, _| {
                chosen = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
        }
    }
    match chosen {
        Some(key) => out.bulk(&key),
        None => out.null(),
    }
    Ok(())
}
