//! See `aidb_fuzz::backup::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aidb_fuzz::backup::manifest(input));
