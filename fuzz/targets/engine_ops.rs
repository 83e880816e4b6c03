//! See `fuzz/src/engine.rs`: the engine against a map over a crashing disk.
#![no_main]

#[path = "../src/engine.rs"]
mod engine;

libfuzzer_sys::fuzz_target!(|input: &[u8]| engine::operations(input));
