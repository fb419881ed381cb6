//! What an engine is told that shares the stores of a chain with others.

use std::sync::atomic::Ordering;

use till_protocol::id::StoreId;
use till_storage::cluster::InboxId;
use till_storage::views::StoreError;

use crate::cluster::stranded::{ReleaseError, Stranded, release, stranded};
use crate::cluster::watched::Sight;
use crate::config::shared::CqlConfig;
use crate::lifecycle::runtime::Handle;
use crate::shard::message::{ShardMessage, Which};

/// What was acknowledged, is durable, and is in no row when an engine has drained; of one with rows of its own there is
/// none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeftOver {
    /// Records that were handed off through the shared store: they count once the owners of their slots have taken them in.
    pub handed_off: u64,
    /// The journal has records that the shared store does not have: they count after the next start on it.
    pub in_journal: bool,
}

impl Handle {
    /// Where the shared store is; `None` for an engine with rows of its own.
    pub fn shared_store(&self) -> Option<&CqlConfig> {
        self.engine.config.shared.as_ref().map(|shared| &shared.cql)
    }

    /// Whether the shared store answers at all, by a question that costs it next to nothing; an engine with rows of its own
    /// has none to ask. Blocks: for threads that may.
    ///
    /// # Errors
    /// [`StoreError`] with what it said.
    pub fn ask_store(&self) -> Result<(), StoreError> {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(Ok(()), |one| one.store.known_chain_key().map(drop))
    }

    /// Slots that the stores of the chain are dealt to; 0 for an engine with rows of its own.
    pub fn slots(&self) -> u32 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.store.slots())
    }

    /// Slots of a shared store that this engine should serve; 0 for an engine with rows of its own.
    pub fn wanted_slots(&self) -> u32 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.wanted_slots())
    }

    /// What was seen of the shared store; `None` for an engine with rows of its own.
    pub fn sight(&self) -> Option<Sight> {
        self.engine.watched.as_ref().map(|watched| watched.sight())
    }

    /// Records that other engines handed off and that have no place, of slots that are served here.
    pub fn stranded(&self) -> u64 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.stranded())
    }

    /// Shows the records of the inbox that have no place, of all slots. Blocks: for threads that may.
    ///
    /// # Errors
    /// [`StoreError`] when the shared store does not answer.
    pub fn list_stranded(&self) -> Result<Vec<Stranded>, StoreError> {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(Ok(Vec::new()), |one| stranded(one.store.as_ref()))
    }

    /// Releases a stranded record under an epoch of its terminal that no device is granted; gives that epoch. The same again
    /// changes nothing. Blocks: for threads that may.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn release_stranded(&self, record: &InboxId) -> Result<u32, ReleaseError> {
        release(&self.engine, record)
    }

    /// What a [drain](Self::drain) that has ended well left in no row.
    pub fn left_over(&self) -> LeftOver {
        let cluster = self.engine.row_backend.cluster();
        let (handed_off, in_journal) = cluster.map_or((0, false), |one| one.left_over());
        LeftOver {
            handed_off,
            in_journal,
        }
    }

    /// Names in memory whose rows are not written: they can't be forgotten before.
    pub fn names_unwritten(&self) -> u64 {
        self.engine.names.unwritten()
    }

    /// Devices that were told of another engine.
    pub fn redirects(&self) -> u64 {
        self.engine
            .figures
            .ingress
            .redirects
            .load(Ordering::Relaxed)
    }

    /// Slots of a shared store that this engine serves now; `None` for an engine with rows of its own.
    pub fn open_slots(&self) -> Option<usize> {
        let cluster = self.engine.row_backend.cluster()?;
        Some(cluster.open_slots())
    }

    /// Says that everything which some stores have in the journal up to an LSN is committed; devices are told. Places of a
    /// store never fall. Say it of stores without anything new too: a device that says again what is known waits for the
    /// next place. An engine that [commits with its journal](crate::Commits::WithJournal) takes no notice.
    pub fn committed(&self, which: &dyn Fn(StoreId) -> bool, upto: u64) {
        for slot in &self.engine.slots {
            for session in slot.sessions_of(which) {
                session.committed_upto(upto);
            }
        }
    }

    /// Ends the sessions of stores that are not served here any more, of those that `which` names: devices are told where
    /// to go. Frames that the shards had turned to are answered before; others are dropped, and come again elsewhere.
    /// Does not wait. Where commits come apart, a session waits for its last one first, up to half the time of a drain.
    pub fn evict(&self, which: impl Fn(StoreId) -> bool + Send + Sync + 'static) {
        let which = Which::new(which);
        for slot in &self.engine.slots {
            let which = which.clone();
            // A shard that is down has no sessions.
            let _down = slot.send(ShardMessage::Evict { which });
        }
    }

    /// Lets the shards forget stores, behind all that they were told before. Whoever wants to lose nothing of them has made
    /// the placement say that they are elsewhere, and flushed since.
    pub async fn release(&self, which: impl Fn(StoreId) -> bool + Send + Sync + 'static) {
        let which = Which::new(which);
        let mut released = Vec::new();
        for slot in &self.engine.slots {
            // A shard that is down forgets them before anything else when it starts again.
            released.extend(slot.release(&which));
        }
        for done in released {
            // One that fell in the meantime has forgotten everything.
            let _crashed = done.await;
        }
    }
}
