//! Values that expire: when they do, and the clock that says so.
//!
//! A value with a time to live is an entry of its own kind, whose value begins with the moment at which it expires
//! ([`mod@format`]); the commit fills it in. From that moment on readers take it for absent, and rewrites for a tombstone once no
//! snapshot is from before.
//!
//! - Every reader judges by one moment: a snapshot, a transaction and all they read by when they were taken, an iterator by when
//!   it was made, a read-only view by when it looked, a get by now.
//! - The clock is the wall clock, and never goes back: what was absent stays so. Flushes, compactions and closing keep the
//!   latest moment in the MANIFEST, so that it does not go back behind those when the engine is opened again; after a crash it
//!   may go back to the last of them if the wall clock does.
//! - An engine without such values never looks at the clock: moment 0, at which nothing has expired.
//! - What is merged onto such a value outlives it: from then on it is merged onto nothing. So the answer of a read does not
//!   depend on when things were put together.

pub mod format;

use self::format::EXPIRY_BYTES;
use super::value::Value;
use crate::base::key::SeqNum;
use crate::env::Env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The latest moment that was seen, in microseconds since 1970-01-01 UTC.
#[derive(Debug, Default)]
pub(super) struct Clock {
    peak: AtomicU64,
    /// There may be values that expire.
    used: AtomicBool,
}

impl Clock {
    /// Begins at what the MANIFEST says, if it says anything.
    pub(super) fn new(recorded: Option<u64>) -> Clock {
        Clock { peak: AtomicU64::new(recorded.unwrap_or(0)), used: AtomicBool::new(recorded.is_some()) }
    }

    /// Says that there will be values that expire. Called before the first of them is visible.
    pub(super) fn start(&self) {
        self.used.store(true, Ordering::Release);
    }

    /// Returns true if there may be values that expire.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Returns now; 0 if nothing ever expires. For a reader, after it has got hold of what it reads.
    #[inline]
    pub(super) fn now<E: Env>(&self, env: &E) -> u64 {
        if self.is_used() { self.read(env) } else { 0 }
    }

    /// Returns what the MANIFEST should say.
    pub(super) fn to_record<E: Env>(&self, env: &E) -> Option<u64> {
        self.is_used().then(|| self.read(env))
    }

    /// Returns the latest moment that was seen.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Acquire)
    }

    #[cold]
    fn read<E: Env>(&self, env: &E) -> u64 {
        let wall = env.wall().0;
        let before = self.peak.fetch_max(wall, Ordering::AcqRel);
        if env.planted("ttl_clock_goes_back") { wall } else { wall.max(before) }
    }
}

/// Returns the value in `bytes` if it has not expired at `moment`. Bytes that are too short have none.
#[cold]
pub(super) fn alive(bytes: &Value, moment: u64) -> Option<Value> {
    let (expiry, _) = format::decode(bytes)?;
    (expiry > moment).then(|| bytes.slice_from(EXPIRY_BYTES..))
}

/// What a reader sees: everything up to a sequence number, unless it has expired at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) seq: SeqNum,
    pub(super) moment: u64,
}

/// Returns true if `bytes` have expired at `moment`.
pub(super) fn has_expired(bytes: &[u8], moment: u64) -> bool {
    format::decode(bytes).is_none_or(|(expiry, _)| expiry <= moment)
}
