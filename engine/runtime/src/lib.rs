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

pub use cluster::backlog::{HandedOff, HandoffError, committed_lsn_file, hand_off};
pub use cluster::chain::ChainError;
pub use cluster::start::JoinError;
pub use cluster::stranded::{ReleaseError, Shown, Stranded, stranded};
pub use cluster::submit::{SubmitError, Submitted, submit};
pub use cluster::watched::{Seen, Sight};
pub use commit::OnPoison;
pub use config::key::{KEYS, Key, Kind};
pub use config::raw::{ConfigError, ConfigErrors, Origin, RawConfig};
pub use config::shared::{CqlConfig, SharedConfig};
pub use config::{
    Config, NARROW_WINDOW_BYTES, NetworkConfig, PkiConfig, RegistryConfig, WIDE_WINDOW_BYTES,
    reference,
};
pub use figures::histogram::Latency;
pub use figures::ingress::{IngressFigures, PkiFigures, PkiMetrics};
pub use figures::{FlushMetrics, FlushState, Problem};
pub use ingress::inlet::{End, FrameBatch, Inlet, Knocking};
pub use ingress::intake::{Ingress, Intake};
pub use ingress::placement::{Alone, Commits, Location, Placement};
pub use ingress::registry::RegistryError;
pub use ingress::screen::ScreenKeyError;
pub use ingress::session::{Messages, Session};
pub use ingress::useless::ended;
pub use lifecycle::drain::DrainError;
pub use lifecycle::examine::{ExamineError, Examined, examine};
pub use lifecycle::lock::{Holder, LockError, Occupant, Role, engine_of};
pub use lifecycle::offline::{Look, Offline, OfflineError};
pub use lifecycle::parts::Parts;
pub use lifecycle::recovery::lost::LostEnd;
pub use lifecycle::recovery::{RecoveryError, StartReport};
pub use lifecycle::retry::{Retried, RetryAllError};
pub use lifecycle::runtime::sharing::LeftOver;
pub use lifecycle::runtime::{Handle, Runtime, StartError};
pub use lifecycle::upkeep::RetentionError;
pub use observe::health::{Check, Health};
pub use observe::metrics::{JournalMetrics, Metrics, ShardMetrics};
pub use observe::query::{Query, Reply, answer as answer_from};
pub use publish::door::FlushError;
