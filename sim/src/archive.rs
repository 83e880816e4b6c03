//! [`SimArchive`]: an object store inside the world, for the log's archive. It outlives processes and power losses, and fails on
//! request.
//!
//! What it promises is what a store of immutable objects promises and no more: an object that a put created is there, whole,
//! until it is deleted, unless a fault says otherwise; a put never replaces an object; a listing is complete and in order.
//!
//! **Each operation:** a switch point, its number ([`At::Remote`]) and delay, what was under way and lands now, perhaps a crash
//! before it, its effect (with faults), perhaps a crash after it, and another switch point. Puts and deletes count as mutating
//! operations as those of the disk do, so that a crash at every one of them is tried. A put reads its source before anything
//! else: a crash before its effect is a crash in the middle of the upload, and with [`Fault::RemoteLate`] it lands all the same.
//!
//! Used by fibers through [`ArchiveStorage`], and by the body of a run, where nothing fails or counts.

use crate::chooser::Salted;
use crate::fault::{At, Fault};
use crate::scheduler::Reason;
use crate::trace::{Event, mix};
use crate::world::{Place, World, place};
use aidb::aof::AofError;
use aidb::aof::archive::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use aidb::base::hash::hash64;
use aidb::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The kinds of operations that faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoteOp {
    Put,
    Head,
    Read,
    List,
    Delete,
}

/// Something that was sent, said to have failed, and still has its effect.
#[derive(Clone, Debug)]
enum Late {
    Put(String, Vec<u8>),
    Delete(String),
}

/// The objects, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct ArchiveState {
    objects: BTreeMap<String, Vec<u8>>,
    /// With the operation before which it lands.
    late: Vec<(u64, Late)>,
    /// Objects that a put made after it was said to have failed.
    landed_late: BTreeSet<String>,
}

impl ArchiveState {
    /// Lets everything land that is due at operation `op`; returns how many did.
    fn land(&mut self, op: u64) -> u64 {
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= op);
        self.late = rest;
        let count = due.len() as u64;
        for (_, late) in due {
            self.apply(late);
        }
        count
    }

    fn apply(&mut self, late: Late) {
        match late {
            Late::Put(key, bytes) => {
                self.landed_late.insert(key.clone());
                self.objects.entry(key).or_insert(bytes);
            }
            Late::Delete(key) => drop(self.objects.remove(&key)),
        }
    }

    pub(crate) fn state_hash(&self) -> u64 {
        let object =
            |hash, (key, bytes): (&String, &Vec<u8>)| mix(mix(hash, hash64(key.as_bytes(), 3)), hash64(bytes, 4));
        self.objects.iter().fold(0, object)
    }
}

/// The archive of a simulated world; see the module. All handles are the same archive.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimArchive;

fn failed(op: RemoteOp, key: &str, what: &str) -> Error {
    let operation = match op {
        RemoteOp::Put => "put",
        RemoteOp::Head => "head",
        RemoteOp::Read => "read",
        RemoteOp::List => "list",
        RemoteOp::Delete => "delete",
    };
    AofError::RemoteStorage { operation, key: key.to_owned(), what: what.to_owned(), retryable: true }.into()
}

fn absent(key: &str) -> Error {
    Error::wrap(ErrorKind::NotFound, std::io::Error::other(format!("the archive has no object {key}")))
}

/// Runs an operation. `prepare` makes what is sent, `effect` has it done, told of the fault that it meets.
fn operate<S, T>(
    kind: RemoteOp,
    key: &str,
    prepare: impl FnOnce() -> Result<S>,
    effect: impl FnOnce(&mut ArchiveState, &S, Option<Fault>) -> Result<T>,
    late: impl FnOnce(S) -> Option<Late>,
) -> Result<T> {
    let (world, me) = match place() {
        Place::Outside | Place::Dying => return Err(failed(kind, key, "the process is gone")),
        Place::Body(world) => {
            let sent = prepare()?;
            return effect(&mut world.archive.borrow_mut(), &sent, None);
        }
        Place::Fiber(world, me) => (world, me),
    };
    world.switch_point(me);
    let crash = if matches!(kind, RemoteOp::Put | RemoteOp::Delete) {
        let faults = &mut world.core.borrow_mut().faults;
        let io = faults.ios;
        faults.ios += 1;
        faults.crash(io).map(|crash| (io, crash))
    } else {
        None
    };
    let sent = prepare()?;
    let (op, delay) = world.core.borrow_mut().faults.begin_remote();
    world.core.borrow_mut().trace_faults();
    if delay > 0 {
        world.block_for(me, delay, Reason::Archive);
    }
    world.land(op);
    let exists = world.archive.borrow().objects.contains_key(key);
    let fault = world.core.borrow_mut().faults.remote(op, kind, exists);
    world.core.borrow_mut().trace_faults();
    if let Some(Fault::RemoteLate { after }) = fault {
        if let Some(late) = late(sent) {
            world.archive.borrow_mut().late.push((op + 1 + after, late));
        }
        crash_if(&world, crash, |_| true);
        world.switch_point(me);
        return Err(failed(kind, key, "no answer"));
    }
    crash_if(&world, crash, |fault| matches!(fault, Fault::Crash { after: false, .. }));
    let result = match fault {
        Some(Fault::RemoteFail) => Err(failed(kind, key, "service unavailable")),
        _ => effect(&mut world.archive.borrow_mut(), &sent, fault),
    };
    let result = match fault {
        Some(Fault::RemoteLost) => Err(failed(kind, key, "connection reset")),
        _ => result,
    };
    let outcome = u64::from(result.is_ok());
    let place = mix(hash64(key.as_bytes(), 0), kind as u64);
    world.core.borrow_mut().event_named(Event::Remote, place, outcome, || {
        format!("{kind:?} {key}{}", result.as_ref().err().map_or_else(String::new, |error| format!(": {error}")))
    });
    crash_if(&world, crash, |_| true);
    world.switch_point(me);
    result
}

fn crash_if(world: &World, crash: Option<(u64, Fault)>, now: impl Fn(&Fault) -> bool) {
    if let Some((io, fault)) = crash.filter(|(_, fault)| now(fault)) {
        world.crash_now(At::Io(io), fault);
    }
}

/// Changes a few bytes, or cuts the end off.
fn damage(bytes: &mut Vec<u8>, salt: u64) {
    let mut salted = Salted::new(salt);
    if bytes.is_empty() || salted.below(4) == 0 {
        bytes.truncate(salted.below(bytes.len() as u64 + 1) as usize);
        bytes.pop();
        return;
    }
    let at = salted.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << salted.below(8);
}

impl World {
    /// Lets land what is due at operation `op` of the archive.
    fn land(&self, op: u64) {
        let landed = self.archive.borrow_mut().land(op);
        if landed > 0 {
            self.core.borrow_mut().event_named(Event::Remote, 0, landed, || format!("{landed} land late"));
        }
    }
}

impl SimArchive {
    /// Returns every object; from the body of a run.
    pub fn objects(self) -> BTreeMap<String, Vec<u8>> {
        self.with(|state| state.objects.clone())
    }

    /// Returns the objects of puts that were over for whoever sent them before they landed.
    pub fn landed_late(self) -> BTreeSet<String> {
        self.with(|state| state.landed_late.clone())
    }

    /// Lets everything land that is still under way.
    pub fn land_all(self) {
        self.with(|state| _ = state.land(u64::MAX));
    }

    /// Puts an object behind everybody's back, in place of what is there.
    pub fn plant(self, key: &str, bytes: Vec<u8>) {
        self.with(|state| drop(state.objects.insert(key.to_owned(), bytes)));
    }

    /// Takes an object away behind everybody's back.
    pub fn lose(self, key: &str) {
        self.with(|state| drop(state.objects.remove(key)));
    }

    /// Damages an object behind everybody's back.
    pub fn damage(self, key: &str, salt: u64) {
        self.with(|state| state.objects.get_mut(key).into_iter().for_each(|bytes| damage(bytes, salt)));
    }

    fn with<T>(self, body: impl FnOnce(&mut ArchiveState) -> T) -> T {
        let world = crate::world::current().expect("the archive is a part of a world");
        let mut state = world.archive.borrow_mut();
        body(&mut state)
    }
}

impl ArchiveStorage for SimArchive {
    fn put_new(&self, key: &str, source: &dyn ObjectSource) -> Result<PutOutcome> {
        let read = || {
            let mut bytes = vec![0; source.bytes() as usize];
            // In parts, as an upload does: the process may die between them.
            for (at, part) in bytes.chunks_mut(16 << 10).enumerate() {
                source.read_at(part, (at as u64) << 14)?;
            }
            Ok(bytes)
        };
        let put = |state: &mut ArchiveState, bytes: &Vec<u8>, fault: Option<Fault>| {
            if let Some(Fault::RemoteConflict { foreign, salt }) = fault {
                if foreign {
                    let mut other = bytes.clone();
                    damage(&mut other, salt);
                    state.objects.entry(key.to_owned()).or_insert(other);
                }
                return Ok(PutOutcome::Exists);
            }
            if state.objects.contains_key(key) {
                return Ok(PutOutcome::Exists);
            }
            let mut stored = bytes.clone();
            if let Some(Fault::RemoteDamaged { salt }) = fault {
                damage(&mut stored, salt);
            }
            state.objects.insert(key.to_owned(), stored);
            Ok(PutOutcome::Created)
        };
        operate(RemoteOp::Put, key, read, put, |bytes| Some(Late::Put(key.to_owned(), bytes)))
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        let head = |state: &mut ArchiveState, (): &(), fault: Option<Fault>| {
            state.meet(key, fault);
            Ok(state.objects.get(key).map(|bytes| bytes.len() as u64))
        };
        operate(RemoteOp::Head, key, || Ok(()), head, |()| None)
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let read = |state: &mut ArchiveState, (): &(), fault: Option<Fault>| {
            state.meet(key, fault);
            let bytes = state.objects.get(key).ok_or_else(|| absent(key))?;
            let part = bytes.get(range.start as usize..range.end as usize);
            part.map(<[u8]>::to_vec).ok_or_else(|| failed(RemoteOp::Read, key, "range not satisfiable"))
        };
        operate(RemoteOp::Read, key, || Ok(()), read, |()| None)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let list = |state: &mut ArchiveState, (): &(), _: Option<Fault>| {
            let matching = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
            Ok(matching.map(|(key, bytes)| ObjectInfo { key: key.clone(), bytes: bytes.len() as u64 }).collect())
        };
        operate(RemoteOp::List, prefix, || Ok(()), list, |()| None)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let delete = |state: &mut ArchiveState, (): &(), _: Option<Fault>| {
            state.objects.remove(key);
            Ok(())
        };
        operate(RemoteOp::Delete, key, || Ok(()), delete, |()| Some(Late::Delete(key.to_owned())))
    }
}

impl ArchiveState {
    /// What a fault does to an object for good.
    fn meet(&mut self, key: &str, fault: Option<Fault>) {
        match fault {
            Some(Fault::RemoteGone) => drop(self.objects.remove(key)),
            Some(Fault::RemoteRot { salt }) => {
                self.objects.get_mut(key).into_iter().for_each(|bytes| damage(bytes, salt));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exit, FaultEvent, FaultPlan, Harness, Schedule, WorldConfig, run};

    fn told(events: Vec<FaultEvent>, body: impl FnOnce(&mut Harness)) {
        let plan = FaultPlan::Explicit(events);
        let outcome = run(&WorldConfig { plan, schedule: Schedule::Calm, ..WorldConfig::calm(1) }, body);
        assert_eq!(outcome.violation, None);
    }

    fn put(key: &str, bytes: &[u8]) -> Result<PutOutcome> {
        SimArchive.put_new(key, &bytes)
    }

    #[test]
    fn objects_outlive_processes_and_are_never_replaced() {
        told(vec![FaultEvent::process_crash(1, true)], |harness| {
            let exit = harness.run_process(|_| {
                assert_eq!(put("a", b"one").unwrap(), PutOutcome::Created);
                put("b", b"two").unwrap();
                unreachable!("it died behind the second put");
            });
            assert_eq!(exit, Exit::Crashed { power: false });
            harness.run_process(|_| {
                assert_eq!(put("a", b"other").unwrap(), PutOutcome::Exists);
                assert_eq!(SimArchive.read("a", 0..3).unwrap(), b"one");
                assert_eq!(SimArchive.list("").unwrap().len(), 2);
                assert_eq!(*SimArchive.read("c", 0..1).unwrap_err().kind(), ErrorKind::NotFound);
                SimArchive.delete("a").unwrap();
                assert_eq!(SimArchive.head("a").unwrap(), None);
            });
        });
    }

    #[test]
    fn every_fault_has_its_effect() {
        let at = |op, fault| FaultEvent { at: At::Remote(op), fault };
        let plan = vec![
            at(0, Fault::RemoteFail),
            at(1, Fault::RemoteLost),
            at(2, Fault::RemoteLate { after: 1 }),
            at(3, Fault::RemoteConflict { foreign: false, salt: 0 }),
            at(5, Fault::RemoteDamaged { salt: 1 }),
            at(6, Fault::RemoteRot { salt: 1 }),
            at(7, Fault::RemoteGone),
        ];
        told(plan, |harness| {
            harness.run_process(|_| {
                put("failed", b"x").unwrap_err();
                put("lost", b"x").unwrap_err();
                put("late", b"x").unwrap_err();
                assert_eq!(put("conflict", b"x").unwrap(), PutOutcome::Exists);
                assert_eq!(SimArchive.head("late").unwrap(), Some(1), "it has landed by now");
                put("damaged", b"four").unwrap();
                assert_ne!(SimArchive.read("lost", 0..1).unwrap_or_default(), b"x");
                assert_eq!(SimArchive.head("late").unwrap(), None);
            });
            let objects = SimArchive.objects();
            assert_eq!(objects.keys().collect::<Vec<_>>(), ["damaged", "lost"]);
            assert_ne!(objects["damaged"], b"four");
        });
    }
}
