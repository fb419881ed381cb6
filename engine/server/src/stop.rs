//! What makes an engine stop: a signal, or the end of what started it.

use std::io::Read;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Signals within this time are echoes of the first: `timeout` and terminals send one to the process and one to its group.
const ECHO: Duration = Duration::from_millis(500);

/// Signals and the pipe of the parent.
#[derive(Debug)]
pub(crate) struct Stop {
    term: Signal,
    interrupt: Signal,
    parent: Option<oneshot::Receiver<()>>,
}

impl Stop {
    /// Starts to listen; with `stdin` the end of standard input counts too.
    ///
    /// # Errors
    /// Returns what the system says when signals cannot be watched.
    pub(crate) fn listen(stdin: bool) -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent: stdin.then(watch_stdin),
        })
    }

    /// Waits for the first reason to stop.
    pub(crate) async fn first(&mut self) {
        let parent = async {
            match &mut self.parent {
                Some(parent) => drop(parent.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => info!("SIGTERM: draining; a second signal forces"),
            _ = self.interrupt.recv() => info!("SIGINT: draining; a second signal forces"),
            () = parent => info!("standard input was closed: draining"),
        }
    }

    /// Waits for a second signal while draining.
    pub(crate) async fn forced(&mut self) {
        let begun = Instant::now();
        loop {
            tokio::select! {
                _ = self.term.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if begun.elapsed() >= ECHO {
                break;
            }
        }
        warn!("second signal: stopping at once; what was acknowledged is on the disk");
    }
}

/// A thread that reads until the other end is closed. It ends with the process: a blocking read cannot be called off.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (closed, receiver) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut sink = [0_u8; 64];
        loop {
            match stdin.read(&mut sink) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        drop(closed);
    });
    receiver
}
