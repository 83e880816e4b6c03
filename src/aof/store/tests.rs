//! Tests of the store over the operating system and over the disk in memory.

use super::super::AofError;
use super::super::format::FrameKind;
use super::super::record::format::Records;
use super::super::test_env::TestEnv;
use super::super::types::LogOptions;
use super::*;
use crate::base::ErrorKind;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Wakes the thread that blocks on a future.
#[derive(Default)]
struct Parker {
    woken: Mutex<StdEnv, bool>,
    changed: crate::env::StdCondvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        crate::env::EnvCondvar::notify_one(&self.changed);
    }
}

/// Runs a future to its end, without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut woken = parker.woken.lock();
        while !std::mem::take(&mut *woken) {
            crate::env::EnvCondvar::wait(&parker.changed, &mut woken);
        }
    }
}

/// Looks until `done`; an hour of patience would not make a wrong program right.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        StdEnv.sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen in ten seconds");
}

fn config(strategy: FlushStrategy) -> AofConfig {
    // A spare's sync would take the place of the one that a test waits for.
    AofConfig { flush_strategy: strategy, preallocate: false, ..AofConfig::default() }
}

/// Reads all records of a closed store: id, tag, bytes.
fn records<E: Env>(env: &E, dir: &Path) -> Vec<(u64, u32, Vec<u8>)> {
    let mut records = Vec::new();
    let options = LogOptions { ids_contiguous: true, ..LogOptions::default() };
    let replayed = Log::open(env.clone(), dir, options, &mut |frame| {
        assert_eq!(frame.kind, FrameKind::Data);
        for (at, record) in Records::new(frame.payload, frame.count).enumerate() {
            records.push((frame.first_id + at as u64, frame.tag, record.unwrap().to_vec()));
        }
        Ok(())
    });
    replayed.unwrap().0.close().unwrap();
    records
}

#[test]
fn records_are_numbered_without_a_gap_across_opens() {
    let env = TestEnv::default();
    let open = || Aof::open(env.clone(), "aof", config(FlushStrategy::Batched(100))).unwrap().0;
    let aof = open();
    assert_eq!(aof.append(b"one").unwrap().ids(), 1..2);
    let batch = aof.append_batch(&["two", "", "four"]).unwrap();
    assert_eq!(batch.ids(), 2..5);
    assert!(!batch.is_durable());
    assert_eq!(aof.append_sync(b"five").unwrap(), 5..6);
    assert!(batch.is_durable());
    assert_eq!((aof.durable_id(), aof.next_id()), (6, 6));
    assert_eq!(aof.append_tagged(9, b"six").unwrap().ids(), 6..7);
    aof.close().unwrap();
    assert_eq!(*aof.append(b"seven").unwrap_err().kind(), ErrorKind::Closed);
    aof.close().unwrap();
    let aof = open();
    assert_eq!(aof.append(b"seven").unwrap().ids(), 7..8);
    aof.close().unwrap();
    let records = records(&env, Path::new("aof"));
    let text: Vec<_> =
        records.iter().map(|(id, tag, bytes)| (*id, *tag, std::str::from_utf8(bytes).unwrap())).collect();
    let want =
        [(1, 0, "one"), (2, 0, "two"), (3, 0, ""), (4, 0, "four"), (5, 0, "five"), (6, 9, "six"), (7, 0, "seven")];
    assert_eq!(text, want);
}

#[test]
fn second_open_is_refused_and_too_many_records_too() {
    let dir = tempfile::tempdir().unwrap();
    let (aof, _) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
    let second = Aof::open(StdEnv, dir.path(), AofConfig::default());
    assert_eq!(*second.unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(*aof.append_batch(&[b""; 0]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(*aof.append_batch(&vec![b""; 65_536]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    aof.append_batch(&vec![b""; 65_535]).unwrap().wait().unwrap();
    aof.close().unwrap();
    let (aof, report) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
    assert_eq!((report.log.torn_bytes, report.next_id), (0, 65_536));
    aof.close().unwrap();
}

#[test]
fn batches_of_any_size_come_back_as_they_were() {
    let env = TestEnv::default();
    let aof = Aof::open(env.clone(), "aof", config(FlushStrategy::Batched(1 << 20))).unwrap().0;
    // Joined, in parts, and too large to be staged: by many small parts, by few large ones, and by both.
    let batches: [&[usize]; 5] =
        [&[5, 0, 700], &[9_000, 1, 40_000], &[2_000; 150], &[100_000, 300_000], &[10, 64 << 10, 20, 200_000, 3]];
    let mut want = Vec::new();
    for lengths in batches {
        let batch: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(at, length)| vec![at as u8 + 1; *length]).collect();
        let ids = aof.append_batch_sync(&batch).unwrap();
        assert_eq!(ids, want.len() as u64 + 1..(want.len() + batch.len()) as u64 + 1);
        assert_eq!(aof.durable_id(), ids.end);
        want.extend(batch);
    }
    aof.close().unwrap();
    let found: Vec<_> = records(&env, Path::new("aof")).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert!(found == want);
}

#[test]
fn batched_syncs_once_for_so_many_records() {
    let dir = tempfile::tempdir().unwrap();
    let (aof, _) = Aof::open(StdEnv, dir.path(), config(FlushStrategy::Batched(100))).unwrap();
    for batch in 1..=20u64 {
        for _ in 0..100 {
            drop(aof.append(&[7; 64]).unwrap());
        }
        eventually("the batch's sync", || aof.durable_id() == 100 * batch + 1);
    }
    for _ in 0..99 {
        drop(aof.append(&[7; 64]).unwrap());
    }
    StdEnv.sleep(Duration::from_millis(20));
    assert_eq!(aof.durable_id(), 2001, "99 wait on");
    let metrics = aof.shared.log.flushes().snapshot();
    assert_eq!((metrics.total_flushes, metrics.batched_flushes, metrics.records_flushed), (20, 20, 2000));
    assert_eq!((metrics.flush_records.min(), metrics.flush_records.max()), (100, 100));
    aof.close().unwrap();
    assert_eq!(aof.durable_id(), 2100, "close makes the rest durable");
}

#[test]
fn periodic_syncs_after_its_time_and_not_before() {
    let env = TestEnv::default();
    let (aof, _) = Aof::open(env.clone(), "aof", config(FlushStrategy::Periodic(10))).unwrap();
    for round in 1..=3u64 {
        drop(aof.append(b"a").unwrap());
        drop(aof.append(b"b").unwrap());
        env.advance(9_999_999);
        StdEnv.sleep(Duration::from_millis(30));
        assert!(aof.durable_id() < 2 * round + 1, "its time has not come");
        eventually("the periodic sync", || {
            // The time begins when the flusher has seen the first record.
            env.advance(1_000_000);
            aof.durable_id() == 2 * round + 1
        });
    }
    let metrics = aof.shared.log.flushes().snapshot();
    assert_eq!((metrics.total_flushes, metrics.periodic_flushes), (3, 3));
    aof.close().unwrap();
}

#[test]
fn every_strategy_makes_all_records_durable_in_the_end() {
    let strategies = [
        FlushStrategy::Sync,
        FlushStrategy::Async,
        FlushStrategy::Batched(10),
        FlushStrategy::Periodic(5),
        FlushStrategy::BatchedOrPeriodic { records: 10, ms: 5 },
    ];
    for strategy in strategies {
        let dir = tempfile::tempdir().unwrap();
        let (aof, _) = Aof::open(StdEnv, dir.path(), config(strategy)).unwrap();
        let mut watch = aof.watch_durable();
        for _ in 0..1000 {
            drop(aof.append(b"record").unwrap());
        }
        let end = aof.shared.log.end();
        if strategy == FlushStrategy::Async {
            eventually("the write", || aof.shared.log.written() >= end);
        }
        let mut durable = watch.lsn();
        while durable < end {
            let further = watch.wait_past(durable, Some(Duration::from_secs(10))).unwrap();
            durable = further.unwrap_or_else(|| panic!("{strategy:?} stops at {durable}"));
        }
        assert_eq!(watch.id(), 1001);
        aof.close().unwrap();
        assert_eq!(*watch.wait_past(end.max(watch.lsn()), None).unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn awaited_tickets_are_durable_without_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let (aof, _) = Aof::open(StdEnv, dir.path(), config(FlushStrategy::Batched(1 << 20))).unwrap();
    for number in 0..50u64 {
        let tickets: Vec<_> = (0..10).map(|_| aof.append(b"x").unwrap()).collect();
        for ticket in tickets {
            block_on(ticket).unwrap();
        }
        assert!(aof.durable_id() > 10 * number + 10);
    }
    assert_eq!(aof.shared.log.watch().watching(), 0, "finished tickets leave the watch");
    let mut watch = aof.watch_durable();
    let before = watch.lsn();
    let ticket = aof.append(b"y").unwrap();
    let waiter = {
        let aof = aof.clone();
        StdEnv.spawn("waiter", move || assert!(aof.append_sync(b"z").is_ok())).unwrap()
    };
    assert!(block_on(watch.changed()).unwrap() > before);
    assert!(EnvJoin::join(waiter));
    block_on(ticket).unwrap();
    aof.close().unwrap();
}

#[test]
fn ticket_of_a_dropped_store_fails_and_the_directory_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let (aof, _) = Aof::open(StdEnv, dir.path(), config(FlushStrategy::Batched(1 << 20))).unwrap();
    aof.append(b"kept").unwrap().wait().unwrap();
    let ticket = aof.append(b"lost").unwrap();
    drop(aof);
    assert_eq!(*ticket.wait().unwrap_err().kind(), ErrorKind::Closed);
    let (aof, report) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
    assert_eq!(report.next_id, 2, "dropping makes nothing durable");
    assert_eq!(*block_on(ticket).unwrap_err().kind(), ErrorKind::Closed);
    aof.close().unwrap();
}

#[test]
fn eight_threads_lose_nothing_and_leave_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let small = AofConfig { segment_bytes: 64 << 10, ..config(FlushStrategy::Sync) };
    let (aof, _) = Aof::open(StdEnv, dir.path(), small).unwrap();
    let threads: Vec<_> = (0..8u8)
        .map(|thread| {
            let aof = aof.clone();
            let acknowledged = Arc::new(Mutex::<StdEnv, _>::new(Vec::new()));
            let list = Arc::clone(&acknowledged);
            let body = move || {
                for round in 0..200u32 {
                    let record = [&[thread][..], &round.to_le_bytes(), &vec![thread; round as usize]].concat();
                    let ids = match round % 3 {
                        0 => aof.append_sync(&record).unwrap(),
                        1 => {
                            let ticket = aof.append(&record).unwrap();
                            ticket.wait().unwrap();
                            ticket.ids()
                        }
                        _ => {
                            let ticket = aof.append_batch(&[&record, &record]).unwrap();
                            let ids = ticket.ids();
                            block_on(ticket).unwrap();
                            ids
                        }
                    };
                    list.lock().extend(ids.map(|id| (id, record.clone())));
                }
            };
            (StdEnv.spawn("appender", body).unwrap(), acknowledged)
        })
        .collect();
    let mut acknowledged = Vec::new();
    for (thread, list) in threads {
        assert!(EnvJoin::join(thread));
        acknowledged.append(&mut list.lock());
    }
    drop(aof);
    acknowledged.sort_unstable();
    let records: Vec<_> = records(&StdEnv, dir.path()).into_iter().map(|(id, _, bytes)| (id, bytes)).collect();
    assert!(records.iter().zip(1..).all(|((id, _), want)| *id == want), "ids have no gap");
    assert!(acknowledged.iter().zip(1..).all(|((id, _), want)| *id == want), "ids are given once");
    assert_eq!(acknowledged, records);
}

#[test]
fn full_pipeline_refuses_or_waits_and_goes_on() {
    let env = TestEnv::default();
    let bounded = AofConfig {
        pending_bytes_max: 64 << 10,
        pressure_timeout: Duration::from_millis(20),
        ..config(FlushStrategy::Batched(1 << 30))
    };
    let (aof, _) = Aof::open(env.clone(), "aof", bounded).unwrap();
    // The sync that half a full pipeline causes is held up until the gate opens.
    let gate = Arc::new(Mutex::<StdEnv, _>::new(()));
    let shut = gate.lock();
    let hook = Arc::clone(&gate);
    env.during_sync(move || drop(hook.lock()));
    while aof.shared.log.end().0 < 64 << 10 {
        drop(aof.try_append(&[1; 1000]).unwrap());
    }
    let refused = aof.try_append(&[1; 1000]).unwrap_err();
    assert_eq!((refused.kind(), AofError::of(&refused)), (&ErrorKind::WouldBlock, Some(&AofError::WouldBlock)));
    // The clock of this world stands still, so the time runs out when it is moved.
    let waiter = {
        let aof = aof.clone();
        StdEnv.spawn("waiter", move || {
            let error = aof.append(&[1; 1000]).unwrap_err();
            assert!(matches!(AofError::of(&error), Some(AofError::Backpressure { .. })), "{error}");
        })
    };
    eventually("the wait", || aof.shared.counters.pressure_waits.load(Ordering::Relaxed) == 1);
    env.advance(1_000_000_000);
    assert!(EnvJoin::join(waiter.unwrap()));
    let waiter = {
        let aof = aof.clone();
        StdEnv.spawn("waiter", move || drop(aof.append(&[2; 1000]).unwrap())).unwrap()
    };
    eventually("the wait", || aof.shared.counters.pressure_waits.load(Ordering::Relaxed) == 2);
    drop(shut);
    assert!(EnvJoin::join(waiter));
    assert!(env.was_reached("aof.pressure"));
    aof.close().unwrap();
}

#[test]
fn failed_sync_reaches_the_next_caller_and_poisons() {
    let env = TestEnv::default();
    let (aof, _) = Aof::open(env.clone(), "aof", config(FlushStrategy::Batched(3))).unwrap();
    let mut watch = aof.watch_durable();
    env.fail_sync_in(0);
    let tickets: Vec<_> = (0..3).map(|_| aof.append(b"x").unwrap()).collect();
    eventually("the flusher's failure", || !aof.background_errors().is_empty());
    let error = aof.append(b"y").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Io, "the cause is told once");
    assert_eq!(*aof.append(b"y").unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(*watch.wait_past(watch.lsn(), None).unwrap_err().kind(), ErrorKind::Poisoned);
    for ticket in tickets {
        assert_eq!(*ticket.wait().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(*block_on(ticket).unwrap_err().kind(), ErrorKind::Poisoned);
    }
    assert_eq!(aof.background_errors().len(), 1);
    assert_eq!(*aof.close().unwrap_err().kind(), ErrorKind::Poisoned);
    let (aof, _) = Aof::open(env.clone(), "aof", AofConfig::default()).unwrap();
    aof.append_sync(b"again").unwrap();
    aof.close().unwrap();
}
