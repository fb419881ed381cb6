//! One connection through the proxy.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::ProxyShared;
use super::frame::{Excuse, Frame};
use super::statement::{Kind, prepares};

/// Frames on their way in one direction. A driver has at most 32,768 streams on a connection.
const QUEUE: usize = 1 << 15;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Passes,
    Late(Duration),
    Slow(Duration),
    Refused(Excuse),
    Denied(Excuse),
    Swallowed,
    Cut { reaches: bool },
}

/// What is done with the answer of a stream.
#[derive(Clone, Copy, Debug)]
enum Treatment {
    Later(Duration),
    Instead(Excuse),
    Never,
    Learn(Kind),
}

/// One connection.
pub(super) struct ProxyLine {
    shared: Arc<ProxyShared>,
    chance: SmallRng,
    answers: Arc<Mutex<HashMap<[u8; 2], Treatment>>>,
}

impl ProxyLine {
    pub(super) fn new(shared: Arc<ProxyShared>, number: u64) -> Self {
        let seed = shared.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        Self {
            shared,
            chance: SmallRng::seed_from_u64(seed),
            answers: Arc::default(),
        }
    }

    /// Carries frames both ways until one side hangs up or the connection is cut.
    pub(super) async fn carry(mut self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.shared.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (requests, requests_out) = channel(QUEUE);
        let (writes, writes_out) = channel(QUEUE);
        let (answers, answers_out) = channel(QUEUE);
        let sending = tokio::spawn(write(requests_out, to_server));
        drop(tokio::spawn(gate(
            writes_out,
            requests.clone(),
            Arc::clone(&self.shared),
        )));
        let answering = tokio::spawn(write(answers_out, to_client));
        let mut back = tokio::spawn(back(
            from_server,
            answers.clone(),
            Arc::clone(&self.answers),
            Arc::clone(&self.shared),
        ));
        let is_cut = tokio::select! {
            is_cut = self.requests(from_client, (requests, writes), answers) => is_cut,
            _ = &mut back => true,
        };
        if is_cut {
            back.abort();
            answering.abort();
        }
        // What was sent before the client hung up still reaches the server.
        sending.await.ok();
        back.abort();
        Ok(())
    }

    // Passes requests on until the client hangs up; true when the connection is to be cut.
    async fn requests(
        &mut self,
        mut from: OwnedReadHalf,
        (reads, writes): (Sender<Bytes>, Sender<Bytes>),
        to_client: Sender<Bytes>,
    ) -> bool {
        while let Ok(frame) = Frame::read(&mut from).await {
            let kind = self.shared.statements.lock().kind(&frame);
            let fate = kind.map_or(Fate::Passes, |kind| self.draw(kind));
            let to_server = match kind {
                None | Some(Kind::Read) => &reads,
                Some(Kind::Write | Kind::Batch | Kind::Conditional) => {
                    let is_held = *self.shared.is_held.borrow();
                    self.shared.count(|tally| tally.held += u64::from(is_held));
                    &writes
                }
            };
            let stream = frame.stream;
            let treatment = match fate {
                Fate::Slow(time) => Some(Treatment::Later(time)),
                Fate::Denied(excuse) => Some(Treatment::Instead(excuse)),
                Fate::Swallowed => Some(Treatment::Never),
                _ => prepares(&frame).map(Treatment::Learn),
            };
            if let Some(treatment) = treatment {
                self.answers.lock().insert(stream, treatment);
            }
            let sent = match fate {
                Fate::Refused(excuse) => to_client.send(excuse.frame(stream).bytes).await,
                Fate::Late(time) => {
                    later(time, to_server, frame.bytes);
                    Ok(())
                }
                Fate::Cut { reaches: false } => return true,
                Fate::Cut { reaches: true } => {
                    to_server.send(frame.bytes).await.ok();
                    return true;
                }
                Fate::Passes | Fate::Slow(_) | Fate::Denied(_) | Fate::Swallowed => {
                    to_server.send(frame.bytes).await
                }
            };
            if sent.is_err() {
                return true;
            }
        }
        false
    }

    // Each request draws as many numbers, whatever becomes of it.
    fn draw(&mut self, kind: Kind) -> Fate {
        let faults = *self.shared.faults.lock();
        // There are few conditional writes, and all hangs on them.
        let of = if kind == Kind::Conditional {
            200_u32
        } else {
            1_000
        };
        let mut roll = self.chance.random_range(0..of);
        let which: u32 = self.chance.random_range(0..6);
        let time = self.chance.random_range(0.0..1.0);
        let time = faults.late_max.mul_f64(time);
        let mut hit = |share: u32| match roll.checked_sub(share) {
            Some(rest) => {
                roll = rest;
                false
            }
            None => true,
        };
        let fate = if hit(faults.late) {
            Fate::Late(time)
        } else if hit(faults.slow) {
            Fate::Slow(time)
        } else if hit(faults.refused) {
            Fate::Refused(match which {
                0 | 1 => Excuse::Unavailable,
                2 | 3 if kind == Kind::Conditional => Excuse::TimedOut(kind),
                _ => Excuse::Overloaded,
            })
        } else if hit(faults.denied) {
            Fate::Denied(Excuse::TimedOut(kind))
        } else if hit(faults.swallowed) {
            Fate::Swallowed
        } else if hit(faults.cut) {
            Fate::Cut { reaches: which < 3 }
        } else {
            Fate::Passes
        };
        self.shared.count(|tally| {
            tally.requests += 1;
            let is_harmed = kind == Kind::Conditional && fate != Fate::Passes;
            tally.conditional += u64::from(is_harmed);
            match fate {
                Fate::Passes => {}
                Fate::Late(_) => tally.late += 1,
                Fate::Slow(_) => tally.slow += 1,
                Fate::Refused(_) => tally.refused += 1,
                Fate::Denied(_) => tally.denied += 1,
                Fate::Swallowed => tally.swallowed += 1,
                Fate::Cut { .. } => tally.cut += 1,
            }
        });
        fate
    }
}

// Sends a frame after a time, if there is still a connection.
fn later(time: Duration, to: &Sender<Bytes>, frame: Bytes) {
    let to = to.clone();
    drop(tokio::spawn(async move {
        tokio::time::sleep(time).await;
        to.send(frame).await.ok();
    }));
}

// Lets writes through in their order, but for the time in which they are held.
async fn gate(mut writes: Receiver<Bytes>, to_server: Sender<Bytes>, shared: Arc<ProxyShared>) {
    let mut is_held = shared.is_held.subscribe();
    while let Some(frame) = writes.recv().await {
        if *is_held.borrow_and_update() {
            // The sender lives as long as `shared`.
            is_held.wait_for(|held| !held).await.ok();
        }
        if to_server.send(frame).await.is_err() {
            return;
        }
    }
}

// Writes what it is given; when nobody gives any more, everything has been written.
async fn write(mut frames: Receiver<Bytes>, mut to: OwnedWriteHalf) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn back(
    mut from: OwnedReadHalf,
    to_client: Sender<Bytes>,
    answers: Arc<Mutex<HashMap<[u8; 2], Treatment>>>,
    shared: Arc<ProxyShared>,
) {
    while let Ok(frame) = Frame::read(&mut from).await {
        let treatment = answers.lock().remove(&frame.stream);
        let sent = match treatment {
            Some(Treatment::Never) => Ok(()),
            Some(Treatment::Instead(excuse)) => {
                let excuse = excuse.frame(frame.stream);
                to_client.send(excuse.bytes).await
            }
            Some(Treatment::Later(time)) => {
                later(time, &to_client, frame.bytes);
                Ok(())
            }
            Some(Treatment::Learn(kind)) => {
                shared.statements.lock().learn(kind, &frame);
                to_client.send(frame.bytes).await
            }
            None => to_client.send(frame.bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}
