//! A shard as an actor: gives each message to the core, and what the core says to the journal. There are no rules here.

pub(crate) mod crash;
pub(crate) mod handle;
mod handoff;
mod handshake;
mod leave;
mod mailbox;
mod prefetch;
mod sights;
pub(crate) mod sketch;
pub(crate) mod supervisor;
pub(crate) mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use thiserror::Error;
use till_core::{
    Counters, Frame, Handled, Origin, QuarantineKey, ReadSet, Record, RetryError, Rows, RowsError,
    SessionKey, Shard,
};
use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_storage::cluster::Found;
use till_storage::journal::{Prepared, TooLarge};
use till_storage::rebuild::{FactRows, panic_text};
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::commit::{Companion, FrameDone};
use crate::ingress::ended;
use crate::ingress::session::Session;
use crate::lifecycle::engine::Engine;
use crate::shard::crash::{Crash, PoisonMessage};
use crate::shard::handle::ShardHandle;
use crate::shard::sketch::Sketch;

use mailbox::Mailbox;

pub(crate) use handoff::{Left, Offer, Waits, take_epoch, take_in};
pub(crate) use handshake::HelloRequest;
pub(crate) use leave::Which;
pub(crate) use mailbox::FromDevice;

/// Of so many frames one is looked into for hot SKUs.
const SAMPLE_FRAMES: u64 = 64;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// By a device.
    Device(FromDevice),
    /// Whatever devices have said until now is to be heard.
    Hear,
    /// Stores are served elsewhere from now on: their sessions end.
    Evict { which: Which },
    /// Stores have left, and their rows with them: all that is known of them is forgotten.
    Release {
        which: Which,
        reply: oneshot::Sender<()>,
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
    /// Another engine hands records off.
    TakeIn {
        offers: Vec<Offer>,
        reply: oneshot::Sender<handoff::Offered>,
    },
    /// The next epoch of a terminal is taken, for events that have no position in theirs.
    TakeEpoch {
        terminal: TerminalId,
        reply: oneshot::Sender<Result<Option<Epoch>, RowsError>>,
    },
    /// Waits until the other side is gone, and panics.
    #[cfg(test)]
    Strike(std::sync::mpsc::Receiver<()>),
}

/// A frame with its room.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) content: Content,
    pub(crate) permit: Permit,
    /// When it was complete.
    pub(crate) received: Instant,
}

/// What a frame turned out to be.
#[derive(Debug)]
pub(crate) enum Content {
    /// Understood.
    Batch(Verified),
    /// Not.
    Unreadable {
        first_seq: Seq,
        count: u32,
        reason: Reason,
    },
}

impl Content {
    /// The frame as its shard's core takes it.
    const fn origin(&self, now: Timestamp, session: SessionKey) -> Origin<'_> {
        let frame = match self {
            Self::Batch(batch) => Frame::Batch(batch),
            Self::Unreadable {
                first_seq,
                count,
                reason,
            } => Frame::Unreadable {
                first_seq: *first_seq,
                count: *count,
                reason: *reason,
            },
        };
        Origin::Device {
            now,
            session,
            frame,
        }
    }

    fn first_seq(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.frame().header.first_seq,
            Self::Unreadable { first_seq, .. } => first_seq.get(),
        }
    }
}

/// The actor; all state is in [`ShardState`].
#[derive(Debug)]
pub(crate) struct ShardActor;

/// A shard and the way out of it.
#[derive(Debug)]
pub(crate) struct ShardState {
    index: usize,
    pub(crate) shard: Shard,
    engine: Arc<Engine>,
    slot: Arc<ShardHandle>,
    terminals: Sketch,
    skus: Sketch,
    frames: u64,
    waiting: Mailbox,
    /// Room for what frames ask rows for.
    read_set: ReadSet,
    /// Whom to ask when the shard crashes on what it is at.
    poison: Option<PoisonMessage>,
    /// What was counted before that.
    counted: Counters,
}

/// What a shard starts with.
#[derive(Debug)]
pub(crate) struct ShardArguments {
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    pub(crate) engine: Arc<Engine>,
    pub(crate) slot: Arc<ShardHandle>,
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
        Ok(ShardState::new(arguments))
    }

    async fn handle(
        &self,
        _myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        state.begin(PoisonMessage::of(&message));
        // What a panic leaves of the shard is never looked at again: the actor ends.
        let done = catch_unwind(AssertUnwindSafe(|| state.handle(message)));
        let poison = state.poison;
        let (poison, cause) = match done {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(stop @ Stop::Closed)) => (None, stop.to_string()),
            Ok(Err(stop @ Stop::Record(_))) => (poison, stop.to_string()),
            Err(panic) => (poison, panic_text(panic.as_ref())),
        };
        // Nothing of the frame or message that it crashed on was journalled; it is counted when it comes again.
        state.slot.published.lock().counters = state.counted;
        Err(Crash { poison, cause }.into())
    }
}

/// Why a shard cannot go on.
#[derive(Debug, Error)]
pub(crate) enum Stop {
    /// It holds the effects of a record that cannot be written.
    #[error(transparent)]
    Record(#[from] TooLarge),
    /// The journal has ended.
    #[error("the journal takes nothing more")]
    Closed,
}

pub(crate) type Done = Result<(), Stop>;

impl ShardState {
    pub(crate) fn new(arguments: ShardArguments) -> Self {
        Self {
            index: arguments.index,
            shard: arguments.shard,
            engine: arguments.engine,
            slot: arguments.slot,
            terminals: Sketch::default(),
            skus: Sketch::default(),
            frames: 0,
            waiting: Mailbox::default(),
            read_set: ReadSet::default(),
            poison: None,
            counted: Counters::default(),
        }
    }

    // It turns to a message, or to the next frame of one.
    fn begin(&mut self, poison: Option<PoisonMessage>) {
        self.poison = poison;
        self.counted = self.shard.counters();
    }

    pub(crate) fn handle(&mut self, message: ShardMessage) -> Done {
        match message {
            ShardMessage::Device(message) => self.deliver(message),
            ShardMessage::Hear => self.drain_all(),
            ShardMessage::Evict { which } => {
                self.evict(&which);
                Ok(())
            }
            ShardMessage::Release { which, reply } => {
                self.shard.release(&*which);
                self.hold_back();
                // Whoever asked may have gone.
                let _gone = reply.send(());
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
            ShardMessage::TakeIn { offers, reply } => self.take_in(&offers, reply),
            ShardMessage::TakeEpoch { terminal, reply } => {
                let taken = self.with_rows(|shard, rows| shard.take_epoch(terminal, rows));
                // Whoever asked may have gone.
                let _gone = reply.send(taken);
                Ok(())
            }
            #[cfg(test)]
            ShardMessage::Strike(until) => {
                let _gone = until.recv();
                panic!("struck by a test");
            }
        }
    }

    // Turns to a frame; `None` where it is not taken.
    fn turn_to(&mut self, session: &Arc<Session>, frame: Inbound) -> Option<(SessionKey, Inbound)> {
        let key = live(session)?;
        if let Some(last) = self.engine.moved_away(key.terminal.store()) {
            self.turn_away(session, last, frame.permit);
            return None;
        }
        self.begin(PoisonMessage::frame(key, frame.content.first_seq()));
        Some((key, frame))
    }

    fn frame(&mut self, session: &Arc<Session>, frame: Inbound, known: &Found) -> Done {
        let Some((key, frame)) = self.turn_to(session, frame) else {
            return Ok(());
        };
        let Inbound {
            content,
            mut permit,
            received,
        } = frame;
        let now = self.engine.now();
        if let Content::Batch(batch) = &content {
            self.look_into(batch, key);
        }
        let engine = Arc::clone(&self.engine);
        let origin = content.origin(now, key);
        let handled = self.with_known(known, |shard, rows| {
            shard.handle(origin, rows, &engine.names)
        });
        permit.left_mailbox();
        self.answer(Arc::clone(session), handled, permit, received)
    }

    // What the core said about a frame goes its way.
    fn answer(
        &mut self,
        session: Arc<Session>,
        handled: Result<Handled, RowsError>,
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
                session.in_step(upto);
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
            #[cfg(feature = "planted")]
            Ok(Handled::Known { upto }) if till_core::planted::is("ack-known-at-once") => {
                if session.durable(0, upto.get(), &[]) {
                    session.wake();
                }
            }
            Ok(Handled::Known { upto }) => {
                session.again(upto);
                self.marker(Companion::Known(FrameDone {
                    session,
                    shard,
                    upto,
                    refusals: Vec::new(),
                    kept: 0,
                    received,
                    permit,
                }));
            }
            Ok(Handled::Gap { expected }) => {
                session.is_useless(1);
                session.gap(expected);
            }
            Ok(Handled::Closed | Handled::Conflict { .. }) => {
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
        self.trust();
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
        if let Some(gone) = leave::gone(&self.engine, key.terminal) {
            // Whoever asked may have gone.
            let _gone = reply.send(Err(gone));
            return Ok(());
        }
        let names = Arc::clone(&self.engine);
        let now = names.now();
        let retried =
            self.with_rows(|shard, rows| shard.retry(now, key, original, rows, &names.names));
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

    fn with_rows<T>(&mut self, work: impl FnOnce(&mut Shard, &dyn Rows) -> T) -> T {
        self.with_known(&Found::default(), work)
    }

    fn with_known<T>(&mut self, known: &Found, work: impl FnOnce(&mut Shard, &dyn Rows) -> T) -> T {
        let engine = &self.engine;
        let barrier = || engine.barrier();
        let rows = FactRows::new(engine.views.as_ref(), engine.decision_facts.as_ref());
        let rows = rows.with_barrier(&barrier).knowing(known);
        work(&mut self.shard, &rows)
    }

    // The shard holds the record's effects already: what cannot be journalled must not stay there, so the actor ends and
    // starts again from the journal.
    fn append(&self, record: &Record, companion: impl FnOnce(usize) -> Companion) -> Done {
        let prepared = Prepared::new(record)?;
        let queued = self.engine.appender.append(prepared, companion(self.index));
        queued.map_err(|_| Stop::Closed)
    }

    fn marker(&self, companion: Companion) {
        if self.engine.appender.marker(companion).is_err() {
            tracing::debug!("the journal takes nothing more");
        }
    }

    fn refuse(&self, session: &Arc<Session>, reason: Reason, text: &str) {
        self.slot.leave(session);
        self.engine.figures.ingress.refused(reason);
        session.is_useless(ended(reason));
        session.bye(reason, Some(text));
    }

    // Devices wait while too many rows do.
    fn hold_back(&self) {
        let waiting = self.shard.dirty_rows() + self.slot.rows_waiting();
        let is_full = waiting > self.slot.dirty_rows_max || self.engine.is_behind();
        self.slot.gate.pause(is_full);
    }
}

// A session that has been accepted and that no newer one has replaced.
fn live(session: &Session) -> Option<SessionKey> {
    if session.is_over() {
        return None;
    }
    session.key()
}
