//! A ractor actor around a [`till_core::Shard`]. No rule lives here: it hands batches to the core and what comes of them to the
//! committer.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use till_core::{
    Greeting, Handled, Hello, HelloError, QuarantineKey, Record, RegisterError, SessionKey, Shard,
};
use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq, StoreId, TerminalId};
use till_protocol::reply;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_storage::journal::{Appender, Prepared};
use till_storage::rebuild::FactRows;
use tokio::sync::OwnedSemaphorePermit;

use crate::commit::{Companion, Owed};
use crate::engine::Shared;
use crate::published::Published;
use crate::session::Session;

/// A batch with its permit: what may enter a mailbox.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) session: Arc<Session>,
    pub(crate) batch: Batch,
    pub(crate) now: Timestamp,
    pub(crate) received: Instant,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A frame's events, or the fact that they could not be read.
#[derive(Debug)]
pub(crate) enum Batch {
    Events(Box<Verified>),
    Unreadable {
        first_seq: Seq,
        count: u32,
        reason: Reason,
    },
}

/// A Hello on its way to the shard of its store.
#[derive(Debug)]
pub(crate) struct Greet {
    pub(crate) hello: reply::Hello,
    pub(crate) now: Timestamp,
    /// Currency and zone for a store that is seen for the first time; `None` where stores must be registered before.
    pub(crate) register: Option<(u16, String)>,
}

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A session wants to start.
    Greet(
        Greet,
        RpcReplyPort<Result<(Greeting, Arc<Session>), HelloError>>,
    ),
    /// A batch.
    Batch(Admitted),
    /// Stores of the registry file.
    Register(
        StoreId,
        u16,
        String,
        RpcReplyPort<Result<(), RegisterError>>,
    ),
    /// Take the changed rows and send them on their way.
    Flush,
    /// Rows of this take, and of all before it, are in the views.
    Flushed(u32),
    /// Decide a quarantined event again.
    Retry(
        QuarantineKey,
        Box<Record>,
        RpcReplyPort<Result<bool, String>>,
    ),
}

/// The actor: constants of one shard.
#[derive(Debug)]
pub(crate) struct ShardActor {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
}

/// Its state.
#[derive(Debug)]
pub(crate) struct State {
    shard: Shard,
    journal: Appender<Companion>,
    /// Generation of each terminal's newest session: frames of an older one are not taken. Two devices that were cloned
    /// must never have their events taken for each other's duplicates.
    newest: HashMap<TerminalId, u64>,
    sessions: u64,
}

impl Actor for ShardActor {
    type Msg = Message;
    type State = State;
    type Arguments = (Shard, Appender<Companion>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (shard, journal): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State {
            shard,
            journal,
            newest: HashMap::new(),
            sessions: 0,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Batch(admitted) => self.batch(state, admitted),
            Message::Greet(greet, port) => {
                // A device that has hung up meanwhile needs no answer.
                let _hung_up = port.send(self.greet(state, &greet));
            }
            Message::Register(store, currency, zone, port) => {
                let done =
                    self.register(state, Timestamp::from_us(now_us()), store, currency, &zone);
                let _gave_up = port.send(done);
            }
            Message::Flush => self.flush(state),
            Message::Flushed(generation) => {
                state.shard.flushed(generation);
                state.shard.passivate();
            }
            Message::Retry(key, original, port) => {
                let _gave_up = port.send(self.retry(state, key, &original));
            }
        }
        Ok(())
    }
}

impl ShardActor {
    fn batch(&self, state: &mut State, admitted: Admitted) {
        let Admitted {
            session,
            batch,
            now,
            received,
            permit,
        } = admitted;
        if state.newest.get(&session.key.terminal) != Some(&session.generation) {
            session.end(Reason::Superseded);
            return;
        }
        let events = match &batch {
            Batch::Events(batch) => batch.count(),
            Batch::Unreadable { count, .. } => *count,
        };
        let handled = self.with_rows(state, |shard, rows| match &batch {
            Batch::Events(batch) => {
                shard.handle_batch(now, session.key, batch, rows, self.shared.names.as_ref())
            }
            Batch::Unreadable {
                first_seq,
                count,
                reason,
            } => shard.handle_unreadable(now, session.key, *first_seq, *count, *reason, rows),
        });
        let owed = |upto, refusals| Owed {
            session: Arc::clone(&session),
            upto,
            refusals,
            events,
            received,
            permit,
        };
        match handled {
            Ok(Handled::Journal {
                record,
                upto,
                refusals,
                ..
            }) => {
                self.journal(state, &record, |shard| Companion::Batch {
                    shard,
                    owed: owed(upto, refusals),
                });
            }
            Ok(Handled::Known { upto }) => {
                self.queue(
                    state
                        .journal
                        .marker(Companion::Known(owed(upto, Vec::new())))
                        .is_ok(),
                );
            }
            Ok(Handled::Gap { expected }) => {
                Published::add(&self.shared.published.gaps, 1);
                session.gap(expected);
            }
            Ok(Handled::Closed) => session.end(Reason::StaleEpoch),
            Ok(Handled::Unregistered) => session.end(Reason::UnregisteredStore),
            Err(error) => {
                tracing::error!(shard = self.number, %error, "a batch was not decided; the device sends it again");
                session.end(Reason::Internal);
            }
        }
        let terminal = session.key.terminal.to_u64();
        self.shared.published.show(self.number, |shown| {
            shown.counters = state.shard.counters();
            shown.frame(terminal, events);
        });
    }

    fn greet(
        &self,
        state: &mut State,
        greet: &Greet,
    ) -> Result<(Greeting, Arc<Session>), HelloError> {
        let said = &greet.hello;
        let hello = Hello {
            terminal: said.terminal,
            epoch: said.epoch.map_or(0, Epoch::get),
            clock: said.clock,
            currency: said.currency.map_or(0, |currency| currency.numeric()),
            zone: &said.zone,
        };
        let store = said.terminal.store();
        let mut greeting =
            self.with_rows(state, |shard, rows| shard.hello(greet.now, &hello, rows));
        if let (Err(HelloError::Refused(Reason::UnregisteredStore)), Some((currency, zone))) =
            (&greeting, &greet.register)
        {
            self.register(state, greet.now, store, *currency, zone)
                .map_err(refused)?;
            greeting = self.with_rows(state, |shard, rows| shard.hello(greet.now, &hello, rows));
        }
        let greeting = greeting?;
        state.sessions += 1;
        state.newest.insert(said.terminal, state.sessions);
        let key = SessionKey {
            terminal: said.terminal,
            epoch: greeting.epoch,
            clock_suspect: greeting.clock_suspect,
        };
        Ok((greeting, Arc::new(Session::new(key, state.sessions))))
    }

    fn register(
        &self,
        state: &mut State,
        now: Timestamp,
        store: StoreId,
        currency: u16,
        zone: &str,
    ) -> Result<(), RegisterError> {
        let record = self.with_rows(state, |shard, rows| {
            shard.register_store(now, store, currency, zone, rows)
        })?;
        if let Some(record) = record {
            tracing::info!(%store, currency, zone, "store registered");
            self.journal(state, &record, |shard| Companion::Quiet { shard });
        }
        Ok(())
    }

    fn retry(
        &self,
        state: &mut State,
        key: QuarantineKey,
        original: &Record,
    ) -> Result<bool, String> {
        let names = Arc::clone(&self.shared.names);
        let record = self
            .with_rows(state, |shard, rows| {
                shard.retry(
                    Timestamp::from_us(now_us()),
                    key,
                    original,
                    rows,
                    names.as_ref(),
                )
            })
            .map_err(|error| error.to_string())?;
        let applied = record
            .verdicts
            .iter()
            .any(|verdict| verdict.outcome == till_core::Outcome::Applied);
        self.journal(state, &record, |shard| Companion::Quiet { shard });
        Ok(applied)
    }

    fn flush(&self, state: &mut State) {
        let dirty = Box::new(state.shard.take_dirty());
        self.shared.published.show(self.number, |shown| {
            shown.counters = state.shard.counters();
            shown.actors = wide(state.shard.actors());
            shown.terminals = wide(state.shard.terminals());
            shown.dirty_rows = wide(dirty.rows());
            shown.violations = state
                .shard
                .violations()
                .iter()
                .map(|(id, count)| (id.id(), count))
                .collect();
        });
        let rows = Companion::Rows {
            shard: self.number,
            dirty,
        };
        self.queue(state.journal.marker(rows).is_ok());
    }

    /// Journals a record that has taken effect. It fits by construction: a frame is smaller than an entry may be.
    fn journal(&self, state: &State, record: &Record, companion: impl FnOnce(usize) -> Companion) {
        match Prepared::new(record) {
            Ok(entry) => self.queue(state.journal.append(entry, companion(self.number)).is_ok()),
            Err(error) => {
                // It took effect in memory and cannot be made durable: memory is ahead of the journal for good.
                tracing::error!(shard = self.number, %error, "a record does not fit the journal; ending the process");
                std::process::abort();
            }
        }
    }

    fn queue(&self, taken: bool) {
        if !taken {
            tracing::warn!(
                shard = self.number,
                "the journal is closed; what was not acknowledged is sent again"
            );
        }
    }

    fn with_rows<R>(
        &self,
        state: &mut State,
        work: impl FnOnce(&mut Shard, &FactRows<'_>) -> R,
    ) -> R {
        let journal = &state.journal;
        let settle = || {
            let (done, waiter) = crossbeam::channel::bounded(1);
            if journal.marker(Companion::Waiter(done)).is_ok() {
                let _closed = waiter.recv();
            }
        };
        let rows = FactRows::new(self.shared.views.as_ref(), self.shared.facts.as_ref())
            .settled_by(&settle);
        work(&mut state.shard, &rows)
    }
}

/// A registration that failed, as the device is told.
fn refused(error: RegisterError) -> HelloError {
    match error {
        RegisterError::Rows(error) => HelloError::Rows(error),
        other => {
            tracing::warn!(error = %other, "store not registered");
            HelloError::Refused(match other {
                RegisterError::Currency { .. } => Reason::CurrencyMismatch,
                RegisterError::Zone { .. } => Reason::ZoneMismatch,
                RegisterError::UnknownCurrency(_) => Reason::UnknownCurrency,
                _ => Reason::UnknownZone,
            })
        }
    }
}

/// The time, as the shell hands it down.
pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
