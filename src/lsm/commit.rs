//! Commit: how batches become visible and durable.
//!
//! Called by writers on their own threads; there is no writer thread.
//!
//! One writer at a time leads. It takes the batches that wait behind its own, gives them sequence numbers, appends one log
//! record for all of them, inserts them into the memtable, publishes the last sequence number, hands leadership to the
//! next in the queue and wakes its group. Then each writer that asked for it waits for the log to be synced, outside every
//! lock, so that one sync serves all who wait.
//!
//! - Sequence numbers, log order and memtable order are the same order.
//! - A reader sees all of a group or nothing: the visible number changes once, after the last insert.
//! - Only the leader inserts and switches memtables; a group lies in one memtable, however large.
//! - An append that the log refuses because the device is full fails its group and changes nothing. Any other failed append
//!   poisons the engine: the log's end is unknown, and a later record would lie behind a hole.
//!
//! A full memtable is switched before the next group. That waits while the full ones are too many or level 0 is too deep;
//! long before, each group sleeps in proportion to its bytes and the debt, 10 ms at most, without looking at a clock.

use super::batch::WriteBatch;
use super::batch::format::{RECORD_HEADER_BYTES, record_header};
use super::db::CommitInfo;
use super::memtable::{Memtable, SkipList};
use super::options::Durability;
use super::state::{Core, State, slow_rate};
use super::version::Immutable;
use crate::aof::{Append, FrameKind, Lsn};
use crate::base::key::{SeqNum, Tag};
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Condvar, Env, EnvCondvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of a group at which the leader stops taking more batches.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Shortest sleep that is worth it; smaller debts add up first.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// Longest sleep of one group.
const DELAY_MAX: Duration = Duration::from_millis(10);

/// Writers waiting for the one that leads.
pub(super) struct Queue<E: Env> {
    leading: bool,
    waiting: VecDeque<Arc<Waiter<E>>>,
}

impl<E: Env> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue { leading: false, waiting: VecDeque::new() }
    }
}

/// One writer in the queue.
struct Waiter<E: Env> {
    /// `None` asks to lead alone.
    batch: Option<WriteBatch>,
    durability: Durability,
    turn: Mutex<E, Turn>,
    wake: Condvar<E>,
}

enum Turn {
    Waiting,
    Lead,
    Done(Result<CommitInfo>),
}

impl<E: Env> Waiter<E> {
    fn set(&self, turn: Turn) {
        *self.turn.lock() = turn;
        self.wake.notify_one();
    }

    /// Blocks until this writer leads (`None`) or its batch was committed by another.
    fn wait(&self) -> Option<Result<CommitInfo>> {
        let mut turn = self.turn.lock();
        loop {
            match &*turn {
                Turn::Waiting => self.wake.wait(&mut turn),
                Turn::Lead => return None,
                Turn::Done(result) => return Some(result.clone()),
            }
        }
    }
}

/// What only the leader touches.
pub(super) struct Leader {
    pub(super) memtable: Arc<SkipList>,
    pub(super) last_seq: SeqNum,
    /// Bytes written since the last sleep while slowed down.
    pub(super) unpaid_bytes: u64,
}

impl<E: Env> Core<E> {
    /// Commits `batch` and returns once it has travelled as far as `durability` says.
    pub(super) fn commit(&self, batch: WriteBatch, durability: Durability) -> Result<CommitInfo> {
        batch.check()?;
        self.check_running()?;
        if batch.is_empty() {
            self.persist(durability)?;
            return Ok(CommitInfo { seq: self.visible(), lsn: self.log.end() });
        }
        let mut queue = self.queue.lock();
        let result = if queue.leading {
            let waiter = enqueue(&mut queue, Some(batch), durability);
            drop(queue);
            match waiter.wait() {
                Some(result) => result,
                None => self.lead(waiter.batch.as_ref().expect("it came with a batch"), durability),
            }
        } else {
            queue.leading = true;
            drop(queue);
            self.lead(&batch, durability)
        };
        if durability == Durability::Sync
            && let Ok(info) = &result
        {
            self.env.reached("lsm.commit_sync");
            self.wal(self.log.sync_to(info.lsn))?;
        }
        result
    }

    /// Makes everything committed so far as durable as asked.
    pub(super) fn persist(&self, durability: Durability) -> Result<()> {
        self.check_running()?;
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Os => self.wal(self.log.write_out()),
            Durability::Sync => self.wal(self.log.sync_to(self.log.end())),
        }
    }

    /// Runs `action` as a leader without a group.
    pub(super) fn lead_alone<T>(&self, action: impl FnOnce(&mut Leader) -> T) -> T {
        let mut queue = self.queue.lock();
        if queue.leading {
            let waiter = enqueue(&mut queue, None, Durability::Buffered);
            drop(queue);
            assert!(waiter.wait().is_none(), "a writer without a batch joined a group");
        } else {
            queue.leading = true;
            drop(queue);
        }
        let result = action(&mut self.leader.lock());
        self.step_down();
        result
    }

    /// Commits a group that begins with `own`.
    fn lead(&self, own: &WriteBatch, durability: Durability) -> Result<CommitInfo> {
        let mut leader = self.leader.lock();
        let ready = self.make_room(&mut leader, own.bytes());
        // Taken after waiting for room, when most writers have joined.
        let group = self.gather(own.bytes());
        let committed = ready.and_then(|()| self.commit_group(&mut leader, own, durability, &group));
        drop(leader);
        self.step_down();
        let (mut seq, lsn) = match committed {
            Ok((before, lsn)) => (before, lsn),
            Err(error) => {
                group.iter().for_each(|waiter| waiter.set(Turn::Done(Err(error.clone()))));
                return Err(error);
            }
        };
        let mut info = |batch: &WriteBatch| {
            seq.0 += batch.len() as u64;
            CommitInfo { seq, lsn }
        };
        let own_info = info(own);
        for waiter in &group {
            let done = info(waiter.batch.as_ref().expect("a group is of batches"));
            waiter.set(Turn::Done(Ok(done)));
        }
        Ok(own_info)
    }

    /// Takes the batches that go with one of `bytes`.
    fn gather(&self, mut bytes: usize) -> Vec<Arc<Waiter<E>>> {
        let mut group = Vec::new();
        let mut queue = self.queue.lock();
        while let Some(Some(batch)) = queue.waiting.front().map(|waiter| waiter.batch.as_ref()) {
            bytes = bytes.saturating_add(batch.bytes());
            if bytes > GROUP_BYTES_MAX {
                break;
            }
            group.extend(queue.waiting.pop_front());
        }
        group
    }

    fn step_down(&self) {
        let mut queue = self.queue.lock();
        match queue.waiting.pop_front() {
            Some(next) => {
                drop(queue);
                next.set(Turn::Lead);
            }
            None => queue.leading = false,
        }
    }

    /// Returns the sequence number before the group, and the end of its log record.
    fn commit_group(
        &self,
        leader: &mut Leader,
        own: &WriteBatch,
        durability: Durability,
        group: &[Arc<Waiter<E>>],
    ) -> Result<(SeqNum, Lsn)> {
        let batches = || std::iter::once(own).chain(group.iter().filter_map(|waiter| waiter.batch.as_ref()));
        let operations: u64 = batches().map(|batch| batch.len() as u64).sum();
        let bytes: u64 = batches().map(|batch| batch.bytes() as u64).sum();
        let before = leader.last_seq;
        let first = SeqNum(before.0 + 1);
        if before.0 + operations >= SeqNum::MAX.0 {
            return Err(Error::invalid_argument("sequence numbers are used up"));
        }
        let lsn = self.append_record(first, operations, own, group)?;
        let os = durability == Durability::Os || group.iter().any(|waiter| waiter.durability == Durability::Os);
        if os {
            self.wal(self.log.write_out())?;
        }
        let early = self.env.planted("visible_before_batch_complete");
        if early {
            self.visible.store(before.0 + operations, Ordering::Release);
        }
        let mut seq = before;
        for operation in batches().flat_map(WriteBatch::iter) {
            seq.0 += 1;
            leader.memtable.insert(operation.key, Tag::new(seq, operation.kind), operation.value);
            self.env.yield_point();
        }
        assert_eq!(seq.0, before.0 + operations, "every operation of the group has its number");
        leader.last_seq = seq;
        self.visible.store(seq.0, Ordering::Release);
        leader.unpaid_bytes += bytes;
        self.counters.write_groups.add(1);
        self.counters.write_batches.add(1 + group.len() as u64);
        self.counters.write_operations.add(operations);
        self.counters.write_bytes.add(bytes);
        if !group.is_empty() {
            self.env.reached("lsm.commit_group");
        }
        Ok((before, lsn))
    }

    fn append_record(&self, first: SeqNum, operations: u64, own: &WriteBatch, group: &[Arc<Waiter<E>>]) -> Result<Lsn> {
        let count = u32::try_from(operations).expect("an operation takes two bytes, and a group has less than 4 GiB");
        let header = record_header(first, count);
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let append = |parts: &[&[u8]]| {
            let append = Append { kind: FrameKind::Data, count, first_id: Some(first.0), tag: 0, parts };
            self.log.append(&append).map(|appended| appended.end)
        };
        self.wal_append(if group.is_empty() {
            append(&[&header, own.encoded()])
        } else {
            let mut parts: Vec<&[u8]> = vec![&header, own.encoded()];
            parts.extend(group.iter().filter_map(|waiter| waiter.batch.as_ref()).map(WriteBatch::encoded));
            append(&parts)
        })
    }

    /// Slows down, and switches the memtable if it is full.
    fn make_room(&self, leader: &mut Leader, bytes: usize) -> Result<()> {
        self.check_running()?;
        assert!(bytes <= BATCH_BYTES_MAX - RECORD_HEADER_BYTES, "a batch over its limit was let through");
        self.slow_down(leader);
        if leader.memtable.bytes() >= self.options.memtable_bytes {
            self.switch_memtable(leader)?;
        }
        Ok(())
    }

    fn slow_down(&self, leader: &mut Leader) {
        let mut rate = self.pressure.bytes_per_second.load(Ordering::Relaxed);
        if self.pressure.last_memtable.load(Ordering::Relaxed) {
            let full = leader.memtable.bytes() as f64 / self.options.memtable_bytes as f64;
            match slow_rate(2.0 * full - 1.0) {
                0 => {}
                by_memtable => rate = if rate == 0 { by_memtable } else { rate.min(by_memtable) },
            }
        }
        if rate == 0 {
            leader.unpaid_bytes = 0;
            return;
        }
        let nanos = u128::from(leader.unpaid_bytes) * 1_000_000_000 / u128::from(rate);
        let delay = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(DELAY_MAX);
        if delay >= DELAY_MIN {
            leader.unpaid_bytes = 0;
            self.env.reached("lsm.write_delay");
            self.counters.stall_delays.add(1);
            self.counters.stall_delay_nanos.add(delay.as_nanos() as u64);
            self.env.sleep(delay);
        }
    }

    /// Puts an empty memtable in the place of the leader's, once there is room for another full one.
    pub(super) fn switch_memtable(&self, leader: &mut Leader) -> Result<()> {
        assert!(!leader.memtable.is_empty(), "an empty memtable is never switched");
        let mut state = self.state.lock();
        if !self.has_room(&state) {
            state = self.wait_for_room(state)?;
        }
        let memtable = Arc::new(SkipList::with_filter(self.options.memtable_bytes));
        let full = std::mem::replace(&mut leader.memtable, Arc::clone(&memtable));
        assert!(Arc::ptr_eq(&full, &state.memtable), "the leader writes the memtable that readers see");
        let full = Immutable { memtable: full, wal_end: self.log.end(), last_seq: leader.last_seq };
        assert!(state.immutables.back().is_none_or(|before| before.wal_end <= full.wal_end), "log positions grow");
        state.immutables.push_back(Arc::new(full));
        state.memtable = memtable;
        self.publish(&state);
        self.work.notify_all();
        Ok(())
    }

    fn has_room(&self, state: &State<E>) -> bool {
        state.immutables.len() < self.options.immutable_memtables_max
            && state.version.levels()[0].len() < self.options.l0_stall_files
    }

    #[cold]
    fn wait_for_room<'a>(&'a self, mut state: MutexGuard<'a, E, State<E>>) -> Result<MutexGuard<'a, E, State<E>>> {
        self.env.reached("lsm.write_stop");
        self.counters.stall_stops.add(1);
        let begun = self.env.now();
        // What failed before says nothing about now: it is tried once more for this writer.
        state.flush_error = None;
        if state.compaction_error.as_ref().is_some_and(|error| !error.is_corruption()) {
            state.compaction_error = None;
        }
        self.work.notify_all();
        let result = loop {
            if self.has_room(&state) {
                break Ok(());
            }
            if let Err(error) = self.check_open() {
                break Err(error);
            }
            let flushes_stuck = state.immutables.len() >= self.options.immutable_memtables_max;
            let failed = if flushes_stuck { &state.flush_error } else { &state.compaction_error };
            if let Some(error) = state.poisoned.as_ref().or(failed.as_ref()) {
                break Err(error.clone());
            }
            self.progress.wait(&mut state);
        };
        self.counters.stall_stop_nanos.add(self.env.now().since(begun).as_nanos() as u64);
        result.map(|()| state)
    }
}

fn enqueue<E: Env>(queue: &mut Queue<E>, batch: Option<WriteBatch>, durability: Durability) -> Arc<Waiter<E>> {
    let (turn, wake) = (Mutex::<E, _>::new(Turn::Waiting), Condvar::<E>::default());
    let waiter = Arc::new(Waiter { batch, durability, turn, wake });
    queue.waiting.push_back(Arc::clone(&waiter));
    waiter
}
