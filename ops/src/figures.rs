//! What the engine says about itself: the numbers behind `/api/v1/status`, `/metrics` and the page.
//!
//! Counters only rise while the engine runs and start at zero with it. Times are us since 1970-01-01 UTC, durations are
//! us, sizes bytes; nothing here names a terminal, a person or a receipt.

use serde::Serialize;

/// Everything that is shown live, read at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// When these numbers were read.
    pub now_us: i64,
    /// When the engine started.
    pub started_at_us: i64,
    /// What became of the events that were received.
    pub events: EventFigures,
    /// From the receipt of a frame to its ack.
    pub ack: AckFigures,
    /// Devices that are connected.
    pub sessions: SessionFigures,
    /// Certificates and handshakes.
    pub pki: PkiFigures,
    /// The log of all events.
    pub journal: JournalFigures,
    /// The way from the journal to the rows that queries read.
    pub flush: FlushFigures,
    /// The file system that holds the data.
    pub disk: DiskFigures,
    /// What the engine takes of the machine's memory.
    pub memory: MemoryFigures,
    /// Sales of all time, one entry for each currency.
    pub sales: Vec<SalesFigures>,
    /// Stores that are registered.
    pub stores: u64,
    /// The shards, by number.
    pub shards: Vec<ShardFigures>,
    /// The store that the engine shares with others; `None` for an engine with rows of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFigures>,
    /// What went wrong lately, newest first.
    pub problems: Vec<Problem>,
}

/// Events by outcome: received = applied + duplicates + refused + quarantined + in flight.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct EventFigures {
    /// Events in frames whose header and checksum were right.
    pub received: u64,
    /// Events that are durable and answered; each counts once.
    pub acked: u64,
    /// Events that took effect.
    pub applied: u64,
    /// Events that were known before.
    pub duplicates: u64,
    /// Events that were refused with a reason; each left a tombstone.
    pub refused: u64,
    /// Events that are durable and wait to be looked at.
    pub quarantined: u64,
    /// Events that were admitted and are not answered yet.
    pub in_flight: u64,
    /// Bytes of the frames that carried them.
    pub bytes: u64,
}

/// Time from the receipt of a frame to its ack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AckFigures {
    /// Frames that were answered.
    pub count: u64,
    /// Sum of their times.
    pub sum_us: u64,
    /// Half of the frames were faster.
    pub p50_us: u64,
    /// 99 of 100 frames were faster.
    pub p99_us: u64,
    /// 999 of 1,000 frames were faster.
    pub p999_us: u64,
    /// Frames in (up to this many us, how many), not summed up; rising bounds.
    pub buckets: Vec<(u64, u64)>,
}

/// Connections and what was wrong with some of them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SessionFigures {
    /// QUIC connections that are open.
    pub connections: u64,
    /// Streams of terminals that are open.
    pub streams: u64,
    /// Streams that were ended because their bytes could not be understood.
    pub broken: u64,
    /// Frames that came before the one that was expected.
    pub gaps: u64,
    /// Times that a device was told to slow down.
    pub slowed: u64,
    /// Times that a connection had to wait, because too much of what it had sent was to no effect.
    pub made_to_wait: u64,
}

/// Certificates and handshakes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PkiFigures {
    /// Certificates that the revocation lists in force name.
    pub revoked: u64,
    /// Times that changed certificates or lists were read and taken.
    pub reads: u64,
    /// The files as they are now were not taken; those before are in force.
    pub stale: bool,
    /// A list is past its time and stays in force.
    pub overdue: bool,
    /// Connections that were closed because their certificate counts no more.
    pub closed: u64,
    /// Handshakes that came to nothing.
    pub failed_handshakes: u64,
    /// Connections that were not taken in, because there were too many.
    pub turned_away: u64,
    /// First packets of handshakes that were dropped unread, because there were too many.
    pub initials_dropped: u64,
}

/// The journal.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct JournalFigures {
    /// Position up to which everything is on the disk.
    pub durable: u64,
    /// Bytes that are kept.
    pub bytes: u64,
    /// Segments that are kept.
    pub segments: u64,
    /// Groups that were written, each with one sync.
    pub groups: u64,
    /// Time that the syncs took together.
    pub sync_us: u64,
    /// Reads of records for commits and hand-overs that failed; each is made again until it works.
    pub reads_failed: u64,
}

/// The flush of rows.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FlushFigures {
    /// Journal position up to which queries see everything.
    pub applied: u64,
    /// Bytes of the journal that queries do not see yet.
    pub backlog_bytes: u64,
    /// Age of the oldest event that queries do not see yet; 0 when there is none.
    pub behind_us: u64,
    /// Rows that were written.
    pub rows: u64,
}

/// The file system of the data folder.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DiskFigures {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Size of the file system; 0 where it is not known.
    pub total_bytes: u64,
    /// Ingestion waits for room.
    pub full: bool,
}

/// The memory of the engine's process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MemoryFigures {
    /// Bytes that are resident; 0 where the system does not say.
    pub resident_bytes: u64,
    /// Bytes that the configuration allows (`engine.memory_bytes`).
    pub max_bytes: u64,
}

/// Sales in one currency.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SalesFigures {
    /// ISO 4217 code.
    pub currency: String,
    /// Digits behind the point in this currency.
    pub decimals: u8,
    /// Completed transactions.
    pub transactions: u64,
    /// What customers paid before tax, in minor units.
    pub net_minor: i128,
}

/// One shard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShardFigures {
    /// Its number.
    pub shard: u32,
    /// Stores in memory: those of which something came since the start or their takeover.
    pub stores: u64,
    /// Actors in memory: terminals, SKUs and sums.
    pub actors: u64,
    /// Events that it applied.
    pub events: u64,
    /// KiB of frames that wait in its mailbox or for the disk.
    pub queued: u64,
    /// KiB of frames that it may hold at once.
    pub queue_max: u64,
    /// Actors that are parked: the shard itself, or terminals whose frames it failed over.
    pub parked: u64,
    /// Its busiest stores, busiest first.
    pub hot: Vec<HotKey>,
}

/// A key that gets much of a shard's work.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HotKey {
    /// What it is, as a person would write it: `store 17`.
    pub key: String,
    /// Events for it since the last look.
    pub events: u64,
}

/// Something that went wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Problem {
    /// When.
    pub at_us: i64,
    /// What, in one sentence.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// An engine's part in a store that several share.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterFigures {
    /// The store.
    pub store: StoreFigures,
    /// Slots that the stores of the chain are dealt to.
    pub slots: u64,
    /// Slots that this engine serves.
    pub slots_open: u64,
    /// Slots that it should serve.
    pub slots_wanted: u64,
    /// Slots that nobody serves.
    pub slots_free: u64,
    /// From the begin of a slot's log of a flush to its commit.
    pub commit: AckFigures,
    /// How long the rows of committed flushes took, several flushes of a slot together.
    pub project: AckFigures,
    /// How long shards waited for rows that devices' frames and Hellos ask for.
    pub rows: AckFigures,
    /// Chunks of dead engines' journals that wait for the owners of their slots.
    pub handoffs_waiting: u64,
    /// Records that other engines handed off and that have no place here.
    pub stranded: u64,
    /// Names in memory that are on their way to the shared store.
    pub names_unwritten: u64,
    /// Devices that were told of another engine.
    pub redirects: u64,
    /// The engines that live, this one among them.
    pub engines: Vec<EngineFigures>,
}

/// An engine of a shared store, as it was last seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineFigures {
    /// Where devices reach it.
    pub address: String,
    /// Slots that it serves.
    pub slots: u64,
    /// Age of the oldest event that it has journalled and that is not in the rows.
    pub lag_us: u64,
    /// It gives its slots away.
    pub leaving: bool,
}

/// Where a shared store is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreFigures {
    /// Nodes that the engine was told of.
    pub hosts: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
}
