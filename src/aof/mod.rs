//! The segmented append-only log.
