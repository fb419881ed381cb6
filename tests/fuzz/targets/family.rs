//! Batches of one family, behind a header that is right.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| till_fuzzed::run("family", bytes));
