//! The wide memtable under loom: what readers see at every point of an insert that fills, splits or grows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib lsm::memtable::wide::model`. Each model starts
//! from a table that is filled alone, then runs one writer beside one reader with up to three preemptions. The reader
//! first learns which inserts have returned: it must find all of those, in order and whole, and may find the others.

use super::*;
use crate::base::key::ValueKind;
use crate::lsm::iter::InternalIterator;
use loom::sync::atomic::AtomicUsize as Counter;

/// Reads the table; the keys are those that must be found, at least.
type Reader = fn(&Arc<WideTable>, &[&str]);

fn insert(table: &WideTable, key: &str, seq: usize) {
    table.insert(key.as_bytes(), Tag::new(SeqNum(seq as u64 + 1), ValueKind::Put), key.as_bytes());
}

fn check(before: &'static [&str], during: &'static [&str], read: Reader) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 20_000;
    model.check(move || {
        let table = Arc::new(WideTable::new());
        before.iter().enumerate().for_each(|(seq, key)| insert(&table, key, seq));
        let returned = Arc::new(Counter::new(0));
        let writer = loom::thread::spawn({
            let (table, returned) = (table.clone(), returned.clone());
            move || {
                for (number, key) in during.iter().enumerate() {
                    insert(&table, key, before.len() + number);
                    returned.store(number + 1, Ordering::Release);
                }
            }
        });
        let certain = returned.load(Ordering::Acquire);
        let known: Vec<&str> = before.iter().chain(&during[..certain]).copied().collect();
        read(&table, &known);
        writer.join().unwrap();
    });
}

fn get_last(table: &Arc<WideTable>, known: &[&str]) {
    let key = known[known.len() - 1];
    let found = table.get(key.as_bytes(), SeqNum::MAX).expect("inserted before");
    assert_eq!(found.1, key.as_bytes());
}

fn get_largest(table: &Arc<WideTable>, known: &[&str]) {
    let key = known.iter().max().expect("there is a key");
    let found = table.get(key.as_bytes(), SeqNum::MAX).expect("inserted before");
    assert_eq!(found.1, key.as_bytes());
}

fn walk(table: &Arc<WideTable>, known: &[&str], backwards: bool) {
    let mut iter = table.iter();
    if backwards { iter.seek_to_last() } else { iter.seek_to_first() }.unwrap();
    let mut seen = Vec::new();
    while iter.valid() {
        assert_eq!(iter.key(), iter.value());
        seen.push(String::from_utf8(iter.key().to_vec()).unwrap());
        if backwards { iter.prev() } else { iter.next() }.unwrap();
    }
    if backwards {
        seen.reverse();
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(known.iter().all(|key| seen.iter().any(|other| other == key)), "{known:?} in {seen:?}");
}

fn walk_forwards(table: &Arc<WideTable>, known: &[&str]) {
    walk(table, known, false);
}

fn walk_backwards(table: &Arc<WideTable>, known: &[&str]) {
    walk(table, known, true);
}

const ALL: [Reader; 4] = [get_last, get_largest, walk_forwards, walk_backwards];

#[test]
fn a_leaf_with_room() {
    ALL.iter().for_each(|read| check(&["c"], &["b", "a"], *read));
}

#[test]
fn the_root_leaf_is_split() {
    ALL.iter().for_each(|read| check(&["d", "b", "f"], &["c", "e"], *read));
}

#[test]
fn the_last_leaf_gets_a_neighbour() {
    ALL.iter().for_each(|read| check(&["a", "b", "c"], &["d", "e"], *read));
}

#[test]
fn a_leaf_between_others_is_split() {
    // Leaves a b | c d e | g h with the same long prefix, which the middle one skips.
    const FILLED: &[&str] = &["prefix/a", "prefix/c", "prefix/g", "prefix/b", "prefix/h", "prefix/d", "prefix/e"];
    ALL.iter().for_each(|read| check(FILLED, &["prefix/da"], *read));
}

#[test]
fn a_range_with_its_own_prefix_is_split_off() {
    // The left half of the last leaf is replaced by one that skips a prefix, while the target lies in the right one.
    const FILLED: &[&str] = &["k/aaaaaa", "k/bbbbb1", "k/bbbbb2", "k/bbbbb3", "k/bbbbb4"];
    ALL.iter().for_each(|read| check(FILLED, &["k/bbbbb5", "k/bbbbb35"], *read));
}

#[test]
fn an_inner_node_is_split() {
    const FILLED: &[&str] = &["c", "g", "k", "o", "a", "e", "i", "m", "q", "b", "d"];
    ALL.iter().for_each(|read| check(FILLED, &["da", "ca"], *read));
}

#[test]
fn the_last_inner_node_gets_a_neighbour() {
    const FILLED: &[&str] = &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    ALL.iter().for_each(|read| check(FILLED, &["m"], *read));
}
