//! What people and machines see of a running engine: questions answered from rows, metrics, health.

pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod query;
