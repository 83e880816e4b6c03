//! See `aidb_fuzz::record::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::record::record(input));
