//! [`WriteBatch`]: operations that commit together, in one log record, or not at all.
//!
//! Built by the user on any thread and handed to [`Engine::write`](super::Engine::write), which copies its bytes into the
//! log as they are. Keys and values over the limits of [`crate::base::limits`] are noticed while building and refused by the
//! write, so that building never fails.

pub mod format;

use self::format::{Operation, Operations, RECORD_HEADER_BYTES, put_operation};
use crate::base::key::ValueKind;
use crate::base::limits::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::{Error, Result};
use crate::env::Env;
use crate::lsm::keyspace::Keyspace;
use crate::lsm::ranges::span_of;
use crate::lsm::tree::DEFAULT_KEYSPACE;
use crate::lsm::ttl;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

/// Puts, deletes, range deletes and merges that become visible and durable together.
///
/// Operations apply in the order they were added; the last one to a key wins.
///
/// ```
/// let mut batch = aidb::WriteBatch::new();
/// batch.put(b"apple", b"1");
/// batch.delete(b"pear");
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    operations: Vec<u8>,
    count: u32,
    refused: Option<Error>,
    /// The engine whose keyspaces it writes to, beside the default one, and their numbers.
    engine: Option<Arc<()>>,
    keyspaces: Vec<u32>,
    /// Numbers of the keyspaces in which it merges.
    merged: Vec<u32>,
    /// Where values that expire lie.
    expiring: Vec<usize>,
}

impl WriteBatch {
    /// Returns an empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Returns an empty batch with room for `bytes` of operations.
    pub fn with_capacity(bytes: usize) -> WriteBatch {
        WriteBatch { operations: Vec::with_capacity(bytes), ..WriteBatch::default() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(Operation { keyspace: 0, kind: ValueKind::Put, key: key.as_ref(), value: value.as_ref() });
    }

    /// Removes `key`, whether it exists or not.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.push(Operation { keyspace: 0, kind: ValueKind::Delete, key: key.as_ref(), value: &[] });
    }

    /// Sets `key` to `value` in `keyspace`.
    pub fn put_in<E: Env>(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.push_in(keyspace, Operation { keyspace: keyspace.id(), kind: ValueKind::Put, key, value });
    }

    /// Removes `key` in `keyspace`, whether it exists or not.
    pub fn delete_in<E: Env>(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.push_in(keyspace, Operation { keyspace: keyspace.id(), kind: ValueKind::Delete, key, value: &[] });
    }

    /// Sets `key` to `value` until `ttl` after the commit; see [`Engine::put_with_ttl`](super::Engine::put_with_ttl).
    pub fn put_with_ttl(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) {
        let value = ttl::format::encode(ttl, value.as_ref());
        let (keyspace, kind) = (DEFAULT_KEYSPACE, ValueKind::PutTtl);
        self.push(Operation { keyspace, kind, key: key.as_ref(), value: &value });
    }

    /// Sets `key` to `value` in `keyspace` until `ttl` after the commit.
    pub fn put_with_ttl_in<E: Env>(
        &mut self,
        keyspace: &Keyspace<E>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) {
        let value = ttl::format::encode(ttl, value.as_ref());
        let (key, kind) = (key.as_ref(), ValueKind::PutTtl);
        self.push_in(keyspace, Operation { keyspace: keyspace.id(), kind, key, value: &value });
    }

    /// Merges `operand` onto the value of `key`; see [`Engine::merge`](super::Engine::merge).
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), operand.as_ref());
        self.push(Operation { keyspace: DEFAULT_KEYSPACE, kind: ValueKind::Merge, key, value });
    }

    /// Merges `operand` onto the value of `key` in `keyspace`.
    pub fn merge_in<E: Env>(&mut self, keyspace: &Keyspace<E>, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), operand.as_ref());
        self.push_in(keyspace, Operation { keyspace: keyspace.id(), kind: ValueKind::Merge, key, value });
    }

    /// Removes every key in `range` with one operation, however many there are. A range without keys is none.
    ///
    /// ```
    /// let mut batch = aidb::WriteBatch::new();
    /// batch.delete_range("session/".."session0");
    /// batch.put("session/1", "written after, and so kept");
    /// # assert_eq!(batch.len(), 2);
    /// ```
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) {
        if let Some((begin, end)) = span_of(&range) {
            self.push(Operation { keyspace: 0, kind: ValueKind::RangeDelete, key: &begin, value: &end });
        }
    }

    /// Removes every key of `keyspace` in `range` with one operation; see [`delete_range`](WriteBatch::delete_range).
    pub fn delete_range_in<E: Env, K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace<E>, range: impl RangeBounds<K>) {
        if let Some((key, value)) = span_of(&range) {
            let (key, value) = (&key[..], &value[..]);
            self.push_in(keyspace, Operation { keyspace: keyspace.id(), kind: ValueKind::RangeDelete, key, value });
        }
    }

    fn push_in<E: Env>(&mut self, keyspace: &Keyspace<E>, operation: Operation<'_>) {
        self.join(keyspace.identity(), &[keyspace.id()]);
        self.push(operation);
    }

    /// Notes that operations go to `keyspaces` of `engine`; those of two engines cannot commit together.
    fn join(&mut self, engine: &Arc<()>, keyspaces: &[u32]) {
        if !Arc::ptr_eq(self.engine.get_or_insert_with(|| Arc::clone(engine)), engine) {
            let error = Error::invalid_argument("a batch with keyspaces of two engines");
            self.refused.get_or_insert(error);
            return;
        }
        for keyspace in keyspaces {
            if *keyspace != DEFAULT_KEYSPACE && !self.keyspaces.contains(keyspace) {
                self.keyspaces.push(*keyspace);
            }
        }
    }

    #[inline]
    fn push(&mut self, operation: Operation<'_>) {
        if !self.fits(&operation) {
            let error = self.over_limit(&operation);
            self.refused.get_or_insert(error);
            return;
        }
        if operation.kind == ValueKind::Merge && !self.merged.contains(&operation.keyspace) {
            self.merged.push(operation.keyspace);
        }
        put_operation(&mut self.operations, operation);
        if operation.kind == ValueKind::PutTtl {
            self.expiring.push(self.operations.len() - operation.value.len());
        }
        self.count += 1;
    }

    #[inline]
    fn fits(&self, operation: &Operation<'_>) -> bool {
        let bytes = operation.key.len() + operation.value.len() + OPERATION_OVERHEAD_BYTES_MAX;
        let value_max = if operation.kind == ValueKind::RangeDelete { KEY_BYTES_MAX } else { VALUE_BYTES_MAX };
        operation.key.len() <= KEY_BYTES_MAX
            && operation.value.len() <= value_max
            && bytes <= BYTES_MAX - self.operations.len()
            && self.len() < BATCH_OPERATIONS_MAX
    }

    #[cold]
    fn over_limit(&self, operation: &Operation<'_>) -> Error {
        let (key, value) = (operation.key.len(), operation.value.len());
        if operation.kind == ValueKind::RangeDelete && key.max(value) > KEY_BYTES_MAX {
            return Error::invalid_argument(format_args!(
                "a range from a key of {key} bytes to one of {value} bytes (at most {KEY_BYTES_MAX} each)"
            ));
        }
        Error::invalid_argument(format_args!(
            "a key of {key} bytes (at most {KEY_BYTES_MAX}) with a value of {value} bytes (at most {VALUE_BYTES_MAX}) \
             in a batch of {} bytes (at most {BYTES_MAX}) and {} operations (at most {BATCH_OPERATIONS_MAX})",
            self.operations.len(),
            self.count
        ))
    }

    /// Adds an operation on a keyspace of `engine` and returns where it lies; one over a limit is refused here.
    pub(super) fn try_push(&mut self, engine: &Arc<()>, operation: Operation<'_>) -> Result<usize> {
        if !self.fits(&operation) {
            return Err(self.over_limit(&operation));
        }
        self.join(engine, &[operation.keyspace]);
        let at = self.operations.len();
        self.push(operation);
        Ok(at)
    }

    /// Returns the operation that [`try_push`](Self::try_push) put at `at`.
    pub(super) fn operation_at(&self, at: usize) -> Operation<'_> {
        let operation = Operations::new(&self.operations[at..]).next().expect("an operation lies there");
        operation.expect("a batch holds what it encoded")
    }

    /// Takes the last operation, which lies at `at`, out again.
    pub(super) fn pop_at(&mut self, at: usize) {
        assert!(self.count > 0 && at < self.operations.len(), "no operation lies at {at}");
        self.operations.truncate(at);
        self.expiring.retain(|value| *value < at);
        self.count -= 1;
    }

    /// Fails if an operation was over a limit or is meant for another engine than `engine`.
    pub(super) fn check(&self, engine: &Arc<()>) -> Result<()> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        match &self.engine {
            Some(meant) if !Arc::ptr_eq(meant, engine) => {
                Err(Error::invalid_argument("a batch with keyspaces of another engine"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the numbers of the keyspaces it writes to, beside the default one.
    pub(super) fn keyspaces(&self) -> &[u32] {
        &self.keyspaces
    }

    /// Returns the numbers of the keyspaces in which it merges, and of some in which it did before that was taken out again.
    pub(super) fn merged(&self) -> &[u32] {
        &self.merged
    }

    /// Returns true if there are values that expire.
    pub(super) fn expires(&self) -> bool {
        !self.expiring.is_empty()
    }

    /// Lets values that expire do so, counted from `now`.
    pub(super) fn set_expiries(&mut self, now: u64) {
        for at in &self.expiring {
            ttl::format::set_expiry(&mut self.operations[*at..], now);
        }
    }

    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns true if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns how many bytes the operations take in the log.
    pub fn bytes(&self) -> usize {
        self.operations.len()
    }

    /// Removes every operation and keeps the memory.
    pub fn clear(&mut self) {
        self.operations.clear();
        self.count = 0;
        self.refused = None;
        self.engine = None;
        self.keyspaces.clear();
        self.merged.clear();
        self.expiring.clear();
    }

    /// Adds the operations of `other` after those of this batch.
    pub fn append(&mut self, other: &WriteBatch) {
        if let Some(engine) = &other.engine {
            self.join(engine, &other.keyspaces);
        }
        for operation in other.iter() {
            self.push(operation);
        }
        if let Some(error) = &other.refused {
            self.refused.get_or_insert_with(|| error.clone());
        }
    }

    /// Returns the operations in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = Operation<'_>> {
        Operations::new(&self.operations).map(|operation| operation.expect("a batch holds what it encoded"))
    }

    /// Returns the encoded operations.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.operations
    }
}

/// Most bytes of operations: a log record adds its header.
const BYTES_MAX: usize = BATCH_BYTES_MAX - RECORD_HEADER_BYTES;
/// Kind byte, number of the keyspace and two lengths.
const OPERATION_OVERHEAD_BYTES_MAX: usize = 1 + 5 + 3 + 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_in_order() {
        let mut batch = WriteBatch::new();
        batch.put("a", "1");
        batch.delete("b");
        batch.put("a", "2");
        let operations: Vec<_> = batch.iter().map(|op| (op.kind, op.key.to_vec(), op.value.to_vec())).collect();
        assert_eq!(operations.len(), batch.len());
        assert_eq!(operations[1], (ValueKind::Delete, b"b".to_vec(), vec![]));
        assert_eq!(operations[2], (ValueKind::Put, b"a".to_vec(), b"2".to_vec()));
        batch.clear();
        assert!(batch.is_empty() && batch.iter().next().is_none());
    }

    #[test]
    fn oversized_key_is_refused_by_check_until_cleared() {
        let mut batch = WriteBatch::new();
        batch.put(vec![0; KEY_BYTES_MAX + 1], "v");
        assert_eq!(batch.check(&Arc::default()).unwrap_err().kind(), &crate::ErrorKind::InvalidArgument);
        batch.clear();
        batch.check(&Arc::default()).unwrap();
        batch.put(vec![0; KEY_BYTES_MAX], "v");
        batch.check(&Arc::default()).unwrap();
    }

    #[test]
    fn a_range_without_keys_is_no_operation_and_a_key_over_its_limit_is_refused() {
        let mut batch = WriteBatch::new();
        batch.delete_range("b".."a");
        batch.delete_range("a".."a");
        assert!(batch.is_empty());
        batch.delete_range(vec![b'a'; KEY_BYTES_MAX]..=vec![b'b'; KEY_BYTES_MAX]);
        batch.check(&Arc::default()).unwrap();
        batch.delete_range(..vec![b'b'; KEY_BYTES_MAX + 1]);
        assert_eq!(batch.check(&Arc::default()).unwrap_err().kind(), &crate::ErrorKind::InvalidArgument);
    }

    #[test]
    fn one_operation_too_many_is_refused_by_check() {
        let mut batch = WriteBatch { count: BATCH_OPERATIONS_MAX as u32 - 1, ..WriteBatch::new() };
        batch.delete("last");
        batch.check(&Arc::default()).unwrap();
        batch.delete("more");
        let error = batch.check(&Arc::default()).unwrap_err();
        assert!(error.to_string().contains("67108864 operations (at most 67108864)"), "{error}");
    }
}
