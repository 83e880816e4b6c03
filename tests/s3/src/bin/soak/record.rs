//! Records that say who wrote them, with a checksum, and whose content can be made again: [`make`], [`check`].
//!
//! `crc32 of the rest, u32 | writer u32 | round u32 | sequence u64 | body`, little-endian.

use aidb_s3_tests::target::noise;

const HEADER: usize = 20;

/// Who wrote a record: the thread, in the child of which round, and its how manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Author {
    pub(crate) writer: u32,
    pub(crate) round: u32,
    pub(crate) sequence: u64,
}

impl Author {
    fn seed(self) -> u64 {
        (u64::from(self.writer) << 48) ^ (u64::from(self.round) << 40) ^ self.sequence
    }

    /// Returns how long the body is: mostly short, sometimes long.
    fn body_bytes(self) -> usize {
        let dice = self.seed().wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 16;
        let (kind, size) = (dice % 100, (dice / 100) as usize);
        match kind {
            0..60 => size % 256,
            60..90 => 256 + size % (4 << 10),
            90..99 => (4 << 10) + size % (28 << 10),
            _ => (32 << 10) + size % (170 << 10),
        }
    }
}

/// Makes the record of `author`. Half of them compress.
pub(crate) fn make(author: Author) -> Vec<u8> {
    let bytes = author.body_bytes();
    let body = match author.sequence % 2 {
        0 => noise(author.seed(), bytes),
        _ => noise(author.seed(), 32).into_iter().cycle().take(bytes).collect(),
    };
    let mut record = vec![0; 4];
    record.extend_from_slice(&author.writer.to_le_bytes());
    record.extend_from_slice(&author.round.to_le_bytes());
    record.extend_from_slice(&author.sequence.to_le_bytes());
    record.extend_from_slice(&body);
    let sum = crc32fast::hash(&record[4..]);
    record[..4].copy_from_slice(&sum.to_le_bytes());
    record
}

/// Checks a record's checksum and returns it with its author.
pub(crate) fn check(record: &[u8]) -> Result<(u32, Author), String> {
    let number = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    if record.len() < HEADER {
        return Err(format!("{} bytes are no record", record.len()));
    }
    let sum = number(0);
    if sum != crc32fast::hash(&record[4..]) {
        return Err("its checksum is wrong".into());
    }
    let sequence = u64::from(number(12)) | (u64::from(number(16)) << 32);
    Ok((sum, Author { writer: number(4), round: number(8), sequence }))
}

/// Numbers from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end.max(1)
    }
}

/// Microseconds since 1970.
pub(crate) fn wall() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}
