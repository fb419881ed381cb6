//! Records of the past: recovery and rebuild. Where a record has its place it is prefetched and applied, as in a live run; there is
//! nothing to decide.

use till_protocol::codec::Frame;
use till_protocol::id::{StoreId, TerminalId};
use till_protocol::verified::Verified;

use super::Shard;
use super::touch::Scope;
use crate::invariant::InvariantId;
use crate::record::{Record, RecordKind};
use crate::row::{Rows, RowsError};
use crate::store::{Registration, StoreActor};
use crate::terminal::Window;

/// What became of a record of the past.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Replayed {
    /// The shard holds it, now or since before.
    Held,
    /// It fits nowhere: its terminal had come to other events under its sequence numbers, or to a newer epoch. Nothing of it
    /// was applied.
    Nowhere,
}

impl Shard {
    /// Applies a record of the journal as it was decided: the fold that a live run ends in. Records that the store's rows
    /// hold already (its `applied` is not below `position`) change nothing.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row could not be read, or when the record is none that this software could have
    /// written. Nothing has changed then.
    pub fn replay(
        &mut self,
        position: u64,
        record: &Record,
        rows: &dyn Rows,
    ) -> Result<Replayed, RowsError> {
        match record.head.kind {
            RecordKind::StoreRegistered => {
                self.replay_registration(position, record, rows)?;
                return Ok(Replayed::Held);
            }
            RecordKind::SkuAlias | RecordKind::BaseRow => return Ok(Replayed::Held),
            RecordKind::Batch
            | RecordKind::Tombstones
            | RecordKind::Duplicates
            | RecordKind::Retry => {}
        }
        let terminal = TerminalId::from_u64(record.head.terminal)
            .map_err(|error| unreadable(position, &error.to_string()))?;
        let store = terminal.store();
        let Some(actor) = self.actors.store(store, rows)? else {
            self.violations.count(InvariantId::Rte1);
            return Err(unreadable(
                position,
                &format!("store {store} is not registered before it"),
            ));
        };
        let is_held = actor.row.applied >= position;
        #[cfg(feature = "planted")]
        let is_held = is_held && !crate::planted::is("apply-twice");
        if is_held {
            return Ok(Replayed::Held);
        }
        self.actors.terminal(terminal, rows)?;
        #[cfg(feature = "planted")]
        if record.head.kind == RecordKind::Retry && crate::planted::is("forget-retries") {
            return Ok(Replayed::Held);
        }
        let replayed = self.replay_events(position, record, terminal, rows)?;
        if let Some(actor) = self.actors.stores.get_mut(&store.get()) {
            actor.row.applied = actor.row.applied.max(position);
        }
        Ok(replayed)
    }

    fn replay_events(
        &mut self,
        position: u64,
        record: &Record,
        terminal: TerminalId,
        rows: &dyn Rows,
    ) -> Result<Replayed, RowsError> {
        let head = &record.head;
        let is_retry = head.kind == RecordKind::Retry;
        if !is_retry && !self.has_place(record) {
            self.violations.count(InvariantId::Seq2);
            return Ok(Replayed::Nowhere);
        }
        let scope = Scope::of(terminal.store(), head);
        let verified = match head.kind {
            RecordKind::Batch | RecordKind::Retry => Some(read_back(position, record)?),
            _ => None,
        };
        let view = verified.as_ref().map(Verified::view);
        self.touched.clear();
        if let Some(view) = &view {
            self.prefetch_record((position, record), view, &scope, rows)?;
        }
        self.apply(record, view.as_ref(), &scope);
        if !is_retry {
            self.counters.replayed += u64::from(head.count - head.skip);
        }
        Ok(Replayed::Held)
    }

    // Whether the events of a record come next in their terminal's epoch.
    fn has_place(&mut self, record: &Record) -> bool {
        let head = &record.head;
        let window = self.actors.terminals.get(&head.terminal).map_or(
            Window::Next { skip: head.skip },
            |actor| {
                let row = &actor.row;
                row.window_of_record(head.epoch, head.first_seq, head.count)
            },
        );
        match window {
            Window::Next { skip } if skip == head.skip => {}
            // A salvaged journal has gaps; what is left of it is applied. What was known when the record was decided may lie
            // in a gap, too.
            Window::Gap { .. } => self.violations.count(InvariantId::Seq1),
            Window::Next { skip } if skip < head.skip => self.violations.count(InvariantId::Seq1),
            #[cfg(feature = "planted")]
            Window::Known if crate::planted::is("apply-twice") => {}
            Window::Next { .. } | Window::Known | Window::Closed => return false,
        }
        true
    }

    fn replay_registration(
        &mut self,
        position: u64,
        record: &Record,
        rows: &dyn Rows,
    ) -> Result<(), RowsError> {
        let number = u32::try_from(record.head.terminal >> 32).unwrap_or(0);
        let store =
            StoreId::new(number).map_err(|error| unreadable(position, &error.to_string()))?;
        if self.actors.store(store, rows)?.is_some() {
            return Ok(());
        }
        let Some(registration) = Registration::decode(&record.payload) else {
            return Err(unreadable(position, "its registration is cut short"));
        };
        let actor = StoreActor::registered(&record.head, registration, position)
            .map_err(|error| unreadable(position, &error.to_string()))?;
        self.insert_store(store, actor);
        Ok(())
    }
}

pub(super) fn unreadable(position: u64, cause: &str) -> RowsError {
    RowsError {
        table: "journal",
        cause: format!("record at {position}: {cause}"),
    }
}

/// Reads the events of a record back.
pub(super) fn read_back(position: u64, record: &Record) -> Result<Verified, RowsError> {
    let head = &record.head;
    let payload = record.payload.clone();
    let frame = Frame::new(
        head.family,
        head.version,
        head.count,
        head.first_seq,
        payload,
    )
    .map_err(|error| unreadable(position, &error.to_string()))?;
    Verified::from_journal(frame).map_err(|error| unreadable(position, &error.to_string()))
}
