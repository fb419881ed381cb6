//! Rows of a shared store are fetched before they are asked for: one by one, each would be a way there and back.
//!
//! What is fetched is what is committed, and the shard asks for it only where it has nothing newer in memory. It stays right
//! until the message is dealt with: the rows of a store that is served here change through this shard alone, and it drops
//! what it has in memory on other messages only.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use till_core::{Handled, Record, RowsError, SessionKey, Wants};
use till_protocol::id::TerminalId;
use till_storage::cluster::Found;
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;
use tokio::sync::oneshot;

use super::{Content, Done, Inbound, ShardMessage, ShardState, Stop, live};
use crate::cluster::Undecided;
use crate::commit::Companion;
use crate::engine::Engine;
use crate::fall::Suspect;
use crate::gateway::check;
use crate::gateway::session::Session;
use crate::route::shard_of;

/// Records that are adopted with what was fetched for them together.
const RECORDS_AT_ONCE: usize = 16;
/// Longest time that a store that hears this node is asked what a frame needs to know: some timeouts of its driver.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two times.
const PAUSE: Duration = Duration::from_millis(20);

/// Why it is not known what rows say.
#[derive(Debug)]
enum Unknown {
    /// The shared store does not answer.
    Away(RowsError),
    /// What it says makes no sense.
    Rows(RowsError),
}

impl From<StoreError> for Unknown {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed { .. } => Self::Away(error.into()),
            _ => Self::Rows(error.into()),
        }
    }
}

impl From<RowsError> for Unknown {
    fn from(error: RowsError) -> Self {
        Self::Rows(error)
    }
}

impl From<Unknown> for RowsError {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Away(error) | Unknown::Rows(error) => error,
        }
    }
}

impl Engine {
    // What is wanted and not in the memory of this node.
    fn fetch(&self, wants: &mut Wants) -> Result<Found, StoreError> {
        let Some(cluster) = self.keeping.cluster() else {
            return Ok(Found::default());
        };
        let mark = self.names.retain_missing(&mut wants.names);
        if wants.is_empty() {
            return Ok(Found::default());
        }
        wants.settle();
        let mut found = cluster.store.rows_of(wants)?;
        self.names.learn(mem::take(&mut found.names), mark);
        Ok(found)
    }
}

impl ShardState {
    /// Handles frames that came together.
    pub(super) fn frames(&mut self, session: &Arc<Session>, frames: Vec<Inbound>) -> Done {
        let Some(key) = live(session) else {
            return Ok(());
        };
        if self.undecided().is_some_and(Undecided::is_deferring) {
            return self.defer(session, frames);
        }
        let known = self.foresee_patiently(key, &frames);
        let mut frames = frames.into_iter();
        match known {
            Ok(known) => frames.try_for_each(|frame| self.frame(session, frame, &known)),
            Err(Unknown::Away(error)) if self.begin_to_defer() => {
                tracing::warn!(
                    shard = self.index, %error,
                    "the shared store does not say what frames need to know: they are journalled, and decided later"
                );
                self.defer(session, frames.collect())
            }
            // The session ends with the first of them.
            Err(error) => frames.next().map_or(Ok(()), |frame| {
                self.answer(
                    Arc::clone(session),
                    Err(error.into()),
                    frame.permit,
                    frame.received,
                )
            }),
        }
    }

    /// What a terminal's Hello asks for; nothing where rows are at hand.
    pub(super) fn foresee_hello(&mut self, terminal: TerminalId) -> Result<Found, RowsError> {
        if self.engine.keeping.cluster().is_none() {
            return Ok(Found::default());
        }
        let mut wants = Wants::default();
        self.shard.want_terminal(terminal, &mut wants);
        Ok(self.engine.fetch(&mut wants)?)
    }

    // A store that still hears this node may only be slow: it is asked again, as long as it does.
    fn foresee_patiently(&mut self, key: SessionKey, frames: &[Inbound]) -> Result<Found, Unknown> {
        let began = Instant::now();
        loop {
            let known = self.foresee(key, frames);
            let engine = &self.engine;
            let hears = engine
                .keeping
                .cluster()
                .is_some_and(|one| one.is_alive() && engine.by_hand.is_none());
            if !hears || !matches!(known, Err(Unknown::Away(_))) || began.elapsed() > PATIENCE {
                return known;
            }
            std::thread::sleep(PAUSE);
        }
    }

    // What frames of a session ask for; nothing where rows are at hand.
    fn foresee(&mut self, key: SessionKey, frames: &[Inbound]) -> Result<Found, Unknown> {
        let engine = Arc::clone(&self.engine);
        if engine.keeping.cluster().is_none() || !engine.placement.is_here(key.terminal.store()) {
            return Ok(Found::default());
        }
        let mut wants = mem::take(&mut self.wants);
        wants.clear();
        for frame in frames {
            self.begin(Suspect::frame(key, frame.content.first_seq()));
            match &frame.content {
                Content::Batch(batch) => self.shard.want_standing(key, batch, &mut wants),
                Content::Unreadable { .. } => self.shard.want_terminal(key.terminal, &mut wants),
            }
        }
        let mut found = self.bring_in(&mut wants)?;
        for frame in frames {
            self.begin(Suspect::frame(key, frame.content.first_seq()));
            if let Content::Batch(batch) = &frame.content {
                self.with_known(&found, |shard, rows| {
                    shard.want_goods(key, batch, rows, &mut wants)
                })?;
            }
        }
        found.extend(engine.fetch(&mut wants)?);
        self.wants = wants;
        Ok(found)
    }

    // Fetches what says whether events count, and takes stores and terminals of it in.
    fn bring_in(&mut self, wants: &mut Wants) -> Result<Found, Unknown> {
        let found = self.engine.fetch(wants)?;
        self.with_known(&found, |shard, rows| shard.bring_in(wants, rows))?;
        wants.clear();
        Ok(found)
    }

    fn foresee_records(&mut self, records: &[Record]) -> Result<Found, Unknown> {
        let mut wants = Wants::default();
        for record in records {
            self.shard.want_standing_of_record(record, &mut wants);
        }
        let mut found = self.bring_in(&mut wants)?;
        for record in records {
            self.with_known(&found, |shard, rows| {
                shard.want_goods_of_record(record, rows, &mut wants)
            })?;
        }
        found.extend(self.engine.fetch(&mut wants)?);
        Ok(found)
    }

    /// Takes in records of another journal, of stores that are served here, one after another up to one that cannot be.
    pub(super) fn adopt(
        &mut self,
        records: &[Record],
        reply: oneshot::Sender<Result<(), String>>,
    ) -> Done {
        let mut adopted = Ok(());
        for some in records.chunks(RECORDS_AT_ONCE) {
            adopted = self.adopt_some(some)?;
            if adopted.is_err() {
                break;
            }
        }
        // Whoever asked may have gone.
        let _gone = reply.send(adopted);
        Ok(())
    }

    fn adopt_some(&mut self, records: &[Record]) -> Result<Result<(), String>, Stop> {
        let engine = Arc::clone(&self.engine);
        let is_here = |record: &Record| {
            store_of(&record.head).is_some_and(|store| engine.placement.is_here(store))
        };
        if !records.iter().all(is_here) {
            return Ok(Err("its store is served elsewhere".to_owned()));
        }
        let known = match self.foresee_records(records) {
            Ok(known) => known,
            Err(error) => return Ok(Err(RowsError::from(error).to_string())),
        };
        for record in records {
            let knows = self.with_known(&known, |shard, rows| shard.knows_some(record, rows));
            let same = match knows {
                Ok(true) => same_events(&engine, record),
                Ok(false) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if same.is_err() {
                return Ok(same);
            }
            let handled = self.with_known(&known, |shard, rows| {
                shard.adopt(record, rows, &engine.names)
            });
            match handled {
                Ok(Handled::Journal { record, .. }) => {
                    self.append(&record, |shard| Companion::Registered { shard })?;
                }
                Ok(Handled::Known { .. }) => {}
                Ok(other) => return Ok(Err(why_not(record, &other))),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        Ok(Ok(()))
    }
}

// Numbers that are known stand for the same events, but where two engines granted the same life, each to a device of its
// own: one whose engine died before anything of it was committed, and one that had lost its storage. The events of the
// first are not left out for those of the second.
fn same_events(engine: &Engine, record: &Record) -> Result<(), String> {
    match check::differs(engine.reader.as_ref(), record) {
        Ok(None) => Ok(()),
        Ok(Some(seq)) => Err(format!(
            "event {seq} of life {} of its terminal is another one here",
            record.head.epoch
        )),
        Err(error) => Err(error.to_string()),
    }
}

// Why a record was not taken in.
fn why_not(record: &Record, handled: &Handled) -> String {
    match handled {
        Handled::Gap { expected } => format!("events from {expected} on are missing before them"),
        Handled::Unregistered => {
            let store = store_of(&record.head).map_or(0, till_protocol::id::StoreId::get);
            format!("store {store} is not registered")
        }
        Handled::Closed => "nobody knows any more how far that life had come".to_owned(),
        Handled::Journal { .. } | Handled::Known { .. } => String::new(),
    }
}

/// Gives records of another journal to the shards of their stores, in their order. For threads that may block.
///
/// # Errors
/// Says why one of them was not taken in; those before it were, and may be given again.
pub(crate) fn adopt(engine: &Engine, records: Vec<Record>) -> Result<(), String> {
    let mut by_shard: Vec<Vec<Record>> = Vec::new();
    by_shard.resize_with(engine.slots.len(), Vec::new);
    for record in records {
        let shard = store_of(&record.head).map(|store| shard_of(store, engine.slots.len()));
        if let Some(some) = shard.and_then(|shard| by_shard.get_mut(shard)) {
            some.push(record);
        }
    }
    for (slot, records) in engine.slots.iter().zip(by_shard) {
        if records.is_empty() {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        let sent = slot.send(ShardMessage::Adopt { records, reply });
        sent.map_err(|_| "its shard does not run")?;
        answer
            .blocking_recv()
            .map_err(|_| "its shard failed".to_owned())??;
    }
    Ok(())
}
