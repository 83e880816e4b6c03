//! `aikv`: the Redis-compatible server on AiDb.

fn main() {}
