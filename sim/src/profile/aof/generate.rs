//! From a seed to a workload: swarm over options, operations and clients.
//!
//! Every seed switches some kinds of operations off altogether and weighs the others at random.

use super::case::{AofOptions, Bound, End, Follower, ManifestFate, Op, Place, Step, Strategy, Wait, Workload};
use super::record::RECORD_BYTES_MIN;
use crate::chooser::Salted;

/// The kinds of operations, in the order of their weights.
const KINDS: usize = 15;

struct Mix {
    weights: [u64; KINDS],
    waits: [u64; 5],
    bytes_max: u64,
    /// Records of several segments, now and then.
    huge: bool,
    batch_max: u64,
    written_percent: u64,
    far: u64,
}

/// Builds the workload of `seed`.
pub(super) fn workload(seed: u64, steps_max: u64) -> Workload {
    let mut random = Salted::new(seed ^ 0x616f_665f_6c6f_6164);
    let options = options(&mut random);
    let mix = mix(&mut random, options.segment_bytes);
    let clients = [1, 1, 2, 3, 4][random.below(5) as usize];
    let count = 10 + random.below(steps_max);
    let reopen_one_in = [8, 25, 100, u64::MAX][random.below(4) as usize];
    let readers = if clients > 1 { random.below(clients) } else { 0 };
    let tamper_one_in = [4, 12, u64::MAX, u64::MAX][random.below(4) as usize];
    let mut steps = Vec::with_capacity(count as usize);
    for id in 0..count {
        if random.below(reopen_one_in) == 1 {
            steps.push(Step::Reopen(end(&mut random, tamper_one_in)));
            continue;
        }
        let client = random.below(clients);
        let op = op(&mut random, &mix, client < readers);
        steps.push(Step::Client { id: id as u32 + 1, client: client as u8, op });
    }
    let followers = (0..[0, 0, 1, 2][random.below(4) as usize]).map(|_| Follower {
        from: place(&mut random, &mix),
        written: random.below(100) < mix.written_percent,
        pause_us: if random.below(2) == 0 { 0 } else { 1 << random.below(16) },
    });
    let followers = followers.collect();
    Workload { options, followers, steps }
}

fn end(random: &mut Salted, tamper_one_in: u64) -> End {
    let fates = [ManifestFate::Lost, ManifestFate::Renamed, ManifestFate::Torn];
    let tampered = random.below(tamper_one_in) == 0;
    let manifest = if tampered { fates[random.below(3) as usize] } else { ManifestFate::Kept };
    End { close: random.below(3) != 0, power_loss: random.below(2) == 0, manifest }
}

fn options(random: &mut Salted) -> AofOptions {
    let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
    let strategy = match pick(&[0, 1, 2, 3, 4]) {
        0 => Strategy::Sync,
        1 => Strategy::Async,
        2 => Strategy::Batched(pick(&[1, 3, 20, 1000])),
        3 => Strategy::Periodic(pick(&[1, 20, 500])),
        _ => Strategy::Both { records: pick(&[2, 10, 1000]), ms: pick(&[1, 50, 500]) },
    };
    let segment_bytes = pick(&[8 << 10, 8 << 10, 12 << 10, 32 << 10]);
    let archive = pick(&[0, 1, 1]) == 1;
    let (age, bytes) = match pick(&[0, 0, 1, 2, 3]) {
        1 => (Some(pick(&[1_000, 1_000_000, 3_600_000_000])), None),
        2 => (None, Some(pick(&[1, 8 << 10, 24 << 10, 100 << 10]))),
        3 => (Some(pick(&[50_000, 10_000_000])), Some(pick(&[16 << 10, 64 << 10]))),
        _ => (None, None),
    };
    AofOptions {
        segment_bytes,
        strategy,
        buffer_bytes: pick(&[0, 500, 1 << 20]) as usize,
        pending_bytes_max: pick(&[4096, 16 << 10, 64 << 20]),
        unarchived_segments_max: pick(&[0, 0, 1, 4]) as usize,
        preallocate: pick(&[0, 1]) == 1,
        spare_segments: pick(&[0, 1, 2]) as usize,
        open_segments_max: pick(&[1, 2, 64]) as usize,
        readers_max: pick(&[2, 64, 64]) as usize,
        retention_age_us: age,
        retention_bytes: bytes,
        compression_level: [None, Some(1), Some(3)][pick(&[0, 1, 2]) as usize],
        key: pick(&[0, 0, 1]) as u32,
        archive,
        local_segments: pick(&[0, 1, 3]) as usize,
        cache_bytes: pick(&[0, 64 << 10, 1 << 20]) as usize,
        background_us: pick(&[5_000, 20_000, 1_000_000]),
    }
}

fn mix(random: &mut Salted, segment_bytes: u64) -> Mix {
    // append one, append batch, append_if, read, scan, truncate, retain, pin, unpin, seal, flush, verify or metrics, second open,
    // read only, wait or sleep
    let mut weights = [30, 20, 4, 10, 12, 3, 1, 2, 2, 4, 4, 2, 1, 2, 6];
    for weight in &mut weights[2..] {
        match random.below(5) {
            0 => *weight = 0,
            1 => *weight *= 4,
            _ => {}
        }
    }
    let waits = match random.below(5) {
        0 => [1, 0, 0, 0, 0],
        1 => [0, 1, 1, 0, 0],
        2 => [1, 1, 0, 1, 1],
        _ => [2, 1, 1, 1, 1],
    };
    Mix {
        weights,
        waits,
        bytes_max: [20, 120, 600, segment_bytes / 3][random.below(4) as usize],
        huge: random.below(12) == 0,
        batch_max: 2 + random.below(8),
        written_percent: [0, 20, 100][random.below(3) as usize],
        far: [3, 20, 200][random.below(3) as usize],
    }
}

fn op(random: &mut Salted, mix: &Mix, reader: bool) -> Op {
    let from = if reader { 3 } else { 0 };
    match from + random.weighted(&mix.weights[from..]) {
        0 => Op::Append { records: vec![bytes(random, mix)], tag: random.below(3) as u32, wait: wait(random, mix) },
        1 => {
            let count = 2 + random.below(mix.batch_max);
            let first = bytes(random, mix);
            let rest = (1..count).map(|_| if random.below(6) == 0 { 0 } else { bytes(random, mix) });
            Op::Append { records: [first].into_iter().chain(rest).collect(), tag: 0, wait: wait(random, mix) }
        }
        2 => {
            let behind = if random.below(4) == 0 { 1 + random.below(3) } else { 0 };
            Op::AppendIf { bytes: bytes(random, mix), fence: random.below(6), behind }
        }
        3 => Op::Read { back: random.below(mix.far) },
        4 => Op::Scan {
            from: place(random, mix),
            until: match random.below(6) {
                0 => Bound::Count(1 + random.below(mix.far)),
                1 => Bound::Bytes(random.below(4000)),
                2 => Bound::Back(random.below(mix.far)),
                _ => Bound::None,
            },
            written: random.below(100) < mix.written_percent,
            seek: if random.below(4) == 0 { Some(place(random, mix)) } else { None },
            pause_us: if random.below(3) == 0 { 1 << random.below(18) } else { 0 },
        },
        5 => Op::Truncate { keep: random.below(mix.far) },
        6 => Op::Retain {
            age_us: (random.below(2) == 0).then(|| 1 + random.below(10_000_000)),
            bytes: (random.below(2) == 0).then(|| 1 + random.below(64 << 10)),
        },
        7 => Op::Pin { name: random.below(3) as u8, back: random.below(mix.far) },
        8 => Op::Unpin { name: random.below(3) as u8 },
        9 => Op::Seal,
        10 => Op::Flush,
        11 if random.below(2) == 0 => Op::Verify,
        11 => Op::Metrics,
        12 => Op::SecondOpen,
        13 => Op::ReadOnly,
        _ if random.below(3) == 0 => Op::WaitDurable { us: 1 << random.below(18) },
        _ => Op::Sleep { us: 1 << random.below(20) },
    }
}

fn place(random: &mut Salted, mix: &Mix) -> Place {
    match random.below(6) {
        0 | 1 => Place::First,
        2 => Place::Back(random.below(mix.far)),
        3 => Place::TailMinus(random.below(mix.far)),
        4 => Place::TimeOf(random.below(mix.far)),
        _ => Place::LsnOf(random.below(mix.far)),
    }
}

fn bytes(random: &mut Salted, mix: &Mix) -> u32 {
    if mix.huge && random.below(15) == 0 {
        // Some so long that the log writes them from where they lie.
        let from = if random.below(6) == 0 { 256 << 10 } else { 20_000 };
        return from + random.below(20_000) as u32;
    }
    RECORD_BYTES_MIN + random.below(mix.bytes_max) as u32
}

fn wait(random: &mut Salted, mix: &Mix) -> Wait {
    let mut at = random.below(mix.waits.iter().sum());
    for (wait, weight) in [Wait::Drop, Wait::Wait, Wait::Sync, Wait::Await, Wait::Try].into_iter().zip(mix.waits) {
        if at < weight {
            return wait;
        }
        at -= weight;
    }
    Wait::Wait
}
