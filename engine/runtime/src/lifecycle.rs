//! From a data folder to a running engine and back: recovery, start, upkeep, drain, and a folder opened without an engine.

pub(crate) mod drain;
pub(crate) mod engine;
pub(crate) mod examine;
pub(crate) mod lock;
pub(crate) mod offline;
pub(crate) mod parts;
pub(crate) mod recovery;
pub(crate) mod retry;
pub(crate) mod runtime;
pub(crate) mod upkeep;
