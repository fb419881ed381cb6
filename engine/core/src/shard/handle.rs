//! The one door for events: from a device, or from the journal of another engine.

use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::{Handled, SessionKey, Shard};
use crate::record::Record;
use crate::row::{Names, Rows, RowsError};

/// A frame of a device, as it turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// Understood.
    Batch(&'a Verified),
    /// Its bytes arrived whole and make no sense: all its events are refused, and their sequence numbers are used up.
    Unreadable {
        /// Sequence number of its first event.
        first_seq: Seq,
        /// Number of its events.
        count: u32,
        /// Why they are refused.
        reason: Reason,
    },
}

/// Where events come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A device sends a frame in its session.
    Device {
        /// When it was received.
        now: Timestamp,
        /// Who sends.
        session: SessionKey,
        /// What.
        frame: Frame<'a>,
    },
    /// A record that another engine journalled and did not commit. It is a resend at its own (terminal, epoch, seq), in its
    /// own epoch, closed or not; what its engine found out from outside (receipt, refusals, masks, clock) stays.
    Handoff(&'a Record),
}

impl<'a> Origin<'a> {
    /// A batch of a device.
    pub const fn batch(now: Timestamp, session: SessionKey, batch: &'a Verified) -> Self {
        Self::Device {
            now,
            session,
            frame: Frame::Batch(batch),
        }
    }
}

impl Shard {
    /// Decides what events mean and applies them. The record in the answer is to be journalled before anything is acked; until
    /// then nothing that this shard says may leave.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row, name or fact could not be read, and for a record that this software could not have
    /// written. Nothing has changed then; the same may come again.
    pub fn handle(
        &mut self,
        origin: Origin<'_>,
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        match origin {
            Origin::Device {
                now,
                session,
                frame: Frame::Batch(batch),
            } => self.handle_batch(now, session, batch, rows, names),
            Origin::Device {
                now,
                session,
                frame:
                    Frame::Unreadable {
                        first_seq,
                        count,
                        reason,
                    },
            } => self.handle_unreadable(now, session, (first_seq, count, reason), rows),
            Origin::Handoff(record) => self.handle_handoff(record, rows, names),
        }
    }
}
