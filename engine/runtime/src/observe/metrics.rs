//! A copy of all that the engine counts, at one moment.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use till_core::{Counters, Violations};
use till_protocol::code::Reason;
use till_protocol::id::TerminalId;
use till_storage::journal::SyncSummary;

use crate::clock::now;
use crate::figures::histogram::Latency;
use crate::figures::ingress::PkiMetrics;
use crate::figures::{FlushMetrics, Problem};
use crate::lifecycle::engine::Engine;

/// Everything the engine counts, at one moment. Plain numbers; names and units are in the fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// When these numbers were read, in us since 1970-01-01 UTC.
    pub now_us: i64,
    /// When the engine started.
    pub started_at_us: i64,
    /// What became of events, all shards together. `received` is the sum of its outcomes.
    pub events: Counters,
    /// Events that are new, durable and answered: applied or quarantined.
    pub acked: u64,
    /// Frames whose header and checksum were right.
    pub frames: u64,
    /// Bytes of their payloads.
    pub frame_bytes: u64,
    /// From the receipt of a frame to its ack.
    pub ack: Latency,
    /// Open connections.
    pub connections: u64,
    /// Open streams.
    pub streams: u64,
    /// Sessions that were accepted and have not ended.
    pub sessions: u64,
    /// Connections that were not taken in.
    pub turned_away: u64,
    /// First packets of handshakes that were dropped unread.
    pub initials_dropped: u64,
    /// Times that a connection had to wait for what it did to no effect.
    pub made_to_wait: u64,
    /// Certificates.
    pub pki: PkiMetrics,
    /// Frames before which a device was told to slow down.
    pub slowed: u64,
    /// Streams that this side ended, by reason.
    pub refusals: Vec<(Reason, u64)>,
    /// The journal's thread: state, groups, syncs.
    pub commit: SyncSummary,
    /// Records and markers that wait for the journal.
    pub journal_waiting: u64,
    /// The journal on disk.
    pub journal: JournalMetrics,
    /// The flush.
    pub flush: FlushMetrics,
    /// Bytes that the file system still has; `None` when it cannot be asked.
    pub disk_free_bytes: Option<u64>,
    /// Memory that the process uses, in bytes; `None` where the system does not tell.
    pub rss_bytes: Option<u64>,
    /// Bytes that all of it may use ([`crate::Config::memory_bytes`]).
    pub memory_max_bytes: u64,
    /// The shards, by number.
    pub shards: Vec<ShardMetrics>,
    /// What went wrong lately, newest first.
    pub problems: Vec<Problem>,
}

/// The journal on disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct JournalMetrics {
    /// Where its oldest segment starts.
    pub start: u64,
    /// Up to where it is durable.
    pub durable: u64,
    /// Up to where the base stands in for it; 0 without one.
    pub base: u64,
    /// Segments that are kept.
    pub segments: u64,
    /// Bytes between start and durable end.
    pub bytes: u64,
    /// Reads of records for commits and hand-overs that failed. Each is made again until it works.
    pub reads_failed: u64,
}

/// A shard.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    /// Its number.
    pub shard: usize,
    /// It takes events.
    pub is_running: bool,
    /// It failed again and again, or could not be restored, and waits for a restart of the engine.
    pub is_parked: bool,
    /// Terminals of which nothing is taken until the engine starts again: what they send makes the shard fail.
    pub parked_terminals: Vec<TerminalId>,
    /// What became of its events.
    pub events: Counters,
    /// Invariants that were found broken.
    pub violations: Violations,
    /// SKUs and sums in memory.
    pub actors: u64,
    /// Stores in memory.
    pub stores: u64,
    /// Terminals in memory.
    pub terminals: u64,
    /// Sessions.
    pub sessions: u64,
    /// Frames between admission and durability.
    pub permits_used: u32,
    /// Frames that may be.
    pub permits_max: u32,
    /// Frames that had to wait for a permit.
    pub permits_waited: u64,
    /// Changed rows that wait for the disk.
    pub dirty_rows: u64,
    /// Its busiest terminals since the last flush, with events.
    pub hot_terminals: Vec<(u64, u64)>,
    /// Its busiest SKUs since the last flush, by a sample of frames.
    pub hot_skus: Vec<(u64, u64)>,
}

/// Reads everything.
pub(crate) fn read(engine: &Engine) -> Metrics {
    let figures = &engine.figures;
    let shards = shards(engine);
    let mut events = Counters::default();
    for shard in &shards {
        events.add(&shard.events);
    }
    let ingress = &figures.ingress;
    let journal = &engine.journal;
    let (start, durable) = (journal.start().get(), journal.end().get());
    let cluster = engine.row_backend.cluster();
    Metrics {
        now_us: now().us(),
        started_at_us: figures.started_at_us,
        events,
        acked: load(&figures.acked),
        frames: load(&ingress.frames),
        frame_bytes: load(&ingress.bytes),
        ack: figures.ack.read(),
        connections: gauge(&ingress.connections),
        streams: gauge(&ingress.streams),
        sessions: shards.iter().map(|shard| shard.sessions).sum(),
        turned_away: load(&ingress.turned_away),
        initials_dropped: load(&ingress.initials_dropped),
        made_to_wait: load(&ingress.made_to_wait),
        pki: ingress.pki.read(),
        slowed: load(&ingress.slowed),
        refusals: ingress.refusals(),
        commit: engine.sync_stats.summary(),
        journal_waiting: wide(engine.appender.waiting()),
        journal: JournalMetrics {
            start,
            durable,
            base: journal.base().map_or(0, till_storage::journal::Lsn::get),
            segments: wide(journal.segments().len()),
            bytes: durable.saturating_sub(start),
            reads_failed: cluster.map_or(0, |one| one.unread.failed()),
        },
        flush: figures.flush_metrics(durable),
        disk_free_bytes: journal.disk().free_bytes(journal.dir()).ok(),
        rss_bytes: rss_bytes(),
        memory_max_bytes: engine.config.memory_bytes,
        shards,
        problems: figures.problems(),
    }
}

fn shards(engine: &Engine) -> Vec<ShardMetrics> {
    let shards = engine.slots.iter().enumerate().map(|(shard, slot)| {
        let sessions = wide(slot.sessions());
        let published = slot.published.lock();
        let mut events = published.before;
        events.add(&published.counters);
        ShardMetrics {
            shard,
            is_running: slot.is_running(),
            is_parked: slot.is_parked(),
            parked_terminals: slot.parked_terminals(),
            events,
            violations: published.violations.clone(),
            actors: wide(published.actors),
            stores: wide(published.stores),
            terminals: wide(published.terminals),
            sessions,
            permits_used: slot.gate.in_use(),
            permits_max: slot.gate.frames_max(),
            permits_waited: slot.gate.waits(),
            dirty_rows: wide(published.dirty_rows + slot.rows_waiting()),
            hot_terminals: published.hot_terminals.clone(),
            hot_skus: published.hot_skus.clone(),
        }
    });
    shards.collect()
}

fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn gauge(gauge: &AtomicI64) -> u64 {
    u64::try_from(gauge.load(Ordering::Relaxed)).unwrap_or(0)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
