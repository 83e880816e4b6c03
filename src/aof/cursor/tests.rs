//! Cursors against a model: a list of what was appended.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests start threads of their own")]

use super::super::chain::LogChain;
use super::super::log::Log;
use super::super::readers::Readers;
use super::super::record::format::Length;
use super::super::test_env::TestEnv;
use super::super::types::{Append, LogOptions};
use super::*;
use crate::ErrorKind;
use proptest::prelude::*;
use std::path::Path;

const DIR: &str = "log";

fn options() -> LogOptions {
    LogOptions { segment_bytes: 8192, ids_contiguous: true, ..LogOptions::default() }
}

fn open(env: &TestEnv) -> Log<TestEnv> {
    Log::open(env.clone(), Path::new(DIR), options(), &mut |_| Ok(())).unwrap().0
}

/// A log and what is in it.
struct Model {
    env: TestEnv,
    log: Log<TestEnv>,
    records: Vec<Record>,
}

impl Model {
    fn new() -> Model {
        let env = TestEnv::default();
        let log = open(&env);
        Model { env, log, records: Vec::new() }
    }

    fn append(&mut self, tag: u32, records: &[Vec<u8>]) {
        let lengths: Vec<Length> = records.iter().map(|record| Length::encode(record.len())).collect();
        let parts: Vec<&[u8]> =
            lengths.iter().zip(records).flat_map(|(length, record)| [length.as_slice(), record]).collect();
        let append = Append { kind: FrameKind::Data, count: records.len() as u16, first_id: None, tag, parts: &parts };
        let appended = self.log.append(&append).unwrap();
        for (at, bytes) in records.iter().enumerate() {
            let (id, bytes) = (appended.first_id + at as u64, bytes.clone().into());
            self.records.push(Record { id, lsn: appended.lsn, ts: appended.ts, tag, bytes });
        }
    }

    fn sync(&self) {
        self.log.sync_to(self.log.end()).unwrap();
    }

    fn chain(&self) -> Arc<dyn Chain<TestEnv>> {
        Arc::new(LogChain(self.log.clone()))
    }

    fn cursor(&self, from: From) -> Cursor<TestEnv> {
        Cursor::new(self.chain(), from)
    }

    /// The records that are durable and kept.
    fn visible(&self) -> Vec<Record> {
        let (durable, first) = (self.log.durable(), self.chain().first().unwrap());
        self.records.iter().filter(|record| record.lsn < durable && record.id >= first.id).cloned().collect()
    }

    /// What a cursor from `from` must show, or none if that is gone.
    fn expected(&self, from: From) -> Option<Vec<Record>> {
        let (visible, first) = (self.visible(), self.chain().first().unwrap());
        let keep = |holds: &dyn Fn(&Record) -> bool| visible.iter().filter(|record| holds(record)).cloned().collect();
        match from {
            From::First => Some(visible),
            From::Id(id) => (id >= first.id).then(|| keep(&|record| record.id >= id)),
            From::Lsn(lsn) => (lsn >= first.lsn).then(|| keep(&|record| record.lsn >= lsn)),
            From::Time(ts) => Some(keep(&|record| record.ts >= ts)),
            From::TailMinus(count) => {
                let skip = visible.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
                Some(visible[skip..].to_vec())
            }
        }
    }

    fn check(&self, from: From) {
        let found: Result<Vec<Record>> = self.cursor(from).collect();
        match self.expected(from) {
            Some(expected) => assert_eq!(found.unwrap(), expected, "{from:?}"),
            None => assert_eq!(found.unwrap_err().kind(), &ErrorKind::NotFound, "{from:?}"),
        }
    }

    /// Begins at every place there is, and beside it.
    fn check_everywhere(&self) {
        self.check(From::First);
        let end = self.log.end().0;
        let last = self.records.last().map_or(0, |record| record.id);
        for id in 0..last + 3 {
            self.check(From::Id(id));
            self.check(From::TailMinus(id));
        }
        for lsn in self.records.iter().map(|record| record.lsn.0).chain([end]) {
            for lsn in [lsn.saturating_sub(1), lsn, lsn + 8] {
                self.check(From::Lsn(Lsn(lsn)));
            }
        }
        let mut times: Vec<u64> = self.records.iter().flat_map(|record| [record.ts, record.ts + 1]).collect();
        times.extend([0, u64::MAX]);
        times.dedup();
        for ts in times {
            self.check(From::Time(ts));
        }
        self.check(From::TailMinus(u64::MAX));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<u16>),
    Sync,
    Time(u64),
    Truncate(u8),
    Reopen,
    PowerLoss,
}

fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![3 => 0..100u16, 1 => Just(0u16), 1 => 0..3000u16];
    prop_oneof![
        12 => prop::collection::vec(length, 1..6).prop_map(Op::Append),
        4 => Just(Op::Sync),
        3 => (0..4u64).prop_map(Op::Time),
        1 => any::<u8>().prop_map(Op::Truncate),
        1 => Just(Op::Reopen),
        1 => Just(Op::PowerLoss),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn every_start_shows_what_the_model_shows(ops in prop::collection::vec(op(), 1..60)) {
        let mut model = Model::new();
        let mut wall = 1000;
        for (at, op) in ops.iter().enumerate() {
            match op {
                Op::Append(lengths) => {
                    let records: Vec<Vec<u8>> = lengths.iter().map(|len| vec![at as u8; usize::from(*len)]).collect();
                    model.append(at as u32, &records);
                }
                Op::Sync => model.sync(),
                Op::Time(step) => {
                    // Stands still, goes on, and steps back.
                    wall = if *step == 3 { wall - 5 } else { wall + 10 * step };
                    model.env.set_wall(wall);
                }
                Op::Truncate(part) => {
                    let lsn = model.log.durable().0 * u64::from(*part) / 255;
                    model.log.truncate_before(Lsn(lsn)).unwrap();
                }
                Op::Reopen => {
                    model.log.close().unwrap();
                    model.log = open(&model.env);
                }
                Op::PowerLoss => {
                    let durable = model.log.durable();
                    model.env.lose_power();
                    model.records.retain(|record| record.lsn < durable);
                    model.log = open(&model.env);
                }
            }
        }
        model.check_everywhere();
        model.sync();
        model.check_everywhere();
    }

    #[test]
    fn ends_are_those_of_the_model(start in 0..40u64, id in 0..45u64, ts in 1000..1100u64, count in 0..45u64, bytes in 0..3000u64) {
        let mut model = Model::new();
        for at in 0..20u8 {
            model.env.set_wall(1000 + u64::from(at) * 5);
            model.append(0, &[vec![at; usize::from(at) * 10], vec![at; 3]]);
            model.sync();
        }
        let all = model.visible();
        let from = From::TailMinus(start);
        let tail = &all[all.len() - start as usize..];
        let show = |until: &[Until]| {
            let cursor = until.iter().fold(model.cursor(from), |cursor, until| cursor.until(*until));
            cursor.collect::<Result<Vec<Record>>>().unwrap()
        };
        let by_id = tail.iter().take_while(|record| record.id < id).count();
        let by_ts = tail.iter().take_while(|record| record.ts < ts).count();
        let by_count = tail.len().min(count as usize);
        let mut sum = 0;
        let by_bytes = tail.iter().take_while(|record| { sum += record.bytes.len() as u64; sum <= bytes }).count();
        prop_assert_eq!(show(&[Until::Id(id)]), &tail[..by_id]);
        prop_assert_eq!(show(&[Until::Time(ts)]), &tail[..by_ts]);
        prop_assert_eq!(show(&[Until::Count(count)]), &tail[..by_count]);
        prop_assert_eq!(show(&[Until::Bytes(bytes)]), &tail[..by_bytes]);
        let all_of = [Until::Id(id), Until::Time(ts), Until::Count(count), Until::Bytes(bytes)];
        prop_assert_eq!(show(&all_of), &tail[..by_id.min(by_ts).min(by_count).min(by_bytes)]);
    }
}

#[test]
fn a_cursor_goes_on_where_it_ended_across_rolls_and_seeks_again() {
    let mut model = Model::new();
    let mut cursor = model.cursor(From::First);
    assert!(cursor.next_ref().is_none());
    for round in 0..40u8 {
        model.append(7, &[vec![round; 1000], Vec::new()]);
        assert!(cursor.next_ref().is_none(), "not durable");
        model.sync();
        for bytes in [vec![round; 1000], Vec::new()] {
            let record = cursor.next_ref().unwrap().unwrap();
            assert_eq!((record.bytes, record.tag), (&bytes[..], 7));
        }
        assert!(cursor.next_ref().is_none());
    }
    assert!(model.log.stats().rolls > 4);
    cursor.seek(From::TailMinus(3));
    assert_eq!(cursor.by_ref().count(), 3);
    cursor.seek(From::First);
    assert_eq!(cursor.count(), 80);
}

#[test]
fn a_cursor_in_a_segment_that_is_gone_with_the_next_says_so() {
    let mut model = Model::new();
    model.append(0, &[vec![0; 10]]);
    model.sync();
    let mut cursor = model.cursor(From::First);
    cursor.next_ref().unwrap().unwrap();
    // The cursor stands at the end of what was the last segment; two more come and all but the newest go.
    while model.chain().locate(At::Number(3)).unwrap().is_none() {
        model.append(0, &[vec![1; 3000]]);
        model.sync();
    }
    model.log.truncate_before(model.log.durable()).unwrap();
    assert!(model.chain().first().unwrap().id > 2);
    let error = cursor.next_ref().unwrap().unwrap_err();
    assert!(matches!(AofError::of(&error), Some(AofError::Truncated { .. })), "{error}");
}

/// A chain of a log that is truncated, but for the segment being written, before its call number `at`.
struct TruncatedAt {
    inner: LogChain<TestEnv>,
    calls: std::sync::atomic::AtomicU64,
    at: u64,
    /// Whether the segment being written is ended first.
    seals: bool,
}

impl TruncatedAt {
    fn at(log: &Log<TestEnv>, at: u64) -> TruncatedAt {
        TruncatedAt { inner: LogChain(log.clone()), calls: Default::default(), at, seals: false }
    }

    fn new(log: &Log<TestEnv>, at: u64) -> Arc<TruncatedAt> {
        Arc::new(TruncatedAt::at(log, at))
    }

    fn called(&self) -> &LogChain<TestEnv> {
        if self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.at {
            if self.seals {
                self.inner.0.seal().unwrap();
            }
            self.inner.0.truncate_before(self.inner.0.durable()).unwrap();
        }
        &self.inner
    }

    fn is_truncated(&self) -> bool {
        self.calls.load(std::sync::atomic::Ordering::Relaxed) > self.at
    }
}

impl Chain<TestEnv> for TruncatedAt {
    fn first(&self) -> Result<super::super::chain::First> {
        self.called().first()
    }
    fn visible(&self, visibility: Visibility) -> Result<Lsn> {
        self.called().visible(visibility)
    }
    fn locate(&self, at: At) -> Result<Option<Span>> {
        self.called().locate(at)
    }
    fn open(&self, span: &Span) -> Result<Arc<SegmentReader<TestEnv>>> {
        self.called().open(span)
    }
    fn hint(&self, at: At) -> Option<Lsn> {
        self.called().hint(at)
    }
    fn is_open(&self) -> Result<bool> {
        self.called().is_open()
    }
    fn wait(&self, seen: Lsn, visibility: Visibility, timeout: Option<Duration>) -> Result<Waited> {
        self.called().wait(seen, visibility, timeout)
    }
}

#[test]
fn what_is_dropped_under_the_look_is_truncated_and_never_the_end() {
    for at in 0..60 {
        for from in [From::First, From::Id(2), From::Time(1001), From::TailMinus(20)] {
            let mut model = Model::new();
            for round in 0..20u8 {
                model.env.set_wall(1000 + u64::from(round));
                model.append(0, &[vec![round; 1000]]);
                model.sync();
            }
            let chain = TruncatedAt::new(&model.log, at);
            let mut cursor = Cursor::new(chain.clone(), from);
            let begun = cursor.next_ref().expect("records are durable, whatever is dropped").map(|record| record.id);
            let kept = model.chain().first().unwrap().id;
            match (begun, from) {
                (Ok(id), From::Id(asked)) => assert_eq!(id, asked),
                (Ok(id), _) => assert!(id <= 2 || id == kept, "{id}, {kept} is kept: {from:?}, {at}"),
                (Err(error), From::Id(asked)) => {
                    assert!(chain.is_truncated());
                    assert_eq!(AofError::of(&error), Some(&AofError::Truncated { id: asked, first: kept }), "{at}");
                }
                (Err(error), _) => panic!("{from:?} moves on with the log: {error}, {at}"),
            }
        }
    }
}

#[test]
fn a_segment_that_ends_and_is_dropped_under_a_cursor_is_read_to_its_end_or_truncated() {
    for at in 0..30 {
        let mut model = Model::new();
        model.append(0, &[b"one".to_vec()]);
        model.sync();
        let mut cursor = model.cursor(From::First);
        assert_eq!(cursor.next_ref().unwrap().unwrap().id, 1);
        model.append(0, &[b"two".to_vec()]);
        model.sync();
        cursor.chain = Arc::new(TruncatedAt { seals: true, ..TruncatedAt::at(&model.log, at) });
        match cursor.next_ref().expect("the second record was durable before it was asked for") {
            Ok(record) => assert_eq!((record.id, record.bytes), (2, &b"two"[..])),
            Err(error) => {
                assert_eq!(AofError::of(&error), Some(&AofError::Truncated { id: 2, first: 3 }), "{at}");
            }
        }
    }
}

#[test]
fn dropped_segments_without_records_are_passed_over() {
    let mut model = Model::new();
    model.append(0, &[b"one".to_vec()]);
    model.sync();
    let mut cursor = model.cursor(From::First);
    assert_eq!(cursor.next_ref().unwrap().unwrap().id, 1);
    model.log.seal().unwrap();
    for _ in 0..2 {
        let meta = Append { kind: FrameKind::Meta, count: 0, first_id: None, tag: 0, parts: &[b"no record"] };
        model.log.append(&meta).unwrap();
        model.log.seal().unwrap();
    }
    model.append(0, &[b"two".to_vec()]);
    model.sync();
    model.log.truncate_before(model.log.durable()).unwrap();
    assert_eq!(model.chain().first().unwrap().id, 2);
    assert_eq!(cursor.next_ref().unwrap().unwrap().bytes, b"two");
}

#[test]
fn what_is_durable_was_written_though_the_next_segment_did_not_come() {
    for operations in 0.. {
        let mut model = Model::new();
        model.append(0, &[vec![1; 100]]);
        model.env.die_at(Some(model.env.operations() + operations));
        let sealed = model.log.seal();
        assert!(model.log.durable() <= model.log.written(), "{operations}: {sealed:?}");
        let durable = model.cursor(From::First).count();
        assert_eq!(durable, usize::from(model.log.durable().0 > 0));
        assert!(model.cursor(From::First).visibility(Visibility::Written).count() >= durable);
        if sealed.is_ok() {
            break;
        }
    }
}

#[test]
fn a_segment_that_has_left_the_disk_is_gone_for_cursors_though_the_directory_could_not_be_synced() {
    let mut model = Model::new();
    for round in 0..40u8 {
        model.append(0, &[vec![round; 1000]]);
        model.sync();
    }
    let second = model.chain().locate(At::Number(2)).unwrap().unwrap();
    // The first segment is renamed, and then the disk takes nothing more.
    model.env.die_at(Some(model.env.operations() + 1));
    model.log.truncate_before(second.base_lsn).unwrap_err();
    assert_eq!(model.chain().first().unwrap().id, second.base_id);
    assert_eq!(model.cursor(From::First).next_ref().unwrap().unwrap().id, second.base_id);
}

#[test]
fn a_cursor_keeps_its_segment_when_it_is_truncated_and_then_says_what_is_gone() {
    let mut model = Model::new();
    for round in 0..40u8 {
        model.append(0, &[vec![round; 1000]]);
        model.sync();
    }
    let first = model.records[0].id;
    let mut cursor = model.cursor(From::First);
    assert_eq!(cursor.next_ref().unwrap().unwrap().id, first);
    let second = model.chain().locate(At::Number(2)).unwrap().unwrap();
    model.log.truncate_before(model.log.durable()).unwrap();
    let mut last = first;
    let error = loop {
        match cursor.next_ref().unwrap() {
            Ok(record) => last = record.id,
            Err(error) => break error,
        }
    };
    assert_eq!(last + 1, second.base_id);
    let kept = model.chain().first().unwrap().id;
    assert_eq!(AofError::of(&error), Some(&AofError::Truncated { id: last + 1, first: kept }));
    assert!(cursor.next_ref().is_none(), "an error is the end");
    cursor.seek(From::First);
    assert_eq!(cursor.next_ref().unwrap().unwrap().id, kept);
}

#[test]
fn damage_is_named_and_ends_the_cursor() {
    let mut model = Model::new();
    model.append(0, &[vec![1; 100]]);
    model.append(0, &[vec![2; 100]]);
    model.sync();
    let path = Path::new(DIR).join(super::super::names::segment_name(1));
    let second = 4096 + model.records[1].lsn.0;
    model.env.damage(&path, |bytes| bytes[second as usize + 60] ^= 1);
    let mut cursor = model.cursor(From::First);
    assert!(cursor.next_ref().unwrap().is_ok());
    let error = cursor.next_ref().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corruption { file: path, offset: second });
    assert!(cursor.next_ref().is_none());
}

#[test]
fn readers_are_limited_and_segments_stay_open_for_the_next_one() {
    let mut model = Model::new();
    for round in 0..60u8 {
        model.append(0, &[vec![round; 1000]]);
        model.sync();
    }
    let readers = Readers::new(model.chain(), 3, 2);
    let one = readers.cursor(From::First).unwrap();
    let mut two = readers.cursor(From::First).unwrap();
    let error = readers.cursor(From::First).unwrap_err();
    assert_eq!(AofError::of(&error), Some(&AofError::ReaderLimitExceeded { limit: 2 }));
    assert_eq!(one.count(), 60);
    assert_eq!(readers.stats().segments, 3);
    let before = readers.stats();
    assert_eq!(before.hits, 0);
    assert!(two.next_ref().is_some(), "a pinned segment");
    for record in &model.records {
        assert_eq!(readers.read(record.id).unwrap(), *record);
    }
    // The table keeps three: each segment is opened once for its three records.
    let after = readers.stats();
    assert!(after.hits >= 40 && after.misses <= before.misses + 20, "{after:?}");
    let path = Path::new(DIR).join(super::super::names::segment_name(1));
    readers.release_before(model.log.durable());
    model.log.truncate_before(model.log.durable()).unwrap();
    assert!(!model.env.files().contains(&path));
    assert!(readers.stats().segments <= 2, "the pinned one, and the one being written");
    let first = model.chain().first().unwrap().id;
    let gone = readers.read(model.records[0].id).unwrap_err();
    assert_eq!(AofError::of(&gone), Some(&AofError::Truncated { id: model.records[0].id, first }));
    let next = model.records[59].id + 1;
    let not_yet = readers.read(next + 5).unwrap_err();
    assert_eq!(AofError::of(&not_yet), Some(&AofError::NotYet { id: next + 5, next }));
    assert!(two.next_ref().unwrap().is_ok());
}

#[test]
fn a_following_cursor_waits_sees_everything_once_and_ends_when_the_log_is_closed() {
    let mut model = Model::new();
    model.append(0, &[b"before".to_vec()]);
    model.sync();
    let cursor = model.cursor(From::First).follow(true);
    let follower = std::thread::spawn(move || cursor.map(|record| record.unwrap().bytes).collect::<Vec<_>>());
    for round in 0..300u32 {
        model.append(0, &[round.to_le_bytes().to_vec(), vec![0; 100]]);
        if round % 7 == 0 {
            model.sync();
        }
    }
    model.log.close().unwrap();
    model.log.abandon();
    let expected: Vec<_> = model.records.iter().map(|record| record.bytes.clone()).collect();
    assert_eq!(follower.join().unwrap(), expected);
}

#[test]
fn a_following_cursor_fails_with_the_log_and_waiting_can_be_limited() {
    let mut model = Model::new();
    let mut cursor = model.cursor(From::First).follow(true);
    assert!(cursor.next_within(Duration::ZERO).is_none());
    model.append(0, &[b"lost".to_vec()]);
    model.env.fail_sync_in(0);
    model.log.sync_to(model.log.end()).unwrap_err();
    assert_eq!(cursor.next_ref().unwrap().unwrap_err().kind(), &ErrorKind::Poisoned);
    assert!(cursor.next_ref().is_none(), "an error ends a cursor");
}

#[test]
fn r8_only_what_is_durable_is_shown_unless_asked_for_more() {
    for bug in [None, Some("aof_reader_past_durable")] {
        let mut model = Model::new();
        model.append(0, &[b"durable".to_vec()]);
        model.sync();
        model.append(0, &[b"written".to_vec()]);
        model.log.write_out().unwrap();
        model.append(0, &[b"staged".to_vec()]);
        if let Some(bug) = bug {
            model.env.plant(bug);
        }
        assert_eq!(model.cursor(From::First).count() == 1, bug.is_none());
        assert_eq!(model.cursor(From::First).visibility(Visibility::Written).count(), 2);
    }
}

#[test]
fn a_stream_wakes_its_task_and_ends_with_the_log() {
    use futures_core::Stream;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    struct Woken(AtomicU64);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let mut model = Model::new();
    let woken = Arc::new(Woken(AtomicU64::new(0)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut stream = model.cursor(From::First).follow(true).into_stream();
    let mut poll = |stream: &mut CursorStream<TestEnv>| match Pin::new(stream).poll_next(&mut context) {
        Poll::Pending => None,
        Poll::Ready(record) => Some(record.map(|record| record.unwrap().bytes)),
    };
    assert_eq!(poll(&mut stream), None);
    for round in 1..20u64 {
        model.append(0, &[vec![round as u8; 900]]);
        assert_eq!(poll(&mut stream), None);
        let before = woken.0.load(Ordering::SeqCst);
        model.sync();
        assert_eq!(woken.0.load(Ordering::SeqCst), before + 1);
        assert_eq!(poll(&mut stream), Some(Some(vec![round as u8; 900].into())));
        assert_eq!(poll(&mut stream), None);
    }
    model.log.close().unwrap();
    assert_eq!(poll(&mut stream), Some(None));
    drop(stream);
    assert_eq!(model.log.watch().watching(), 0);
    let mut stream = model.cursor(From::TailMinus(1)).into_stream();
    assert!(poll(&mut stream).unwrap().is_some());
    assert_eq!(poll(&mut stream), Some(None));
}

#[test]
fn a_read_by_id_reads_little_of_a_segment() {
    let env = TestEnv::default();
    let options = LogOptions { segment_bytes: 1 << 20, index: true, ..options() };
    let log = Log::open(env.clone(), Path::new(DIR), options, &mut |_| Ok(())).unwrap().0;
    let mut model = Model { env, log, records: Vec::new() };
    for round in 0..20_000u32 {
        model.append(round, &[vec![7; 100]]);
    }
    model.sync();
    assert!(model.log.stats().rolls >= 2);
    let readers = Readers::new(model.chain(), 8, 8);
    for number in 1..4 {
        let span = model.chain().locate(At::Number(number)).unwrap().unwrap();
        assert!(readers.read(span.base_id).is_ok());
    }
    for id in (1..20_000).step_by(371) {
        let before = model.env.bytes_read();
        assert_eq!(readers.read(id).unwrap(), model.records[id as usize - 1]);
        let read = model.env.bytes_read() - before;
        assert!(read <= 16 << 10, "{read} bytes for record {id}");
    }
}
