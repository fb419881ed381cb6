//! A shard as an actor: gives each message to the core, and what the core says to the journal. There are no rules here.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use till_core::event::{Event, for_each};
use till_core::{Handled, HelloError, QuarantineKey, Record, RetryError, SessionKey, Shard};
use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::reply::{Hello, Welcome, welcome_flag};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_storage::journal::Prepared;
use till_storage::rebuild::FactRows;
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::commit::{Companion, FrameDone};
use crate::engine::Engine;
use crate::gateway::session::{Greeted, Session};
use crate::registry::Listing;
use crate::route::Slot;
use crate::sketch::Sketch;

/// Frames that a device may have in flight.
const CREDIT_FRAMES: u32 = 128;
/// Of so many frames one is looked into for hot SKUs.
const SAMPLE_FRAMES: u64 = 64;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// A stream has said Hello, and its terminal may speak.
    Hello {
        session: Arc<Session>,
        hello: Box<Hello>,
        listing: Listing,
    },
    /// A frame that was understood.
    Batch {
        session: Arc<Session>,
        batch: Box<Verified>,
        permit: Permit,
        received: Instant,
    },
    /// A frame that was not.
    Unreadable {
        session: Arc<Session>,
        first_seq: Seq,
        count: u32,
        reason: Reason,
        permit: Permit,
        received: Instant,
    },
    /// Nothing more comes from a session. With a reason it is told goodbye once everything is acked.
    End {
        session: Arc<Session>,
        reason: Option<Reason>,
    },
    /// Rows are wanted, for a round of the flush.
    Flush { round: u64 },
    /// Rows of a take are written.
    Flushed { generation: u32 },
    /// A quarantined event is to be decided again.
    Retry {
        key: QuarantineKey,
        original: Box<Record>,
        reply: oneshot::Sender<Result<oneshot::Receiver<()>, RetryError>>,
    },
}

/// The actor; all state is in [`ShardState`].
#[derive(Debug)]
pub(crate) struct ShardActor;

/// A shard and the way out of it.
#[derive(Debug)]
pub(crate) struct ShardState {
    index: usize,
    shard: Shard,
    engine: Arc<Engine>,
    slot: Arc<Slot>,
    terminals: Sketch,
    skus: Sketch,
    frames: u64,
}

/// What a shard starts with.
#[derive(Debug)]
pub(crate) struct ShardArguments {
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    pub(crate) engine: Arc<Engine>,
    pub(crate) slot: Arc<Slot>,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> Result<ShardState, ActorProcessingErr> {
        Ok(ShardState {
            index: arguments.index,
            shard: arguments.shard,
            engine: arguments.engine,
            slot: arguments.slot,
            terminals: Sketch::default(),
            skus: Sketch::default(),
            frames: 0,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        state.handle(message)
    }
}

type Done = Result<(), ActorProcessingErr>;

impl ShardState {
    fn handle(&mut self, message: ShardMessage) -> Done {
        match message {
            ShardMessage::Hello {
                session,
                hello,
                listing,
            } => self.hello(&session, &hello, &listing),
            ShardMessage::Batch {
                session,
                batch,
                permit,
                received,
            } => self.batch(session, &batch, permit, received),
            ShardMessage::Unreadable {
                session,
                first_seq,
                count,
                reason,
                permit,
                received,
            } => {
                let Some(key) = live(&session) else {
                    return Ok(());
                };
                let handled = self.with_rows(|shard, rows| {
                    shard.handle_unreadable(now(), key, first_seq, count, reason, rows)
                });
                self.answer(session, handled, permit, received)
            }
            ShardMessage::End { session, reason } => {
                self.slot.leave(&session);
                self.marker(Companion::Bye(session, reason));
                Ok(())
            }
            ShardMessage::Flush { round } => self.flush(round),
            ShardMessage::Flushed { generation } => {
                self.shard.flushed(generation);
                self.shard.passivate();
                self.hold_back();
                Ok(())
            }
            ShardMessage::Retry {
                key,
                original,
                reply,
            } => self.retry(key, &original, reply),
        }
    }

    fn hello(&mut self, session: &Arc<Session>, hello: &Hello, listing: &Listing) -> Done {
        let said = till_core::Hello {
            terminal: hello.terminal,
            epoch: hello.epoch.map_or(0, till_protocol::id::Epoch::get),
            clock: hello.clock,
            currency: hello.currency.map_or(0, |currency| currency.numeric()),
            zone: &hello.zone,
        };
        let mut greeted = self.with_rows(|shard, rows| shard.hello(now(), &said, rows));
        if matches!(greeted, Err(HelloError::Refused(Reason::UnregisteredStore))) {
            let store = hello.terminal.store();
            let registered = self.with_rows(|shard, rows| {
                shard.register_store(now(), store, listing.currency, &listing.zone, rows)
            });
            match registered {
                Ok(Some(record)) => {
                    self.append(&record, |shard| Companion::Registered { shard })?
                }
                Ok(None) => {}
                Err(error) => {
                    let reason = refusal_of(&error);
                    self.refuse(session, reason, &error.to_string());
                    return Ok(());
                }
            }
            greeted = self.with_rows(|shard, rows| shard.hello(now(), &said, rows));
        }
        match greeted {
            Ok(greeting) => {
                let key = SessionKey {
                    terminal: hello.terminal,
                    epoch: greeting.epoch,
                    clock_suspect: greeting.clock_suspect,
                };
                session.greeted(Greeted {
                    key,
                    known: greeting.next_seq.saturating_sub(1),
                    has_refusals: greeting.has_refusals,
                });
                self.slot.enter(session);
                let welcome = self.welcome(&greeting, key);
                self.marker(Companion::Welcome(Arc::clone(session), welcome));
            }
            Err(HelloError::Refused(reason)) => {
                self.refuse(session, reason, reason.sentence());
            }
            Err(error) => {
                tracing::warn!(terminal = %hello.terminal, %error, "a terminal could not be greeted");
                self.refuse(session, Reason::Internal, Reason::Internal.sentence());
            }
        }
        Ok(())
    }

    fn welcome(&self, greeting: &till_core::Greeting, key: SessionKey) -> Welcome {
        let mut flags = 0;
        if greeting.is_closed {
            flags |= welcome_flag::CLOSED;
        }
        if greeting.clock_suspect {
            flags |= welcome_flag::CLOCK_SUSPECT;
        }
        let latest = till_protocol::id::Epoch::new(greeting.latest_epoch);
        Welcome {
            terminal: key.terminal,
            epoch: greeting.epoch,
            latest_epoch: latest.unwrap_or(greeting.epoch),
            next_seq: Seq::new(greeting.next_seq).unwrap_or(Seq::FIRST),
            mark: greeting.mark,
            credit_frames: CREDIT_FRAMES.min(self.engine.config.permits_frames),
            frame_bytes_max: till_protocol::limits::FRAME_BYTES_MAX,
            frame_events_max: till_protocol::limits::FRAME_EVENTS_MAX,
            time: now(),
            flags,
        }
    }

    fn batch(
        &mut self,
        session: Arc<Session>,
        batch: &Verified,
        permit: Permit,
        received: Instant,
    ) -> Done {
        let Some(key) = live(&session) else {
            return Ok(());
        };
        let names = Arc::clone(&self.engine);
        let handled =
            self.with_rows(|shard, rows| shard.handle_batch(now(), key, batch, rows, &names.names));
        self.look_into(batch, key);
        self.answer(session, handled, permit, received)
    }

    // What the core said about a frame goes its way.
    fn answer(
        &mut self,
        session: Arc<Session>,
        handled: Result<Handled, till_core::RowsError>,
        permit: Permit,
        received: Instant,
    ) -> Done {
        let shard = self.index;
        match handled {
            Ok(Handled::Journal {
                record,
                upto,
                refusals,
                duplicates,
            }) => {
                session.in_step();
                let refused = u32::try_from(refusals.len()).unwrap_or(u32::MAX);
                let kept = record.head.count.saturating_sub(duplicates);
                let done = FrameDone {
                    session,
                    shard,
                    upto,
                    refusals,
                    kept: kept.saturating_sub(refused),
                    received,
                    permit,
                };
                self.append(&record, |_| Companion::Frame(done))?;
                self.hold_back();
            }
            Ok(Handled::Known { upto }) => self.marker(Companion::Known(FrameDone {
                session,
                shard,
                upto,
                refusals: Vec::new(),
                kept: 0,
                received,
                permit,
            })),
            Ok(Handled::Gap { expected }) => session.gap(expected),
            Ok(Handled::Closed) => {
                self.refuse(&session, Reason::StaleEpoch, Reason::StaleEpoch.sentence())
            }
            Ok(Handled::Unregistered) => {
                self.refuse(
                    &session,
                    Reason::UnregisteredStore,
                    Reason::UnregisteredStore.sentence(),
                );
            }
            Err(error) => {
                // Nothing has changed; the device sends the frame again.
                tracing::warn!(terminal = %session.terminal(), %error, "a frame could not be decided");
                self.engine.figures.problem(
                    &error.to_string(),
                    "The device sends the frame again; if this stays, look at the disk.",
                );
                self.refuse(&session, Reason::Internal, Reason::Internal.sentence());
            }
        }
        Ok(())
    }

    fn flush(&mut self, round: u64) -> Done {
        self.publish();
        let dirty = Box::new(self.shard.take_dirty());
        self.slot.rows_in_flight(dirty.rows());
        let shard = self.index;
        self.marker(Companion::Rows {
            shard,
            round,
            dirty,
        });
        Ok(())
    }

    fn retry(
        &mut self,
        key: QuarantineKey,
        original: &Record,
        reply: oneshot::Sender<Result<oneshot::Receiver<()>, RetryError>>,
    ) -> Done {
        let names = Arc::clone(&self.engine);
        let retried =
            self.with_rows(|shard, rows| shard.retry(now(), key, original, rows, &names.names));
        let answer = match retried {
            Ok(record) => {
                let (done, durable) = oneshot::channel();
                self.append(&record, |shard| Companion::Retried { shard, reply: done })?;
                Ok(durable)
            }
            Err(error) => Err(error),
        };
        // Whoever asked may have gone.
        let _gone = reply.send(answer);
        Ok(())
    }

    fn with_rows<T>(&mut self, work: impl FnOnce(&mut Shard, &FactRows<'_>) -> T) -> T {
        let engine = &self.engine;
        let settle = || engine.settle();
        let rows = FactRows::new(engine.views.as_ref(), engine.facts.as_ref()).settled_by(&settle);
        work(&mut self.shard, &rows)
    }

    // The shard holds the record's effects already: what cannot be journalled must not stay there, so the actor ends and
    // starts again from the journal.
    fn append(&self, record: &Record, companion: impl FnOnce(usize) -> Companion) -> Done {
        let prepared = Prepared::new(record)?;
        match self.engine.appender.append(prepared, companion(self.index)) {
            Ok(()) => Ok(()),
            Err(_) => Err("the journal takes nothing more".into()),
        }
    }

    fn marker(&self, companion: Companion) {
        if self.engine.appender.marker(companion).is_err() {
            tracing::debug!("the journal takes nothing more");
        }
    }

    fn refuse(&self, session: &Arc<Session>, reason: Reason, text: &str) {
        self.slot.leave(session);
        self.engine.figures.refused(reason);
        session.bye(reason, Some(text));
    }

    // Devices wait while too many rows do.
    fn hold_back(&self) {
        let waiting = self.shard.dirty_rows() + self.slot.rows_waiting();
        self.slot.gate.pause(waiting > self.slot.dirty_rows_max);
    }

    fn look_into(&mut self, batch: &Verified, key: SessionKey) {
        self.terminals
            .add(key.terminal.to_u64(), u64::from(batch.count()));
        self.frames += 1;
        if !self.frames.is_multiple_of(SAMPLE_FRAMES) {
            return;
        }
        let skus = &mut self.skus;
        let seen: Result<(), std::convert::Infallible> = for_each(&batch.view(), |_, event| {
            match event {
                Event::Sale(sale) => {
                    for line in sale.lines {
                        skus.add(line.sku.to_native(), 1);
                    }
                }
                Event::Stock(stock) => skus.add(stock.record.sku.to_native(), 1),
                Event::Sensor(_) | Event::Device(_) => {}
            }
            Ok(())
        });
        if let Err(never) = seen {
            match never {}
        }
    }

    fn publish(&mut self) {
        let violations = self.shard.violations().clone();
        let mut published = self.slot.published.lock();
        published.counters = self.shard.counters();
        published.violations = violations;
        published.actors = self.shard.actors();
        published.terminals = self.shard.terminals();
        published.dirty_rows = self.shard.dirty_rows();
        published.hot_terminals = self.terminals.take();
        published.hot_skus = self.skus.take();
    }
}

// A session that has been greeted and that no newer one has replaced.
fn live(session: &Session) -> Option<SessionKey> {
    if session.is_over() {
        return None;
    }
    session.key()
}

const fn refusal_of(error: &till_core::RegisterError) -> Reason {
    use till_core::RegisterError as E;
    match error {
        E::Currency { .. } => Reason::CurrencyMismatch,
        E::Zone { .. } => Reason::ZoneMismatch,
        E::UnknownCurrency(_) => Reason::UnknownCurrency,
        E::UnknownZone(_) => Reason::UnknownZone,
        _ => Reason::Internal,
    }
}

/// The engine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let us = since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    Timestamp::from_us(us)
}
