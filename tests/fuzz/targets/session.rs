//! What an engine says to a device.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| till_fuzzed::run("session", bytes));
