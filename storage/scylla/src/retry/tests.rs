use scylla::errors::WriteType;
use scylla::statement::Consistency;

use super::*;

fn database(error: DbError) -> RequestAttemptError {
    RequestAttemptError::DbError(error, String::new())
}

fn write_timeout() -> RequestAttemptError {
    database(DbError::WriteTimeout {
        consistency: Consistency::LocalQuorum,
        received: 1,
        required: 2,
        write_type: WriteType::UnloggedBatch,
    })
}

#[test]
fn an_idempotent_write_that_timed_out_is_sent_again_twice() {
    let mut attempts = Attempts::default();
    let next = RetryDecision::RetryNextTarget(None);
    assert_eq!(attempts.decide(true, &write_timeout()), next);
    assert_eq!(attempts.decide(true, &database(DbError::Overloaded)), next);
    let third = attempts.decide(true, &write_timeout());
    assert_eq!(third, RetryDecision::DontRetry);
    attempts.reset();
    assert_eq!(attempts.decide(true, &write_timeout()), next);
}

#[test]
fn what_may_have_taken_effect_and_must_not_twice_is_never_sent_again() {
    for error in [write_timeout(), database(DbError::ServerError)] {
        let decision = Attempts::default().decide(false, &error);
        assert_eq!(decision, RetryDecision::DontRetry, "{error}");
    }
}

#[test]
fn what_was_not_begun_is_sent_again_in_any_case() {
    let unavailable = database(DbError::Unavailable {
        consistency: Consistency::LocalQuorum,
        required: 2,
        alive: 1,
    });
    let decision = Attempts::default().decide(false, &unavailable);
    assert_eq!(decision, RetryDecision::RetryNextTarget(None));
}

#[test]
fn what_is_wrong_in_itself_is_not_tried_again() {
    for error in [
        DbError::Invalid,
        DbError::SyntaxError,
        DbError::Unauthorized,
    ] {
        let decision = Attempts::default().decide(true, &database(error));
        assert_eq!(decision, RetryDecision::DontRetry);
    }
}
