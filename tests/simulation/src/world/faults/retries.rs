//! An operator who wants decided again what was quarantined.

use till_runtime::{Retried, RetryAllError};

use crate::coverage::Sight;
use crate::world::{Event, World};

impl World {
    /// The operator looks at the quarantine.
    pub(in crate::world) fn retry(&mut self, n: usize) {
        self.again(self.plan.retry_every, Event::Retry(n));
        if self.is_calm {
            return;
        }
        let applied = self.decide_again(n);
        // Nobody waits for the first answer before asking again.
        if applied > 0 && self.rng.one_in(3) {
            self.decide_again(n);
        }
        if applied > 0 && self.rng.one_in(2) {
            let operations = self.rng.within(0, 8);
            self.nodes[n].disk.stop_after(operations);
        }
    }

    /// Whether at the very end something that was quarantined has found its place, so that rows are still to be written. Of
    /// several engines each decides what is of its slots.
    pub(in crate::world) fn has_retried(&mut self) -> bool {
        let engines = if self.plan.mix.huge > 0 {
            self.nodes.len()
        } else {
            0
        };
        let applied: u64 = (0..engines).map(|n| self.decide_again(n)).sum();
        applied > 0
    }

    // Gives how many took effect.
    fn decide_again(&mut self, n: usize) -> u64 {
        let is_shared = self.shared.is_some();
        let member = self.nodes[n].member.as_ref();
        if member.is_some_and(|member| member.way.is_parted()) {
            // It cannot read the quarantine.
            return 0;
        }
        let Some(engine) = &mut self.nodes[n].engine else {
            return 0;
        };
        let applied = match engine.retry_quarantine() {
            Ok(Ok(Retried {
                applied,
                quarantined,
            })) => {
                self.coverage.saw_times(Sight::Retried, applied);
                // Of several engines it also tells of what another one decides.
                let stays = if is_shared { 0 } else { quarantined };
                self.coverage.saw_times(Sight::StillQuarantined, stays);
                applied
            }
            // It could not be read, and is tried again; some of it may have been decided.
            Ok(Err(RetryAllError::Store(_) | RetryAllError::Retry(_))) if !self.is_calm => 1,
            Ok(Err(error)) => {
                self.oracle.fail("LIV-1", format!("no retry: {error}"));
                return 0;
            }
            Err(halt) => {
                self.halted(n, &halt);
                return 0;
            }
        };
        if applied > 0 {
            let engine = self.nodes[n].engine.as_ref();
            self.nodes[n].retried_at = engine.map(|engine| engine.journal().end());
            self.engine_moved(n);
        }
        applied
    }
}
