//! Connections of the admin port: no more than the limit. Beyond it the oldest makes room: guests who ask slowly must not
//! keep the one out who asks whether the engine lives.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::CONNECTIONS_MAX;

/// How long open requests may take once the port is closing.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a connection may be silent before it is closed.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// Serves until `until` is over.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    until: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let bounded = Bounded {
        listener,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        guests: VecDeque::new(),
    };
    let (stopping, stopped) = oneshot::channel::<()>();
    let until = async move {
        until.await;
        drop(stopping);
    };
    let served = axum::serve(bounded, app).with_graceful_shutdown(until);
    tokio::select! {
        result = served.into_future() => result,
        () = async {
            drop(stopped.await);
            sleep(LAST_ANSWER_MAX).await;
        } => Ok(()), // a guest who never ends his sentence does not hold up the engine
    }
}

struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Those who came, in their order. A guest who has left hears nothing.
    guests: VecDeque<oneshot::Sender<()>>,
}

impl Bounded {
    fn send_the_oldest_away(&mut self) {
        while let Some(oldest) = self.guests.pop_front() {
            if oldest.send(()).is_ok() {
                return;
            }
        }
    }
}

impl Listener for Bounded {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                self.send_the_oldest_away();
                Arc::clone(&self.places).acquire_owned().await.ok()
            }
        };
        if self.guests.len() >= 2 * CONNECTIONS_MAX {
            self.guests.retain(|guest| !guest.is_closed());
        }
        let (leave, told) = oneshot::channel();
        self.guests.push_back(leave);
        let guest = Guest {
            stream,
            told: Some(told),
            patience: Box::pin(sleep(SILENCE_MAX)),
            _place: place,
        };
        (guest, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that holds its place, and loses it when it is silent for too long.
struct Guest {
    stream: TcpStream,
    /// Its place is needed.
    told: Option<oneshot::Receiver<()>>,
    patience: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Guest {
    fn heard(&mut self) {
        let until = Instant::now() + SILENCE_MAX;
        self.patience.as_mut().reset(until);
    }

    // Asked where nothing moves: then this task is woken when its place is needed.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(told) = &mut self.told
            && let Poll::Ready(leave) = Pin::new(told).poll(cx)
        {
            self.told = None;
            if leave.is_ok() {
                return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.heard();
            return Poll::Ready(result);
        }
        if let Poll::Ready(error) = self.poll_leave(cx) {
            return Poll::Ready(Err(error));
        }
        self.patience
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if result.is_ready() {
            self.heard();
            return result;
        }
        self.poll_leave(cx).map(Err)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
