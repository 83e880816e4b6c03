//! Bounds that every floor keeps, stated once.

/// Longest user key in bytes. Index, filter and block formats rely on it.
pub const KEY_BYTES_MAX: usize = 64 * 1024 - 1;
/// Longest value in bytes: 1 GiB. Larger than a Redis string (512 MB) and its envelope.
pub const VALUE_BYTES_MAX: usize = 1 << 30;
/// Longest name of a keyspace in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 255;
/// Most bytes in one write batch: 2 GiB less room for the frame around it, so that lengths fit in 32 bits.
pub const BATCH_BYTES_MAX: usize = (1 << 31) - 4096;
/// Most operations in one write batch: 67 million. In a memtable the shortest take ten times as much.
pub const BATCH_OPERATIONS_MAX: usize = 1 << 26;
