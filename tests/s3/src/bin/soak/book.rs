//! What the log owes: acknowledged records, and what a full read has shown before: [`Book`].

use crate::record::{Author, check, make};
use aidb::aof::{Aof, From};
use std::collections::{BTreeMap, BTreeSet};

/// A batch that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Batch {
    count: u64,
    author: Author,
    ts: u64,
}

/// The parent's book.
#[derive(Default)]
pub(crate) struct Book {
    /// By the id of the first record.
    acknowledged: BTreeMap<u64, Batch>,
    /// Sequence numbers that an append with an unknown outcome took.
    skipped: BTreeSet<Author>,
    /// Checksums of the records that the last full read showed, from this id on.
    shown_first: u64,
    shown: Vec<u32>,
    /// How many records were acknowledged, of how many bytes with their bodies not counted.
    pub(crate) records: u64,
    pub(crate) batches: u64,
    /// How many acknowledged records were seen to be gone, by age.
    pub(crate) expired: u64,
}

/// What a full read found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) first: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) acknowledged: u64,
    /// The time of the oldest record.
    pub(crate) oldest_ts: u64,
}

impl Book {
    /// Notes the numbers of an `A` line.
    pub(crate) fn acknowledge(&mut self, numbers: &[u64]) -> Result<(), String> {
        let &[first, count, writer, round, sequence, ts] = numbers else { return Err(format!("A {numbers:?}")) };
        let author = Author { writer: writer as u32, round: round as u32, sequence };
        if let Some(other) = self.acknowledged.insert(first, Batch { count, author, ts }) {
            return Err(format!("record {first} was acknowledged twice: {other:?} and {author:?}"));
        }
        self.records += count;
        self.batches += 1;
        Ok(())
    }

    /// Notes the numbers of an `S` line.
    pub(crate) fn skip(&mut self, numbers: &[u64]) {
        if let &[writer, round, sequence] = numbers {
            self.skipped.insert(Author { writer: writer as u32, round: round as u32, sequence });
        }
    }

    /// Reads the whole log and compares it with the book. `now` and `ttl` are microseconds.
    pub(crate) fn compare(&mut self, aof: &Aof, now: impl Fn() -> u64, ttl: u64) -> Result<Found, String> {
        let mut found = Found::default();
        let mut sums = Vec::new();
        let mut authors: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        let mut cursor = aof.cursor(From::First).map_err(|error| format!("cursor: {error:?}"))?;
        while let Some(record) = cursor.next_ref() {
            let record = record.map_err(|error| format!("after {} records: {error:?}", found.records))?;
            let id = record.id;
            if found.records == 0 {
                (found.first, found.oldest_ts) = (id, record.ts);
            } else if id != found.first + found.records {
                return Err(format!("record {id} comes after {}", found.first + found.records - 1));
            }
            let (sum, author) = check(record.bytes).map_err(|what| format!("record {id}: {what}"))?;
            if make(author) != record.bytes {
                return Err(format!("record {id} is not what {author:?} wrote"));
            }
            self.continues(&mut authors, id, author)?;
            sums.push(sum);
            found.records += 1;
            found.bytes += record.bytes.len() as u64;
            found.acknowledged += self.owed(id, author)?;
        }
        self.compare_ends(&found, aof.next_id(), now(), ttl)?;
        self.compare_shown(found.first, sums)?;
        Ok(found)
    }

    /// Checks that a writer's records come in its order, each once.
    fn continues(&self, authors: &mut BTreeMap<(u32, u32), u64>, id: u64, author: Author) -> Result<(), String> {
        let Some(before) = authors.insert((author.writer, author.round), author.sequence) else { return Ok(()) };
        let gap = (before + 1..author.sequence).any(|sequence| !self.skipped.contains(&Author { sequence, ..author }));
        if before >= author.sequence || gap {
            return Err(format!("record {id}: {author:?} comes after its sequence {before}"));
        }
        Ok(())
    }

    /// Returns 1 if record `id` was acknowledged, after checking that it is the one.
    fn owed(&self, id: u64, author: Author) -> Result<u64, String> {
        let Some((first, batch)) = self.acknowledged.range(..=id).next_back() else { return Ok(0) };
        if id >= first + batch.count {
            return Ok(0);
        }
        let wanted = Author { sequence: batch.author.sequence + (id - first), ..batch.author };
        if wanted != author {
            return Err(format!("record {id} was acknowledged to {wanted:?} and is {author:?}"));
        }
        Ok(1)
    }

    /// Checks what is gone at the old end, and that nothing is at the new one.
    fn compare_ends(&mut self, found: &Found, next: u64, now: u64, ttl: u64) -> Result<(), String> {
        let (first, end) = if found.records == 0 { (next, next) } else { (found.first, found.first + found.records) };
        if end != next {
            return Err(format!("the last record is {}, the next id {next}", end - 1));
        }
        if let Some((last, batch)) = self.acknowledged.last_key_value()
            && last + batch.count > end
        {
            return Err(format!("acknowledged {} is lost, the log ends before {end}", last + batch.count - 1));
        }
        while let Some(entry) = self.acknowledged.first_entry() {
            let (id, batch) = (*entry.key(), *entry.get());
            if id >= first {
                break;
            }
            if batch.ts + ttl > now {
                let age = (now - batch.ts) / 1000;
                return Err(format!("acknowledged {id} is gone at the age of {age} ms, the log begins at {first}"));
            }
            if id + batch.count > first {
                break;
            }
            self.expired += batch.count;
            entry.remove();
        }
        Ok(())
    }

    /// Checks that what an earlier read showed is still the same.
    fn compare_shown(&mut self, first: u64, sums: Vec<u32>) -> Result<(), String> {
        let before = self.shown_first..self.shown_first + self.shown.len() as u64;
        if !sums.is_empty() && first < before.start && !before.is_empty() {
            return Err(format!("record {first} is back, the log began at {}", before.start));
        }
        for id in before.clone().filter(|id| *id >= first) {
            let (old, new) = (self.shown[(id - before.start) as usize], sums.get((id - first) as usize));
            if new != Some(&old) {
                return Err(format!("record {id} was read before and is now another one, or gone"));
            }
        }
        (self.shown_first, self.shown) = (first, sums);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidb::aof::AofConfig;
    use aidb::env::StdEnv;
    use tempfile::TempDir;

    const HOUR: u64 = 3_600_000_000;

    fn author(sequence: u64) -> Author {
        Author { writer: 1, round: 2, sequence }
    }

    /// A log of the records of sequence 0..`count`, acknowledged at time 0.
    fn log(count: u64) -> (TempDir, Aof, Book) {
        let dir = tempfile::tempdir().unwrap();
        let config = AofConfig { segment_bytes: 64 << 10, ..AofConfig::default() };
        let (aof, _) = Aof::open(StdEnv, dir.path(), config).unwrap();
        let mut book = Book::default();
        for sequence in 0..count {
            let id = aof.append(&make(author(sequence))).unwrap().ids().start;
            book.acknowledge(&[id, 1, 1, 2, sequence, 0]).unwrap();
        }
        aof.flush().unwrap();
        (dir, aof, book)
    }

    #[test]
    fn a_good_log_agrees_with_the_book() {
        let (_dir, aof, mut book) = log(100);
        for _ in 0..2 {
            let found = book.compare(&aof, || HOUR, HOUR).unwrap();
            assert_eq!((found.first, found.records, found.acknowledged), (1, 100, 100));
        }
        aof.truncate_before(50).unwrap();
        let found = book.compare(&aof, || HOUR, HOUR).unwrap();
        assert_eq!((found.first, found.records, book.expired), (50, 51, 49));
    }

    #[test]
    fn every_kind_of_loss_is_noticed() {
        let refused = |change: &dyn Fn(&Aof, &mut Book)| {
            let (_dir, aof, mut book) = log(100);
            book.compare(&aof, || HOUR, HOUR).unwrap();
            change(&aof, &mut book);
            book.compare(&aof, || HOUR - 1, HOUR).unwrap_err()
        };
        let lost = refused(&|_, book| book.acknowledge(&[101, 1, 1, 2, 100, 0]).unwrap());
        assert!(lost.contains("acknowledged 101 is lost"), "{lost}");
        let early = refused(&|aof, _| assert_eq!(aof.truncate_before(50).unwrap(), 50));
        assert!(early.contains("acknowledged 1 is gone at the age of"), "{early}");
        let twice = refused(&|aof, _| aof.append(&make(author(99))).unwrap().wait().unwrap());
        assert!(twice.contains("record 101"), "{twice}");
        let gap = refused(&|aof, _| aof.append(&make(author(101))).unwrap().wait().unwrap());
        assert!(gap.contains("comes after its sequence 99"), "{gap}");
        let changed = refused(&|_, book| book.shown[7] ^= 1);
        assert!(changed.contains("record 8 was read before"), "{changed}");
        let other = refused(&|_, book| {
            book.acknowledged.insert(5, Batch { count: 1, author: author(7), ts: 0 });
        });
        assert!(other.contains("record 5 was acknowledged to"), "{other}");
        let foreign = refused(&|aof, _| aof.append(b"not one of ours at all").unwrap().wait().unwrap());
        assert!(foreign.contains("checksum"), "{foreign}");
    }
}
