//! Frames that cannot be decided, because the shared store does not answer: journalled as they came, and acknowledged as
//! journalled. None of them counts before it is decided, and none is told committed.
//!
//! From the first of them on, every frame of the shard goes this way, so that all are decided in the order of their terminals.
//! How they are decided in the end: [`crate::cluster::Undecided`].

use std::sync::Arc;

use till_core::Handled;
use tokio::sync::oneshot;

use super::{Content, Done, Inbound, ShardState};
use crate::cluster::Undecided;
use crate::ingress::session::Session;

impl ShardState {
    /// What of this shard is not decided; `None` where the engine shares no store.
    pub(super) fn undecided(&self) -> Option<&Undecided> {
        self.engine.keeping.cluster()?.undecided(self.index)
    }

    /// From now on frames are journalled undecided. False where there is no shared store to wait for.
    pub(super) fn begin_to_defer(&self) -> bool {
        // What was journalled before may lie behind this; it is held to be undecided, which costs a handover and no more.
        let end = self.engine.journal.end();
        self.undecided().map(|one| one.begin(end)).is_some()
    }

    /// Journals frames as they came.
    pub(super) fn defer(&mut self, session: &Arc<Session>, frames: Vec<Inbound>) -> Done {
        frames
            .into_iter()
            .try_for_each(|frame| self.defer_one(session, frame))
    }

    fn defer_one(&mut self, session: &Arc<Session>, frame: Inbound) -> Done {
        let Some((key, frame)) = self.turn_to(session, frame) else {
            return Ok(());
        };
        let Inbound {
            content,
            permit,
            received,
        } = frame;
        let (now, expected) = (self.engine.now(), session.expected());
        let handled = match content {
            Content::Batch(batch) => self.shard.receive_batch(now, key, &batch, expected),
            Content::Unreadable {
                first_seq,
                count,
                reason,
            } => {
                let frame = (first_seq, count, reason);
                self.shard.receive_unreadable(now, key, frame, expected)
            }
        };
        let is_taken = matches!(handled, Handled::Journal { .. });
        self.answer(Arc::clone(session), Ok(handled), permit, received)?;
        if let Some(undecided) = self.undecided().filter(|_| is_taken) {
            undecided.add();
        }
        Ok(())
    }

    /// Decides frames again, if all that were journalled undecided are among the `decided`.
    pub(super) fn decide_again(&self, decided: u64, reply: oneshot::Sender<bool>) {
        let is_over = self.undecided().is_none_or(|one| one.close(decided));
        self.hold_back();
        // Whoever asked may have gone.
        let _gone = reply.send(is_over);
    }
}
