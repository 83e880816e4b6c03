//! The engine against a `BTreeMap`: random operations, iterators both ways, snapshots, reopening.

use super::{key, tiny, value};
use crate::lsm::merge::Append;
use crate::lsm::{DB, DbIterator, Entry, Options, Snapshot, WriteBatch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Operation {
    Put(u64, u64),
    Delete(u64),
    Merge(u64, u64),
    Batch(Vec<(u64, Option<u64>)>),
    DeleteRange(Limits),
    /// Deletes a range between the halves of a batch.
    BatchAround(Vec<(u64, Option<u64>)>, Limits),
    Fill {
        from: u64,
        count: u64,
        salt: u64,
    },
    Get(u64),
    Walk {
        low: u64,
        high: u64,
        turns: Vec<bool>,
    },
    Cursor {
        low: u64,
        high: u64,
        moves: Vec<(u8, u64)>,
    },
    Snapshot,
    DropSnapshot(usize),
    CheckSnapshot(usize),
    Flush,
    Compact,
    Reopen,
}

const KEYS: u64 = 200;

/// A range of keys; an end of `None` is open.
type Limits = (Option<u64>, Option<u64>);

fn limits() -> impl Strategy<Value = Limits> {
    let narrow = (0..KEYS, 0..20u64).prop_map(|(low, len)| (Some(low), Some(low + len)));
    prop_oneof![
        6 => narrow,
        2 => (0..KEYS, 0..KEYS).prop_map(|(low, high)| (Some(low), Some(high))),
        1 => (0..KEYS).prop_map(|low| (Some(low), None)),
        1 => (0..KEYS).prop_map(|high| (None, Some(high))),
    ]
}

fn bounds((low, high): Limits) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (
        low.map_or(Bound::Unbounded, |low| Bound::Included(key(low))),
        high.map_or(Bound::Unbounded, |high| Bound::Excluded(key(high))),
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..KEYS;
    prop_oneof![
        6 => (key.clone(), 0..100u64).prop_map(|(key, value)| Operation::Put(key, value)),
        3 => key.clone().prop_map(Operation::Delete),
        3 => (key.clone(), 0..100u64).prop_map(|(key, operand)| Operation::Merge(key, operand)),
        2 => (0..8u64, 0..100u64).prop_map(|(key, operand)| Operation::Merge(key, operand)),
        3 => prop::collection::vec((key.clone(), prop::option::of(0..100u64)), 1..20).prop_map(Operation::Batch),
        3 => limits().prop_map(Operation::DeleteRange),
        2 => (prop::collection::vec((key.clone(), prop::option::of(0..100u64)), 1..20), limits())
            .prop_map(|(changes, limits)| Operation::BatchAround(changes, limits)),
        2 => (key.clone(), 1..150u64, 0..100u64).prop_map(|(from, count, salt)| Operation::Fill { from, count, salt }),
        3 => key.clone().prop_map(Operation::Get),
        2 => (key.clone(), 0..=KEYS, prop::collection::vec(any::<bool>(), 0..60))
            .prop_map(|(low, high, turns)| Operation::Walk { low, high, turns }),
        2 => (key.clone(), 0..=KEYS, prop::collection::vec((0..6u8, 0..KEYS), 0..40))
            .prop_map(|(low, high, moves)| Operation::Cursor { low, high, moves }),
        1 => Just(Operation::Snapshot),
        1 => (0..4usize).prop_map(Operation::DropSnapshot),
        1 => (0..4usize).prop_map(Operation::CheckSnapshot),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Reopen),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    (2..=4usize, 0..3u8, 1..=3usize, prop_oneof![Just(0usize), Just(8 << 10)]).prop_map(
        |(levels, filter, l0, cache)| Options {
            levels_max: levels,
            filter_bits_per_key: filter * 10,
            l0_compaction_files: l0,
            block_cache_bytes: cache,
            merge_operator: Some(Arc::new(Append::new(","))),
            ..tiny()
        },
    )
}

struct Run {
    dir: tempfile::TempDir,
    options: Options,
    db: DB,
    model: Model,
    snapshots: Vec<(Snapshot, Model)>,
}

impl Run {
    fn new(options: Options) -> Run {
        let dir = tempfile::tempdir().unwrap();
        let db = DB::open(dir.path(), options.clone()).unwrap();
        Run { dir, options, db, model: Model::new(), snapshots: Vec::new() }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Put(number, salt) => {
                self.db.put(key(*number), value(*salt)).unwrap();
                self.model.insert(key(*number), value(*salt));
            }
            Operation::Delete(number) => {
                self.db.delete(key(*number)).unwrap();
                self.model.remove(&key(*number));
            }
            Operation::Merge(number, operand) => {
                let operand = format!("{operand}").into_bytes();
                self.db.merge(key(*number), &operand).unwrap();
                let value = self.model.remove(&key(*number)).map(|value| [&value[..], b",", &operand].concat());
                self.model.insert(key(*number), value.unwrap_or(operand));
            }
            Operation::Batch(changes) => self.write(changes.iter().copied()),
            Operation::DeleteRange(limits) => {
                self.db.delete_range(bounds(*limits)).unwrap();
                self.forget(*limits);
            }
            Operation::BatchAround(changes, limits) => {
                let mut batch = WriteBatch::new();
                let (before, behind) = changes.split_at(changes.len() / 2);
                self.add(&mut batch, before.iter().copied());
                batch.delete_range(bounds(*limits));
                self.forget(*limits);
                self.add(&mut batch, behind.iter().copied());
                self.db.write(batch).unwrap();
            }
            Operation::Fill { from, count, salt } => {
                self.write((*from..(from + count).min(KEYS)).map(|number| (number, Some(number + salt))));
            }
            Operation::Get(number) => {
                assert_eq!(
                    self.db.get(key(*number)).unwrap().as_deref(),
                    self.model.get(&key(*number)).map(|v| &v[..])
                );
            }
            Operation::Walk { low, high, turns } => {
                walk(self.db.scan(key(*low), key(*high)), &range(&self.model, *low, *high), turns);
            }
            Operation::Cursor { low, high, moves } => {
                walk_cursor(self.db.scan(key(*low), key(*high)), &range(&self.model, *low, *high), moves);
            }
            Operation::Snapshot => self.snapshots.push((self.db.snapshot(), self.model.clone())),
            Operation::DropSnapshot(at) => {
                if *at < self.snapshots.len() {
                    self.snapshots.remove(*at);
                }
            }
            Operation::CheckSnapshot(at) => {
                if let Some((snapshot, model)) = self.snapshots.get(*at) {
                    check_snapshot(snapshot, model);
                }
            }
            Operation::Flush => self.db.flush().unwrap(),
            Operation::Compact => self.db.force_compaction().unwrap(),
            Operation::Reopen => self.reopen(),
        }
    }

    fn write(&mut self, changes: impl Iterator<Item = (u64, Option<u64>)>) {
        let mut batch = WriteBatch::new();
        self.add(&mut batch, changes);
        self.db.write(batch).unwrap();
    }

    fn forget(&mut self, limits: Limits) {
        let (low, high) = bounds(limits);
        self.model.retain(|key, _| {
            let from = matches!(&low, Bound::Included(low) if key < low);
            let behind = matches!(&high, Bound::Excluded(high) if key >= high);
            from || behind
        });
    }

    fn add(&mut self, batch: &mut WriteBatch, changes: impl Iterator<Item = (u64, Option<u64>)>) {
        for (number, change) in changes {
            match change {
                Some(salt) => {
                    batch.put(key(number), value(salt));
                    self.model.insert(key(number), value(salt));
                }
                None => {
                    batch.delete(key(number));
                    self.model.remove(&key(number));
                }
            }
        }
    }

    fn reopen(&mut self) {
        for (snapshot, model) in self.snapshots.drain(..) {
            check_snapshot(&snapshot, &model);
        }
        let seq = self.db.visible_seq();
        self.db.close().unwrap();
        self.db = DB::open(self.dir.path(), self.options.clone()).unwrap();
        assert_eq!(self.db.visible_seq(), seq);
    }

    fn check(&self) {
        walk(self.db.iter(), &all(&self.model), &[]);
        let report = self.db.validate_integrity().unwrap();
        assert!(report.is_sound(), "{report}");
    }
}

fn all(model: &Model) -> Vec<(Vec<u8>, Vec<u8>)> {
    model.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn range(model: &Model, low: u64, high: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    if low >= high {
        return Vec::new();
    }
    let bounds = (Bound::Included(key(low)), Bound::Excluded(key(high)));
    model.range(bounds).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Takes from the front or the back as `turns` say, then all that is left.
fn walk(mut iter: DbIterator, expected: &[(Vec<u8>, Vec<u8>)], turns: &[bool]) {
    let mut expected = expected.iter();
    for front in turns.iter().copied().chain(std::iter::repeat(true)) {
        let (got, want) = if front { (iter.next(), expected.next()) } else { (iter.next_back(), expected.next_back()) };
        let got = got.map(|entry| entry.unwrap());
        assert_eq!(
            got.as_ref().map(|Entry { key, value }| (&key[..], &value[..])),
            want.map(|(k, v)| (&k[..], &v[..]))
        );
        if want.is_none() {
            assert!(iter.next().is_none() && iter.next_back().is_none(), "an ended iterator stays ended");
            return;
        }
    }
}

fn walk_cursor(iter: DbIterator, expected: &[(Vec<u8>, Vec<u8>)], moves: &[(u8, u64)]) {
    let mut cursor = iter.into_cursor().unwrap();
    let mut at: Option<usize> = None;
    for (movement, number) in moves {
        let sought = key(*number);
        match movement {
            0 => cursor.next().unwrap(),
            1 => cursor.prev().unwrap(),
            2 => cursor.seek(&sought).unwrap(),
            3 => cursor.seek_for_prev(&sought).unwrap(),
            4 => cursor.seek_to_first().unwrap(),
            _ => cursor.seek_to_last().unwrap(),
        }
        at = match movement {
            0 => at.map(|at| at + 1),
            1 => at.and_then(|at| at.checked_sub(1)),
            2 => Some(expected.partition_point(|(key, _)| *key < sought)),
            3 => expected.partition_point(|(key, _)| *key <= sought).checked_sub(1),
            4 => Some(0),
            _ => expected.len().checked_sub(1),
        };
        at = at.filter(|at| *at < expected.len());
        assert_eq!(cursor.valid(), at.is_some(), "after move {movement} to {number}");
        if let Some(at) = at {
            assert_eq!((cursor.key(), cursor.value()), (&expected[at].0[..], &expected[at].1[..]));
        }
    }
}

fn check_snapshot(snapshot: &Snapshot, model: &Model) {
    walk(snapshot.iter(), &all(model), &[true, false, false]);
    for number in (0..KEYS).step_by(7) {
        assert_eq!(snapshot.get(key(number)).unwrap().as_deref(), model.get(&key(number)).map(|v| &v[..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lsm_matches_btreemap(options in options(), operations in prop::collection::vec(operation(), 1..120)) {
        let mut run = Run::new(options);
        for operation in &operations {
            run.apply(operation);
        }
        run.check();
        run.reopen();
        run.check();
    }
}

#[test]
fn many_versions_of_few_keys_survive_compactions_under_snapshots() {
    let mut run = Run::new(tiny());
    for round in 0..60 {
        for number in 0..20 {
            run.apply(&Operation::Put(number, round));
        }
        if round % 7 == 0 {
            run.apply(&Operation::Snapshot);
        }
        if round % 20 == 19 {
            run.apply(&Operation::Compact);
        }
    }
    for at in 0..run.snapshots.len() {
        run.apply(&Operation::CheckSnapshot(at));
    }
    run.check();
}

#[test]
fn force_compaction_leaves_one_version_of_each_key() {
    let mut run = Run::new(tiny());
    for round in 0..10 {
        run.apply(&Operation::Fill { from: 0, count: KEYS, salt: round });
    }
    for number in 0..KEYS / 2 {
        run.apply(&Operation::Delete(number));
    }
    run.apply(&Operation::Compact);
    let statistics = run.db.statistics();
    let entries: u64 = statistics.levels.iter().map(|level| level.entries).sum();
    let tombstones: u64 = statistics.levels.iter().map(|level| level.tombstones).sum();
    assert_eq!((entries, tombstones), (KEYS / 2, 0), "{statistics}");
    run.check();
}
