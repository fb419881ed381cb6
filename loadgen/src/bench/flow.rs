//! The sending itself: terminals on connections, each with a window of frames.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use quinn::{Connection, Endpoint, SendStream};
use till_protocol::family::{Family, stock};
use till_protocol::id::{Seq, StoreId, TerminalId, TillId};
use till_protocol::reply::Message;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::template::{Template, naming};
use super::{BenchConfig, bar, due};
use crate::engine::{Ready, usage};
use crate::wire::{self, Replies};
use crate::workload::{Catalogue, Dice, Event, push_move};

/// Bytes in flight over all terminals, where nobody says otherwise.
const IN_FLIGHT_BYTES: usize = 12 << 20;
/// Templates take at most so many bytes.
const TEMPLATE_BYTES_MAX: usize = 32 << 20;
/// Of five frames two hold sales and three movements: 40 % and 60 %.
const SALE_TURNS: [bool; 5] = [true, false, true, false, false];
const NAMES_PER_FRAME: usize = 256;
/// Frames that a terminal hands to QUIC at a time.
const BURST_FRAMES: usize = 16;
const NO_ACK_MAX: Duration = Duration::from_secs(60);

/// Who sends what.
#[derive(Debug)]
pub struct Plan {
    /// Frames that are sent over and over: sales at even, movements at odd places.
    pub(super) templates: Vec<Arc<Template>>,
    terminals: Vec<TerminalId>,
    connections: usize,
    frames: u64,
    frame_events: u32,
    rate: Option<u64>,
    /// Frames in flight per terminal.
    pub(super) in_flight: u32,
    progress: bool,
}

impl Plan {
    /// The plan of a configuration.
    ///
    /// # Errors
    /// Fails when numbers are out of range or frames too large.
    pub fn new(config: &BenchConfig, catalogue: &Catalogue) -> Result<Self> {
        let mut dice = Dice::new(config.seed);
        let mut templates = Vec::new();
        let mut bytes = 0;
        // Enough draws that a run meets most of the catalogue.
        let wanted = u64::from(config.skus) * 4 / u64::from(config.frame_events) + 16;
        for _ in 0..wanted {
            let sales = Template::sales(&mut dice, catalogue, config.frame_events)?;
            let moves = Template::moves(&mut dice, catalogue, config.frame_events)?;
            bytes += sales.bytes() + moves.bytes();
            templates.extend([Arc::new(sales), Arc::new(moves)]);
            if bytes > TEMPLATE_BYTES_MAX {
                break;
            }
        }
        let count = config.stores.max(config.connections).max(1);
        let terminals = (0..count)
            .map(|index| {
                let stores = config.stores.max(1);
                Ok(TerminalId::new(
                    StoreId::new(1 + index % stores)?,
                    TillId::new(1 + index / stores)?,
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let frame_bytes = bytes / templates.len().max(1);
        let fitting = (IN_FLIGHT_BYTES / terminals.len() / frame_bytes.max(1)).clamp(2, 256);
        Ok(Self {
            templates,
            terminals,
            connections: usize::try_from(config.connections)?,
            frames: config.events.div_ceil(u64::from(config.frame_events)),
            frame_events: config.frame_events,
            rate: config.rate,
            in_flight: config.in_flight.unwrap_or(u32::try_from(fitting)?).max(1),
            progress: config.progress,
        })
    }

    /// All stores.
    pub fn stores(&self) -> Vec<u32> {
        let mut stores: Vec<u32> = self.terminals.iter().map(|id| id.store().get()).collect();
        stores.sort_unstable();
        stores.dedup();
        stores
    }

    /// Number of terminals.
    pub const fn terminals(&self) -> usize {
        self.terminals.len()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "only asked with places of the plan's own terminals"
    )]
    pub(super) fn terminal(&self, index: usize) -> TerminalId {
        self.terminals[index]
    }
}

/// What one terminal sent; all of it was acknowledged.
#[derive(Debug, Default)]
pub(super) struct FlowSent {
    pub(super) epoch: u32,
    pub(super) events: u64,
    /// How often each template.
    pub(super) sent: Vec<u64>,
    /// Events before the measured part.
    pub(super) first_events: Vec<Event>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) terminals: Vec<FlowSent>,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: Histogram<u64>,
    pub(super) client_cpu_s: f64,
}

/// Shared by all terminals while they send.
struct Shared {
    templates: Vec<Arc<Template>>,
    next_frame: AtomicU64,
    frames: u64,
    frame_events: u32,
    rate: Option<u64>,
    /// In an open loop: one for each frame that is due and not taken.
    tickets: Semaphore,
    start: Instant,
    bar: ProgressBar,
}

struct Session {
    send: SendStream,
    replies: Replies,
    next_seq: u64,
    window: u32,
    sent: FlowSent,
}

pub(super) async fn run(
    plan: &Plan,
    ready: &Ready,
    catalogue: &Catalogue,
    about_to_start: impl FnOnce(),
) -> Result<Flow> {
    let (links, sessions) = open(plan, ready, catalogue).await?;
    about_to_start();
    let client = usage(std::process::id()).unwrap_or_default();
    let shared = Arc::new(Shared {
        templates: plan.templates.clone(),
        next_frame: AtomicU64::new(0),
        frames: plan.frames,
        frame_events: plan.frame_events,
        rate: plan.rate,
        tickets: Semaphore::new(0),
        start: Instant::now(),
        bar: bar(plan.progress, plan.frames * u64::from(plan.frame_events)),
    });
    let senders = sessions.len();
    let pacer = plan.rate.map(|rate| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || pace(&shared, rate, senders))
    });
    let mut tasks = JoinSet::new();
    for (index, session) in sessions.into_iter().enumerate() {
        let shared = Arc::clone(&shared);
        drop(tasks.spawn(async move { (index, terminal(&shared, session).await) }));
    }
    let mut flow = Flow {
        terminals: plan.terminals.iter().map(|_| FlowSent::default()).collect(),
        events: 0,
        bytes: 0,
        elapsed: Duration::ZERO,
        latency: histogram()?,
        client_cpu_s: 0.0,
    };
    while let Some(joined) = tasks.join_next().await {
        let (index, done) = joined?;
        let (sent, latency, bytes) = done?;
        flow.latency.add(&latency)?;
        flow.bytes += bytes;
        flow.events += sent.sent.iter().sum::<u64>() * u64::from(plan.frame_events);
        if let Some(place) = flow.terminals.get_mut(index) {
            *place = sent;
        }
    }
    flow.elapsed = shared.start.elapsed();
    if pacer.is_some_and(|pacer| pacer.join().is_err()) {
        bail!("the pacer broke");
    }
    flow.client_cpu_s = usage(std::process::id()).unwrap_or_default().cpu_s - client.cpu_s;
    shared.bar.finish_and_clear();
    part(links).await;
    Ok(flow)
}

/// Closes all connections at once: each waits a few probe timeouts until it may forget the other side.
async fn part(links: Vec<(Endpoint, Connection)>) {
    let mut parting = JoinSet::new();
    for (endpoint, connection) in links {
        connection.close(0_u32.into(), b"done");
        drop(parting.spawn(async move { endpoint.wait_idle().await }));
    }
    while parting.join_next().await.is_some() {}
}

/// All connections and streams, and the name of every SKU.
async fn open(
    plan: &Plan,
    ready: &Ready,
    catalogue: &Catalogue,
) -> Result<(Vec<(Endpoint, Connection)>, Vec<Session>)> {
    let mut links = Vec::new();
    for _ in 0..plan.connections {
        links.push(wire::connect(ready.quic, &ready.identity).await?);
    }
    let mut sessions = Vec::new();
    for (index, terminal) in plan.terminals.iter().enumerate() {
        let link = links
            .get(index % plan.connections)
            .context("no connection")?;
        sessions.push(handshake(&link.1, *terminal, plan).await?);
    }
    if let Some(first) = sessions.first_mut() {
        name_skus(first, catalogue).await?;
    }
    Ok((links, sessions))
}

async fn handshake(connection: &Connection, terminal: TerminalId, plan: &Plan) -> Result<Session> {
    let (send, replies, welcome) = wire::handshake(connection, terminal, None, now_us()).await?;
    Ok(Session {
        send,
        replies,
        next_seq: welcome.next_seq.get(),
        window: plan.in_flight.min(welcome.credit_frames.max(1)),
        sent: FlowSent {
            epoch: welcome.epoch.get(),
            sent: vec![0; plan.templates.len()],
            ..FlowSent::default()
        },
    })
}

/// Gives every SKU its name before the clock runs.
async fn name_skus(session: &mut Session, catalogue: &Catalogue) -> Result<()> {
    let events = naming(catalogue, now_us());
    for chunk in events.chunks(NAMES_PER_FRAME) {
        let mut batch = stock::v1::Batch::default();
        for event in chunk {
            if let Event::Move(movement, code) = event {
                push_move(movement, code.as_deref(), &mut batch);
            }
        }
        session
            .send
            .write_chunk(wire::frame(
                Family::Stock,
                chunk.len(),
                session.next_seq,
                &wire::stock_payload(&batch)?,
            )?)
            .await?;
        session.next_seq += u64::try_from(chunk.len())?;
    }
    let last = session.next_seq - 1;
    while acked(&mut session.replies).await? < last {}
    session.sent.events = last;
    session.sent.first_events = events;
    Ok(())
}

/// Sends until the shared work is done and everything of its own is acknowledged.
async fn terminal(
    shared: &Arc<Shared>,
    session: Session,
) -> Result<(FlowSent, Histogram<u64>, u64)> {
    let Session {
        send,
        mut replies,
        next_seq,
        window,
        sent,
    } = session;
    let window = Arc::new(Semaphore::new(usize::try_from(window)?));
    // Last event of each frame in flight, and when the frame was due.
    let in_flight: Arc<Mutex<VecDeque<(u64, Instant)>>> = Arc::default();
    let sender = {
        let (shared, window, in_flight) = (
            Arc::clone(shared),
            Arc::clone(&window),
            Arc::clone(&in_flight),
        );
        tokio::spawn(
            async move { sending(&shared, &window, &in_flight, (send, next_seq, sent)).await },
        )
    };
    let mut latency = histogram()?;
    let mut finished = false;
    let mut sender = sender;
    let mut result = None;
    // Looks now and then whether anything came since the last look: a timer for each ack would cost more than the ack.
    let mut look = tokio::time::interval(NO_ACK_MAX);
    look.reset();
    let mut is_silent = false;
    loop {
        tokio::select! {
            done = &mut sender, if !finished => {
                finished = true;
                result = Some(done??);
            }
            _ = look.tick() => {
                let is_waiting = !in_flight.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
                if is_silent && is_waiting {
                    bail!("no ack for {} s", NO_ACK_MAX.as_secs());
                }
                is_silent = is_waiting;
            }
            upto = acked(&mut replies) => {
                let upto = upto?;
                is_silent = false;
                let now = Instant::now();
                let mut done = 0;
                let mut queue = in_flight.lock().unwrap_or_else(PoisonError::into_inner);
                while let Some((_, due)) = queue.front().copied().filter(|(last, _)| *last <= upto) {
                    queue.pop_front();
                    let waited = u64::try_from(now.saturating_duration_since(due).as_micros())?;
                    latency.saturating_record_n(waited, u64::from(shared.frame_events));
                    done += 1;
                }
                window.add_permits(done);
            }
        }
        let is_empty = in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        if let Some((mut send, sent, bytes)) = result.take_if(|_| is_empty) {
            // The engine may have closed the stream already; nothing more is to be said.
            send.finish().ok();
            return Ok((sent, latency, bytes));
        }
    }
}

type Window = Mutex<VecDeque<(u64, Instant)>>;

async fn sending(
    shared: &Shared,
    window: &Semaphore,
    in_flight: &Window,
    (mut send, mut next_seq, mut sent): (SendStream, u64, FlowSent),
) -> Result<(SendStream, FlowSent, u64)> {
    let (mut bytes, mut at_us) = (0, now_us());
    let mut burst = Vec::with_capacity(BURST_FRAMES);
    loop {
        if shared.rate.is_some() {
            shared.tickets.acquire().await?.forget();
        }
        let mut frame = shared.next_frame.fetch_add(1, Ordering::Relaxed);
        if frame >= shared.frames {
            return Ok((send, sent, bytes));
        }
        window.acquire().await?.forget();
        // In a closed loop all that the window has room for goes out together, as in a device that has a backlog.
        loop {
            let made = made(shared, frame, (&mut next_seq, &mut at_us), &mut sent)?;
            bytes += u64::try_from(made.len())?;
            let due_at = shared
                .rate
                .map(|rate| shared.start + due(frame, shared.frame_events, rate));
            in_flight
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back((next_seq - 1, due_at.unwrap_or_else(Instant::now)));
            burst.push(made);
            if shared.rate.is_some() || burst.len() == BURST_FRAMES {
                break;
            }
            let Ok(room) = window.try_acquire() else {
                break;
            };
            frame = shared.next_frame.fetch_add(1, Ordering::Relaxed);
            if frame >= shared.frames {
                break;
            }
            room.forget();
        }
        let count = u64::try_from(burst.len())?;
        send.write_all_chunks(&mut burst)
            .await
            .context("the engine closed a stream")?;
        burst.clear();
        shared.bar.inc(count * u64::from(shared.frame_events));
    }
}

/// The next frame of a terminal.
fn made(
    shared: &Shared,
    frame: u64,
    (next_seq, at_us): (&mut u64, &mut i64),
    sent: &mut FlowSent,
) -> Result<Bytes> {
    let events = u64::from(shared.frame_events);
    let pairs = shared.templates.len() / 2;
    let turn = usize::try_from(frame)?;
    let is_sale = SALE_TURNS
        .get(turn % SALE_TURNS.len())
        .copied()
        .unwrap_or(true);
    let place = turn / 2 % pairs * 2 + usize::from(!is_sale);
    let Some(template) = shared.templates.get(place) else {
        bail!("no template {place}");
    };
    *at_us = now_us().max(*at_us + i64::from(shared.frame_events));
    let made = template.frame(*next_seq, *at_us, *next_seq)?;
    *next_seq += events;
    sent.events += events;
    if let Some(times) = sent.sent.get_mut(place) {
        *times += 1;
    }
    Ok(made)
}

/// Hands out a ticket whenever a frame is due. A thread of its own: the runtime's timer counts whole milliseconds.
fn pace(shared: &Shared, rate: u64, senders: usize) {
    for frame in 0..shared.frames {
        let at = shared.start + due(frame, shared.frame_events, rate);
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        shared.tickets.add_permits(1);
    }
    // One more for each sender, so that all of them see that nothing is left.
    shared.tickets.add_permits(senders);
}

/// Waits for the next ack; refusals are an error, as nothing here is refusable.
async fn acked(replies: &mut Replies) -> Result<u64> {
    loop {
        match replies.next().await? {
            Some(Message::Ack(ack)) if ack.refusals.is_empty() => {
                return Ok(ack.committed.map_or(0, Seq::get));
            }
            Some(Message::Ack(ack)) => bail!(
                "{} events were refused: {:?}",
                ack.refusals.len(),
                ack.refusals.first()
            ),
            Some(Message::Slow(slow)) => {
                tracing::debug!(slow.wait_ms, "the engine asks for a pause")
            }
            Some(other) => bail!("the engine said {other:?}"),
            None => bail!("the engine ended the stream"),
        }
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// The device's clock.
pub(crate) fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
