//! Whole engines and their devices in a simulated world, watched by an oracle.
//!
//! The real core, journal, recovery, flush, sessions and client run here in one thread, step by step. What cannot run here
//! (network, disk, clocks, threads) is a world that a seed decides; a seed that fails fails again.

#![forbid(unsafe_code)]

mod coverage;
mod disk;
mod flash;
mod mistake;
mod oracle;
mod outbox;
mod plan;
mod report;
mod rng;
mod rows;
mod shared;
mod workload;
mod world;

pub use mistake::{MISTAKES, Mistake};
pub use report::{Options, Report, run};
