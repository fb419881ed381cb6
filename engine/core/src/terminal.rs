//! The actor of a terminal: its lives, its sequence window, its totals.

use crate::rollup::add_totals;
use crate::row::{EpochProgress, TerminalRow, Totals};
use crate::table::Stamp;

/// Epochs that a terminal's row remembers. Of an epoch that is older than all of them it is unknown how much of it is here:
/// see [`TerminalRow::has_forgotten`].
pub const EPOCHS_MAX: usize = 1_024;

/// Where a frame stands in its terminal's sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Window {
    /// It begins with the expected event, or before it: the first `skip` events are known.
    Next {
        /// Events that took effect before.
        skip: u32,
    },
    /// Every event of it is known.
    Known,
    /// Events are missing before it.
    Gap {
        /// The sequence number that comes next.
        expected: u64,
    },
    /// The terminal has a newer epoch; of a record: its epoch is forgotten.
    Closed,
}

impl TerminalRow {
    /// The newest epoch; 0 when there was none.
    pub fn latest_epoch(&self) -> u32 {
        self.epochs.last().map_or(0, |progress| progress.epoch)
    }

    /// What is known of an epoch.
    pub fn epoch(&self, epoch: u32) -> Option<&EpochProgress> {
        self.epochs
            .iter()
            .rev()
            .find(|progress| progress.epoch == epoch)
    }

    /// Whether an epoch may have had events although nothing is known of it any more.
    pub fn has_forgotten(&self, epoch: u32) -> bool {
        let oldest = self.epochs.first().map_or(0, |progress| progress.epoch);
        self.epochs.len() >= EPOCHS_MAX && epoch < oldest
    }

    /// The sequence number that comes next in an epoch: 1 in one that is new.
    pub fn next_seq(&self, epoch: u32) -> u64 {
        self.epoch(epoch).map_or(1, |progress| progress.next_seq)
    }

    /// Where `count` events from `first_seq` stand that a device sends.
    pub fn window(&self, epoch: u32, first_seq: u64, count: u32) -> Window {
        if epoch < self.latest_epoch() {
            return Window::Closed;
        }
        self.window_of_record(epoch, first_seq, count)
    }

    /// Where `count` events from `first_seq` stand that a record has: an epoch that is over is continued at its own number.
    /// [`Window::Closed`] says of an epoch that it is forgotten how far it has come.
    pub fn window_of_record(&self, epoch: u32, first_seq: u64, count: u32) -> Window {
        if self.has_forgotten(epoch) {
            return Window::Closed;
        }
        let expected = self.next_seq(epoch);
        let end = first_seq.saturating_add(u64::from(count));
        if expected < first_seq {
            return Window::Gap { expected };
        }
        if end <= expected {
            return Window::Known;
        }
        let skip = u32::try_from(expected - first_seq).unwrap_or(count);
        Window::Next { skip }
    }

    /// Takes an epoch up to `next_seq`, where it was not there before.
    pub(crate) fn advance(&mut self, epoch: u32, next_seq: u64, digest: u64) {
        if let Some(known) = self
            .epochs
            .iter_mut()
            .rev()
            .find(|progress| progress.epoch == epoch)
        {
            if known.next_seq < next_seq {
                (known.next_seq, known.digest) = (next_seq, digest);
            }
            return;
        }
        let at = self.epochs.partition_point(|known| known.epoch < epoch);
        self.epochs.insert(
            at,
            EpochProgress {
                epoch,
                next_seq,
                digest,
            },
        );
        if self.epochs.len() > EPOCHS_MAX {
            self.epochs.remove(0);
        }
    }

    /// Adds a completed sale of a business day. A newer day begins a new shift; an older one is in the totals alone.
    pub(crate) fn add_sale(&mut self, day: u16, totals: &Totals) {
        add_totals(&mut self.totals, totals);
        if self.shift_day < day {
            self.shift_day = day;
            self.shift = Totals::default();
        }
        if day == self.shift_day {
            add_totals(&mut self.shift, totals);
        }
    }
}

/// A terminal in memory.
#[derive(Debug, Default)]
pub(crate) struct TerminalActor {
    pub(crate) row: TerminalRow,
    pub(crate) stamp: Stamp,
    /// Newest life that was granted; it is in the row once its first event is.
    pub(crate) granted: u32,
    /// SKU ids and tender keys whose names collided in this session, sorted.
    pub(crate) collided: Vec<u64>,
}

impl TerminalActor {
    /// Whether it remembers something that its row does not hold.
    pub(crate) fn is_pinned(&self) -> bool {
        self.granted > self.row.latest_epoch() || !self.collided.is_empty()
    }
}

#[cfg(test)]
mod tests;
