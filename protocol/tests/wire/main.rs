//! The wire as others see it: golden bytes, the specification, and two decoders that must agree.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod agreement;
mod checks;
mod digests;
mod golden;
mod masking;
mod samples;
mod spec;
