//! Times of expiry: the commands that set and tell them, and the options of `SET` and `GETEX` that do.
//!
//! Times are milliseconds since 1970. What comes in as seconds, or relative to now, is checked to fit before it is used.
//!
//! Source: `expire.c` and `getExpireMillisecondsOrReply` of Redis 7.0.

use super::db::Keyspace;
use super::number::integer;
use super::store::Store;
use super::{Failure, Outcome};
use crate::resp::Encoder;

/// How a time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Seconds from now.
    InSeconds,
    /// Milliseconds from now.
    InMillis,
    /// Seconds since 1970.
    AtSeconds,
    /// Milliseconds since 1970.
    AtMillis,
}

impl When {
    /// Reads the name of an option.
    pub(super) fn from_option(name: &[u8]) -> Option<When> {
        let names =
            [("ex", When::InSeconds), ("px", When::InMillis), ("exat", When::AtSeconds), ("pxat", When::AtMillis)];
        names.into_iter().find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes())).map(|(_, when)| when)
    }

    fn in_seconds(self) -> bool {
        matches!(self, When::InSeconds | When::AtSeconds)
    }

    /// Returns the time that `value` stands for; `None` if it does not fit.
    fn resolve(self, value: i64, now_ms: u64) -> Option<i64> {
        let millis = if self.in_seconds() { value.checked_mul(1000)? } else { value };
        match self {
            When::InSeconds | When::InMillis => millis.checked_add(i64::try_from(now_ms).ok()?),
            When::AtSeconds | When::AtMillis => Some(millis),
        }
    }
}

fn invalid(command: &str) -> Failure {
    Failure::Message(format!("ERR invalid expire time in '{command}' command"))
}

/// Reads the time in an option of `command`, which has to be positive.
pub(super) fn parse_option(when: When, text: &[u8], now_ms: u64, command: &str) -> Result<u64, Failure> {
    let value = integer(text)?;
    if value <= 0 {
        return Err(invalid(command));
    }
    let at = when.resolve(value, now_ms).ok_or_else(|| invalid(command))?;
    Ok(u64::try_from(at).expect("positive plus the time"))
}

/// Gives a key that exists a time of expiry; one in the past removes it.
pub(super) fn expire_at<S: Store>(keys: &mut Keyspace<'_, S>, key: &[u8], at: i64) -> Outcome {
    match u64::try_from(at) {
        Ok(at) if at > keys.context.now_ms => keys.set_expiry(key, Some(at)),
        _ => keys.remove(key).map(drop),
    }
}

#[derive(Default)]
struct Conditions {
    none_yet: bool,
    some_already: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(args: &[&[u8]]) -> Result<Conditions, Failure> {
        let mut conditions = Conditions::default();
        for name in args {
            let flag = match name.to_ascii_lowercase().as_slice() {
                b"nx" => &mut conditions.none_yet,
                b"xx" => &mut conditions.some_already,
                b"gt" => &mut conditions.later,
                b"lt" => &mut conditions.earlier,
                _ => {
                    let name = String::from_utf8_lossy(name);
                    return Err(Failure::Message(format!("ERR Unsupported option {name}")));
                }
            };
            *flag = true;
        }
        let Conditions { none_yet, some_already, later, earlier } = conditions;
        if none_yet && (some_already || later || earlier) {
            return Err(Failure::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if later && earlier {
            return Err(Failure::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Tells whether a key that expires at `current` may be made to expire at `at`.
    fn allow(&self, current: Option<u64>, at: i64) -> bool {
        let current = current.map(|current| i64::try_from(current).unwrap_or(i64::MAX));
        !(self.none_yet && current.is_some()
            || self.some_already && current.is_none()
            || self.later && current.is_none_or(|current| at <= current)
            || self.earlier && current.is_some_and(|current| at >= current))
    }
}

/// `EXPIRE`, `PEXPIRE`, `EXPIREAT` and `PEXPIREAT`.
pub(super) fn expire<S: Store>(
    keys: &mut Keyspace<'_, S>,
    name: &str,
    when: When,
    args: &[&[u8]],
    out: &mut Encoder,
) -> Outcome {
    let conditions = Conditions::parse(&args[3..])?;
    let at = when.resolve(integer(args[2])?, keys.context.now_ms).ok_or_else(|| invalid(name))?;
    let header = keys.header(args[1])?;
    let applies = header.is_some_and(|header| conditions.allow(header.expiry, at));
    if applies {
        expire_at(keys, args[1], at)?;
    }
    out.integer(i64::from(applies));
    Ok(())
}

/// `TTL`, `PTTL`, `EXPIRETIME` and `PEXPIRETIME`: the one that answers as `when` says.
pub(super) fn tell<S: Store>(keys: &mut Keyspace<'_, S>, when: When, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let millis = match keys.header(args[1])? {
        None => Err(-2),
        Some(header) => header.expiry.ok_or(-1),
    };
    let relative = matches!(when, When::InSeconds | When::InMillis);
    let now_ms = keys.context.now_ms;
    out.integer(match millis {
        Err(why_not) => why_not,
        Ok(at) => {
            let millis = if relative { at.saturating_sub(now_ms) } else { at };
            let value = if when.in_seconds() { millis.saturating_add(500) / 1000 } else { millis };
            i64::try_from(value).unwrap_or(i64::MAX)
        }
    });
    Ok(())
}

pub(super) fn persist<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let expires = keys.header(args[1])?.is_some_and(|header| header.expiry.is_some());
    if expires {
        keys.set_expiry(args[1], None)?;
    }
    out.integer(i64::from(expires));
    Ok(())
}
