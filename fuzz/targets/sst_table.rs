//! See `aidb_fuzz::table::table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::table::table(input));
