//! What tests of stores share: a shared store in memory, one suite for every store of rows, one suite of questions, and a
//! small engine that trades. Behind the feature `testing`: no build of the product has any of it.

mod cluster;
pub mod conformance;
mod refusing;
pub mod suite;
pub(crate) mod world;

pub use cluster::{MemoryCluster, Trouble};
pub use refusing::RefusingAddr;

#[cfg(test)]
mod tests;
