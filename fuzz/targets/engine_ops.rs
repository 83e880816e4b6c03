//! See `fuzz/src/engine.rs`: the engine against a map over a crashing disk.
//!
//! Fibers are more than the address sanitizer bargains for: it would keep a shadow stack for each, and count as leaked what a
//! fiber held that was killed in the middle of a destructor.
#![no_main]

#[path = "../src/engine.rs"]
mod engine;

use std::ffi::c_char;

/// Read by the address sanitizer when the process starts.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const c_char {
    c"detect_stack_use_after_return=0:detect_leaks=0".as_ptr()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| engine::operations(input));
