//! The end of a stream: what its device is told, and how long the engine waits until it has heard it.

use std::sync::Arc;
use std::time::Duration;

use quinn::{RecvStream, SendStream, VarInt};
use till_protocol::code::Reason;
use till_protocol::reply::Message;
use tokio::time::timeout;

use super::session::{Farewell, Session};
use super::stream::{End, Reader};
use crate::engine::Engine;
use crate::route::Slot;
use crate::shard_actor::{FromDevice, ShardMessage};

/// Time in which a device must read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A session that ends well or badly; QUIC needs a number for it.
const STOPPED: VarInt = VarInt::from_u32(0);

/// Ends a stream that never became a session.
pub(super) async fn refuse(
    engine: &Engine,
    mut reader: Reader,
    mut send: SendStream,
    last: Message,
) {
    if let Message::Bye(bye) = &last {
        engine.figures.refused(bye.reason);
    }
    let last = last.encode();
    // A device that does not read its last word has only itself to blame.
    let told = timeout(WRITE_TIMEOUT, send.write_all(&last));
    let _told = reader.ignore_until(told).await;
    finish(&mut send, &mut reader.recv);
}

/// What a stream's end means for its session.
pub(super) async fn settle(engine: &Engine, slot: &Slot, session: &Arc<Session>, end: End) {
    let last = match end {
        End::Bye(reason, text) => {
            engine.figures.refused(reason);
            session.bye(reason, text.as_deref());
            return;
        }
        End::Gone => {
            session.close();
            return;
        }
        End::Over => return,
        End::Goodbye => Farewell::Silent,
        End::Draining => Farewell::Bye(Reason::Draining),
    };
    let reason = match &last {
        Farewell::Bye(reason) => *reason,
        Farewell::Redirect(_) | Farewell::Silent => Reason::Internal,
    };
    // Behind the last frame: its ack leaves first.
    let ended = slot.gate.enter().await.map(|permit| {
        slot.send(ShardMessage::Device(FromDevice::End {
            session: Arc::clone(session),
            last,
            permit,
        }))
    });
    if !matches!(ended, Some(Ok(()))) {
        session.bye(reason, None);
    }
}

/// Sends what a session has to say, up to its last word.
pub(super) async fn write(session: &Session, send: &mut SendStream) {
    loop {
        let messages = session.messages().await;
        if !messages.bytes.is_empty() {
            match timeout(WRITE_TIMEOUT, send.write_all(&messages.bytes)).await {
                Ok(Ok(())) => {}
                // It does not read, or it is gone: nothing that it is told arrives.
                Ok(Err(_)) | Err(_) => {
                    session.close();
                    return;
                }
            }
        }
        if messages.is_last {
            return;
        }
    }
}

/// Closes both directions.
pub(super) fn finish(send: &mut SendStream, recv: &mut RecvStream) {
    // Both fail only on a stream that has ended already.
    let _ended = send.finish();
    let _ended = recv.stop(STOPPED);
}
