//! The string commands.
//!
//! Each is a function of keyspace and arguments, called by dispatch with a checked number of arguments. A command reads
//! and validates everything before it changes anything.
//!
//! Source: `t_string.c` of Redis 7.0, for the order of checks and the error texts.

use super::db::Keyspace;
use super::expire::{self, When};
use super::format::Encoding;
use super::long_double::LongDouble;
use super::number::{integer, parse_integer};
use super::store::Store;
use super::{Failure, Outcome};
use crate::resp::{Encoder, decimal};

/// Longest string: the setting `proto-max-bulk-len`.
pub(super) const STRING_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What a write does with the expiry of the key.
#[derive(Clone, Copy)]
enum NewExpiry {
    None,
    Keep,
    At(u64),
}

/// Options of `SET` and `GETEX`.
#[derive(Default)]
struct Options<'a> {
    only_absent: bool,
    only_present: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<(When, &'a [u8])>,
}

impl<'a> Options<'a> {
    /// Reads options; `set` says for which of the two commands.
    fn parse(args: &[&'a [u8]], set: bool) -> Result<Options<'a>, Failure> {
        let mut options = Options::default();
        let mut rest = args;
        while let [name, tail @ ..] = rest {
            rest = tail;
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
            if set && is("nx") && !options.only_present {
                options.only_absent = true;
            } else if set && is("xx") && !options.only_absent {
                options.only_present = true;
            } else if set && is("get") {
                options.get = true;
            } else if set && is("keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else if !set && is("persist") && options.expiry.is_none() {
                options.persist = true;
            } else {
                let when = When::from_option(name).ok_or(Failure::SYNTAX)?;
                let [value, tail @ ..] = rest else { return Err(Failure::SYNTAX) };
                let other = options.expiry.is_some_and(|(earlier, _)| earlier != when);
                if options.keep_ttl || options.persist || other {
                    return Err(Failure::SYNTAX);
                }
                options.expiry = Some((when, value));
                rest = tail;
            }
        }
        Ok(options)
    }
}

/// Sets a key, keeping what there is to keep of its expiry.
#[inline]
fn put<S: Store>(keys: &mut Keyspace<'_, S>, key: &[u8], value: &[u8], expiry: NewExpiry) -> Outcome {
    let expiry = match expiry {
        NewExpiry::None => None,
        NewExpiry::At(at) => Some(at),
        NewExpiry::Keep => keys.header(key)?.and_then(|header| header.expiry),
    };
    keys.put_string(key, Encoding::ByValue, expiry, &[value])
}

/// Replies with a string, or null.
fn reply_value<S: Store>(keys: &mut Keyspace<'_, S>, key: &[u8], out: &mut Encoder) -> Result<bool, Failure> {
    match keys.get(key)? {
        Some(object) => out.bulk(object.string()?),
        None => {
            out.null();
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn get<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    reply_value(keys, args[1], out).map(drop)
}

pub(super) fn set<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (key, value) = (args[1], args[2]);
    if args.len() == 3 {
        keys.put_string(key, Encoding::ByValue, None, &[value])?;
        out.ok();
        return Ok(());
    }
    let options = Options::parse(&args[3..], true)?;
    let expiry = match options.expiry {
        Some((when, text)) => NewExpiry::At(expire::parse_option(when, text, keys.context.now_ms, "set")?),
        None if options.keep_ttl => NewExpiry::Keep,
        None => NewExpiry::None,
    };
    if options.get {
        reply_value(keys, key, out)?;
    }
    if options.only_absent || options.only_present {
        let found = keys.header(key)?.is_some();
        if found && options.only_absent || !found && options.only_present {
            if !options.get {
                out.null();
            }
            return Ok(());
        }
    }
    put(keys, key, value, expiry)?;
    if !options.get {
        out.ok();
    }
    Ok(())
}

pub(super) fn setnx<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let absent = keys.header(args[1])?.is_none();
    if absent {
        put(keys, args[1], args[2], NewExpiry::None)?;
    }
    out.integer(i64::from(absent));
    Ok(())
}

/// `SETEX` and `PSETEX`.
pub(super) fn setex<S: Store>(
    keys: &mut Keyspace<'_, S>,
    name: &str,
    when: When,
    args: &[&[u8]],
    out: &mut Encoder,
) -> Outcome {
    let at = expire::parse_option(when, args[2], keys.context.now_ms, name)?;
    put(keys, args[1], args[3], NewExpiry::At(at))?;
    out.ok();
    Ok(())
}

pub(super) fn getset<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    reply_value(keys, args[1], out)?;
    put(keys, args[1], args[2], NewExpiry::None)
}

pub(super) fn getdel<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    if reply_value(keys, args[1], out)? {
        keys.remove(args[1])?;
    }
    Ok(())
}

pub(super) fn getex<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let options = Options::parse(&args[2..], false)?;
    let key = args[1];
    if !reply_value(keys, key, out)? {
        return Ok(());
    }
    if let Some((when, text)) = options.expiry {
        let at = expire::parse_option(when, text, keys.context.now_ms, "getex")?;
        expire::expire_at(keys, key, i64::try_from(at).unwrap_or(i64::MAX))?;
    } else if options.persist && keys.header(key)?.is_some_and(|header| header.expiry.is_some()) {
        keys.set_expiry(key, None)?;
    }
    Ok(())
}

pub(super) fn mget<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    out.array(args.len() - 1);
    for key in &args[1..] {
        match keys.get(key)? {
            Some(object) if object.string().is_ok() => out.bulk(object.payload()),
            _ => out.null(),
        }
    }
    Ok(())
}

/// `MSET`, and `MSETNX` if `only_absent`.
pub(super) fn mset<S: Store>(
    keys: &mut Keyspace<'_, S>,
    only_absent: bool,
    args: &[&[u8]],
    out: &mut Encoder,
) -> Outcome {
    if args.len().is_multiple_of(2) {
        let name = if only_absent { "msetnx" } else { "mset" };
        return Err(Failure::Message(format!("ERR wrong number of arguments for '{name}' command")));
    }
    if only_absent {
        for pair in args[1..].chunks_exact(2) {
            if keys.header(pair[0])?.is_some() {
                out.integer(0);
                return Ok(());
            }
        }
    }
    for pair in args[1..].chunks_exact(2) {
        put(keys, pair[0], pair[1], NewExpiry::None)?;
    }
    if only_absent {
        out.integer(1)
    } else {
        out.ok()
    }
    Ok(())
}

pub(super) fn strlen<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let len = match keys.get(args[1])? {
        Some(object) => object.string()?.len(),
        None => 0,
    };
    out.integer(len as i64);
    Ok(())
}

fn check_length(start: u64, added: usize) -> Outcome {
    if start.saturating_add(added as u64) > STRING_BYTES_MAX {
        return Err(Failure::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

pub(super) fn append<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (key, added) = (args[1], args[2]);
    let Some(object) = keys.get(key)? else {
        put(keys, key, added, NewExpiry::None)?;
        out.integer(added.len() as i64);
        return Ok(());
    };
    let old = object.string()?;
    check_length(old.len() as u64, added.len())?;
    let (value, expiry) = ([old, added].concat(), object.header().expiry);
    keys.put_string(key, Encoding::Raw, expiry, &[&value])?;
    out.integer(value.len() as i64);
    Ok(())
}

pub(super) fn setrange<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (key, part) = (args[1], args[3]);
    let start = integer(args[2])?;
    let start = u64::try_from(start).map_err(|_| Failure::Text("ERR offset is out of range"))?;
    let (mut value, expiry) = match keys.get(key)? {
        Some(object) => (object.string()?.to_vec(), object.header().expiry),
        None => (Vec::new(), None),
    };
    if !part.is_empty() {
        check_length(start, part.len())?;
        let start = start as usize;
        value.resize(value.len().max(start + part.len()), 0);
        value[start..start + part.len()].copy_from_slice(part);
        keys.put_string(key, Encoding::Raw, expiry, &[&value])?;
    }
    out.integer(value.len() as i64);
    Ok(())
}

/// `GETRANGE` and `SUBSTR`.
pub(super) fn getrange<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    let Some(object) = keys.get(args[1])? else {
        out.bulk(b"");
        return Ok(());
    };
    let value = object.string()?;
    let len = value.len() as i64;
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (from, to) = (from_end(start), from_end(end).min(len - 1));
    let backwards = start < 0 && end < 0 && start > end;
    out.bulk(if backwards || from > to { b"" } else { &value[from as usize..=to as usize] });
    Ok(())
}

/// `INCR`, `DECR`, `INCRBY` and `DECRBY`.
pub(super) fn add<S: Store>(keys: &mut Keyspace<'_, S>, key: &[u8], increment: i64, out: &mut Encoder) -> Outcome {
    let (value, expiry) = match keys.get(key)? {
        Some(object) => (integer(object.string()?)?, object.header().expiry),
        None => (0, None),
    };
    let sum = value.checked_add(increment).ok_or(Failure::Text("ERR increment or decrement would overflow"))?;
    keys.put_string(key, Encoding::ByValue, expiry, &[decimal(sum, &mut [0; 20])])?;
    out.integer(sum);
    Ok(())
}

pub(super) fn decrby<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let decrement = integer(args[2])?;
    let increment = decrement.checked_neg().ok_or(Failure::Text("ERR decrement would overflow"))?;
    add(keys, args[1], increment, out)
}

pub(super) fn incrbyfloat<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let number = |text: &[u8]| LongDouble::parse(text).ok_or(Failure::NOT_FLOAT);
    let (value, expiry) = match keys.get(args[1])? {
        Some(object) => (number(object.string()?)?, object.header().expiry),
        None => (number(b"0")?, None),
    };
    let sum = value
        .checked_add(number(args[2])?)
        .ok_or(Failure::Text("ERR increment would produce NaN or Infinity"))?
        .format();
    keys.put_string(args[1], Encoding::Text, expiry, &[sum.as_bytes()])?;
    out.bulk(sum.as_bytes());
    Ok(())
}

/// Returns what `OBJECT ENCODING` says of a string.
pub(super) fn encoding(value: &[u8], encoding: Encoding) -> &'static str {
    const EMBEDDED_BYTES_MAX: usize = 44;
    match encoding {
        Encoding::Raw => "raw",
        Encoding::ByValue if parse_integer(value).is_some() => "int",
        _ if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}
