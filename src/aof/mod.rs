//! Floor 2: the segmented append-only log.
//!
//! [`log::Log`] is the physical log: frames in segment files, group commit, recovery. The engine's write-ahead log is one
//! of its users; each keeps a log of its own in a directory of its own. [`Aof`] is the log as a store of records, on top of
//! it: ids, flush strategies, retention.
//!
//! ```text
//! append -> stage (in the process) -> write (in the system) -> sync (durable) -> roll -> truncate -> spare, written over
//! ```
//!
//! | file | job |
//! |---|---|
//! | `format` | the bytes |
//! | `names` | what each file of the directory is |
//! | `stage` | frames not yet handed over |
//! | `segment` | segment files: making, naming, dropping, recycling |
//! | `log` | the locks, group commit, poison |
//! | `write` | making room, handing over, rolls |
//! | `scan` | reading frames |
//! | `read` | a segment open for reading |
//! | `chain` | the segments in order, as readers see them |
//! | `lookup` | where in a segment to begin |
//! | `cursor` | records in order |
//! | `view` | a directory that another process writes |
//! | `tail` | the end of a log, frame by frame |
//! | `verify` | every byte looked at |
//! | `joined` | archived segments before local ones |
//! | `readers` | cursors and open segments, counted |
//! | `recovery` | opening |
//! | `salvage` | what is readable of a damaged log |
//! | `crypt` | keys, and the encryption of frames |
//! | `index` | where in a segment a record is |
//! | `watch` | waking who waits |
//! | `metrics` | counting flushes |
//! | `record` | records within a frame |
//! | `store` | [`Aof`] |
//!
//! **The rules**, referred to by number in these files:
//!
//! - **R1** Nothing is appended to a file with a recovered tail: a new segment takes over.
//! - **R2** Each frame says how far the log was durable when it was made. A bad frame is damage if its segment is not the
//!   last, or if a good frame says that the log was durable beyond it; else it is a torn tail.
//! - **R3** Recovery makes the frames after the last such mark durable before it shows them: they may be in the page cache
//!   only.
//! - **R4** A segment is durable before the next one has a name.
//! - **R5** A segment's name is durable before anything in it is acknowledged.
//! - **R6** Segments and frames continue each other in number, position and, if asked for, id.
//! - **R7** A failed write or sync poisons the log; only opening it again goes on.
//! - **R8** Acknowledgements follow positions.
//! - **R9** A spare file is kept, so that a full disk still opens.
//! - **R10** Every file of the directory is accounted for when it is opened.
//! - **R11** A segment that is being read is unlinked, never written over.

pub mod archive;
pub mod chain;
pub mod crypt;
#[cfg(test)]
mod crypt_tests;
pub mod cursor;
pub mod error;
pub mod format;
mod group;
pub mod index;
pub mod joined;
pub mod log;
mod lookup;
pub mod manifest;
pub mod metrics;
pub mod names;
pub mod read;
pub mod readers;
pub mod record;
mod recovery;
pub mod salvage;
mod scan;
#[cfg(test)]
mod sealed_tests;
mod segment;
mod stage;
pub mod store;
pub mod tail;
#[cfg(test)]
mod test_env;
#[cfg(test)]
mod tests;
pub mod types;
pub mod verify;
pub mod view;
pub mod watch;
mod write;

pub use chain::Visibility;
pub use crypt::KeyRing;
pub use cursor::{Cursor, CursorStream, From, Record, RecordRef, Until};
pub use error::AofError;
pub use format::FrameKind;
pub use log::Log;
pub use manifest::{SegmentEntry, SegmentStatus};
pub use metrics::{Distribution, FlushCause, FlushControllerMetrics};
pub use store::{
    Aof, AofConfig, AofConfigBuilder, AofReader, ArchiveConfig, DurableWatch, FlushStrategy, PerformanceMetrics,
    Retention, Ticket,
};
pub use types::{Append, Appended, Find, Frame, LogOptions, LogStats, Lsn, RecoveryReport, SegmentInfo};
pub use verify::{Damage, VerifyReport};

/// Coverage marks of this floor; a campaign that never reaches one of them fails.
pub const MARKS: &[&str] = &[
    "aof.damage_below_mark",
    "aof.direct",
    "aof.full_disk_open",
    "aof.group",
    "aof.mark",
    "aof.name_renewed",
    "aof.no_reserve",
    "aof.poison",
    "aof.recycle",
    "aof.refused",
    "aof.roll",
    "aof.staged_over_roll",
    "aof.sync_overtaken",
    "aof.tail_copied",
    "aof.torn_tail",
];

/// Bugs that the simulator can switch on in this floor: name and what goes wrong.
pub const PLANTED_BUGS: &[(&str, &str)] = &[
    ("aof_ack_before_sync", "a group is acknowledged without a sync"),
    ("aof_ack_later_appends", "a sync acknowledges what was appended while it ran (R8)"),
    ("aof_append_after_torn_tail", "a recovered segment is appended to (R1)"),
    ("aof_gap_ignored", "a missing segment in the middle is not noticed (R6)"),
    ("aof_ignore_sync_error", "a failed sync counts as done (R7)"),
    ("aof_marks_ignored", "recovery takes damage below a durability mark for a torn tail (R2)"),
    ("aof_marks_never_advance", "frames never say that anything is durable (R2)"),
    ("aof_no_crc", "checksums are not compared"),
    ("aof_no_dir_sync_on_roll", "a new segment's name is not durable (R5)"),
    ("aof_no_lsn_in_crc", "a frame's checksum says nothing about its place: recycled frames come back"),
    ("aof_no_tail_rewrite", "recovery shows a tail that may be in the page cache only (R3)"),
    ("aof_recycle_before_dir_sync", "a dropped segment is written over while it may still have its old name"),
    ("aof_refusal_drops_batch", "frames that wait are lost when the device is full for the next one"),
    ("aof_roll_without_sync", "a segment is not synced before the next begins (R4)"),
    ("aof_truncate_too_far", "a segment is dropped although its end is still needed"),
];

/// As [`PLANTED_BUGS`], in code that only the users of [`chain::Chain`] and the store above it reach, or seen from there only.
pub const STORE_PLANTED_BUGS: &[(&str, &str)] = &[
    ("aof_archive_attempt_forgotten", "an upload that was given up is forgotten, and its object stays"),
    ("aof_archive_collect_unlisted", "objects that are not committed as archived are deleted, listed or not"),
    ("aof_archive_key_reused", "all attempts of a segment share a key"),
    ("aof_archive_local_deleted_before_commit", "a local segment goes before it is committed as archived"),
    ("aof_archive_remote_deleted_under_reader", "an object is deleted while it is being read"),
    ("aof_archive_timeout_is_success", "a put whose outcome is unknown counts as done"),
    ("aof_archive_without_verify", "an object counts before it was read back"),
    ("aof_fence_not_persisted", "a raised fence is forgotten by a restart"),
    ("aof_index_points_past", "the index of a segment names the frame behind the one it means"),
    ("aof_manifest_not_synced", "a commit of the manifest counts before it is durable"),
    ("aof_no_reserve", "no spare is kept for a full disk (R9)"),
    ("aof_reader_past_durable", "cursors show what is not durable (R8)"),
    ("aof_recycle_under_reader", "a dropped segment is written over while it is being read (R11)"),
    ("aof_spares_forgotten", "spares are not taken in when the log is opened, and stay in the directory (R10)"),
    ("aof_truncate_ignores_pins", "pinned records are truncated"),
    ("aof_truncation_not_persisted", "truncated records are shown again after a restart"),
    ("aof_ttl_uses_wall_only", "ages are counted by the wall clock alone, which may step back"),
];

/// As [`MARKS`], in code that only the users of [`chain::Chain`] and the store above it reach.
pub const STORE_MARKS: &[&str] = &[
    "aof.archived",
    "aof.archived_read",
    "aof.attempt_abandoned",
    "aof.background_failed",
    "aof.expired",
    "aof.pressure",
];
