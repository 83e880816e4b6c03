//! What the trait `Env` costs on the path of a log append: nothing.
//!
//! The same appender (frame header with its two checksums, copy into a buffer, `pwrite`) stands here twice: [`Generic`], over
//! any `Env` as the engine is written, with its simulation hooks; and [`ByHand`], with `std::fs::File` and `parking_lot` and
//! no trait. `log` is the real one, which also checks, counts, rolls segments and writes zeros ahead.
//!
//! Run with `cargo bench --bench env_overhead`. The file lies in memory where the system has such a place, because a device
//! would drown the difference that is looked for.
#![allow(clippy::disallowed_methods, reason = "compares with the operating system itself")]
#![allow(missing_docs, reason = "criterion's macros make items without them")]

use aidb::aof::format::{FRAME_BYTES, FrameHeader, SegmentHeader};
use aidb::aof::{Append, FrameKind, Log, LogOptions};
use aidb::base::checksum::crc32c;
use aidb::env::{Disk, DiskFile, Env, Mutex, OpenMode, StdEnv};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE_BYTES: u64 = 16 << 20;
const PAYLOAD: &[u8] = &[0x5a; 128];
/// Frames between two writes to the file.
const GROUPS: [u64; 2] = [1, 100];

/// The buffer of an appender and where it stands.
#[derive(Default)]
struct Stage {
    bytes: Vec<u8>,
    lsn: u64,
    ts: u64,
    segment: SegmentHeader,
}

impl Stage {
    #[inline]
    fn push(&mut self, payload: &[u8], wall: impl FnOnce() -> u64, claim: u64) {
        if self.bytes.is_empty() {
            self.ts = self.ts.max(wall());
        }
        let header = FrameHeader {
            payload_crc: crc32c(&[], &[payload]),
            len: payload.len() as u32,
            count: 1,
            kind: FrameKind::Data,
            tagged: false,
            first_id: 0,
            ts: self.ts,
            durable_back: claim as u32,
            tag: 0,
        };
        self.bytes.extend_from_slice(&header.encode(&self.segment.place(self.lsn)));
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.lsn += header.frame_bytes();
    }

    /// Returns where the buffer goes: round and round in one file.
    fn offset(&self) -> u64 {
        (self.lsn - self.bytes.len() as u64) % FILE_BYTES
    }
}

/// The appender as the engine would write it.
struct Generic<E: Env> {
    env: E,
    stage: Mutex<E, Stage>,
    file: <E::Disk as Disk>::File,
}

impl<E: Env> Generic<E> {
    fn new(env: E, path: &Path) -> Generic<E> {
        let file = env.disk().open(path, OpenMode::CreateNew).unwrap();
        file.truncate(FILE_BYTES * 2).unwrap();
        Generic { env, stage: Mutex::<E, Stage>::new(Stage::default()), file }
    }

    fn append(&self, payload: &[u8]) {
        let mut stage = self.stage.lock();
        let claim = if self.env.planted("aof_marks_never_advance") { 1 } else { 0 };
        stage.push(payload, || self.env.wall().0, claim);
    }

    fn write_out(&self) {
        self.env.yield_point();
        let mut stage = self.stage.lock();
        if !self.env.buggify("skip") {
            self.file.write_at(&stage.bytes, stage.offset()).unwrap();
        }
        self.env.reached("written");
        stage.bytes.clear();
    }
}

/// The same without the trait.
struct ByHand {
    stage: parking_lot::Mutex<Stage>,
    file: File,
}

impl ByHand {
    fn new(path: &Path) -> ByHand {
        let file = File::create_new(path).unwrap();
        file.set_len(FILE_BYTES * 2).unwrap();
        ByHand { stage: parking_lot::Mutex::new(Stage::default()), file }
    }

    fn append(&self, payload: &[u8]) {
        let wall = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        self.stage.lock().push(payload, wall, 0);
    }

    fn write_out(&self) {
        let mut stage = self.stage.lock();
        self.file.write_all_at(&stage.bytes, stage.offset()).unwrap();
        stage.bytes.clear();
    }
}

fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

fn appends(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let by_hand = ByHand::new(&dir.path().join("by_hand"));
    let generic = Generic::new(StdEnv, &dir.path().join("generic"));
    let options = LogOptions { segment_bytes: FILE_BYTES, ..LogOptions::default() };
    let (log, _) = Log::open(StdEnv, &dir.path().join("log"), options, &mut |_| Ok(())).unwrap();
    let append = Append { kind: FrameKind::Data, count: 1, first_id: Some(0), tag: 0, parts: &[PAYLOAD] };
    for frames in GROUPS {
        let mut group = criterion.benchmark_group("append_128_bytes");
        group.throughput(Throughput::Elements(frames));
        let named = |name: &str| BenchmarkId::new(name, format!("{frames} a write"));
        group.bench_function(named("by_hand"), |bencher| {
            bencher.iter(|| {
                (0..frames).for_each(|_| by_hand.append(black_box(PAYLOAD)));
                by_hand.write_out();
            });
        });
        group.bench_function(named("generic"), |bencher| {
            bencher.iter(|| {
                (0..frames).for_each(|_| generic.append(black_box(PAYLOAD)));
                generic.write_out();
            });
        });
        group.bench_function(named("log"), |bencher| {
            bencher.iter(|| {
                for _ in 0..frames {
                    log.append(black_box(&append)).unwrap();
                }
                log.write_out().unwrap();
                if log.end().0 - log.durable().0 > FILE_BYTES / 2 {
                    log.sync_to(log.end()).unwrap();
                    log.truncate_before(log.end()).unwrap();
                }
            });
        });
        group.finish();
    }
    assert_eq!(FRAME_BYTES + PAYLOAD.len(), 168, "what the figures are about");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = appends
}
criterion_main!(benches);
