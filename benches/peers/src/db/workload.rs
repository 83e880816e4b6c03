//! The workloads, by the names db_bench and YCSB made common.

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Puts in the order of the keys.
    FillSeq,
    /// Puts every key once, in an order that looks random.
    FillRandom,
    /// The same in batches of 100.
    FillBatch,
    /// So many threads put random keys, each durable before the next.
    FillSync(usize),
    /// Puts random keys that are there.
    Overwrite,
    /// Reads random keys out of a range that the cache holds twice.
    ReadRandom,
    /// Reads random keys of all, with a cache of a quarter of them.
    ReadRandomCold,
    /// Reads keys that are not there, between those that are.
    ReadMissing,
    /// Seeks random keys and reads 10 entries more from each.
    SeekRandom,
    /// Scans everything forwards.
    ReadSeq,
    /// Scans everything backwards.
    ReadReverse,
    /// Reads random keys while one more thread overwrites as fast as it can.
    ReadWhileWriting,
    /// Deletes nine keys of ten in random order, then at once scans what is left.
    DeletesThenScan,
    /// YCSB's mixes, zipfian: A, B, C, E, F.
    Ycsb(char),
}

/// Threads of the synced fills.
pub const SYNC_THREADS: [usize; 3] = [1, 8, 32];

impl Workload {
    /// All of them, in the order of the tables.
    pub fn all() -> Vec<Workload> {
        use Workload::*;
        let mut all = vec![FillSeq, FillRandom, FillBatch];
        all.extend(SYNC_THREADS.map(FillSync));
        all.extend([Overwrite, ReadRandom, ReadRandomCold, ReadMissing, SeekRandom, ReadSeq, ReadReverse]);
        all.extend([ReadWhileWriting, DeletesThenScan]);
        all.extend(['a', 'b', 'c', 'e', 'f'].map(Ycsb));
        all
    }

    /// Returns the name in tables and on the command line.
    pub fn name(self) -> String {
        match self {
            Workload::FillSync(threads) => format!("fillsync-x{threads}"),
            Workload::ReadRandomCold => "readrandom-cold".into(),
            Workload::DeletesThenScan => "deletes-then-scan".into(),
            Workload::Ycsb(mix) => format!("ycsb-{mix}"),
            _ => format!("{self:?}").to_lowercase(),
        }
    }

    /// Returns the workload of that name.
    pub fn parse(name: &str) -> Option<Workload> {
        Workload::all().into_iter().find(|workload| workload.name() == name)
    }

    /// Returns what else the workload does, if that has a rate of its own.
    pub fn beside(self) -> Option<&'static str> {
        match self {
            Workload::ReadWhileWriting => Some("readwhilewriting: puts"),
            Workload::DeletesThenScan => Some("deletes-then-scan: deletes"),
            _ => None,
        }
    }

    /// Whether it begins with an empty database.
    pub fn fills(self) -> bool {
        matches!(self, Workload::FillSeq | Workload::FillRandom | Workload::FillBatch | Workload::FillSync(_))
    }

    /// Whether each put is durable before the next.
    pub fn syncs(self) -> bool {
        matches!(self, Workload::FillSync(_))
    }

    /// Whether it changes enough for its amplification to tell something.
    pub fn writes(self) -> bool {
        self.fills() || matches!(self, Workload::Overwrite | Workload::DeletesThenScan | Workload::Ycsb('a' | 'f'))
    }

    /// Returns how many operations it does on `num` entries; a synced fill ends by time instead.
    pub fn operations(self, num: u64) -> u64 {
        let part = match self {
            Workload::SeekRandom | Workload::ReadWhileWriting => 4,
            Workload::Ycsb('e') => 20,
            Workload::Ycsb(_) => 2,
            _ => 1,
        };
        (num / part).max(1)
    }
}
