//! One stream: frames in, answers out. What a device does wrong ends its stream, with a reason, and nobody else's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::family::Family;
use till_protocol::id::Seq;
use till_protocol::reply::{Bye, Message};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use tokio::sync::OwnedSemaphorePermit;

use super::hello;
use crate::engine::Shared;
use crate::pki::Speaks;
use crate::published::Published;
use crate::session::Session;
use crate::shard_actor::{Admitted, Batch, Message as ShardMessage, now_us};

/// Chunks that are taken from a stream at once: a frame of 256 events arrives in about 16.
const CHUNKS: usize = 32;

/// Frames up to this size may be gathered without a permit of their own: each stream has that much in any case.
const GATHER_FREE_BYTES: usize = 32 << 10;

/// Time between two looks at a shard whose rows wait for a flush.
const CROWDED_WAIT: Duration = Duration::from_millis(5);

/// How long a peer may leave what we send unread.
const SEND_MAX: Duration = Duration::from_secs(30);

/// Serves a stream to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    speaks: &Speaks,
    mut send: SendStream,
    receive: RecvStream,
) {
    let mut frames = Frames::new(Arc::clone(shared), receive);
    let hello = tokio::time::timeout(shared.config.network.hello_timeout, frames.next()).await;
    let greeted = match hello {
        Err(_elapsed) => Err(Bye::new(Reason::Idle)),
        Ok(Err(bye)) => Err(bye),
        Ok(Ok(None)) => return,
        Ok(Ok(Some(frame))) => match Message::decode(&frame) {
            Ok(Message::Hello(said)) => hello::greet(shared, speaks, said).await,
            Ok(_) => Err(Bye::new(Reason::BadHello)),
            Err(error) => Err(bye(error.reason(), &error.to_string())),
        },
    };
    let (session, welcome) = match greeted {
        Ok(greeted) => greeted,
        Err(bye) => {
            shared.published.refused_session(bye.reason);
            return say_bye(&mut send, bye).await;
        }
    };
    if send
        .write_chunk(Message::Welcome(welcome).encode())
        .await
        .is_err()
    {
        return;
    }
    let (replies, to_say) = tokio::sync::mpsc::channel(4);
    let answers = tokio::spawn(answer(Arc::clone(&session), send, to_say));
    let ended = take_frames(shared, &session, &mut frames, &replies).await;
    if let Err(bye) = ended {
        Published::add(&shared.published.broken, 1);
        tracing::debug!(terminal = %session.key.terminal, reason = %bye.reason, text = bye.text, "stream ended");
        let _peer_is_gone = replies.send(Message::Bye(bye)).await;
    }
    drop(replies);
    let _finished = answers.await;
}

/// Takes frames until the stream ends (`Ok`) or has to be ended.
async fn take_frames(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    frames: &mut Frames,
    replies: &tokio::sync::mpsc::Sender<Message>,
) -> Result<(), Bye> {
    loop {
        let draining = shared.drained.notified();
        let frame = tokio::select! {
            frame = frames.next() => frame?,
            () = draining => {
                session.end(Reason::Draining);
                return Ok(());
            }
            () = over(session) => return Ok(()),
        };
        let Some(frame) = frame else { return Ok(()) };
        if !frame.header.is_session() {
            admit(shared, session, frame).await?;
            continue;
        }
        match Message::decode(&frame) {
            Ok(Message::Goodbye) => return Ok(()),
            Ok(Message::Check(check)) => {
                let (asked, asking) = (Arc::clone(shared), Arc::clone(session));
                let compared =
                    tokio::task::spawn_blocking(move || hello::compare(&asked, &asking, &check))
                        .await
                        .map_err(|_panicked| Bye::new(Reason::Internal))?;
                let _peer_is_gone = replies.send(Message::Checked(compared)).await;
            }
            Ok(_) => return Err(Bye::new(Reason::BadMessage)),
            Err(error) => return Err(bye(error.reason(), &error.to_string())),
        }
    }
}

/// Ends when the session is over; a session that ends is told so by its other half.
async fn over(session: &Session) {
    while session.over().is_none() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Gives a frame to its shard, once there is room for it.
async fn admit(shared: &Arc<Shared>, session: &Arc<Session>, frame: Frame) -> Result<(), Bye> {
    let (count, bytes) = (frame.header.count, frame.payload.len());
    if frame.header.version != 1 || Family::from_u8(frame.header.family).is_none() {
        return Err(Bye::new(Reason::Unsupported));
    }
    let first_seq = Seq::new(frame.header.first_seq).map_err(|_| Bye::new(Reason::BadHeader))?;
    let batch = match Verified::check(frame, &shared.screen) {
        Ok(verified) => Batch::Events(Box::new(verified)),
        Err(unreadable) => Batch::Unreadable {
            first_seq,
            count,
            reason: unreadable.reason(),
        },
    };
    let shard = shared.route(session.key.terminal.store());
    let permit = permit(shared, shard, bytes).await?;
    shared.published.received(count, bytes);
    let admitted = Admitted {
        session: Arc::clone(session),
        batch,
        now: Timestamp::from_us(now_us()),
        received: Instant::now(),
        permit,
    };
    let actor = shared
        .actor(shard)
        .ok_or_else(|| Bye::new(Reason::Internal))?;
    actor
        .cast(ShardMessage::Batch(admitted))
        .map_err(|_stopped| Bye::new(Reason::Internal))
}

/// Waits until the shard has room for so many bytes. While it waits the stream is not read, and QUIC slows the device.
async fn permit(shared: &Shared, shard: usize, bytes: usize) -> Result<OwnedSemaphorePermit, Bye> {
    while shared.is_crowded(shard) {
        tokio::time::sleep(CROWDED_WAIT).await;
    }
    let permits = shared
        .permits
        .get(shard)
        .ok_or_else(|| Bye::new(Reason::Internal))?;
    let units = u32::try_from(1 + bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
    if let Ok(permit) = Arc::clone(permits).try_acquire_many_owned(units) {
        return Ok(permit);
    }
    Published::add(&shared.published.slowed, 1);
    Arc::clone(permits)
        .acquire_many_owned(units)
        .await
        .map_err(|_closed| Bye::new(Reason::Draining))
}

/// Tells the device what is durable, what was refused, and why its session ends.
async fn answer(
    session: Arc<Session>,
    mut send: SendStream,
    mut replies: tokio::sync::mpsc::Receiver<Message>,
) {
    let mut said = 0;
    loop {
        let reply = tokio::select! {
            () = session.news() => None,
            reply = replies.recv() => match reply {
                Some(reply) => Some(reply),
                None => break,
            },
        };
        while let Some(message) = session.message(&mut said) {
            if !say(&mut send, &message).await {
                return;
            }
        }
        if let Some(reply) = reply {
            if let Message::Bye(bye) = reply {
                return say_bye(&mut send, bye).await;
            }
            if !say(&mut send, &reply).await {
                return;
            }
        }
        if let Some(reason) = session.over() {
            return finish(&session, &mut send, &mut said, Some(reason)).await;
        }
    }
    finish(&session, &mut send, &mut said, None).await;
}

/// What was admitted before the end is still acknowledged, if it becomes durable soon.
async fn finish(session: &Session, send: &mut SendStream, said: &mut u64, reason: Option<Reason>) {
    let _nothing_new = tokio::time::timeout(Duration::from_millis(200), session.news()).await;
    while let Some(message) = session.message(said) {
        if !say(send, &message).await {
            return;
        }
    }
    match reason {
        Some(reason) => say_bye(send, Bye::new(reason)).await,
        None => {
            let _already_stopped = send.finish();
        }
    }
}

async fn say(send: &mut SendStream, message: &Message) -> bool {
    let sent = tokio::time::timeout(SEND_MAX, send.write_chunk(message.encode())).await;
    matches!(sent, Ok(Ok(())))
}

async fn say_bye(send: &mut SendStream, bye: Bye) {
    if say(send, &Message::Bye(bye)).await {
        let _already_stopped = send.finish();
        // The stream is reset when it is dropped; the device shall read the reason first.
        let _peer_is_gone = tokio::time::timeout(Duration::from_secs(2), send.stopped()).await;
    }
}

fn bye(reason: Reason, text: &str) -> Bye {
    let mut bye = Bye::new(reason);
    bye.text = text.chars().take(80).collect();
    bye
}

/// Frames of a stream, gathered within the engine's bound.
struct Frames {
    shared: Arc<Shared>,
    receive: RecvStream,
    decoder: FrameDecoder,
    gathering: Option<OwnedSemaphorePermit>,
}

impl Frames {
    fn new(shared: Arc<Shared>, receive: RecvStream) -> Self {
        Self {
            shared,
            receive,
            decoder: FrameDecoder::new(),
            gathering: None,
        }
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Frame>, Bye> {
        loop {
            if let Some(frame) = self
                .decoder
                .next()
                .map_err(|error| bye(error.reason(), &error.to_string()))?
            {
                self.gathering = None;
                return Ok(Some(frame));
            }
            let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
            let begun = !self.decoder.is_at_boundary();
            let reading = self.receive.read_chunks(&mut chunks);
            let read = if begun {
                // A frame that has begun must come to its end: a device may not hold memory by sending slowly.
                tokio::time::timeout(self.shared.config.network.frame_timeout, reading)
                    .await
                    .map_err(|_elapsed| Bye::new(Reason::Idle))?
            } else {
                reading.await
            };
            let Ok(Some(count)) = read else {
                return if begun {
                    Err(Bye::new(Reason::Truncated))
                } else {
                    Ok(None)
                };
            };
            for chunk in chunks.into_iter().take(count) {
                self.decoder.push(chunk);
            }
            if self.gathering.is_none() && self.decoder.held() > GATHER_FREE_BYTES {
                let most = u32::try_from(1_024 + 64).unwrap_or(u32::MAX);
                let room = Arc::clone(&self.shared.gather)
                    .acquire_many_owned(most)
                    .await;
                self.gathering = room.ok();
            }
        }
    }
}
