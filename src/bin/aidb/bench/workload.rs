//! The workloads, by the names db_bench made common.

use clap::ValueEnum;

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    FillSeq,
    FillRandom,
    FillBatch,
    FillSync,
    Overwrite,
    DeleteRandom,
    ReadRandom,
    ReadMissing,
    SeekRandom,
    ReadSeq,
    ReadReverse,
    ReadWhileWriting,
    Txn,
    TxnLocked,
}

impl Workload {
    /// What runs when nothing is asked for.
    pub(crate) const DEFAULT: &[Workload] = &[
        Workload::FillSeq,
        Workload::FillSync,
        Workload::FillBatch,
        Workload::FillRandom,
        Workload::Overwrite,
        Workload::ReadRandom,
        Workload::ReadMissing,
        Workload::SeekRandom,
        Workload::ReadSeq,
        Workload::ReadReverse,
        Workload::ReadWhileWriting,
        Workload::DeleteRandom,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// True if the workload starts from an empty database.
    pub(crate) fn is_fill(self) -> bool {
        matches!(self, Workload::FillSeq | Workload::FillRandom | Workload::FillBatch | Workload::FillSync)
    }

    /// True if the workload changes the database.
    pub(crate) fn writes(self) -> bool {
        let rewrites = matches!(self, Workload::Overwrite | Workload::DeleteRandom | Workload::ReadWhileWriting);
        self.is_fill() || self.is_transactional() || rewrites
    }

    /// True if it runs transactions, which may have to be run again.
    pub(crate) fn is_transactional(self) -> bool {
        matches!(self, Workload::Txn | Workload::TxnLocked)
    }

    /// How many operations it does when `num` keys and `reads` reads are asked for.
    pub(crate) fn operations(self, num: u64, reads: u64) -> u64 {
        match self {
            Workload::FillSync => (num / 1000).max(num.min(1000)),
            _ if self.is_fill() => num,
            _ => reads,
        }
    }

    /// Entries between two readings of the clock: scans are too fast to be timed one by one.
    pub(crate) fn entries_per_sample(self, batch: u32) -> u64 {
        match self {
            Workload::FillBatch => u64::from(batch),
            Workload::ReadSeq | Workload::ReadReverse => 1000,
            _ => 1,
        }
    }
}
