//! The shell around the core: devices come in over QUIC, shards decide, the journal makes durable, rows are flushed.
//!
//! Nothing is acknowledged before the sync that covers it, nothing is queued without a permit, and nothing of the rules of
//! trade is decided here: this crate moves bytes, records and rows between the core and the world.
//!
//! The modules stand in the order in which an event meets them.

mod clock;
mod driver;
mod planted;
mod sync;

mod ingress;

mod admission;

mod shard;

mod commit;

mod publish;

mod cluster;

mod lifecycle;

mod config;

mod figures;
mod observe;

#[cfg(feature = "testing")]
pub mod testing;

pub use cluster::chain::ChainError;
pub use cluster::stranded::{ReleaseError, Shown, Stranded, stranded};
pub use cluster::submit::{SubmitError, Submitted, submit};
pub use cluster::watched::{Seen, Sight};
pub use cluster::{HandedOff, HandoffError, JoinError, committed_lsn_file, hand_off};
pub use commit::OnPoison;
pub use config::{
    Config, ConfigError, ConfigErrors, CqlConfig, KEYS, Key, Kind, NARROW_WINDOW_BYTES,
    NetworkConfig, Origin, PkiConfig, RawConfig, RegistryConfig, SharedConfig, WIDE_WINDOW_BYTES,
    reference,
};
pub use figures::histogram::Latency;
pub use figures::{FlushMetrics, FlushState, IngressFigures, PkiFigures, PkiMetrics, Problem};
pub use ingress::placement::{Alone, Commits, Location, Placement};
pub use ingress::registry::RegistryError;
pub use ingress::screen::ScreenKeyError;
pub use ingress::{End, FrameBatch, Ingress, Inlet, Intake, Knocking, Messages, Session, ended};
pub use lifecycle::drain::DrainError;
pub use lifecycle::examine::{ExamineError, Examined, examine};
pub use lifecycle::lock::{Holder, LockError, Occupant, Role, engine_of};
pub use lifecycle::offline::{Look, Offline, OfflineError};
pub use lifecycle::parts::Parts;
pub use lifecycle::recovery::{LostEnd, RecoveryError, StartReport};
pub use lifecycle::retry::{Retried, RetryAllError};
pub use lifecycle::runtime::{Handle, LeftOver, Runtime, StartError};
pub use lifecycle::upkeep::RetentionError;
pub use observe::health::{Check, Health};
pub use observe::metrics::{JournalMetrics, Metrics, ShardMetrics};
pub use observe::query::{Query, Reply, answer as answer_from};
pub use publish::FlushError;
