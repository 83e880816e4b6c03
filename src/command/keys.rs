//! The commands on keys of any type: existence, names, copies, and what the server knows of a key.
//!
//! Called by dispatch with a checked number of arguments; every key was planned for, in whichever database it lies.
//!
//! Source: `db.c` and `object.c` of Redis 7.0, for the order of checks and the error texts.

use super::db::Keyspace;
use super::format::{Encoding, Kind};
use super::number::{integer_32, parse_integer};
use super::store::Store;
use super::string;
use super::table::CommandSpec;
use super::{Failure, Outcome};
use crate::resp::Encoder;

const SAME_OBJECT: Failure = Failure::Text("ERR source and destination objects are the same");

/// `DEL` and `UNLINK`.
pub(super) fn del<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let mut removed = 0;
    for key in &args[1..] {
        removed += i64::from(keys.remove(key)?);
    }
    out.integer(removed);
    Ok(())
}

/// `EXISTS` and `TOUCH`: a key named twice counts twice.
pub(super) fn exists<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let mut found = 0;
    for key in &args[1..] {
        found += i64::from(keys.header(key)?.is_some());
    }
    out.integer(found);
    Ok(())
}

pub(super) fn kind<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    out.simple(keys.header(args[1])?.map_or("none", |header| header.kind.name()));
    Ok(())
}

/// `RENAME`, and `RENAMENX` if `only_absent`.
pub(super) fn rename<S: Store>(
    keys: &mut Keyspace<'_, S>,
    only_absent: bool,
    args: &[&[u8]],
    out: &mut Encoder,
) -> Outcome {
    let (from, to) = (args[1], args[2]);
    if keys.header(from)?.is_none() {
        return Err(Failure::NO_KEY);
    }
    let same = from == to;
    if only_absent && (same || keys.header(to)?.is_some()) {
        out.integer(0);
        return Ok(());
    }
    if !same {
        keys.copy(from, to, keys.db())?;
        keys.remove(from)?;
    }
    if only_absent {
        out.integer(1)
    } else {
        out.ok()
    }
    Ok(())
}

/// Reads a database number; an unknown one fails with `range`.
fn database<S: Store>(keys: &Keyspace<'_, S>, text: &[u8], range: Failure) -> Result<usize, Failure> {
    let number = integer_32(text)?;
    usize::try_from(number).ok().filter(|&db| db < keys.db_count()).ok_or(range)
}

pub(super) fn copy<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (from, to) = (args[1], args[2]);
    let (mut to_db, mut replace) = (keys.db(), false);
    let mut rest = &args[3..];
    loop {
        rest = match rest {
            [] => break,
            [name, tail @ ..] if name.eq_ignore_ascii_case(b"replace") => {
                replace = true;
                tail
            }
            [name, number, tail @ ..] if name.eq_ignore_ascii_case(b"db") => {
                to_db = database(keys, number, Failure::DB_RANGE)?;
                tail
            }
            _ => return Err(Failure::SYNTAX),
        };
    }
    let db = keys.db();
    if to_db == db && from == to {
        return Err(SAME_OBJECT);
    }
    let copies = keys.header(from)?.is_some() && (replace || !exists_in(keys, to_db, to)?);
    if copies {
        keys.copy(from, to, to_db)?;
    }
    out.integer(i64::from(copies));
    Ok(())
}

fn exists_in<S: Store>(keys: &mut Keyspace<'_, S>, db: usize, key: &[u8]) -> Result<bool, Failure> {
    let here = keys.db();
    keys.select(db);
    let header = keys.header(key);
    keys.select(here);
    Ok(header?.is_some())
}

pub(super) fn move_to<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (key, db) = (args[1], keys.db());
    let to_db = database(keys, args[2], Failure::DB_RANGE)?;
    if to_db == db {
        return Err(SAME_OBJECT);
    }
    let moves = keys.header(key)?.is_some() && !exists_in(keys, to_db, key)?;
    if moves {
        keys.copy(key, key, to_db)?;
        keys.remove(key)?;
    }
    out.integer(i64::from(moves));
    Ok(())
}

/// Lines of `OBJECT HELP`.
const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

/// `OBJECT`. Accesses are not tracked, so that reading stays free of writing: `IDLETIME` is always 0.
pub(super) fn object<S: Store>(
    keys: &mut Keyspace<'_, S>,
    spec: &CommandSpec,
    args: &[&[u8]],
    out: &mut Encoder,
) -> Outcome {
    const SHARED_INTEGERS: i64 = 10_000;
    const SHARED_REFERENCES: i64 = i32::MAX as i64;
    let Some(sub) = spec.subcommand(args[1]) else {
        let name = String::from_utf8_lossy(args[1]);
        return Err(Failure::Message(format!("ERR unknown subcommand '{name:.128}'. Try OBJECT HELP.")));
    };
    if !sub.accepts(args.len()) {
        return Err(Failure::Message(sub.arity_error()));
    }
    if sub.name == "object|help" {
        out.array(OBJECT_HELP.len());
        OBJECT_HELP.iter().for_each(|line| out.simple(line));
        return Ok(());
    }
    let Some(object) = keys.get(args[2])? else {
        out.null();
        return Ok(());
    };
    let encoding = match object.header().kind {
        Kind::String => string::encoding(object.payload(), object.header().encoding),
        kind => kind.name(),
    };
    match sub.name {
        "object|encoding" => out.bulk(encoding.as_bytes()),
        "object|refcount" => {
            let number = parse_integer(object.payload()).filter(|_| encoding == "int");
            let shared = number.is_some_and(|number| (0..SHARED_INTEGERS).contains(&number));
            out.integer(if shared && object.header().encoding == Encoding::ByValue { SHARED_REFERENCES } else { 1 });
        }
        "object|idletime" => out.integer(0),
        _ => {
            return Err(Failure::Text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}
