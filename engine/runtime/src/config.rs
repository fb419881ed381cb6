//! What an engine runs with: read from a file, the environment and flags, parsed once, checked against each other.
//!
//! A value that is not understood, out of range or in contradiction to another is an error that names the key, where its
//! value came from, and what is allowed. Nothing is ever guessed or ignored.

pub(crate) mod key;
mod near;
pub(crate) mod raw;
mod reference;
pub(crate) mod shared;
mod variable;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use till_core::Zone;
use till_protocol::currency::Currency;
use till_storage::journal::Durability;

use crate::config::raw::{ConfigErrors, RawConfig};
pub use crate::config::reference::reference;
use crate::config::shared::SharedConfig;

use crate::config::raw::RawReader;

use crate::ingress::session::pending_refusals::{RUN_BYTES, RUNS_MAX};

/// What an engine runs with. Every relation between settings holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Folder that holds everything.
    pub data_dir: PathBuf,
    /// Address for devices.
    pub listen: SocketAddr,
    /// Address of the admin port. The engine itself only reports it.
    pub admin: SocketAddr,
    /// Number of shards.
    pub shards: u16,
    /// Bound for everything that is kept in memory, in bytes.
    pub memory_bytes: u64,
    /// Actors that all shards together keep in memory.
    pub actors_max: usize,
    /// Bytes for the newest movements of stock of all shards together.
    pub recent_bytes: usize,
    /// Limits of the network.
    pub network: NetworkConfig,
    /// Frames that one shard may hold between admission and durability.
    pub permits_frames: u32,
    /// Bytes of frames that all shards may hold between admission and durability.
    pub permits_bytes: u32,
    /// Bytes of unfinished frames that all streams may hold: half for large ones, half for the others.
    pub gather_bytes: u32,
    /// Time that a drain gives to devices.
    pub drain_timeout: Duration,
    /// What makes a group durable.
    pub durability: Durability,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes reserved for a full disk.
    pub reserve_bytes: u64,
    /// Days after receipt for which facts are kept; `None` for ever.
    pub retention_days: Option<u32>,
    /// Time from the beginning of a group of several records to that of the next, in us.
    pub linger_us: u32,
    /// Time between two flushes.
    pub flush_interval: Duration,
    /// Rows that may wait for the disk.
    pub dirty_rows_max: usize,
    /// Who is taken in.
    pub registry: RegistryConfig,
    /// Who the engine is, and whom it believes.
    pub pki: PkiConfig,
    /// Revocation lists; `None` for those beside the files of an own authority, where there are any.
    pub crl: Option<PathBuf>,
    /// The store that several engines share; `None` keeps rows in the data folder.
    pub shared: Option<SharedConfig>,
}

/// Limits of the network.
#[derive(Clone, Copy, Debug)]
pub struct NetworkConfig {
    /// Connections at a time.
    pub connections_max: u32,
    /// Connections with a wide window.
    pub wide_connections: u32,
    /// Streams of one connection.
    pub streams_max: u32,
    /// Handshakes at a time.
    pub handshakes_max: u32,
    /// Silence after which a connection ends.
    pub idle_timeout: Duration,
    /// Time for a handshake, and for a Hello.
    pub hello_timeout: Duration,
    /// Time for a frame that has begun.
    pub frame_timeout: Duration,
}

/// Who is taken in.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Unknown stores and terminals are taken in.
    pub auto_register: bool,
    /// The registry file.
    pub file: Option<PathBuf>,
    /// Currency of stores that state none.
    pub currency: Currency,
    /// Time zone of stores that state none.
    pub zone: String,
}

/// Who the engine is, and whom it believes.
#[derive(Clone, Debug)]
pub enum PkiConfig {
    /// Its own authority under the data folder.
    Dev,
    /// The identity file of another engine's own authority.
    Identity(PathBuf),
    /// Files from elsewhere.
    Files {
        /// Authorities that sign devices.
        ca: PathBuf,
        /// The server's chain.
        certificate: PathBuf,
        /// The server's key.
        key: PathBuf,
    },
}

/// Window of an ordinary connection, in bytes.
pub const NARROW_WINDOW_BYTES: u32 = 128 << 10;
/// Window of a wide connection, in bytes.
pub const WIDE_WINDOW_BYTES: u32 = 2 << 20;
/// What the store of rows and the indexes keep in memory, in bytes.
const CACHE_BYTES: u64 = 240 << 20;
/// What an actor costs in memory at most, its place in the table and a count of its SKU included, in bytes.
const ACTOR_BYTES: u64 = 208;
/// The part of the room for actors that the newest movements get: 12 s and more of them by default, at 1.2 M events/s.
const RECENT_PARTS: (u64, u64) = (5, 8);
/// What a changed row that waits for the disk costs, in bytes.
const DIRTY_ROW_BYTES: u64 = 200;
/// Actors below which an engine reads more than it works.
const ACTORS_MIN: u64 = 100_000;

// A frame of the largest size can always be admitted and gathered.
const _: () = assert!(till_protocol::limits::FRAME_BYTES_MAX <= 2 << 20);

impl Config {
    /// The defaults with their own certificate authority, for a folder of its own: what `--dev --data DIR` means. Ports
    /// are free ones.
    pub fn dev(dir: &Path) -> Self {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let mut raw = RawConfig::new();
        raw.set("pki.dev", "true", "dev");
        raw.set("registry.auto_register", "true", "dev");
        #[expect(
            clippy::expect_used,
            reason = "a test parses these very values; they depend on nothing"
        )]
        let mut config = raw.parse().expect("the defaults are right");
        config.data_dir = dir.to_path_buf();
        config.listen = free;
        config.admin = free;
        config
    }

    pub(crate) fn actors_per_shard(&self) -> usize {
        self.actors_max / usize::from(self.shards.max(1))
    }

    pub(crate) fn recent_bytes_per_shard(&self) -> usize {
        self.recent_bytes / usize::from(self.shards.max(1))
    }
}

impl RawConfig {
    /// Parses every setting and checks them against each other.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn parse(&self) -> Result<Config, ConfigErrors> {
        let mut from = RawReader::new(self);
        let config = Config {
            data_dir: from.path("data.dir").unwrap_or_default(),
            listen: from.address("network.listen"),
            admin: from.address("admin.listen"),
            shards: from.shards("engine.shards"),
            memory_bytes: from.bytes("engine.memory_bytes"),
            actors_max: 0,
            recent_bytes: 0,
            network: NetworkConfig {
                connections_max: from.number("network.connections_max"),
                wide_connections: from.number("network.wide_connections"),
                streams_max: from.number("network.streams_per_connection_max"),
                handshakes_max: from.number("network.handshakes_max"),
                idle_timeout: from.seconds("network.idle_timeout_s"),
                hello_timeout: from.seconds("network.hello_timeout_s"),
                frame_timeout: from.seconds("network.frame_timeout_s"),
            },
            permits_frames: from.number("engine.permits_frames"),
            permits_bytes: from.bytes32("engine.permits_bytes"),
            gather_bytes: from.bytes32("engine.gather_bytes"),
            drain_timeout: from.seconds("engine.drain_timeout_s"),
            durability: match from.word("journal.durability").as_str() {
                "os" => Durability::Os,
                _ => Durability::Disk,
            },
            segment_bytes: from.bytes("journal.segment_bytes"),
            reserve_bytes: from.bytes("journal.reserve_bytes"),
            retention_days: from.retention("journal.retention_days"),
            linger_us: from.number("journal.linger_us"),
            flush_interval: Duration::from_millis(u64::from(from.number("flush.interval_ms"))),
            dirty_rows_max: usize::try_from(from.number("flush.dirty_rows_max")).unwrap_or(0),
            registry: RegistryConfig {
                auto_register: from.truth("registry.auto_register"),
                file: from.path("registry.file"),
                currency: from.currency("registry.currency"),
                zone: from.zone("registry.time_zone"),
            },
            pki: pki(&mut from),
            crl: from.path("pki.crl"),
            shared: shared::read(&mut from),
        };
        let config = check(config, &mut from);
        from.finish(config)
    }
}

fn pki(from: &mut RawReader<'_>) -> PkiConfig {
    let dev = from.truth("pki.dev");
    let files = [
        ("pki.ca", from.path("pki.ca")),
        ("pki.certificate", from.path("pki.certificate")),
        ("pki.key", from.path("pki.key")),
    ];
    for (name, file) in &files {
        match (dev, file) {
            (true, Some(_)) => from.contradiction(
                name,
                "pki.dev",
                "the engine makes its own; leave the file out, or set pki.dev = false",
            ),
            (false, None) => from.contradiction(
                name,
                "pki.dev",
                "it is needed unless pki.dev is true; name the file, or start with --dev",
            ),
            (true, None) | (false, Some(_)) => {}
        }
    }
    let identity = from.path("pki.identity");
    if identity.is_some() && !dev {
        from.contradiction(
            "pki.identity",
            "pki.dev",
            "such a file stands in for an own authority; start with --dev, or name pki.ca, pki.certificate and pki.key",
        );
    }
    match (files, identity) {
        ([(_, Some(ca)), (_, Some(certificate)), (_, Some(key))], _) if !dev => PkiConfig::Files {
            ca,
            certificate,
            key,
        },
        (_, Some(identity)) => PkiConfig::Identity(identity),
        _ => PkiConfig::Dev,
    }
}

fn check(mut config: Config, from: &mut RawReader<'_>) -> Config {
    let network = &config.network;
    if network.wide_connections > network.connections_max {
        from.contradiction(
            "network.wide_connections",
            "network.connections_max",
            "it is a part of them and cannot be more",
        );
    }
    if config.listen.port() != 0 && config.listen.port() == config.admin.port() {
        // One is UDP and the other TCP, so that it would work, and nobody would find it again.
        from.contradiction(
            "admin.listen",
            "network.listen",
            "give them different ports, so that firewalls and people can tell them apart",
        );
    }
    if !config.registry.auto_register && config.registry.file.is_none() {
        from.contradiction(
            "registry.auto_register",
            "registry.file",
            "no store could ever be taken in; name a registry file, or set auto_register = true",
        );
    }
    if config.reserve_bytes > 0 && config.reserve_bytes < 1 << 20 {
        from.contradiction(
            "journal.reserve_bytes",
            "journal.segment_bytes",
            "less than 1 MiB frees no room for anything; write 0 or at least 1MiB",
        );
    }
    let windows = u64::from(network.connections_max) * u64::from(NARROW_WINDOW_BYTES)
        + u64::from(network.wide_connections) * u64::from(WIDE_WINDOW_BYTES);
    let pending_refusals = u64::from(RUNS_MAX) * RUN_BYTES;
    let dirty = u64::try_from(config.dirty_rows_max).unwrap_or(u64::MAX);
    let fixed = windows
        + pending_refusals
        + u64::from(config.permits_bytes)
        + u64::from(config.gather_bytes)
        + dirty.saturating_mul(DIRTY_ROW_BYTES)
        + CACHE_BYTES;
    let need = fixed + ACTORS_MIN * ACTOR_BYTES;
    if config.memory_bytes < need {
        let text = format!(
            "windows ({windows}), refusals that were not read ({pending_refusals}), permits ({}), gathering ({}), waiting rows ({}) and caches ({CACHE_BYTES}) leave no room for {ACTORS_MIN} actors; allow at least {need} bytes, or lower one of them",
            config.permits_bytes,
            config.gather_bytes,
            dirty.saturating_mul(DIRTY_ROW_BYTES),
        );
        from.contradiction("engine.memory_bytes", "network.connections_max", &text);
    }
    let room = config.memory_bytes.saturating_sub(fixed);
    // Below twice the least, actors come first.
    let recent = (room / RECENT_PARTS.1 * RECENT_PARTS.0)
        .min(room.saturating_sub(2 * ACTORS_MIN * ACTOR_BYTES));
    config.recent_bytes = usize::try_from(recent).unwrap_or(usize::MAX);
    let actors = (room - recent) / ACTOR_BYTES;
    config.actors_max = usize::try_from(actors).unwrap_or(usize::MAX);
    config
}

/// The zone as the tz database spells it; `None` when it has none of that name.
fn zone_name(text: &str) -> Option<String> {
    Zone::new(text).ok().map(|zone| zone.name().to_owned())
}

#[cfg(test)]
mod tests;
