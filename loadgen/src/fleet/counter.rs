//! One store at work: what is due in it, on which till, and when it is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use till_client::Terminal;

use super::bulk::{BY_HAND_MAX, Bulk};
use super::honest::Clocks;
use super::{FleetConfig, Yard};
use crate::bench::now_us;
use crate::engine::to_f64;
use crate::wire;
use crate::workload::{Dice, Event, StoreWorkload, daily_curve};

/// Events are made in small lots: finer than the latency that is looked for, coarser than the timer.
const TICK: Duration = Duration::from_millis(4);
/// Chains with fewer events per second send each event by itself, or those of one lot.
const GATHER_ABOVE: u64 = 10_000;
/// Tills of busier chains gather events for their frames, so that all of them together send about so often per second.
const HAND_OVERS_PER_S: f64 = 2_000.0;
/// Longest time for which a till gathers; latency counts from the first event.
const GATHER_MAX: Duration = Duration::from_millis(100);
/// A till sends what it gathered at the latest with so many events.
const GATHER_EVENTS: usize = 128;

/// A till of a store and the events that it has not sent yet.
#[derive(Debug)]
pub(super) struct Lane {
    terminal: Terminal,
    events: Vec<Event>,
    /// When the first of them was due.
    since: Option<Instant>,
    /// While it is offline its events wait.
    offline_until: Option<Instant>,
}

impl Lane {
    pub(super) fn new(terminal: &Terminal) -> Self {
        Self {
            terminal: terminal.clone(),
            events: Vec::new(),
            since: None,
            offline_until: None,
        }
    }

    fn is_offline(&self, now: Instant) -> bool {
        self.offline_until.is_some_and(|until| until > now)
    }
}

/// One store at work.
#[derive(Debug)]
pub(super) struct Counter {
    yard: Arc<Yard>,
    clocks: Arc<Clocks>,
    workload: StoreWorkload,
    dice: Dice,
    lanes: Vec<Lane>,
    /// Frames of bulk transactions so far.
    turn: usize,
    /// Events of the schedule that are not made yet: by hand, in bulk.
    owed: (f64, f64),
    /// Events per second, and the minute for which that holds.
    pace: (i64, f64),
    /// How long a till gathers events for a frame.
    gather: Duration,
}

/// How long each till of a chain gathers events.
fn gather(config: &FleetConfig) -> Duration {
    if config.rate <= GATHER_ABOVE {
        return Duration::ZERO;
    }
    let tills = f64::from(config.stores) * f64::from(config.terminals);
    Duration::from_secs_f64(tills / HAND_OVERS_PER_S).min(GATHER_MAX)
}

impl Counter {
    /// A store with its tills.
    pub(super) fn new(
        (yard, clocks): (Arc<Yard>, Arc<Clocks>),
        workload: StoreWorkload,
        mut dice: Dice,
        lanes: Vec<Lane>,
    ) -> Self {
        let turn = usize::try_from(workload.store()).unwrap_or(0);
        let owed = (dice.unit(), 0.0);
        let gather = gather(&yard.config);
        Self {
            gather,
            yard,
            clocks,
            workload,
            dice,
            lanes,
            turn,
            owed,
            pace: (i64::MIN, 0.0),
        }
    }

    /// Trades until the run is over.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut last = self.yard.begun();
        while !self.yard.is_over() {
            tick.tick().await;
            let now = Instant::now();
            // What came due while the store was held up is made good lot by lot, and each lot waits since it was due.
            while last < now && !self.yard.is_over() {
                let due = now.min(last + TICK);
                self.lot(due - last, due).await?;
                last = due;
            }
        }
        self.hand_off(last, true).await
    }

    /// Everything that comes due within a span of time that ends at `due`.
    async fn lot(&mut self, span: Duration, due: Instant) -> Result<()> {
        let all = self.yard.config.rate;
        let by_hand = to_f64(all.min(BY_HAND_MAX)) / to_f64(all);
        let events = self.pace() * span.as_secs_f64();
        self.owed.0 += events * by_hand;
        self.owed.1 += events * (1.0 - by_hand);
        while self.owed.0 >= 1.0 {
            self.owed.0 -= 1.0;
            self.make(due);
        }
        while self.owed.1 >= to_f64(Bulk::frame_events()) {
            self.owed.1 -= to_f64(Bulk::frame_events());
            self.send_bulk(due).await?;
        }
        self.wander(due);
        self.hand_off(due, false).await
    }

    /// Events per second of this store now: its part of the chain's rate by the time of its day. Stores lie around the
    /// globe, so that the chain's own rate stays what was asked for.
    fn pace(&mut self) -> f64 {
        let minute = now_us() / 60_000_000;
        if self.pace.0 != minute {
            let stores = i64::from(self.yard.config.stores);
            let weight = |store: i64| to_f64(daily_curve(minute + store * 1_440 / stores));
            let all: f64 = (0..stores).map(weight).sum();
            let own = weight(i64::from(self.workload.store()) - 1);
            self.pace = (minute, to_f64(self.yard.config.rate) * own / all);
        }
        self.pace.1
    }

    fn make(&mut self, due: Instant) {
        let (till, event) = self.workload.next(now_us());
        if let Some(mut book) = self.yard.book(self.workload.store()) {
            book.take(&event);
        }
        self.yard.made(1);
        let lane = usize::try_from(till)
            .ok()
            .and_then(|till| self.lanes.get_mut(till));
        if let Some(lane) = lane {
            lane.since.get_or_insert(due);
            lane.events.push(event);
        }
    }

    /// A frame of bulk transactions on the next till; tills that are offline take their turn later, unless all of them are.
    async fn send_bulk(&mut self, due: Instant) -> Result<()> {
        self.turn += 1;
        let lanes = self.lanes.len().max(1);
        let mut turns = (0..lanes).map(|next| (self.turn + next) % lanes);
        let online = turns.find(|at| {
            self.lanes
                .get(*at)
                .is_some_and(|lane| !lane.is_offline(due))
        });
        let lane = self.lanes.get(online.unwrap_or(self.turn % lanes));
        let (Some(bulk), Some(lane)) = (&self.yard.bulk, lane) else {
            return Ok(());
        };
        let store = self.workload.store();
        let made = {
            let mut book = self.yard.book(store);
            let place = (lane.terminal.next_seq(), now_us());
            bulk.frame((store, self.turn), place, book.as_deref_mut())?
        };
        let Some(frame) = made else {
            return Ok(());
        };
        let events = Bulk::frame_events();
        self.yard.made(events);
        let number = lane.terminal.send_frame(frame).await?;
        self.clocks.sent(lane.terminal.id(), (number, due, events));
        Ok(())
    }

    /// Now and then a till loses its network for some seconds.
    fn wander(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            if lane.offline_until.is_none() && self.dice.below(20_000) == 0 {
                let seconds = self.dice.between(2, 8).unsigned_abs();
                lane.offline_until = Some(now + Duration::from_secs(seconds));
            }
        }
    }

    async fn hand_off(&mut self, now: Instant, is_last: bool) -> Result<()> {
        for lane in &mut self.lanes {
            if lane.is_offline(now) && !is_last {
                continue;
            }
            // The time without a network is the till's, not the engine's: latency counts from the return.
            if let Some(back) = lane.offline_until.take() {
                lane.since = lane.since.map(|since| since.max(back.min(now)));
            }
            let Some(since) = lane.since else {
                continue;
            };
            let is_ripe = now.saturating_duration_since(since) >= self.gather
                || lane.events.len() >= GATHER_EVENTS;
            if !is_ripe && !is_last {
                continue;
            }
            let mut events = std::mem::take(&mut lane.events);
            lane.since = None;
            // A frame holds one family: few frames, as the order in which a till says things moves no level.
            events.sort_by_key(|event| event.family().number());
            for (frame, count) in wire::frames(&events, lane.terminal.next_seq())? {
                let number = lane.terminal.send_frame(frame).await?;
                self.clocks.sent(lane.terminal.id(), (number, since, count));
            }
        }
        Ok(())
    }
}
