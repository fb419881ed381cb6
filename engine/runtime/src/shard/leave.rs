//! Stores that are served elsewhere: their devices are told so, and nothing of them is applied any more.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use till_core::{RetryError, RowsError};
use till_protocol::id::{StoreId, TerminalId};

use super::ShardState;
use crate::admission::Permit;
use crate::commit::Companion;
use crate::ingress::session::{Farewell, Session};
use crate::lifecycle::engine::Engine;

/// Some stores.
#[derive(Clone)]
pub(crate) struct Which(Arc<dyn Fn(StoreId) -> bool + Send + Sync>);

impl Which {
    pub(crate) fn new(which: impl Fn(StoreId) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(which))
    }
}

impl Deref for Which {
    type Target = dyn Fn(StoreId) -> bool + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Which")
    }
}

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

/// What is said to somebody who wants a quarantined event of a store decided that is served elsewhere.
pub(super) fn gone(engine: &Engine, terminal: u64) -> Option<RetryError> {
    let store = TerminalId::from_u64(terminal).ok()?.store();
    engine.moved_away(store)?;
    Some(RetryError::Rows(RowsError {
        table: "stores",
        cause: format!("store {store} is served by another engine"),
    }))
}
