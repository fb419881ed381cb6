//! Stories about shards, told against a store of rows in memory.

mod counting;
mod gaps;
mod memory;
mod properties;
mod quarantine;
mod sequence;
mod world;
