//! How others reach the flush thread.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use thiserror::Error;

/// Why rows are not up to date.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum FlushError {
    /// The flush thread has ended: the engine stops.
    #[error("the engine stops")]
    Stopped,
    /// The disk is full, or too slow.
    #[error("the flush did not finish within {0:?}: the disk is full or too slow")]
    Late(Duration),
    /// Rows could not be written.
    #[error("rows could not be written: {0}")]
    Rows(String),
    /// A shard does not run, so that its events are not in the rows.
    #[error("a shard does not run: its newest events are not in the rows yet")]
    Parked,
}

#[derive(Debug)]
pub(super) enum Request {
    /// Flush what is durable now.
    Flush(Sender<Result<u64, FlushError>>),
    /// Wait until what shards have given is dealt to those whose it is.
    Pass(Sender<()>),
    /// A shard starts again: what came of it and is in no round is forgotten; wait until the rest is written.
    Restart(usize, Sender<()>),
    /// Something has been committed, or written.
    Look,
    /// Flush once more and end.
    Stop(Sender<Result<u64, FlushError>>),
    /// End without another round.
    Abandon,
}

/// The way to the flush thread. Calls block: make them from threads that may.
#[derive(Clone, Debug)]
pub(crate) struct FlushDoor {
    requests: Sender<Request>,
}

impl FlushDoor {
    pub(super) const fn new(requests: Sender<Request>) -> Self {
        Self { requests }
    }

    /// Waits until the rows hold everything that is durable now; gives the position up to which they do.
    pub(crate) fn flush(&self, within: Duration) -> Result<u64, FlushError> {
        self.begin(within)?.wait(within)
    }

    /// Asks for a flush as [`Self::flush`] does, for whoever waits in another way.
    pub(crate) fn begin(&self, within: Duration) -> Result<Wait, FlushError> {
        self.ask(Request::Flush, within)
    }

    /// Lets the flush look at what has been committed. It looks by itself a little later.
    pub(crate) fn look(&self) {
        // Where there is no room, something makes it turn already.
        let _full = self.requests.try_send(Request::Look);
    }

    /// Asks to be told when what shards have given is dealt to the slots: nothing of it comes to a later ownership of one.
    pub(crate) fn pass(&self) -> Receiver<()> {
        let (reply, done) = bounded(1);
        // Without the thread the other end is gone, which says the same.
        let _ended = self.requests.send(Request::Pass(reply));
        done
    }

    /// Flushes once more, syncs the rows and ends the thread.
    pub(crate) fn stop(&self, within: Duration) -> Result<u64, FlushError> {
        self.begin_stop(within)?.wait(within)
    }

    /// Asks for that, for whoever waits in another way.
    pub(crate) fn begin_stop(&self, within: Duration) -> Result<Wait, FlushError> {
        self.ask(Request::Stop, within)
    }

    /// Ends the thread without another round.
    pub(crate) fn abandon(&self) {
        if self.requests.send(Request::Abandon).is_err() {
            tracing::debug!("the flush has ended already");
        }
    }

    /// Forgets what came of a shard that starts again; tells when everything else that it gave before is written.
    pub(crate) fn restart(&self, shard: usize) -> Receiver<()> {
        let (reply, done) = bounded(1);
        // Without the thread the other end is gone, which says the same.
        let _ended = self.requests.send(Request::Restart(shard, reply));
        done
    }

    fn ask(
        &self,
        request: impl FnOnce(Sender<Result<u64, FlushError>>) -> Request,
        within: Duration,
    ) -> Result<Wait, FlushError> {
        let (reply, answer) = bounded(2);
        let sent = self.requests.send_timeout(request(reply), within);
        sent.map_err(|_| FlushError::Stopped)?;
        Ok(Wait(answer))
    }
}

/// A flush that was asked for.
#[derive(Debug)]
pub(crate) struct Wait(pub(crate) Receiver<Result<u64, FlushError>>);

impl Wait {
    fn wait(&self, within: Duration) -> Result<u64, FlushError> {
        match self.0.recv_timeout(within) {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => Err(FlushError::Late(within)),
            Err(_) => Err(FlushError::Stopped),
        }
    }

    /// How it went; `None` while it is under way and not late.
    pub(crate) fn look_until(
        &self,
        is_late: bool,
        within: Duration,
    ) -> Option<Result<u64, FlushError>> {
        let late = || is_late.then_some(Err(FlushError::Late(within)));
        self.look().or_else(late)
    }

    /// How it went; `None` while it is under way.
    pub(crate) fn look(&self) -> Option<Result<u64, FlushError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(FlushError::Stopped)),
        }
    }
}
