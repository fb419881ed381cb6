//! New numbers for events that were handed off and have no place at their own.

use till_protocol::id::{Epoch, TerminalId};

use super::Shard;
use super::handoff::sender_of;
use crate::record::{Outcome, Record, RecordHead, Verdict};
use crate::row::{Rows, RowsError};
use crate::terminal::Window;

impl Shard {
    /// The next epoch of a terminal, taken for events that have no position in theirs: no device is granted it from here on.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row could not be read.
    pub fn take_epoch(
        &mut self,
        terminal: TerminalId,
        rows: &dyn Rows,
    ) -> Result<Option<Epoch>, RowsError> {
        if self.actors.store(terminal.store(), rows)?.is_none() {
            return Ok(None);
        }
        let actor = self.actors.terminal(terminal, rows)?;
        let number = actor
            .row
            .latest_epoch()
            .max(actor.granted)
            .saturating_add(1);
        actor.granted = number;
        Ok(Epoch::new(number).ok())
    }

    /// A record that has no position at its own numbers, as one of another epoch, from number 1 on. What it skips, and what is here
    /// under its own numbers, is a duplicate in it. The same again as long as nothing more of it is here.
    ///
    /// # Errors
    /// See [`Shard::handle`].
    pub fn renumbered(
        &mut self,
        record: &Record,
        epoch: Epoch,
        rows: &dyn Rows,
    ) -> Result<Record, RowsError> {
        let head = &record.head;
        let (session, _) = sender_of(record)?;
        let actor = self.actors.terminal(session.terminal, rows)?;
        actor.granted = actor.granted.max(epoch.get());
        let fresh = head.count - head.skip;
        let first_new = head.first_seq + u64::from(head.skip);
        let known = match actor.row.window_of_record(head.epoch, first_new, fresh) {
            Window::Next { skip } => skip,
            Window::Known => fresh,
            Window::Gap { .. } | Window::Closed => 0,
        };
        let same = self.equal_ones(record, known, rows)?;
        let here = (head.skip..).zip(same).filter(|(_, is_same)| *is_same);
        let mut verdicts: Vec<Verdict> = (0..head.skip)
            .chain(here.map(|(index, _)| index))
            .map(duplicate)
            .collect();
        let others = record.verdicts.iter().filter(|own| {
            let is_taken = verdicts.binary_search_by_key(&own.index, |one| one.index);
            is_taken.is_err()
        });
        let others: Vec<Verdict> = others.copied().collect();
        verdicts.extend(others);
        verdicts.sort_unstable_by_key(|verdict| verdict.index);
        Ok(Record {
            head: RecordHead {
                epoch: epoch.get(),
                first_seq: 1,
                skip: 0,
                ..*head
            },
            payload: record.payload.clone(),
            verdicts,
        })
    }
}

const fn duplicate(index: u32) -> Verdict {
    Verdict {
        index,
        outcome: Outcome::Duplicate,
        reason: 0,
        flags: 0,
    }
}
