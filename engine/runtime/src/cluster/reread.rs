//! What people are told of reads of the own journal that fail, and of their end.

use crate::cluster::backlog::HandoffError;
use till_storage::journal::ReadError;

use crate::cluster::node::Cluster;
use crate::cluster::unread::{UnreadKind, waiting};
use crate::lifecycle::engine::Engine;

impl Cluster {
    /// A read of the own journal has failed. It is told once, and again where it turns out to be worse.
    pub(super) fn note_unread(&self, engine: &Engine, of: u64, error: &ReadError) {
        if !self.unread.note(of, error) {
            return;
        }
        let what = waiting(of);
        tracing::error!(%error, "{what}; it is read again, and nothing is skipped");
        let hint = UnreadKind::of(error).hint();
        engine.figures.problem(&format!("{what}: {error}"), hint);
    }

    /// It has worked.
    pub(super) fn note_read(&self, of: u64) {
        if let Some(failing) = self.unread.lasting.lock().remove(&of) {
            let tries = failing.tries;
            tracing::info!(tries, "what could not be read of the journal was read");
        }
    }

    /// How a handoff of this number went, as far as its journal is concerned.
    pub(super) fn note_handoff(&self, engine: &Engine, of: u64, done: Option<&HandoffError>) {
        match done {
            None => self.note_read(of),
            Some(HandoffError::Read(error)) => self.note_unread(engine, of, error),
            // It may have come as far as the journal goes, or not: what was said of that still holds.
            Some(HandoffError::Store(_)) => {}
        }
    }
}
