//! x

pub mod conformance;
pub mod memory;
pub mod pack;
pub mod views;
