//! An engine that has understood a question and does not answer it: why, in its own words.

use std::fmt;

use serde_json::Value;
use ureq::Body;
use ureq::http::Response;

/// Longest reason that is read.
const REASON_BYTES_MAX: u64 = 64 << 10;

/// What an engine says instead of an answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, reason } = self;
        write!(f, "the engine says (HTTP {status}): {reason}")
    }
}

impl std::error::Error for Refused {}

/// An answer, or the reason why it is none.
///
/// # Errors
/// [`Refused`] for every status but those of success.
pub(super) fn heard(mut answer: Response<Body>) -> Result<Response<Body>, Refused> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.body_mut().with_config().limit(REASON_BYTES_MAX);
    let text = body.read_to_string().unwrap_or_default();
    let said: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let message = said.pointer("/error/message").and_then(Value::as_str);
    let reason = match message.unwrap_or_else(|| text.trim()) {
        "" => "nothing more",
        reason => reason,
    };
    Err(Refused {
        status: status.as_u16(),
        reason: reason.to_owned(),
    })
}
