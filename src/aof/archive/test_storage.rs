//! An archive in memory with scripted faults, for the tests of the lifecycle.

use super::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use crate::aof::AofError;
use crate::base::{Error, Result};
use crate::env::{Mutex, StdEnv};
use std::collections::BTreeMap;
use std::ops::Range;

/// What befalls an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing is done, and an error returned.
    Refused,
    /// It is done, and an error returned.
    ReplyLost,
    /// An error is returned; it is done after so many more operations.
    Late(u64),
    /// A put says that there is such an object already; there is none.
    ExistsNot,
    /// A put says that there is such an object already; there is, with other bytes.
    ExistsOther,
    /// A put changes a byte on the way.
    Damaged,
    /// A put says that it created the object, and did not.
    Forgotten,
}

enum Change {
    Put(String, Vec<u8>),
    Delete(String),
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    mishaps: BTreeMap<u64, Mishap>,
    late: Vec<(u64, Change)>,
    operations: u64,
    reads: u64,
}

impl State {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(key, bytes) => drop(self.objects.entry(key).or_insert(bytes)),
            Change::Delete(key) => drop(self.objects.remove(&key)),
        }
    }

    fn begin(&mut self) -> Option<Mishap> {
        let now = self.operations;
        self.operations += 1;
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = rest;
        let due: Vec<(u64, Change)> = due;
        due.into_iter().for_each(|(_, change)| self.apply(change));
        self.mishaps.remove(&now)
    }
}

/// The objects; they outlive any crash.
#[derive(Default)]
pub(crate) struct TestStorage(Mutex<StdEnv, State>);

impl std::fmt::Debug for TestStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestStorage")
    }
}

impl TestStorage {
    /// Lets `mishap` befall the operation `at` from now.
    pub(crate) fn script(&self, at: u64, mishap: Mishap) {
        let mut state = self.0.lock();
        let operation = state.operations + at;
        state.mishaps.insert(operation, mishap);
    }

    /// Lets `mishap` befall the next `count` operations.
    pub(crate) fn script_all(&self, count: u64, mishap: Mishap) {
        (0..count).for_each(|at| self.script(at, mishap));
    }

    /// Lets nothing more happen but what is under way.
    pub(crate) fn calm(&self) {
        self.0.lock().mishaps.clear();
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.lock().objects.keys().cloned().collect()
    }

    pub(crate) fn reads(&self) -> u64 {
        self.0.lock().reads
    }

    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Changes objects behind the log's back.
    pub(crate) fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        change(&mut self.0.lock().objects);
    }
}

fn failed(operation: &'static str, key: &str) -> Error {
    AofError::RemoteStorage { operation, key: key.into(), what: "scripted".into(), retryable: true }.into()
}

impl ArchiveStorage for TestStorage {
    fn put_new(&self, key: &str, source: &dyn ObjectSource) -> Result<PutOutcome> {
        let mut bytes = vec![0; source.bytes() as usize];
        source.read_at(&mut bytes, 0)?;
        let mut state = self.0.lock();
        let mishap = state.begin();
        if state.objects.contains_key(key) {
            return Ok(PutOutcome::Exists);
        }
        let put = Change::Put(key.into(), bytes);
        match (mishap, put) {
            (None, put) => state.apply(put),
            (Some(Mishap::Refused), _) => return Err(failed("put", key)),
            (Some(Mishap::ReplyLost), put) => {
                state.apply(put);
                return Err(failed("put", key));
            }
            (Some(Mishap::Late(after)), put) => {
                let at = state.operations + after;
                state.late.push((at, put));
                return Err(failed("put", key));
            }
            (Some(Mishap::ExistsNot), _) => return Ok(PutOutcome::Exists),
            (Some(Mishap::ExistsOther), _) => {
                state.apply(Change::Put(key.into(), b"other".to_vec()));
                return Ok(PutOutcome::Exists);
            }
            (Some(Mishap::Damaged), Change::Put(key, mut bytes)) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x20;
                state.apply(Change::Put(key, bytes));
            }
            (Some(_), _) => {}
        }
        Ok(PutOutcome::Created)
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        let mut state = self.0.lock();
        match state.begin() {
            Some(_) => Err(failed("head", key)),
            None => Ok(state.objects.get(key).map(|bytes| bytes.len() as u64)),
        }
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let mut state = self.0.lock();
        state.reads += 1;
        if state.begin().is_some() {
            return Err(failed("read", key));
        }
        let object = state.objects.get(key).ok_or_else(|| Error::not_found(format_args!("no object {key}")))?;
        let part = object.get(range.start as usize..range.end as usize);
        part.map(<[u8]>::to_vec).ok_or_else(|| failed("read", key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut state = self.0.lock();
        if state.begin().is_some() {
            return Err(failed("list", prefix));
        }
        let found = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, bytes)| ObjectInfo { key: key.clone(), bytes: bytes.len() as u64 }).collect())
    }

    fn delete(&self, key: &str) -> Result<()> {
        let mut state = self.0.lock();
        let delete = Change::Delete(key.into());
        match state.begin() {
            None => state.apply(delete),
            Some(Mishap::ReplyLost) => {
                state.apply(delete);
                return Err(failed("delete", key));
            }
            Some(Mishap::Late(after)) => {
                let at = state.operations + after;
                state.late.push((at, delete));
                return Err(failed("delete", key));
            }
            Some(_) => return Err(failed("delete", key)),
        }
        Ok(())
    }
}
