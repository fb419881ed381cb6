//! Figures that anybody may read at any time without asking a shard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use till_core::Counters;
use till_protocol::code::Reason;

/// Upper bounds of the latency buckets in us, a factor of about 1.5 apart: from 50 us to 20 s.
pub(crate) const ACK_BUCKETS_US: [u64; 32] = [
    50, 75, 110, 170, 250, 380, 570, 850, 1_300, 1_900, 2_900, 4_300, 6_500, 9_700, 15_000, 22_000,
    33_000, 49_000, 74_000, 110_000, 170_000, 250_000, 370_000, 560_000, 840_000, 1_300_000,
    1_900_000, 2_800_000, 4_200_000, 6_400_000, 9_500_000, 20_000_000,
];

/// How many keys a shard's sketch of hot keys holds.
const HOT_KEYS: usize = 16;

/// One frame in so many is looked at for hot keys: at a million events a second that is still thousands of samples.
const HOT_SAMPLE: u64 = 16;

/// Counters that every thread adds to, once per frame or rarer.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) connections: AtomicU64,
    pub(crate) streams: AtomicU64,
    /// Streams that were ended for what the device sent.
    pub(crate) broken: AtomicU64,
    pub(crate) gaps: AtomicU64,
    /// Frames that had to wait for a permit.
    pub(crate) slowed: AtomicU64,
    pub(crate) bytes: AtomicU64,
    received: AtomicU64,
    acked: AtomicU64,
    pub(crate) rows: AtomicU64,
    ack_us: AtomicU64,
    acks: AtomicU64,
    buckets: [AtomicU64; ACK_BUCKETS_US.len() + 1],
    refused_sessions: Mutex<Vec<(Reason, u64)>>,
    shards: Vec<Mutex<Shown>>,
}

/// What a shard shows of itself.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) counters: Counters,
    pub(crate) actors: u64,
    pub(crate) terminals: u64,
    pub(crate) stores: u64,
    pub(crate) dirty_rows: u64,
    pub(crate) violations: Vec<(&'static str, u64)>,
    pub(crate) restarts: u64,
    pub(crate) parked: bool,
    frames: u64,
    hot: Vec<(u64, u64)>,
}

/// A key that much of a shard's load falls on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HotKey {
    /// The terminal, as u64.
    pub terminal: u64,
    /// Its events since the start, estimated from a sample of frames.
    pub events: u64,
}

/// Figures of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardFigures {
    /// What it did with events since it started.
    pub counters: Counters,
    /// SKUs and sums in memory.
    pub actors: u64,
    /// Terminals in memory.
    pub terminals: u64,
    /// Stores that sent events since the start.
    pub stores: u64,
    /// Rows that wait for a flush.
    pub dirty_rows: u64,
    /// Invariants that were found broken, by id, and how often.
    pub violations: Vec<(&'static str, u64)>,
    /// How often it was restarted.
    pub restarts: u64,
    /// It failed twice and takes nothing more.
    pub parked: bool,
    /// KiB of batches that are admitted and not durable yet.
    pub queued_kib: u64,
    /// Most of that at once.
    pub queue_kib_max: u64,
    /// The terminals that send most.
    pub hot: Vec<HotKey>,
}

/// Figures of the engine. Counters only rise and start at zero with it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Connections now.
    pub connections: u64,
    /// Streams now.
    pub streams: u64,
    /// Streams that were ended for what the device sent.
    pub broken: u64,
    /// Frames with events missing before them.
    pub gaps: u64,
    /// Frames that had to wait for a permit.
    pub slowed: u64,
    /// Bytes of frames that were taken.
    pub bytes: u64,
    /// Events in frames that were admitted.
    pub received: u64,
    /// Events that were acknowledged, duplicates and refusals included.
    pub acked: u64,
    /// Rows that were written to the views.
    pub rows_written: u64,
    /// Acknowledged frames.
    pub acks: u64,
    /// Sum of the times from admission to acknowledgement, in us.
    pub ack_us: u64,
    /// Frames by that time: (upper bound in us, frames); the last bound is `u64::MAX`.
    pub ack_buckets: Vec<(u64, u64)>,
    /// Sessions that were not allowed, by reason.
    pub refused_sessions: Vec<(Reason, u64)>,
    /// The shards, in order.
    pub shards: Vec<ShardFigures>,
}

impl Published {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            connections: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            received: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            ack_us: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; ACK_BUCKETS_US.len() + 1],
            refused_sessions: Mutex::new(Vec::new()),
            shards: (0..shards).map(|_| Mutex::new(Shown::default())).collect(),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, events: u32, bytes: usize) {
        Self::add(&self.received, u64::from(events));
        Self::add(&self.bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(crate) fn acked(&self, events: u32, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self::add(&self.acked, u64::from(events));
        Self::add(&self.ack_us, us);
        Self::add(&self.acks, 1);
        let bucket = ACK_BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.buckets.get(bucket) {
            Self::add(count, 1);
        }
    }

    pub(crate) fn refused_session(&self, reason: Reason) {
        let mut refused = self.refused_sessions.lock();
        match refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => refused.push((reason, 1)),
        }
    }

    /// Lets a shard show itself.
    pub(crate) fn show(&self, shard: usize, update: impl FnOnce(&mut Shown)) {
        if let Some(shown) = self.shards.get(shard) {
            update(&mut shown.lock());
        }
    }

    /// Everything, as of now.
    pub(crate) fn figures(&self) -> Figures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bounds = ACK_BUCKETS_US.iter().copied().chain([u64::MAX]);
        Figures {
            connections: load(&self.connections),
            streams: load(&self.streams),
            broken: load(&self.broken),
            gaps: load(&self.gaps),
            slowed: load(&self.slowed),
            bytes: load(&self.bytes),
            received: load(&self.received),
            acked: load(&self.acked),
            rows_written: load(&self.rows),
            acks: load(&self.acks),
            ack_us: load(&self.ack_us),
            ack_buckets: bounds.zip(self.buckets.iter().map(load)).collect(),
            refused_sessions: self.refused_sessions.lock().clone(),
            shards: self
                .shards
                .iter()
                .map(|shown| shown.lock().figures())
                .collect(),
        }
    }
}

impl Shown {
    /// Counts a frame of a terminal towards the hot keys (space-saving: the least of the kept ones gives way).
    pub(crate) fn frame(&mut self, terminal: u64, events: u32) {
        self.frames += 1;
        if !self.frames.is_multiple_of(HOT_SAMPLE) {
            return;
        }
        let weight = u64::from(events) * HOT_SAMPLE;
        if let Some((_, count)) = self.hot.iter_mut().find(|(key, _)| *key == terminal) {
            *count += weight;
        } else if self.hot.len() < HOT_KEYS {
            self.hot.push((terminal, weight));
        } else if let Some(least) = self.hot.iter_mut().min_by_key(|(_, count)| *count) {
            *least = (terminal, least.1 + weight);
        }
    }

    fn figures(&self) -> ShardFigures {
        let mut hot: Vec<HotKey> = self
            .hot
            .iter()
            .map(|&(terminal, events)| HotKey { terminal, events })
            .collect();
        hot.sort_unstable_by_key(|key| std::cmp::Reverse(key.events));
        ShardFigures {
            counters: self.counters,
            actors: self.actors,
            terminals: self.terminals,
            stores: self.stores,
            dirty_rows: self.dirty_rows,
            violations: self.violations.clone(),
            restarts: self.restarts,
            parked: self.parked,
            queued_kib: 0,
            queue_kib_max: 0,
            hot,
        }
    }
}
