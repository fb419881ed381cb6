//! Whether an engine may be sent events, and why not.

use till_ops::{Check, Health};
use till_runtime::Handle;

/// The engine reads its journal.
pub(super) fn starting(since_us: i64) -> Health {
    one(
        "starting",
        "the engine verifies its journal and brings the rows up to date",
        since_us,
        "wait; the log shows the progress",
    )
}

/// The engine drains.
pub(super) fn draining(since_us: i64) -> Health {
    one(
        "draining",
        "the engine stops in good order and takes no new sessions",
        since_us,
        "send to another engine, or start this one again",
    )
}

/// A running engine.
pub(super) fn running(engine: &Handle, now_us: i64) -> Health {
    let checks = engine.health().checks.into_iter().map(|check| Check {
        name: check.name,
        ok: check.ok,
        reason: check.reason,
        since_us: now_us,
        hint: check.hint,
    });
    Health {
        checks: checks.collect(),
    }
}

fn one(name: &'static str, reason: &str, since_us: i64, hint: &'static str) -> Health {
    Health {
        checks: vec![Check {
            name,
            ok: false,
            reason: reason.to_owned(),
            since_us,
            hint,
        }],
    }
}
