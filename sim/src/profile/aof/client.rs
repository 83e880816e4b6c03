//! A client: runs its steps against the open log and notes what it asked for and was told.
//!
//! Runs in a fiber of its own. It judges what can be judged on the spot: what readers see, ids, fences, refusals; what a recovery
//! owes is for the checkers.

use super::case::{Op, Place, Wait, retention};
use super::process::{self, DIR};
use super::reader::{self, Reading};
use super::record::{Stamp, StepId, encode};
use super::shared::Shared;
use crate::SimEnv;
use aidb::aof::{Aof, AofError, From, Lsn, Ticket};
use aidb::env::{Condvar, Env, EnvCondvar, Mutex};
use aidb::{Error, ErrorKind, Result};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// One client of one opening of the log.
pub(super) struct Client {
    pub(super) env: SimEnv,
    pub(super) aof: Aof<SimEnv>,
    pub(super) shared: Shared,
    pub(super) number: usize,
}

/// Wakes a fiber that awaits something.
struct Parker(Mutex<SimEnv, bool>, Condvar<SimEnv>);

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.0.lock() = true;
        self.1.notify_all();
    }
}

/// Blocks the fiber until `future` is done, as an executor of one task would.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parker = Arc::new(Parker(Mutex::<SimEnv, _>::new(false), Condvar::<SimEnv>::default()));
    let waker = Waker::from(Arc::clone(&parker));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut woken = parker.0.lock();
        while !std::mem::take(&mut *woken) {
            parker.1.wait(&mut woken);
        }
    }
}

impl Client {
    /// Runs the client's steps of the current segment that were not begun yet.
    pub(super) fn run(self) {
        let shared = self.shared.clone();
        shared.each_step(self.number, |id, op| self.step(id, op));
    }

    fn step(&self, id: StepId, op: &Op) {
        match op {
            Op::Append { records, tag, wait } => self.append(id, records, *tag, *wait),
            Op::AppendIf { bytes, fence, behind } => self.append_if(id, *bytes, *fence, *behind),
            Op::Read { back } => self.read(id, *back),
            Op::Scan { from, until, written, seek, pause_us } => {
                let reading = Reading {
                    env: &self.env,
                    aof: &self.aof,
                    shared: &self.shared,
                    who: format!("the cursor of step {id}"),
                    written: *written,
                    pause_us: *pause_us,
                };
                reading.scan(*from, *until, *seek);
            }
            Op::Truncate { keep } => self.truncate(id, *keep),
            Op::Retain { age_us, bytes } => {
                self.shared.with(|state| state.own.limits.push((*age_us, *bytes)));
                self.done(id, "retain", self.aof.retain(retention(*age_us, *bytes)));
            }
            Op::Pin { name, back } => self.pin(id, *name, *back),
            Op::Unpin { name } => {
                let call = self.shared.with(|state| state.history.pin_called(*name));
                self.done(id, "unpin", self.aof.unpin(&pin_name(*name)).map(drop));
                self.shared.with(|state| state.history.pin_returned(*name, call, None));
            }
            Op::Seal => drop(self.done(id, "seal", self.aof.seal().map(drop))),
            Op::Flush => self.flush(id),
            Op::Verify => self.verify(id),
            Op::SecondOpen => self.second_open(id),
            Op::ReadOnly => reader::read_only(&self.env, &self.shared, id),
            Op::WaitDurable { us } => self.wait_durable(*us),
            Op::Metrics => {
                let text = self.aof.prometheus();
                let (flushes, performance) = (self.aof.flush_metrics(), self.aof.performance_metrics());
                drop((text, flushes, performance, self.aof.background_errors(), self.aof.segments()));
            }
            Op::Sleep { us } => self.env.sleep(Duration::from_micros((*us).into())),
        }
    }

    /// Notes the failure of something that is no append; returns whether it succeeded.
    fn done(&self, id: StepId, name: &str, result: Result<()>) -> bool {
        result.map_err(|error| self.shared.trouble(|| format!("{name} in step {id}"), &error)).is_ok()
    }

    fn append(&self, id: StepId, lengths: &[u32], tag: u32, wait: Wait) {
        let stamp = |(index, bytes): (usize, &u32)| encode(Stamp { step: id, index: index as u32, bytes: *bytes });
        let records: Vec<Vec<u8>> = lengths.iter().enumerate().map(stamp).collect();
        let tag = if records.len() == 1 && wait != Wait::Sync && wait != Wait::Try { tag } else { 0 };
        let floor = self.shared.append_called(id, lengths.to_vec(), tag);
        let ticket = match (&records[..], wait) {
            ([record], Wait::Sync) => return self.append_sync(id, floor, record),
            ([record], Wait::Try) => self.aof.try_append(record),
            ([record], _) => self.aof.append_tagged(tag, record),
            _ => self.aof.append_batch(&records),
        };
        let Some(mut ticket) = self.appended(id, floor, ticket) else { return };
        let waited = match wait {
            Wait::Wait | Wait::Sync => ticket.wait(),
            Wait::Await => block_on(&mut ticket),
            Wait::Drop | Wait::Try => return,
        };
        match waited {
            Ok(()) => {
                self.shared.promise(ticket.ids().end);
                if !ticket.is_durable() || self.aof.durable() < ticket.end() {
                    let (end, durable) = (ticket.end(), self.aof.durable());
                    self.shared.fail("ack", format!("step {id} was waited for up to {end}; durable is {durable}"));
                }
            }
            Err(error) => self.shared.trouble(|| format!("the wait of step {id}"), &error),
        }
    }

    /// Takes in the answer of an append.
    fn appended(&self, id: StepId, floor: u64, answer: Result<Ticket<SimEnv>>) -> Option<Ticket<SimEnv>> {
        match answer {
            Ok(ticket) => {
                self.shared.append_returned(id, floor, ticket.ids(), ticket.lsn().0, ticket.ts());
                Some(ticket)
            }
            Err(error) => {
                self.refused(id, &error);
                None
            }
        }
    }

    fn refused(&self, id: StepId, error: &Error) {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Conflict) {
            self.shared.append_refused(id);
        }
        self.shared.trouble(|| format!("append in step {id}"), error);
    }

    fn append_sync(&self, id: StepId, floor: u64, record: &[u8]) {
        match self.aof.append_sync(record) {
            Ok(ids) => {
                self.shared.promise(ids.end);
                // Its position and time are learned from what readers get.
                let (lsn, ts) = match self.aof.read(ids.start) {
                    Ok(record) => (record.lsn.0, record.ts),
                    Err(error) => {
                        match self.truncated(&error, ids.start) {
                            // It was gone before its place and time were known, and all before it.
                            true => self.shared.with(|state| {
                                state.history.first_max = state.history.first_max.max(ids.end);
                            }),
                            false => self.shared.complain(|| format!("reading back step {id}"), &error),
                        }
                        return;
                    }
                };
                self.shared.append_returned(id, floor, ids, lsn, ts);
            }
            Err(error) => self.refused(id, &error),
        }
    }

    fn append_if(&self, id: StepId, bytes: u32, fence: u64, behind: u64) {
        let next = self.aof.next_id().saturating_sub(behind).max(1);
        let record = encode(Stamp { step: id, index: 0, bytes });
        let floor = self.shared.append_called(id, vec![bytes], 0);
        let before = self.shared.with(|state| state.history.fence);
        match self.aof.append_if(next, fence, &record) {
            Ok(ticket) => {
                if ticket.ids().start != next || fence < before {
                    let ids = ticket.ids();
                    let message =
                        format!("step {id} asked for id {next} at fence {fence} and got {ids:?}; {before} was seen");
                    return self.shared.fail("fence", message);
                }
                self.shared.append_returned(id, floor, ticket.ids(), ticket.lsn().0, ticket.ts());
                self.shared.with(|state| state.history.fence = state.history.fence.max(fence));
            }
            Err(error) => {
                let right = match AofError::of(&error) {
                    Some(AofError::NextId { expected, next: actual }) => {
                        Some(*expected == next && *actual != next && *actual >= floor.min(*actual))
                    }
                    Some(AofError::Fenced { fence: named, highest }) => Some(*named == fence && *highest > fence),
                    _ => None,
                };
                match right {
                    Some(true) => {
                        let raised = !matches!(AofError::of(&error), Some(AofError::Fenced { .. }));
                        self.shared.with(|state| {
                            state.history.fence = state.history.fence.max(if raised { fence } else { 0 });
                        });
                        self.shared.append_refused(id);
                    }
                    Some(false) => self.shared.fail("fence", format!("step {id} was refused wrongly: {error}")),
                    None => self.refused(id, &error),
                }
            }
        }
    }

    fn read(&self, step: StepId, back: u64) {
        let (id, durable) = self.shared.with(|state| {
            state.history.tick();
            (state.history.next_known().saturating_sub(back).max(1), state.history.durable)
        });
        match self.aof.read(id) {
            Ok(record) => {
                let got = reader::got(&record);
                if got.id != id {
                    return self.shared.fail("wrong-read", format!("step {step} asked for id {id} and got {}", got.id));
                }
                let who = format!("the read of step {step}");
                if self.shared.judge(&who, &got) {
                    reader::seen(&self.shared, &self.aof, &who, &got, false);
                }
            }
            Err(error) => {
                let not_yet = matches!(AofError::of(&error), Some(AofError::NotYet { .. }));
                if self.truncated(&error, id) || not_yet && id >= durable {
                    return;
                }
                self.shared.complain(|| format!("read of id {id} in step {step}, where {durable} is next"), &error);
            }
        }
    }

    /// Returns whether `error` says that `id` was truncated, and that may be so.
    fn truncated(&self, error: &Error, id: u64) -> bool {
        matches!(AofError::of(error), Some(AofError::Truncated { .. })) && id < self.shared.first_most(&self.env)
    }

    fn truncate(&self, step: StepId, keep: u64) {
        let id = self.shared.with(|state| {
            let id = state.history.next_known().saturating_sub(keep).max(1);
            let history = &mut state.history;
            history.first_max = history.first_max.max(id);
            id
        });
        match self.aof.truncate_before(id) {
            // A pin may hold it back; what is gone is gone for good.
            Ok(first) => self.shared.with(|state| state.history.first_min = state.history.first_min.max(first.min(id))),
            Err(error) => self.shared.trouble(|| format!("truncate_before in step {step}"), &error),
        }
    }

    fn pin(&self, step: StepId, name: u8, back: u64) {
        let (id, call) = self.shared.with(|state| {
            let id = state.history.next_known().saturating_sub(back).max(1);
            (id, state.history.pin_called(name))
        });
        let pinned = self.aof.pin(&pin_name(name), id);
        self.shared.with(|state| state.history.pin_returned(name, call, pinned.is_ok().then_some(id)));
        match pinned {
            Err(error) if !self.truncated(&error, id) => self.shared.trouble(|| format!("pin in step {step}"), &error),
            _ => {}
        }
    }

    fn flush(&self, step: StepId) {
        let next = self.shared.with(|state| {
            state.history.tick();
            state.history.next_known()
        });
        if self.done(step, "flush", self.aof.flush()) {
            self.shared.promise(next);
        }
    }

    fn verify(&self, step: StepId) {
        match self.aof.verify() {
            Ok(report) => {
                for fault in &report.faults {
                    let error = Error::corruption(&fault.file, fault.offset, &fault.what);
                    self.shared.complain(|| format!("verify in step {step}"), &error);
                }
            }
            Err(error) => self.shared.complain(|| format!("verify in step {step}"), &error),
        }
    }

    fn second_open(&self, step: StepId) {
        let config = process::config(&self.shared);
        match Aof::open(self.env.clone(), DIR, config) {
            Ok(_) => self.shared.fail("two-opens", format!("step {step} opened the log a second time")),
            Err(error) if *error.kind() == ErrorKind::Locked => {}
            Err(error) => self.shared.complain(|| format!("second open in step {step}"), &error),
        }
    }

    fn wait_durable(&self, us: u32) {
        let mut watch = self.aof.watch_durable();
        let durable = self.aof.durable();
        match watch.wait_past(durable, Some(Duration::from_micros(us.into()))) {
            Ok(Some(said)) if said <= durable || said > self.aof.durable() => {
                let now = self.aof.durable();
                self.shared.fail("watch", format!("the watch of {durable} says {said}; durable is {now}"));
            }
            Ok(_) => {}
            Err(error) => self.shared.complain(|| "watch".into(), &error),
        }
    }
}

fn pin_name(name: u8) -> String {
    format!("pin-{name}")
}

/// Turns a place into the cursor's own, with what is known of it: the id it stands for, if any.
pub(super) fn place(shared: &Shared, place: Place) -> (From, Option<u64>) {
    shared.with(|state| {
        let history = &state.history;
        let id = |back: u64| history.next_known().saturating_sub(back).max(1);
        let known = |back: u64| history.known.get(&id(back)).map(|known| (id(back), *known));
        match place {
            Place::First => (From::First, None),
            Place::Back(back) => (From::Id(id(back)), Some(id(back))),
            Place::TailMinus(back) => (From::TailMinus(back), None),
            Place::TimeOf(back) => known(back).map_or((From::First, None), |(_, known)| (From::Time(known.ts), None)),
            Place::LsnOf(back) => known(back).map_or((From::First, None), |(id, known)| {
                (From::Lsn(Lsn(known.lsn)), Some(id - u64::from(known.stamp.index)))
            }),
        }
    })
}
