//! Honest devices: what they say is in their outbox first, and stays there until it is committed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hashbrown::HashMap;
use till_client::{
    Backoff, DeadLetterFile, DiskConfig, DiskOutbox, Happening, Identity, Link, LinkConfig,
    MemoryConfig, MemoryOutbox, NoDeadLetters, Notice, Observer, Outbox, Terminal, TerminalConfig,
};
use till_protocol::id::{StoreId, TerminalId, TillId};
use tokio::task::JoinSet;

use super::bulk::Bulk;
use super::counter::{Counter, Lane};
use super::{FleetConfig, FleetOutcome, Yard, locked};
use crate::bench::now_us;
use crate::oracle::Expected;
use crate::wire;
use crate::workload::{Dice, StoreWorkload};

/// Terminals that share a connection, as behind one store's agent.
const TERMINALS_PER_LINK: u32 = 48;
/// Bytes that wait in the memory of all devices together while the engine does not keep up; then the trade waits.
const OUTBOXES_BYTES: u64 = 512 << 20;
const OUTBOX_BYTES_MIN: u64 = 128 << 10;
/// Bound of the first wait of devices that come back soon.
const FIRST_RETURN: Duration = Duration::from_millis(30);
const LEFTOVERS_MAX: Duration = Duration::from_secs(120);

/// All honest terminals.
#[derive(Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    tills: Vec<HonestTill>,
    clocks: Arc<Clocks>,
}

#[derive(Debug)]
struct HonestTill {
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
pub(super) struct Clocks {
    yard: OnceLock<Arc<Yard>>,
    due: HashMap<u64, Mutex<Due>>,
}

impl Clocks {
    /// A terminal has sent a frame: number of its last event, when it was due, how many events.
    pub(super) fn sent(&self, terminal: TerminalId, frame: (u64, Instant, u64)) {
        if let Some(due) = self.due.get(&terminal.to_u64()) {
            locked(due).push_back(frame);
        }
    }
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
        // At least one for each engine, and each begins with another.
        let engines = 1 + config.others.len();
        let count = usize::try_from(all.div_ceil(TERMINALS_PER_LINK))?.max(engines);
        let links = (0..count)
            .map(|first| Link::open(link_of(config, first, identity)))
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

    /// Starts the workload of all stores.
    ///
    /// # Errors
    /// Fails when the SKUs of the bulk transactions cannot be named.
    pub(super) async fn start(&self, yard: &Arc<Yard>) -> Result<JoinSet<Result<()>>> {
        self.clocks.yard.set(Arc::clone(yard)).ok();
        if let (Some(bulk), Some(first)) = (&yard.bulk, self.tills.first()) {
            name_bulk(yard, bulk, first).await?;
        }
        let mut stores = JoinSet::new();
        for store in 1..=yard.config.stores {
            let tills = self.tills.iter().filter(|till| till.store == store);
            let lanes = tills.map(|till| Lane::new(&till.terminal)).collect();
            let counter = Counter::new(
                (Arc::clone(yard), Arc::clone(&self.clocks)),
                workload_of(store, yard),
                Dice::new(yard.config.seed ^ u64::from(store) << 20),
                lanes,
            );
            drop(stores.spawn(counter.run()));
        }
        Ok(stores)
    }

    /// Waits until everything is committed, and says how far each terminal came.
    pub(super) async fn quiesce(&mut self, outcome: &mut FleetOutcome) {
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

/// How a link reaches the engines.
fn link_of(config: &FleetConfig, first: usize, identity: &Identity) -> LinkConfig {
    let mut link = wire::link(&config.addrs(first), identity);
    if let Some(within) = config.returns_within {
        link.tuning.silence = within;
        link.connect_timeout = within.saturating_mul(2);
        link.backoff = Backoff::new(FIRST_RETURN.min(within), within);
    }
    link
}

fn workload_of(store: u32, yard: &Yard) -> StoreWorkload {
    // Receipt numbers go on where an earlier run on the same day stopped, as they would at a till.
    let first = u64::try_from(now_us() / 1_000_000).unwrap_or(0) % 100_000_000 * 1_000;
    StoreWorkload::new(
        yard.config.seed,
        (store, yard.config.terminals),
        &yard.catalogue,
        first,
    )
}

fn join(
    config: &FleetConfig,
    link: &Link,
    id: TerminalId,
    clocks: &Arc<Clocks>,
) -> Result<HonestTill> {
    let mut settings = TerminalConfig::new(id);
    let observer: Arc<dyn Observer> = Arc::<Clocks>::clone(clocks);
    settings.observer = Some(observer);
    let (outbox, before): (Box<dyn Outbox>, u64);
    let terminal = match &config.outbox {
        None => {
            let bounds = MemoryConfig {
                bytes_max: outbox_bytes(config),
                ..MemoryConfig::default()
            };
            (outbox, before) = (Box::new(MemoryOutbox::new(bounds)), 0);
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
    Ok(HonestTill {
        store: id.store().get(),
        till: id.till().get(),
        terminal,
        before,
    })
}

/// What each outbox in memory may hold, so that all of them together stay within [`OUTBOXES_BYTES`].
fn outbox_bytes(config: &FleetConfig) -> u64 {
    let terminals = u64::from(config.stores) * u64::from(config.terminals);
    let most = MemoryConfig::default().bytes_max;
    (OUTBOXES_BYTES / terminals.max(1)).clamp(OUTBOX_BYTES_MIN, most)
}

/// One terminal names the SKUs of the bulk transactions for all.
async fn name_bulk(yard: &Yard, bulk: &Bulk, first: &HonestTill) -> Result<()> {
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
