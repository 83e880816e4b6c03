//! Block compression.

/// How a block is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Stored as is.
    None,
    /// LZ4 block format: the default, fast both ways.
    #[default]
    Lz4,
    /// Snappy raw format.
    Snappy,
}
