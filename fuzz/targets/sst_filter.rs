//! See `aidb_fuzz::table::filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::table::filter(input));
