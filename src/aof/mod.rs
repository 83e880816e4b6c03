//! The segmented append-only log.

pub mod format;
pub mod log;
pub mod types;

pub use format::FrameKind;
pub use log::Log;
#[doc(inline)]
pub use types::{Append, Frame, LogOptions, LogStats, Lsn, RecoveryReport};

/// Coverage marks of this floor; a campaign that never reaches one of them fails.
pub const MARKS: &[&str] = &[];

/// Bugs that the simulator can switch on in this floor: name and what goes wrong.
pub const PLANTED_BUGS: &[(&str, &str)] = &[];
