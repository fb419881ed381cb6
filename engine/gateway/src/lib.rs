//! The door for devices: QUIC connections are taken in within limits, each of their streams speaks for one terminal, and
//! certificates say for which. Nothing else in the engine knows QUIC.
//!
//! What the door has of the engine is its [`Intake`](till_runtime::Intake).

mod abuse_control;
mod close;
mod door;
mod ending;
mod gateway;
mod hall;
mod hello;
mod initial_limiter;
mod patience;
mod pki;
mod reader;
mod start;
mod stream;
mod transport;
mod trust;
mod unfinished;

pub use door::{Door, GatewayError};
pub use pki::{Authority, Issued, PkiError, Revocation};
pub use start::{StartError, start, start_at, start_shared, start_with};
