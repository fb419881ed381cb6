//! A terminal as its owner sees it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;
use till_protocol::builder::{BuildError, SaleParts};
use till_protocol::family::Reference;
use till_protocol::family::device::v1::Sign;
use till_protocol::family::sensor::v1::Reading;
use till_protocol::family::stock::v1::Move;
use till_protocol::id::TerminalId;
use till_protocol::view::TextView;
use tokio::sync::{Notify, watch};

use super::{Happening, LinkShared, Observer, TerminalConfig, drive};
use crate::batch::{Batcher, Event};
use crate::outbox::{Standing, Sync, SyncJob};
use crate::session::{Session, SessionError, Totals};

/// How far a terminal has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Frames flow at this moment.
    pub live: bool,
    /// Where the outbox stands, in sequence numbers of its epoch.
    pub standing: Standing,
    /// Counts of events, whatever their epoch.
    pub totals: Totals,
}

/// Why something could not be sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The terminal or its link was closed.
    #[error("the terminal is closed")]
    Closed,
    /// The outbox failed; nothing can be kept any more.
    #[error("the outbox failed: {0}")]
    Failed(String),
    /// The frame or the outbox was at fault.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The event can't be put into a frame.
    #[error(transparent)]
    Event(#[from] BuildError),
}

/// A terminal on a link. Clones are the same terminal; when the last one is dropped, it leaves the link.
#[derive(Clone, Debug)]
pub struct Terminal {
    handle: Arc<TerminalHandle>,
}

#[derive(Debug)]
struct TerminalHandle {
    inner: Arc<Inner>,
}

impl Drop for TerminalHandle {
    fn drop(&mut self) {
        self.inner.closing.send_replace(true);
    }
}

/// What the terminal's handles and its task share.
pub(super) struct Inner {
    pub(super) terminal: TerminalId,
    observer: Option<Arc<dyn Observer>>,
    state: Mutex<State>,
    /// There may be something to write.
    pub(super) wake: Notify,
    /// There may be something to sync.
    pub(super) keep: Notify,
    /// There may be room in the outbox.
    room: Notify,
    pub(super) closing: watch::Sender<bool>,
    pub(super) ended: Arc<watch::Sender<bool>>,
    progress: watch::Sender<Progress>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

/// The session and the events that are not yet in a frame.
pub(super) struct State {
    pub(super) session: Session,
    batcher: Batcher,
    /// A frame that has left the batcher and that the outbox has not taken yet.
    sealed: Option<Sealed>,
    failed: Option<String>,
    ended: bool,
}

struct Sealed {
    frame: Bytes,
    events: u64,
}

impl State {
    fn new(session: Session, frame_events: u32) -> Self {
        Self {
            session,
            batcher: Batcher::new(frame_events),
            sealed: None,
            failed: None,
            ended: false,
        }
    }

    /// Puts the queued events into a frame where that does not make frames smaller than they need to be.
    pub(super) fn seal_if_due(&mut self) -> Result<(), SendError> {
        if !self.session.outbox().survives_crash() && self.session.window_open() {
            self.seal()?;
        }
        Ok(())
    }

    /// Moves everything that is queued into the outbox. What that can't take stays queued, in front of what comes later.
    fn seal(&mut self) -> Result<(), SendError> {
        self.append_sealed()?;
        let events = self.batcher.events();
        if let Some(frame) = self.batcher.seal(self.session.next_seq())? {
            self.sealed = Some(Sealed { frame, events });
            self.append_sealed()?;
        }
        Ok(())
    }

    fn append_sealed(&mut self) -> Result<(), SendError> {
        if let Some(sealed) = &self.sealed {
            self.session.append(sealed.frame.clone())?;
            self.sealed = None;
        }
        Ok(())
    }

    /// Queues an event. On an error it is not queued, and what was queued before still is.
    fn push(&mut self, event: &Event<'_>) -> Result<(), SendError> {
        if self.batcher.must_seal_for(event) {
            self.seal()?;
        }
        if let Err(error) = self.batcher.push(event) {
            if error != BuildError::Full {
                return Err(error.into());
            }
            self.seal()?;
            self.batcher.push(event)?;
        }
        Ok(())
    }

    /// The sync that is due, of all that is queued. An error means that the outbox can't keep it.
    pub(super) fn sync_job(&mut self) -> Result<Option<SyncJob>, SendError> {
        if self.session.outbox().survives_crash() {
            self.seal()?;
        }
        let job = self.session.outbox().sync_job();
        Ok(job.map_err(SessionError::from)?)
    }

    pub(super) fn forget_names(&mut self) {
        self.batcher.forget_names();
    }

    /// Events that are not in the outbox yet.
    fn queued(&self) -> u64 {
        let sealed = self.sealed.as_ref().map_or(0, |sealed| sealed.events);
        sealed + self.batcher.events()
    }

    fn totals(&self) -> Totals {
        let mut totals = self.session.totals();
        totals.appended += self.queued();
        totals
    }

    fn usable(&self) -> Result<(), SendError> {
        match &self.failed {
            Some(why) => Err(SendError::Failed(why.clone())),
            None if self.ended => Err(SendError::Closed),
            None => Ok(()),
        }
    }
}

impl Inner {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells who waits how far things have come.
    pub(super) fn publish(&self) {
        let (progress, room) = self.with(|state| {
            let progress = Progress {
                live: state.session.is_live(),
                standing: state.session.standing(),
                totals: state.totals(),
            };
            (progress, state.session.has_room())
        });
        self.progress.send_if_modified(|known| {
            let news = *known != progress;
            *known = progress;
            news
        });
        if room {
            self.room.notify_waiters();
        }
    }

    pub(super) fn tell(&self, what: &Happening<'_>) {
        if let Some(observer) = &self.observer {
            observer.happened(self.terminal, Instant::now(), what);
        }
    }

    pub(super) fn fail(&self, error: &dyn fmt::Display) {
        tracing::error!(terminal = %self.terminal, %error, "the outbox failed");
        self.with(|state| state.failed = Some(error.to_string()));
    }

    /// The task has ended: nobody will send any more.
    pub(super) fn end(&self) {
        self.with(|state| {
            state.ended = true;
            // What is queued goes to the outbox, from where the next start sends it.
            if let Err(error) = state.seal() {
                state.failed = Some(error.to_string());
            }
            state.session.disconnected();
        });
        self.publish();
        self.room.notify_waiters();
    }
}

impl Terminal {
    pub(super) fn start(link: Arc<LinkShared>, config: TerminalConfig, session: Session) -> Self {
        let inner = Arc::new(Inner {
            terminal: config.session.terminal,
            observer: config.observer,
            state: Mutex::new(State::new(session, config.frame_events)),
            wake: Notify::new(),
            keep: Notify::new(),
            room: Notify::new(),
            closing: watch::Sender::new(false),
            ended: Arc::new(watch::Sender::new(false)),
            progress: watch::Sender::new(Progress::default()),
        });
        inner.publish();
        inner.keep.notify_one();
        drop(tokio::spawn(drive::run(link, Arc::clone(&inner))));
        Self {
            handle: Arc::new(TerminalHandle { inner }),
        }
    }

    /// Which terminal it is.
    pub fn id(&self) -> TerminalId {
        self.inner().terminal
    }

    /// Sends an event: waits while the outbox is full, and, where the outbox syncs each event, until it is on disk.
    /// Returns its number among all events of this terminal since it was put on the link (see [`Totals::appended`]).
    ///
    /// # Errors
    /// Returns [`SendError`] when the event breaks a limit, or the terminal or its outbox is closed or has failed.
    pub async fn send(&self, event: Event<'_>) -> Result<u64, SendError> {
        self.add(|state| state.push(&event)).await
    }

    /// Sends a sale (see [`Terminal::send`]).
    ///
    /// # Errors
    /// As [`Terminal::send`].
    pub async fn sale(&self, parts: &SaleParts<'_>) -> Result<u64, SendError> {
        self.send(Event::Sale(*parts)).await
    }

    /// Sends a stock event (see [`Terminal::send`]).
    ///
    /// # Errors
    /// As [`Terminal::send`].
    pub async fn stock(
        &self,
        record: Move,
        refs: &[Reference],
        texts: &[TextView<'_>],
    ) -> Result<u64, SendError> {
        self.send(Event::Stock(record, refs, texts)).await
    }

    /// Sends a reading (see [`Terminal::send`]).
    ///
    /// # Errors
    /// As [`Terminal::send`].
    pub async fn sensor(
        &self,
        record: Reading,
        refs: &[Reference],
        texts: &[TextView<'_>],
    ) -> Result<u64, SendError> {
        self.send(Event::Sensor(record, refs, texts)).await
    }

    /// Sends a heartbeat (see [`Terminal::send`]).
    ///
    /// # Errors
    /// As [`Terminal::send`].
    pub async fn device(
        &self,
        record: Sign,
        refs: &[Reference],
        texts: &[TextView<'_>],
    ) -> Result<u64, SendError> {
        self.send(Event::Device(record, refs, texts)).await
    }

    /// Sends a frame of events as it is, without copying it when it starts at [`Terminal::next_seq`]; else it gets
    /// another header. Otherwise as [`Terminal::send`]; returns the number of its last event.
    ///
    /// # Errors
    /// Returns [`SendError`] when it is not a frame of events, or the terminal or its outbox is closed or has failed.
    pub async fn send_frame(&self, frame: Bytes) -> Result<u64, SendError> {
        let mut frame = Some(frame);
        self.add(move |state| {
            state.seal()?;
            if let Some(frame) = frame.take() {
                state.session.append(frame)?;
            }
            Ok(())
        })
        .await
    }

    async fn add(
        &self,
        mut put: impl FnMut(&mut State) -> Result<(), SendError> + Send,
    ) -> Result<u64, SendError> {
        let inner = self.inner();
        let mut attempt = || {
            inner.with(|state| {
                state.usable()?;
                if !state.session.has_room() {
                    return Ok(None);
                }
                put(state)?;
                let each = state.session.outbox().sync_policy() == Sync::Each;
                Ok::<_, SendError>(Some((state.totals().appended, each)))
            })
        };
        let (number, each) = loop {
            if let Some(done) = attempt()? {
                break done;
            }
            let room = inner.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if let Some(done) = attempt()? {
                break done;
            }
            room.await;
        };
        inner.keep.notify_one();
        inner.wake.notify_one();
        if each {
            self.reached(|totals| totals.durable >= number).await?;
        }
        Ok(number)
    }

    /// Waits until everything that was sent before is on the device's disk. A memory outbox is at once as good as it gets.
    ///
    /// # Errors
    /// Returns [`SendError`] when the terminal or its outbox is closed or has failed.
    pub async fn synced(&self) -> Result<(), SendError> {
        let all = self.inner().with(|state| state.totals().appended);
        self.inner().keep.notify_one();
        self.reached(|totals| totals.durable >= all).await
    }

    /// Waits until everything that was sent before is committed by the engine, or a dead letter.
    ///
    /// # Errors
    /// Returns [`SendError`] when the terminal or its outbox is closed or has failed.
    pub async fn flush(&self) -> Result<(), SendError> {
        let all = self.inner().with(|state| state.totals().appended);
        self.inner().wake.notify_one();
        self.reached(|totals| totals.committed >= all).await
    }

    /// How far the terminal has come, as a value that can be watched.
    pub fn committed(&self) -> watch::Receiver<Progress> {
        self.inner().progress.subscribe()
    }

    /// The sequence number that the next frame should start at.
    pub fn next_seq(&self) -> u64 {
        self.inner()
            .with(|state| state.session.next_seq() + state.queued())
    }

    /// Where the outbox stands.
    pub fn standing(&self) -> Standing {
        self.inner().with(|state| state.session.standing())
    }

    /// Takes the terminal off the link in good order: what was sent stays in the outbox until it is committed.
    /// [`Terminal::flush`] first to leave nothing behind.
    pub async fn close(&self) {
        let inner = self.inner();
        inner.closing.send_replace(true);
        let mut ended = inner.ended.subscribe();
        // The sender lives as long as this handle.
        ended.wait_for(|ended| *ended).await.ok();
    }

    async fn reached(&self, enough: impl Fn(&Totals) -> bool) -> Result<(), SendError> {
        let inner = self.inner();
        let mut progress = inner.progress.subscribe();
        let mut ended = inner.ended.subscribe();
        let reached = tokio::select! {
            reached = progress.wait_for(|progress| enough(&progress.totals)) => reached.is_ok(),
            _ = ended.wait_for(|ended| *ended) => enough(&inner.progress.borrow().totals),
        };
        if reached {
            return Ok(());
        }
        inner.with(|state| state.usable())?;
        Err(SendError::Closed)
    }

    fn inner(&self) -> &Inner {
        &self.handle.inner
    }
}

#[cfg(test)]
mod tests;
