//! Readers: cursors of all kinds, tailing ones, and a process that opens the log for reading only. Each record is judged as it comes.
//!
//! **Invariant.** Records come in order without a gap; each is what was appended under its id; none is shown that is not durable,
//! unless asked for; a cursor ends only where it was told to or where nothing more was durable when it was made; a record is
//! said to be truncated only if somebody asked for that; after an error there is nothing more.
//!

use super::case::{Bound, Place};
use super::client::place;
use super::process::{self, DIR};
use super::record::StepId;
use super::shared::Shared;
use crate::SimEnv;
use crate::check::aof_history::Got;
use aidb::aof::{Aof, AofError, Cursor, From, Record, Until, Visibility};
use aidb::env::Env;
use aidb::{Error, ErrorKind};
use std::time::Duration;

/// Copies a record into the oracle's form.
pub(super) fn got(record: &Record) -> Got {
    Got { id: record.id, lsn: record.lsn.0, ts: record.ts, tag: record.tag, bytes: record.bytes.to_vec() }
}

/// Notes what a reader saw: it is durable, or at least written, from now on.
pub(super) fn seen(shared: &Shared, aof: &Aof<SimEnv>, who: &str, got: &Got, written: bool) {
    if written {
        return shared.with(|state| state.history.written = state.history.written.max(got.id + 1));
    }
    if got.lsn >= aof.durable().0 {
        let durable = aof.durable();
        shared.fail("past-durable", format!("{who} got id {} at {}; durable is {durable}", got.id, got.lsn));
    }
    shared.promise(got.id + 1);
}

/// A reader of an open log.
pub(super) struct Reading<'a> {
    pub(super) env: &'a SimEnv,
    pub(super) aof: &'a Aof<SimEnv>,
    pub(super) shared: &'a Shared,
    pub(super) who: String,
    pub(super) written: bool,
    pub(super) pause_us: u32,
}

/// How a walk through a cursor ended.
enum Ended {
    /// There was nothing more, and `next` would have been the next id, if one is known.
    End { next: Option<u64>, count: u64, bytes: u64 },
    /// With an error that was dealt with.
    Error,
}

impl Reading<'_> {
    fn visibility(&self) -> Visibility {
        if self.written { Visibility::Written } else { Visibility::Durable }
    }

    /// Reads from `from` to `until`, and from `seek` if there is one.
    pub(super) fn scan(&self, from: Place, until: Bound, seek: Option<Place>) {
        let mut cursor = match self.aof.cursor(place(self.shared, from).0) {
            Ok(cursor) => cursor.visibility(self.visibility()),
            Err(error) => return self.refused(&error),
        };
        let mut end_id = None;
        match until {
            Bound::None => {}
            Bound::Count(count) => cursor = cursor.until(Until::Count(count)),
            Bound::Bytes(bytes) => cursor = cursor.until(Until::Bytes(bytes)),
            Bound::Back(back) => {
                let id = self.shared.with(|state| state.history.next_known().saturating_sub(back).max(1));
                end_id = Some(id);
                cursor = cursor.until(Until::Id(id));
            }
        }
        for (round, place) in [Some(from), seek].into_iter().flatten().enumerate() {
            if round > 0 {
                cursor.seek(super::client::place(self.shared, place).0);
            }
            let durable = self.shared.with(|state| state.history.durable);
            let started = self.start(place);
            let Ended::End { next, count, bytes } = self.walk(&mut cursor, &started, 400) else { return };
            let stopped = match until {
                Bound::None => false,
                Bound::Count(most) => {
                    self.check(count <= most, || format!("gave {count} records of {most}"));
                    count == most
                }
                Bound::Bytes(most) => {
                    self.check(bytes <= most, || format!("gave {bytes} bytes of {most}"));
                    true
                }
                Bound::Back(_) => {
                    let end = end_id.unwrap_or(u64::MAX);
                    self.check(next.is_none_or(|next| next <= end), || format!("went on to {next:?}, past {end}"));
                    next.is_none_or(|next| next >= end)
                }
            };
            let most = self.shared.first_most(self.env);
            let behind = next.or(started.id.filter(|id| *id >= most)).is_some_and(|next| next < durable);
            self.check(stopped || !behind || count >= 400, || {
                format!("ended before id {next:?}; before it began everything before {durable} was durable")
            });
        }
    }

    /// What is known of where a cursor that begins at `place` begins.
    fn start(&self, place_: Place) -> Start {
        let (from, id) = place(self.shared, place_);
        let floor = self.shared.with(|state| state.history.first_min);
        Start { from, id, floor }
    }

    fn check(&self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.shared.fail("cursor", format!("{} {}", self.who, what()));
        }
    }

    /// Reads up to `most` records.
    fn walk(&self, cursor: &mut Cursor<SimEnv>, start: &Start, most: u64) -> Ended {
        let (mut next, mut count, mut bytes) = (None::<u64>, 0, 0);
        while count < most {
            let record = match cursor.next_ref() {
                None => return Ended::End { next, count, bytes },
                Some(Ok(record)) => got(&record.to_record()),
                Some(Err(error)) => {
                    self.error(&error, next.or(start.id));
                    let more = (0..2).any(|_| cursor.next_ref().is_some());
                    self.check(!more, || format!("goes on after: {error}"));
                    return Ended::Error;
                }
            };
            match next {
                Some(due) => self.check(record.id == due, || format!("gave id {} where {due} was due", record.id)),
                None => self.first(&record, start),
            }
            if !self.shared.judge(&self.who, &record) || self.shared.failed() {
                return Ended::Error;
            }
            seen(self.shared, self.aof, &self.who, &record, self.written);
            (next, count, bytes) = (Some(record.id + 1), count + 1, bytes + record.bytes.len() as u64);
            if self.pause_us > 0 {
                self.env.sleep(Duration::from_micros(self.pause_us.into()));
            }
        }
        Ended::End { next, count, bytes }
    }

    /// Judges where a cursor began.
    fn first(&self, record: &Got, start: &Start) {
        self.check(record.id >= start.floor, || format!("began with id {}, which was truncated", record.id));
        let most = self.shared.first_most(self.env);
        let before = self.shared.with(|state| state.history.known.get(&(record.id - 1)).copied());
        match start.from {
            From::First => {
                self.check(record.id <= most, || format!("began with id {}; {most} must be there", record.id));
            }
            From::Id(id) => self.check(record.id == id, || format!("began with id {} instead of {id}", record.id)),
            From::Time(ts) => {
                let skipped = before.is_some_and(|before| before.ts >= ts) && record.id > most;
                let right = record.ts >= ts && !skipped;
                self.check(right, || format!("began with id {} at {}, asked for time {ts}", record.id, record.ts));
            }
            From::Lsn(lsn) => {
                let skipped = before.is_some_and(|before| before.lsn >= lsn.0) && record.id > most;
                let right = record.lsn >= lsn.0 && (!skipped || before.is_some_and(|before| before.lsn == record.lsn));
                self.check(right, || format!("began with id {} at {}, asked for {lsn}", record.id, record.lsn));
            }
            From::TailMinus(_) => {}
        }
    }

    fn error(&self, error: &Error, next: Option<u64>) {
        let truncated = matches!(AofError::of(error), Some(AofError::Truncated { .. }));
        let gone = truncated || *error.kind() == ErrorKind::NotFound;
        if gone && next.is_none_or(|next| next < self.shared.first_most(self.env)) {
            return;
        }
        if !matches!(error.kind(), ErrorKind::Closed) {
            self.shared.complain(|| format!("{} before id {next:?}", self.who), error);
        }
    }

    fn refused(&self, error: &Error) {
        if !matches!(AofError::of(error), Some(AofError::ReaderLimitExceeded { .. })) {
            self.error(error, None);
        }
    }

    /// Tails the log until it is closed.
    pub(super) fn follow(&self, from: Place) {
        for _ in 0..6 {
            let start = self.start(from);
            let mut cursor = match self.aof.cursor(start.from) {
                Ok(cursor) => cursor.visibility(self.visibility()).follow(true),
                Err(error) => return self.refused(&error),
            };
            if matches!(self.walk(&mut cursor, &start, u64::MAX), Ended::End { .. }) || self.shared.failed() {
                return;
            }
            // Truncated below it, or an error of the archive: another one goes on.
            self.env.sleep(Duration::from_millis(3));
        }
    }
}

/// Where a cursor was told to begin.
struct Start {
    from: From,
    /// The id that stands for.
    id: Option<u64>,
    /// Nothing below it may be shown.
    floor: u64,
}

/// Opens the directory for reading only, beside whoever writes, and reads everything.
///
/// Such a reader knows neither manifest nor archive: it begins where the local segments do. That may be before the first id, in
/// the middle of whose segment truncated records still lie, and with an archive anywhere behind it.
pub(super) fn read_only(env: &SimEnv, shared: &Shared, step: StepId) {
    let who = format!("the reader of step {step}");
    let reader = match Aof::open_read_only(env.clone(), DIR, process::config(shared)) {
        Ok(reader) => reader,
        Err(error) => return shared.complain(|| format!("open_read_only in step {step}"), &error),
    };
    let cursor = match reader.cursor(From::First) {
        Ok(cursor) => cursor,
        Err(error) => return shared.complain(|| who, &error),
    };
    let may_go = || if shared.plan().workload.options.archive { u64::MAX } else { shared.first_most(env) };
    let mut next = None;
    for record in cursor {
        match record {
            Ok(record) => {
                let got = got(&record);
                if next.is_some_and(|next| next != got.id) {
                    return shared.fail("cursor", format!("{who} gave id {} where {next:?} was due", got.id));
                }
                if next.is_none() && got.id > may_go() {
                    return shared
                        .fail("cursor", format!("{who} began with id {}; {} must be there", got.id, may_go()));
                }
                if let Err(message) = shared.with(|state| state.history.judge_or_truncated(&got)) {
                    return shared.fail("wrong-read", format!("{who}: {message}"));
                }
                next = Some(got.id + 1);
            }
            Err(error) => {
                let truncated = matches!(AofError::of(&error), Some(AofError::Truncated { .. }));
                let gone = truncated || *error.kind() == ErrorKind::NotFound;
                if !(gone && next.is_none_or(|next| next < may_go())) {
                    shared.complain(|| format!("{who} before id {next:?}"), &error);
                }
                break;
            }
        }
    }
    // It shows only what the log says is durable.
    shared.promise(next.unwrap_or(1));
}
