//! The shell around the core: devices come in over QUIC, shards decide, the journal makes durable, rows are flushed.
//!
//! Nothing is acknowledged before the sync that covers it, nothing is queued without a permit, and nothing of the rules of
//! trade is decided here: this crate moves bytes, records and rows between the core and the world.
//!
//! The modules stand in the order in which an event meets them.

mod clock;
mod config;
mod registry;

mod ingress;
mod screen;

mod placement;

mod admission;
mod crash;
mod fair_queue;
mod route;
mod shard_actor;
mod supervisor;

mod durable;
mod flush;
mod names;
mod row_backend;

mod chain;
mod cluster;
mod note;

mod query;
mod upkeep;
mod waiting;

mod figures;
mod histogram;
mod metrics;
mod sketch;

mod drain;
mod driver;
mod engine;
mod examine;
mod health;
mod lock;
mod offline;
mod parts;
mod planted;
mod recovery;
mod retry;
mod runtime;
mod stranded;
mod submit;
mod sync;
mod watched;

#[cfg(feature = "testing")]
pub mod testing;

pub use chain::ChainError;
pub use cluster::{HandedOff, HandoffError, JoinError, committed_lsn_file, hand_off};
pub use config::{
    Config, ConfigError, ConfigErrors, CqlConfig, KEYS, Key, Kind, NARROW_WINDOW_BYTES,
    NetworkConfig, Origin, PkiConfig, RawConfig, RegistryConfig, SharedConfig, WIDE_WINDOW_BYTES,
    reference,
};
pub use drain::DrainError;
pub use durable::OnPoison;
pub use examine::{ExamineError, Examined, examine};
pub use figures::{FlushMetrics, FlushState, IngressFigures, PkiFigures, PkiMetrics, Problem};
pub use flush::FlushError;
pub use health::{Check, Health};
pub use histogram::Latency;
pub use ingress::{End, FrameBatch, Ingress, Inlet, Intake, Knocking, Messages, Session, ended};
pub use lock::{Holder, LockError, Occupant, Role, engine_of};
pub use metrics::{JournalMetrics, Metrics, ShardMetrics};
pub use offline::{Look, Offline, OfflineError};
pub use parts::Parts;
pub use placement::{Alone, Commits, Location, Placement};
pub use query::{Query, Reply, answer as answer_from};
pub use recovery::{LostEnd, RecoveryError, StartReport};
pub use registry::RegistryError;
pub use retry::{Retried, RetryAllError};
pub use runtime::{Handle, LeftOver, Runtime, StartError};
pub use screen::ScreenKeyError;
pub use stranded::{ReleaseError, Shown, Stranded, stranded};
pub use submit::{SubmitError, Submitted, submit};
pub use upkeep::RetentionError;
pub use watched::{Seen, Sight};
