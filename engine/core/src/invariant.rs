//! The catalogue of what must always hold, and the count of what did not.
//!
//! A broken invariant is never a panic: the check stays on in release, is counted by id and shown, and at most the one
//! actor that it concerns is parked. The shard goes on.

macro_rules! catalogue {
    ($($name:ident = $id:literal, $sentence:literal;)*) => {
        /// An invariant of Tillstream. The same ids name tests, metrics and sections of the runbook.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum InvariantId {
            $(#[doc = $sentence] $name,)*
        }

        impl InvariantId {
            /// All invariants, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The short id, such as SEQ-1.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What must hold, in one sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

catalogue! {
    Seq1 = "SEQ-1", "accepted sequence numbers of one terminal and epoch are gapless and rise by one";
    Seq2 = "SEQ-2", "a sequence number is applied at most once, across restarts";
    Ack1 = "ACK-1", "no ack leaves before the sync that covers its record";
    Ack2 = "ACK-2", "the watermark told to a device never falls";
    Dec1 = "DEC-1", "an event takes effect, unless it is no event, is known, or has the id of another one";
    Led1 = "LED-1", "the rows of a sale by tender, category and operator add up to its row by store";
    Led2 = "LED-2", "shift total = sum of its accepted tickets";
    Cnt1 = "CNT-1", "received = applied + duplicate + refused + quarantined";
    Stk1 = "STK-1", "stock level = last count + movements since";
    Rte1 = "RTE-1", "a store belongs to exactly one shard, and is registered before its first event";
    Jrn1 = "JRN-1", "journal positions are contiguous; only the tail may be torn";
    Jrn2 = "JRN-2", "a record that was decided here can be read and applied here";
    Sto1 = "STO-1", "the store equals the fold of the journal up to its watermark";
    Lim1 = "LIM-1", "admitted and unanswered batches of a shard <= permits of that shard";
    Rep1 = "REP-1", "replay of a shard's records gives the state that the live run had";
}

/// How often each invariant was found broken since the shard started. All zero, always.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Violations {
    counts: Vec<(InvariantId, u64)>,
}

impl Violations {
    /// Counts a broken invariant.
    pub fn count(&mut self, id: InvariantId) {
        if let Some(found) = self.counts.iter_mut().find(|(known, _)| *known == id) {
            found.1 += 1;
        } else {
            self.counts.push((id, 1));
            self.counts.sort_unstable();
        }
    }

    /// Checks an invariant, counts it when it is broken, and says whether it holds.
    #[must_use = "a broken invariant needs an answer from the actor that it concerns"]
    pub fn holds(&mut self, id: InvariantId, holds: bool) -> bool {
        if !holds {
            self.count(id);
        }
        holds
    }

    /// The invariants that were broken, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (InvariantId, u64)> {
        self.counts.iter().copied()
    }

    /// Whether everything held.
    pub const fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}
