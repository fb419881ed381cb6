//! The outbox of a device whose power may fail: the client's own, on a flash in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use till_client::{
    DiskConfig, DiskOutbox, Outbox, OutboxError, Standing, Stored, Sync, SyncDone, SyncJob,
};
use till_protocol::id::{Epoch, TerminalId};

use crate::flash::{Flash, FlashState};
use crate::mistake::is_planted;
use crate::rng::Rng;

/// Files of a few frames each, so that they come and go.
const FILE_BYTES: u64 = 2 << 10;
/// Events that may wait for their commit.
const EVENTS_MAX: u64 = 1_024;

/// An outbox, for a device and its world at a time. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Pocket {
    terminal: TerminalId,
    flash: Flash,
    outbox: Arc<Mutex<DiskOutbox>>,
}

/// The flash of a device at some moment, as a loss of power would leave it.
#[derive(Clone, Debug)]
pub(crate) struct Image(FlashState);

fn open(flash: &Flash, terminal: TerminalId) -> Result<DiskOutbox, OutboxError> {
    let config = DiskConfig {
        sync: Sync::Group,
        file_bytes: FILE_BYTES,
        ..DiskConfig::default()
    };
    let system = Arc::new(flash.clone());
    DiskOutbox::open_on(system, Path::new("outbox"), terminal, config)
}

impl Pocket {
    /// The outbox on a flash.
    ///
    /// # Errors
    /// What the client says of what it finds there.
    pub(crate) fn open(flash: Flash, terminal: TerminalId) -> Result<Self, OutboxError> {
        Ok(Self {
            terminal,
            outbox: Arc::new(Mutex::new(open(&flash, terminal)?)),
            flash,
        })
    }

    fn lock(&self) -> MutexGuard<'_, DiskOutbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// What the client says.
    pub(crate) fn sync(&self) -> Result<(), OutboxError> {
        let mut outbox = self.lock();
        match outbox.sync_job()? {
            Some(job) => outbox.synced(job.run()),
            None => Ok(()),
        }
    }

    /// The device starts again, with what its flash holds.
    ///
    /// # Errors
    /// What the client says of what it finds there.
    pub(crate) fn reopen(&self) -> Result<(), OutboxError> {
        *self.lock() = open(&self.flash, self.terminal)?;
        Ok(())
    }

    /// The power fails: chance keeps some of what was not synced.
    pub(crate) fn power_failed(&self, rng: &mut Rng) {
        self.flash.power_failed(rng);
    }

    pub(crate) fn image(&self) -> Image {
        Image(self.flash.safe())
    }

    /// A device with what an image holds.
    ///
    /// # Errors
    /// What the client says of what it finds there.
    pub(crate) fn restored(&self, image: &Image) -> Result<Self, OutboxError> {
        Self::open(Flash::of(image.0.clone()), self.terminal)
    }
}

impl Outbox for Pocket {
    fn standing(&self) -> Standing {
        let mut standing = self.lock().standing();
        if is_planted("send-before-sync") {
            standing.durable = standing.last;
        }
        standing
    }

    fn has_room(&self) -> bool {
        let outbox = self.lock();
        let standing = outbox.standing();
        outbox.has_room() && standing.last - standing.committed < EVENTS_MAX
    }

    fn sync_policy(&self) -> Sync {
        Sync::Group
    }

    fn survives_crash(&self) -> bool {
        true
    }

    fn append(&mut self, frame: Bytes, count: u32) -> Result<(), OutboxError> {
        let mut outbox = self.lock();
        outbox.append(frame, count)?;
        if is_planted("trim-early") {
            let last = outbox.standing().last;
            outbox.commit(last.saturating_sub(2))?;
        }
        Ok(())
    }

    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        self.lock().frame_of(seq)
    }

    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        self.lock().commit(upto)
    }

    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        let from = from + u64::from(is_planted("renumber-drops-one"));
        self.lock().begin_epoch(epoch, from)
    }

    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError> {
        // The world syncs when the flash is done with it.
        Ok(None)
    }

    fn synced(&mut self, _done: SyncDone) -> Result<(), OutboxError> {
        Ok(())
    }
}
