//! The receipts' way to the engine: a virtual terminal for each till of the file, over few connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use indicatif::{ProgressBar, ProgressStyle};
use till_client::{
    End, Happening, Identity, Link, MemoryConfig, MemoryOutbox, NoDeadLetters, Notice, Observer,
    Progress, Terminal, TerminalConfig,
};
use till_protocol::code::Reason;
use till_protocol::currency::Currency;
use till_protocol::id::{StoreId, TerminalId, TillId};
use tokio::sync::{mpsc, watch};

use super::frame::Builder;
use super::{Counts, Reader, ReplayConfig};
use crate::engine::{AdminAt, Engine, EngineOptions, EngineStarter, Ready};
use crate::oracle::Sums;
use crate::wire;

/// Connections to the engine.
const LINKS: usize = 4;
/// Terminals of a connection that have a stream at the same time; more take turns. An engine gives a connection 512 by
/// default; a terminal beyond what it gives would wait for one of those before it to leave. Fewer would make a cluster idle:
/// there a terminal leaves when its last frame is committed, about a second after it was sent.
const OPEN_MAX: usize = 384;
/// Bytes of frames that may wait for their acknowledgement.
const FLIGHT_BYTES_MAX: usize = 48 << 20;
/// Bytes of receipts that may wait for their frame.
const WAITING_BYTES_MAX: usize = 48 << 20;
/// Frames between the reader and the sender.
const QUEUE_FRAMES: usize = 64;
const POLL: Duration = Duration::from_millis(2);
/// Between two lines that say that the run still waits for an engine.
const PATIENCE: Duration = Duration::from_secs(10);

type Till = (u32, u32);

/// What was sent; all of it is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) counts: Counts,
    pub(super) acked: u64,
    pub(super) refused: u64,
    pub(super) tills: BTreeMap<Till, Sums>,
    pub(super) currency: String,
    pub(super) decimals: u8,
}

/// Keeps an engine of our own up: one that dies is started again on the same port.
pub(super) struct Keeper<'a> {
    own: Option<(Engine, EngineOptions)>,
    starter: &'a dyn EngineStarter,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        own: Option<(Engine, EngineOptions)>,
        ready: &Ready,
        starter: &'a dyn EngineStarter,
    ) -> Self {
        let own = own.map(|(engine, mut options)| {
            options.listen = Some(ready.quic);
            options.admin = ready
                .admin
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .parse()
                .map_or(AdminAt::Free, AdminAt::Chosen);
            (engine, options)
        });
        Self { own, starter }
    }

    fn look_after(&mut self) -> Result<()> {
        let Some((engine, options)) = &mut self.own else {
            return Ok(());
        };
        if !engine.is_alive() {
            tracing::warn!("the engine died; it is started again and the run goes on");
            *engine = Engine::start(self.starter, options).context("could not start it again")?;
        }
        Ok(())
    }

    pub(super) fn stop(self) -> Result<()> {
        self.own.map_or(Ok(()), |(engine, _)| engine.drain())
    }
}

/// What the link says while it works on its own.
#[derive(Debug, Default)]
struct News {
    fatal: Mutex<Option<String>>,
    refused: Mutex<u64>,
    lost: Mutex<Option<Instant>>,
}

impl Observer for News {
    fn happened(&self, terminal: TerminalId, at: Instant, what: &Happening<'_>) {
        match what {
            Happening::Notice(Notice::Acked { refusals, .. }, _) => {
                let count = u64::try_from(refusals.len()).unwrap_or(u64::MAX);
                *locked(&self.refused) += count;
                if let Some((seq, reason)) = refusals.first() {
                    tracing::warn!(%terminal, seq, %reason, count, "refused");
                }
            }
            Happening::Ended(End::Bye { reason, text }) if is_final(*reason) => {
                let words = format!(
                    "terminal {terminal} is turned away: {reason}; {} {text}",
                    reason.sentence()
                );
                locked(&self.fatal).get_or_insert(words);
            }
            Happening::Lost(_) => {
                locked(&self.lost).get_or_insert(at);
            }
            Happening::Notice(Notice::Live { .. }, _) => *locked(&self.lost) = None,
            Happening::Ended(_) | Happening::Notice(..) => {}
            _ => {}
        }
    }
}

/// Whether a reason is about what this terminal is and says of itself: trying again changes nothing.
const fn is_final(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unsupported
            | Reason::BadHello
            | Reason::ForeignTerminal
            | Reason::UnknownTerminal
            | Reason::Revoked
            | Reason::CurrencyMismatch
            | Reason::ZoneMismatch
            | Reason::UnknownZone
            | Reason::UnknownCurrency
            | Reason::UnregisteredStore
    )
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Named = Arc<Mutex<HashSet<u64>>>;

struct Outgoing {
    till: Till,
    frame: Bytes,
    names: Vec<u64>,
}

/// Reads the file to its end and sends it.
pub(super) fn send(
    config: &ReplayConfig,
    mut reader: Reader,
    ready: &Ready,
    keeper: &mut Keeper<'_>,
    on_skip: &mut dyn FnMut(u64, &str),
) -> Result<Sent> {
    if !reader.ignored().is_empty() {
        tracing::warn!(
            columns = reader.ignored().join(","),
            "these columns are ignored"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let addrs = [&[ready.quic][..], config.target.others()].concat();
    runtime.block_on(wire::reach_any(&addrs, &ready.identity))?;
    let news = Arc::new(News::default());
    let named = Named::default();
    let (queue, frames) = mpsc::channel(QUEUE_FRAMES);
    let router = {
        let _inside = runtime.enter();
        Router::new(config, ready, &news, &named)?
    };
    let router = runtime.spawn(router.run(frames));
    let mut feed = Feed {
        queue,
        builders: HashMap::new(),
        waiting: 0,
        named,
        news,
        tills: BTreeMap::new(),
    };
    let bar = bar(config);
    while let Some(receipts) = reader.step(on_skip)? {
        for receipt in receipts {
            feed.take(&receipt, keeper)?;
        }
        bar.set_position(reader.counts.rows_read);
    }
    feed.seal_all(keeper)?;
    let Feed {
        queue, news, tills, ..
    } = feed;
    drop(queue);
    let acked = runtime.block_on(async {
        let mut router = router;
        loop {
            tokio::select! {
                done = &mut router => return done?,
                () = tokio::time::sleep(POLL * 50) => watch_over(keeper, &news)?,
            }
        }
    })?;
    bar.finish_and_clear();
    let refused = *locked(&news.refused);
    Ok(Sent {
        counts: reader.counts,
        acked: acked.saturating_sub(refused),
        refused,
        tills,
        currency: config.currency.code().to_owned(),
        decimals: config.currency.exponent(),
    })
}

fn watch_over(keeper: &mut Keeper<'_>, news: &News) -> Result<()> {
    keeper.look_after()?;
    if let Some(why) = locked(&news.fatal).take() {
        bail!("{why}");
    }
    let mut lost = locked(&news.lost);
    if lost.is_some_and(|since| since.elapsed() > PATIENCE) {
        tracing::warn!("the engine does not answer; the run goes on as soon as it does");
        *lost = Some(Instant::now());
    }
    Ok(())
}

/// From receipts to frames.
struct Feed {
    queue: mpsc::Sender<Outgoing>,
    builders: HashMap<Till, Builder>,
    waiting: usize,
    named: Named,
    news: Arc<News>,
    tills: BTreeMap<Till, Sums>,
}

impl Feed {
    fn take(&mut self, receipt: &super::Receipt, keeper: &mut Keeper<'_>) -> Result<()> {
        let till = (receipt.key.store, receipt.key.terminal);
        let builder = self.builders.entry(till).or_default();
        let before = builder.bytes();
        let sums = {
            let named = locked(&self.named);
            builder.push(receipt, |sku| named.contains(&sku))
        };
        self.tills.entry(till).or_default().add(&sums, 1);
        self.waiting += builder.bytes() - before;
        if builder.is_full() {
            self.seal(till, keeper)?;
        } else if self.waiting > WAITING_BYTES_MAX {
            self.seal_all(keeper)?;
        }
        Ok(())
    }

    fn seal_all(&mut self, keeper: &mut Keeper<'_>) -> Result<()> {
        let mut tills: Vec<Till> = self.builders.keys().copied().collect();
        tills.sort_unstable();
        tills
            .into_iter()
            .try_for_each(|till| self.seal(till, keeper))
    }

    fn seal(&mut self, till: Till, keeper: &mut Keeper<'_>) -> Result<()> {
        let Some(mut builder) = self.builders.remove(&till) else {
            return Ok(());
        };
        self.waiting -= builder.bytes();
        let (frame, names) = builder.seal(1)?;
        let mut outgoing = Outgoing { till, frame, names };
        loop {
            match self.queue.try_send(outgoing) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(back)) => outgoing = back,
                Err(mpsc::error::TrySendError::Closed(_)) => bail!("the sender has failed"),
            }
            watch_over(keeper, &self.news)?;
            thread::sleep(POLL);
        }
    }
}

struct Open {
    terminal: Terminal,
    progress: watch::Receiver<Progress>,
    used: u64,
}

/// A connection, and the terminals that use it.
struct SharedLink {
    link: Link,
    open: HashMap<Till, Open>,
}

struct Flight {
    progress: watch::Receiver<Progress>,
    number: u64,
    bytes: usize,
    names: Vec<u64>,
}

/// From frames to acknowledgements.
struct Router {
    links: Vec<SharedLink>,
    zone: String,
    currency: Currency,
    news: Arc<News>,
    named: Named,
    flights: VecDeque<Flight>,
    bytes: usize,
    turn: u64,
    acked: u64,
}

impl Router {
    fn new(config: &ReplayConfig, ready: &Ready, news: &Arc<News>, named: &Named) -> Result<Self> {
        let identity = Identity::read(&ready.identity)?;
        let mut addrs = [&[ready.quic][..], config.target.others()].concat();
        // At least one for each engine, and each begins with another.
        let links = (0..LINKS.max(addrs.len()))
            .map(|_| {
                addrs.rotate_left(1);
                let link = Link::open(wire::link(&addrs, &identity))?;
                let open = HashMap::new();
                Ok(SharedLink { link, open })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            links,
            zone: config.zone.clone(),
            currency: config.currency,
            news: Arc::clone(news),
            named: Arc::clone(named),
            flights: VecDeque::new(),
            bytes: 0,
            turn: 0,
            acked: 0,
        })
    }

    async fn run(mut self, mut frames: mpsc::Receiver<Outgoing>) -> Result<u64> {
        while let Some(outgoing) = frames.recv().await {
            self.send(outgoing).await?;
        }
        for link_at in 0..self.links.len() {
            let open: Vec<Till> = self.links[link_at].open.keys().copied().collect();
            for till in open {
                self.close(link_at, till).await?;
            }
            self.links[link_at].link.close().await;
        }
        Ok(self.acked)
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<()> {
        self.land(FLIGHT_BYTES_MAX).await?;
        let Outgoing { till, frame, names } = outgoing;
        let link_at = usize::try_from(till.0 ^ till.1.rotate_left(7))? % self.links.len();
        let open = &self.links[link_at].open;
        if !open.contains_key(&till) && open.len() >= OPEN_MAX {
            let idle = open.iter().min_by_key(|(_, open)| open.used);
            if let Some(idle) = idle.map(|(till, _)| *till) {
                self.close(link_at, idle).await?;
            }
        }
        self.turn += 1;
        let turn = self.turn;
        let open = self.terminal(link_at, till)?;
        open.used = turn;
        let (terminal, progress) = (open.terminal.clone(), open.progress.clone());
        let bytes = frame.len();
        let number = terminal.send_frame(frame).await?;
        self.bytes += bytes;
        self.flights.push_back(Flight {
            progress,
            number,
            bytes,
            names,
        });
        Ok(())
    }

    fn terminal(&mut self, link_at: usize, till: Till) -> Result<&mut Open> {
        let id = TerminalId::new(StoreId::new(till.0)?, TillId::new(till.1)?);
        let SharedLink { link, open } = &mut self.links[link_at];
        Ok(open.entry(till).or_insert_with(|| {
            let mut config = TerminalConfig::new(id);
            config.session.currency = Some(self.currency);
            config.session.zone.clone_from(&self.zone);
            config.session.has_event_ids = true;
            let observer: Arc<dyn Observer> = Arc::<News>::clone(&self.news);
            config.observer = Some(observer);
            let outbox = MemoryOutbox::new(MemoryConfig::default());
            let terminal = link.terminal(config, Box::new(outbox), Box::new(NoDeadLetters));
            let progress = terminal.committed();
            Open {
                terminal,
                progress,
                used: 0,
            }
        }))
    }

    /// Takes acknowledged frames off the list; waits until at most `bytes_max` are under way.
    async fn land(&mut self, bytes_max: usize) -> Result<()> {
        while let Some(mut first) = self.flights.pop_front() {
            let number = first.number;
            let landed = first.progress.borrow().totals.committed >= number;
            if !landed && self.bytes <= bytes_max {
                self.flights.push_front(first);
                return Ok(());
            }
            first
                .progress
                .wait_for(|progress| progress.totals.committed >= number)
                .await?;
            self.bytes -= first.bytes;
            locked(&self.named).extend(first.names);
        }
        Ok(())
    }

    /// A terminal leaves when everything of it is acknowledged.
    async fn close(&mut self, link_at: usize, till: Till) -> Result<()> {
        let Some(open) = self.links[link_at].open.remove(&till) else {
            return Ok(());
        };
        open.terminal.flush().await?;
        self.acked += open.progress.borrow().totals.committed;
        open.terminal.close().await;
        Ok(())
    }
}

fn bar(config: &ReplayConfig) -> ProgressBar {
    if !config.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec}, {elapsed}")
    {
        bar.set_style(style);
    }
    bar
}
