//! See `aidb_fuzz::object::object`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::object::object(input));
