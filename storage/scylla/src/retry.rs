//! When the driver may send a plain write or a read once more by itself.

use scylla::errors::{DbError, RequestAttemptError};
use scylla::policies::retry::{RequestInfo, RetryDecision, RetryPolicy, RetrySession};

/// How often one request is sent again.
const AGAIN_MAX: u8 = 2;

/// Sends what is idempotent to the next node when a node fails or is too slow, at most twice. The driver's own policy gives up
/// on a write that timed out even if it is idempotent; ours all are, but for conditional ones, which this never repeats.
#[derive(Debug, Default)]
pub(crate) struct Patient;

impl RetryPolicy for Patient {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Attempts::default())
    }
}

/// How often one request has been sent again.
#[derive(Debug, Default)]
struct Attempts {
    again: u8,
}

impl Attempts {
    fn decide(&mut self, is_idempotent: bool, error: &RequestAttemptError) -> RetryDecision {
        let may = was_not_begun(error) || (is_idempotent && may_pass(error));
        if !may || self.again >= AGAIN_MAX {
            return RetryDecision::DontRetry;
        }
        self.again += 1;
        RetryDecision::RetryNextTarget(None)
    }
}

impl RetrySession for Attempts {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        // What became of a conditional statement is for the caller to find out; the consistency gives a serial read away.
        if request.consistency.is_serial() {
            return RetryDecision::DontRetry;
        }
        self.decide(request.is_idempotent, request.error)
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The request did not reach anything that could have acted on it.
fn was_not_begun(error: &RequestAttemptError) -> bool {
    matches!(
        error,
        RequestAttemptError::UnableToAllocStreamId
            | RequestAttemptError::DbError(
                DbError::IsBootstrapping | DbError::Unavailable { .. },
                _
            )
    )
}

/// Another node may do better.
fn may_pass(error: &RequestAttemptError) -> bool {
    matches!(
        error,
        RequestAttemptError::BrokenConnectionError(_)
            | RequestAttemptError::DbError(
                DbError::Overloaded
                    | DbError::ServerError
                    | DbError::TruncateError
                    | DbError::ReadTimeout { .. }
                    | DbError::WriteTimeout { .. }
                    | DbError::ReadFailure { .. }
                    | DbError::WriteFailure { .. },
                _
            )
    )
}

#[cfg(test)]
mod tests;
