//! Whether the engine may be sent events, and if not, why and what to do.

use serde::Serialize;

/// One thing that must hold for the engine to be ready.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Short name: `started`, `draining`, `disk`, `shards`, `flush`.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What is the case, in one sentence.
    pub reason: String,
    /// Since when, in us since 1970-01-01 UTC.
    pub since_us: i64,
    /// What to do when it does not hold; empty when it does.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [Check]>,
}

impl<'a> Readiness<'a> {
    /// What to tell; with `verbose` also the checks that hold.
    pub(crate) fn of(health: &'a Health, verbose: bool) -> Self {
        Self {
            ready: health.ready(),
            reasons: health.reasons().collect(),
            checks: verbose.then_some(health.checks.as_slice()),
        }
    }
}
