//! A shard and the way out of it: gives each message to the core, and what the core says to the journal. There are no rules
//! here.

use crate::shard::message::Content;
use crate::shard::message::FromDevice;
use crate::shard::message::Inbound;
use crate::shard::message::ShardMessage;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use till_core::{
    Counters, Handled, QuarantineKey, ReadSet, Record, RetryError, Rows, RowsError, SessionKey,
    Shard,
};
use till_protocol::code::Reason;
use till_protocol::id::TerminalId;
use till_storage::cluster::Found;
use till_storage::journal::{Prepared, TooLarge};
use till_storage::rebuild::FactRows;
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::commit::{Companion, FrameDone};
use crate::ingress::session::Session;
use crate::ingress::useless::ended;
use crate::lifecycle::engine::Engine;
use crate::shard::crash::PoisonMessage;
pub(super) use crate::shard::handle::ShardHandle;
use crate::shard::sketch::Sketch;

/// Of so many frames one is looked into for hot SKUs.
pub(super) const SAMPLE_FRAMES: u64 = 64;

/// What was said and not heard.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pub(super) messages: Vec<FromDevice>,
    pub(super) weight: u64,
    /// After a start whatever is said is heard alone, up to the first flush: who has crashed the shard is seen when it comes
    /// again.
    pub(super) is_trusting: bool,
}

/// A shard and the way out of it.
#[derive(Debug)]
pub(crate) struct ShardState {
    index: usize,
    pub(crate) shard: Shard,
    pub(crate) engine: Arc<Engine>,
    pub(crate) slot: Arc<ShardHandle>,
    pub(super) terminals: Sketch,
    pub(super) skus: Sketch,
    pub(super) frames: u64,
    pub(super) waiting: Mailbox,
    /// Room for what frames ask rows for.
    pub(super) read_set: ReadSet,
    /// Whom to ask when the shard crashes on what it is at.
    pub(super) poison: Option<PoisonMessage>,
    /// What was counted before that.
    pub(super) counted: Counters,
}

/// What a shard starts with.
#[derive(Debug)]
pub(crate) struct ShardArguments {
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    pub(crate) engine: Arc<Engine>,
    pub(crate) slot: Arc<ShardHandle>,
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
    pub(super) fn begin(&mut self, poison: Option<PoisonMessage>) {
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

    pub(super) fn frame(&mut self, session: &Arc<Session>, frame: Inbound, known: &Found) -> Done {
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
    pub(super) fn answer(
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
        if let Some(gone) = gone(&self.engine, key.terminal) {
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

    pub(super) fn with_rows<T>(&mut self, work: impl FnOnce(&mut Shard, &dyn Rows) -> T) -> T {
        self.with_known(&Found::default(), work)
    }

    pub(crate) fn with_known<T>(
        &mut self,
        known: &Found,
        work: impl FnOnce(&mut Shard, &dyn Rows) -> T,
    ) -> T {
        let engine = &self.engine;
        let barrier = || engine.barrier();
        let rows = FactRows::new(engine.views.as_ref(), engine.decision_facts.as_ref());
        let rows = rows.with_barrier(&barrier).knowing(known);
        work(&mut self.shard, &rows)
    }

    // The shard holds the record's effects already: what cannot be journalled must not stay there, so the actor ends and
    // starts again from the journal.
    pub(crate) fn append(
        &self,
        record: &Record,
        companion: impl FnOnce(usize) -> Companion,
    ) -> Done {
        let prepared = Prepared::new(record)?;
        let queued = self.engine.appender.append(prepared, companion(self.index));
        queued.map_err(|_| Stop::Closed)
    }

    pub(super) fn marker(&self, companion: Companion) {
        if self.engine.appender.marker(companion).is_err() {
            tracing::debug!("the journal takes nothing more");
        }
    }

    pub(super) fn refuse(&self, session: &Arc<Session>, reason: Reason, text: &str) {
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
pub(super) fn live(session: &Session) -> Option<SessionKey> {
    if session.is_over() {
        return None;
    }
    session.key()
}

/// What is said to somebody who wants a quarantined event of a store decided that is served elsewhere.
pub(super) fn gone(engine: &Engine, terminal: u64) -> Option<RetryError> {
    let store = TerminalId::from_u64(terminal).ok()?.store();
    engine.moved_away(store)?;
    Some(RetryError::Rows(RowsError {
        table: "stores",
        cause: format!("store {store} is served by another engine"),
    }))
}
