//! See `aidb_fuzz::index::footer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::index::footer(input));
