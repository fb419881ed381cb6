//! The shell around the core: devices come in over QUIC, shards decide, the journal makes durable, rows are flushed.
//!
//! Nothing is acknowledged before the sync that covers it, nothing is queued without a permit, and nothing of the rules of
//! trade is decided here: this crate moves bytes, records and rows between the core and the world.
//!
//! The modules stand in the order in which an event meets them.

mod config;
mod pki;
mod registry;

mod gateway;

mod admission;
mod fall;
mod route;
mod shard_actor;
mod supervisor;

mod commit;
mod flush;
mod names;

mod query;
mod upkeep;

mod histogram;
mod metrics;
mod sketch;

mod drain;
mod engine;
mod health;
mod lock;
mod offline;
mod recovery;
mod retry;
mod runtime;

pub use commit::OnPoison;
pub use config::{
    Config, ConfigError, ConfigErrors, KEYS, Key, Kind, NetworkConfig, Origin, PkiConfig,
    RawConfig, RegistryConfig, reference,
};
pub use drain::DrainError;
pub use flush::FlushError;
pub use gateway::{Door, GatewayError};
pub use health::{Check, Health};
pub use lock::{Holder, LockError, Occupant, Role, engine_of};
pub use metrics::{
    FlushMetrics, FlushState, JournalMetrics, Latency, Metrics, Problem, ShardMetrics,
};
pub use offline::{Offline, OfflineError};
pub use pki::PkiError;
pub use query::{Query, Reply};
pub use recovery::{LostEnd, RecoveryError, StartReport, rows_reach};
pub use registry::RegistryError;
pub use retry::{Retried, RetryAllError};
pub use runtime::{Handle, Parts, Runtime, StartError};
pub use upkeep::RetentionError;
