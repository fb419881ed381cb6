//! Records of other journals that are in no commit: a shard takes them in.

use std::collections::HashSet;
use std::sync::Arc;

use till_core::{Handled, Record, RecordKind, RowsError, SessionKey};
use till_protocol::id::{Epoch, TerminalId};
use till_storage::cluster::Found;
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;
use tokio::sync::oneshot;

use super::elsewhere::{Elsewhere, Own};
use super::{Done, ShardMessage, ShardState, Stop};
use crate::commit::Companion;
use crate::engine::Engine;
use crate::fall::Suspect;
use crate::ingress::check;
use crate::route::{Slot, shard_of};

/// Records that are adopted with what was fetched for them together.
const RECORDS_AT_ONCE: usize = 16;

/// How far records that came together are.
#[derive(Debug)]
struct Taking {
    elsewhere: Elsewhere,
    /// What was decided before is durable, and found among the facts.
    is_settled: bool,
    /// Terminals of which a record was not taken in: what follows it has to wait as well.
    waiting: HashSet<u64>,
    /// Why the first of them was not.
    cause: Option<String>,
    /// Terminals and lives of which a record had no place in that life: neither has what follows it.
    aside: HashSet<(u64, u32)>,
    /// What is missing before records has not come for long.
    is_late: bool,
}

impl Taking {
    fn done(self) -> Result<(), NotTaken> {
        let waiting = self.waiting.iter();
        let terminals = waiting.filter_map(|number| TerminalId::from_u64(*number).ok());
        match self.cause {
            Some(cause) => Err(NotTaken {
                cause,
                terminals: terminals.collect(),
            }),
            None => Ok(()),
        }
    }
}

/// Why records were not taken in.
#[derive(Clone, Debug)]
pub(crate) struct NotTaken {
    pub(crate) cause: String,
    /// The terminals whose records do not fit what is here; of all others everything was taken in. None: it is not known of
    /// any.
    pub(crate) terminals: Vec<TerminalId>,
}

impl NotTaken {
    fn and(mut self, mut other: Self) -> Self {
        if self.terminals.is_empty() || other.terminals.is_empty() {
            return Self::any(self.cause);
        }
        self.terminals.append(&mut other.terminals);
        self
    }

    pub(crate) fn any(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            terminals: Vec::new(),
        }
    }
}

/// Why a record is not taken in.
enum Trouble {
    /// Its life has no place for it.
    Place(String),
    /// What comes before it in its life is missing.
    Gap(String),
    /// It does not fit what is here; those of other terminals may.
    Record(String),
    /// Nothing can be taken in for now.
    All(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            // Facts that this record is compared with; others may have better ones.
            StoreError::Damaged { .. } => Self::Record(error.to_string()),
            _ => Self::all(&error),
        }
    }
}

impl Trouble {
    fn all(error: &impl ToString) -> Self {
        Self::All(error.to_string())
    }
}

impl ShardState {
    /// Takes in records of another journal, of stores that are served here, in their order. One that cannot be keeps those of
    /// other terminals from nothing.
    pub(super) fn adopt(
        &mut self,
        (records, is_late): (&[Record], bool),
        reply: oneshot::Sender<Result<(), NotTaken>>,
    ) -> Done {
        let mut taking = Taking {
            elsewhere: Elsewhere::of(records),
            is_settled: false,
            waiting: HashSet::new(),
            cause: None,
            aside: HashSet::new(),
            is_late,
        };
        let mut adopted = Ok(());
        for some in records.chunks(RECORDS_AT_ONCE) {
            adopted = self.adopt_some(some, &mut taking)?;
            if adopted.is_err() {
                break;
            }
        }
        let adopted = adopted.map_err(NotTaken::any).and_then(|()| taking.done());
        // Whoever asked may have gone.
        let _gone = reply.send(adopted);
        Ok(())
    }

    fn adopt_some(
        &mut self,
        records: &[Record],
        taking: &mut Taking,
    ) -> Result<Result<(), String>, Stop> {
        let engine = Arc::clone(&self.engine);
        let is_here = |record: &Record| {
            store_of(&record.head).is_some_and(|store| engine.placement.is_here(store))
        };
        if !records.iter().all(is_here) {
            return Ok(Err("its store is served elsewhere".to_owned()));
        }
        let known = match self.foresee_records(records) {
            Ok(known) => known,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for record in records {
            if taking.waiting.contains(&record.head.terminal) {
                continue;
            }
            self.begin(Suspect::record(record));
            match self.adopt_one(record, &known, taking)? {
                Ok(()) => {}
                Err(Trouble::All(cause)) => return Ok(Err(cause)),
                Err(Trouble::Place(cause) | Trouble::Gap(cause) | Trouble::Record(cause)) => {
                    taking.waiting.insert(record.head.terminal);
                    taking.cause.get_or_insert(cause);
                }
            }
        }
        Ok(Ok(()))
    }

    fn adopt_one(
        &mut self,
        record: &Record,
        known: &Found,
        taking: &mut Taking,
    ) -> Result<Result<(), Trouble>, Stop> {
        let head = &record.head;
        let terminal = TerminalId::from_u64(head.terminal);
        if let Some(cause) = terminal.ok().and_then(|one| self.slot.why_parked(one)) {
            return Ok(Err(Trouble::Record(cause)));
        }
        let branch = branch_of(record);
        // What it decided again has other numbers by now, and somebody else's event may have these.
        if head.kind == RecordKind::Retry && self.aside.contains_key(&branch) {
            return Ok(Ok(()));
        }
        if !taking.aside.contains(&branch) {
            let cause = match self.adopt_in_place(record, known, taking)? {
                Err(Trouble::Place(cause)) => cause,
                Err(Trouble::Gap(cause)) if taking.is_late || self.aside.contains_key(&branch) => {
                    cause
                }
                done => return Ok(done),
            };
            tracing::warn!(
                terminal = head.terminal,
                life = head.epoch,
                cause,
                "records that were handed over have no place in their life: they are taken in under numbers of their own"
            );
            taking.aside.insert(branch);
        }
        self.adopt_aside(record, known, taking)
    }

    // Two devices, or two branches of one, have different events under the same numbers, or what lies between is lost. So the
    // events are numbered anew. By what they say they are known, however often and from wherever they come.
    fn adopt_aside(
        &mut self,
        record: &Record,
        known: &Found,
        taking: &mut Taking,
    ) -> Result<Result<(), Trouble>, Stop> {
        let engine = Arc::clone(&self.engine);
        let settle = || engine.settle();
        let facts = engine.reader.as_ref();
        let here = match taking
            .elsewhere
            .events((record, Own::Aside), facts, &settle)
        {
            Ok(here) => here,
            Err(error) => return Ok(Err(error.into())),
        };
        let branch = branch_of(record);
        let before = self.aside.get(&branch).copied();
        let handled = self.with_known(known, |shard, rows| {
            shard.adopt_aside(record, (before, &here), rows, &engine.names)
        });
        // Whoever goes on in the life that it had would be told of numbers that are others' events now.
        self.part_from(record.head.terminal, |key, _| {
            key.epoch.get() == record.head.epoch
        });
        if let Ok(Handled::Journal { record: aside, .. }) = &handled {
            let life = Epoch::new(aside.head.epoch).ok();
            self.aside.extend(life.map(|life| (branch, life)));
        }
        self.adopted(record, handled, taking)
    }

    fn adopt_in_place(
        &mut self,
        record: &Record,
        known: &Found,
        taking: &mut Taking,
    ) -> Result<Result<(), Trouble>, Stop> {
        let elsewhere = match self.look_up(record, known, taking) {
            Ok(elsewhere) => elsewhere,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let engine = Arc::clone(&self.engine);
        let handled = self.with_known(known, |shard, rows| {
            shard.adopt(record, &elsewhere, rows, &engine.names)
        });
        self.adopted(record, handled, taking)
    }

    // What the core said of a record goes its way.
    fn adopted(
        &mut self,
        record: &Record,
        handled: Result<Handled, RowsError>,
        taking: &mut Taking,
    ) -> Result<Result<(), Trouble>, Stop> {
        match handled {
            Ok(Handled::Journal {
                record: adopted, ..
            }) => {
                self.append(&adopted, |shard| Companion::Registered { shard })?;
                // It is not durable yet: what follows under the same numbers would be compared with nothing.
                taking.is_settled = false;
                self.part_from_those_behind(&adopted);
                let added = taking.elsewhere.add(&adopted, record.head.epoch);
                return Ok(added.map_err(Trouble::from));
            }
            Ok(Handled::Known { .. }) => {}
            Ok(other) => return Ok(Err(why_not(record, &other))),
            Err(error) => return Ok(Err(Trouble::all(&error))),
        }
        Ok(Ok(()))
    }

    // Makes sure that what is known by number are the same events, and gives those that are known by another number.
    fn look_up(
        &mut self,
        record: &Record,
        known: &Found,
        taking: &mut Taking,
    ) -> Result<Vec<u32>, Trouble> {
        let engine = Arc::clone(&self.engine);
        let standing = self.with_known(known, |shard, rows| {
            let knows = shard.knows_some(record, rows)?;
            Ok::<_, RowsError>((knows, shard.may_be_elsewhere(record, rows)?))
        });
        let (knows, may_be_elsewhere) = standing.map_err(|error| Trouble::all(&error))?;
        if knows {
            if !std::mem::replace(&mut taking.is_settled, true) {
                engine.settle();
            }
            same_events(&engine, record)?;
        }
        if !may_be_elsewhere {
            return Ok(Vec::new());
        }
        let settle = || engine.settle();
        let facts = engine.reader.as_ref();
        let found = taking.elsewhere.events((record, Own::Life), facts, &settle);
        found.map_err(Trouble::from)
    }

    // A device that has not sent these events in its session may have others under their numbers, which would be taken for
    // known. It comes again, and compares.
    fn part_from_those_behind(&self, record: &Record) {
        let head = &record.head;
        if !matches!(
            head.kind,
            RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates
        ) {
            return;
        }
        #[cfg(feature = "planted")]
        if till_core::planted::is("stay-behind") {
            return;
        }
        let end = head.first_seq.saturating_add(u64::from(head.count));
        self.part_from(head.terminal, |key, expected| {
            key.epoch.get() == head.epoch && expected < end
        });
    }

    // Ends the session of a terminal, if it is such a one.
    fn part_from(&self, terminal: u64, is_such: impl Fn(SessionKey, u64) -> bool) {
        let Some(session) = self.slot.session_of(terminal) else {
            return;
        };
        if session
            .key()
            .is_some_and(|key| is_such(key, session.expected()))
        {
            self.slot.leave(&session);
            session.bye(till_protocol::code::Reason::Moved, None);
        }
    }
}

// Numbers that are known stand for the same events, but where two engines granted the same life, each to a device of its
// own: one whose engine died before anything of it was committed, and one that had lost its storage. The events of the
// first are not left out for those of the second.
fn same_events(engine: &Engine, record: &Record) -> Result<(), Trouble> {
    match check::differs(engine.reader.as_ref(), record) {
        Ok(None) => Ok(()),
        Ok(Some(seq)) => Err(Trouble::Place(format!(
            "event {seq} of life {} of its terminal is another one here",
            record.head.epoch
        ))),
        Err(error) => Err(error.into()),
    }
}

// A terminal and one of its lives.
const fn branch_of(record: &Record) -> (u64, u32) {
    (record.head.terminal, record.head.epoch)
}

// Why a record was not taken in.
fn why_not(record: &Record, handled: &Handled) -> Trouble {
    match handled {
        Handled::Gap { expected } => {
            Trouble::Gap(format!("events from {expected} on are missing before them"))
        }
        Handled::Closed => {
            Trouble::Place("nobody knows any more how far that life had come".to_owned())
        }
        Handled::Unregistered | Handled::Journal { .. } | Handled::Known { .. } => {
            let store = store_of(&record.head).map_or(0, till_protocol::id::StoreId::get);
            Trouble::Record(format!("store {store} is not registered"))
        }
    }
}

/// Gives records of another journal to the shards of their stores, in their order. For threads that may block.
///
/// # Errors
/// Says why some of them were not taken in; the others were, and all may be given again. `is_late`: they were given before, and
/// what was missing then before some of them is waited for no longer.
pub(crate) fn adopt(engine: &Engine, records: Vec<Record>, is_late: bool) -> Result<(), NotTaken> {
    let mut by_shard: Vec<Vec<Record>> = Vec::new();
    by_shard.resize_with(engine.slots.len(), Vec::new);
    for record in records {
        let shard = store_of(&record.head).map(|store| shard_of(store, engine.slots.len()));
        if let Some(some) = shard.and_then(|shard| by_shard.get_mut(shard)) {
            some.push(record);
        }
    }
    let mut not_taken: Option<NotTaken> = None;
    for (slot, records) in engine.slots.iter().zip(by_shard) {
        if let Err(error) = adopt_in(slot, records, is_late) {
            not_taken = Some(match not_taken {
                Some(before) => before.and(error),
                None => error,
            });
        }
    }
    not_taken.map_or(Ok(()), Err)
}

fn adopt_in(slot: &Slot, records: Vec<Record>, is_late: bool) -> Result<(), NotTaken> {
    if records.is_empty() {
        return Ok(());
    }
    let (reply, answer) = oneshot::channel();
    let sent = slot.send(ShardMessage::Adopt {
        records,
        is_late,
        reply,
    });
    sent.map_err(|_| NotTaken::any("its shard does not run"))?;
    let adopted = answer.blocking_recv();
    adopted.map_err(|_| NotTaken::any("its shard failed"))?
}
