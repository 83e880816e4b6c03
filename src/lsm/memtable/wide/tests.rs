//! The wide memtable against the skip list, step by step, and with readers beside the writer.

use super::*;
use crate::base::hash::hash64;
use crate::base::key::{ValueKind, compare};
use crate::lsm::iter::InternalIterator;
use crate::lsm::memtable::SkipList;
use std::sync::atomic::Ordering as Plain;

fn put(seq: u64) -> Tag {
    Tag::new(SeqNum(seq), ValueKind::Put)
}

/// Draws numbers, the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        hash64(b"draw", self.0) % bound
    }
}

/// Makes the keys of one test; each shape strains another part of the heads and prefixes.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// A few letters, among them the zero that heads are padded with; the empty key too.
    Letters,
    /// Sixteen digits, most of them leading zeros.
    Padded,
    /// Long names that differ behind 30 bytes, and some that end there.
    Prefixed,
    /// Sixteen bytes of anything.
    Scattered,
    /// Few keys with many versions.
    Hot,
    /// Ever larger.
    Ascending,
    /// Ever smaller.
    Descending,
}

const SHAPES: [Shape; 7] =
    [Shape::Letters, Shape::Padded, Shape::Prefixed, Shape::Scattered, Shape::Hot, Shape::Ascending, Shape::Descending];

impl Shape {
    fn key(self, draw: &mut Draw, inserted: u64) -> Vec<u8> {
        match self {
            Shape::Letters => (0..draw.below(12)).map(|_| [0, 1, 255][draw.below(3) as usize]).collect(),
            Shape::Padded => format!("{:016}", draw.below(2000)).into_bytes(),
            Shape::Prefixed => {
                let name = format!("a name that goes on and on and on/{}/{}", draw.below(3), draw.below(500));
                name.as_bytes()[..name.len() - draw.below(8) as usize].to_vec()
            }
            Shape::Scattered => [draw.below(u64::MAX), draw.below(u64::MAX)].map(u64::to_be_bytes).concat(),
            Shape::Hot => vec![b'k'; draw.below(3) as usize],
            Shape::Ascending => format!("entry{:09}", inserted + draw.below(2)).into_bytes(),
            Shape::Descending => format!("entry{:09}", 1_000_000 - inserted).into_bytes(),
        }
    }
}

struct Pair {
    wide: Arc<WideTable>,
    list: Arc<SkipList>,
    keys: Vec<Vec<u8>>,
}

impl Pair {
    fn insert(&mut self, shape: Shape, draw: &mut Draw) {
        let seq = self.keys.len() as u64 + 1;
        let kind = if draw.below(8) == 0 { ValueKind::Delete } else { ValueKind::Put };
        let (key, tag) = (shape.key(draw, seq), Tag::new(SeqNum(seq), kind));
        let value = vec![seq as u8; draw.below(20) as usize];
        self.wide.insert(&key, tag, &value);
        self.list.insert(&key, tag, &value);
        self.keys.push(key);
    }

    /// Draws a key that is there, or one that may be.
    fn any_key(&self, shape: Shape, draw: &mut Draw) -> Vec<u8> {
        match (self.keys.len() as u64, draw.below(4)) {
            (0, _) | (_, 0) => shape.key(draw, draw.0 % 3000),
            (len, _) => self.keys[draw.below(len) as usize].clone(),
        }
    }

    fn agree_on_everything(&self) {
        let (mut wide, mut list) = (self.wide.iter(), self.list.iter());
        for backwards in [false, true] {
            let start = |iter: &mut dyn InternalIterator| {
                if backwards { iter.seek_to_last() } else { iter.seek_to_first() }.unwrap();
            };
            start(&mut wide);
            start(&mut list);
            let mut seen = 0;
            while same(&wide, &list) {
                seen += 1;
                if backwards { wide.prev() } else { wide.next() }.unwrap();
                if backwards { list.prev() } else { list.next() }.unwrap();
            }
            assert_eq!(seen, self.keys.len());
        }
        assert_eq!(self.wide.len(), self.list.len());
        for (at, key) in self.keys.iter().enumerate() {
            for seq in [at as u64, at as u64 + 1, SeqNum::MAX.0] {
                assert_eq!(self.wide.get(key, SeqNum(seq)), self.list.get(key, SeqNum(seq)), "{key:?} at {seq}");
            }
        }
    }
}

/// Asserts that two cursors stand on the same entry; false if on none.
fn same(a: &dyn InternalIterator, b: &dyn InternalIterator) -> bool {
    assert_eq!(a.valid(), b.valid());
    if a.valid() {
        assert_eq!((a.key(), a.tag(), a.value()), (b.key(), b.tag(), b.value()));
    }
    a.valid()
}

#[test]
fn agrees_with_the_skip_list_at_every_step() {
    for seed in 0..84 {
        let shape = SHAPES[seed as usize % SHAPES.len()];
        let mut draw = Draw(seed << 32);
        let mut pair = Pair { wide: Arc::default(), list: Arc::default(), keys: Vec::new() };
        let mut cursors: Vec<_> = (0..3).map(|_| (pair.wide.iter(), pair.list.iter())).collect();
        for _ in 0..1500 + draw.below(1500) {
            let number = draw.below(3) as usize;
            let key = pair.any_key(shape, &mut draw);
            let seq = SeqNum(draw.below(pair.keys.len() as u64 + 2));
            let (wide, list) = &mut cursors[number];
            let mut both = |step: &dyn Fn(&mut dyn InternalIterator)| {
                step(wide);
                step(list);
            };
            match draw.below(24) {
                0 => both(&|iter| iter.seek(&key, Tag::seek(seq)).unwrap()),
                1 => both(&|iter| iter.seek_for_prev(&key, put(seq.0)).unwrap()),
                2 if draw.below(8) == 0 => both(&|iter| iter.seek_to_first().unwrap()),
                3 if draw.below(8) == 0 => both(&|iter| iter.seek_to_last().unwrap()),
                4..=7 => both(&|iter| iter.next().unwrap()),
                8..=10 => both(&|iter| iter.prev().unwrap()),
                11 => assert_eq!(pair.wide.get(&key, seq), pair.list.get(&key, seq), "{shape:?}: {key:?} at {seq}"),
                _ => pair.insert(shape, &mut draw),
            }
            let (wide, list) = &cursors[number];
            same(wide, list);
        }
        pair.agree_on_everything();
    }
}

#[test]
fn agrees_with_the_skip_list_when_deep() {
    for shape in SHAPES {
        let mut draw = Draw(7 << 40);
        let mut pair = Pair { wide: Arc::default(), list: Arc::default(), keys: Vec::new() };
        (0..12_000).for_each(|_| pair.insert(shape, &mut draw));
        let (_, height) = unpack(pair.wide.root.load(Ordering::Relaxed));
        assert!(height >= 3, "{shape:?}: height {height}");
        pair.agree_on_everything();
    }
}

#[test]
fn takes_little_more_memory_than_the_skip_list() {
    for shape in [Shape::Scattered, Shape::Ascending] {
        let (wide, list) = (WideTable::new(), SkipList::new());
        let mut draw = Draw(3);
        for seq in 1..=20_000 {
            let key = shape.key(&mut draw, seq);
            wide.insert(&key, put(seq), &[7; 100]);
            list.insert(&key, put(seq), &[7; 100]);
        }
        assert!(wide.bytes() * 4 < list.bytes() * 5, "{shape:?}: {} and {} bytes", wide.bytes(), list.bytes());
    }
}

#[test]
#[should_panic(expected = "inserted twice")]
fn an_internal_key_goes_in_once() {
    let table = WideTable::new();
    table.insert(b"k", put(1), b"a");
    table.insert(b"a", put(2), b"b");
    table.insert(b"k", put(1), b"c");
}

#[test]
fn long_values_and_empty_keys() {
    let table = WideTable::new();
    let value = vec![5; 3 << 20];
    table.insert(b"", put(1), &value);
    table.insert(&[0xff; KEY_BYTES_MAX], put(2), b"");
    assert_eq!(table.get(b"", SeqNum::MAX), Some((put(1), &value[..])));
    assert_eq!(table.get(&[0xff; KEY_BYTES_MAX], SeqNum::MAX), Some((put(2), &b""[..])));
    assert_eq!(table.get(b"\0", SeqNum::MAX), None);
    assert!(table.bytes() > value.len());
}

/// The key of an insert, by its number: any order, a few keys often.
fn key_of(number: u64) -> Vec<u8> {
    format!("key{:010}", hash64(&number.to_le_bytes(), 0) % 20_000).into_bytes()
}

fn value_of(key: &[u8], seq: u64) -> Vec<u8> {
    [key, format!(":{seq}").as_bytes()].concat()
}

/// Walks everything in one direction; returns how many entries there were.
fn walk_whole(table: &Arc<WideTable>, backwards: bool) -> u64 {
    let mut iter = table.iter();
    if backwards { iter.seek_to_last() } else { iter.seek_to_first() }.unwrap();
    let (mut seen, mut last) = (0, None::<(Vec<u8>, Tag)>);
    while iter.valid() {
        let here = (iter.key().to_vec(), iter.tag());
        assert_eq!(iter.value(), value_of(&here.0, here.1.seq().0));
        let ordered = |last: &(Vec<u8>, Tag)| {
            let order = compare((&last.0, last.1), (&here.0, here.1));
            if backwards { order.is_gt() } else { order.is_lt() }
        };
        assert!(last.as_ref().is_none_or(ordered), "{last:?} and then {here:?}");
        last = Some(here);
        seen += 1;
        if backwards { iter.prev() } else { iter.next() }.unwrap();
    }
    seen
}

#[test]
#[allow(clippy::disallowed_methods, reason = "real threads are what this tests")]
fn readers_miss_nothing_while_one_writes() {
    const ENTRIES: u64 = if cfg!(miri) { 200 } else { 20_000 };
    let table = Arc::new(WideTable::new());
    let inserted = Arc::new(AtomicUsize::new(0));
    let read = |table: Arc<WideTable>, inserted: Arc<AtomicUsize>, reader: u64| {
        for round in 0.. {
            let done = inserted.load(Plain::Acquire) as u64;
            if done > 0 {
                let number = hash64(&[reader as u8], round) % done;
                let key = key_of(number);
                let (tag, value) = table.get(&key, SeqNum(number + 1)).expect("inserted before");
                assert_eq!((tag.seq(), value), (SeqNum(number + 1), &value_of(&key, number + 1)[..]));
                let mut iter = table.iter();
                iter.seek(&key, tag).unwrap();
                assert_eq!((iter.key(), iter.tag()), (&key[..], tag));
                iter.prev().unwrap();
                if iter.valid() {
                    assert!(compare((iter.key(), iter.tag()), (&key, tag)).is_lt());
                    iter.next().unwrap();
                    assert!(compare((iter.key(), iter.tag()), (&key, tag)).is_le());
                }
            }
            if round % 256 == 0 {
                assert!(walk_whole(&table, round % 512 == 0) >= done);
            }
            if done == ENTRIES {
                return;
            }
        }
    };
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let (table, inserted) = (table.clone(), inserted.clone());
            std::thread::spawn(move || read(table, inserted, reader))
        })
        .collect();
    for number in 0..ENTRIES {
        let key = key_of(number);
        table.insert(&key, put(number + 1), &value_of(&key, number + 1));
        inserted.store(number as usize + 1, Plain::Release);
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}
