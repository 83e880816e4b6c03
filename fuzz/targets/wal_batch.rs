//! See `aidb_fuzz::wal::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::wal::batch(input));
