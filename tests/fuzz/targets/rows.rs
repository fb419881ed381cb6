//! Rows and keys of the stores.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| till_fuzzed::run("rows", bytes));
