//! What each thread of a workload does, and the check of every answer.

use super::data::{Key, Ledger, Random, Values, number_of};
use super::meter::{Meter, Outcome, Progress};
use super::options::Options;
use super::workload::Workload;
use aidb::{Cursor, DB, Durability, TransactionOptions, WriteBatch, WriteOptions};
use std::ops::Range;

/// What the threads of a workload share.
pub(super) struct Job<'a> {
    pub db: &'a DB,
    pub options: &'a Options,
    pub values: &'a Values,
    pub ledger: &'a Ledger,
    /// What this workload's writes are marked with; 0 if it only reads.
    pub generation: u8,
    pub progress: &'a Progress,
}

/// Why a transaction was not committed.
enum Failure {
    Again,
    Wrong(String),
}

impl From<aidb::Error> for Failure {
    fn from(error: aidb::Error) -> Failure {
        if error.is_retryable() { Failure::Again } else { Failure::Wrong(text(error)) }
    }
}

fn text(error: aidb::Error) -> String {
    error.to_string()
}

impl Job<'_> {
    /// Does the operations `range` of `workload` as thread number `thread`.
    pub(super) fn work(&self, workload: Workload, thread: u32, range: Range<u64>) -> Result<Outcome, String> {
        let draw = Random::new(self.options.seed ^ u64::from(thread) << 32 ^ u64::from(self.generation) << 24);
        let meter = Meter::start(self.progress, workload.entries_per_sample(self.options.batch));
        match workload {
            Workload::FillSeq => self.write(meter, range),
            Workload::FillRandom | Workload::Overwrite => self.write(meter, self.numbers(draw, range)),
            Workload::FillBatch => self.write_batches(meter, range),
            Workload::FillSync => self.write_synced(meter, self.numbers(draw, range)),
            Workload::DeleteRandom => self.delete(meter, self.numbers(draw, range)),
            Workload::ReadRandom | Workload::ReadWhileWriting => self.read(meter, self.numbers(draw, range)),
            Workload::ReadMissing => self.read_missing(meter, self.numbers(draw, range)),
            Workload::SeekRandom => self.seek(meter, self.numbers(draw, range)),
            Workload::Txn | Workload::TxnLocked => {
                self.transact(meter, draw, range.end - range.start, workload == Workload::TxnLocked)
            }
            Workload::ReadSeq => self.scan(meter, range.end - range.start),
            Workload::ReadReverse => self.scan_back(meter, range.end - range.start),
        }
    }

    /// Overwrites random keys until the workload ends.
    pub(super) fn write_beside(&self) -> Result<Outcome, String> {
        let draw = Random::new(!self.options.seed);
        // Its operations are not the workload's progress, but it obeys the same order to stop.
        let own = Progress::default();
        let numbers = self.numbers(draw, 0..u64::MAX).take_while(|_| !self.progress.stopped());
        self.write(Meter::start(&own, 1), numbers)
    }

    /// Draws one key number for each operation of `range`.
    fn numbers(&self, mut draw: Random, range: Range<u64>) -> impl Iterator<Item = u64> {
        let num = self.options.num;
        range.map(move |_| draw.below(num))
    }

    fn entry_bytes(&self) -> u64 {
        u64::from(self.options.key_bytes) + u64::from(self.options.value_bytes)
    }

    fn write(&self, mut meter: Meter<'_>, numbers: impl Iterator<Item = u64>) -> Result<Outcome, String> {
        let (mut key, mut value) = (Key::new(self.options.key_bytes), Vec::new());
        for number in numbers {
            self.values.write(number, self.generation, &mut value);
            self.db.put(key.set(number), &value).map_err(text)?;
            self.ledger.set(number, self.generation);
            if !meter.tick(1, self.entry_bytes()) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn write_synced(&self, mut meter: Meter<'_>, numbers: impl Iterator<Item = u64>) -> Result<Outcome, String> {
        let (mut key, mut value) = (Key::new(self.options.key_bytes), Vec::new());
        for number in numbers {
            self.values.write(number, self.generation, &mut value);
            let mut batch = WriteBatch::new();
            batch.put(key.set(number), &value);
            self.db.write_opt(batch, WriteOptions { durability: Some(Durability::Sync) }).map_err(text)?;
            self.ledger.set(number, self.generation);
            if !meter.tick(1, self.entry_bytes()) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn write_batches(&self, mut meter: Meter<'_>, range: Range<u64>) -> Result<Outcome, String> {
        let (mut key, mut value) = (Key::new(self.options.key_bytes), Vec::new());
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + u64::from(self.options.batch));
            let mut batch = WriteBatch::new();
            for number in start..end {
                self.values.write(number, self.generation, &mut value);
                batch.put(key.set(number), &value);
            }
            self.db.write(batch).map_err(text)?;
            for number in start..end {
                self.ledger.set(number, self.generation);
            }
            if !meter.tick(end - start, (end - start) * self.entry_bytes()) {
                break;
            }
            start = end;
        }
        Ok(meter.finish())
    }

    /// Reads and overwrites two keys in each of `count` transactions.
    fn transact(
        &self,
        mut meter: Meter<'_>,
        mut draw: Random,
        count: u64,
        pessimistic: bool,
    ) -> Result<Outcome, String> {
        let options = TransactionOptions { pessimistic, ..TransactionOptions::default() };
        let mut key = Key::new(self.options.key_bytes);
        for _ in 0..count {
            let first = draw.below(self.options.num);
            let second = (first + 1 + draw.below((self.options.num - 1).max(1))) % self.options.num;
            loop {
                match self.transact_once(&mut key, [first, second], options) {
                    Ok(()) => break,
                    Err(Failure::Again) => self.progress.retry(),
                    Err(Failure::Wrong(message)) => return Err(message),
                }
            }
            if !meter.tick(1, 4 * self.entry_bytes()) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn transact_once(&self, key: &mut Key, numbers: [u64; 2], options: TransactionOptions) -> Result<(), Failure> {
        let mut value = Vec::new();
        // What each key has to be at least: looked at before the transaction is.
        let before = numbers.map(|number| self.ledger.get(number));
        let mut transaction = self.db.transaction(options);
        for (number, before) in numbers.into_iter().zip(before) {
            let found = transaction.get_for_update(key.set(number))?;
            self.check(number, before, found.as_deref()).map_err(Failure::Wrong)?;
            self.values.write(number, self.generation, &mut value);
            transaction.put(key.set(number), &value)?;
        }
        transaction.commit()?;
        for number in numbers {
            self.ledger.set(number, self.generation);
        }
        Ok(())
    }

    fn delete(&self, mut meter: Meter<'_>, numbers: impl Iterator<Item = u64>) -> Result<Outcome, String> {
        let mut key = Key::new(self.options.key_bytes);
        for number in numbers {
            self.db.delete(key.set(number)).map_err(text)?;
            self.ledger.set(number, 0);
            if !meter.tick(1, u64::from(self.options.key_bytes)) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn read(&self, mut meter: Meter<'_>, numbers: impl Iterator<Item = u64>) -> Result<Outcome, String> {
        let mut key = Key::new(self.options.key_bytes);
        for number in numbers {
            let before = self.ledger.get(number);
            let value = self.db.get(key.set(number)).map_err(text)?;
            self.check(number, before, value.as_deref())?;
            if !meter.tick(1, value.map_or(0, |_| self.entry_bytes())) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn read_missing(&self, mut meter: Meter<'_>, numbers: impl Iterator<Item = u64>) -> Result<Outcome, String> {
        let mut key = Key::new(self.options.key_bytes);
        for number in numbers {
            let missing = key.set_missing(number);
            if self.db.get(&missing).map_err(text)?.is_some() {
                return Err(format!("wrong answer: key {number} with a dot was never written, but is there"));
            }
            if !meter.tick(1, 0) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn seek(&self, mut meter: Meter<'_>, numbers: impl Iterator<Item = u64>) -> Result<Outcome, String> {
        let mut key = Key::new(self.options.key_bytes);
        for number in numbers {
            let mut expected = self.ledger.at_or_after(number);
            let mut bytes = 0;
            let mut cursor = self.db.iter().into_cursor().map_err(text)?;
            cursor.seek(key.set(number)).map_err(text)?;
            for _ in 0..self.options.seek_nexts {
                bytes += self.check_entry(expected, &cursor)?;
                let Some(found) = expected else { break };
                expected = self.ledger.at_or_after(found + 1);
                cursor.next().map_err(text)?;
            }
            bytes += self.check_entry(expected, &cursor)?;
            if !meter.tick(1, bytes) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn scan(&self, mut meter: Meter<'_>, entries_max: u64) -> Result<Outcome, String> {
        let mut cursor = self.db.iter().into_cursor().map_err(text)?;
        cursor.seek_to_first().map_err(text)?;
        let mut expected = self.ledger.at_or_after(0);
        for _ in 0..entries_max {
            let bytes = self.check_entry(expected, &cursor)?;
            let Some(found) = expected else { break };
            expected = self.ledger.at_or_after(found + 1);
            cursor.next().map_err(text)?;
            if !meter.tick(1, bytes) {
                break;
            }
        }
        Ok(meter.finish())
    }

    fn scan_back(&self, mut meter: Meter<'_>, entries_max: u64) -> Result<Outcome, String> {
        let mut cursor = self.db.iter().into_cursor().map_err(text)?;
        cursor.seek_to_last().map_err(text)?;
        let mut expected = self.ledger.before(self.options.num);
        for _ in 0..entries_max {
            let bytes = self.check_entry(expected, &cursor)?;
            let Some(found) = expected else { break };
            expected = self.ledger.before(found);
            cursor.prev().map_err(text)?;
            if !meter.tick(1, bytes) {
                break;
            }
        }
        Ok(meter.finish())
    }

    /// Checks where a cursor stands against the key it has to stand on, and returns the entry's bytes.
    fn check_entry(&self, expected: Option<u64>, cursor: &Cursor) -> Result<u64, String> {
        let found = match cursor.valid() {
            true => Some(number_of(cursor.key(), self.options.key_bytes).ok_or("wrong answer: a key never written")?),
            false => None,
        };
        if found != expected {
            let name = |number: Option<u64>| number.map_or("the end".to_string(), |number| format!("key {number}"));
            return Err(format!("wrong answer: the cursor is at {} and should be at {}", name(found), name(expected)));
        }
        let Some(found) = found else { return Ok(0) };
        self.check(found, self.ledger.get(found), Some(cursor.value()))?;
        Ok(self.entry_bytes())
    }

    /// Checks what was read for `number`, which was at generation `before` when the read began.
    fn check(&self, number: u64, before: u8, value: Option<&[u8]>) -> Result<(), String> {
        let found = match value {
            None => 0,
            Some(value) => self.values.generation_of(number, value).ok_or_else(|| {
                format!("wrong answer: key {number} has a value of {} bytes that is not its own", value.len())
            })?,
        };
        // While another thread writes, the new generation is as right as the old one. Without one, the generation is 0.
        if found == before || found != 0 && found == self.generation {
            return Ok(());
        }
        Err(match (found, before) {
            (0, _) => format!("wrong answer: key {number} was written but is not there"),
            (_, 0) => format!("wrong answer: key {number} was deleted or never written, but is there"),
            _ => format!("wrong answer: key {number} has the value of fill {found} instead of {before}"),
        })
    }
}
