//! Derived rows in an embedded LSM tree (fjall).
//!
//! It is a view of the journal and never the only place of anything: writes are not synced on their own, a power cut
//! may cost the newest ones, and what is missing is applied again from the journal. It never repairs itself: rows that
//! do not read as they were written are reported, so that the caller moves the folder aside and rebuilds it.

mod config;
mod error;
mod store;
mod tables;

pub use config::EmbeddedConfig;
pub use error::OpenError;
pub use store::EmbeddedViews;
