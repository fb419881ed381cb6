//! Real processes, real sockets, real crashes: what a chain sees.

mod cards;
mod chain;
mod crashes;
mod damage;
mod devices;
mod doors;
mod hostile;
mod replays;
mod revoked;
mod transactions;
mod truth;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A number of a JSON report.
fn number(report: &Value, key: &str) -> Result<i64> {
    report
        .get(key)
        .and_then(Value::as_i64)
        .with_context(|| format!("no number {key} in {report}"))
}

/// A truth of a JSON report.
fn truth(report: &Value, key: &str) -> Result<bool> {
    report
        .get(key)
        .and_then(Value::as_bool)
        .with_context(|| format!("no truth {key} in {report}"))
}
