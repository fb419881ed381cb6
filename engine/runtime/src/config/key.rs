//! Every setting, once: its name, what it may be, and what it costs.

use till_storage::cluster::{PART_BYTES_MAX, PARTS_MAX};

/// What a setting may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A path of the file system; empty where the setting may be left out.
    Path,
    /// `HOST:PORT` with a numeric host.
    Address,
    /// `auto` or a number from 1.
    Shards {
        /// Largest number.
        max: u64,
    },
    /// `forever` or a number of days from 1.
    Retention,
    /// A number.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number of bytes, or a text like "64MiB".
    Bytes {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// `true` or `false`.
    Bool,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A text; empty where the setting may be left out.
    Text,
    /// An ISO 4217 code.
    Currency,
    /// An IANA name of a time zone.
    Zone,
}

/// A setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// What its number counts; empty where it is no number.
    pub unit: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// What more of it costs and buys.
    pub cost: &'static str,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// All of it may be of one slot, whose next commit has it in one log, beside the rows that come of it: most of another half is
/// left for them.
const BACKLOG_BYTES_MAX: u64 = GIB;
#[expect(clippy::as_conversions, reason = "both widen; From is not const")]
const _: () = assert!(
    2 * BACKLOG_BYTES_MAX <= PARTS_MAX as u64 * PART_BYTES_MAX as u64,
    "what an engine may hold uncommitted fits the log of a slot"
);

/// All settings, in the order of the reference file.
pub const KEYS: &[Key] = &[
    Key {
        name: "data.dir",
        kind: Kind::Path,
        default: "tillstream-data",
        unit: "",
        about: "Folder that holds the journal, the rows, the keys and the lock; made when it is missing.",
        cost: "Put it on a disk of its own: acks wait for its syncs.",
    },
    Key {
        name: "network.listen",
        kind: Kind::Address,
        default: "127.0.0.1:7880",
        unit: "",
        about: "Address for devices (QUIC over UDP); port 0 takes a free one.",
        cost: "0.0.0.0:7880 opens it to the network; devices need a certificate either way.",
    },
    Key {
        name: "network.connections_max",
        kind: Kind::Number {
            min: 1,
            max: 100_000,
        },
        default: "4096",
        unit: "connections",
        about: "Connections at a time; more are refused until one ends.",
        cost: "Each may hold 128 KiB of bytes that were received and not read.",
    },
    Key {
        name: "network.wide_connections",
        kind: Kind::Number { min: 0, max: 4096 },
        default: "64",
        unit: "connections",
        about: "Connections that get a window of 2 MiB instead of 128 KiB, first come first served.",
        cost: "2 MiB each at most; a store's agent on a slow line needs the wide window to be fast.",
    },
    Key {
        name: "network.streams_per_connection_max",
        kind: Kind::Number { min: 1, max: 1_024 },
        default: "512",
        unit: "streams",
        about: "Terminals that one connection may carry at a time.",
        cost: "About 8 KiB for each idle terminal.",
    },
    Key {
        name: "network.handshakes_max",
        kind: Kind::Number { min: 1, max: 1_024 },
        default: "32",
        unit: "handshakes",
        about: "TLS handshakes at a time; what comes beyond half of them proves its address first, and beyond all waits.",
        cost: "A handshake takes about 1 ms of CPU, which traffic then lacks.",
    },
    Key {
        name: "network.idle_timeout_s",
        kind: Kind::Number { min: 5, max: 600 },
        default: "30",
        unit: "seconds",
        about: "A connection that is silent for so long is closed; devices send keep-alives every third of it.",
        cost: "Longer keeps the memory of dead devices longer.",
    },
    Key {
        name: "network.hello_timeout_s",
        kind: Kind::Number { min: 1, max: 60 },
        default: "5",
        unit: "seconds",
        about: "Time for a handshake, and for the Hello of a stream.",
        cost: "Longer gives slow attackers more streams for nothing.",
    },
    Key {
        name: "network.frame_timeout_s",
        kind: Kind::Number { min: 1, max: 600 },
        default: "10",
        unit: "seconds",
        about: "Time in which a frame that has begun must be complete.",
        cost: "Longer lets a slow sender hold the memory of a frame longer.",
    },
    Key {
        name: "admin.listen",
        kind: Kind::Address,
        default: "127.0.0.1:7881",
        unit: "",
        about: "Address of the admin port (HTTP): health, metrics, queries and the page for people.",
        cost: "It has no sign-in yet: keep it on this machine.",
    },
    Key {
        name: "engine.shards",
        kind: Kind::Shards { max: 1_024 },
        default: "auto",
        unit: "shards",
        about: "Shard actors that the stores are spread over; auto is one for each core. Changes no answer.",
        cost: "More than cores buys nothing.",
    },
    Key {
        name: "engine.memory_bytes",
        kind: Kind::Bytes {
            min: 256 * MIB,
            max: 1_024 * GIB,
        },
        default: "2GiB",
        unit: "bytes",
        about: "Bound for everything the engine keeps in memory; windows, permits, buffers and caches come off first, actors and the newest movements get the rest.",
        cost: "An actor that does not fit is read back from disk when it is needed; a late count of a movement that does not fit reads the journal.",
    },
    Key {
        name: "engine.permits_frames",
        kind: Kind::Number {
            min: 16,
            max: 65_536,
        },
        default: "2048",
        unit: "frames",
        about: "Frames that one shard may hold between admission and durability; at the bound devices wait.",
        cost: "More buys larger commits with many slow devices, and costs ack latency under overload.",
    },
    Key {
        name: "engine.permits_bytes",
        kind: Kind::Bytes {
            min: 4 * MIB,
            max: 4 * GIB,
        },
        default: "64MiB",
        unit: "bytes",
        about: "Bytes of frames that all shards together may hold between admission and durability.",
        cost: "Memory, up to this much.",
    },
    Key {
        name: "engine.gather_bytes",
        kind: Kind::Bytes {
            min: 4 * MIB,
            max: 4 * GIB,
        },
        default: "64MiB",
        unit: "bytes",
        about: "Bytes of unfinished frames that all streams together may hold: half for those up to 64 KiB, half for larger ones.",
        cost: "Memory, up to this much; senders of large frames wait for each other at the bound.",
    },
    Key {
        name: "engine.drain_timeout_s",
        kind: Kind::Number { min: 1, max: 3_600 },
        default: "20",
        unit: "seconds",
        about: "Time that a drain gives to devices before it closes their connections.",
        cost: "What was not acknowledged by then is sent again after the restart.",
    },
    Key {
        name: "journal.durability",
        kind: Kind::Choice(&["disk", "os"]),
        default: "disk",
        unit: "",
        about: "disk: synced before every ack. os: acks survive a crash of the engine and no loss of power; for comparison only.",
        cost: "disk costs one sync for each group of frames.",
    },
    Key {
        name: "journal.segment_bytes",
        kind: Kind::Bytes { min: MIB, max: GIB },
        default: "64MiB",
        unit: "bytes",
        about: "Size of a file of the journal; retention drops whole files.",
        cost: "Larger files mean fewer indexes to look into and coarser retention.",
    },
    Key {
        name: "journal.reserve_bytes",
        kind: Kind::Bytes {
            min: 0,
            max: 16 * GIB,
        },
        default: "64MiB",
        unit: "bytes",
        about: "Disk space reserved, which is freed when the disk is full so that flush and indexes can finish.",
        cost: "Disk space.",
    },
    Key {
        name: "journal.retention_days",
        kind: Kind::Retention,
        default: "forever",
        unit: "days",
        about: "Time after receipt for which single events can be looked up, up to a day longer; sums, levels and names stay for ever.",
        cost: "Disk space: about 100 bytes for each event.",
    },
    Key {
        name: "journal.linger_us",
        kind: Kind::Number {
            min: 0,
            max: 100_000,
        },
        default: "1000",
        unit: "microseconds",
        about: "Time from the beginning of a group of several frames to that of the next; 0 begins one when the one before is durable. Behind a group of one frame nothing waits.",
        cost: "Ack latency under load, up to as much; buys fewer syncs and wake-ups.",
    },
    Key {
        name: "flush.interval_ms",
        kind: Kind::Number {
            min: 10,
            max: 60_000,
        },
        default: "250",
        unit: "milliseconds",
        about: "Time between two flushes of changed rows; queries flush first, so they never wait for it.",
        cost: "Shorter writes hot rows more often; longer replays more after a crash.",
    },
    Key {
        name: "flush.dirty_rows_max",
        kind: Kind::Number {
            min: 10_000,
            max: 100_000_000,
        },
        default: "1000000",
        unit: "rows",
        about: "Changed rows that may wait for the disk; at the bound devices are slowed.",
        cost: "About 200 bytes of memory each.",
    },
    Key {
        name: "registry.auto_register",
        kind: Kind::Bool,
        default: "false",
        unit: "",
        about: "Whether stores and terminals that are not in the registry file are taken in on first sight.",
        cost: "true trusts every holder of a certificate with the number of its store.",
    },
    Key {
        name: "registry.file",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "File (TOML) that lists stores with currency, time zone and terminals; empty for none.",
        cost: "Read once, at the start.",
    },
    Key {
        name: "registry.currency",
        kind: Kind::Currency,
        default: "USD",
        unit: "",
        about: "Currency of a store that is taken in on first sight and states none.",
        cost: "Fixed for good once the store is registered.",
    },
    Key {
        name: "registry.time_zone",
        kind: Kind::Zone,
        default: "UTC",
        unit: "",
        about: "Time zone of a store that is taken in on first sight and states none.",
        cost: "Fixed for good once the store is registered.",
    },
    Key {
        name: "pki.dev",
        kind: Kind::Bool,
        default: "false",
        unit: "",
        about: "Whether the engine makes its own certificate authority, server certificate and device identity under the data folder.",
        cost: "The identity is authorised for every terminal: for development and single stores.",
    },
    Key {
        name: "pki.ca",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "Certificates (PEM) of the authorities that sign devices; needed unless pki.dev is true.",
        cost: "Several may stand in the file while one replaces another.",
    },
    Key {
        name: "pki.certificate",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "The server's certificate chain (PEM); needed unless pki.dev is true.",
        cost: "ECDSA P-256 keeps the handshake small.",
    },
    Key {
        name: "pki.key",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "The server's private key (PEM); needed unless pki.dev is true.",
        cost: "Readable by the engine's user alone.",
    },
    Key {
        name: "pki.crl",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "Certificate revocation lists (PEM or DER), one of each authority in pki.ca; with pki.dev, crl.pem beside the other files unless it is named here.",
        cost: "All files of this section are read again within seconds of a change. One that is of no use is told, and what was read before stays in force.",
    },
    Key {
        name: "pki.identity",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "With pki.dev: the identity file (PEM) that another engine made, to be one of its cluster instead of an authority of its own.",
        cost: "Whoever has the file is authorised for every terminal, and for an engine.",
    },
    Key {
        name: "store.kind",
        kind: Kind::Choice(&["embedded", "scylla"]),
        default: "embedded",
        unit: "",
        about: "Where rows go: into the data folder, or into ScyllaDB (or Apache Cassandra 5), which several engines share.",
        cost: "A shared store survives the loss of an engine's disk, and makes devices wait for it before they forget their events.",
    },
    Key {
        name: "store.scylla",
        kind: Kind::Text,
        default: "",
        unit: "",
        about: "Nodes of the shared store, HOST:PORT with commas between; the others are learnt from them.",
        cost: "Name two or three, so that one may be down at a start.",
    },
    Key {
        name: "store.keyspace",
        kind: Kind::Text,
        default: "tillstream",
        unit: "",
        about: "Keyspace of the shared store; `tillstream schema apply` makes it.",
        cost: "One keyspace is one chain.",
    },
    Key {
        name: "store.user",
        kind: Kind::Text,
        default: "",
        unit: "",
        about: "User of the shared store; empty where it asks for none.",
        cost: "It needs to read and change the tables of the keyspace, not to make them.",
    },
    Key {
        name: "store.password_file",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "File with the password of that user.",
        cost: "Readable by the engine's user alone.",
    },
    Key {
        name: "store.ca",
        kind: Kind::Path,
        default: "",
        unit: "",
        about: "Authority (PEM) that signed the shared store's certificates; empty speaks without TLS.",
        cost: "Certificates have to name the nodes' addresses.",
    },
    Key {
        name: "cluster.lease_ms",
        kind: Kind::Number {
            min: 500,
            max: 600_000,
        },
        default: "5000",
        unit: "milliseconds",
        about: "How long a silent engine keeps its stores; others serve them at most 2 s after that.",
        cost: "Shorter takes over sooner, also from an engine that only stood still.",
    },
    Key {
        name: "cluster.advertise",
        kind: Kind::Text,
        default: "",
        unit: "",
        about: "Address HOST:PORT under which devices reach this engine, for other engines to send them to; empty is the address it listens at.",
        cost: "Needed where it listens at 0.0.0.0 or behind a translation of addresses.",
    },
    Key {
        name: "cluster.backlog_bytes",
        kind: Kind::Bytes {
            min: 4 * MIB,
            max: BACKLOG_BYTES_MAX,
        },
        default: "256MiB",
        unit: "bytes",
        about: "Bytes that may be journalled and not yet in the rows of the shared store; beyond, devices wait.",
        cost: "A commit holds them in memory twice: what a slow or absent store costs.",
    },
];

/// The key with this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Kind {
    /// What may be written, in words.
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Path => "a path".to_owned(),
            Self::Address => "an address like 127.0.0.1:7880".to_owned(),
            Self::Shards { max } => format!("auto or a number from 1 to {max}"),
            Self::Retention => "forever or a number of days from 1 to 36500".to_owned(),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Bytes { min, max } => {
                format!("a size from {min} to {max} bytes, like 67108864 or \"64MiB\"")
            }
            Self::Bool => "true or false".to_owned(),
            Self::Choice(words) => words.join(" or "),
            Self::Text => "a text".to_owned(),
            Self::Currency => "an ISO 4217 code like USD".to_owned(),
            Self::Zone => "an IANA time zone like Europe/Vienna".to_owned(),
        }
    }

    /// A value as a file has it.
    pub(super) fn written(self, value: &str) -> String {
        let bare = matches!(self, Self::Number { .. } | Self::Bool);
        if bare {
            value.to_owned()
        } else {
            format!("{value:?}")
        }
    }
}
