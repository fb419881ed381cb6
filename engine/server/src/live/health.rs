//! Whether an engine may be sent events, and why not.

use till_ops::{Check, Health};
use till_runtime::Handle;
use till_storage::journal::State;

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
    let state = engine.commit().map(|commit| commit.state);
    let parked = engine
        .figures()
        .shards
        .iter()
        .filter(|shard| shard.parked)
        .count();
    let check = |name, ok: bool, reason: &str, hint| Check {
        name,
        ok,
        reason: if ok { String::new() } else { reason.to_owned() },
        since_us: now_us,
        hint,
    };
    Health {
        checks: vec![
            check(
                "journal",
                matches!(state, Some(State::Running)),
                "the journal takes nothing: the disk is full or failed",
                "make room on the disk of the data folder; the engine goes on by itself",
            ),
            check(
                "rows",
                !engine.views_full(),
                "rows wait for room on the disk",
                "make room on the disk of the data folder; the engine goes on by itself",
            ),
            check(
                "shards",
                parked == 0,
                "a shard failed twice and is parked; its stores are not served",
                "read the log for the reason, then restart the engine",
            ),
        ],
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
