//! Stories about shards, told against a store of rows in memory.

mod adopting;
mod backlog;
mod counting;
mod foreseeing;
mod gaps;
mod leaving;
mod memory;
mod models;
mod properties;
mod quarantine;
mod renumbered;
mod sequence;
mod world;
