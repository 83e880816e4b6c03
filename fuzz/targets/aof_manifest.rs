//! See `aidb_fuzz::life::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::life::manifest(input));
