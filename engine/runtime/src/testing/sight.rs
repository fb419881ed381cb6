//! What is seen of a stepped engine.

use till_core::{Counters, InvariantId};
use till_storage::facts::Facts;
use till_storage::journal::Journal;

use crate::admission::AHEAD_MAX;
use crate::lifecycle::recovery::StartReport;
use crate::testing::Stepped;

impl Stepped {
    /// What the start found and did.
    pub const fn report(&self) -> &StartReport {
        &self.report
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.engine.journal
    }

    /// The facts in it.
    pub fn facts(&self) -> &Facts {
        &self.engine.facts
    }

    /// What all shards counted since the start.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for hosted in &self.shards {
            sum.add(&hosted.state.lock().shard.counters());
        }
        sum
    }

    /// Invariants that shards found broken since they started.
    pub fn violations(&self) -> Vec<(InvariantId, u64)> {
        let of_one = |hosted: &std::sync::Arc<super::Hosted>| {
            hosted
                .state
                .lock()
                .shard
                .violations()
                .iter()
                .collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_one).collect()
    }

    /// Frames that are held now, and those that may be; of the shard that holds most.
    pub fn frames_held(&self) -> (u32, u32) {
        let slots = self.engine.slots.iter();
        let held = slots.map(|slot| (slot.gate.in_use(), slot.gate.frames_max()));
        held.max().unwrap_or((0, 0))
    }

    /// Of each bound of what is held: its name, what is free of it now, and how much there is.
    pub fn room(&self) -> impl Iterator<Item = (&'static str, u32, u32)> + '_ {
        let bytes_max = self.engine.config.permits_bytes;
        self.engine.slots.iter().flat_map(move |slot| {
            let free = slot.gate.free();
            [
                ("frames", free.frames, slot.gate.frames_max()),
                ("events in front of a shard", free.ahead, AHEAD_MAX),
                ("bytes", free.bytes, bytes_max),
            ]
        })
    }

    /// Slots that this engine serves now, also to devices that come. Of an engine that is alone none.
    pub fn served(&self) -> Vec<u32> {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or_else(Vec::new, |cluster| cluster.served())
    }

    /// Whether the node is heard by the others, as far as it knows.
    pub fn is_alive(&self) -> bool {
        let cluster = self.engine.row_backend.cluster();
        cluster.is_none_or(|cluster| cluster.is_alive())
    }

    /// Rounds of the flush that were committed after their records could not be read back at first.
    pub fn rounds_reread(&self) -> u64 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.unread.went_on())
    }

    /// Position in the journal up to which the next start finds everything committed, or handed off.
    pub fn is_written(&self) -> u64 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.is_written().get())
    }
}
