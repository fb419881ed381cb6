//! Honest devices: what they say is in their outbox first, and stays there until it is committed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hashbrown::HashMap;
use till_client::{
    DeadLetterFile, DiskConfig, DiskOutbox, Happening, Identity, Link, LinkConfig, MemoryConfig,
    MemoryOutbox, NoDeadLetters, Notice, Observer, Outbox, Terminal, TerminalConfig,
};
use till_protocol::id::{StoreId, TerminalId, TillId};
use tokio::task::JoinSet;

use super::bulk::{BY_HAND_MAX, Bulk};
use super::{FleetConfig, Outcome, Yard, locked};
use crate::bench::now_us;
use crate::engine::to_f64;
use crate::oracle::Expected;
use crate::trade::{Dice, Event, StoreTrade, daily_curve};
use crate::wire;

/// Terminals that share a connection, as behind one store's agent.
const TERMINALS_PER_LINK: u32 = 48;
/// Events are made in small lots: finer than the latency that is looked for, coarser than the timer.
const TICK: Duration = Duration::from_millis(4);
const LEFTOVERS_MAX: Duration = Duration::from_secs(120);

/// All honest terminals.
#[derive(Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    tills: Vec<Till>,
    clocks: Arc<Clocks>,
}

#[derive(Debug)]
struct Till {
    store: u32,
    till: u32,
    terminal: Terminal,
    /// Events that were in its outbox before and are not part of this run.
    before: u64,
}

/// Frames in flight: number of the last event, when it was due, how many events.
type Due = VecDeque<(u64, Instant, u64)>;

/// When the events in flight were due, by terminal.
#[derive(Debug, Default)]
struct Clocks {
    yard: OnceLock<Arc<Yard>>,
    due: HashMap<u64, Mutex<Due>>,
}

impl Observer for Clocks {
    fn happened(&self, terminal: TerminalId, at: Instant, what: &Happening<'_>) {
        let Happening::Notice(Notice::Acked { refusals, .. }, totals) = what else {
            return;
        };
        for (seq, reason) in refusals {
            tracing::error!(%terminal, seq, %reason, "an honest event was refused");
        }
        let (Some(yard), Some(due)) = (self.yard.get(), self.due.get(&terminal.to_u64())) else {
            return;
        };
        let mut due = locked(due);
        let mut latency = locked(&yard.latency);
        while let Some((number, since, events)) = due.front().copied() {
            if number > totals.committed {
                break;
            }
            due.pop_front();
            let waited = at.saturating_duration_since(since).as_micros();
            latency.saturating_record_n(u64::try_from(waited).unwrap_or(u64::MAX), events);
            yard.acked.fetch_add(events, Ordering::Relaxed);
        }
    }
}

impl Chain {
    /// Puts all terminals on their links and sends what is left in their outboxes.
    pub(super) async fn open(config: &FleetConfig, identity: &Identity) -> Result<Self> {
        let all = config.stores.saturating_mul(config.terminals);
        let links = (0..all.div_ceil(TERMINALS_PER_LINK))
            .map(|_| Link::open(LinkConfig::new(config.addr.to_string(), identity.clone())))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ids = Vec::new();
        for store in 1..=config.stores {
            for till in 1..=config.terminals {
                ids.push(TerminalId::new(StoreId::new(store)?, TillId::new(till)?));
            }
        }
        let due = ids
            .iter()
            .map(|id| (id.to_u64(), Mutex::default()))
            .collect();
        let clocks = Arc::new(Clocks {
            yard: OnceLock::new(),
            due,
        });
        let mut tills = Vec::new();
        for (place, id) in ids.into_iter().enumerate() {
            let link = links.get(place % links.len()).context("no link")?;
            tills.push(join(config, link, id, &clocks)?);
        }
        let chain = Self {
            links,
            tills,
            clocks,
        };
        for till in chain.tills.iter().filter(|till| till.before > 0) {
            tokio::time::timeout(LEFTOVERS_MAX, till.terminal.flush())
                .await
                .context("what earlier runs left in the outboxes is not taken by the engine")??;
        }
        Ok(chain)
    }

    /// Starts the trade of all stores.
    ///
    /// # Errors
    /// Fails when the goods of the bulk trade cannot be named.
    pub(super) async fn start(&self, yard: &Arc<Yard>) -> Result<JoinSet<Result<()>>> {
        self.clocks.yard.set(Arc::clone(yard)).ok();
        if let (Some(bulk), Some(first)) = (&yard.bulk, self.tills.first()) {
            name_bulk(yard, bulk, first).await?;
        }
        let mut stores = JoinSet::new();
        for store in 1..=yard.config.stores {
            let tills = self.tills.iter().filter(|till| till.store == store);
            let lanes = tills.map(|till| Lane::new(&till.terminal)).collect();
            let counter = Counter {
                yard: Arc::clone(yard),
                clocks: Arc::clone(&self.clocks),
                trade: trade_of(store, yard),
                dice: Dice::new(yard.config.seed ^ u64::from(store) << 20),
                lanes,
                turn: usize::try_from(store)?,
            };
            drop(stores.spawn(counter.run()));
        }
        Ok(stores)
    }

    /// Waits until everything is committed, and says how far each terminal came.
    pub(super) async fn settle(&mut self, outcome: &mut Outcome) {
        for till in &self.tills {
            let name = (till.store, till.till);
            if let Err(error) = till.terminal.flush().await {
                outcome
                    .complaints
                    .push(format!("terminal {}-{}: {error}", name.0, name.1));
            }
            let progress = *till.terminal.committed().borrow();
            let expected = Expected {
                epoch: progress
                    .standing
                    .epoch
                    .map_or(0, till_protocol::id::Epoch::get),
                next_seq: progress.standing.last + 1,
                applied: progress.totals.appended - till.before,
                ..Expected::default()
            };
            outcome.expected.insert(name, expected);
        }
        // All at once: a goodbye takes the engine a moment, and a chain has many tills.
        let mut closing = JoinSet::new();
        for till in &self.tills {
            let terminal = till.terminal.clone();
            closing.spawn(async move { terminal.close().await });
        }
        while closing.join_next().await.is_some() {}
        for link in &self.links {
            link.close().await;
        }
    }
}

fn trade_of(store: u32, yard: &Yard) -> StoreTrade {
    // Receipt numbers go on where an earlier run on the same day stopped, as they would at a till.
    let first = u64::try_from(now_us() / 1_000_000).unwrap_or(0) % 100_000_000 * 1_000;
    StoreTrade::new(
        yard.config.seed,
        (store, yard.config.terminals),
        &yard.catalogue,
        first,
    )
}

fn join(config: &FleetConfig, link: &Link, id: TerminalId, clocks: &Arc<Clocks>) -> Result<Till> {
    let mut settings = TerminalConfig::new(id);
    let observer: Arc<dyn Observer> = Arc::<Clocks>::clone(clocks);
    settings.observer = Some(observer);
    let (outbox, before): (Box<dyn Outbox>, u64);
    let terminal = match &config.outbox {
        None => {
            (outbox, before) = (Box::new(MemoryOutbox::new(MemoryConfig::default())), 0);
            link.terminal(settings, outbox, Box::new(NoDeadLetters))
        }
        Some(folder) => {
            let folder = folder.join(id.to_string());
            let disk = DiskOutbox::open(&folder, id, DiskConfig::default())?;
            before = disk.standing().last;
            outbox = Box::new(disk);
            let letters = DeadLetterFile::open(&folder.join("dead-letters.jsonl"))?;
            link.terminal(settings, outbox, Box::new(letters))
        }
    };
    Ok(Till {
        store: id.store().get(),
        till: id.till().get(),
        terminal,
        before,
    })
}

/// One terminal names the goods of the bulk trade for all.
async fn name_bulk(yard: &Yard, bulk: &Bulk, first: &Till) -> Result<()> {
    let events = bulk.names(now_us());
    for part in events.chunks(256) {
        for event in part {
            if let Some(mut book) = yard.book(first.store) {
                book.take(event);
            }
        }
        for (frame, count) in wire::frames(part, first.terminal.next_seq())? {
            first.terminal.send_frame(frame).await?;
            yard.sent.fetch_add(count, Ordering::Relaxed);
            yard.acked.fetch_add(count, Ordering::Relaxed);
        }
    }
    Ok(first.terminal.flush().await?)
}

/// A till of a store and the events that it makes in one tick.
#[derive(Debug)]
struct Lane {
    terminal: Terminal,
    events: Vec<Event>,
    /// While it is offline its events wait.
    offline_until: Option<Instant>,
}

impl Lane {
    fn new(terminal: &Terminal) -> Self {
        Self {
            terminal: terminal.clone(),
            events: Vec::new(),
            offline_until: None,
        }
    }
}

/// One store at work.
#[derive(Debug)]
struct Counter {
    yard: Arc<Yard>,
    clocks: Arc<Clocks>,
    trade: StoreTrade,
    dice: Dice,
    lanes: Vec<Lane>,
    /// Frames of bulk trade so far.
    turn: usize,
}

impl Counter {
    async fn run(mut self) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let all = self.yard.config.rate;
        let by_hand = to_f64(all.min(BY_HAND_MAX)) / to_f64(all);
        let (mut owed, mut owed_bulk, mut last) = (self.dice.unit(), 0.0, Instant::now());
        while !self.yard.is_over() {
            tick.tick().await;
            let now = Instant::now();
            let due = self.rate() * (now - last).as_secs_f64();
            owed += due * by_hand;
            owed_bulk += due * (1.0 - by_hand);
            last = now;
            while owed >= 1.0 {
                owed -= 1.0;
                self.make();
            }
            while owed_bulk >= to_f64(Bulk::frame_events()) {
                owed_bulk -= to_f64(Bulk::frame_events());
                self.send_bulk(now).await?;
            }
            self.wander(now);
            self.hand_over(now, false).await?;
        }
        self.hand_over(Instant::now(), true).await
    }

    /// Events per second of this store now: its part of the chain's rate by the time of its day. Stores lie around the
    /// globe, so that the chain's own rate stays what was asked for.
    fn rate(&self) -> f64 {
        let stores = i64::from(self.yard.config.stores);
        let minute = now_us() / 60_000_000;
        let weight = |store: i64| to_f64(daily_curve(minute + store * 1_440 / stores));
        let all: f64 = (0..stores).map(weight).sum();
        to_f64(self.yard.config.rate) * weight(i64::from(self.trade.store()) - 1) / all
    }

    fn make(&mut self) {
        let (till, event) = self.trade.next(now_us());
        if let Some(mut book) = self.yard.book(self.trade.store()) {
            book.take(&event);
        }
        self.yard.sent.fetch_add(1, Ordering::Relaxed);
        let lane = usize::try_from(till)
            .ok()
            .and_then(|till| self.lanes.get_mut(till));
        if let Some(lane) = lane {
            lane.events.push(event);
        }
    }

    async fn send_bulk(&mut self, now: Instant) -> Result<()> {
        self.turn += 1;
        let lanes = self.lanes.len().max(1);
        let (Some(bulk), Some(lane)) = (&self.yard.bulk, self.lanes.get(self.turn % lanes)) else {
            return Ok(());
        };
        let store = self.trade.store();
        let made = {
            let mut book = self.yard.book(store);
            let place = (lane.terminal.next_seq(), now_us());
            bulk.frame((store, self.turn), place, book.as_deref_mut())?
        };
        let Some(frame) = made else {
            return Ok(());
        };
        let events = Bulk::frame_events();
        self.yard.sent.fetch_add(events, Ordering::Relaxed);
        let number = lane.terminal.send_frame(frame).await?;
        if let Some(due) = self.clocks.due.get(&lane.terminal.id().to_u64()) {
            locked(due).push_back((number, now, events));
        }
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

    async fn hand_over(&mut self, now: Instant, is_last: bool) -> Result<()> {
        for lane in &mut self.lanes {
            if lane.offline_until.is_some_and(|until| until > now) && !is_last {
                continue;
            }
            lane.offline_until = None;
            if lane.events.is_empty() {
                continue;
            }
            let events = std::mem::take(&mut lane.events);
            let id = lane.terminal.id().to_u64();
            for (frame, count) in wire::frames(&events, lane.terminal.next_seq())? {
                let number = lane.terminal.send_frame(frame).await?;
                if let Some(due) = self.clocks.due.get(&id) {
                    locked(due).push_back((number, now, count));
                }
            }
        }
        Ok(())
    }
}
