//! Devices that do not behave: they repeat, reorder, skip, cut their streams, lie about the time and send broken bytes.
//!
//! A rude device still knows, event by event, what must become of what it said; that is compared like everything else.

mod acts;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use quinn::{Connection, Endpoint, SendStream};
use till_protocol::id::{Epoch, Seq, StoreId, TerminalId, TillId};
use till_protocol::reply::Message;
use tokio::time::{sleep, timeout};

use super::{RUDE_TILL, Yard};
use crate::bench::now_us;
use crate::oracle::Expected;
use crate::wire::{self, CrossEpoch, Replies};
use crate::workload::{Catalogue, Dice, Event, StoreWorkload};

/// Longest wait for an answer before a stream is given up and opened again.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longest wait for an engine to take a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Between two attempts to reach the engine.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a device tries to quiesce what it said after the end of the run.
const QUIESCE_MAX: Duration = Duration::from_secs(150);
const PAUSE_MS: (i64, i64) = (20, 120);

/// What must become of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Applied,
    Duplicate,
    Refused,
    Quarantined,
}

/// An event that was said and is not acknowledged yet.
#[derive(Clone, Debug)]
struct Said {
    event: Event,
    fate: Fate,
}

/// What a device came to: its name as (store, till), what the engine must hold of it, and complaints.
pub(super) type End = ((u32, u32), Expected, Vec<String>);

/// A rude device.
#[derive(Debug)]
pub(super) struct Device {
    terminal: TerminalId,
    /// The engine that is asked next.
    at: SocketAddr,
    /// Attempts to reach one.
    attempts: usize,
    dice: Dice,
    workload: StoreWorkload,
    epoch: u32,
    /// Sequence number of the first of `said`.
    first: u64,
    said: VecDeque<Said>,
    expected: Expected,
    complaints: Vec<String>,
}

/// A connection with one stream.
struct RudeLine {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    replies: Replies,
}

impl Device {
    pub(super) fn new(number: u32, yard: &Yard) -> Result<Self> {
        let store = 1 + number % yard.config.stores;
        let till = RUDE_TILL + number / yard.config.stores;
        let mut dice = Dice::new(yard.config.seed ^ 0x4d5e << 32 ^ u64::from(number));
        // SKUs of its own: honest counts of the chain's SKUs must not meet times that are lies.
        let catalogue = Arc::new(Catalogue::rude(dice.roll(), number));
        let seed = dice.roll();
        Ok(Self {
            terminal: TerminalId::new(StoreId::new(store)?, TillId::new(till)?),
            at: yard.config.addr,
            attempts: 0,
            dice,
            workload: StoreWorkload::new(seed, (store, 1), &catalogue, 0),
            epoch: 0,
            first: 1,
            said: VecDeque::new(),
            expected: Expected::default(),
            complaints: Vec::new(),
        })
    }

    /// Misbehaves until the run is over, then quiesces what is open.
    pub(super) async fn run(mut self, yard: Arc<Yard>) -> End {
        let mut line = None;
        let mut give_up = None;
        loop {
            if yard.is_over() {
                let deadline = *give_up.get_or_insert_with(|| Instant::now() + QUIESCE_MAX);
                if self.said.is_empty() && line.is_some() {
                    break;
                }
                if Instant::now() > deadline {
                    self.complaints.push(format!(
                        "rude terminal {}: {} events were never acknowledged",
                        self.terminal,
                        self.said.len()
                    ));
                    break;
                }
            }
            let result = match line.take() {
                None => self.reach(&yard).await.map(Some),
                Some(open) => self.act(open, &yard).await,
            };
            match result {
                Ok(next) => line = next,
                Err(error) => {
                    tracing::debug!(terminal = %self.terminal, "{error:#}");
                    sleep(AGAIN).await;
                }
            }
            let (low, high) = PAUSE_MS;
            sleep(Duration::from_millis(
                self.dice.between(low, high).unsigned_abs(),
            ))
            .await;
        }
        yard.unfinished.fetch_sub(1, Ordering::Relaxed);
        if let Some(open) = line {
            open.connection.close(0_u32.into(), b"done");
            open.endpoint.wait_idle().await;
        }
        self.expected.epoch = self.epoch;
        self.expected.next_seq = self.first;
        let name = (self.terminal.store().get(), self.terminal.till().get());
        (name, self.expected, self.complaints)
    }

    // Asks the engine that was named last; where it is gone or knows no better, another one the next time.
    async fn reach(&mut self, yard: &Yard) -> Result<RudeLine> {
        let error = match self.handshake(yard).await {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        self.attempts += 1;
        let named = error.downcast_ref::<CrossEpoch>();
        let named = named.and_then(|there| there.0.parse().ok());
        let next = yard.config.addrs(self.attempts).first().copied();
        self.at = named.or(next).unwrap_or(self.at);
        Err(error)
    }

    /// Opens a connection and a stream, and learns how far the engine has come.
    async fn handshake(&mut self, yard: &Yard) -> Result<RudeLine> {
        let config = &yard.config;
        let connecting = wire::connect(self.at, &config.identity);
        let (endpoint, connection) = timeout(CONNECT_MAX, connecting).await??;
        let lie = if self.dice.in_1000(200) {
            self.dice.between(-3, 3) * 86_400_000_000
        } else {
            0
        };
        let clock = now_us() + lie;
        let handshake = wire::handshake(
            &connection,
            self.terminal,
            Epoch::new(self.epoch).ok(),
            clock,
        );
        let (send, replies, welcome) = timeout(ANSWER_MAX, handshake).await??;
        let (epoch, next) = (welcome.epoch.get(), welcome.next_seq.get());
        if self.epoch != 0 && self.epoch != epoch {
            self.complaints.push(format!(
                "rude terminal {} asked for epoch {} and was given {}",
                self.terminal, self.epoch, epoch
            ));
        }
        self.epoch = epoch;
        // What is durable there and not committed comes again: it is known then, or what knew it is gone.
        if next < self.first {
            self.complaints.push(format!(
                "rude terminal {}: event {} was acknowledged and the engine asks for {}",
                self.terminal,
                self.first - 1,
                next
            ));
        }
        let said = self.first.saturating_add(u64::try_from(self.said.len())?);
        if next > said {
            self.complaints.push(format!(
                "rude terminal {}: the engine asks for {next}, only {} was ever said",
                self.terminal,
                said - 1
            ));
        }
        Ok(RudeLine {
            endpoint,
            connection,
            send,
            replies,
        })
    }

    /// Everything up to a sequence number is durable: it has met its fate.
    fn acknowledged(&mut self, upto: u64, yard: &Yard) {
        while self.first <= upto
            && let Some(said) = self.said.pop_front()
        {
            self.first += 1;
            match said.fate {
                Fate::Applied => {
                    self.expected.applied += 1;
                    if let Some(mut book) = yard.book(self.terminal.store().get()) {
                        book.take(&said.event);
                    }
                }
                Fate::Duplicate => self.expected.duplicates += 1,
                Fate::Refused => self.expected.refused += 1,
                Fate::Quarantined => self.expected.quarantined += 1,
            }
            let is_kept = matches!(said.fate, Fate::Applied | Fate::Quarantined);
            let count = if is_kept { &yard.acked } else { &yard.declined };
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.first <= upto {
            self.complaints.push(format!(
                "rude terminal {}: the engine acknowledged {upto}, only {} was ever said",
                self.terminal,
                self.first - 1
            ));
        }
    }

    /// Waits until everything that was said is acknowledged, and checks which events were refused.
    async fn quiesced(&mut self, line: &mut RudeLine, yard: &Yard) -> Result<()> {
        while !self.said.is_empty() {
            match timeout(ANSWER_MAX, line.replies.next()).await?? {
                Some(Message::Ack(ack)) => {
                    for (seq, reason) in &ack.refusals {
                        let seq = seq.get();
                        let place = seq
                            .checked_sub(self.first)
                            .and_then(|at| usize::try_from(at).ok());
                        let said = place.and_then(|at| self.said.get(at));
                        if reason.is_refusal()
                            && said.is_some_and(|said| said.fate != Fate::Refused)
                        {
                            self.complaints.push(format!(
                                "rude terminal {}: good event {seq} was refused: {reason}",
                                self.terminal
                            ));
                        }
                    }
                    self.acknowledged(ack.committed.map_or(0, Seq::get), yard);
                }
                Some(Message::Nack(nack)) => {
                    let frames = self.frames(nack.expected.get())?;
                    for frame in frames {
                        line.send.write_chunk(frame).await?;
                    }
                }
                Some(Message::Slow(slow)) => {
                    sleep(Duration::from_millis(slow.wait_ms.into())).await
                }
                Some(other) => bail!("{other:?}"),
                None => bail!("the stream ended"),
            }
        }
        Ok(())
    }

    /// Waits until the engine ends a stream that it cannot read.
    async fn turned_away(&mut self, mut line: RudeLine, what: &str) -> Result<Option<RudeLine>> {
        loop {
            match timeout(ANSWER_MAX, line.replies.next()).await {
                Err(_) => {
                    self.complaints.push(format!(
                        "rude terminal {}: {what} was not answered within {} s",
                        self.terminal,
                        ANSWER_MAX.as_secs()
                    ));
                    bail!("no answer to {what}");
                }
                Ok(Ok(Some(Message::Ack(_)))) => {}
                Ok(Ok(Some(_) | None) | Err(_)) => break,
            }
        }
        line.connection.close(0_u32.into(), b"rude");
        Ok(None)
    }

    /// Everything that is said and not acknowledged, from a sequence number on, as frames.
    fn frames(&self, from: u64) -> Result<Vec<bytes::Bytes>> {
        let skip = usize::try_from(from.saturating_sub(self.first)).context("too far ahead")?;
        let events: Vec<Event> = self
            .said
            .iter()
            .skip(skip)
            .map(|said| said.event.clone())
            .collect();
        let frames = wire::frames(&events, from.max(self.first))?;
        Ok(frames.into_iter().map(|(frame, _)| frame).collect())
    }
}
