//! Whether the engine may be sent events, and if not, why and what to do.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::ask::{Answer, Question};
use crate::engine::{Engine, EngineError};
use crate::figures::Figures;

/// One thing that must hold for the engine to be ready.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Short name: `started`, `draining`, `disk`, `shards`, `terminals`, `flush`.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What is the case, in one sentence.
    pub reason: String,
    /// Since when, in us since 1970-01-01 UTC. An engine that does not know gives the time at which it was asked; the port
    /// then tells since when it has been told the same.
    pub since_us: i64,
    /// What to do about it; empty when there is nothing to do.
    pub hint: &'static str,
}

/// All checks of one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// The checks, in the order in which to look at them.
    pub checks: Vec<Check>,
}

impl Health {
    /// Whether every check holds.
    pub fn ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The checks that hold and still have a hint.
    pub fn notices(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.ok && !check.hint.is_empty())
    }

    /// The checks that do not hold.
    pub fn reasons(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness<'a> {
    ready: bool,
    reasons: Vec<&'a Check>,
    /// What holds, and still needs someone to look at it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<&'a Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [Check]>,
}

impl<'a> Readiness<'a> {
    /// What to tell; with `verbose` also the checks that hold.
    pub(crate) fn of(health: &'a Health, verbose: bool) -> Self {
        Self {
            ready: health.ready(),
            reasons: health.reasons().collect(),
            notices: health.notices().collect(),
            checks: verbose.then_some(health.checks.as_slice()),
        }
    }
}

/// An engine whose checks remember since when they have been as they are.
pub(crate) struct Watched {
    engine: Arc<dyn Engine>,
    since: Mutex<HashMap<&'static str, (bool, i64)>>,
}

impl Watched {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            since: Mutex::default(),
        }
    }
}

impl Engine for Watched {
    fn figures(&self) -> Figures {
        self.engine.figures()
    }

    fn health(&self) -> Health {
        let mut health = self.engine.health();
        let mut since = self.since.lock();
        for check in &mut health.checks {
            let known = since
                .entry(check.name)
                .or_insert((check.ok, check.since_us));
            if known.0 != check.ok {
                *known = (check.ok, check.since_us);
            }
            check.since_us = check.since_us.min(known.1);
        }
        health
    }

    fn answer(&self, question: &Question) -> Result<Answer, EngineError> {
        self.engine.answer(question)
    }

    fn flush(&self) -> Result<u64, EngineError> {
        self.engine.flush()
    }

    fn retry_quarantine(&self) -> Result<(u64, u64), EngineError> {
        self.engine.retry_quarantine()
    }

    fn stranded(&self) -> Result<Vec<serde_json::Value>, EngineError> {
        self.engine.stranded()
    }

    fn release(&self, record: &str) -> Result<u32, EngineError> {
        self.engine.release(record)
    }
}

#[cfg(test)]
mod tests;
