//! What a device is told of how far the engine is.

use till_protocol::id::Seq;
use till_protocol::reply::Ack;

use super::Oracle;

/// The highest numbers that one stream has told. A device keeps the highest itself, and would hide that one fell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acknowledged {
    journalled: u64,
    committed: u64,
}

impl Oracle {
    /// A device hears an ack on a stream on which it was told this before. Gives what it was told by now.
    pub(crate) fn delivers(&mut self, before: Acknowledged, ack: &Ack) -> Acknowledged {
        let now = Acknowledged {
            journalled: ack.journalled.map_or(0, Seq::get),
            committed: ack.committed.map_or(0, Seq::get),
        };
        let shard_crashes = now.journalled < before.journalled || now.committed < before.committed;
        if shard_crashes || now.committed > now.journalled {
            self.fail("ACK-2", format!("an ack says {now:?}, after {before:?}"));
        }
        now
    }
}
