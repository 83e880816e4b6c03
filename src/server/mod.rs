//! The Redis-compatible server.
