//! From a seed to a workload: swarm over options, keys, operations and clients.
//!
//! Every seed switches some kinds of operations off altogether and weighs the others at random: a run of writes and flushes only
//! goes deeper than an even mix of everything.

use super::case::{End, EngineOptions, Level, Op, Scan, Step, Walk, Workload, Write};
use super::value::{KeyId, KeyShape, StepId, VALUE_BYTES_MIN};
use crate::chooser::Salted;
use crate::profile::steps::Work;

/// How large the generated workloads are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Steps at most.
    pub(super) steps_max: u64,
}

/// The length of a huge value.
const HUGE_BYTES: u32 = 270_000;
/// The longest operand.
const MERGE_BYTES_MAX: u32 = VALUE_BYTES_MIN + 60;
/// The kinds of operations, in the order of their weights.
const KINDS: usize = 12;

struct Mix {
    weights: [u64; KINDS],
    levels: [u64; 3],
    keys: u64,
    hot_keys: u64,
    value_bytes_max: u64,
    /// Values larger than the log's buffer, now and then.
    huge: bool,
    batch_max: u64,
    delete_percent: u64,
}

/// Builds the workload of `seed`.
pub(super) fn workload(seed: u64, size: Size) -> Workload {
    let mut random = Salted::new(seed ^ 0x776f_726b_6c6f_6164);
    let key_shape = [KeyShape::Short, KeyShape::Short, KeyShape::LongPrefix, KeyShape::Grouped, KeyShape::Binary]
        [random.below(5) as usize];
    let keys = [4, 12, 40, 40, 120, 300][random.below(6) as usize];
    let options = options(&mut random, seed);
    let mix = mix(&mut random, keys, options.memtable_bytes as u64);
    let clients = [1, 1, 2, 3, 4][random.below(5) as usize];
    let count = 10 + random.below(size.steps_max);
    let reopen_one_in = [10, 40, 200, u64::MAX][random.below(4) as usize];
    let readers = if clients > 1 { random.below(clients) } else { 0 };
    let mut steps = Vec::with_capacity(count as usize);
    for id in 0..count {
        if random.below(reopen_one_in) == 1 {
            let end = End { close: random.below(3) != 0, power_loss: random.below(2) == 0 };
            steps.push(Step::Reopen(end));
            continue;
        }
        let client = random.below(clients);
        let op = op(&mut random, &mix, client < readers);
        steps.push(Step::Client { id: id as u32, client: client as u8, op });
    }
    let mut workload = Workload { options, key_shape, keys: keys as KeyId, steps };
    make_merges(&mut workload, seed);
    delete_ranges(&mut workload.steps, &mix, seed);
    workload
}

/// Makes merges of some puts, in half of the workloads.
fn make_merges(workload: &mut Workload, seed: u64) {
    let mut random = Salted::new(seed ^ 0x006d_6572_6765);
    let percent = [0, 0, 0, 15, 50, 85][random.below(6) as usize];
    for step in &mut workload.steps {
        let Step::Client { op: Op::Write { writes, .. }, .. } = step else { continue };
        for write in writes {
            // Short operands: a key that is only merged onto keeps all of them.
            if let Some(bytes) = write.bytes.as_mut().filter(|_| random.below(100) < percent) {
                *bytes = (*bytes).min(MERGE_BYTES_MAX);
                write.merge = true;
            }
        }
    }
}

/// Makes deletes of ranges out of deletes in half of the workloads, and out of other writes in some.
fn delete_ranges(steps: &mut [Step], mix: &Mix, seed: u64) {
    let mut random = Salted::new(seed ^ 0x7261_6e67_6573);
    if random.below(2) == 0 {
        return;
    }
    let (deletes, others) = ([30, 100][random.below(2) as usize], [0, 0, 10, 40][random.below(4) as usize]);
    for step in steps {
        let Step::Client { op: Op::Write { writes, .. }, .. } = step else { continue };
        for write in writes {
            let percent = if write.bytes.is_none() { deletes } else { others };
            if random.below(100) < percent {
                *write = range(&mut random, mix);
            }
        }
    }
}

/// Draws a range: most are narrow, some take in half of all keys, a few have an open end.
fn range(random: &mut Salted, mix: &Mix) -> Write {
    let low = key(random, mix);
    let len = match random.below(8) {
        0 => mix.keys,
        1 => 1 + random.below(mix.keys),
        _ => 1 + random.below(8),
    };
    let until = (u64::from(low) + len).min(mix.keys) as KeyId;
    Write {
        key: if random.below(16) == 0 { 0 } else { low },
        bytes: None,
        merge: false,
        until: Some(until),
        ttl_us: None,
    }
}

/// Adds a few checkpoints, backups and read-only views to half of the workloads, and many of one kind to some.
pub(super) fn make_copies(workload: &mut Workload, seed: u64) {
    let mut random = Salted::new(seed ^ 0x636f_7069_6573);
    let clients = workload.clients();
    if clients == 0 || random.below(2) != 0 {
        return;
    }
    let ids = workload.steps.iter().map(|step| match step {
        Step::Client { id, .. } => *id + 1,
        Step::Reopen(_) => 0,
    });
    let first = ids.max().unwrap_or(0);
    let kinds = [Op::Checkpoint, Op::Backup, Op::Look];
    let one = (random.below(4) == 0).then(|| [0, 1, 1, 2][random.below(4) as usize]);
    let more = if one.is_some() { 8 + random.below(16) } else { random.below(6) };
    for id in first..=first + more as StepId {
        let at = random.below(workload.steps.len() as u64 + 1) as usize;
        let client = random.below(clients.into()) as u8;
        let op = kinds[one.unwrap_or_else(|| random.below(3)) as usize].clone();
        workload.steps.insert(at, Step::Client { id, client, op });
    }
}

/// Leaves everything to the last segment of the log, commit by synced commit, in half of the workloads: damage strikes there.
pub(super) fn stay_in_log(workload: &mut Workload, seed: u64) {
    let mut random = Salted::new(seed ^ 0x7374_6179);
    if random.below(2) == 0 {
        return;
    }
    workload.options.memtable_bytes = 64 << 10;
    workload.options.wal_segment_bytes = 64 << 10;
    workload.steps.retain(|step| !matches!(step, Step::Reopen(_) | Step::Client { op: Op::Flush | Op::Compact, .. }));
    for step in &mut workload.steps {
        if let Step::Client { client, op, .. } = step {
            *client = 0;
            if let Op::Write { level, .. } = op {
                *level = Level::Sync;
            }
        }
    }
    workload.steps.push(Step::Reopen(End::default()));
}

/// Lets values of every third key expire in a third of the workloads, and a filter remove some in a sixth of the others.
///
/// Returns whether the clock matters. When things expire or are compacted depends on more than the workload: two runs of it
/// with different options may be answered differently.
pub(super) fn make_fading(workload: &mut Workload, seed: u64) -> bool {
    let mut random = Salted::new(seed ^ 0x6661_6465);
    let (expire, filter) = (random.below(3) == 0, random.below(6) == 0);
    let longest = 8 + random.below(16);
    for step in &mut workload.steps {
        let Step::Client { op: Op::Write { writes, .. }, .. } = step else { continue };
        for write in writes {
            if expire && write.key % 3 == 0 {
                // What is merged onto a value that expires is more than the history can say.
                write.merge = false;
                write.ttl_us = (random.below(4) != 0).then(|| 1 << random.below(longest));
            }
            write.merge &= expire || !filter;
        }
    }
    if !expire && filter {
        // Two keyspaces are compacted, and so filtered, at different times.
        (workload.options.filter, workload.options.twin_memtable_bytes) = (true, 0);
    }
    expire
}

fn newer_options(random: &mut Salted) -> EngineOptions {
    let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
    let twin_memtable_bytes = pick(&[0, 0, 4 << 10, 64 << 10]) as usize;
    let wal_bytes_max = pick(&[16 << 10, 1 << 30]);
    let memtable = pick(&[0, 1, 1]) as u8;
    EngineOptions { wal_bytes_max, twin_memtable_bytes, memtable, ..EngineOptions::default() }
}

/// Draws a set of options; what came later has a stream of its own, from `seed`.
pub(in crate::profile) fn options(random: &mut Salted, seed: u64) -> EngineOptions {
    let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
    let l0_compaction_files = pick(&[1, 2, 4]) as usize;
    EngineOptions {
        memtable_bytes: pick(&[4 << 10, 4 << 10, 6 << 10, 16 << 10]) as usize,
        immutable_memtables_max: pick(&[1, 2, 2, 4]) as usize,
        block_bytes: pick(&[64, 128, 256, 1024, 4096]) as usize,
        block_cache_bytes: pick(&[0, 4 << 10, 1 << 20]) as usize,
        compression: pick(&[0, 1, 2]) as u8,
        filter_bits_per_key: pick(&[0, 4, 15]) as u8,
        l0_compaction_files,
        l0_stall_files: l0_compaction_files + pick(&[1, 3, 20]) as usize,
        level_bytes_base: pick(&[4 << 10, 8 << 10, 64 << 10]),
        level_size_multiplier: pick(&[2, 4, 10]),
        levels_max: pick(&[2, 3, 3, 7]) as usize,
        table_bytes: pick(&[4 << 10, 8 << 10, 32 << 10]),
        wal_segment_bytes: pick(&[8 << 10, 8 << 10, 12 << 10, 64 << 10]),
        manifest_bytes_max: pick(&[1 << 10, 4 << 10, 1 << 20]),
        background_threads: pick(&[1, 1, 2]) as usize,
        ..newer_options(&mut Salted::new(seed ^ 0x7477_696e))
    }
}

fn mix(random: &mut Salted, keys: u64, memtable_bytes: u64) -> Mix {
    // put, delete, batch, get, scan, snapshot get, snapshot scan, snapshot, release, flush or compact, persist, sleep or verify
    let mut weights = [40, 12, 15, 15, 8, 6, 6, 4, 2, 4, 3, 2];
    for weight in &mut weights[1..] {
        match random.below(5) {
            0 => *weight = 0,
            1 => *weight *= 4,
            _ => {}
        }
    }
    let levels = match random.below(5) {
        0 => [0, 0, 1],
        1 => [0, 1, 0],
        2 => [0, 1, 1],
        3 => [1, 0, 1],
        _ => [1, 1, 1],
    };
    let value_bytes_max = [20, 120, 120, 600, memtable_bytes / 2][random.below(5) as usize];
    Mix {
        weights,
        levels,
        keys,
        hot_keys: 1 + random.below(keys),
        value_bytes_max,
        huge: random.below(25) == 0,
        batch_max: 2 + random.below(10),
        delete_percent: [0, 10, 50][random.below(3) as usize],
    }
}

fn op(random: &mut Salted, mix: &Mix, reader: bool) -> Op {
    let from = if reader { 3 } else { 0 };
    let kind = from + random.weighted(&mix.weights[from..]);
    match kind {
        0 => Op::Write {
            writes: vec![Write {
                key: key(random, mix),
                bytes: Some(bytes(random, mix)),
                merge: false,
                until: None,
                ttl_us: None,
            }],
            level: level(random, mix),
        },
        1 => Op::Write {
            writes: vec![Write { key: key(random, mix), bytes: None, merge: false, until: None, ttl_us: None }],
            level: level(random, mix),
        },
        2 => {
            let count = 1 + random.below(mix.batch_max);
            let writes = (0..count).map(|_| {
                let delete = random.below(100) < mix.delete_percent;
                Write {
                    key: key(random, mix),
                    bytes: (!delete).then(|| bytes(random, mix)),
                    merge: false,
                    until: None,
                    ttl_us: None,
                }
            });
            Op::Write { writes: writes.collect(), level: level(random, mix) }
        }
        3 | 5 => Op::Get { key: key(random, mix), snapshot: kind == 5 },
        4 | 6 => Op::Scan { scan: scan(random, mix), snapshot: kind == 6 },
        7 => Op::Snapshot,
        8 => Op::Release,
        9 if random.below(3) == 0 => Op::Compact,
        9 => Op::Flush,
        10 => Op::Persist { level: level(random, mix) },
        _ if random.below(4) == 0 => Op::Verify,
        _ => Op::Sleep { us: 1 << random.below(20) },
    }
}

fn key(random: &mut Salted, mix: &Mix) -> KeyId {
    let among = if random.below(4) == 0 { mix.keys } else { mix.hot_keys };
    random.below(among) as KeyId
}

fn bytes(random: &mut Salted, mix: &Mix) -> u32 {
    if mix.huge && random.below(12) == 0 {
        return HUGE_BYTES;
    }
    VALUE_BYTES_MIN + random.below(mix.value_bytes_max) as u32
}

fn level(random: &mut Salted, mix: &Mix) -> Level {
    let mut at = random.below(mix.levels.iter().sum());
    for (level, weight) in [Level::Buffered, Level::Os, Level::Sync].into_iter().zip(mix.levels) {
        if at < weight {
            return level;
        }
        at -= weight;
    }
    Level::Sync
}

fn scan(random: &mut Salted, mix: &Mix) -> Scan {
    let whole = random.below(3) == 0;
    let (a, b) = (random.below(mix.keys + 1), random.below(mix.keys + 1));
    let (start, end) = if whole { (0, mix.keys) } else { (a.min(b), a.max(b)) };
    let walk = match random.below(4) {
        0 => Walk::Forward,
        1 => Walk::Backward,
        2 => Walk::Inward,
        _ => Walk::Cursor { seek: random.below(mix.keys) as KeyId, moves: random.bits() },
    };
    Scan {
        start: start as KeyId,
        end: end as KeyId,
        prefix: (random.below(5) == 0).then(|| random.below(6) as u8),
        walk,
        limit: if random.below(3) == 0 { 1 + random.below(10) as u16 } else { u16::MAX },
        pause_us: if random.below(3) == 0 { 1 << random.below(18) } else { 0 },
    }
}
