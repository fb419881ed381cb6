//! The commands as their users meet them: the real program, its exit codes, its standard output.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on stops; helpers of tests are not seen as tests"
)]

mod engine;

mod commands;
mod demo;
mod losses;
mod nostore;
mod serve;
mod sku;
