//! Streams of frames.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| till_fuzzed::run("frame", bytes));
