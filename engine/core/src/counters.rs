//! What a shard did with the events it was handed, since it started.

/// Counts of events. `received` is always the sum of `applied`, `duplicate`, `refused` and `quarantined`.
///
/// Frames that are not taken (a gap, a closed epoch) come again and are counted apart, as frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Events in frames that were taken or known.
    pub received: u64,
    /// Events that took effect.
    pub applied: u64,
    /// Events that had taken effect before: resent, or the same event id and content.
    pub duplicate: u64,
    /// Events that were refused with a reason.
    pub refused: u64,
    /// Events that were made durable and quarantined.
    pub quarantined: u64,
    /// Movements of applied events that wait for a parked SKU.
    pub movements_waiting: u64,
    /// Frames that began beyond the expected sequence number.
    pub frames_gap: u64,
    /// Frames of an epoch that is closed.
    pub frames_closed: u64,
    /// Sales whose tenders do not pay what is due.
    pub unbalanced: u64,
    /// Events of the past that were applied again by recovery; not part of `received`.
    pub replayed: u64,
    /// Rows that were read back because they were not in memory.
    pub activations: u64,
    /// Actors that were dropped from memory.
    pub passivations: u64,
    /// Late counts that were computed from the journal, because memory did not reach back far enough.
    pub counts_from_facts: u64,
}

impl Counters {
    /// Whether every received event has exactly one outcome (invariant CNT-1).
    pub const fn adds_up(&self) -> bool {
        self.received == self.applied + self.duplicate + self.refused + self.quarantined
    }

    /// Adds another shard's counts.
    pub const fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.applied += other.applied;
        self.duplicate += other.duplicate;
        self.refused += other.refused;
        self.quarantined += other.quarantined;
        self.movements_waiting += other.movements_waiting;
        self.frames_gap += other.frames_gap;
        self.frames_closed += other.frames_closed;
        self.unbalanced += other.unbalanced;
        self.replayed += other.replayed;
        self.activations += other.activations;
        self.passivations += other.passivations;
        self.counts_from_facts += other.counts_from_facts;
    }
}
