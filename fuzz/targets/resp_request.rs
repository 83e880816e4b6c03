//! See `aidb_fuzz::resp::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::resp::request(input));
