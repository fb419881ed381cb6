//! What the syncer counts.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// What the syncer is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It takes records and makes them durable.
    Running,
    /// The disk is full: records wait, nothing is acknowledged, and it goes on by itself when there is room.
    Full,
    /// A write or sync failed: nothing is acknowledged any more, the process must end.
    Poisoned,
    /// It was closed in good order.
    Closed,
}

impl State {
    /// The name in metrics and health reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Full => "disk_full",
            Self::Poisoned => "poisoned",
            Self::Closed => "closed",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Full => 1,
            Self::Poisoned => 2,
            Self::Closed => 3,
        }
    }
}

/// Upper bounds of the buckets of sync times, in us; one more bucket holds what is longer.
pub const SYNC_BUCKETS_US: [u64; 14] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400,
];

/// Counters of a syncer, shared with whoever reports them.
#[derive(Debug, Default)]
pub struct SyncStats {
    state: AtomicU8,
    groups: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    rotations: AtomicU64,
    full: AtomicU64,
    last_records: AtomicU64,
    last_bytes: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
    sync_us_max: AtomicU64,
    buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncSummary {
    /// What the syncer is doing.
    pub state: State,
    /// Groups written.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them on disk, headers included.
    pub bytes: u64,
    /// Segments begun.
    pub rotations: u64,
    /// Times that the disk was found full.
    pub full: u64,
    /// Records in the last group.
    pub last_records: u64,
    /// Bytes of the last group.
    pub last_bytes: u64,
    /// Syncs of groups.
    pub syncs: u64,
    /// Time in all syncs, in us.
    pub sync_us: u64,
    /// Longest sync, in us.
    pub sync_us_max: u64,
    /// Syncs by duration: up to each of [`SYNC_BUCKETS_US`], and longer ones.
    pub buckets: [u64; SYNC_BUCKETS_US.len() + 1],
}

impl SyncStats {
    /// What the syncer is doing.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Running,
            1 => State::Full,
            2 => State::Poisoned,
            _ => State::Closed,
        }
    }

    /// All counters.
    pub fn summary(&self) -> SyncSummary {
        SyncSummary {
            state: self.state(),
            groups: get(&self.groups),
            records: get(&self.records),
            bytes: get(&self.bytes),
            rotations: get(&self.rotations),
            full: get(&self.full),
            last_records: get(&self.last_records),
            last_bytes: get(&self.last_bytes),
            syncs: get(&self.syncs),
            sync_us: get(&self.sync_us),
            sync_us_max: get(&self.sync_us_max),
            buckets: self.buckets.each_ref().map(get),
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state.number(), Ordering::Release);
    }

    pub(crate) fn count_full(&self) {
        add(&self.full, 1);
    }

    pub(crate) fn count_group(&self, records: u64, bytes: u64) {
        add(&self.groups, 1);
        add(&self.records, records);
        add(&self.bytes, bytes);
        self.last_records.store(records, Ordering::Relaxed);
        self.last_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_rotation(&self) {
        add(&self.rotations, 1);
    }

    pub(crate) fn count_sync(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.syncs, 1);
        add(&self.sync_us, us);
        self.sync_us_max.fetch_max(us, Ordering::Relaxed);
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            add(bucket, 1);
        }
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
