//! What a world is made of: each seed draws its own share of every trouble, and of some none.

use crate::disk::DiskFaults;
use crate::rng::Rng;
use crate::rows::RowFaults;
use crate::shared::ShareFaults;
use crate::workload::{CHANGED, Mix, Zone};

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000 * MS;
pub(crate) const HOUR: u64 = 3_600 * SECOND;
pub(crate) const DAY: u64 = 24 * HOUR;
/// 2026-11-21 00:00 UTC.
const BEGAN_US: i64 = 20_778 * 86_400_000_000;

/// A world. Times in us, rates in a million.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// When it begins, in us since 1970-01-01 UTC.
    pub(crate) began_us: i64,
    /// Clocks that are changed while there is trade; `None` where none are.
    pub(crate) changed: Option<Zone>,
    pub(crate) stores: u64,
    pub(crate) devices: u64,
    pub(crate) shards: u16,
    /// Time between two things that happen at a till.
    pub(crate) pace: u64,
    /// From here on nothing goes wrong any more, and nothing new happens.
    pub(crate) calm_at: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) actors_max: usize,
    pub(crate) recent_bytes: usize,
    pub(crate) permits: u32,
    pub(crate) flush_every: u64,
    pub(crate) mix: Mix,
    pub(crate) net: NetFaults,
    pub(crate) disk: DiskFaults,
    pub(crate) rows: RowFaults,
    pub(crate) node: NodeFaults,
    pub(crate) reads: Reads,
    pub(crate) till: TillFaults,
    /// Time between two looks of an operator at the quarantine; 0 where nobody looks before the end.
    pub(crate) retry_every: u64,
    /// Time between two looks of an operator at records that have no place; 0 where nobody looks.
    pub(crate) release_every: u64,
    /// When a device's outbox is copied and used by another one as well.
    pub(crate) copied_at: Option<u64>,
    /// Segments leave when their records were received so long ago.
    pub(crate) retention: Option<u64>,
    /// Engines that share a store; `None` for one that is alone.
    pub(crate) cluster: Option<ClusterPlan>,
    /// Syncs may lie: what was acknowledged may be gone after a loss of power.
    pub(crate) lies: bool,
}

/// Several engines on one store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterPlan {
    pub(crate) nodes: usize,
    pub(crate) slots: u32,
    pub(crate) lease: u64,
    pub(crate) store: ShareFaults,
    /// A call takes up to seconds, one way.
    pub(crate) slow: u64,
    /// Time between two days on which an engine does not reach the store; 0 for none. And so on.
    pub(crate) cutoff_every: u64,
    /// An engine's process stands still.
    pub(crate) freeze_every: u64,
    /// An engine is lost with its disk.
    pub(crate) burn_every: u64,
    /// Of the commits, in a million, those after which the process ends before their rows are written.
    pub(crate) ends_after_commit: u64,
    /// Of what devices say, in a million, that which is put away with what follows it, to be heard together.
    pub(crate) together: u64,
    /// Time between two spells in which rows of one store make no sense; 0 for none.
    pub(crate) damage_every: u64,
}

/// Of the network.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NetFaults {
    /// Longest way of a chunk.
    pub(crate) delay: u64,
    /// A chunk takes seconds.
    pub(crate) stall: u64,
    /// A connection is cut with a chunk on its way.
    pub(crate) cut: u64,
    /// A frame is lost, and its connection ends later.
    pub(crate) lose: u64,
    /// A frame comes twice.
    pub(crate) twice: u64,
    /// A frame overtakes the one before it.
    pub(crate) overtake: u64,
    /// Time between two partitions; 0 for none.
    pub(crate) partition_every: u64,
}

/// Of the engine and its machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeFaults {
    /// Time between two crashes; 0 for none.
    pub(crate) crash_every: u64,
    /// Of the crashes, those in which the power fails.
    pub(crate) power: u64,
    /// Of the crashes, those in the middle of an operation of the disk.
    pub(crate) midway: u64,
    /// Time between two crashes of a shard; 0 for none.
    pub(crate) shard_crash_every: u64,
    /// Time between two leaps of its clock; 0 for none.
    pub(crate) leap_every: u64,
    /// Time between two days on which the disk is full; 0 for none.
    pub(crate) full_every: u64,
    /// A group takes seconds to sync.
    pub(crate) slow_sync: u64,
    /// After a crash the rows are gone.
    pub(crate) rows_lost: u64,
    /// At a start one bit of the journal is looked at with another value.
    pub(crate) rot: u64,
    /// It stops in good order instead of crashing.
    pub(crate) orderly: u64,
}

/// Of what engines read from their disks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// A read fails.
    fail: u64,
    /// Time between two spells in which one file cannot be read; 0 for none.
    pub(crate) blind_every: u64,
}

/// Of devices.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TillFaults {
    /// Time between two crashes of a device; 0 for none.
    pub(crate) crash_every: u64,
    /// Time between two restorations from an image; 0 for none.
    pub(crate) restore_every: u64,
    /// Devices that are lost for good.
    pub(crate) lost: u64,
    /// Devices that are offline for most of the time.
    pub(crate) offline: u64,
    /// Longest that a device's clock is off.
    pub(crate) skew: i64,
}

/// Draws rates and times; a quarter of the worlds has nothing of each kind.
struct Dice {
    rng: Rng,
    calm_at: u64,
}

impl Dice {
    // A pause, so that it happens so many times.
    fn every(&mut self, least: u64, most: u64) -> u64 {
        let drawn = self.rng.within(self.calm_at / most, self.calm_at / least);
        if self.rng.one_in(4) { 0 } else { drawn }
    }

    fn some(&mut self, most: u64) -> u64 {
        if self.rng.one_in(4) {
            0
        } else {
            self.rng.within(1, most)
        }
    }

    fn one_of<T>(&mut self, one: T, other: T) -> T {
        if self.rng.one_in(2) { one } else { other }
    }

    fn net(&mut self) -> NetFaults {
        NetFaults {
            delay: self.some(80) * MS + MS,
            stall: self.some(4_000),
            cut: self.some(15_000),
            lose: self.some(10_000),
            twice: self.some(40_000),
            overtake: self.some(20_000),
            partition_every: self.every(1, 6),
        }
    }

    fn disk(&mut self, lies: bool) -> DiskFaults {
        DiskFaults {
            sync_fails: if lies { 0 } else { self.some(6_000) },
            sync_lies: if lies { 150_000 } else { 0 },
            short_write: self.some(3_000),
            ..DiskFaults::default()
        }
    }

    fn reads(&mut self) -> Reads {
        Reads {
            fail: self.some(4_000),
            blind_every: self.every(1, 4),
        }
    }

    fn rows(&mut self) -> RowFaults {
        RowFaults {
            write_fails: self.some(120_000),
            answer_lost: self.some(60_000),
            read_fails: self.some(2_000),
        }
    }

    fn node(&mut self) -> NodeFaults {
        NodeFaults {
            crash_every: self.every(2, 14),
            power: 500_000,
            midway: 600_000,
            shard_crash_every: self.every(1, 5),
            leap_every: self.every(1, 4),
            full_every: self.every(1, 3),
            slow_sync: self.some(20_000),
            rows_lost: self.some(120_000),
            rot: 250_000,
            orderly: self.some(150_000),
        }
    }

    fn till(&mut self) -> TillFaults {
        TillFaults {
            crash_every: self.every(1, 6),
            restore_every: self.every(1, 3),
            lost: self.some(250_000),
            offline: self.some(250_000),
            skew: self.hours(40),
        }
    }

    fn cluster(&mut self) -> ClusterPlan {
        ClusterPlan {
            nodes: self.rng.index(3) + 2,
            slots: u32::try_from(self.rng.within(8, 16)).unwrap_or(8),
            lease: self.rng.within(3, 6) * SECOND,
            store: ShareFaults {
                fails: self.some(50_000),
                answer_lost: self.some(60_000),
                late: self.some(60_000),
                stale: self.some(50_000),
                partly: self.some(60_000),
            },
            slow: self.some(20_000),
            cutoff_every: self.every(1, 5),
            freeze_every: self.every(1, 4),
            burn_every: if self.rng.one_in(2) {
                self.every(1, 2)
            } else {
                0
            },
            ends_after_commit: self.some(60_000),
            together: 0,
            damage_every: 0,
        }
    }

    fn mix(&mut self) -> Mix {
        Mix {
            counts: self.some(120),
            garbage: self.some(40),
            ids: self.some(400),
            huge: 0,
            late_us: self.hours(2),
            range: 0,
            is_full: false,
        }
    }

    fn hours(&mut self, most: u64) -> i64 {
        i64::try_from(self.some(most) * HOUR).unwrap_or(0)
    }
}

/// Of so many worlds one has several engines.
const CLUSTERED_ONE_IN: u64 = 3;
/// Of so many of these worlds with one engine, one has a write that lands elsewhere.
const STRAY_ONE_IN: u64 = 4;
/// What the dice of later troubles begin with.
const LATER: u64 = 0x0dd5_ea51;
/// One of so many worlds is full.
const FULL_ONE_IN: u64 = 5;
/// What the dice of full worlds begin with.
const FULL: u64 = 0xfa11_f011;
/// What the dice of what is sold begin with.
const RANGE: u64 = 0x600d_5a1e;

impl Plan {
    /// The world of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let plan = if seed % CLUSTERED_ONE_IN == CLUSTERED_ONE_IN - 1 {
            Self::clustered(seed)
        } else {
            Self::alone(seed)
        };
        plan.with_later(seed).with_range(seed).with_full(seed)
    }

    // These troubles came later. They have dice of their own, so that worlds of even seeds stay the worlds that they were: some
    // are known for what they showed.
    fn with_later(mut self, seed: u64) -> Self {
        if seed.is_multiple_of(2) {
            return self;
        }
        let mut dice = Dice {
            rng: Rng::new(seed ^ LATER),
            calm_at: self.calm_at,
        };
        self.reads = dice.reads();
        self.disk.read_fails = self.reads.fail;
        if self.cluster.is_none() && !self.lies && dice.rng.one_in(STRAY_ONE_IN) {
            self.disk.strays = dice.rng.within(4_000, 30_000);
        }
        self.sets_quarantined(&mut dice);
        self.copies(&mut dice);
        self.delivers_together(&mut dice);
        self.sets_quarantined_shared(seed, &mut dice);
        self
    }

    // What is sold, and where: the last of all, with dice of its own, in every third world of each kind.
    fn with_range(mut self, seed: u64) -> Self {
        if seed % 9 < 6 {
            return self;
        }
        let mut dice = Rng::new(seed ^ RANGE);
        self.mix.range = if dice.one_in(2) {
            dice.within(2, 12)
        } else {
            dice.within(40, 400)
        };
        self
    }

    // Everything that happens in a chain, over many hours, and maybe while clocks are changed: with dice of its own, in every
    // fifth world.
    fn with_full(mut self, seed: u64) -> Self {
        if seed % FULL_ONE_IN != FULL_ONE_IN - 1 {
            return self;
        }
        let mut dice = Rng::new(seed ^ FULL);
        self.mix.is_full = true;
        self.mix.range = self.mix.range.max(dice.within(2, 12));
        if dice.one_in(2) {
            self.mix.late_us = i64::try_from(dice.within(3, 72) * HOUR).unwrap_or(0);
        }
        if !dice.one_in(3) {
            let zone = CHANGED[dice.index(CHANGED.len())];
            self.changed = Some(zone);
            let half = i64::try_from(self.calm_at / 2).unwrap_or(0);
            self.began_us = zone.change_at().map_or(BEGAN_US, |at| at - half);
        }
        if self.cluster.is_some() {
            self.release_every = self.calm_at / dice.within(4, 10);
        }
        self
    }

    // Shards to which much comes at a time, and rows that one of those who speak has damaged.
    fn delivers_together(&mut self, dice: &mut Dice) {
        if let Some(cluster) = &mut self.cluster {
            cluster.together = dice.some(900_000);
            cluster.damage_every = dice.every(4, 16);
            // Two devices that pass for one, maybe each at another engine. As with one engine nothing comes then that does not
            // say which of them sent it.
            if dice.rng.one_in(2) {
                self.mix.garbage = 0;
                self.mix.ids = 0;
                self.copied_at = Some(dice.rng.within(self.calm_at / 6, self.calm_at * 2 / 3));
            }
        }
    }

    // Two devices that pass for one. Which of them sent what is known by what it says: nothing comes without that. They put each
    // other out every few seconds, which is no epoch for days.
    fn copies(&mut self, dice: &mut Dice) {
        let is_short = self.calm_at < HOUR;
        if self.cluster.is_none() && is_short && !self.is_excused() && dice.rng.one_in(2) {
            self.mix.garbage = 0;
            self.mix.ids = 0;
            self.copied_at = Some(dice.rng.within(self.calm_at / 5, self.calm_at * 4 / 5));
        }
    }

    // SKUs whose level leaves its range are quarantined, and an operator decides them again.
    fn sets_quarantined(&mut self, dice: &mut Dice) {
        // What retention drops can't be decided again.
        if self.cluster.is_none() && self.retention.is_none() && !dice.rng.one_in(4) {
            self.mix.huge = dice.rng.within(20, 120);
            self.retry_every = dice.every(4, 16);
        }
    }

    // The same where several engines share a store, each with an operator who looks at the quarantine of all. This came last:
    // every other one of these worlds stays the world that it was.
    fn sets_quarantined_shared(&mut self, seed: u64, dice: &mut Dice) {
        if self.cluster.is_some() && seed % 4 == 1 {
            self.mix.huge = dice.rng.within(20, 120);
            self.retry_every = dice.every(4, 16);
        }
    }

    /// Whether a disk may lose what counts as durable, and keep silent at first.
    pub(crate) const fn is_excused(&self) -> bool {
        self.lies || self.disk.strays > 0
    }

    // Several engines: none of their disks lies, and time is short, as they look at each other all the time.
    fn clustered(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed_c1a5);
        let calm_at = rng.within(20, 100) * SECOND;
        let mut dice = Dice { rng, calm_at };
        let cluster = dice.cluster();
        let mut disk = dice.disk(false);
        // Each engine has a disk of its own.
        disk.sync_fails /= 3;
        disk.short_write /= 3;
        let mut node = dice.node();
        node.orderly *= 2;
        let till = dice.till();
        Self {
            began_us: BEGAN_US,
            changed: None,
            net: dice.net(),
            disk,
            rows: RowFaults::default(),
            node,
            till,
            reads: Reads::default(),
            retry_every: 0,
            release_every: 0,
            copied_at: None,
            mix: dice.mix(),
            retention: None,
            reserve_bytes: dice.one_of(0, 8_192),
            actors_max: dice.one_of(12, 4_096),
            recent_bytes: dice.one_of(64, 1 << 14),
            stores: dice.rng.within(2, 6),
            devices: dice.rng.within(3, 7),
            shards: u16::try_from(dice.rng.within(1, 2)).unwrap_or(1),
            pace: calm_at / dice.rng.within(15, 60),
            segment_bytes: 4_096 << dice.rng.below(3),
            permits: u32::try_from(dice.rng.within(3, 24)).unwrap_or(3),
            flush_every: dice.rng.within(200 * MS, 3 * SECOND),
            calm_at,
            cluster: Some(cluster),
            lies: false,
        }
    }

    fn alone(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7165_1a2b);
        let lies = rng.one_in(12);
        let long = rng.one_in(4);
        let calm_at = if long {
            rng.within(2, 5) * DAY
        } else {
            rng.within(20, 120) * SECOND
        };
        let events = rng.within(15, 90);
        let keeps = rng.within(4, 20) * HOUR;
        let mut dice = Dice { rng, calm_at };
        Self {
            began_us: BEGAN_US,
            changed: None,
            net: dice.net(),
            disk: dice.disk(lies),
            rows: dice.rows(),
            node: dice.node(),
            till: dice.till(),
            reads: Reads::default(),
            retry_every: 0,
            release_every: 0,
            copied_at: None,
            mix: dice.mix(),
            retention: Some(keeps).filter(|_| long && !dice.rng.one_in(3)),
            reserve_bytes: dice.one_of(0, 8_192),
            actors_max: dice.one_of(12, 4_096),
            recent_bytes: dice.one_of(64, 1 << 14),
            stores: dice.rng.within(1, 3),
            devices: dice.rng.within(2, 6),
            shards: u16::try_from(dice.rng.within(1, 3)).unwrap_or(1),
            pace: calm_at / events,
            segment_bytes: 4_096 << dice.rng.below(3),
            permits: u32::try_from(dice.rng.within(3, 24)).unwrap_or(3),
            flush_every: dice.rng.within(50 * MS, 4 * SECOND),
            calm_at,
            cluster: None,
            lies,
        }
    }
}
