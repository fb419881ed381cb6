//! Event ids that are not flushed yet; the others are looked up.

use till_protocol::id::EventId;

use crate::hash::Map;
use crate::row::{EventIdRow, Rows, RowsError};

/// Event ids of the events that became durable since the last finished flush.
#[derive(Debug, Default)]
pub(crate) struct EventIds {
    /// With the generation of the take that has them.
    recent: Map<[u8; 16], (EventIdRow, u32)>,
    dirty: Vec<[u8; 16]>,
}

impl EventIds {
    /// What an id stands for.
    pub(crate) fn find(
        &self,
        id: &EventId,
        rows: &dyn Rows,
    ) -> Result<Option<EventIdRow>, RowsError> {
        match self.recent(id) {
            Some(row) => Ok(Some(row)),
            None => rows.event_id(id),
        }
    }

    /// What an id stands for, as far as that is known without rows.
    pub(crate) fn recent(&self, id: &EventId) -> Option<EventIdRow> {
        self.recent.get(&id.to_bytes()).map(|(row, _)| *row)
    }

    pub(crate) fn insert(&mut self, id: &EventId, row: EventIdRow, generation: u32) {
        #[cfg(feature = "planted")]
        if crate::planted::is("forget-event-ids") {
            return;
        }
        self.recent.insert(id.to_bytes(), (row, generation));
        self.dirty.push(id.to_bytes());
    }

    /// The rows that were not taken yet, sorted.
    pub(crate) fn take(&mut self) -> Vec<(EventId, EventIdRow)> {
        let mut ids = std::mem::take(&mut self.dirty);
        ids.sort_unstable();
        ids.dedup();
        ids.iter()
            .filter_map(|id| Some((EventId::from_bytes(*id), self.recent.get(id)?.0)))
            .collect()
    }

    /// Forgets what a finished flush has written.
    pub(crate) fn flushed(&mut self, generation: u32) {
        self.recent.retain(|_, (_, taken)| *taken > generation);
    }

    /// Forgets the ids of events of some stores, flushed or not.
    pub(crate) fn release(&mut self, has_left: impl Fn(u64) -> bool) {
        self.recent.retain(|_, (row, _)| !has_left(row.terminal));
        let recent = &self.recent;
        self.dirty.retain(|id| recent.contains_key(id));
    }

    pub(crate) fn len(&self) -> usize {
        self.recent.len()
    }
}
