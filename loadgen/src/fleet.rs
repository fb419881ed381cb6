//! A simulated chain against a running engine: honest devices that keep what they say, and rude ones that do not behave.
//!
//! Events are due by a schedule, whatever the engine does (open loop). An honest device's event counts from the moment
//! that it is in the device's outbox: at the end every one of them must be acknowledged and be in the engine's sums.

mod bulk;
mod counter;
mod honest;
mod report;
mod rude;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

pub use self::report::{FleetReport, Live};
use self::watch::Watch;
use crate::admin::Admin;
use crate::bench::running;
use crate::oracle::{self, Baseline, Expected, StoreBook};
use crate::wire;
use crate::workload::Catalogue;

/// Tills of rude devices begin behind this number, so that no honest one is disturbed.
pub const RUDE_TILL: u32 = 1_000_000;
/// Longest time without an ack at the end, until everything is acknowledged.
const QUIESCE_MAX: Duration = Duration::from_secs(180);
const LIVE_EVERY: Duration = Duration::from_secs(1);

/// A chain and what it does.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// QUIC address of the engine.
    pub addr: SocketAddr,
    /// QUIC addresses of further engines that share its stores.
    pub others: Vec<SocketAddr>,
    /// Identity file that is authorised for every terminal.
    pub identity: PathBuf,
    /// Admin URL of the engine, or several with commas between; found beside the identity when `None`.
    pub admin: Option<String>,
    /// Number of stores, from store 1.
    pub stores: u32,
    /// Honest tills of each store, from till 1.
    pub terminals: u32,
    /// SKUs of the chain.
    pub skus: u32,
    /// Events per second that are due, all devices together.
    pub rate: u64,
    /// How long; until `stop` when `None`.
    pub duration: Option<Duration>,
    /// Share of rude devices among all, from 0 to 1.
    pub rude: f64,
    /// Folder of durable outboxes; they are in memory when `None`.
    pub outbox: Option<PathBuf>,
    /// Time after which honest devices give up an engine that is silent, and at most between their attempts to come back;
    /// as devices usually do when `None`.
    pub returns_within: Option<Duration>,
    /// Seed of the trade.
    pub seed: u64,
    /// Set to end the run early, in good order.
    pub stop: Arc<AtomicBool>,
}

impl FleetConfig {
    /// A chain of 50 stores with 6 tills each.
    pub fn new(addr: SocketAddr, identity: PathBuf) -> Self {
        Self {
            addr,
            others: Vec::new(),
            identity,
            admin: None,
            stores: 50,
            terminals: 6,
            skus: 2_000,
            rate: 5_000,
            duration: None,
            rude: 0.0,
            outbox: None,
            returns_within: None,
            seed: 1,
            stop: Arc::default(),
        }
    }

    /// All addresses, the `first` one of them in front.
    pub(crate) fn addrs(&self, first: usize) -> Vec<SocketAddr> {
        let mut addrs = [&[self.addr][..], &self.others].concat();
        let turn = first % addrs.len();
        addrs.rotate_left(turn);
        addrs
    }

    fn check(&self) -> Result<()> {
        if self.stores == 0 || self.terminals == 0 || self.rate == 0 {
            bail!("stores, terminals and rate must be at least 1");
        }
        if self.terminals >= RUDE_TILL {
            bail!("at most {} terminals a store", RUDE_TILL - 1);
        }
        if !(0.0..=1.0).contains(&self.rude) {
            bail!("rude {} is not a share from 0 to 1", self.rude);
        }
        Ok(())
    }

    /// Number of rude devices.
    fn rude_devices(&self) -> u32 {
        let all = f64::from(self.stores) * f64::from(self.terminals);
        let wanted = (all * self.rude).round();
        (0..=self.stores.saturating_mul(self.terminals))
            .rev()
            .find(|count| f64::from(*count) <= wanted)
            .unwrap_or(0)
    }
}

/// What all devices share.
#[derive(Debug)]
pub(crate) struct Yard {
    config: FleetConfig,
    catalogue: Arc<Catalogue>,
    books: Vec<Mutex<StoreBook>>,
    bulk: Option<bulk::Bulk>,
    latency: Mutex<Histogram<u64>>,
    sent: AtomicU64,
    /// Of those, by honest devices in the course of the trade.
    made: AtomicU64,
    acked: AtomicU64,
    /// Events of rude devices that were answered and did not become durable: refused, or known.
    declined: AtomicU64,
    repeats: AtomicU64,
    /// Rude devices that have not met the fate of all that they said.
    unfinished: AtomicU64,
    /// When the trade began.
    begun: OnceLock<Instant>,
    over: AtomicBool,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Yard {
    fn new(config: &FleetConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            catalogue: Arc::new(Catalogue::new(config.seed, config.skus)),
            books: (0..config.stores).map(|_| Mutex::default()).collect(),
            bulk: (config.rate > bulk::BY_HAND_MAX)
                .then(|| bulk::Bulk::new(config.seed, config.stores, config.skus))
                .transpose()?,
            latency: Mutex::new(Histogram::new_with_bounds(1, 3_600_000_000, 3)?),
            sent: AtomicU64::new(0),
            made: AtomicU64::new(0),
            begun: OnceLock::new(),
            acked: AtomicU64::new(0),
            declined: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// The book of a store, which is numbered from 1.
    fn book(&self, store: u32) -> Option<MutexGuard<'_, StoreBook>> {
        let place = usize::try_from(store.checked_sub(1)?).ok()?;
        self.books.get(place).map(locked)
    }

    /// Whether devices should make no new events.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// When the trade began: from then on events are due.
    fn begun(&self) -> Instant {
        *self.begun.get_or_init(Instant::now)
    }

    /// Honest devices made so many events.
    fn made(&self, events: u64) {
        self.sent.fetch_add(events, Ordering::Relaxed);
        self.made.fetch_add(events, Ordering::Relaxed);
    }

    /// Events that have met their fate.
    fn answered(&self) -> u64 {
        self.acked.load(Ordering::Relaxed) + self.declined.load(Ordering::Relaxed)
    }

    /// Events that the schedule asks for by now and that no device has had room to make.
    fn overdue(&self) -> u64 {
        if self.is_over() {
            return 0;
        }
        let due = u128::from(self.config.rate) * self.begun().elapsed().as_micros() / 1_000_000;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        due.saturating_sub(self.made.load(Ordering::Relaxed))
    }

    fn live(&self, watch: &mut Watch) -> Live {
        // Read first: an event that is made meanwhile must not look as if it were acknowledged before it was sent.
        let acked = self.acked.load(Ordering::Relaxed);
        let answered = self.answered();
        let sent = self.sent.load(Ordering::Relaxed);
        let p99_us = {
            let mut latency = locked(&self.latency);
            let p99 = latency.value_at_quantile(0.99);
            latency.reset();
            p99
        };
        let live = Live {
            elapsed: self.begun().elapsed(),
            acked_per_s: watch.rate(acked),
            acked,
            p99_us,
            sales_minor: self.books.iter().map(|book| locked(book).sums.net).sum(),
            backlog: sent.saturating_sub(answered) + self.overdue(),
            engine_mb: watch.engine_mb(),
            unfinished: self
                .is_over()
                .then(|| self.unfinished.load(Ordering::Relaxed)),
        };
        watch.saw(&live, self.is_over());
        live
    }
}

/// Runs the chain, then compares the engine with it. `on_live` is called once a second.
///
/// Must not be called from within an async runtime: it has one of its own.
///
/// # Errors
/// Fails when the configuration is wrong or the engine cannot be asked before or after the run.
pub fn run(config: &FleetConfig, on_live: &mut dyn FnMut(&Live)) -> Result<FleetReport> {
    config.check()?;
    let ready = running(config.addr, &config.identity, config.admin.as_deref())?;
    let admin = Admin::new(&ready.admin);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let identity = wire::read_identity(&config.identity)?;
    runtime.block_on(wire::reach_any(&config.addrs(0), &config.identity))?;
    let mut chain = runtime.block_on(honest::Chain::open(config, &identity))?;
    let stores: Vec<u32> = (1..=config.stores).collect();
    let baseline = Baseline::read(&admin, &stores, true)?;
    let yard = Arc::new(Yard::new(config)?);
    let mut watch = Watch::new(&config.identity, ready.pid);
    let started = Instant::now();
    let outcome = runtime.block_on(workload(&yard, &mut chain, &mut |yard| {
        on_live(&yard.live(&mut watch));
    }))?;
    let elapsed_s = started.elapsed().as_secs_f64();
    drop(chain);
    drop(runtime);
    let answers = running(config.addr, &config.identity, config.admin.as_deref())?;
    quiesce(
        &yard,
        &Admin::new(&answers.admin),
        &baseline,
        (outcome, elapsed_s),
    )
    .map(|report| watch.add_to(report))
}

/// What devices report at the end, by (store, till).
#[derive(Debug, Default)]
struct FleetOutcome {
    expected: BTreeMap<(u32, u32), Expected>,
    complaints: Vec<String>,
}

async fn workload(
    yard: &Arc<Yard>,
    chain: &mut honest::Chain,
    on_second: &mut dyn FnMut(&Yard),
) -> Result<FleetOutcome> {
    let stores = chain.start(yard).await?;
    let mut rude = JoinSet::new();
    let devices = yard.config.rude_devices();
    for number in 0..devices {
        let device = rude::Device::new(number, yard)?;
        yard.unfinished.fetch_add(1, Ordering::Relaxed);
        drop(rude.spawn(device.run(Arc::clone(yard))));
    }
    let deadline = yard.config.duration;
    while !yard.config.stop.load(Ordering::Relaxed) {
        let left = deadline.map_or(LIVE_EVERY, |all| all.saturating_sub(yard.begun().elapsed()));
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(LIVE_EVERY)).await;
        on_second(yard);
    }
    yard.over.store(true, Ordering::Relaxed);
    let mut outcome = FleetOutcome::default();
    let is_quiet = {
        let mut end = pin!(ending(chain, (stores, rude), &mut outcome));
        let mut last = (Instant::now(), yard.answered());
        loop {
            tokio::select! {
                () = &mut end => break true,
                () = tokio::time::sleep(LIVE_EVERY) => on_second(yard),
            }
            if yard.answered() != last.1 {
                last = (Instant::now(), yard.answered());
            } else if last.0.elapsed() > QUIESCE_MAX {
                break false;
            }
        }
    };
    if !is_quiet {
        let seconds = QUIESCE_MAX.as_secs();
        outcome.complaints.push(format!(
            "not everything was acknowledged, and for {seconds} s no ack came"
        ));
    }
    on_second(yard);
    Ok(outcome)
}

/// Waits until all devices have said their last and it is acknowledged.
async fn ending(
    chain: &mut honest::Chain,
    (mut stores, mut rude): (JoinSet<Result<()>>, JoinSet<rude::End>),
    outcome: &mut FleetOutcome,
) {
    while let Some(done) = stores.join_next().await {
        if let Err(error) = done.map_err(anyhow::Error::from).flatten() {
            outcome.complaints.push(format!("{error:#}"));
        }
    }
    chain.quiesce(outcome).await;
    while let Some(done) = rude.join_next().await {
        match done {
            Ok((till, expected, complaints)) => {
                outcome.expected.insert(till, expected);
                outcome.complaints.extend(complaints);
            }
            Err(error) => outcome
                .complaints
                .push(format!("a rude device broke: {error}")),
        }
    }
}

fn quiesce(
    yard: &Yard,
    admin: &Admin,
    baseline: &Baseline,
    (outcome, elapsed_s): (FleetOutcome, f64),
) -> Result<FleetReport> {
    let mut books = BTreeMap::new();
    for (store, book) in (1..).zip(&yard.books) {
        let mut book = locked(book).clone();
        if let Some(bulk) = &yard.bulk {
            bulk.quiesce(store, &mut book);
        }
        books.insert(store, book);
    }
    let mut found = Expected::default();
    let (mut lost, mut doubled) = (0, 0);
    let differences = oracle::compare(admin, baseline, &books, &outcome.expected)?;
    let mut missing = outcome.expected.clone();
    for row in admin.terminals(None)? {
        if let Some(expected) = missing.remove(&(row.store, row.terminal)) {
            let before = baseline.terminal(row.store, row.terminal);
            let applied = row.applied.saturating_sub(before.applied);
            let quarantined = row.quarantined.saturating_sub(before.quarantined);
            let (held, told) = (
                applied + quarantined,
                expected.applied + expected.quarantined,
            );
            lost += told.saturating_sub(held);
            doubled += held.saturating_sub(told);
            found.applied += applied;
            found.quarantined += quarantined;
            found.refused += row.refused.saturating_sub(before.refused);
            found.duplicates += row.duplicates.saturating_sub(before.duplicates);
        }
    }
    // Terminals that the engine does not know.
    lost += missing
        .values()
        .map(|one| one.applied + one.quarantined)
        .sum::<u64>();
    let acked: u64 = outcome
        .expected
        .values()
        .map(|one| one.applied + one.quarantined)
        .sum();
    let mut complaints = outcome.complaints;
    complaints.extend(differences.iter().map(ToString::to_string));
    if acked != found.applied + found.quarantined {
        complaints.push(format!(
            "{acked} events were acknowledged, the engine holds {} applied and {} quarantined",
            found.applied, found.quarantined
        ));
    }
    Ok(FleetReport {
        events_sent: yard.sent.load(Ordering::Relaxed),
        events_acked: acked,
        events_applied: found.applied,
        duplicates: found.duplicates + yard.repeats.load(Ordering::Relaxed),
        known: outcome.expected.values().map(|one| one.duplicates).sum(),
        refused: found.refused,
        quarantined: found.quarantined,
        lost,
        doubled,
        sales_total_minor: books.values().map(|book| book.sums.net).sum(),
        elapsed_s,
        events_per_s: crate::engine::to_f64(acked) / elapsed_s.max(1e-9),
        reconciled: complaints.is_empty(),
        differences: complaints,
        ..FleetReport::default()
    })
}
