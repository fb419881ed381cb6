//! A shard: whole stores with all their actors, and the one door to them.
//!
//! The modules stand in the order in which a batch meets them. [`Shard::handle`] finds its place in the terminal's sequence.
//! Prefetch goes over its events once (`touch`) and brings in all that they touch: the one step that can fail. Decide says what
//! each event comes to, and changes nothing. Apply does what the record of that says; recovery, rebuild and retries end in it, too.
//! A flush takes the rows that have changed.

mod handle;

mod touch;

mod prefetch;

mod decide;

mod apply;

mod flush;

// Other ways in: the start of a session, records of other engines, of the past, and out of the quarantine.
mod handoff;
mod recover;
mod renumber;
mod retry;
mod session;

// What the modules above work on.
mod actors;
mod ids;
mod names;
mod release;
mod tally;

use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq, TerminalId};

use self::actors::Actors;
use self::ids::EventIds;
use self::names::NameBook;
use self::touch::Touched;
use crate::contribution::Contributor;
use crate::counters::Counters;
use crate::hash::Map;
use crate::invariant::{InvariantId, Violations};
use crate::recent::Recent;
use crate::record::Record;
use crate::row::{QuarantineKey, QuarantineRow};

pub use self::handle::{Frame, Origin};
pub use self::recover::Replayed;
pub use self::retry::RetryError;
pub use self::session::{HandshakeState, Hello, HelloError};

/// Settings of a shard. No answer depends on them, only memory and speed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShardConfig {
    /// Actors (SKUs and sums) above which clean ones are dropped by [`Shard::passivate`]. One costs below 200 bytes; one
    /// that was dropped costs a lookup when it is needed again.
    pub actors_max: usize,
    /// Bytes for the newest movements, 16 or a few more each; taken as they are needed. A count that arrives late is
    /// computed from them where they reach back behind it, and from the journal where they do not.
    pub recent_bytes: usize,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            actors_max: 4_000_000,
            recent_bytes: 64 << 20,
        }
    }
}

/// Who sends: a terminal in one of its lives, as settled at Hello.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionKey {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its clock was found more than a day off (see [`HandshakeState::clock_suspect`]).
    pub clock_suspect: bool,
}

/// What is to be done about a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Handled {
    /// Journal the record; once it is durable, ack up to `upto` and tell the refusals.
    Journal {
        /// What to journal. Its effects are in the shard already.
        record: Record,
        /// Last sequence number of the frame.
        upto: Seq,
        /// Events that were refused.
        refusals: Vec<(Seq, Reason)>,
        /// Events that had taken effect before.
        duplicates: u32,
    },
    /// Every event is known: nothing to journal. Ack up to `upto` once all records before are durable. Later numbers may
    /// be known too; what became of them is told when they come.
    Known {
        /// Last sequence number of the frame.
        upto: Seq,
    },
    /// Events are missing before the frame; it was not taken.
    Gap {
        /// The sequence number that comes next.
        expected: Seq,
    },
    /// The terminal has a newer epoch; the frame was not taken. Of a record that was handed off: it is forgotten how far its
    /// epoch had come.
    Closed,
    /// Of a record that was handed off: something else stands in its place, from this event on. Nothing of it was taken.
    Conflict {
        /// The first event that is another one here.
        seq: Seq,
    },
    /// The store is not registered; the frame was not taken.
    Unregistered,
}

/// Whole stores with their terminals, SKUs and sums.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    actors: Actors,
    contributor: Contributor,
    /// What the batch at hand touches.
    touched: Touched,
    event_ids: EventIds,
    names: NameBook,
    /// Rows of the quarantine that changed since the last take; `None` deletes.
    quarantine: Map<QuarantineKey, Option<QuarantineRow>>,
    /// What was taken out of the quarantine and may still be in the rows, with the generation of the take that deletes it.
    retried: Map<QuarantineKey, u32>,
    terminals_dirty: Vec<u64>,
    stores_dirty: Vec<u32>,
    /// Newest generation whose rows are written.
    flushed: u32,
    counters: Counters,
    violations: Violations,
}

impl Shard {
    /// An empty shard. Stores come in with their first record, from `Rows` or by registration.
    pub fn new(config: ShardConfig) -> Self {
        Self {
            config,
            actors: Actors {
                generation: 1,
                recent: Recent::new(config.recent_bytes),
                ..Actors::default()
            },
            contributor: Contributor::default(),
            touched: Touched::default(),
            event_ids: EventIds::default(),
            names: NameBook::default(),
            quarantine: Map::default(),
            retried: Map::default(),
            terminals_dirty: Vec::new(),
            stores_dirty: Vec::new(),
            flushed: 0,
            counters: Counters::default(),
            violations: Violations::default(),
        }
    }

    /// What was done with events since the start.
    pub fn counters(&self) -> Counters {
        Counters {
            activations: self.actors.activations,
            counts_from_facts: self.actors.counts_from_facts,
            ..self.counters
        }
    }

    /// Invariants that were found broken since the start.
    pub fn violations(&mut self) -> &Violations {
        if !self.counters.adds_up() {
            self.violations.count(InvariantId::Cnt1);
        }
        &self.violations
    }

    /// SKUs and sums in memory.
    pub fn actors(&self) -> usize {
        self.actors.skus.len() + self.actors.rollups.len()
    }

    /// Bytes that the newest movements take.
    pub fn recent_bytes(&self) -> usize {
        self.actors.recent.bytes()
    }

    /// Stores in memory: those of which something came since the start or their takeover.
    pub fn stores(&self) -> usize {
        self.actors.stores.len()
    }

    /// Terminals in memory.
    pub fn terminals(&self) -> usize {
        self.actors.terminals.len()
    }

    /// Rows that wait for a flush, about.
    pub fn dirty_rows(&self) -> usize {
        self.actors.skus.dirty_len()
            + self.actors.rollups.dirty_len()
            + self.terminals_dirty.len()
            + self.stores_dirty.len()
            + self.event_ids.len()
            + self.quarantine.len()
    }

    fn touch_terminal(&mut self, terminal: u64, generation: u32) {
        if let Some(actor) = self.actors.terminals.get_mut(&terminal) {
            actor.stamp.generation = generation;
            if !std::mem::replace(&mut actor.stamp.dirty, true) {
                self.terminals_dirty.push(terminal);
            }
        }
    }

    fn touch_store(&mut self, store: u32) {
        if let Some(actor) = self.actors.stores.get_mut(&store)
            && !std::mem::replace(&mut actor.dirty, true)
        {
            self.stores_dirty.push(store);
        }
    }
}

#[cfg(test)]
mod tests;
