//! What a device says between its frames, and what is looked up on the disk for it.

use std::sync::Arc;

use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::reply::Message;
use till_storage::query::FactReader;
use till_storage::views::StoreError;

use super::check;
use super::intake::Line;
use super::stream::End;

/// One look-up of a stream at a time, few of all streams: the reader waits here.
pub(super) async fn look_into<T: Send + 'static>(
    line: Line<'_>,
    look_up: impl FnOnce(&dyn FactReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, End> {
    let _held = line.holding.hold();
    let Ok(_turn) = line.engine.checks.acquire().await else {
        return Err(End::Draining);
    };
    let facts = Arc::clone(&line.engine.reader);
    match tokio::task::spawn_blocking(move || look_up(facts.as_ref())).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            let terminal = line.session.terminal();
            tracing::warn!(%terminal, %error, "events of a terminal could not be looked up");
            Err(End::Bye(Reason::Internal, None))
        }
        Err(_) => Err(End::Bye(Reason::Internal, None)),
    }
}

/// Answers a word of a device that has been greeted.
pub(super) async fn message(line: Line<'_>, frame: &Frame) -> Result<(), End> {
    let session = line.session;
    let message = Message::decode(frame)
        .map_err(|error| End::Bye(error.reason(), Some(error.to_string())))?;
    match message {
        Message::Goodbye => Err(End::Goodbye),
        Message::Check(check) => {
            // What the greeting speaks of is durable, and found.
            session.welcomed().await.ok_or(End::Over)?;
            let terminal = session.terminal();
            let look_up =
                move |facts: &dyn FactReader| check::answer_once_committed(facts, terminal, &check);
            let (checked, refusals) = look_into(line, look_up).await?;
            match session.checked(checked, refusals) {
                true => Ok(()),
                false => Err(End::Bye(Reason::Busy, None)),
            }
        }
        _ => Err(End::Bye(Reason::BadMessage, None)),
    }
}
