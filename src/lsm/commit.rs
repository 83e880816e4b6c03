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
//! - Only the leader inserts and switches memtables; what a group brings to a keyspace lies in one memtable, however large.
//! - A commit may come with a check of what it depends on. It holds under the leader's lock, with what its group commits
//!   before it, or the commit is left out: nothing of it is written.
//! - An append that the log refuses because the device is full fails its group and changes nothing. Any other failed append
//!   poisons the engine: the log's end is unknown, and a later record would lie behind a hole.
//!
//! A full memtable, and one of any keyspace that holds back too much of the log, is switched before the next group. That
//! waits while the full ones are too many or level 0 is too deep; long before, each group sleeps in proportion to its bytes
//! and the debt, 10 ms at most, without looking at a clock.

use super::batch::WriteBatch;
use super::batch::format::{Operation, RECORD_HEADER_BYTES, record_header};
use super::db::CommitInfo;
use super::manifest::format::{TreeEdit, VersionEdit};
use super::options::Durability;
use super::state::{Core, State, slow_rate};
use super::tree::{Growing, Position, Tree, TreeState};
use super::txn::{Check, Recent};
use crate::aof::{Append, FrameKind, Lsn};
use crate::base::key::{SeqNum, Tag};
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Condvar, Env, EnvCondvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of a group at which the leader stops taking more batches.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Shortest sleep that is worth it; smaller debts add up first.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// Longest sleep of one group.
const DELAY_MAX: Duration = Duration::from_millis(10);
/// Bytes between two calls of the log's thread.
const LOG_TELL_BYTES: u64 = 1 << 20;

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

/// What a writer brings.
pub(super) struct Commit<E: Env> {
    pub(super) batch: WriteBatch,
    pub(super) durability: Durability,
    /// What has to be true for it.
    pub(super) check: Option<Box<Check<E>>>,
}

/// One writer in the queue.
struct Waiter<E: Env> {
    /// `None` asks to lead alone.
    commit: Option<Commit<E>>,
    turn: Mutex<E, Turn>,
    wake: Condvar<E>,
}

enum Turn {
    Waiting,
    Lead,
    Done(Result<CommitInfo>),
}

impl<E: Env> Waiter<E> {
    fn batch(&self) -> Option<&WriteBatch> {
        self.commit.as_ref().map(|commit| &commit.batch)
    }

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
pub(super) struct Leader<E: Env> {
    pub(super) trees: BTreeMap<u32, Writing<E>>,
    /// Keyspaces whose memtable is to be switched.
    pub(super) full: Vec<u32>,
    pub(super) last_seq: SeqNum,
    pub(super) recent: Recent,
    /// Bytes written since the last sleep while slowed down.
    pub(super) unpaid_bytes: u64,
    /// Up to where the log's thread was told of the log.
    pub(super) told: Lsn,
}

/// The memtable of a keyspace, as the leader writes it.
pub(super) struct Writing<E: Env> {
    pub(super) tree: Arc<Tree<E>>,
    pub(super) memtable: Growing,
    /// Bytes at which it is full.
    pub(super) bytes_max: usize,
}

impl<E: Env> Writing<E> {
    pub(super) fn new(state: &TreeState<E>) -> Writing<E> {
        let bytes_max = state.tree.options().memtable_bytes;
        Writing { tree: Arc::clone(&state.tree), memtable: state.memtable.clone(), bytes_max }
    }

    fn is_full(&self) -> bool {
        self.memtable.entries.bytes() >= self.bytes_max
    }
}

impl<E: Env> Leader<E> {
    /// Fails if a keyspace that `batch` writes to is not there any more, or does not merge.
    fn check(&self, batch: &WriteBatch) -> Result<()> {
        if !batch.keyspaces().iter().all(|keyspace| self.trees.contains_key(keyspace)) {
            return Err(Error::invalid_argument("the batch writes to a keyspace that was dropped"));
        }
        self.merged(batch).try_for_each(|tree| tree.check_merges())
    }

    /// Returns the keyspaces in which `batch` merges.
    fn merged<'a>(&'a self, batch: &'a WriteBatch) -> impl Iterator<Item = &'a Arc<Tree<E>>> {
        batch.merged().iter().filter_map(|keyspace| self.trees.get(keyspace)).map(|writing| &writing.tree)
    }
}

impl<E: Env> Core<E> {
    /// Commits and returns once the batch has travelled as far as it should.
    pub(super) fn commit(&self, commit: Commit<E>) -> Result<CommitInfo> {
        let durability = commit.durability;
        if commit.batch.is_empty() {
            commit.batch.check(&self.identity)?;
            self.persist(durability)?;
            return Ok(CommitInfo { seq: self.visible(), lsn: self.log.end() });
        }
        let info = self.make_visible(commit)?;
        self.make_durable(info, durability)?;
        Ok(info)
    }

    /// Commits a batch that is not empty, and returns once every reader sees it.
    pub(super) fn make_visible(&self, mut commit: Commit<E>) -> Result<CommitInfo> {
        commit.batch.check(&self.identity)?;
        self.check_running()?;
        if commit.batch.expires() {
            self.clock.start();
            commit.batch.set_expiries(self.clock.now(&self.env));
        }
        let mut queue = self.queue.lock();
        if queue.leading {
            let waiter = enqueue(&mut queue, Some(commit));
            drop(queue);
            match waiter.wait() {
                Some(result) => result,
                None => self.lead(waiter.commit.as_ref().expect("it came with a batch")),
            }
        } else {
            queue.leading = true;
            drop(queue);
            self.lead(&commit)
        }
    }

    /// Waits for a commit to be synced, if that is asked for; all else has happened with its group.
    pub(super) fn make_durable(&self, info: CommitInfo, durability: Durability) -> Result<()> {
        if durability != Durability::Sync {
            return Ok(());
        }
        self.env.reached("lsm.commit_sync");
        self.wal(self.log.sync_to(info.lsn))
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
    pub(super) fn lead_alone<T>(&self, action: impl FnOnce(&mut Leader<E>) -> T) -> T {
        let mut queue = self.queue.lock();
        if queue.leading {
            let waiter = enqueue(&mut queue, None);
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
    fn lead(&self, own: &Commit<E>) -> Result<CommitInfo> {
        let mut leader = self.leader.lock();
        let check = own.check.as_ref().map_or(Ok(()), |check| check.run_last(self, &leader.recent));
        let checked = leader.check(&own.batch).and(check);
        if let Err(error) = checked.and_then(|()| self.note_operators(&leader, &own.batch)) {
            drop(leader);
            self.step_down();
            return Err(error);
        }
        let ready = self.make_room(&mut leader, own.batch.bytes());
        // Taken after waiting for room, when most writers have joined.
        let group = self.gather(&leader, own.batch.bytes());
        let group = self.admit(&leader, own, group);
        let committed = ready.and_then(|()| self.commit_group(&mut leader, own, &group));
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
        let own_info = info(&own.batch);
        for waiter in &group {
            let done = info(waiter.batch().expect("a group is of batches"));
            waiter.set(Turn::Done(Ok(done)));
        }
        Ok(own_info)
    }

    /// Makes durable for which operator `batch` merges, in keyspaces where it is the first to do so.
    fn note_operators(&self, leader: &Leader<E>, batch: &WriteBatch) -> Result<()> {
        for tree in leader.merged(batch).filter(|tree| tree.merged_by().is_none()) {
            let options = tree.options();
            let name = options.merge_operator.as_ref().expect("the leader checked the batch").name();
            self.check_running()?;
            let edit = TreeEdit { keyspace: tree.id, merge_operator: Some(name.to_owned()), ..TreeEdit::default() };
            let edit = VersionEdit { trees: vec![edit], ..VersionEdit::default() };
            self.commit_edit(&mut self.manifest.lock(), &edit, |_| tree.set_merged_by(name))?;
        }
        Ok(())
    }

    /// Takes the batches that go with one of `bytes`; one that is to be refused, or that needs the MANIFEST, is left to lead.
    fn gather(&self, leader: &Leader<E>, mut bytes: usize) -> Vec<Arc<Waiter<E>>> {
        let mut group = Vec::new();
        let mut queue = self.queue.lock();
        while let Some(Some(batch)) = queue.waiting.front().map(|waiter| waiter.batch()) {
            bytes = bytes.saturating_add(batch.bytes());
            let goes = || leader.check(batch).is_ok() && leader.merged(batch).all(|tree| tree.merged_by().is_some());
            if bytes > GROUP_BYTES_MAX || !goes() {
                break;
            }
            group.extend(queue.waiting.pop_front());
        }
        group
    }

    /// Returns the part of `group` whose checks hold if it is committed behind `own`, in this order; the others are told.
    fn admit(&self, leader: &Leader<E>, own: &Commit<E>, group: Vec<Arc<Waiter<E>>>) -> Vec<Arc<Waiter<E>>> {
        let mut admitted: Vec<Arc<Waiter<E>>> = Vec::with_capacity(group.len());
        for waiter in group {
            let check = waiter.commit.as_ref().and_then(|commit| commit.check.as_ref());
            let holds = check.map_or(Ok(()), |check| {
                check.run_last(self, &leader.recent)?;
                check
                    .against(self, std::iter::once(&own.batch).chain(admitted.iter().filter_map(|first| first.batch())))
            });
            match holds {
                Ok(()) => admitted.push(waiter),
                Err(error) => waiter.set(Turn::Done(Err(error))),
            }
        }
        admitted
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
    fn commit_group(&self, leader: &mut Leader<E>, own: &Commit<E>, group: &[Arc<Waiter<E>>]) -> Result<(SeqNum, Lsn)> {
        let commits = || std::iter::once(own).chain(group.iter().filter_map(|waiter| waiter.commit.as_ref()));
        let batches = || commits().map(|commit| &commit.batch);
        let operations: u64 = batches().map(|batch| batch.len() as u64).sum();
        let bytes: u64 = batches().map(|batch| batch.bytes() as u64).sum();
        let before = leader.last_seq;
        let first = SeqNum(before.0 + 1);
        if before.0 + operations >= SeqNum::MAX.0 {
            return Err(Error::invalid_argument("sequence numbers are used up"));
        }
        let (begin, lsn) = self.append_record(first, operations, &own.batch, group)?;
        self.tell_log_thread(leader, lsn);
        if commits().any(|commit| commit.durability == Durability::Os) {
            self.wal(self.log.write_out())?;
        }
        let early = self.env.planted("visible_before_batch_complete");
        if early {
            self.visible.store(before.0 + operations, Ordering::Release);
        }
        let position = Position { lsn: begin, seq: before };
        let seq = self.insert_all(leader, position, batches().flat_map(WriteBatch::iter));
        assert_eq!(seq.0, before.0 + operations, "every operation of the group has its number");
        leader.last_seq = seq;
        self.visible.store(seq.0, Ordering::Release);
        if self.checking.load(Ordering::Acquire) == 0 {
            leader.recent.forget(seq);
        } else {
            leader.recent.note(before, batches().flat_map(WriteBatch::iter));
        }
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

    /// Wakes the log's thread now and then, as the log grows to `end`.
    fn tell_log_thread(&self, leader: &mut Leader<E>, end: Lsn) {
        if end.0 - leader.told.0 >= LOG_TELL_BYTES.min(self.options.wal_segment_bytes / 16) {
            leader.told = end;
            self.state.lock().log_grown = true;
            self.log_work.notify_all();
        }
    }

    /// Inserts operations that the log holds from `position` on, and returns the number of the last.
    fn insert_all<'a>(
        &self,
        leader: &mut Leader<E>,
        position: Position,
        operations: impl Iterator<Item = Operation<'a>>,
    ) -> SeqNum {
        let Leader { trees, full, .. } = leader;
        let mut seq = position.seq;
        let mut current: Option<(u32, &Writing<E>)> = None;
        for operation in operations {
            seq.0 += 1;
            let writing = match current {
                Some((keyspace, writing)) if keyspace == operation.keyspace => writing,
                _ => {
                    let writing = trees.get(&operation.keyspace).expect("the leader checked the batch");
                    writing.memtable.begin_at(position);
                    current = Some((operation.keyspace, writing));
                    writing
                }
            };
            let tag = Tag::new(seq, operation.kind);
            writing.memtable.entries.insert(operation.key, tag, operation.value);
            if writing.is_full() && full.last() != Some(&operation.keyspace) {
                full.push(operation.keyspace);
            }
            self.env.yield_point();
        }
        seq
    }

    /// Returns where the record of the group begins and ends.
    fn append_record(
        &self,
        first: SeqNum,
        operations: u64,
        own: &WriteBatch,
        group: &[Arc<Waiter<E>>],
    ) -> Result<(Lsn, Lsn)> {
        let count = u32::try_from(operations).expect("an operation takes two bytes, and a group has less than 4 GiB");
        let header = record_header(first, count);
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let append = |parts: &[&[u8]]| {
            let append = Append { kind: FrameKind::Data, count, first_id: Some(first.0), tag: 0, parts };
            self.log.append(&append).map(|appended| (appended.lsn, appended.end))
        };
        self.wal_append(if group.is_empty() {
            append(&[&header, own.encoded()])
        } else {
            let mut parts: Vec<&[u8]> = vec![&header, own.encoded()];
            parts.extend(group.iter().filter_map(|waiter| waiter.batch()).map(WriteBatch::encoded));
            append(&parts)
        })
    }

    /// Slows down, and switches memtables that are full or hold back too much of the log.
    fn make_room(&self, leader: &mut Leader<E>, bytes: usize) -> Result<()> {
        self.check_running()?;
        assert!(bytes <= BATCH_BYTES_MAX - RECORD_HEADER_BYTES, "a batch over its limit was let through");
        self.slow_down(leader);
        if leader.full.is_empty() {
            return Ok(());
        }
        self.find_laggards(leader);
        while let Some(keyspace) = leader.full.last().copied() {
            if leader.trees.get(&keyspace).is_some_and(|writing| !writing.memtable.entries.is_empty()) {
                self.switch_memtable(leader, keyspace)?;
            }
            leader.full.retain(|full| *full != keyspace);
        }
        Ok(())
    }

    /// Adds keyspaces whose memtable holds back too much of the log to those to be switched.
    fn find_laggards(&self, leader: &mut Leader<E>) {
        let oldest = self.log.end().0.saturating_sub(self.options.wal_bytes_max);
        for (keyspace, writing) in &leader.trees {
            let lags = writing.memtable.begin().is_some_and(|begin| begin.lsn.0 < oldest);
            if lags && !leader.full.contains(keyspace) {
                self.env.reached("lsm.flush_for_log");
                leader.full.push(*keyspace);
            }
        }
    }

    fn slow_down(&self, leader: &mut Leader<E>) {
        let mut rate = self.pressure.bytes_per_second.load(Ordering::Relaxed);
        if self.pressure.last_memtable.load(Ordering::Relaxed) {
            let fill = |writing: &Writing<E>| writing.memtable.entries.bytes() as f64 / writing.bytes_max as f64;
            let full = leader.trees.values().map(fill).fold(0.0, f64::max);
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

    /// Puts an empty memtable in the place of the leader's for `keyspace`, once there is room for another full one.
    pub(super) fn switch_memtable(&self, leader: &mut Leader<E>, keyspace: u32) -> Result<()> {
        let end = Position { lsn: self.log.end(), seq: leader.last_seq };
        let writing = leader.trees.get_mut(&keyspace).expect("the leader writes it");
        let mut state = self.state.lock();
        if !self.has_room(&state, keyspace) {
            state = self.wait_for_room(state, keyspace)?;
        }
        let memtable = Growing::new(&self.env, self.options.memtable, writing.bytes_max);
        let full = std::mem::replace(&mut writing.memtable, memtable.clone());
        let changed = state.trees.get_mut(&keyspace).expect("the leader writes what is there");
        assert!(full.entries.is(&changed.memtable.entries), "the leader writes what readers see");
        let full = full.into_full(end);
        assert!(changed.immutables.back().is_none_or(|before| before.end <= full.end), "log positions grow");
        changed.immutables.push_back(Arc::new(full));
        changed.memtable = memtable;
        self.publish(&state, keyspace);
        self.work.notify_all();
        Ok(())
    }

    pub(super) fn has_room(&self, state: &State<E>, keyspace: u32) -> bool {
        let of = state.trees.get(&keyspace).expect("only a leader drops a keyspace");
        of.immutables.len() < self.options.immutable_memtables_max
            && of.version.levels()[0].len() < self.options.l0_stall_files
    }

    #[cold]
    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, E, State<E>>,
        keyspace: u32,
    ) -> Result<MutexGuard<'a, E, State<E>>> {
        self.env.reached("lsm.write_stop");
        self.counters.stall_stops.add(1);
        let begun = self.env.now();
        // What failed before says nothing about now: it is tried once more for this writer.
        state.flush_error = None;
        if state.compaction_error.as_ref().is_some_and(|error| !error.is_corruption()) {
            state.compaction_error = None;
        }
        state.stopped += 1;
        self.work.notify_all();
        let result = loop {
            if self.has_room(&state, keyspace) {
                break Ok(());
            }
            if let Err(error) = self.check_open() {
                break Err(error);
            }
            let waiting = state.trees.get(&keyspace).map_or(0, |of| of.immutables.len());
            let flushes_stuck = waiting >= self.options.immutable_memtables_max;
            let failed = if flushes_stuck { &state.flush_error } else { &state.compaction_error };
            if let Some(error) = state.poisoned.as_ref().or(failed.as_ref()) {
                break Err(error.clone());
            }
            self.progress.wait(&mut state);
        };
        state.stopped -= 1;
        self.counters.stall_stop_nanos.add(self.env.now().since(begun).as_nanos() as u64);
        result.map(|()| state)
    }
}

fn enqueue<E: Env>(queue: &mut Queue<E>, commit: Option<Commit<E>>) -> Arc<Waiter<E>> {
    let (turn, wake) = (Mutex::<E, _>::new(Turn::Waiting), Condvar::<E>::default());
    let waiter = Arc::new(Waiter { commit, turn, wake });
    queue.waiting.push_back(Arc::clone(&waiter));
    waiter
}
