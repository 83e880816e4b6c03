//! The commands on whole databases: `DBSIZE`, `FLUSHDB`, `FLUSHALL`, `SWAPDB`.
//!
//! Flushing gives a database a new epoch and is done at once, whatever its size; the old keys are removed in the
//! background, so `SYNC` and `ASYNC` are the same.
//!
//! Source: `db.c` of Redis 7.0, for the error texts.

use super::db::Keyspace;
use super::number::integer_32;
use super::store::Store;
use super::{Failure, Outcome};
use crate::resp::Encoder;

pub(super) fn dbsize<S: Store>(keys: &mut Keyspace<'_, S>, out: &mut Encoder) -> Outcome {
    out.integer(i64::try_from(keys.size()).expect("fewer keys than addresses"));
    Ok(())
}

/// `FLUSHDB`, and `FLUSHALL` if `all`.
pub(super) fn flush<S: Store>(keys: &mut Keyspace<'_, S>, all: bool, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    match &args[1..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => {}
        _ => return Err(Failure::SYNTAX),
    }
    let here = keys.db();
    if all {
        for db in 0..keys.db_count() {
            keys.select(db);
            keys.flush();
        }
        keys.select(here);
    } else {
        keys.flush();
    }
    out.ok();
    Ok(())
}

pub(super) fn swapdb<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let number = |text, message| integer_32(text).map_err(|_| Failure::Text(message));
    let a = number(args[1], "ERR invalid first DB index")?;
    let b = number(args[2], "ERR invalid second DB index")?;
    let known = |number: i32| usize::try_from(number).ok().filter(|&db| db < keys.db_count()).ok_or(Failure::DB_RANGE);
    let (a, b) = (known(a)?, known(b)?);
    keys.swap(a, b);
    out.ok();
    Ok(())
}
