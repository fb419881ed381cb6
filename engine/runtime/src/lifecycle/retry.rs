//! Decides what was quarantined again.

use std::time::Duration;

use thiserror::Error;
use till_core::{QuarantineKey, Record, RecordKind, RetryError};
use till_protocol::id::TerminalId;
use till_storage::query::FactReader;
use till_storage::views::{StoreError, Views};
use tokio::sync::oneshot;

use crate::lifecycle::engine::Engine;
use crate::publish::door::FlushError;
use crate::shard::handle::shard_of;
use crate::shard::message::ShardMessage;

/// What became of the quarantine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retried {
    /// Events and lines that took effect.
    pub applied: u64,
    /// Those that stay: their reason still holds, or another engine serves their store and decides them.
    pub quarantined: u64,
}

/// Why the quarantine was not gone through.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetryAllError {
    /// The rows of the quarantine cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The newest entries are not in the rows.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// An event could not be decided.
    #[error(transparent)]
    Retry(#[from] RetryError),
    /// The shard does not run, or the engine stops.
    #[error("the shard of the event does not run")]
    Down,
}

/// Everything in quarantine.
pub(crate) fn keys(views: &dyn Views) -> Result<Vec<QuarantineKey>, StoreError> {
    let mut keys = Vec::new();
    views.quarantine(&mut |key, _| {
        keys.push(key);
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(keys)
}

/// The record of a quarantined event; `None` where retention dropped it.
pub(crate) fn original(
    facts: &dyn FactReader,
    key: &QuarantineKey,
) -> Result<Option<Record>, StoreError> {
    let Ok(terminal) = TerminalId::from_u64(key.terminal) else {
        return Ok(None);
    };
    let mut found = None;
    facts.of_event(terminal, key.epoch, key.seq, &mut |fact| {
        let head = &fact.record.head;
        let first = head.first_seq + u64::from(head.skip);
        let end = head.first_seq + u64::from(head.count);
        // A reader gives records besides, of another epoch under the same numbers.
        let is_its = (head.terminal, head.epoch) == (key.terminal, key.epoch);
        if head.kind == RecordKind::Batch && is_its && (first..end).contains(&key.seq) {
            found.get_or_insert_with(|| fact.record.clone());
        }
        Ok(())
    })?;
    Ok(found)
}

/// A question to a shard, and where its answer comes.
pub(crate) struct Question {
    pub(crate) shard: usize,
    pub(crate) message: ShardMessage,
    pub(crate) answer: oneshot::Receiver<Answer>,
}

/// What a shard says: where it is told that the event is durable, or why it was not decided.
type Answer = Result<oneshot::Receiver<()>, RetryError>;

/// What is asked about an entry of the quarantine; `None` where nobody can decide it any more, or another engine has to.
pub(crate) fn question(
    engine: &Engine,
    key: QuarantineKey,
) -> Result<Option<Question>, RetryAllError> {
    let terminal = TerminalId::from_u64(key.terminal);
    let is_here = |one: &TerminalId| engine.placement.is_here(one.store());
    let Some(terminal) = terminal.ok().filter(is_here) else {
        return Ok(None);
    };
    let Some(original) = original(engine.decision_facts.as_ref(), &key)? else {
        return Ok(None);
    };
    let (reply, answer) = oneshot::channel();
    Ok(Some(Question {
        shard: shard_of(terminal.store(), engine.slots.len()),
        message: ShardMessage::Retry {
            key,
            original: Box::new(original),
            reply,
        },
        answer,
    }))
}

impl Retried {
    /// Takes an answer in. Gives who tells when an event that has taken effect is durable.
    pub(crate) fn take(
        &mut self,
        answer: Answer,
    ) -> Result<Option<oneshot::Receiver<()>>, RetryAllError> {
        match answer {
            Ok(durable) => {
                self.applied += 1;
                return Ok(Some(durable));
            }
            Err(RetryError::Still(_) | RetryError::OtherRecord) => self.quarantined += 1,
            Err(RetryError::Gone) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}

/// Decides everything in quarantine again, and waits until it is durable. For threads that may block.
pub(crate) fn retry_all(engine: &Engine) -> Result<Retried, RetryAllError> {
    engine.flush.flush(Duration::from_secs(30))?;
    retry_each(engine, |durable| {
        durable.blocking_recv().map_err(|_| RetryAllError::Down)
    })
}

/// Decides everything again that the rows have in quarantine. What has taken effect is waited for by `barrier`.
pub(crate) fn retry_each(
    engine: &Engine,
    barrier: impl Fn(oneshot::Receiver<()>) -> Result<(), RetryAllError>,
) -> Result<Retried, RetryAllError> {
    let mut retried = Retried::default();
    for key in keys(engine.views.as_ref())? {
        let Some(asked) = question(engine, key)? else {
            retried.quarantined += 1;
            continue;
        };
        let slot = engine.slots.get(asked.shard).ok_or(RetryAllError::Down)?;
        slot.send(asked.message).map_err(|_| RetryAllError::Down)?;
        let answer = asked.answer.blocking_recv();
        let answer = answer.map_err(|_| RetryAllError::Down)?;
        if let Some(durable) = retried.take(answer)? {
            barrier(durable)?;
        }
    }
    Ok(retried)
}
