//! What the log costs beside the bare system calls, measured in one run, turn by turn, in one directory.
//!
//! - **Sync**: one thread appends a record and waits; against `pwrite` of a frame of that size over a file of zeros, and
//!   `fdatasync`. Goal: the median at most 1.3 times as long.
//! - **Groups**: 8 and 32 threads append and wait; how many records share a sync. Goal: 0.9 of the threads.
//! - **Stream**: records that nobody waits for, made durable at the end; against `write` of the same bytes in pieces of a
//!   record, made durable whenever a segment's worth is written and at the end. Goals: 2.5 million a second of 64 bytes; for 16
//!   and 64 KiB 85% of the bare writes.
//!
//! Run with `cargo bench --bench log`; `AIDB_BENCH_DIR` names the directory, which should lie on a device. Devices vary:
//! turns alternate, and a figure is the median over them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "compares with the operating system itself")]

use aidb::aof::{Append, FrameKind, Log, LogOptions};
use aidb::env::StdEnv;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FRAME_BYTES: usize = 40;
const SEGMENT_BYTES: u64 = 64 << 20;
const TURNS: usize = 15;
const SYNCS_A_TURN: usize = 200;

fn open(dir: &Path, index: bool) -> Log<StdEnv> {
    let _ = std::fs::remove_dir_all(dir);
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, ids_contiguous: true, index, ..LogOptions::default() };
    Log::open(StdEnv, dir, options, &mut |_| Ok(())).unwrap().0
}

fn append(log: &Log<StdEnv>, record: &[u8]) -> aidb::aof::Lsn {
    let append = Append { kind: FrameKind::Data, count: 1, first_id: None, tag: 0, parts: &[record] };
    log.append(&append).unwrap().end
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn micros(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_nanos() as f64 / 1000.0
}

/// Medians of one turn of waiting appends: the log's and the bare loop's, in microseconds.
fn sync(dir: &Path) {
    for bytes in [64, 1024] {
        let record = vec![0x5a; bytes];
        let frame = vec![0x5a; (FRAME_BYTES + bytes).next_multiple_of(8)];
        let log = open(&dir.join("log"), false);
        let raw = File::create(dir.join("raw")).unwrap();
        raw.write_all_at(&vec![0; 32 << 20], 0).unwrap();
        raw.sync_all().unwrap();
        let (mut ours, mut theirs, mut ratios, mut at) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for turn in 0..TURNS + 1 {
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..SYNCS_A_TURN {
                let begun = Instant::now();
                log.sync_to(append(&log, &record)).unwrap();
                times[0].push(begun.elapsed());
                let begun = Instant::now();
                raw.write_all_at(&frame, at).unwrap();
                raw.sync_data().unwrap();
                times[1].push(begun.elapsed());
                at += frame.len() as u64;
            }
            let [log, raw] = times.map(|mut times| micros(&mut times));
            if turn > 0 {
                ours.push(log);
                theirs.push(raw);
                ratios.push(log / raw);
            }
        }
        let (ours, theirs, ratio) = (median(&mut ours), median(&mut theirs), median(&mut ratios));
        println!("sync {bytes} B: p50 {ours:.1} us, bare {theirs:.1} us, ratio {ratio:.2} (goal 1.30)");
        log.close().unwrap();
    }
}

fn groups(dir: &Path) {
    for threads in [8, 32] {
        let log = open(&dir.join("log"), false);
        let mut shares = Vec::new();
        let mut rates = Vec::new();
        for turn in 0..6 {
            let (before, begun) = (log.stats(), Instant::now());
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for _ in 0..SYNCS_A_TURN {
                            log.sync_to(append(&log, &[1; 64])).unwrap();
                        }
                    });
                }
            });
            let after = log.stats();
            if turn > 0 {
                let records = (after.appends - before.appends) as f64;
                shares.push(records / (after.syncs - before.syncs) as f64 / threads as f64);
                rates.push(records / begun.elapsed().as_secs_f64());
            }
        }
        let (share, rate) = (median(&mut shares), median(&mut rates));
        println!("groups of {threads}: {share:.2} of the threads share a sync (goal 0.90), {rate:.0} records/s");
        log.close().unwrap();
    }
}

/// Seconds to append, and until all is durable.
fn stream_log(dir: &Path, record: &[u8], count: u64, index: bool, recycle: bool) -> (f64, f64) {
    let log = open(&dir.join("log"), index);
    if recycle {
        // A life before: segments to be written over.
        for _ in 0..count {
            append(&log, record);
        }
        log.sync_to(log.end()).unwrap();
        log.truncate_before(log.end()).unwrap();
        log.prepare_spare().unwrap();
    }
    let begun = Instant::now();
    for _ in 0..count {
        append(&log, record);
    }
    log.write_out().unwrap();
    let written = begun.elapsed().as_secs_f64();
    log.sync_to(log.end()).unwrap();
    (written, begun.elapsed().as_secs_f64())
}

fn stream_raw(dir: &Path, record: &[u8], count: u64) -> (f64, f64) {
    let path = dir.join("raw");
    let _ = std::fs::remove_file(&path);
    let begun = Instant::now();
    let mut file = File::create(&path).unwrap();
    let mut unsynced = 0;
    for _ in 0..count {
        file.write_all(record).unwrap();
        unsynced += record.len() as u64;
        if unsynced >= SEGMENT_BYTES {
            file.sync_data().unwrap();
            unsynced = 0;
        }
    }
    let written = begun.elapsed().as_secs_f64();
    file.sync_data().unwrap();
    (written, begun.elapsed().as_secs_f64())
}

fn streams(dir: &Path) {
    for (bytes, count) in [(64, 500_000), (64, 2_000_000), (1024, 100_000), (16 << 10, 12_000), (64 << 10, 3000)] {
        let record = vec![0x5a; bytes];
        let mut rows = [const { [Vec::new(), Vec::new()] }; 4];
        for turn in 0..6 {
            let measured = [
                stream_raw(dir, &record, count),
                stream_log(dir, &record, count, false, false),
                stream_log(dir, &record, count, true, false),
                stream_log(dir, &record, count, false, true),
            ];
            if turn > 0 {
                for (row, (written, durable)) in rows.iter_mut().zip(measured) {
                    row[0].push(count as f64 / written);
                    row[1].push(count as f64 / durable);
                }
            }
        }
        let rates = rows.map(|row| row.map(|mut values| median(&mut values)));
        let names = ["bare", "log", "log with index", "log over spares"];
        for (name, [written, durable]) in names.iter().zip(&rates) {
            let share = 100.0 * durable / rates[0][1];
            println!(
                "stream {bytes} B x {count}, {name}: {written:.0} written/s ({:.0}%), {durable:.0} durable/s ({share:.0}%), {:.0} MB/s",
                100.0 * written / rates[0][0],
                durable * bytes as f64 / 1e6
            );
        }
    }
}

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let base = std::env::var_os("AIDB_BENCH_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    let dir = tempfile::tempdir_in(base).unwrap();
    for (name, part) in [("sync", sync as fn(&Path)), ("groups", groups), ("streams", streams)] {
        if parts.is_empty() || parts.iter().any(|wanted| wanted == name) {
            part(dir.path());
        }
    }
}
