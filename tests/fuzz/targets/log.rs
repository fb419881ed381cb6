//! The log of a commit in a shared store.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| till_fuzzed::run("log", bytes));
