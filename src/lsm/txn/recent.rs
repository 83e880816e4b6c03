//! [`Recent`]: the keys of the newest commits, so that the leader need not look for them in memtables and tables.
//!
//! Written and read by the commit leader, and only while transactions are between their two checks ([`Checking`]): a commit
//! that nobody checks against costs nothing.
//!
//! - It holds every operation after a sequence number, in their order; how far back that is says it itself. Who needs more
//!   looks at the data.

use crate::base::key::{SeqNum, ValueKind};
use crate::lsm::batch::format::Operation;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of keys, roughly, beyond which the oldest are forgotten.
const BYTES_MAX: usize = 256 << 10;
/// Bytes that an operation takes beside its key, roughly.
const OPERATION_BYTES: usize = 64;

/// One operation that was committed.
struct Written {
    seq: SeqNum,
    keyspace: u32,
    key: Vec<u8>,
    /// Where a range delete ends.
    end: Option<Vec<u8>>,
}

impl Written {
    fn touched(&self) -> Touched<'_> {
        Touched { keyspace: self.keyspace, key: &self.key, end: self.end.as_deref() }
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.end.as_ref().map_or(0, Vec::len) + OPERATION_BYTES
    }
}

/// The keys that an operation writes: one, or those to below `end`, to the last if that is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touched<'a> {
    pub(super) keyspace: u32,
    pub(super) key: &'a [u8],
    pub(super) end: Option<&'a [u8]>,
}

impl<'a> Touched<'a> {
    pub(super) fn by(operation: &Operation<'a>) -> Touched<'a> {
        let end = (operation.kind == ValueKind::RangeDelete).then_some(operation.value);
        Touched { keyspace: operation.keyspace, key: operation.key, end }
    }
}

/// The newest operations.
pub(in crate::lsm) struct Recent {
    /// Every later operation is here.
    after: SeqNum,
    operations: VecDeque<Written>,
    bytes: usize,
}

impl Recent {
    /// Knows nothing of what was committed up to `last`.
    pub(in crate::lsm) fn new(last: SeqNum) -> Recent {
        Recent { after: last, operations: VecDeque::new(), bytes: 0 }
    }

    /// Forgets everything up to `last`, the newest operation.
    #[inline]
    pub(in crate::lsm) fn forget(&mut self, last: SeqNum) {
        self.after = last;
        if self.bytes > 0 {
            self.operations.clear();
            self.bytes = 0;
        }
    }

    /// Adds the operations that follow `before`, the newest one so far.
    pub(in crate::lsm) fn note<'a>(&mut self, before: SeqNum, operations: impl Iterator<Item = Operation<'a>>) {
        let newest = self.operations.back().map_or(self.after, |newest| newest.seq);
        assert_eq!(newest, before, "operations are noted in their order, none left out");
        let mut seq = before;
        for operation in operations {
            seq.0 += 1;
            let Touched { keyspace, key, end } = Touched::by(&operation);
            let written = Written { seq, keyspace, key: key.to_vec(), end: end.map(<[u8]>::to_vec) };
            self.bytes += written.bytes();
            self.operations.push_back(written);
            while self.bytes > BYTES_MAX {
                let Some(oldest) = self.operations.pop_front() else { break };
                self.bytes -= oldest.bytes();
                self.after = oldest.seq;
            }
        }
    }

    /// Returns what every operation after `seq` writes; `None` if some of them are not here.
    pub(super) fn since(&self, seq: SeqNum) -> Option<impl Iterator<Item = Touched<'_>>> {
        if seq < self.after {
            return None;
        }
        let from = self.operations.partition_point(|written| written.seq <= seq);
        Some(self.operations.range(from..).map(Written::touched))
    }
}

/// Held by a transaction from before its first check until its commit is visible or refused.
pub(super) struct Checking<'a>(&'a AtomicU64);

impl<'a> Checking<'a> {
    pub(super) fn begin(count: &'a AtomicU64) -> Checking<'a> {
        count.fetch_add(1, Ordering::AcqRel);
        Checking(count)
    }
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(recent: &mut Recent, before: u64, keys: &[&[u8]]) {
        let operation = |key| Operation { keyspace: 3, kind: ValueKind::Delete, key, value: &[] };
        recent.note(SeqNum(before), keys.iter().map(|key| operation(*key)));
    }

    fn since(recent: &Recent, seq: u64) -> Option<Vec<Vec<u8>>> {
        recent.since(SeqNum(seq)).map(|written| written.map(|written| written.key.to_vec()).collect())
    }

    #[test]
    fn it_says_how_far_back_it_goes() {
        let mut recent = Recent::new(SeqNum(10));
        assert_eq!((since(&recent, 9), since(&recent, 10)), (None, Some(vec![])));
        note(&mut recent, 10, &[b"a", b"b"]);
        note(&mut recent, 12, &[b"c"]);
        assert_eq!(since(&recent, 9), None);
        assert_eq!(since(&recent, 11), Some(vec![b"b".to_vec(), b"c".to_vec()]));
        assert_eq!(since(&recent, 13), Some(vec![]));
        recent.forget(SeqNum(20));
        assert_eq!((since(&recent, 13), since(&recent, 20)), (None, Some(vec![])));
        note(&mut recent, 20, &[b"d"]);
        assert_eq!(since(&recent, 20), Some(vec![b"d".to_vec()]));
    }

    #[test]
    fn the_oldest_give_way() {
        let mut recent = Recent::new(SeqNum(0));
        let long = vec![7; 1000];
        for before in 0..1000 {
            note(&mut recent, before, &[&long]);
        }
        assert!(recent.bytes <= BYTES_MAX && since(&recent, 100).is_none());
        assert_eq!(since(&recent, 990).unwrap().len(), 10);
    }
}
