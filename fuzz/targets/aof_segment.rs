//! See `aidb_fuzz::log::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::log::segment(input));
