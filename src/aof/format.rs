//! The log's bytes (being filled in).

/// Bytes of a segment header.
pub const HEADER_BYTES: usize = 4096;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Records of the caller.
    Data = 1,
    /// Nothing but a durability mark.
    Mark = 2,
    /// The index of a sealed segment. Reserved.
    Footer = 3,
    /// The caller's own bookkeeping.
    Meta = 4,
    /// Records that replace earlier ones of the same ids.
    Rewrite = 5,
}
