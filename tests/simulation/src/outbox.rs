//! The outbox of a device whose power may fail: what was synced stays, what came since may go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use till_client::{
    MemoryConfig, MemoryOutbox, Outbox, OutboxError, Standing, Stored, Sync, SyncDone, SyncJob,
};
use till_protocol::id::Epoch;

use crate::mistake::is_planted;

/// What lies on a device's disk: frames and where they stand, under the client's own rules. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flash {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    live: MemoryOutbox,
    durable: MemoryOutbox,
}

/// The disk of a device at some moment.
#[derive(Clone, Debug)]
pub(crate) struct Image(MemoryOutbox);

impl Flash {
    pub(crate) fn new(config: MemoryConfig) -> Self {
        let empty = MemoryOutbox::new(config);
        let state = State {
            live: empty.clone(),
            durable: empty,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) {
        let mut state = self.lock();
        state.durable = state.live.clone();
    }

    /// The power failed: gives how many of the last events are gone.
    pub(crate) fn power_failed(&self) -> u64 {
        let mut state = self.lock();
        let before = state.live.standing().last;
        state.live = state.durable.clone();
        before.saturating_sub(state.live.standing().last)
    }

    pub(crate) fn image(&self) -> Image {
        Image(self.lock().durable.clone())
    }

    pub(crate) fn restore(&self, image: &Image) {
        let mut state = self.lock();
        state.live = image.0.clone();
        state.durable = image.0.clone();
    }
}

impl Outbox for Flash {
    fn standing(&self) -> Standing {
        let state = self.lock();
        let mut standing = state.live.standing();
        let synced = state.durable.standing();
        let is_same_life = synced.epoch == standing.epoch;
        standing.durable = if is_same_life { synced.last } else { 0 };
        if is_planted("send-before-sync") {
            standing.durable = standing.last;
        }
        standing
    }

    fn has_room(&self) -> bool {
        self.lock().live.has_room()
    }

    fn sync_policy(&self) -> Sync {
        Sync::Group
    }

    fn survives_crash(&self) -> bool {
        true
    }

    fn append(&mut self, frame: Bytes, count: u32) -> Result<(), OutboxError> {
        let mut state = self.lock();
        state.live.append(frame, count)?;
        if is_planted("trim-early") {
            let last = state.live.standing().last;
            state.live.commit(last.saturating_sub(2))?;
        }
        Ok(())
    }

    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        self.lock().live.frame_of(seq)
    }

    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        self.lock().live.commit(upto)
    }

    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        let mut state = self.lock();
        let from = from + u64::from(is_planted("renumber-drops-one"));
        state.live.begin_epoch(epoch, from)?;
        // It returns when the new life is durable.
        state.durable = state.live.clone();
        Ok(())
    }

    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError> {
        Ok(None)
    }

    fn synced(&mut self, _done: SyncDone) -> Result<(), OutboxError> {
        Ok(())
    }
}
