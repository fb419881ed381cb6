//! Stories about shards, told against a store of rows in memory.

mod backlog;
mod counting;
mod gaps;
mod handoff;
mod leaving;
mod memory;
mod models;
mod names;
mod prefetch;
mod properties;
mod quarantine;
mod sequence;
mod world;
