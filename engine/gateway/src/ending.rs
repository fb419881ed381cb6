//! The end of a stream: what its device is told, and how long the engine waits until it has heard it.

use std::time::Duration;

use quinn::{RecvStream, SendStream, VarInt};
use till_protocol::reply::Message;
use till_runtime::{Intake, Session};
use tokio::time::timeout;

use crate::reader::Reader;

/// Time in which a device must read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which a device has its last word, over a line that loses packets.
const ARRIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A session that ends well or badly; QUIC needs a number for it.
const STOPPED: VarInt = VarInt::from_u32(0);

/// Ends a stream that never became a session.
pub(crate) async fn refuse(
    intake: &Intake,
    mut reader: Box<Reader>,
    mut send: SendStream,
    last: Message,
) {
    if let Message::Bye(bye) = &last {
        intake.figures().refused(bye.reason);
    }
    let last = last.encode();
    // A device that does not read its last word has only itself to blame.
    let reported = timeout(WRITE_TIMEOUT, send.write_all(&last));
    let _written = reader.ignore_until(reported).await;
    finish(&mut send, &mut reader.recv);
}

/// Sends what a session has to say, up to its last word.
pub(crate) async fn write(session: &Session, send: &mut SendStream) {
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
pub(crate) fn finish(send: &mut SendStream, recv: &mut RecvStream) {
    // Both fail only on a stream that has ended already.
    let _ended = send.finish();
    let _ended = recv.stop(STOPPED);
}

/// Waits until the device has all of a finished stream: with its connection ends what is on the way.
pub(crate) async fn arrived(send: &SendStream) {
    // One that does not answer is gone, and asks again wherever it comes next.
    let _gone = timeout(ARRIVE_TIMEOUT, send.stopped()).await;
}
