//! Records within a frame: several to a batch, each found by its number within it.
//!
//! Encoded by the store's appends, decoded by cursors and tools; the log core sees opaque payloads.

pub mod format;
