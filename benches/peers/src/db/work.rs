//! The workloads' loops, over any [`Store`], with a clock and a check of every answer.

use super::child::Run;
use super::data::{self, Batch, KEY_BYTES, Random, Shuffle, Values, Zipf};
use super::store::{Reader, Scan, Store};
use super::workload::Workload;
use crate::{Result, process};
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BATCH: u64 = 100;
const SEEK_ENTRIES: u64 = 11;
const SCAN_MAX: u64 = 100;
/// Entries of a long scan between two readings of the clock.
const SCAN_SAMPLE: u64 = 1000;
/// The generation of the values that a workload writes over those loaded.
const NEW: u64 = 1;

/// What a workload works with.
pub struct Work<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Values to write and check.
    pub values: &'a Values,
    /// What is asked for.
    pub run: &'a Run,
}

/// What a workload took.
pub struct Measured {
    /// Operations, or entries of a scan or batch.
    pub records: u64,
    /// How long they took.
    pub seconds: f64,
    /// Processor time of the process meanwhile.
    pub cpu: Duration,
    /// Nanoseconds of each sample.
    pub nanos: Histogram<u64>,
    /// Bytes of keys and values that were put, and of keys that were deleted.
    pub bytes_written: u64,
    /// Entries there must be afterwards, if that is known.
    pub entries: Option<u64>,
    /// Operations and seconds of what else was done.
    pub beside: Option<(u64, f64)>,
}

/// Counts and times operations. The end of a sample is the start of the next, so the clock is read once for each.
struct Meter {
    records: u64,
    bytes_written: u64,
    sample: u64,
    since_sample: u64,
    nanos: Histogram<u64>,
    last: Instant,
}

impl Meter {
    /// Begins to time samples of `sample` records.
    fn start(sample: u64) -> Meter {
        const NANOS_MAX: u64 = 600_000_000_000;
        let nanos = Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("constant bounds are valid");
        Meter { records: 0, bytes_written: 0, sample, since_sample: 0, nanos, last: Instant::now() }
    }

    #[inline]
    fn tick(&mut self, records: u64) {
        self.records += records;
        self.since_sample += records;
        if self.since_sample >= self.sample {
            self.since_sample = 0;
            let now = Instant::now();
            self.nanos.saturating_record(((now - self.last).as_nanos() as u64).max(1));
            self.last = now;
        }
    }
}

impl Work<'_> {
    /// Puts every key once in random order, in batches.
    pub fn load(&self) -> Result<()> {
        self.fill_batches(0, &mut Meter::start(BATCH))
    }

    /// Reads something of each block that the workload is going to read.
    pub fn warm(&self) -> Result<()> {
        const APART_BYTES: u64 = 2 << 10;
        let keys = match self.run.workload {
            Workload::ReadRandom => self.run.hot_keys(),
            _ => self.run.num,
        };
        let mut reader = self.store.reader()?;
        let step = (APART_BYTES / self.run.entry_bytes()).max(1);
        (0..keys).step_by(step as usize).try_for_each(|number| self.read(&mut *reader, number))
    }

    /// Runs the workload.
    pub fn measure(&self) -> Result<Measured> {
        let num = self.run.num;
        let operations = self.run.workload.operations(num);
        let mut random = Random::new(7);
        let any = |_| random.below(num);
        match self.run.workload {
            Workload::FillSeq => self.timed(1, Some(num), |meter| self.puts(0, 0..num, meter)),
            Workload::FillRandom => {
                let shuffle = Shuffle::new(num);
                self.timed(1, Some(num), |meter| self.puts(0, (0..num).map(|at| shuffle.at(at)), meter))
            }
            Workload::FillBatch => self.timed(BATCH, Some(num), |meter| self.fill_batches(0, meter)),
            Workload::FillSync(threads) => self.fill_synced(threads),
            Workload::Overwrite => self.timed(1, Some(num), |meter| self.puts(NEW, (0..operations).map(any), meter)),
            Workload::ReadRandom => {
                let hot = self.run.hot_keys();
                self.timed(1, None, |meter| self.reads((0..operations).map(|_| random.below(hot)), meter))
            }
            Workload::ReadRandomCold => self.timed(1, None, |meter| self.reads((0..operations).map(any), meter)),
            Workload::ReadMissing => self.timed(1, None, |meter| self.read_missing((0..operations).map(any), meter)),
            Workload::SeekRandom => self.timed(1, None, |meter| {
                let last = num - SEEK_ENTRIES + 1;
                self.seeks((0..operations).map(|_| random.below(last)), meter)
            }),
            Workload::ReadSeq => self.timed(SCAN_SAMPLE, None, |meter| self.scan(Scan::All, num, meter)),
            Workload::ReadReverse => self.timed(SCAN_SAMPLE, None, |meter| self.scan(Scan::Back, num, meter)),
            Workload::ReadWhileWriting => self.read_while_writing(operations),
            Workload::DeletesThenScan => self.delete_then_scan(),
            Workload::Ycsb('e') => self.scan_and_insert(operations),
            Workload::Ycsb(mix) => self.read_and_update(mix, operations),
        }
    }

    /// Checks that there are `entries` entries.
    pub fn count(&self, entries: u64) -> Result<()> {
        self.scan(Scan::All, entries, &mut Meter::start(SCAN_SAMPLE))
    }

    fn timed(
        &self,
        sample: u64,
        entries: Option<u64>,
        work: impl FnOnce(&mut Meter) -> Result<()>,
    ) -> Result<Measured> {
        let (cpu, start) = (process::cpu(), Instant::now());
        let mut meter = Meter::start(sample);
        work(&mut meter)?;
        let seconds = start.elapsed().as_secs_f64();
        let Meter { records, bytes_written, nanos, .. } = meter;
        Ok(Measured { records, seconds, cpu: process::cpu() - cpu, nanos, bytes_written, entries, beside: None })
    }

    fn put(&self, generation: u64, number: u64, value: &mut Vec<u8>, meter: &mut Meter) -> Result<()> {
        let key = data::key(number);
        value.clear();
        self.values.append(number, &key, generation, value);
        self.store.put(&key, value)?;
        meter.bytes_written += self.run.entry_bytes();
        Ok(())
    }

    fn puts(&self, generation: u64, numbers: impl Iterator<Item = u64>, meter: &mut Meter) -> Result<()> {
        let mut value = Vec::new();
        for number in numbers {
            self.put(generation, number, &mut value, meter)?;
            meter.tick(1);
        }
        Ok(())
    }

    fn fill_batches(&self, generation: u64, meter: &mut Meter) -> Result<()> {
        let (num, shuffle) = (self.run.num, Shuffle::new(self.run.num));
        let mut batch = Batch::new(self.run.value_bytes);
        for start in (0..num).step_by(BATCH as usize) {
            let end = num.min(start + BATCH);
            batch.set(self.values, generation, (start..end).map(|at| shuffle.at(at)));
            self.store.write(&batch)?;
            meter.bytes_written += (end - start) * self.run.entry_bytes();
            meter.tick(end - start);
        }
        Ok(())
    }

    fn fill_synced(&self, threads: usize) -> Result<Measured> {
        let barrier = Barrier::new(threads);
        let writer = |thread: usize| {
            let mut random = Random::new(thread as u64);
            barrier.wait();
            let end = Instant::now() + Duration::from_millis(self.run.ms);
            let mut meter = Meter::start(1);
            let (num, going) = (self.run.num, || Instant::now() < end);
            self.puts(0, (0..u64::MAX).map(|_| random.below(num)).take_while(|_| going()), &mut meter)?;
            Ok::<_, String>(meter)
        };
        self.timed(1, None, |meter| {
            std::thread::scope(|scope| {
                let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || writer(thread))).collect();
                for thread in started {
                    let own = thread.join().map_err(|_| "a writer panicked")??;
                    meter.records += own.records;
                    meter.bytes_written += own.bytes_written;
                    meter.nanos.add(own.nanos).map_err(|error| error.to_string())?;
                }
                Ok(())
            })
        })
    }

    fn read(&self, reader: &mut dyn Reader, number: u64) -> Result<()> {
        let key = data::key(number);
        match reader.get(&key, &mut |value| self.values.fits(&key, value))? {
            Some(true) => Ok(()),
            Some(false) => Err(format!("wrong answer: key {number} has a value that is not its own")),
            None => Err(format!("wrong answer: key {number} is not there")),
        }
    }

    fn reads(&self, numbers: impl Iterator<Item = u64>, meter: &mut Meter) -> Result<()> {
        let mut reader = self.store.reader()?;
        for number in numbers {
            self.read(&mut *reader, number)?;
            meter.tick(1);
        }
        Ok(())
    }

    fn read_missing(&self, numbers: impl Iterator<Item = u64>, meter: &mut Meter) -> Result<()> {
        let mut reader = self.store.reader()?;
        for number in numbers {
            if reader.get(&data::missing(number), &mut |_| true)?.is_some() {
                return Err(format!("wrong answer: key {number} with a dot was never written, but is there"));
            }
            meter.tick(1);
        }
        Ok(())
    }

    /// Reads `count` entries from the key of `number` on, if there are as many; returns how many there were.
    fn seek(&self, reader: &mut dyn Reader, number: u64, count: u64) -> Result<u64> {
        let first = data::key(number);
        let (mut seen, mut right) = (0, true);
        reader.scan(Scan::From(&first), &mut |key, value| {
            right &= (seen > 0 || key == first) && self.values.fits(key, value);
            seen += 1;
            seen < count
        })?;
        if right { Ok(seen) } else { Err(format!("wrong answer: an entry of the scan from key {number}")) }
    }

    fn seeks(&self, numbers: impl Iterator<Item = u64>, meter: &mut Meter) -> Result<()> {
        let mut reader = self.store.reader()?;
        for number in numbers {
            let seen = self.seek(&mut *reader, number, SEEK_ENTRIES)?;
            if seen != SEEK_ENTRIES {
                return Err(format!("wrong answer: {seen} entries from key {number} instead of {SEEK_ENTRIES}"));
            }
            meter.tick(1);
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, entries: u64, meter: &mut Meter) -> Result<()> {
        let (mut seen, mut wrong) = (0, 0u64);
        self.store.reader()?.scan(scan, &mut |key, value| {
            seen += 1;
            wrong += u64::from(!self.values.fits(key, value));
            meter.tick(1);
            true
        })?;
        if (seen, wrong) == (entries, 0) {
            return Ok(());
        }
        Err(format!("wrong answer: {seen} entries instead of {entries}, {wrong} of them with a value not their own"))
    }

    fn read_while_writing(&self, operations: u64) -> Result<Measured> {
        let num = self.run.num;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut random = Random::new(8);
                let numbers = (0..u64::MAX).map(|_| random.below(num));
                let going = numbers.take_while(|_| !stop.load(Ordering::Relaxed));
                self.timed(1, None, |meter| self.puts(NEW, going, meter))
            });
            let mut random = Random::new(7);
            let read = (0..operations).map(|_| random.below(num));
            let measured = self.timed(1, Some(num), |meter| self.reads(read, meter));
            stop.store(true, Ordering::Relaxed);
            let wrote = writer.join().map_err(|_| "the writer panicked")??;
            let mut measured = measured?;
            measured.bytes_written = wrote.bytes_written;
            measured.beside = Some((wrote.records, wrote.seconds));
            Ok(measured)
        })
    }

    fn delete_then_scan(&self) -> Result<Measured> {
        const KEPT: u64 = 10;
        let (num, shuffle) = (self.run.num, Shuffle::new(self.run.num));
        let deletes = self.timed(1, None, |meter| {
            for number in (0..num).map(|at| shuffle.at(at)).filter(|number| !number.is_multiple_of(KEPT)) {
                self.store.delete(&data::key(number))?;
                meter.bytes_written += KEY_BYTES as u64;
                meter.tick(1);
            }
            Ok(())
        })?;
        let left = num.div_ceil(KEPT);
        let mut measured = self.timed(SCAN_SAMPLE, Some(left), |meter| self.scan(Scan::All, left, meter))?;
        measured.bytes_written = deletes.bytes_written;
        measured.beside = Some((deletes.records, deletes.seconds));
        Ok(measured)
    }

    /// YCSB A, B, C and F: reads beside updates; in F an update reads first.
    fn read_and_update(&self, mix: char, operations: u64) -> Result<Measured> {
        let reads_percent = match mix {
            'a' | 'f' => 50,
            'b' => 95,
            _ => 100,
        };
        let (zipf, mut random, mut value) = (Zipf::new(self.run.num), Random::new(7), Vec::new());
        let mut reader = self.store.reader()?;
        self.timed(1, Some(self.run.num), |meter| {
            for _ in 0..operations {
                let number = zipf.draw(&mut random);
                let updates = random.below(100) >= reads_percent;
                if !updates || mix == 'f' {
                    self.read(&mut *reader, number)?;
                }
                if updates {
                    self.put(NEW, number, &mut value, meter)?;
                }
                meter.tick(1);
            }
            Ok(())
        })
    }

    /// YCSB E: short scans beside inserts behind the last key.
    fn scan_and_insert(&self, operations: u64) -> Result<Measured> {
        const SCANS_PERCENT: u64 = 95;
        let (zipf, mut random, mut value) = (Zipf::new(self.run.num), Random::new(7), Vec::new());
        let mut reader = self.store.reader()?;
        let mut end = self.run.num;
        let mut measured = self.timed(1, None, |meter| {
            for _ in 0..operations {
                if random.below(100) >= SCANS_PERCENT {
                    self.put(NEW, end, &mut value, meter)?;
                    end += 1;
                } else {
                    let (number, count) = (zipf.draw(&mut random), 1 + random.below(SCAN_MAX));
                    let (seen, expected) = (self.seek(&mut *reader, number, count)?, count.min(end - number));
                    if seen != expected {
                        return Err(format!("wrong answer: {seen} entries from key {number} instead of {expected}"));
                    }
                }
                meter.tick(1);
            }
            Ok(())
        })?;
        measured.entries = Some(end);
        Ok(measured)
    }
}
