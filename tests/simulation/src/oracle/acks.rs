//! What a device is told of how far the engine is.

use till_protocol::id::Seq;
use till_protocol::reply::Ack;

use super::Oracle;

/// The highest numbers that one stream has told. A device keeps the highest itself, and would hide that one fell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    journalled: u64,
    committed: u64,
}

impl Oracle {
    /// A device hears an ack on a stream on which it was told this before. Gives what it was told by now.
    pub(crate) fn hears(&mut self, before: Told, ack: &Ack) -> Told {
        let now = Told {
            journalled: ack.journalled.map_or(0, Seq::get),
            committed: ack.committed.map_or(0, Seq::get),
        };
        let falls = now.journalled < before.journalled || now.committed < before.committed;
        if falls || now.committed > now.journalled {
            self.fail("ACK-2", format!("an ack says {now:?}, after {before:?}"));
        }
        now
    }
}
