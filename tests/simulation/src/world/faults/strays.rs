//! Writes that land elsewhere. What they should have saved is gone, and so is what they landed on: no engine can keep that. It
//! has to find it, and must never take the bytes for what they are not.

use till_runtime::{RecoveryError, StartError};
use till_storage::base::FoldError;
use till_storage::journal::{Lsn, OpenError, ReadError};

use crate::coverage::Sight;
use crate::world::World;

impl World {
    /// Whether a write of this engine's disk has landed elsewhere.
    pub(in crate::world) fn has_strayed(&self, n: usize) -> bool {
        self.nodes[n].disk.counts().strayed > 0
    }

    /// A journal could not be read back. True: a stray write explains it. The process ends, and the next start has to find it.
    pub(in crate::world) fn is_stray_read(&mut self, n: usize, error: &ReadError) -> bool {
        let is_stray = self.has_strayed(n) && matches!(error, ReadError::Damaged { .. });
        if is_stray {
            self.nodes[n].is_unlike = true;
            if let Some(engine) = &self.nodes[n].engine {
                self.oracle.read_upto = engine.journal().end().get();
            }
            self.end_process(n);
        }
        is_stray
    }

    /// Whether a start is refused because a write has landed elsewhere: the operator restores the folder from a copy.
    pub(in crate::world) fn is_stray_start(&self, n: usize, error: &StartError) -> bool {
        use OpenError as E;
        let StartError::Recovery(error) = error else {
            return false;
        };
        let is_found = match error {
            RecoveryError::Journal(error) => matches!(
                error,
                E::Damaged(_)
                    | E::Base(_)
                    | E::Missing { .. }
                    | E::Foreign(_)
                    | E::Misplaced { .. }
            ),
            // The journal opened before the write that strayed reached the disk: its replay finds what it landed on.
            RecoveryError::Fold(FoldError::Read(error)) => {
                matches!(error, ReadError::Damaged { .. })
            }
            _ => false,
        };
        is_found && self.has_strayed(n)
    }

    /// An engine has started on a journal that ends here. Only the last group may be gone: what lay before it is proven to have
    /// been durable by what was written after it.
    pub(in crate::world) fn look_at_loss(&mut self, n: usize, end: Lsn) {
        if !self.has_strayed(n) {
            return;
        }
        let lost = self
            .oracle
            .log
            .iter()
            .find(|entry| entry.position >= end.get());
        let lost = lost.map(|entry| entry.position);
        if let Some(lost) = lost.filter(|lost| *lost < self.nodes[n].last_group()) {
            let what = format!("records from {lost} on were durable, and are taken for torn");
            return self.oracle.fail("JRN-1", what);
        }
        if std::mem::take(&mut self.nodes[n].is_unlike) || lost.is_some() {
            self.saw(Sight::StrayLost);
        }
    }
}
