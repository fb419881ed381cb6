//! Stores that are served elsewhere: their devices are told so, and nothing of them is applied any more.

use crate::shard::message::Which;
use std::sync::Arc;

use crate::admission::Permit;
use crate::commit::Companion;
use crate::ingress::session::Session;
use crate::ingress::session::farewell::Farewell;
use crate::shard::state::ShardState;

impl ShardState {
    /// Ends the sessions of some stores behind the last of their frames that was taken.
    pub(super) fn evict(&self, which: &Which) {
        let last = |session: Arc<Session>| {
            let last = self.engine.moved_away(session.terminal().store())?;
            Some((session, last))
        };
        let sessions = self.slot.sessions_of(&**which);
        let left: Vec<_> = sessions.into_iter().filter_map(last).collect();
        if left.is_empty() {
            return;
        }
        for (session, _) in &left {
            session.stop();
        }
        self.marker(Companion::Left(left));
    }

    /// A frame of a store that is served elsewhere is not taken; its session ends behind those before it.
    pub(super) fn turn_away(&self, session: &Arc<Session>, last: Farewell, permit: Permit) {
        session.stop();
        self.marker(Companion::Bye(Arc::clone(session), last, permit));
    }
}
