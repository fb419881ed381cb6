//! The task of one terminal: keeps its outbox synced and its stream up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use thiserror::Error;
use till_protocol::code::Reason;
use till_protocol::codec::FrameDecoder;
use till_protocol::header::WireError;
use till_protocol::reply::{Message, MessageError};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until, timeout};

use super::node::{Gone, Node};
use super::terminal::{Inner, SendError, State};
use super::{FAREWELL, Happening, LinkShared, clock, jitter};
use crate::session::{End, Notice, SessionError};

/// Redirects that are followed one after another without a pause.
const REDIRECTS_AT_ONCE: u32 = 2;
/// Most bytes that are taken from a stream in one step.
pub(super) const READ_BYTES: usize = 64 << 10;
/// Most chunks that are handed to QUIC in one step: enough that small frames share packets, and little enough that an
/// answer is looked at soon.
const PIECES_MAX: usize = 64;

/// Why a stream was lost.
#[derive(Debug, Error)]
enum StreamError {
    #[error("connection: {0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("writing: {0}")]
    Write(#[from] quinn::WriteError),
    #[error("reading: {0}")]
    Read(#[from] quinn::ReadError),
    #[error("the engine's bytes: {0}")]
    Wire(#[from] WireError),
    #[error("the engine's message: {0}")]
    Message(#[from] MessageError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Seal(#[from] SendError),
    #[error("the engine ended the stream without a word")]
    Ended,
    #[error("the engine did not answer the Hello")]
    Unanswered,
}

/// Runs until the terminal or its link is closed.
pub(super) async fn run(link: Arc<LinkShared>, inner: Arc<Inner>) {
    let mut link_closed = link.closed.subscribe();
    tokio::select! {
        () = keep(&inner) => {}
        () = converse(&link, &inner) => {}
        _ = link_closed.wait_for(|closed| *closed) => {}
    }
    inner.end();
    // Told last: whoever closes the terminal may open its outbox again at once.
    let ended = Arc::clone(&inner.ended);
    drop(inner);
    ended.send_replace(true);
}

/// Seals what is queued and syncs the outbox, whether or not there is a connection. Ends when the outbox failed.
async fn keep(inner: &Inner) {
    loop {
        inner.keep.notified().await;
        loop {
            let job = match inner.with(State::sync_job) {
                Ok(Some(job)) => job,
                Ok(None) => break,
                Err(error) => {
                    inner.fail(&error);
                    return;
                }
            };
            let result = match spawn_blocking(move || job.run()).await {
                Ok(done) => inner.with(|state| state.session.outbox().synced(done)),
                Err(_) => return,
            };
            if let Err(error) = result {
                inner.fail(&error);
                return;
            }
            inner.publish();
            inner.wake.notify_one();
        }
    }
}

/// One stream after another.
async fn converse(link: &Arc<LinkShared>, inner: &Inner) {
    let mut route = Route {
        link,
        node: Arc::clone(&link.home),
        redirects: 0,
    };
    let mut backoff = link.config.backoff;
    let mut rng = jitter();
    let patience = link.config.connect_timeout * 2;
    let mut closing = inner.closing.subscribe();
    loop {
        let found = tokio::select! {
            found = reach(link, &route.node, patience) => found,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let next = match found {
            Ok(Some(connection)) => {
                let ended = stream(&connection, inner, patience).await;
                let was_live = inner.with(|state| {
                    let live = state.session.is_live();
                    state.session.disconnected();
                    live
                });
                inner.publish();
                if was_live {
                    backoff.reset();
                    route.redirects = 0;
                }
                route.after(inner, &connection, ended)
            }
            Ok(None) => return,
            Err(Gone) => route.gone(),
        };
        match next {
            Next::Stop => return,
            Next::AtOnce => {}
            Next::Pause => tokio::select! {
                () = sleep(backoff.next(&mut rng)) => {}
                _ = closing.wait_for(|closing| *closing) => return,
            },
        }
    }
}

/// Which engine a terminal asks.
struct Route<'a> {
    link: &'a Arc<LinkShared>,
    node: Arc<Node>,
    /// Redirects since a stream was of use.
    redirects: u32,
}

/// When a terminal asks again.
enum Next {
    Stop,
    AtOnce,
    Pause,
}

impl Route<'_> {
    /// The engine does not answer. One that a redirect named is left again; until the others know that it is gone, they name
    /// it again.
    fn gone(&mut self) -> Next {
        let is_home = Arc::ptr_eq(&self.node, &self.link.home);
        self.node = Arc::clone(&self.link.home);
        if is_home { Next::AtOnce } else { Next::Pause }
    }

    /// A stream is over.
    fn after(
        &mut self,
        inner: &Inner,
        connection: &Connection,
        ended: Result<Option<End>, StreamError>,
    ) -> Next {
        let end = match ended {
            Ok(None) => return Next::Stop,
            Ok(Some(end)) => end,
            Err(error) => {
                tracing::debug!(terminal = %inner.terminal, %error, "stream lost");
                inner.tell(&Happening::Lost(&error.to_string()));
                // An engine that is lost may be gone for good; the others know, or will.
                if connection.close_reason().is_some() {
                    self.node = Arc::clone(&self.link.home);
                }
                // If it was the outbox that failed, and for good, its keeper finds out.
                inner.keep.notify_one();
                return Next::Pause;
            }
        };
        inner.tell(&Happening::Ended(&end));
        match end {
            End::Renew => Next::AtOnce,
            End::Redirect(address) => {
                self.node = self.link.node_at(&address);
                self.redirects += 1;
                // Engines that send it to and fro are asked with pauses.
                if self.redirects <= REDIRECTS_AT_ONCE {
                    Next::AtOnce
                } else {
                    Next::Pause
                }
            }
            End::Bye { reason, text } => {
                tracing::debug!(terminal = %inner.terminal, %reason, text, "the engine said bye");
                // It may know no better than the others who serves the store next.
                if matches!(reason, Reason::Moved | Reason::Draining) {
                    self.node = Arc::clone(&self.link.home);
                }
                Next::Pause
            }
        }
    }
}

/// The connection to an engine. The link's own addresses are waited for; an engine that a redirect named is gone when the
/// next attempt fails.
async fn reach(
    link: &LinkShared,
    node: &Arc<Node>,
    patience: Duration,
) -> Result<Option<Connection>, Gone> {
    let found = if Arc::ptr_eq(node, &link.home) {
        timeout(patience, node.connection(link)).await.map(Ok)
    } else {
        timeout(patience, node.connection_soon(link)).await
    };
    found.unwrap_or(Err(Gone))
}

/// One stream from Hello to its end; `None` when this side has closed it.
async fn stream(
    connection: &Connection,
    inner: &Inner,
    patience: Duration,
) -> Result<Option<End>, StreamError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    inner.with(|state| state.session.connected(clock()));
    let mut closing = inner.closing.subscribe();
    let ended = tokio::select! {
        ended = write(&mut send, inner) => ended.map(Some),
        ended = read(&mut recv, inner) => ended.map(Some),
        () = unanswered(inner, patience) => Err(StreamError::Unanswered),
        _ = closing.wait_for(|closing| *closing) => Ok(None),
    };
    match &ended {
        Ok(None) => farewell(&mut send, &mut recv, inner).await,
        // A finished stream frees the engine's side at once; a stream that is gone can't be finished.
        Ok(Some(_)) => drop(send.finish()),
        Err(_) => drop(send.reset(0_u32.into())),
    }
    ended
}

/// Ends when the engine has not answered the Hello in time; else never.
async fn unanswered(inner: &Inner, patience: Duration) {
    sleep(patience).await;
    if !inner.with(|state| state.session.is_in_handshake()) {
        std::future::pending::<()>().await;
    }
}

async fn write(send: &mut SendStream, inner: &Inner) -> Result<End, StreamError> {
    let mut out: Vec<Bytes> = Vec::with_capacity(PIECES_MAX);
    loop {
        let again = inner.with(|state| {
            state.seal_if_due()?;
            let now = Instant::now();
            state.session.transmit(now, &mut out, PIECES_MAX)?;
            Ok::<_, StreamError>(state.session.timeout())
        })?;
        if !out.is_empty() {
            send.write_all_chunks(&mut out).await?;
            out.clear();
            continue;
        }
        match again {
            None => inner.wake.notified().await,
            Some(at) => tokio::select! {
                () = inner.wake.notified() => {}
                () = sleep_until(at.into()) => {}
            },
        }
    }
}

async fn read(recv: &mut RecvStream, inner: &Inner) -> Result<End, StreamError> {
    let mut decoder = FrameDecoder::new();
    let mut notices = Vec::new();
    loop {
        let chunk = recv
            .read_chunk(READ_BYTES, true)
            .await?
            .ok_or(StreamError::Ended)?;
        decoder.push(chunk.bytes);
        let (ended, totals) = inner.with(|state| {
            let ended = take(&mut decoder, state, &mut notices);
            (ended, state.session.totals())
        });
        // The wish for the disk and for the window: an answer may have opened both.
        inner.wake.notify_one();
        for notice in notices.drain(..) {
            inner.tell(&Happening::Notice(&notice, totals));
        }
        // After the observer: who waits for a flush then finds that the observer has seen it all.
        inner.publish();
        if let Some(end) = ended? {
            return Ok(end);
        }
    }
}

/// Hands every whole message to the session.
fn take(
    decoder: &mut FrameDecoder,
    state: &mut State,
    notices: &mut Vec<Notice>,
) -> Result<Option<End>, StreamError> {
    let mut ended = Ok(None);
    while matches!(ended, Ok(None)) {
        let message = match decoder.next()? {
            Some(frame) => Message::decode(&frame)?,
            None => break,
        };
        ended = state.session.handle(Instant::now(), message);
    }
    let before = notices.len();
    notices.extend(state.session.notices());
    if notices.iter().skip(before).any(loses_names) {
        // A name may have stood in an event that was not taken: all of them are told again.
        state.forget_names();
    }
    Ok(ended?)
}

fn loses_names(notice: &Notice) -> bool {
    match notice {
        Notice::Acked { refusals, .. } => !refusals.is_empty(),
        Notice::Renumbered { .. } | Notice::Unknown { .. } => true,
        Notice::Live { .. } | Notice::Resent { .. } | Notice::Slow { .. } => false,
    }
}

/// Says goodbye and gives the engine a moment to answer.
async fn farewell(send: &mut SendStream, recv: &mut RecvStream, inner: &Inner) {
    let mut out = Vec::new();
    let left = inner.with(|state| {
        state.session.leave();
        state.session.transmit(Instant::now(), &mut out, PIECES_MAX)
    });
    if left.is_err() || send.write_all_chunks(&mut out).await.is_err() || send.finish().is_err() {
        return;
    }
    let to_the_end = async { while let Ok(Some(_)) = recv.read_chunk(READ_BYTES, true).await {} };
    // An engine that does not answer has closed the stream in its own way.
    timeout(FAREWELL, to_the_end).await.ok();
}
