//! See `aidb_fuzz::table::block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::table::block(input));
