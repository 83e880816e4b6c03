//! From a seed to a workload: few keys and many clients, so that transactions meet.

use super::case::{Act, Close, Lock, Manner, Op, Step, Workload};
use crate::chooser::Salted;
use crate::profile::engine::case::{End, Level, Scan, Walk, Write};
use crate::profile::engine::generate::options;
use crate::profile::engine::value::{KeyId, KeyShape, VALUE_BYTES_MIN};

/// The kinds of operations of a client, in the order of their weights: transaction, batch, audit, flush, compact, persist, sleep.
const OPS: [u64; 7] = [60, 10, 6, 4, 1, 3, 4];
/// Those of a transaction: get, scan, put, delete, move, collect, settle, savepoint, roll back, sleep.
const ACTS: [u64; 10] = [20, 15, 15, 6, 20, 6, 4, 4, 4, 6];

struct Mix {
    ops: Vec<u64>,
    acts: Vec<u64>,
    levels: [u64; 3],
    keys: u64,
    acts_max: u64,
    bytes_max: u64,
    tries_max: u64,
    commit_percent: u64,
    pessimistic_percent: u64,
    timeout_us: u32,
}

/// Builds the workload of `seed`, with `steps_max` steps at most.
pub(super) fn workload(seed: u64, steps_max: u64) -> Workload {
    let mut random = Salted::new(seed ^ 0x74_7861_6374);
    let key_shape = [KeyShape::Short, KeyShape::Short, KeyShape::LongPrefix, KeyShape::Grouped, KeyShape::Binary]
        [random.below(5) as usize];
    let keys = [6, 9, 16, 16, 30, 60][random.below(6) as usize];
    let options = options(&mut random, seed);
    let mix = mix(&mut random, keys);
    let clients = [1, 2, 2, 3, 3, 4, 6][random.below(7) as usize];
    let count = 10 + random.below(steps_max);
    let reopen_one_in = [15, 60, u64::MAX, u64::MAX][random.below(4) as usize];
    let mut steps = Vec::with_capacity(count as usize);
    for id in 0..count {
        if random.below(reopen_one_in) == 1 {
            let end = End { close: random.below(3) != 0, power_loss: random.below(2) == 0 };
            steps.push(Step::Reopen(end));
            continue;
        }
        let client = random.below(clients) as u8;
        let op = op(&mut random, &mix);
        steps.push(Step::Client { id: id as u32, client, op });
    }
    Workload { options, key_shape, keys: keys as KeyId, steps }
}

fn mix(random: &mut Salted, keys: u64) -> Mix {
    // Most seeds leave some kinds out and do others a lot.
    let mut vary = |weights: &[u64]| -> Vec<u64> {
        let varied = weights.iter().map(|weight| match random.below(5) {
            0 => 0,
            1 => weight * 4,
            _ => *weight,
        });
        varied.collect()
    };
    let (mut ops, mut acts) = (vary(&OPS), vary(&ACTS));
    (ops[0], acts[4]) = (ops[0].max(20), acts[4].max(1));
    let levels = [[0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]][random.below(5) as usize];
    Mix {
        ops,
        acts,
        levels,
        keys,
        acts_max: [2, 3, 5, 9][random.below(4) as usize],
        bytes_max: [20, 120, 600, 2_000][random.below(4) as usize],
        tries_max: [1, 3, 6][random.below(3) as usize],
        commit_percent: [70, 90, 100][random.below(3) as usize],
        pessimistic_percent: [0, 30, 50, 100, 100][random.below(5) as usize],
        timeout_us: [0, 200, 20_000, 1_000_000, 1_000_000][random.below(5) as usize],
    }
}

fn op(random: &mut Salted, mix: &Mix) -> Op {
    match random.weighted(&mix.ops) {
        0 => {
            let acts = (0..1 + random.below(mix.acts_max)).flat_map(|_| act(random, mix)).collect();
            let close = match random.below(100) {
                draw if draw < mix.commit_percent => Close::Commit(level(random, mix)),
                draw if draw % 2 == 0 => Close::RollBack,
                _ => Close::Drop,
            };
            let manner = match random.below(100) < mix.pessimistic_percent {
                true => Manner::Pessimistic { timeout_us: mix.timeout_us },
                false => Manner::Optimistic,
            };
            Op::Transaction { manner, acts, close, tries: random.below(mix.tries_max) as u8 }
        }
        1 => {
            let writes = (0..1 + random.below(4)).map(|_| {
                let bytes = (random.below(4) != 0).then(|| bytes(random, mix));
                let key = 3 * (random.below(mix.keys / 3) as KeyId);
                let until = (bytes.is_none() && random.below(2) == 0).then_some(key + 1);
                Write { key, bytes, merge: false, until, ttl_us: None }
            });
            Op::Write { writes: writes.collect(), level: level(random, mix) }
        }
        2 => Op::Audit { back: random.below(2) == 0 },
        3 => Op::Flush,
        4 => Op::Compact,
        5 => Op::Persist { level: level(random, mix) },
        _ => Op::Sleep { us: 1 << random.below(14) },
    }
}

/// Draws an act, or some that belong together.
fn act(random: &mut Salted, mix: &Mix) -> Vec<Act> {
    let key = |random: &mut Salted| random.below(mix.keys) as KeyId;
    let plain = |random: &mut Salted| 3 * (random.below(mix.keys / 3) as KeyId);
    let sleep = |random: &mut Salted| Act::Sleep { us: 1 << random.below(12) };
    let one = match random.weighted(&mix.acts) {
        0 if random.below(4) == 0 => {
            // What was read with others is written: they wait for each other, or one is upgraded.
            let key = plain(random);
            let (read, write) = (Act::Get { key, lock: Lock::Share }, Act::Put { key, bytes: bytes(random, mix) });
            return vec![read, sleep(random), write];
        }
        0 => {
            let lock = [Lock::None, Lock::Share, Lock::Update][random.below(3) as usize];
            Act::Get { key: key(random), lock }
        }
        1 => Act::Scan(scan(random, mix)),
        2 => Act::Put { key: plain(random), bytes: bytes(random, mix) },
        3 => Act::Delete { key: plain(random), as_range: random.below(2) == 0 },
        4 => Act::Move { from: account(random, mix), to: account(random, mix), amount: 1 + random.below(3) as u8 },
        5 => {
            let (a, b) = (key(random), key(random));
            let (back, clear) = (random.below(2) == 0, random.below(2) == 0);
            Act::Collect { start: a.min(b), end: a.max(b) + 1, into: account(random, mix), back, clear }
        }
        6 => Act::Settle { key: account(random, mix), back: random.below(2) == 0 },
        7 => Act::Savepoint,
        8 => Act::RollBack { to: random.below(2) as u8 },
        _ => sleep(random),
    };
    vec![one]
}

fn account(random: &mut Salted, mix: &Mix) -> KeyId {
    (3 * random.below(mix.keys / 3) + 1 + random.below(2)) as KeyId
}

fn bytes(random: &mut Salted, mix: &Mix) -> u32 {
    VALUE_BYTES_MIN + random.below(mix.bytes_max) as u32
}

fn level(random: &mut Salted, mix: &Mix) -> Level {
    [Level::Buffered, Level::Os, Level::Sync][random.weighted(&mix.levels)]
}

fn scan(random: &mut Salted, mix: &Mix) -> Scan {
    let (a, b) = (random.below(mix.keys + 1) as KeyId, random.below(mix.keys + 1) as KeyId);
    let walk = match random.below(4) {
        0 => Walk::Forward,
        1 => Walk::Backward,
        2 => Walk::Inward,
        _ => Walk::Cursor { seek: random.below(mix.keys) as KeyId, moves: random.bits() },
    };
    let limit = if random.below(3) == 0 { 1 + random.below(5) as u16 } else { u16::MAX };
    let pause_us = if random.below(4) == 0 { 1 << random.below(12) } else { 0 };
    Scan { start: a.min(b), end: a.max(b), prefix: None, walk, limit, pause_us }
}
